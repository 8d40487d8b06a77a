package app

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"promflow/capture/capturetest"
)

// TestCountsWhatTheOtherEndCounts sends real traffic from a client through a router, where promflow captures, to a server
// where tcpdump does. Client and router merge segments; the server's link has them as they are on a wire.
func TestCountsWhatTheOtherEndCounts(t *testing.T) {
	capturetest.Need(t, "tcpdump", "iperf3", "ping", "ethtool")
	for _, vlan := range []bool{false, true} {
		t.Run(map[bool]string{false: "untagged", true: "VLAN"}[vlan], func(t *testing.T) {
			n := newNetwork(t, vlan)
			p := serve(t, n.router, "--interface=r0", "--capture=afpacket", "--packets",
				"--monitor-subnets=10.0.0.0/8,fd00::/16", "--exclude-subnets=10.66.0.0/16")
			file, captured := tcpdump(t, n.server, "s0"), tcpdump(t, n.router, "r0")
			n.iperfServer(t)

			ping := func(args ...string) { n.client.Run(append([]string{"ping", "-q", "-c5", "-i0.1"}, args...)...) }
			iperf := func(args ...string) { n.client.Run(append([]string{"iperf3", "-J", "-w64K", "-c"}, args...)...) }
			ping("10.2.0.2")
			ping("-s1400", "fd00:2::2")
			ping("-I", "10.66.0.1", "10.2.0.2") // excluded
			for _, server := range []string{"10.2.0.2", "fd00:2::2"} {
				iperf(server, "-n5M", "-b500M")
				iperf(server, "-n5M", "-b500M", "-R")
				iperf(server, "-u", "-n1M", "-b50M", "-l1200")
				iperf(server, "-u", "-n1M", "-b50M", "-l4000") // in fragments
			}
			eventually(t, func() error {
				want, longest := counted(t, file)
				if len(want) != 4 || longest > 1500+14 {
					return fmt.Errorf("tcpdump saw %v, in frames of up to %d bytes", want, longest)
				}
				return same(hosts(t, p.get("/metrics")), want)
			})

			if tags := tagged(t, captured); tags > 0 != vlan {
				t.Errorf("%d frames on the router's interface had a tag: the test shows nothing", tags)
			}
			page := p.get("/metrics")
			if got := sample(t, page, `promflow_capture_packets_total{interface="r0",outcome="excluded"}`); got != 10 {
				t.Errorf("%v packets excluded, want 10: five pings and their answers", got)
			}
			if merged := n.seenByRouter(t); merged >= int64(sample(t, page, `promflow_capture_packets_total{interface="r0",outcome="counted"}`)) {
				t.Errorf("the router's interface saw %d frames: none was merged, the test shows nothing", merged)
			}
		})
	}
}

// TestCountsBigTCP is the same with segments of more than 64 KiB, whose IP headers cannot say how long they are.
func TestCountsBigTCP(t *testing.T) {
	capturetest.Need(t, "tcpdump", "iperf3", "ethtool")
	// A bridge, as a router answers that they are too big.
	n := newLinks(t)
	n.router.IP("link", "add", "br0", "type", "bridge")
	n.router.IP("link", "set", "br0", "up")
	n.router.IP("link", "set", "r0", "master", "br0")
	n.router.IP("link", "set", "r1", "master", "br0")
	n.client.IP("link", "set", "c0", "gso_max_size", "200000")
	for _, ns := range []*capturetest.Namespace{n.client, n.server} {
		ns.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
	}
	addresses(n.client, "c0", "fd00:1::1/64")
	addresses(n.server, "s0", "fd00:1::2/64")
	neighbours(t, n.client, "c0", n.server, "s0", "fd00:1::2")
	neighbours(t, n.server, "s0", n.client, "c0", "fd00:1::1")

	p := serve(t, n.router, "--interface=r0", "--capture=afpacket", "--packets", "--monitor-subnets=fd00::/16")
	file, merged := tcpdump(t, n.server, "s0"), tcpdump(t, n.router, "r0")
	n.iperfServer(t)
	n.client.Run("iperf3", "-J", "-w300K", "-n20M", "-c", "fd00:1::2")
	eventually(t, func() error {
		want, _ := counted(t, file)
		return same(hosts(t, p.get("/metrics")), want)
	})
	if _, longest := counted(t, merged); longest <= 65535+14 {
		t.Errorf("the longest frame had %d bytes: no BIG TCP, the test shows nothing", longest)
	}
}

// network is a client (10.1.0.1, 10.66.0.1, fd00:1::1), a router with r0 towards it, and a server (10.2.0.2, fd00:2::2).
type network struct{ client, router, server *capturetest.Namespace }

// newLinks joins the three.
func newLinks(t *testing.T) network {
	n := network{capturetest.NewNamespace(t), capturetest.NewNamespace(t), capturetest.NewNamespace(t)}
	n.client.Veth("c0", n.router, "r0")
	n.router.Veth("r1", n.server, "s0")

	// The server receives and sends packet by packet; what it sends, the router merges.
	n.server.Run("ethtool", "-K", "s0", "tso", "off", "gso", "off", "gro", "off", "tx-udp-segmentation", "off")
	n.router.Run("ethtool", "-K", "r1", "tso", "off", "gso", "off", "gro", "on", "tx-udp-segmentation", "off")
	return n
}

func newNetwork(t *testing.T, vlan bool) network {
	n := newLinks(t)
	if vlan {
		tagLink(t, n.client, "c0")
		tagLink(t, n.router, "r0")
	}
	for _, ns := range []*capturetest.Namespace{n.client, n.router, n.server} {
		ns.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	}
	addresses(n.client, "c0", "10.1.0.1/24", "10.66.0.1/24", "fd00:1::1/64")
	addresses(n.router, "r0", "10.1.0.254/24", "10.66.0.254/24", "fd00:1::fe/64")
	addresses(n.router, "r1", "10.2.0.254/24", "fd00:2::fe/64")
	addresses(n.server, "s0", "10.2.0.2/24", "fd00:2::2/64")
	// With their neighbours known, IPv6 hosts ask for nobody: on the links is what the test sends.
	neighbours(t, n.client, "c0", n.router, "r0", "10.1.0.254", "fd00:1::fe")
	neighbours(t, n.router, "r0", n.client, "c0", "10.1.0.1", "10.66.0.1", "fd00:1::1")
	neighbours(t, n.router, "r1", n.server, "s0", "10.2.0.2", "fd00:2::2")
	neighbours(t, n.server, "s0", n.router, "r1", "10.2.0.254", "fd00:2::fe")
	n.client.IP("route", "add", "10.2.0.0/24", "via", "10.1.0.254")
	n.client.IP("route", "add", "fd00:2::/64", "via", "fd00:1::fe")
	n.server.IP("route", "add", "default", "via", "10.2.0.254")
	n.server.IP("route", "add", "default", "via", "fd00:2::fe")
	return n
}

// tagLink has a device send everything in VLAN 7, and take the tag from what it receives, behind where promflow captures.
func tagLink(t *testing.T, ns *capturetest.Namespace, device string) {
	t.Helper()
	const next = -1 // TCX_NEXT
	push := asm.Instructions{
		asm.Mov.Imm(asm.R2, int32(binary.NativeEndian.Uint16([]byte{0x81, 0x00}))),
		asm.Mov.Imm(asm.R3, 7),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Imm(asm.R0, next),
		asm.Return(),
	}
	pop := asm.Instructions{asm.FnSkbVlanPop.Call(), asm.Mov.Imm(asm.R0, next), asm.Return()}
	for at, instructions := range map[ebpf.AttachType]asm.Instructions{ebpf.AttachTCXEgress: push, ebpf.AttachTCXIngress: pop} {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: instructions, License: "GPL"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { program.Close() })
		err = ns.Do(func() error {
			iface, err := net.InterfaceByName(device)
			if err != nil {
				return err
			}
			attached, err := link.AttachTCX(link.TCXOptions{Interface: iface.Index, Program: program, Attach: at})
			if err == nil {
				t.Cleanup(func() { attached.Close() })
			}
			return err
		})
		if errors.Is(err, ebpf.ErrNotSupported) {
			capturetest.Lacks(t, "Linux 6.6, for tcx")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// addresses gives a device addresses, which it may use at once.
func addresses(ns *capturetest.Namespace, device string, addresses ...string) {
	for _, a := range addresses {
		args := []string{"addr", "add", a, "dev", device}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		ns.IP(args...)
	}
}

// neighbours tells ns the link-layer address of the peer's device for the peer's addresses.
func neighbours(t *testing.T, ns *capturetest.Namespace, device string, peer *capturetest.Namespace, peerDevice string, addresses ...string) {
	t.Helper()
	var links []struct{ Address string }
	if err := json.Unmarshal([]byte(peer.IP("-j", "link", "show", peerDevice)), &links); err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ns.IP("neigh", "replace", a, "lladdr", links[0].Address, "dev", device, "nud", "permanent")
	}
}

// tcpdump captures what a device sends and receives, frame by frame, to a file until the test ends.
func tcpdump(t *testing.T, ns *capturetest.Namespace, device string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), device+".pcap")
	cmd := ns.Command("tcpdump", "-i", device, "-s", "128", "-B", "65536", "--immediate-mode", "-Z", "root", "-U", "-w", file)
	ready := newLineWaiter("listening on")
	cmd.Stderr = ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if !strings.Contains(ready.String(), "\n0 packets dropped by kernel") {
			t.Errorf("tcpdump is no reference: %s", ready)
		}
	})
	ready.wait(t)
	return file
}

// counted adds up what is in a file that tcpdump is writing, as gopacket reads it, without what is excluded.
func counted(t *testing.T, file string) (all map[string]counts, longest int) {
	t.Helper()
	all = map[string]counts{}
	for data, size := range frames(t, file) {
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		var from, to net.IP
		var length int64
		switch ip := p.NetworkLayer().(type) {
		case *layers.IPv4:
			from, to, length = ip.SrcIP, ip.DstIP, int64(ip.Length)
		case *layers.IPv6:
			from, to, length = ip.SrcIP, ip.DstIP, 40+int64(ip.Length)
		default:
			continue
		}
		if from.IsLinkLocalUnicast() || to.IsMulticast() { // neighbour discovery, IGMP and the like
			continue
		}
		src, dst := from.String(), to.String()
		if strings.HasPrefix(src, "10.66.") || strings.HasPrefix(dst, "10.66.") {
			continue
		}
		longest = max(longest, size)
		sent, received := all[src], all[dst]
		sent.transmitBytes += length
		sent.transmitPackets++
		received.receiveBytes += length
		received.receivePackets++
		all[src], all[dst] = sent, received // the same address twice does not occur
	}
	return all, longest
}

// tagged counts the frames of VLAN 7 in a file of tcpdump's, which puts a tag back that the kernel took out.
func tagged(t *testing.T, file string) (n int) {
	t.Helper()
	for data := range frames(t, file) {
		if strings.HasPrefix(string(data[12:]), "\x81\x00\x00\x07") {
			n++
		}
	}
	return n
}

// frames gives the frames of a file that tcpdump is writing, as far as it has got, and their lengths on the wire.
func frames(t *testing.T, file string) iter.Seq2[[]byte, int] {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func([]byte, int) bool) {
		for {
			data, info, err := r.ReadPacketData()
			if err != nil || !yield(data, info.Length) { // the rest is still to be written
				return
			}
		}
	}
}

// seenByRouter is how many frames, merged or not, r0 has received and sent.
func (n network) seenByRouter(t *testing.T) int64 {
	t.Helper()
	var links []struct {
		Stats64 struct{ Rx, Tx struct{ Packets int64 } }
	}
	if err := json.Unmarshal([]byte(n.router.IP("-s", "-j", "link", "show", "r0")), &links); err != nil {
		t.Fatal(err)
	}
	return links[0].Stats64.Rx.Packets + links[0].Stats64.Tx.Packets
}

// iperfServer runs until the test ends.
func (n network) iperfServer(t *testing.T) {
	t.Helper()
	cmd := n.server.Command("iperf3", "-s", "--forceflush")
	ready := newLineWaiter("Server listening")
	cmd.Stdout = ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	ready.wait(t)
}
