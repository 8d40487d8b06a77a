package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// TestReloads changes a file of subnets, and has the program read it again by all ways that there are.
func TestReloads(t *testing.T) {
	t.Parallel()
	const good, bad = "lan=10.0.0.0/8 # the office\n", "# of two lines\n10.0.0.0/33\n"
	folder, err := os.MkdirTemp("", "promflow") // that other users may enter
	nettest.Check(t, err)
	defer os.RemoveAll(folder)
	nettest.Check(t, os.Chmod(folder, 0o755))
	file, version := filepath.Join(folder, "subnets"), 0
	nettest.Check(t, os.Symlink("..data/subnets", file))
	put := func(text string) { // as Kubernetes changes a ConfigMap
		t.Helper()
		version++
		next := fmt.Sprintf("..%d", version)
		nettest.Check(t, os.Mkdir(filepath.Join(folder, next), 0o755))
		nettest.Check(t, os.WriteFile(filepath.Join(folder, next, "subnets"), []byte(text), 0o644))
		nettest.Check(t, os.Symlink(next, filepath.Join(folder, "..data_tmp")))
		nettest.Check(t, os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")))
	}
	ns := nettest.NewNamespace(t)
	put(good)
	all := programs{}
	for _, backend := range []string{"ebpf", "afpacket"} {
		all[backend] = serve(t, ns, "--interface=lo", "--capture="+backend, "--monitor-subnets=vpn=10.99.0.0/16,@"+file, "--enable-lifecycle")
	}
	expect := func(why, want string, successful float64) {
		t.Helper()
		for backend, p := range all {
			eventually(t, func() error {
				page := p.get("/metrics")
				if got := monitoredOn(page); got != want || sample(t, page, "promflow_config_last_reload_successful") != successful {
					return fmt.Errorf("%s, %s: monitored are %s, want %s, and that it succeeded: %v", why, backend, got, want, successful)
				}
				return nil
			})
		}
	}
	lan, vpn := `network="lan",subnet="10.0.0.0/8"`, `network="vpn",subnet="10.99.0.0/16"`
	expect("at first", lan+"; "+vpn, 1)
	put("2001:db8::/32")
	for _, p := range all {
		nettest.Check(t, p.cmd.Process.Signal(syscall.SIGHUP))
	}
	expect("SIGHUP", `network="2001:db8::/32",subnet="2001:db8::/32"; `+vpn, 1)
	put(good)
	expect("the file has changed", lan+"; "+vpn, 1)
	put(bad)
	for _, p := range all {
		status, body := post(t, p)
		if want := file + `:2: "10.0.0.0/33" is not a subnet`; status != http.StatusInternalServerError || !strings.Contains(body, want) {
			t.Errorf("POST of what is wrong: %d, %s; want %s", status, body, want)
		}
	}
	expect("an error", lan+"; "+vpn, 0)
	const succeeded = "promflow_config_last_reload_success_timestamp_seconds"
	failed := float64(time.Now().Unix())
	for backend, p := range all {
		if at := sample(t, p.get("/metrics"), succeeded); at > failed || at < failed-deadline.Seconds() {
			t.Errorf("%s: after an error, the last success was at %v, now it is %v", backend, at, failed)
		}
	}
	time.Sleep(1100 * time.Millisecond) // the metric has whole seconds
	put("10.5.0.0/16")
	for _, p := range all {
		if status, body := post(t, p); status != http.StatusOK {
			t.Errorf("POST: %d, %s", status, body)
		}
	}
	expect("POST", `network="10.5.0.0/16",subnet="10.5.0.0/16"; `+vpn, 1)
	for backend, p := range all {
		if at := sample(t, p.get("/metrics"), succeeded); at <= failed {
			t.Errorf("%s: the last success was at %v, want after %v", backend, at, failed)
		}
		says := []string{file + ":2:", `msg="the subnets have changed" monitored="vpn=10.99.0.0/16,10.5.0.0/16"`}
		if backend == "ebpf" {
			says = append(says, `msg="capabilities are kept, since subnets may change" capabilities="[cap_bpf cap_perfmon]"`)
		}
		for _, want := range says {
			if !strings.Contains(p.log.String(), want) {
				t.Errorf("%s: the log does not have %s", backend, want)
			}
		}
		p.terminate()
	}
}

func post(t *testing.T, p *program) (status int, body string) {
	t.Helper()
	response, err := p.client.Post("http://"+p.address+"/-/reload", "", nil)
	nettest.Check(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	nettest.Check(t, err)
	return response.StatusCode, string(text)
}

// TestReloadByHTTPIsOff asks a program that was not told to allow it.
func TestReloadByHTTPIsOff(t *testing.T) {
	p := serve(t, nettest.NewNamespace(t), "--interface=lo", "--monitor-subnets=10.0.0.0/8")
	if status, body := post(t, p); status != http.StatusForbidden || !strings.Contains(body, "--enable-lifecycle") {
		t.Errorf("got %d, %s", status, body)
	}
	p.terminate()
}

// TestNetworkIsRenamed gives a subnet another name: what an address moves from then on is of the new network, and what it had moved stays.
func TestNetworkIsRenamed(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	for _, backend := range []string{"ebpf", "afpacket"} {
		for _, labels := range []string{"network", "network,peer"} {
			t.Run(backend+" by "+strings.ReplaceAll(labels, ",", " and "), func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "subnets")
				want := map[string]int64{}
				p := (*program)(nil)
				for _, name := range []string{"lan", "office", "lan"} {
					nettest.Check(t, os.WriteFile(file, []byte(name+"=10.0.0.0/8"), 0o644))
					if p == nil {
						p = serve(t, here, "--interface=a0", "--capture="+backend, "--labels="+labels, "--monitor-subnets=@"+file, "--enable-lifecycle", "--user=root")
					} else if status, body := post(t, p); status != http.StatusOK {
						t.Fatalf("%d, %s", status, body)
					}
					sendOn(t, there, "a0", 10)
					want[fmt.Sprintf("promflow_transmit_bytes_total network=%q", name)] += 1000
					eventually(t, func() error {
						if got := sums(t, p.get("/metrics"), "network"); !maps.Equal(got, want) {
							return fmt.Errorf("there are %v, want %v", got, want)
						}
						return nil
					})
				}
				p.terminate()
			})
		}
	}
}

// TestReloadsWhatItReads changes a lease file and the web configuration. What is wrong there fails, and the program goes on with what was.
func TestReloadsWhatItReads(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	leases, config := filepath.Join(folder, "leases"), filepath.Join(folder, "web.yml")
	put := func(file, text string) { t.Helper(); nettest.Check(t, os.WriteFile(file, []byte(text), 0o644)) }
	lease := func(name string) string { return "0 02:00:00:00:00:01 10.0.0.1 " + name + " *\n" }
	put(leases, lease("old"))
	put(config, "http_server_config: {http2: true}")
	ns := nettest.NewNamespace(t)
	p := serve(t, ns, "--interface=lo", "--monitor-subnets=10.0.0.0/8", "--enable-lifecycle", "--host-info", "--reverse-dns=false",
		"--lease-files="+leases, "--web-config-file="+config, "--user=root")
	named := func(name string) {
		t.Helper()
		eventually(t, func() error {
			if want := fmt.Sprintf(`promflow_host_info{hostname=%q,ip="10.0.0.1"`, name); !strings.Contains(p.get("/metrics"), want) {
				return fmt.Errorf("no %s on the page", want)
			}
			return nil
		})
	}
	reload := func(want int, says string) {
		t.Helper()
		if status, body := post(t, p); status != want || !strings.Contains(body, says) {
			t.Errorf("got %d, %s; want %d with %s", status, body, want, says)
		}
	}
	nettest.NewSender(t, ns, "lo").Send(nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), 100))
	named("old")
	put(leases, lease("new"))
	reload(http.StatusOK, "")
	if page := p.get("/metrics"); !strings.Contains(page, `hostname="new"`) {
		t.Errorf("the names are not read when the reload has ended")
	}
	put(leases, "no leases\n")
	reload(http.StatusInternalServerError, leases)
	named("new")
	put(leases, lease("newer"))
	put(config, "tls_server_config: {cert_file: nosuch.pem, key_file: nosuch.pem}")
	status, body := post(t, p) // the connection is open from before
	if status != http.StatusInternalServerError || !strings.Contains(body, "nosuch.pem") {
		t.Errorf("got %d, %s; want it to name nosuch.pem", status, body)
	}
	put(config, "")
	reload(http.StatusOK, "")
	named("newer")
	p.terminate()
}

// TestSignals sends what users send: only some signals end the program, and these do it in order.
func TestSignals(t *testing.T) {
	t.Parallel()
	ns := nettest.NewNamespace(t)
	for signal, ends := range map[syscall.Signal]bool{
		syscall.SIGHUP: false, syscall.SIGUSR1: false, syscall.SIGUSR2: false, syscall.SIGPIPE: false, syscall.SIGALRM: false, syscall.SIGWINCH: false,
		syscall.SIGTERM: true, syscall.SIGINT: true, syscall.SIGQUIT: true,
	} {
		cmd, pushed := inside(t, ns, "--interface=lo", "--metrics-address=127.0.0.1:0", "--monitor-subnets=10.0.0.0/8", "--exporters=prometheus,console"), new(strings.Builder)
		cmd.Stdout = pushed
		p := start(t, ns, cmd).listening()
		nettest.Check(t, p.cmd.Process.Signal(signal))
		if !ends {
			if p.get("/-/healthy") != "OK\n" {
				t.Errorf("%v: it does not answer", signal)
			}
			p.terminate()
		}
		<-p.ended
		if p.err != nil || !strings.Contains(pushed.String(), "promflow_capture_up{") {
			t.Errorf("%v: it ended with %v, and had pushed %q", signal, p.err, pushed)
		}
	}
}

// TestLogThatNobodyReads has the program write its log into a pipe without a reader: it counts on, and ends in order.
func TestLogThatNobodyReads(t *testing.T) {
	t.Parallel()
	ns := nettest.NewNamespace(t)
	read, write, err := os.Pipe()
	nettest.Check(t, err)
	cmd := inside(t, ns, "--interface=lo", "--metrics-address=127.0.0.1:9088", "--monitor-subnets=127.0.0.0/8")
	cmd.Stderr = write
	nettest.Check(t, cmd.Start())
	write.Close()
	read.Close()
	eventually(t, func() error { return inside(t, ns, "health").Run() })
	for range 3 { // each writes to the log
		nettest.Check(t, cmd.Process.Signal(syscall.SIGHUP))
		nettest.Check(t, inside(t, ns, "health").Run())
	}
	nettest.Check(t, cmd.Process.Signal(syscall.SIGTERM))
	nettest.Check(t, cmd.Wait())
}

// TestReloadsUnderFlood changes all lists again and again while packets come as fast as they can. Each packet has one outcome or was dropped, each
// that was counted is in one total, and the program has no more files, programs and maps than after the first changes.
func TestReloadsUnderFlood(t *testing.T) {
	const senders, room = 1 << 16, 40000
	reloads := 25 * *more
	lists := []struct{ monitored, excluded string }{
		{"10.0.0.0/16", "10.0.3.0/24"},
		{"low=10.0.0.0/17,fd00::/64", "192.0.2.0/28"},
		{"10.0.64.0/18\nhigh=10.0.128.0/17", ""},
		{"0.0.0.0/0,::/0", "10.0.0.0/24, 10.0.128.0/20"},
	}
	for _, backend := range []string{"ebpf", "afpacket"} {
		t.Run(backend, func(t *testing.T) {
			link := nettest.NewLink(t)
			folder := t.TempDir()
			put := func(n int) {
				t.Helper()
				l := lists[n%len(lists)]
				nettest.Check(t, os.WriteFile(filepath.Join(folder, "monitored"), []byte(l.monitored), 0o644))
				nettest.Check(t, os.WriteFile(filepath.Join(folder, "excluded"), []byte(l.excluded), 0o644))
			}
			put(0)
			p := serve(t, link.Receiver, "--interface="+nettest.Receiving, "--capture="+backend, "--enable-lifecycle", "--packets", "--user=root",
				fmt.Sprintf("--max-ips=%d", room), "--monitor-subnets=@"+folder+"/monitored", "--exclude-subnets=@"+folder+"/excluded")
			flood := nettest.NewFlood(t, link, senders, 60)
			stop := flood.Start()
			defer stop()
			var before kept
			for n := range reloads {
				put(n + 1)
				if status, body := post(t, p); status != http.StatusOK {
					t.Fatalf("reload %d: %d, %s", n+1, status, body)
				}
				if n == 2 {
					before = keptBy(t, p)
				}
			}
			after := keptBy(t, p)
			if more := after.mappings - before.mappings; more < reloads/2 { // the garbage collector removes some
				after.mappings = before.mappings
			}
			if after != before {
				t.Errorf("it has %+v open after %d reloads, and had %+v", after, reloads, before)
			}
			stop()
			sent := link.Received()
			eventually(t, func() error {
				page := p.get("/metrics")
				seen := sample(t, page, fmt.Sprintf("promflow_capture_dropped_packets_total{interface=%q}", nettest.Receiving))
				for _, outcome := range []string{"counted", "unmonitored", "excluded", "non_ip", "malformed"} {
					of := sample(t, page, fmt.Sprintf("promflow_capture_packets_total{interface=%q,outcome=%q}", nettest.Receiving, outcome))
					if seen += of; of == 0 && outcome <= "excluded" {
						t.Errorf("no packet was %s: this test shows nothing", outcome)
					}
				}
				if int64(seen) != sent {
					return fmt.Errorf("%.0f packets were counted or dropped, %d sent", seen, sent)
				}
				return nil
			})
			page, transmitted := p.get("/metrics"), int64(0)
			for _, of := range hosts(t, page) {
				transmitted += of.transmitPackets
			}
			if counted := sample(t, page, fmt.Sprintf("promflow_capture_packets_total{interface=%q,outcome=\"counted\"}", nettest.Receiving)); transmitted != int64(counted) {
				t.Errorf("addresses and other have transmitted %d packets, %.0f were counted", transmitted, counted)
			}
			p.terminate()
		})
	}
}

// kept is what a process keeps in the kernel.
type kept struct{ files, programs, maps, mappings int }

func keptBy(t *testing.T, p *program) (k kept) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	files, err := filepath.Glob(proc + "fd/*")
	nettest.Check(t, err)
	for _, file := range files {
		switch target, err := os.Readlink(file); {
		case err != nil || strings.HasPrefix(target, "socket:"): // of requests, too
		case strings.Contains(target, "bpf-prog"):
			k.programs++
		case strings.Contains(target, "bpf-map"):
			k.maps++
		default:
			k.files++
		}
	}
	mappings, err := os.ReadFile(proc + "maps")
	nettest.Check(t, err)
	k.mappings = strings.Count(string(mappings), "bpf-map")
	return k
}

// TestServesAReplacedCertificate has a certificate renewed: the next connection gets the new one, and a reload finds it right.
func TestServesAReplacedCertificate(t *testing.T) {
	t.Parallel()
	old, oldKey, trustsOld := selfSigned(t)
	renewed, renewedKey, trustsNew := selfSigned(t)
	folder := t.TempDir()
	put := func(name, from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		nettest.Check(t, err)
		nettest.Check(t, os.WriteFile(filepath.Join(folder, name), text, 0o600))
	}
	put("cert", old)
	put("key", oldKey)
	config := write(t, "web.yml", fmt.Sprintf("tls_server_config: {cert_file: %s/cert, key_file: %s/key}\n", folder, folder))
	ns := nettest.NewNamespace(t)
	p := serve(t, ns, "--interface=lo", "--monitor-subnets=10.0.0.0/8", "--enable-lifecycle", "--user=root", "--web-config-file="+config)
	trusts := func(pool *x509.CertPool) bool {
		client := http.Client{Timeout: deadline, Transport: &http.Transport{DialContext: ns.Dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
		response, err := client.Post("https://"+p.address+"/-/reload", "", nil)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	if !trusts(trustsOld) || trusts(trustsNew) {
		t.Error("at first it does not serve the first certificate")
	}
	put("key", renewedKey)
	put("cert", renewed)
	if !trusts(trustsNew) || trusts(trustsOld) {
		t.Error("it does not serve the renewed certificate")
	}
	p.terminate()
}
