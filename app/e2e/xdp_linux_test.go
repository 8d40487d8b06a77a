package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// TestXDPCountsWhatTheOtherEndCounts is TestCountsWhatTheOtherEndCounts with XDP: what arrives is never merged there.
func TestXDPCountsWhatTheOtherEndCounts(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "tcpdump", "iperf3", "ping", "ethtool")
	for _, c := range []struct {
		name string
		tags []vlan
		args []string
	}{
		{"untagged", nil, nil},
		{"at a mirror port, by labels", nil, []string{"--mirror", "--labels=network,peer,interface,vlan"}},
		{"in a VLAN", []vlan{{0x8100, 7}}, []string{"--labels=vlan"}},
		{"in a VLAN in another, at a mirror port", []vlan{{0x88a8, 8}, {0x8100, 7}}, []string{"--mirror"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, joinByVeth, c.tags...)
			byVLAN := strings.Contains(strings.Join(c.args, " "), "vlan")
			if byVLAN && kernelBefore(t, 6, 8) { // drivers cannot tell XDP of tags that are beside a frame
				n.router.Run("ethtool", "-K", "r0", "rx-vlan-hw-parse", "off", "rx-vlan-stag-hw-parse", "off")
				n.client.Run("ethtool", "-K", "c0", "tx-vlan-hw-insert", "off", "tx-vlan-stag-hw-insert", "off")
			}
			p := serve(t, n.router, append([]string{"--capture=xdp", "--interface=r0", "--packets", "--monitor-subnets=10.0.0.0/8,fd00::/16",
				"--exclude-subnets=10.66.0.0/16"}, c.args...)...)
			file := tcpdump(t, n.server, "s0")
			n.iperfServer(t)
			n.transfer()
			eventually(t, func() error {
				want, err := onTheWire(t, file)
				if err != nil {
					return err
				}
				page := p.get("/metrics")
				if len(c.args) > 0 && len(c.tags) == 1 {
					for _, line := range strings.Split(page, "\n") {
						if strings.HasPrefix(line, `promflow_transmit_bytes_total{ip="10.1.0.1"`) && !strings.Contains(line, `vlan="7"`) {
							t.Errorf("not in VLAN 7: %s", line)
						}
					}
				}
				return same(hostsOf(t, page), want)
			})
			if got := sample(t, p.get("/metrics"), `promflow_capture_packets_total{interface="r0",outcome="excluded"}`); got != 10 {
				t.Errorf("%v packets excluded, want 10: five pings and their answers", got)
			}
		})
	}
}

// hostsOf is hosts for a page with labels: what an address has moved is the sum of its series.
func hostsOf(t *testing.T, page string) map[string]counts {
	t.Helper()
	all := map[string]counts{}
	for series, n := range sums(t, page, "ip") {
		name, rest, _ := strings.Cut(series, ` ip="`)
		ip := strings.TrimSuffix(rest, `"`)
		c := all[ip]
		switch name {
		case "promflow_receive_bytes_total":
			c.receiveBytes = n
		case "promflow_transmit_bytes_total":
			c.transmitBytes = n
		case "promflow_receive_packets_total":
			c.receivePackets = n
		case "promflow_transmit_packets_total":
			c.transmitPackets = n
		default:
			continue
		}
		all[ip] = c
	}
	return all
}

// TestMirrorPort floods an interface with frames for other machines, while somebody works on this machine over the same interface.
func TestMirrorPort(t *testing.T) {
	const frames, echoes = 3_000_000, 1000
	if kernelBefore(t, 5, 18) {
		nettest.KernelLacks(t, "Linux 5.18, which can flood")
	}
	l := nettest.NewLink(t)
	addresses(l.Receiver, nettest.Receiving, "10.9.0.1/24")
	addresses(l.Sender, nettest.Sending, "10.9.0.2/24")
	p := serve(t, l.Receiver, "--capture=xdp", "--mirror", "--interface="+nettest.Receiving, "--monitor-subnets=10.0.0.0/16,10.9.0.0/24", "--packets")
	seen := watchFrames(t, l.Receiver, nettest.Receiving)

	f := nettest.NewFlood(t, l, 254, 60)
	var took time.Duration
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		took = f.Send(frames)
	}()
	rounds := echo(t, l, "10.9.0.1:2222", echoes, flooded)
	<-flooded
	t.Logf("%d frames in %v, %d echoes", frames, took, rounds)

	// The driver's queue may have been full.
	there := l.Receiver.Counters(nettest.Receiving)
	if there.Received < frames/2 {
		t.Errorf("%d frames arrived of %d", there.Received, frames)
	}
	p.awaitPackets(nettest.Receiving, there.Received+there.Sent)
	if others := seen(func(frame []byte) bool { return strings.HasPrefix(string(frame), "\x02\x00\x00\x00\x00\x02") }); others > 0 {
		t.Errorf("%d frames for other machines went on to the kernel", others)
	}
}

// echo sends 100 bytes again and again on a connection, and waits for the echo of each, until so many came back and the flood has ended.
// No segment may be lost.
func echo(t *testing.T, l *nettest.Link, address string, least int, end <-chan struct{}) (rounds int) {
	t.Helper()
	server := l.Receiver.Listen(address)
	defer server.Close()
	go func() {
		if c, err := server.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := l.Sender.Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for ended := false; !ended || rounds < least; rounds++ {
		select {
		case <-end:
			ended = true
		default:
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 100)
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("after %d echoes: %v", rounds, err)
		}
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	nettest.Check(t, err)
	nettest.Check(t, raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || info.Total_retrans > info.Dsack_dups { // on a busy machine an answer may be late
			t.Errorf("%+v, %v: %d segments were sent again, %d of them in vain", info, err, info.Total_retrans, info.Dsack_dups)
		}
	}))
	return rounds
}

// watchFrames returns a count of the frames that the kernel has received on an interface since, of those that are wanted.
func watchFrames(t *testing.T, ns *nettest.Namespace, device string) func(wanted func([]byte) bool) int {
	t.Helper()
	var fd int
	index := ns.Interface(device).Index
	nettest.Check(t, ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: 0x0300})) // ETH_P_ALL
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return func(wanted func([]byte) bool) (n int) {
		for b := make([]byte, 2048); ; {
			length, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return n
			}
			if wanted(b[:length]) {
				n++
			}
		}
	}
}

// TestMirrorDropsWhatIsForOthers sends frames to each kind of address, also after the interface has got another one, and after a bridge
// or a macvlan device has taken an interest in all frames.
func TestMirrorDropsWhatIsForOthers(t *testing.T) {
	here, there, elsewhere := nettest.NewNamespace(t), nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	here.Veth("a1", there, "a1")
	here.IP("link", "add", "br0", "type", "bridge")
	p := serve(t, here, "--capture=xdp", "--mirror", "--interface=a0,a1", "--monitor-subnets=10.0.0.0/8", "--packets")
	own := func() string { i := here.Interface("a0"); return string(i.Address[:]) }
	others := "\x02\x00\x00\x00\x77\x77"
	sent := int64(0)
	passes := func(when, to string, want bool) {
		t.Helper()
		seen := watchFrames(t, here, "a0")
		f := packet()
		copy(f, to)
		eventually(t, func() error { // the change is reported by netlink
			nettest.NewSender(t, there, "a0").Send(f)
			sent++
			got := 0
			for end := time.Now().Add(100 * time.Millisecond); got == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
				got = seen(func(frame []byte) bool { return strings.HasPrefix(string(frame), to) })
			}
			if (got > 0) != want {
				return fmt.Errorf("%s: %d of a frame to %x passed", when, got, to)
			}
			return nil
		})
	}
	all := func(when string, dropsOthers bool) {
		t.Helper()
		passes(when, own(), true)
		passes(when, "\xff\xff\xff\xff\xff\xff", true)
		passes(when, "\x01\x00\x5e\x00\x00\xfb", true)
		passes(when, others, !dropsOthers)
	}
	all("at first", true)
	was := own()
	here.IP("link", "set", "a0", "address", "02:00:00:00:12:34")
	passes("with another address", was, false)
	all("with another address", true)
	here.IP("link", "set", "a0", "master", "br0")
	all("as a port of a bridge", false)
	here.IP("link", "set", "a0", "nomaster")
	all("no port any more", true)
	if out, err := here.Command("ip", "link", "add", "m0", "link", "a0", "type", "macvlan").CombinedOutput(); err == nil {
		all("with a macvlan device", false)
		here.IP("link", "set", "m0", "netns", elsewhere.Name)
		elsewhere.IP("link", "set", "m0", "up")
		time.Sleep(2 * time.Second) // nobody reports that
		all("with a macvlan device elsewhere", false)
		elsewhere.IP("link", "del", "m0")
		all("without", true)
	} else {
		t.Logf("no macvlan devices: %s", out)
	}
	p.awaitPackets("a0", sent)
	for _, want := range []string{"not dropped any more: they may be for somebody\" interface=a0 for=br0", "dropped again\" interface=a0"} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

func (p *program) awaitPackets(name string, packets int64) {
	p.t.Helper()
	programs{"xdp": p}.await(p.t, name, "1", packets)
}

func TestXDPRefusals(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	for _, device := range []string{"a0", "port0", "parent0", "taken0"} {
		here.Veth(device, there, device)
	}
	here.Tun("tun0", unix.IFF_TUN|unix.IFF_NO_PI)
	here.IP("link", "add", "br0", "type", "bridge")
	here.IP("link", "set", "port0", "master", "br0")
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "somebody", Type: ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	nettest.Check(t, err)
	t.Cleanup(func() { program.Close() })
	index := here.Interface("taken0").Index
	nettest.Check(t, here.Do(func() error {
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: link.XDPDriverMode})
		if err == nil {
			t.Cleanup(func() { attached.Close() })
		}
		return err
	}))
	info, err := program.Info()
	nettest.Check(t, err)
	id, _ := info.ID()
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"lo", []string{"--capture=xdp", "--interface=lo"}, []string{"lo", "--capture=ebpf"}},
		{"no Ethernet", []string{"--capture=xdp", "--interface=tun0"}, []string{"tun0", "--capture=ebpf"}},
		{"a driver without XDP", []string{"--capture=xdp", "--interface=br0"}, []string{"br0", "--capture=ebpf"}},
		{"another program", []string{"--capture=xdp", "--interface=taken0"}, []string{"taken0", "somebody", fmt.Sprint("id ", id), "--capture=ebpf"}},
		{"a port of a bridge", []string{"--capture=xdp", "--mirror", "--interface=port0"}, []string{"--mirror", "port0", "br0"}},
		{"without XDP", []string{"--mirror", "--interface=a0"}, []string{"--mirror", "--capture=xdp", "auto"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			line, printed := fails(t, inside(t, here, c.args...))
			for _, want := range c.says {
				if !strings.Contains(line, want) {
					t.Errorf("said %q, which lacks %q", line, want)
				}
			}
			if printed != "" {
				t.Errorf("printed %q", printed)
			}
		})
	}
	p := serve(t, here, "--capture=xdp", "--interface=port0", "--monitor-subnets=10.0.0.0/8")
	sendOn(t, there, "port0", 3)
	p.awaitPackets("port0", 3)
}

// TestXDPCapabilities has nobody run the program, who does what it says. It has to go on when subnets change and when the interface is
// made anew, with what is left of its capabilities.
func TestXDPCapabilities(t *testing.T) {
	nettest.Need(t, "setcap", "setpriv")
	copied := copyForEveryone(t)
	file := filepath.Join(filepath.Dir(copied), "subnets")
	nobody := capableUser{name: "nobody", by: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}}
	refused := nettest.NewNamespace(t)
	refused.Veth("a0", nettest.NewNamespace(t), "a0")
	cmd := refused.Command(append(nobody.by, copied, "--capture=xdp", "--interface=a0", "--metrics-address=127.0.0.1:0")...)
	cmd.Env = append(os.Environ(), beProgram+"=1")
	line, _ := fails(t, cmd)
	commands := commandsIn(line)
	if len(commands) != 1 {
		t.Fatalf("said %q", line)
	}
	nobody.setcap = strings.Fields(commands[0])[1]

	for _, user := range []capableUser{{name: "root"}, nobody} {
		for _, labels := range []string{"", "vlan"} {
			t.Run(user.name+" "+labels, func(t *testing.T) {
				here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
				veth := func() {
					here.Veth("a0", there, "a0")
					here.Run("ethtool", "-K", "a0", "rxvlan", "off", "rx-vlan-stag-hw-parse", "off") // before Linux 6.8
				}
				veth()
				nettest.Check(t, os.WriteFile(file, []byte("10.0.0.0/24"), 0o644))
				p := user.start(t, here, copied, "--capture=xdp", "--mirror", "--monitor-subnets=@"+file, "--labels="+labels)
				sent := int64(0)
				counts := func(when string) {
					t.Helper()
					sendOn(t, there, "a0", 10)
					sent += 1000
					eventually(t, func() error {
						if got := sums(t, p.get("/metrics"))["promflow_transmit_bytes_total"]; got != sent {
							return fmt.Errorf("%s: %d bytes are counted, want %d", when, got, sent)
						}
						return nil
					})
				}
				counts("at first")
				nettest.Check(t, os.WriteFile(file, []byte("10.0.0.0/8"), 0o644))
				nettest.Check(t, p.cmd.Process.Signal(syscall.SIGHUP))
				eventually(t, func() error {
					if page := p.get("/metrics"); !strings.Contains(page, `subnet="10.0.0.0/8"`) {
						return errors.New(page)
					}
					return nil
				})
				counts("with other subnets")
				here.IP("link", "del", "a0")
				eventually(t, func() error {
					if up, _ := p.state("xdp", "a0"); up != "0" {
						return fmt.Errorf("up is %q", up)
					}
					return nil
				})
				veth()
				eventually(t, func() error {
					if up, _ := p.state("xdp", "a0"); up != "1" {
						return fmt.Errorf("up is %q", up)
					}
					return nil
				})
				counts("when it is made anew")
			})
		}
	}
}

// TestXDPCountsJumboFrames sends frames that need several buffers. Before Linux 5.18, XDP has no such frames, and a driver refuses an MTU that
// makes them possible.
func TestXDPCountsJumboFrames(t *testing.T) {
	const size, count = 8900, 50
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	here.IP("link", "set", "a0", "mtu", "9000")
	there.IP("link", "set", "a0", "mtu", "9000")
	args := []string{"--capture=xdp", "--interface=a0", "--monitor-subnets=10.0.0.0/8,fd00::/16", "--packets"}
	if kernelBefore(t, 5, 18) {
		line, _ := fails(t, inside(t, here, args...))
		for _, want := range []string{"a0", "MTU", "--capture=ebpf"} {
			if !strings.Contains(line, want) {
				t.Errorf("said %q, which lacks %q", line, want)
			}
		}
		return
	}
	p := serve(t, here, args...)
	s := nettest.NewSender(t, there, "a0")
	for range count {
		s.Send(nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), size))
		s.Send(nettest.UDP(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("2001:db8::1"), size))
	}
	all := counts{transmitBytes: size * count, transmitPackets: count}
	programs{"xdp": p}.agree(t, func() (map[string]counts, error) {
		return map[string]counts{"10.0.0.1": all, "fd00::1": all}, nil
	})
}

// TestXDPReloadsWhileInterfacesGo has other subnets again and again, while one interface is deleted and made anew, and another one has traffic:
// nothing of that is lost, and no reload fails.
func TestXDPReloadsWhileInterfacesGo(t *testing.T) {
	t.Parallel()
	const perRound = 100
	rounds := 5 * int64(*more)
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "a0")
	here.Veth("b0", there, "b0")
	file := filepath.Join(t.TempDir(), "subnets")
	nettest.Check(t, os.WriteFile(file, []byte("10.0.0.0/24"), 0o644))
	args := []string{"--capture=xdp", "--interface=a0,b0", "--monitor-subnets=@" + file, "--packets", "--user=root"}
	if !kernelBefore(t, 6, 8) { // then each interface has a program of its own
		args = append(args, "--labels=vlan")
	}
	p := serve(t, here, args...)
	var cycles sync.WaitGroup
	done := make(chan struct{})
	cycles.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond): // others need the lock of network devices, too
			}
			here.Command("ip", "link", "del", "b0").Run()
			here.Command("ip", "link", "add", "b0", "netns", here.Name, "type", "veth", "peer", "name", "b0", "netns", there.Name).Run()
		}
	})
	s := nettest.NewSender(t, there, "a0")
	var before bpf
	for round := range rounds {
		nettest.Check(t, os.WriteFile(file, fmt.Appendf(nil, "10.0.0.0/24,172.16.%d.0/24", round), 0o644))
		nettest.Check(t, p.cmd.Process.Signal(syscall.SIGHUP))
		for range perRound {
			s.Send(packet())
		}
		eventually(t, func() error {
			if page := p.get("/metrics"); !strings.Contains(page, fmt.Sprintf(`subnet="172.16.%d.0/24"`, round)) {
				return errors.New(page)
			}
			return nil
		})
		if round == 0 {
			before = bpfObjects(t, p.cmd.Process.Pid)
		}
	}
	close(done)
	cycles.Wait()
	p.awaitPackets("a0", rounds*perRound)
	if log := p.log.String(); strings.Contains(log, "level=ERROR") {
		t.Error("the log has errors")
	}
	eventually(t, func() error {
		if now := bpfObjects(t, p.cmd.Process.Pid); len(now.maps) > len(before.maps) {
			return fmt.Errorf("%d maps, %d before", len(now.maps), len(before.maps))
		}
		return nil
	})
}
