package e2e

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// network is a client (10.1.0.1, 10.66.0.1, fd00:1::1), a router with r0 towards it, and a server (10.2.0.2, fd00:2::2).
type network struct{ client, router, server *nettest.Namespace }

// joint is a way to join the client's device c0 and the router's r0, which it makes. On r0, every frame has the tags.
type joint func(t *testing.T, n network, tags []vlan)

// newLinks joins the three.
func newLinks(t *testing.T, join joint, tags ...vlan) network {
	t.Helper()
	n := network{nettest.NewNamespace(t), nettest.NewNamespace(t), nettest.NewNamespace(t)}
	join(t, n, tags)
	n.router.Veth("r1", n.server, "s0")

	// The server receives and sends packet by packet; what it sends, the router merges.
	n.server.Run("ethtool", "-K", "s0", "tso", "off", "gso", "off", "gro", "off", "tx-udp-segmentation", "off")
	n.router.Run("ethtool", "-K", "r1", "tso", "off", "gso", "off", "gro", "on", "tx-udp-segmentation", "off")
	return n
}

func newNetwork(t *testing.T, join joint, tags ...vlan) network {
	t.Helper()
	n := newLinks(t, join, tags...)
	for _, ns := range []*nettest.Namespace{n.client, n.router, n.server} {
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

// joinByVeth has a pair of Ethernet devices that leave splitting to whoever comes next.
func joinByVeth(t *testing.T, n network, tags []vlan) {
	t.Helper()
	n.client.Veth("c0", n.router, "r0")
	if len(tags) > 0 {
		tagDevice(t, n.client, "c0", tags)
		tagDevice(t, n.router, "r0", tags)
	}
}

// joinByTun has devices without link header, whose other side takes merged segments.
func joinByTun(t *testing.T, n network, _ []vlan) {
	t.Helper()
	joinByWire(t, n, unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
}

// joinByPlainTun has devices without link header, whose other side takes packets.
func joinByPlainTun(t *testing.T, n network, _ []vlan) {
	t.Helper()
	joinByWire(t, n, unix.IFF_TUN|unix.IFF_NO_PI)
}

// joinByWire makes both tun devices and copies between them.
func joinByWire(t *testing.T, n network, flags uint16) {
	t.Helper()
	c0, r0 := n.client.Tun("c0", flags), n.router.Tun("r0", flags)
	wire(t, c0, r0)
	wire(t, r0, c0)
}

// wire copies what one device sends to another, which receives it, until the test ends.
func wire(t *testing.T, from, to *os.File) {
	ended := make(chan error, 1)
	go func() {
		for buf := make([]byte, 1<<17); ; {
			n, err := from.Read(buf)
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		from.Close()
		if err := <-ended; !errors.Is(err, os.ErrClosed) {
			t.Errorf("the wire broke: %v", err)
		}
	})
}

// vlan is a tag of a frame.
type vlan struct{ etherType, id uint16 }

// header is what stands between a frame's addresses and its EtherType.
func header(tags []vlan) []byte {
	var b []byte
	for _, tag := range tags {
		b = binary.BigEndian.AppendUint16(b, tag.etherType)
		b = binary.BigEndian.AppendUint16(b, tag.id)
	}
	return b
}

// tagDevice has a device send everything with tags, and take them from what it receives, behind where promflow captures.
func tagDevice(t *testing.T, ns *nettest.Namespace, device string, tags []vlan) {
	t.Helper()
	push := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	pop := slices.Clone(push)
	for _, tag := range slices.Backward(tags) {
		push = append(push,
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, tag.etherType)))),
			asm.Mov.Imm(asm.R3, int32(tag.id)),
			asm.FnSkbVlanPush.Call())
		pop = append(pop, asm.Mov.Reg(asm.R1, asm.R6), asm.FnSkbVlanPop.Call())
	}
	verdict := asm.Instructions{asm.Mov.Imm(asm.R0, int32(netlink.TC_ACT_OK)), asm.Return()}
	filter(t, ns, device, netlink.HANDLE_MIN_EGRESS, append(push, verdict...))
	filter(t, ns, device, netlink.HANDLE_MIN_INGRESS, append(pop, verdict...))
}

// classifier loads a program for packets, until the end of the test.
func classifier(t *testing.T, spec ebpf.ProgramSpec) *ebpf.Program {
	t.Helper()
	spec.Type, spec.License = ebpf.SchedCLS, "GPL"
	program, err := ebpf.NewProgram(&spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

// filter has a program decide on what a device receives or sends.
func filter(t *testing.T, ns *nettest.Namespace, device string, at uint32, instructions asm.Instructions) {
	t.Helper()
	program := classifier(t, ebpf.ProgramSpec{Instructions: instructions})
	err := ns.Do(func() error {
		iface, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: iface.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs:  netlink.FilterAttrs{LinkIndex: iface.Index, Parent: at, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
			Fd:           program.FD(),
			Name:         "test",
			DirectAction: true,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// addresses gives a device addresses, which it may use at once.
func addresses(ns *nettest.Namespace, device string, addresses ...string) {
	for _, a := range addresses {
		args := []string{"addr", "add", a, "dev", device}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		ns.IP(args...)
	}
}

// neighbours tells ns the link-layer address of the peer's device, if it has one, for the peer's addresses.
func neighbours(t *testing.T, ns *nettest.Namespace, device string, peer *nettest.Namespace, peerDevice string, addresses ...string) {
	t.Helper()
	var links []struct{ Address string }
	if err := json.Unmarshal([]byte(peer.IP("-j", "link", "show", peerDevice)), &links); err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if links[0].Address != "" {
			ns.IP("neigh", "replace", a, "lladdr", links[0].Address, "dev", device, "nud", "permanent")
		}
	}
}

// moved is how many frames, merged or not, have passed the router's r0 and the server's s0.
type moved struct{ r0, s0 int64 }

func (n network) frames(t *testing.T) moved {
	t.Helper()
	of := func(ns *nettest.Namespace, device string) int64 {
		var links []struct {
			Stats64 struct{ Rx, Tx struct{ Packets int64 } }
		}
		if err := json.Unmarshal([]byte(ns.IP("-s", "-j", "link", "show", device)), &links); err != nil {
			t.Fatal(err)
		}
		return links[0].Stats64.Rx.Packets + links[0].Stats64.Tx.Packets
	}
	return moved{of(n.router, "r0"), of(n.server, "s0")}
}

// mustHaveMerged checks that r0 has had clearly fewer frames than s0, where every packet is one.
func (n network) mustHaveMerged(t *testing.T, before moved) {
	t.Helper()
	now := n.frames(t)
	r0, s0 := now.r0-before.r0, now.s0-before.s0
	if r0 > s0*9/10 {
		t.Errorf("the router's interface saw %d frames for %d packets: none was merged, the test shows nothing", r0, s0)
	}
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
