package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"promflow/app/check"
	"promflow/app/live"
	"promflow/capture/nettest"
	"promflow/telemetry/otlp/otlptest"
)

// checked is a report of the program.
type checked struct {
	Status   string  `json:"status"`
	Duration float64 `json:"duration_seconds"`
	Backend  string  `json:"backend"`
	Findings []struct {
		Name      string   `json:"name"`
		Interface string   `json:"interface"`
		Status    string   `json:"status"`
		Summary   string   `json:"summary"`
		Details   []string `json:"details"`
	} `json:"findings"`
	Interfaces []check.Interface `json:"interfaces"`
}

// want checks what was found about something.
func (r checked) want(t *testing.T, name, status, says string) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Name != name {
			continue
		}
		if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != status || !strings.Contains(text, says) {
			t.Errorf("%s is %s: %s; want %s: %s", name, f.Status, text, status, says)
		}
		return
	}
	t.Errorf("no word of %s in %+v", name, r)
}

// one gives the only interface.
func (r checked) one(t *testing.T) (check.Interface, float64) {
	t.Helper()
	if len(r.Interfaces) != 1 || r.Interfaces[0].Share == nil {
		t.Fatalf("want one interface with a share: %+v", r)
	}
	return r.Interfaces[0], *r.Interfaces[0].Share
}

// checks runs a check in which traffic is sent, and interrupts it then. It must end with the status.
func checks(t *testing.T, cmd *exec.Cmd, status int, traffic func(*exec.Cmd)) (r checked) {
	t.Helper()
	var out bytes.Buffer
	counting := newLineWaiter("msg=counting")
	cmd.Stdout, cmd.Stderr = &out, counting
	cmd.Args = append(cmd.Args, "--output=json", "--log-level=debug", "--duration=10m")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	counting.wait(t)
	traffic(cmd)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	return parse(t, cmd, &out, status)
}

// finishes runs a check that ends by itself.
func finishes(t *testing.T, cmd *exec.Cmd, status int) checked {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Args = append(cmd.Args, "--output=json", "--duration=100ms")
	runWithin(cmd)
	if n := strings.Count(errs.String(), "\n"); n != status {
		t.Errorf("said %d lines, want %d: %s", n, status, &errs)
	}
	return parse(t, cmd, &out, status)
}

func parse(t *testing.T, cmd *exec.Cmd, out *bytes.Buffer, status int) (r checked) {
	t.Helper()
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("ended with status %d, want %d: %s", got, status, out)
	}
	d := json.NewDecoder(out)
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// TestCheckAccountsForEachPacket has the kernel's own counters as the judge of every backend: without merged segments packets are
// equal, with them bytes are, but for the headers that the kernel counts once.
func TestCheckAccountsForEachPacket(t *testing.T) {
	nettest.Need(t, "iperf3", "ethtool")
	for _, backend := range slices.Concat(live.Backends(), live.OnRequest()) {
		for _, offloads := range []string{"off", "on"} {
			t.Run(backend+" with offloads "+offloads, func(t *testing.T) {
				here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
				here.Veth("here", there, "there")
				for ns, device := range map[*nettest.Namespace]string{here: "here", there: "there"} {
					ns.Run("ethtool", "-K", device, "tso", offloads, "gso", offloads, "gro", offloads, "tx-udp-segmentation", offloads)
				}
				here.IP("addr", "add", "10.1.0.1/24", "dev", "here")
				there.IP("addr", "add", "10.1.0.2/24", "dev", "there")
				network{server: there}.iperfServer(t)

				r := checks(t, inside(t, here, "check", "--interface=here", "--monitor-subnets=10.1.0.0/24", "--capture="+backend,
					"--labels=protocol", "--aggregate=/16"), 0, func(*exec.Cmd) { // these change nothing
					for _, direction := range [][]string{nil, {"-R"}, {"-u", "-b100M", "-l1000"}} {
						here.Run(append([]string{"iperf3", "-J", "-w64K", "-n5M", "-b500M", "-c", "10.1.0.2"}, direction...)...)
					}
				})
				i, share := r.one(t)
				k := check.Size{Packets: i.Kernel.RxPackets + i.Kernel.TxPackets, Bytes: i.Kernel.RxBytes + i.Kernel.TxBytes}
				all := i.Packets + i.Dropped
				headers := 14 * (k.Packets - i.ByOutcome["non_ip"].Packets) // ARP's are counted with theirs
				if backend == "xdp" {
					headers -= 14 * i.Kernel.RxPackets // veth counts what arrives without
				}
				t.Logf("promflow: %d packets, %d bytes; kernel: %d packets, %d bytes", all, i.Bytes, k.Packets, k.Bytes)
				if share != 1 || r.Backend != backend {
					t.Errorf("%s saw a share of %v, want %s and all", r.Backend, share, backend)
				}
				r.want(t, "directions", "ok", "both directions")
				r.want(t, "subnets", "ok", "10.1.0.0/24")
				r.want(t, "monitored", "ok", "100 %")
				r.want(t, "drops", "ok", "no packet")
				if offloads == "off" {
					r.want(t, "offloads", "ok", "off")
					r.want(t, "share", "ok", "every packet is accounted for")
					if all != k.Packets {
						t.Errorf("promflow had %d packets, the kernel %d", all, k.Packets)
					}
					if want := k.Bytes - headers; i.Bytes != want {
						t.Errorf("promflow had %d bytes, the kernel %d without link headers", i.Bytes, want)
					}
					return
				}
				r.want(t, "offloads", "ok", "they need not be turned off")
				r.want(t, "share", "ok", "the kernel counts segments that are merged")
				// TCP's header is 20 bytes, or 32 with timestamps; a SYN has more, and one packet for itself.
				more := i.Bytes - (k.Bytes - headers)
				if packets := all - k.Packets; packets <= 0 || more < 40*packets || more > 52*packets+1000 {
					t.Errorf("promflow had %d packets and %d bytes more than the kernel: want 40 to 52 for each", packets, more)
				}
			})
		}
	}
}

// TestCheckWithXDP has frames for this machine, which answers, and for another one. With --mirror the latter are dropped, and the shell over
// the same interface goes on.
func TestCheckWithXDP(t *testing.T) {
	for _, mirror := range []bool{false, true} {
		t.Run(fmt.Sprintf("mirror %v", mirror), func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			here.IP("addr", "add", "10.1.0.1/24", "dev", "here")
			there.IP("addr", "add", "10.1.0.2/24", "dev", "there")
			sender := nettest.NewSender(t, there, "there")
			f := nettest.UDP(netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.9"), 28) // the least
			const others, pings = 3000, 20
			r := checks(t, inside(t, here, "check", "--interface=here", "--monitor-subnets=10.1.0.0/24", "--capture=xdp",
				fmt.Sprintf("--mirror=%v", mirror)), 0, func(*exec.Cmd) {
				sender.Send(slices.Repeat([][]byte{f}, others)...)
				there.Run("ping", "-q", fmt.Sprintf("-c%d", pings), "-i0.01", "10.1.0.1")
			})
			i, share := r.one(t)
			if share != 1 || r.Backend != "xdp" {
				t.Errorf("%s saw a share of %v, want xdp and all", r.Backend, share)
			}
			r.want(t, "share", "ok", "every packet is accounted for")
			r.want(t, "drops", "ok", "no packet")
			if all := i.Kernel.RxPackets + i.Kernel.TxPackets; i.Packets != all || all < others+2*pings {
				t.Errorf("promflow had %d packets, the kernel %d, of %d", i.Packets, all, others+2*pings)
			}
			dropped := int64(0)
			if mirror {
				dropped = others
				r.want(t, "backend", "ok", "--mirror")
				r.want(t, "share", "ok", fmt.Sprintf("XDP dropped %d of these once they were counted", others))
			}
			if i.Kernel.RxXDP != dropped {
				t.Errorf("XDP dropped %d, want %d", i.Kernel.RxXDP, dropped)
			}
		})
	}
}

// TestCheckRecommendsMirror floods an interface with what is for other machines.
func TestCheckRecommendsMirror(t *testing.T) {
	link := nettest.NewLink(t)
	flood := nettest.NewFlood(t, link, 254, 60)
	defer flood.Start()()
	r := checks(t, inside(t, link.Receiver, "check", "--interface="+nettest.Receiving, "--monitor-subnets=10.0.0.0/16", "--capture=ebpf"), 0,
		func(*exec.Cmd) {
			for until := link.Received() + 1<<20; link.Received() < until; {
			}
		})
	r.want(t, "interface", "ok", "of what arrives is for other machines' MAC addresses")
	r.want(t, "interface", "ok", "with --capture=xdp --mirror the driver would drop these")
}

// TestCheckFindsMissingPackets stops the program until its ring is full. What was dropped is too much, and accounted for.
func TestCheckFindsMissingPackets(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	sender := nettest.NewSender(t, there, "there")
	f := nettest.UDP(netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.1"), 100)
	const packets = 200_000
	r := checks(t, inside(t, here, "check", "--interface=here", "--monitor-subnets=10.1.0.1", "--capture=afpacket"), 1, func(cmd *exec.Cmd) {
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		sender.Send(slices.Repeat([][]byte{f}, packets)...)
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	})
	i, share := r.one(t)
	if i.Dropped == 0 || i.Packets+i.Dropped != packets || i.Kernel.RxPackets != packets {
		t.Errorf("got %d packets and %d dropped ones, the kernel %d, want a sum of %d", i.Packets, i.Dropped, i.Kernel.RxPackets, packets)
	}
	if want := float64(i.Packets) / packets; share != want {
		t.Errorf("the share is %v, want %v", share, want)
	}
	r.want(t, "share", "error", "dropped packets")
	r.want(t, "drops", "warning", "the kernel dropped")
	r.want(t, "directions", "warning", "receive and never transmit") // the frames come from the mirror of one direction
	r.want(t, "subnets", "ok", "10.1.0.1/32")
}

// TestCheckOfTrafficElsewhere has traffic between addresses that are not monitored.
func TestCheckOfTrafficElsewhere(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	here.IP("addr", "add", "172.16.5.9/24", "dev", "here")
	sender := nettest.NewSender(t, there, "there")
	f := nettest.UDP(netip.MustParseAddr("172.16.5.2"), netip.MustParseAddr("172.16.5.9"), 100)
	r := checks(t, inside(t, here, "check", "--interface=here", "--promiscuous=false"), 0, func(*exec.Cmd) {
		sender.Send(slices.Repeat([][]byte{f}, 50)...)
	})
	r.want(t, "monitored", "warning", "add 172.16.5.0/24, or auto")
	r.want(t, "directions", "info", "too little")
	r.want(t, "subnets", "info", "192.168.0.0/24")
	r.want(t, "interface", "ok", "not promiscuous")
}

// TestCheckOfASubnetThatCameLater has most of the traffic monitored, but none of a subnet that the interface got since.
func TestCheckOfASubnetThatCameLater(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	here.Run("sysctl", "-qw", "net.ipv6.conf.here.disable_ipv6=0", "net.ipv6.conf.here.accept_dad=0")
	for _, address := range []string{"10.1.0.1/24", "fd00:1::1/64", "2001:db8::1/64"} {
		here.IP("addr", "add", address, "dev", "here")
	}
	sender := nettest.NewSender(t, there, "there")
	const v4, local, later = 60, 40, 10 // packets
	for _, c := range []struct {
		args    string
		counted int64
		status  string
		adds    string // what is suggested
	}{
		{"--monitor-subnets=10.1.0.0/24,fd00:1::/64", v4 + local, "warning", "2001:db8::/64"},
		{"--monitor-subnets=10.1.0.0/24", v4, "warning", "2001:db8::/64,fd00:1::/64"},
		{"--monitor-subnets=10.1.0.0/24,fd00:1::/64 --exclude-subnets=2001:db8::/48", v4 + local, "ok", ""},
		{"--monitor-subnets=auto", v4 + local + later, "ok", ""},
		{"--monitor-subnets=10.1.0.0/24,isp=auto", v4 + local + later, "ok", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			r := checks(t, inside(t, here, append([]string{"check", "--interface=here"}, strings.Fields(c.args)...)...), 0, func(*exec.Cmd) {
				for from, packets := range map[string]int{"10.1.0.5": v4, "fd00:1::5": local, "2001:db8::5": later} {
					to := map[bool]string{true: "192.0.2.1", false: "2001:db8:ffff::1"}[strings.Contains(from, ".")]
					f := nettest.UDP(netip.MustParseAddr(from), netip.MustParseAddr(to), 100)
					sender.Send(slices.Repeat([][]byte{f}, packets)...)
				}
			})
			says := "of the IP packets are of monitored addresses"
			if c.adds != "" {
				says = "subnets of the interfaces are not monitored: add " + c.adds + ", or auto"
			}
			r.want(t, "monitored", c.status, says)
			if i, _ := r.one(t); i.ByOutcome["counted"].Packets != c.counted {
				t.Errorf("%d packets are counted, want %d", i.ByOutcome["counted"].Packets, c.counted)
			}
			for _, f := range r.Findings {
				if c.adds == "" && strings.Contains(strings.Join(f.Details, "; "), "not monitored") {
					t.Errorf("%s suggests something: %s", f.Name, f.Details)
				}
			}
		})
	}
}

func TestCheckOfLoopback(t *testing.T) {
	here := nettest.NewNamespace(t)
	r := checks(t, inside(t, here, "check", "--interface=lo", "--monitor-subnets=127.0.0.1"), 0, func(*exec.Cmd) {
		here.Run("ping", "-q", "-c20", "-i0.01", "127.0.0.1")
	})
	if i, share := r.one(t); share != 1 || i.Packets != i.Kernel.RxPackets || i.Packets < 40 {
		t.Errorf("saw %v, %d packets of the kernel's %d", share, i.Packets, i.Kernel.RxPackets)
	}
}

// TestCheckOfAnIFB has 200 packets redirected to such a device, 160 of them without IP.
func TestCheckOfAnIFB(t *testing.T) {
	const ip, other, size = 40, 160, 100
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	nettest.NewIFB(here, "ifb0", "here")
	packet := nettest.UDP(netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("192.0.2.1"), size)
	loopDetection := slices.Clone(packet)
	copy(loopDetection[12:], "\x90\x00") // the EtherType of Ethernet's Configuration Testing Protocol
	sender := nettest.NewSender(t, there, "there")
	r := checks(t, inside(t, here, "check", "--interface=ifb0", "--monitor-subnets=10.1.0.0/24", "--exporters=none"), 0, func(*exec.Cmd) {
		sender.Send(slices.Repeat([][]byte{packet}, ip)...)
		sender.Send(slices.Repeat([][]byte{loopDetection}, other)...)
	})
	if i, share := r.one(t); share != 1 || i.Packets != ip+other || i.Kernel.RxPackets != ip+other || i.Kernel.TxPackets != ip+other {
		t.Errorf("saw %v, %d packets of %+v", share, i.Packets, i.Kernel)
	}
	r.want(t, "share", "warning", fmt.Sprintf("kernel: %d packets, %d bytes with link headers", ip+other, (ip+other)*(14+size)))
	r.want(t, "share", "warning", "160 of 200 packets are not IP")
	r.want(t, "monitored", "ok", "100 % of the IP packets are of monitored addresses; 160 of 200 packets (80.00 %) are not IP")
}

func TestCheckWithoutTraffic(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	r := finishes(t, inside(t, here, "check", "--interface=here", "--metrics-address=none", "--exporters=none"), 0)
	r.want(t, "share", "info", "neither by promflow nor by the kernel")
	r.want(t, "metrics_address", "ok", "no port")
	if r.Interfaces[0].Share != nil {
		t.Errorf("the share is %v", *r.Interfaces[0].Share)
	}
	there.IP("link", "set", "there", "down")
	finishes(t, inside(t, here, "check", "--interface=here"), 0).want(t, "interface", "warning", "no carrier")
}

// TestCheckOfWhatIsNotThereYet has interfaces that promflow would wait for, and maybe one that is there.
func TestCheckOfWhatIsNotThereYet(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	for name, args := range map[string][]string{
		"by name":            {"--interface=late0", "--wait-interface"},
		"by glob":            {"--interface=late*"},
		"beside one that is": {"--interface=here,late*"},
	} {
		t.Run(name, func(t *testing.T) {
			r := finishes(t, inside(t, here, append([]string{"check"}, args...)...), 0)
			waits := 0
			for _, f := range r.Findings {
				if f.Status == "error" {
					t.Errorf("%s is an error: %s", f.Name, f.Summary)
				}
				if strings.HasPrefix(f.Interface, "late") {
					waits++
					if f.Status != "warning" || f.Summary != "it is not there yet; promflow waits for it" {
						t.Errorf("%s is %s: %s", f.Interface, f.Status, f.Summary)
					}
				}
			}
			if waits != 1 {
				t.Errorf("%d findings are about what is not there, want 1: %+v", waits, r.Findings)
			}
		})
	}
}

func TestCheckOfAPortInUse(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	p := serve(t, here, "--interface=here")
	finishes(t, inside(t, here, "check", "--interface=here", "--metrics-address="+p.address), 0).
		want(t, "metrics_address", "ok", "a promflow answers there (version ")

	l := here.Listen("127.0.0.1:9100")
	other := http.Server{Handler: http.NotFoundHandler()}
	go other.Serve(l)
	t.Cleanup(func() { other.Close() })
	finishes(t, inside(t, here, "check", "--interface=here", "--metrics-address=127.0.0.1:9100"), 1).
		want(t, "metrics_address", "error", "with 404 Not Found")
}

func TestCheckOfACollector(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	otlptest.Start(t, here.Listen("127.0.0.1:4317"), nil)
	defer here.Listen("127.0.0.1:4318").Close() // which never answers
	for _, c := range []struct {
		endpoint    string
		status      int
		finds, says string
	}{
		{"127.0.0.1:4317", 0, "ok", "127.0.0.1:4317 takes pushes"},
		{"127.0.0.1:4318", 1, "error", "127.0.0.1:4318 can be reached, but does not accept the push"},
		{"127.0.0.1:4319", 1, "error", "connecting to 127.0.0.1:4319: dial tcp 127.0.0.1:4319: connect: connection refused"},
		{"https://127.0.0.1:4317", 1, "error", "TLS with 127.0.0.1:4317"},
		{"ftp://127.0.0.1", 1, "error", `--otlp-endpoint: OTLP endpoint "ftp://127.0.0.1"`},
	} {
		finishes(t, inside(t, here, "check", "--interface=here", "--otlp-endpoint="+c.endpoint, "--otlp-timeout=500ms"), c.status).
			want(t, "collector", c.finds, c.says)
	}
}

// TestCheckOfWhatCannotBe has no capture, and all else is reported nevertheless.
func TestCheckOfWhatCannotBe(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	r := finishes(t, inside(t, here, "check", "--interface=eth9"), 1)
	r.want(t, "backend", "error", `--interface "eth9": no such network interface; this machine has lo, here`)
	r.want(t, "metrics_address", "ok", ":9088 is free")
	r.want(t, "privileges", "ok", "uid 0")

	nettest.Need(t, "setpriv", "setcap")
	u := unprivileged{t, here, copyForEveryone(t)}
	nobody := func() *exec.Cmd {
		cmd := here.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", u.path, "check", "--interface=here")
		cmd.Env = append(os.Environ(), beProgram+"=1")
		return cmd
	}
	r = finishes(t, nobody(), 1)
	r.want(t, "backend", "error", "sudo setcap cap_net_raw,cap_bpf+ep "+u.path)
	r.want(t, "privileges", "ok", "uid 65534 with no capability")
	r.want(t, "interface", "ok", "up, with carrier")
	low := nobody()
	low.Args = append(low.Args, "--metrics-address=:80")
	finishes(t, low, 1).want(t, "metrics_address", "error", "cap_net_bind_service")
	u.grant("setcap cap_net_raw+ep " + u.path)
	r = finishes(t, nobody(), 0)
	r.want(t, "backend", "info", "needs cap_bpf")
	r.want(t, "privileges", "ok", "uid 65534 with cap_net_raw")
	if r.Backend != "afpacket" {
		t.Errorf("the backend is %s", r.Backend)
	}
}

// TestCheckOfFilesThatOnlyRootCanRead has a file that is read again later, by another user.
func TestCheckOfFilesThatOnlyRootCanRead(t *testing.T) {
	here := nettest.NewNamespace(t)
	certificate, key, _ := selfSigned(t)
	if err := os.Chown(key, 0, 0); err != nil {
		t.Fatal(err)
	}
	web := write(t, "web.yml", fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\n", certificate, key))
	r := finishes(t, inside(t, here, "check", "--interface=lo", "--web-config-file="+web), 1)
	r.want(t, "privileges", "error", "--web-config-file")
	r.want(t, "backend", "ok", "could capture")
	finishes(t, inside(t, here, "check", "--interface=lo", "--web-config-file="+web, "--user=root"), 0)
}

func TestCheckOfSettingsThatContradict(t *testing.T) {
	here := nettest.NewNamespace(t)
	finishes(t, inside(t, here, "check", "--interface=lo", "--exporters=prometheus", "--metrics-address=none"), 1).
		want(t, "settings", "error", "nobody could see the counts")
	finishes(t, inside(t, here, "check", "--interface=lo", "--web-config-file=/nowhere.yml"), 1).
		want(t, "settings", "error", `--web-config-file "/nowhere.yml"`)
	for flag, says := range map[string]string{
		"--output=xml":           `--output "xml": expected one of text, json`,
		"--metrics-address=9088": `--metrics-address "9088": "9088": expected an address and a port such as :9088`,
	} {
		if line, printed := fails(t, inside(t, here, "check", flag)); !strings.Contains(line, says) || printed != "" {
			t.Errorf("%s: said %q and printed %q", flag, line, printed)
		}
	}
}
