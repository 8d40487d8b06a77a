package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"promflow/capture/capturetest"
	"promflow/capture/nettest"
)

// state reads what a page says of an interface.
func (p *program) state(backend, name string) (up string, packets int64) {
	p.t.Helper()
	page := p.get("/metrics")
	_, rest, _ := strings.Cut(page, fmt.Sprintf("promflow_capture_up{backend=%q,interface=%q} ", backend, name))
	up, _, _ = strings.Cut(rest, "\n")
	for _, outcome := range []string{"counted", "unmonitored", "excluded", "non_ip", "malformed"} {
		if series := fmt.Sprintf("promflow_capture_packets_total{interface=%q,outcome=%q}", name, outcome); strings.Contains(page, series) {
			packets += int64(sample(p.t, page, series))
		}
	}
	return up, packets
}

// await waits until each promflow says of an interface that it is up (1), away (0) or not known (empty), and that it has seen so
// many packets there.
func (all programs) await(t *testing.T, name, up string, packets int64) {
	t.Helper()
	eventually(t, func() (err error) {
		for backend, p := range all {
			if u, n := p.state(backend, name); u != up || n != packets {
				err = errors.Join(err, fmt.Errorf("%s: %s is up: %q, and has %d packets; want %q and %d", backend, name, u, n, up, packets))
			}
		}
		return err
	})
}

// oneAddress is what 10.0.0.1 has transmitted by so many packets of packet().
func oneAddress(packets int64) func() (map[string]counts, error) {
	return func() (map[string]counts, error) {
		return map[string]counts{"10.0.0.1": {transmitBytes: 100 * packets, transmitPackets: packets}}, nil
	}
}

func packet() []byte {
	return nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), 100)
}

// sendOn sends packets from the other end of a link.
func sendOn(t *testing.T, ns *nettest.Namespace, device string, packets int) {
	t.Helper()
	s := nettest.NewSender(t, ns, device)
	for range packets {
		s.Send(packet())
	}
}

func TestSeveralInterfaces(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	for _, device := range []string{"a0", "a1", "b0"} {
		here.Veth(device, there, device)
	}
	all := serveEach(t, here, "--interface=a0, lo", "--interface=a1", "--interface=a0", "--monitor-subnets=10.0.0.0/8", "--packets")
	sendOn(t, there, "a0", 3)
	sendOn(t, there, "a1", 4)
	sendOn(t, there, "b0", 5)
	all.await(t, "a0", "1", 3)
	all.await(t, "a1", "1", 4)
	for backend, p := range all {
		if up, _ := p.state(backend, "lo"); up != "1" {
			t.Errorf("%s: lo is up: %q", backend, up)
		}
	}
	all.await(t, "b0", "", 0)
	all.agree(t, oneAddress(7))
}

// TestAlternativeNames captures an interface by a name that is longer than a real one may be.
func TestAlternativeNames(t *testing.T) {
	const name = "a-very-long-alternative-name-of-an-interface"
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	here.IP("link", "property", "add", "dev", "a0", "altname", name)
	all := serveEach(t, here, "--interface="+name, "--monitor-subnets=10.0.0.0/8", "--packets", "--labels=interface")
	sendOn(t, there, "a0", 3)
	all.await(t, "a0", "1", 3)
	for backend, p := range all {
		eventually(t, func() error {
			return differ(backend, sums(t, p.get("/metrics"), "interface", "ip"), map[string]int64{
				`promflow_transmit_bytes_total interface="a0" ip="10.0.0.1"`:   300,
				`promflow_transmit_packets_total interface="a0" ip="10.0.0.1"`: 3,
				`promflow_receive_bytes_total interface="a0" ip="10.0.0.1"`:    0,
				`promflow_receive_packets_total interface="a0" ip="10.0.0.1"`:  0,
			})
		})
		if page := p.get("/metrics"); strings.Contains(page, name) {
			t.Errorf("%s: the page has the alternative name:\n%s", backend, page)
		}
		p.terminate()
	}
	line, _ := fails(t, inside(t, here, "--interface="+name+"-that-is-wrong"))
	for _, want := range []string{"--interface", name + "-that-is-wrong", "a0", "lo"} {
		if !strings.Contains(line, want) {
			t.Errorf("said %q, which lacks %q", line, want)
		}
	}
}

func TestInterfacesComeAndGo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		args       []string
		away, back func(here, there *nettest.Namespace)
	}{
		{name: "deleted and made anew", args: []string{"--interface=a0"},
			away: func(here, _ *nettest.Namespace) { here.IP("link", "del", "a0") },
			back: func(here, there *nettest.Namespace) { here.Veth("a0", there, "a0") }},
		{name: "down and up", args: []string{"--interface=a0"},
			away: func(here, _ *nettest.Namespace) { here.IP("link", "set", "a0", "down") },
			back: func(here, _ *nettest.Namespace) { here.IP("link", "set", "a0", "up") }},
		{name: "renamed and named so again", args: []string{"--interface=a0"},
			away: func(here, _ *nettest.Namespace) {
				here.IP("link", "set", "a0", "down")
				here.IP("link", "set", "a0", "name", "b0")
				here.IP("link", "set", "b0", "up")
			},
			back: func(here, _ *nettest.Namespace) {
				here.IP("link", "set", "b0", "down")
				here.IP("link", "set", "b0", "name", "a0")
				here.IP("link", "set", "a0", "up")
			}},
		{name: "moved to another namespace and back", args: []string{"--interface=a0"},
			away: func(here, there *nettest.Namespace) {
				here.IP("link", "set", "a0", "name", "x0", "netns", there.Name)
			},
			back: func(here, there *nettest.Namespace) {
				there.IP("link", "set", "x0", "name", "a0", "netns", here.Name)
				here.IP("link", "set", "a0", "up")
			}},
		{name: "found by a glob", args: []string{"--interface=a?", "--interface=lo"},
			away: func(here, _ *nettest.Namespace) { here.IP("link", "del", "a0") },
			back: func(here, there *nettest.Namespace) { here.Veth("a0", there, "a0") }},
	} {
		for _, later := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, later: %v", c.name, later), func(t *testing.T) {
				here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
				args := append([]string{"--monitor-subnets=10.0.0.0/8", "--packets", "--wait-interface=" + fmt.Sprint(later)}, c.args...)
				if !later {
					here.Veth("a0", there, "a0")
				}
				all := serveEach(t, here, args...)
				if later {
					here.Veth("a0", there, "a0")
				}
				packets := int64(0)
				for range 4 {
					all.await(t, "a0", "1", packets)
					sendOn(t, there, "a0", 10)
					packets += 10
					all.await(t, "a0", "1", packets)
					c.away(here, there)
					all.await(t, "a0", "0", packets)
					all.agree(t, oneAddress(packets))
					c.back(here, there)
				}
			})
		}
	}
}

// TestInterfaceCycles deletes an interface and makes it anew again and again: nothing is counted twice or missed, and nothing is left
// of any but the last.
func TestInterfaceCycles(t *testing.T) {
	t.Parallel()
	for _, interfaces := range []string{"a0", "a*"} {
		t.Run(interfaces, func(t *testing.T) {
			const perCycle = 20
			cycles := 25 * int64(*more)
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("a0", there, "a0")
			all := serveOnEthernet(t, here, "--interface="+interfaces, "--monitor-subnets=10.0.0.0/8", "--packets")
			var before map[string]string
			for cycle := range cycles {
				all.await(t, "a0", "1", cycle*perCycle)
				if cycle == 1 { // by now all has been opened that stays
					before = belongings(t, here, all)
				}
				sendOn(t, there, "a0", perCycle)
				all.await(t, "a0", "1", (cycle+1)*perCycle)
				here.IP("link", "del", "a0")
				here.Veth("a0", there, "a0")
			}
			all.agree(t, oneAddress(cycles*perCycle))
			eventually(t, func() error { return noMore(belongings(t, here, all), before) })
		})
	}
}

// noMore tells what there is more of than there was; then, an earlier source of a glob may have been about to end.
func noMore(belongings, before map[string]string) (err error) {
	for of, n := range belongings {
		var now, was int
		fmt.Sscan(n, &now)
		fmt.Sscan(before[of], &was)
		if strings.Contains(of, "goroutines") {
			was += 4 // of connections that are being closed
		}
		if now > was {
			err = errors.Join(err, fmt.Errorf("%s: %s, and %s before", of, n, before[of]))
		}
	}
	return err
}

// belongings counts what programs have open, in their process and in the kernel.
func belongings(t *testing.T, ns *nettest.Namespace, all programs) map[string]string {
	t.Helper()
	has := map[string]string{"packet sockets": fmt.Sprint(strings.Count(ns.Run("cat", "/proc/net/packet"), "\n"))}
	for backend, p := range all {
		p.client.CloseIdleConnections()
		page := p.get("/metrics")
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		sockets := 0
		for _, file := range files {
			if to, _ := os.Readlink(file); strings.HasPrefix(to, "socket:") {
				sockets++
			}
		}
		objects := bpfObjects(t, p.cmd.Process.Pid)
		has[backend+" files"] = fmt.Sprint(len(files))
		has[backend+" sockets"] = fmt.Sprint(sockets)
		has[backend+" goroutines"] = fmt.Sprint(sample(t, page, "go_goroutines"))
		has[backend+" BPF objects"] = fmt.Sprint(len(objects.maps), len(objects.programs))
	}
	return has
}

func TestOverlapsAreNamed(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	here.Veth("a1", there, "a1")
	here.IP("link", "add", "br0", "type", "bridge")
	here.IP("link", "set", "a0", "master", "br0")
	p := serve(t, here, "--interface=br0,a0,a1")
	const warning = "two interfaces see the same packets"
	eventually(t, func() error {
		if log := p.log.String(); strings.Count(log, warning) != 1 || !strings.Contains(log, "interface=br0 and=a0") {
			return errors.New(log)
		}
		return nil
	})
	here.IP("link", "set", "a1", "master", "br0")
	eventually(t, func() error {
		if log := p.log.String(); strings.Count(log, warning) != 2 || !strings.Contains(log, "interface=br0 and=a1") {
			return errors.New(log)
		}
		return nil
	})
}

// TestWhatCountsTwiceIsNamed has 10 packets of 1000 bytes pass two captured interfaces, a0 and the other.
func TestWhatCountsTwiceIsNamed(t *testing.T) {
	frame := nettest.UDP(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.1.0.5"), 1000)
	arriving := func(here, there *nettest.Namespace, frame func() []byte) func() {
		here.Veth("a0", there, "a0")
		f := frame()
		return func() { nettest.NewSender(t, there, "a0").Send(slices.Repeat([][]byte{f}, 10)...) }
	}
	for _, c := range []struct {
		name, other string
		join        func(t *testing.T, here, there *nettest.Namespace) (send func())
	}{
		{"redirected to an ifb", "ifb0", func(t *testing.T, here, there *nettest.Namespace) func() {
			return arriving(here, there, func() []byte { nettest.NewIFB(here, "ifb0", "a0"); return frame })
		}},
		{"mirrored to a dummy", "dummy0", func(t *testing.T, here, there *nettest.Namespace) func() {
			return arriving(here, there, func() []byte { nettest.NewMirror(here, "dummy0", "a0"); return frame })
		}},
		{"PPPoE", "ppp0", func(t *testing.T, here, there *nettest.Namespace) func() {
			return arriving(here, there, func() []byte {
				return nettest.NewPPPoE(here, "a0", net.HardwareAddr{2, 0, 0, 0, 0, 1}).Frame(frame)
			})
		}},
		{"both ends of a netkit", "b0", func(t *testing.T, here, _ *nettest.Namespace) func() {
			pair := &netlink.Netkit{LinkAttrs: netlink.LinkAttrs{Name: "a0"}, Mode: netlink.NETKIT_MODE_L2}
			peer := netlink.NewLinkAttrs()
			peer.Name = "b0"
			pair.SetPeerAttrs(&peer)
			if err := here.Do(func() error { return netlink.LinkAdd(pair) }); err != nil {
				nettest.KernelLacks(t, "netkit devices: "+err.Error())
			}
			here.IP("link", "set", "a0", "up")
			here.IP("link", "set", "b0", "up")
			return func() { nettest.NewSender(t, here, "b0").Send(slices.Repeat([][]byte{frame}, 10)...) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			send := c.join(t, here, there)
			p := serve(t, here, "--interface=a0,"+c.other, "--monitor-subnets=10.1.0.0/24")
			send()
			eventually(t, func() error {
				if got := sample(t, p.get("/metrics"), `promflow_receive_bytes_total{ip="10.1.0.5"}`); got != 20_000 {
					return fmt.Errorf("counted %v bytes, want 20000", got)
				}
				return nil
			})
			if log := p.log.String(); strings.Count(log, "two interfaces see the same packets") != 1 || !strings.Contains(log, "interface=a0 and="+c.other) {
				t.Errorf("it should name a0 and %s: %s", c.other, log)
			}
		})
	}
}

// TestLinkLayerChanges gives a device another link layer again and again, and sends 10 packets of 100 bytes from 10.1.0.3 after each
// change.
func TestLinkLayerChanges(t *testing.T) {
	for _, c := range []struct {
		name   string
		device string
		anew   bool // it is captured anew, which the log says
		make   changing
	}{
		{"a tun device that says what it is not", "t0", false, func(t *testing.T, here, _ *nettest.Namespace) (func(int), func()) {
			tun := here.Tun("t0", unix.IFF_TUN|unix.IFF_NO_PI)
			here.SetTunType(tun, "t0", unix.ARPHRD_ETHER)
			return func(round int) { here.SetTunType(tun, "t0", []int{unix.ARPHRD_ETHER, unix.ARPHRD_NONE}[round%2]) }, writing(t, tun, toOutside[14:])
		}},
		{"a tap device", "t0", true, tap("t0")},
		{"a bond", "m0", true, withPorts("type", "bond", "mode", "active-backup", "miimon", "10")},
		{"a team", "m0", true, withPorts("type", "team")},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			change, send := c.make(t, here, there)
			all := serveEach(t, here, "--interface="+c.device, "--monitor-subnets=10.1.0.0/25", "--packets")
			for round := range 5 {
				if round > 0 {
					change(round)
				}
				if c.anew {
					eventually(t, func() (err error) {
						for backend, p := range all {
							if n := strings.Count(p.log.String(), "interface has another link layer"); n != round {
								err = errors.Join(err, fmt.Errorf("%s: it had another link layer %d times, want %d", backend, n, round))
							}
						}
						return err
					})
				}
				all.await(t, c.device, "1", int64(10*round))
				send()
				sent := int64(10 * (round + 1))
				all.await(t, c.device, "1", sent)
				all.agree(t, func() (map[string]counts, error) {
					return map[string]counts{"10.1.0.3": {transmitBytes: 100 * sent, transmitPackets: sent}}, nil
				})
			}
		})
	}
}

// changing makes a device, and gives what changes its link layer for a round, an even one to Ethernet, and what has it receive 10 packets.
type changing func(t *testing.T, here, there *nettest.Namespace) (change func(round int), send func())

// toOutside is a packet of 100 bytes behind an Ethernet header.
var toOutside = nettest.UDP(netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("10.1.0.200"), 100)

// writing gives a function that writes a packet 10 times.
func writing(t *testing.T, to io.Writer, packet []byte) func() {
	return func() {
		t.Helper()
		for range 10 {
			if _, err := to.Write(packet); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// tap makes a tap device that says it has an Ethernet header, and that it has none.
func tap(name string) changing {
	return func(t *testing.T, here, _ *nettest.Namespace) (change func(int), send func()) {
		file := here.Tun(name, unix.IFF_TAP|unix.IFF_NO_PI)
		return func(round int) { here.SetTunType(file, name, []int{unix.ARPHRD_ETHER, unix.ARPHRD_NONE}[round%2]) }, writing(t, file, toOutside)
	}
}

// withPorts makes m0, which has the link layer of its first port, with a veth as that and a tun device in turns. Where the kernel has
// no such thing, a tap device has to do.
func withPorts(args ...string) changing {
	return func(t *testing.T, here, there *nettest.Namespace) (func(int), func()) {
		if out, err := here.Command(append([]string{"ip", "link", "add", "m0"}, args...)...).CombinedOutput(); err != nil {
			if !strings.Contains(string(out), "Unknown device type") {
				t.Fatalf("%v: %v: %s", args, err, out)
			}
			return tap("m0")(t, here, there)
		}
		here.Veth("a0", there, "a0")
		tun := here.Tun("t0", unix.IFF_TUN|unix.IFF_NO_PI)
		now, ports := 0, []struct {
			name string
			send func()
		}{
			{"a0", func() {
				s := nettest.NewSender(t, there, "a0")
				for range 10 {
					s.Send(toOutside)
				}
			}},
			{"t0", writing(t, tun, toOutside[14:])},
		}
		change := func(round int) {
			here.IP("link", "set", "m0", "down")
			here.IP("link", "set", ports[now].name, "nomaster")
			now = round % 2
			here.IP("link", "set", ports[now].name, "down")
			here.IP("link", "set", ports[now].name, "master", "m0")
			here.IP("link", "set", "m0", "up")
			here.IP("link", "set", ports[now].name, "up")
			eventually(t, func() error { // from then on it has what its port receives
				if carrier := here.Run("cat", "/sys/class/net/m0/carrier"); carrier != "1\n" {
					return fmt.Errorf("its carrier is %s", carrier)
				}
				return nil
			})
		}
		change(0)
		return change, func() { ports[now].send() }
	}
}

// TestFlappingIsCalm has an interface go down and up so often that the log must not tell all of it.
func TestFlappingIsCalm(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	p := serve(t, here, "--interface=a0")
	for range 60 {
		here.IP("link", "set", "a0", "down")
		here.IP("link", "set", "a0", "up")
	}
	programs{"ebpf": p}.await(t, "a0", "1", 0)
	if n := strings.Count(p.log.String(), "interface is"); n < 4 || n > 40 {
		t.Errorf("the log has %d lines of 120 changes", n)
	}
}

// TestAddressesExpire has an address leave the page, and come back with its total.
func TestAddressesExpire(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	for _, monitored := range []string{"10.0.0.0/24", "10.0.0.0/8"} {
		all := serveEach(t, here, "--interface=a0", "--monitor-subnets="+monitored, "--packets", "--expire-after=1s")
		sendOn(t, there, "a0", 3)
		all.agree(t, oneAddress(3))
		all.agree(t, func() (map[string]counts, error) { return nil, nil })
		for backend, p := range all {
			page := p.get("/metrics")
			if sample(t, page, "promflow_expired_ips") != 1 || sample(t, page, `promflow_expired_bytes{direction="transmit"}`) != 300 ||
				sample(t, page, "promflow_tracked_ips") != 0 {
				t.Errorf("%s: the page is\n%s", backend, page)
			}
		}
		sendOn(t, there, "a0", 1)
		all.agree(t, oneAddress(4))
		for _, p := range all {
			p.terminate()
		}
	}
}

// TestLostNews stops promflow while more happens than the kernel keeps for it, in the end that its interface is made anew with the
// index that it had. The last time that is not up before promflow has found out.
func TestLostNews(t *testing.T) {
	for _, interfaces := range []string{"a0", "a*"} {
		t.Run(interfaces, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			const rounds, up = 3, "link set a0 up\n"
			anew := fmt.Sprintf("link add a0 index 77 type veth peer name a0 netns %s\n", there.Name)
			batch(t, here, anew+up)
			there.IP("link", "set", "a0", "up")
			all := serveOnEthernet(t, here, "--interface="+interfaces, "--monitor-subnets=10.0.0.0/8", "--packets")
			var before map[string]string
			var packets int64
			for round := range rounds {
				all.await(t, "a0", "1", packets)
				if round == 1 {
					before = belongings(t, here, all)
				}
				sendOn(t, there, "a0", 10)
				packets += 10
				all.await(t, "a0", "1", packets)
				for _, p := range all {
					p.signal(syscall.SIGSTOP)
				}
				batch(t, here, strings.Repeat("link set lo down\nlink set lo up\n", 2000)+"link del a0\n"+anew)
				there.IP("link", "set", "a0", "up")
				if round < rounds-1 {
					batch(t, here, up)
				}
				for _, p := range all {
					p.signal(syscall.SIGCONT)
				}
			}
			eventually(t, func() (err error) {
				for backend, p := range all {
					if n := strings.Count(p.log.String(), "interface is gone"); n < rounds {
						err = errors.Join(err, fmt.Errorf("%s: the interface was gone %d times, want %d", backend, n, rounds))
					}
				}
				return err
			})
			batch(t, here, up)
			all.await(t, "a0", "1", packets)
			sendOn(t, there, "a0", 10)
			all.agree(t, oneAddress(packets+10))
			for backend, p := range all {
				if !strings.Contains(p.log.String(), "network interfaces were lost") {
					t.Errorf("%s lost nothing: the test shows nothing", backend)
				}
			}
			eventually(t, func() error { return noMore(belongings(t, here, all), before) })
		})
	}
}

// batch has one ip(8) do much.
func batch(t *testing.T, ns *nettest.Namespace, commands string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(commands), 0o600); err != nil {
		t.Fatal(err)
	}
	ns.Run("ip", "-batch", file)
}

// signal sends a signal to the program.
func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// TestRenamed renames an interface while it has traffic: each packet counts once, under one of its names.
func TestRenamed(t *testing.T) {
	for _, interfaces := range []string{"a*", "a1,a2"} {
		t.Run(interfaces, func(t *testing.T) { testRenamed(t, interfaces) })
	}
}

func testRenamed(t *testing.T, interfaces string) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	if out, err := here.Command("ip", "link", "set", "a0", "name", "a1").CombinedOutput(); err != nil {
		nettest.Lacks(t, "a kernel that renames interfaces which are up: "+string(out))
	}
	all := serveEach(t, here, "--interface="+interfaces, "--wait-interface", "--monitor-subnets=10.0.0.0/8", "--packets")
	s, sent := nettest.NewSender(t, there, "a0"), int64(0)
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				s.Send(packet())
				sent++
			}
		}
	}()
	for range 20 {
		for _, names := range [][2]string{{"a1", "a2"}, {"a2", "a1"}} {
			here.IP("link", "set", names[0], "name", names[1])
			for backend, p := range all {
				eventually(t, func() error {
					if up, _ := p.state(backend, names[1]); up != "1" {
						return fmt.Errorf("%s: %s is up: %q", backend, names[1], up)
					}
					return nil
				})
			}
		}
	}
	close(quit)
	<-ended
	all.agree(t, func() (map[string]counts, error) { return oneAddress(sent)() })
	for backend, p := range all {
		_, one := p.state(backend, "a1")
		_, two := p.state(backend, "a2")
		if one+two != sent || one == 0 || two == 0 {
			t.Errorf("%s: %d and %d packets, want %d", backend, one, two, sent)
		}
		if up, _ := p.state(backend, "a2"); up != "0" {
			t.Errorf("%s: a2 is up: %q", backend, up)
		}
	}
}

// TestKernelsOwnCountersAgree compares all that was seen with what the kernel counted of the interface.
func TestKernelsOwnCountersAgree(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	all := serveEach(t, here, "--interface=a0", "--monitor-subnets=10.0.0.0/8")
	frames := capturetest.Frames()
	in, out := nettest.NewSender(t, there, "a0"), nettest.NewSender(t, here, "a0")
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		in.Send(frames...)
		out.Send(frames...)
	}
	device := "/sys/class/net/a0/statistics/"
	var kernel int64
	for _, counter := range []string{"rx_packets", "tx_packets"} {
		var n int64
		fmt.Sscan(here.Run("cat", device+counter), &n)
		kernel += n
	}
	eventually(t, func() (err error) {
		for backend, p := range all {
			_, seen := p.state(backend, "a0")
			dropped := int64(sample(t, p.get("/metrics"), `promflow_capture_dropped_packets_total{interface="a0"}`))
			if seen+dropped != kernel {
				err = errors.Join(err, fmt.Errorf("%s: %d seen and %d dropped, and the kernel has %d", backend, seen, dropped, kernel))
			}
		}
		return err
	})
}
