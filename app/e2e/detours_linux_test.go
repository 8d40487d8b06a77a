package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"promflow/app/live"
	"promflow/capture/nettest"
)

// TestFlowtables has a router forward datagrams and their answers by a flowtable. What promflow warns of is what lacks packets, and no
// other interface does. Backends take turns: they see packets at the same place.
func TestFlowtables(t *testing.T) {
	vlans := func(n network) {
		n.router.IP("link", "add", "link", "wan", "name", "wan.7", "up", "type", "vlan", "id", "7")
		n.server.IP("link", "add", "link", "s0", "name", "s0.7", "up", "type", "vlan", "id", "7")
	}
	bridge := func(n network, port string) {
		n.router.IP("link", "add", "br-lan", "up", "type", "bridge")
		n.router.IP("link", "set", port, "master", "br-lan")
	}
	for i, c := range []struct {
		name             string
		join             func(network)
		lan, wan, server string   // the devices with addresses; lan1, wan and s0 if empty
		offloaded        []string // in the flowtable
		captured         string
		warned           map[string]string // the ports that are named, by interface
		before5_13       bool              // packets are missing on older kernels, too
	}{
		{name: "ports", offloaded: []string{"lan1", "wan"}, captured: "lan1,wan"},
		{name: "ports of a bridge", join: func(n network) { bridge(n, "lan1") }, lan: "br-lan",
			offloaded: []string{"lan1", "wan"}, captured: "br-lan,lan1,wan", warned: map[string]string{"br-lan": "lan1"}},
		{name: "a bridge itself", join: func(n network) { bridge(n, "lan1") }, lan: "br-lan",
			offloaded: []string{"br-lan", "wan"}, captured: "br-lan,lan1,wan"},
		{name: "a bridge and its ports", join: func(n network) { bridge(n, "lan1") }, lan: "br-lan",
			offloaded: []string{"br-lan", "lan1", "wan"}, captured: "br-lan,lan1,wan", warned: map[string]string{"br-lan": "lan1"}},
		{name: "ports of a bridge with VLANs", lan: "br-lan.10",
			join: func(n network) {
				bridge(n, "lan1")
				n.router.IP("link", "set", "br-lan", "type", "bridge", "vlan_filtering", "1")
				n.router.Run("bridge", "vlan", "add", "vid", "10", "dev", "lan1", "pvid", "untagged")
				n.router.Run("bridge", "vlan", "add", "vid", "10", "dev", "br-lan", "self")
				n.router.IP("link", "add", "link", "br-lan", "name", "br-lan.10", "up", "type", "vlan", "id", "10")
			},
			offloaded: []string{"lan1", "wan"}, captured: "br-lan,br-lan.10,lan1,wan", warned: map[string]string{"br-lan": "lan1", "br-lan.10": "lan1"}},
		{name: "a port with a VLAN", join: vlans, wan: "wan.7", server: "s0.7",
			offloaded: []string{"lan1", "wan"}, captured: "lan1,wan,wan.7", warned: map[string]string{"wan.7": "wan"}},
		{name: "a VLAN itself", join: vlans, wan: "wan.7", server: "s0.7", offloaded: []string{"lan1", "wan.7"}, captured: "lan1,wan,wan.7"},
		{name: "slaves of a VRF",
			join: func(n network) {
				n.router.IP("link", "add", "red", "up", "type", "vrf", "table", "10")
				n.router.IP("link", "set", "lan1", "master", "red")
				n.router.IP("link", "set", "wan", "master", "red")
			},
			offloaded: []string{"lan1", "wan"}, captured: "red,lan1,wan", warned: map[string]string{"red": "lan1,wan"}, before5_13: true},
		{name: "a bond's slave", join: func(n network) { bond(n); bridge(n, "bond0") }, lan: "br-lan",
			offloaded: []string{"lan1", "wan"}, captured: "br-lan,bond0,lan1,wan"},
		{name: "a bond", join: func(n network) { bond(n); bridge(n, "bond0") }, lan: "br-lan",
			offloaded: []string{"bond0", "wan"}, captured: "br-lan,bond0,lan1,wan", warned: map[string]string{"br-lan": "bond0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := network{nettest.NewNamespace(t), nettest.NewNamespace(t), nettest.NewNamespace(t)}
			n.client.Veth("c0", n.router, "lan1")
			n.router.Veth("wan", n.server, "s0")
			needKinds(t, n.router, "vlan", "vrf", "bond")
			if c.join != nil {
				c.join(n)
			}
			or := func(name, other string) string {
				if name == "" {
					return other
				}
				return name
			}
			addresses(n.client, "c0", "10.1.0.2/24")
			addresses(n.router, or(c.lan, "lan1"), "10.1.0.1/24")
			addresses(n.router, or(c.wan, "wan"), "10.2.0.1/24")
			addresses(n.server, or(c.server, "s0"), "10.2.0.2/24")
			n.router.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")
			n.client.IP("route", "add", "default", "via", "10.1.0.1")
			n.server.IP("route", "add", "default", "via", "10.2.0.1")
			nettest.NewFlowtable(n.router, "inet", "fw4", "ft", c.offloaded...)
			n.exchange(t, 1) // until neighbours know each other

			p := serve(t, n.router, "--interface="+c.captured, "--monitor-subnets=10.1.0.2", "--capture="+live.Backends()[i%len(live.Backends())])
			said := map[string]string{}
			for _, m := range flowtableWarning.FindAllStringSubmatch(p.log.String(), -1) {
				said[m[1]] = m[2]
			}
			if !maps.Equal(said, c.warned) {
				t.Errorf("warned of %v, want %v: %s", said, c.warned, p.log)
			}
			const datagrams = 50
			n.exchange(t, datagrams)
			for _, name := range strings.Split(c.captured, ",") {
				_, lacks := c.warned[name]
				lacks = lacks && (c.before5_13 || looksThrough(t))
				eventually(t, func() error {
					got := sample(t, p.get("/metrics"), fmt.Sprintf(`promflow_capture_packets_total{interface="%s",outcome="counted"}`, name))
					if lacks && got < 2*datagrams || !lacks && got == 2*datagrams {
						return nil
					}
					return fmt.Errorf("saw %v of %d packets on %s, want less: %v", got, 2*datagrams, name, lacks)
				})
			}
		})
	}
}

var flowtableWarning = regexp.MustCompile(`flowtable forwards.* interface=(\S+) flowtable="inet fw4 ft" ports=(\S+)`)

func TestCheckOfFlowtables(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("lan1", there, "lan1")
	here.Veth("lan2", there, "lan2")
	here.IP("link", "add", "br-lan", "up", "type", "bridge")
	here.IP("link", "set", "lan1", "master", "br-lan")
	here.IP("link", "set", "lan2", "master", "br-lan")
	nettest.NewFlowtable(here, "inet", "fw4", "ft", "lan1")
	r := finishes(t, inside(t, here, "check", "--interface=br-lan,lan1"), 0)
	r.want(t, "flowtables", "warning", "inet fw4 ft forwards packets past this interface; its ports see them: capture with --interface=lan1,lan2 instead")
	finishes(t, inside(t, here, "check", "--interface=lan1"), 0).want(t, "flowtables", "ok", "none forwards packets past")
}

// bond makes the router's bond0 of lan1.
func bond(n network) {
	n.router.IP("link", "add", "bond0", "up", "type", "bond", "mode", "balance-xor")
	n.router.IP("link", "set", "lan1", "down")
	n.router.IP("link", "set", "lan1", "master", "bond0")
}

// TestRedirectedPastAPodsDevice has a node hand on a pod's packets as Cilium does with BPF host routing: what arrives by the network card goes
// right into the pod, past the pod's device on the node (bpf_redirect_peer), and what the pod sends right to the card. By veth the device still
// sees that; by netkit, which redirects as the pod sends, it sees nothing.
func TestRedirectedPastAPodsDevice(t *testing.T) {
	const datagrams = 50
	for _, c := range []struct {
		device string
		join   func(*testing.T, network)
		want   map[string]int // packets on each device
	}{
		{"veth", joinPodByVeth, map[string]int{"wan": 2 * datagrams, "lxc0": datagrams}},
		{"netkit", joinPodByNetkit, map[string]int{"wan": 2 * datagrams, "lxc0": 0}},
	} {
		t.Run(c.device, func(t *testing.T) {
			n := network{nettest.NewNamespace(t), nettest.NewNamespace(t), nettest.NewNamespace(t)}
			n.router.Veth("wan", n.server, "s0")
			c.join(t, n)
			addresses(n.client, "c0", "10.1.0.2/24")
			addresses(n.router, "lxc0", "10.1.0.1/24")
			addresses(n.router, "wan", "10.2.0.1/24")
			addresses(n.server, "s0", "10.2.0.2/24")
			n.client.IP("route", "add", "default", "via", "10.1.0.1")
			n.server.IP("route", "add", "default", "via", "10.2.0.1")
			neighbours(t, n.server, "s0", n.router, "wan", "10.2.0.1")
			neighbours(t, n.router, "wan", n.server, "s0", "10.2.0.2")
			filter(t, n.router, "wan", netlink.HANDLE_MIN_INGRESS, asm.Instructions{
				asm.Mov.Imm(asm.R1, int32(n.router.Interface("lxc0").Index)),
				asm.Mov.Imm(asm.R2, 0),
				asm.FnRedirectPeer.Call(),
				asm.Return(),
			})

			backends := live.Backends()
			if testing.Short() { // in a guest, loading a program takes long; backends see packets at the same place
				backends = []string{"afpacket"}
			}
			all := serveBackends(t, n.router, backends, "--interface=lxc0,wan", "--monitor-subnets=10.1.0.2")
			n.exchange(t, datagrams)
			for backend, p := range all {
				for device, want := range c.want {
					eventually(t, func() error {
						if got := sample(t, p.get("/metrics"), fmt.Sprintf(`promflow_capture_packets_total{interface="%s",outcome="counted"}`, device)); got != float64(want) {
							return fmt.Errorf("%s saw %v packets on %s, want %d", backend, got, device, want)
						}
						return nil
					})
				}
			}
		})
	}
}

// toTheCard are the instructions of a program that sends a packet right out of the node's network card.
func toTheCard(n network) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(n.router.Interface("wan").Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return(),
	}
}

func joinPodByVeth(t *testing.T, n network) {
	t.Helper()
	n.client.Veth("c0", n.router, "lxc0")
	neighbours(t, n.client, "c0", n.router, "lxc0", "10.1.0.1")
	filter(t, n.router, "lxc0", netlink.HANDLE_MIN_INGRESS, toTheCard(n))
}

// joinPodByNetkit makes the pair as Cilium does, without link-layer addresses.
func joinPodByNetkit(t *testing.T, n network) {
	t.Helper()
	pair := &netlink.Netkit{LinkAttrs: netlink.NewLinkAttrs(), Mode: netlink.NETKIT_MODE_L3}
	pair.Name = "lxc0"
	peer := netlink.NewLinkAttrs()
	peer.Name = "c0"
	err := n.router.Do(func() error {
		pair.SetPeerAttrs(&peer)
		return netlink.LinkAdd(pair)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		nettest.KernelLacks(t, "netkit devices")
	}
	nettest.Check(t, err)
	n.router.IP("link", "set", "c0", "netns", n.client.Name)
	n.router.IP("link", "set", "lxc0", "up")
	n.client.IP("link", "set", "c0", "up")
	program := classifier(t, ebpf.ProgramSpec{AttachType: ebpf.AttachNetkitPeer, Instructions: toTheCard(n)})
	var attached link.Link
	nettest.Check(t, n.router.Do(func() (err error) {
		attached, err = link.AttachNetkit(link.NetkitOptions{
			Interface: n.router.Interface("lxc0").Index, Program: program, Attach: ebpf.AttachNetkitPeer})
		return err
	}))
	t.Cleanup(func() { attached.Close() })
}

// needKinds skips the test unless the kernel has such devices.
func needKinds(t *testing.T, ns *nettest.Namespace, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		options := map[string][]string{"vlan": {"id", "9"}, "vrf": {"table", "9"}}[kind]
		args := append([]string{"ip", "link", "add", "link", "wan", "name", "try0", "type", kind}, options...)
		if kind != "vlan" {
			args = slices.Delete(args, 3, 5)
		}
		if out, err := ns.Command(args...).CombinedOutput(); err != nil {
			nettest.KernelLacks(t, "devices of type "+kind+": "+string(out))
		}
		ns.IP("link", "del", "try0")
	}
}

// looksThrough tells whether the kernel's flowtables look through bridges and VLANs, as those of Linux 5.13 and newer do.
func looksThrough(t *testing.T) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 5 || major == 5 && minor >= 13
}

// exchange has the client send datagrams of one connection, each of which the server answers before the next.
func (n network) exchange(t *testing.T, datagrams int) {
	t.Helper()
	var server net.PacketConn
	if err := n.server.Do(func() (err error) { server, err = net.ListenPacket("udp", "10.2.0.2:5000"); return err }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var client net.Conn
	if err := n.client.Do(func() (err error) { client, err = net.Dial("udp", "10.2.0.2:5000"); return err }); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		for b := make([]byte, 1500); ; {
			size, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(b[:size], from)
		}
	}()
	client.SetDeadline(time.Now().Add(deadline))
	for b, i := make([]byte, 1000), 0; i < datagrams; i++ {
		if _, err := client.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(b); err != nil {
			t.Fatalf("the answer to datagram %d: %v", i, err)
		}
	}
}

// TestIPsec has a tunnel without an interface of its own. Of what arrives promflow sees each packet encrypted and decrypted, and warns;
// with what it advises each packet counts once.
func TestIPsec(t *testing.T) {
	const pings, plain, encrypted = 10, 1000, 1056
	outer := map[string]counts{
		"192.0.2.1": {pings * encrypted, pings * encrypted, pings, pings},
		"192.0.2.2": {pings * encrypted, pings * encrypted, pings, pings},
	}
	twice := map[string]counts{"10.1.0.1": {receiveBytes: pings * plain, receivePackets: pings}, "10.2.0.1": {transmitBytes: pings * plain, transmitPackets: pings}}
	maps.Copy(twice, outer)
	apart := map[string]counts{"10.1.0.1": {pings * plain, pings * plain, pings, pings}, "10.2.0.1": {pings * plain, pings * plain, pings, pings}}
	maps.Copy(apart, outer)
	for _, c := range []struct {
		name   string
		ifID   bool // there is an xfrm interface
		args   []string
		warned string // with these subnets
		want   map[string]counts
	}{
		{"plain", false, []string{"--interface=wan"}, "10.2.0.0/24", twice},
		{"excluded", false, []string{"--interface=wan", "--exclude-subnets=10.2.0.0/24"}, "", outer},
		{"an xfrm interface", true, []string{"--interface=wan,xfrm0"}, "", apart},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("wan", there, "wan")
			here.IP("addr", "add", "192.0.2.1/24", "dev", "wan")
			there.IP("addr", "add", "192.0.2.2/24", "dev", "wan")
			here.IP("addr", "add", "10.1.0.1/32", "dev", "lo")
			there.IP("addr", "add", "10.2.0.1/32", "dev", "lo")
			id := func(ns *nettest.Namespace) []string {
				if c.ifID && ns == here {
					return []string{"if_id", "42"}
				}
				return nil
			}
			ends := func(ns *nettest.Namespace, src, dst string) {
				key := []string{"aead", "rfc4106(gcm(aes))", "0x0102030405060708090a0b0c0d0e0f1011121314", "128"}
				args := append([]string{"ip", "xfrm", "state", "add", "src", src, "dst", dst, "proto", "esp", "spi", "0x100", "mode", "tunnel"}, key...)
				if out, err := ns.Command(append(args, id(ns)...)...).CombinedOutput(); err != nil {
					nettest.KernelLacks(t, "IPsec's ESP: "+string(out))
				}
			}
			policy := func(ns *nettest.Namespace, direction, from, to, src, dst string) {
				args := append([]string{"xfrm", "policy", "add", "src", from, "dst", to, "dir", direction}, id(ns)...)
				ns.IP(append(args, "tmpl", "src", src, "dst", dst, "proto", "esp", "mode", "tunnel")...)
			}
			for _, ns := range []*nettest.Namespace{here, there} {
				ends(ns, "192.0.2.1", "192.0.2.2")
				ends(ns, "192.0.2.2", "192.0.2.1")
			}
			policy(here, "out", "10.1.0.0/24", "10.2.0.0/24", "192.0.2.1", "192.0.2.2")
			policy(here, "in", "10.2.0.0/24", "10.1.0.0/24", "192.0.2.2", "192.0.2.1")
			policy(there, "out", "10.2.0.0/24", "10.1.0.0/24", "192.0.2.2", "192.0.2.1")
			policy(there, "in", "10.1.0.0/24", "10.2.0.0/24", "192.0.2.1", "192.0.2.2")
			there.IP("route", "add", "10.1.0.0/24", "via", "192.0.2.1", "src", "10.2.0.1")
			if !c.ifID {
				here.IP("route", "add", "10.2.0.0/24", "via", "192.0.2.2", "src", "10.1.0.1")
			} else {
				if out, err := here.Command("ip", "link", "add", "xfrm0", "up", "type", "xfrm", "dev", "wan", "if_id", "42").CombinedOutput(); err != nil {
					nettest.KernelLacks(t, "xfrm interfaces: "+string(out))
				}
				here.IP("route", "add", "10.2.0.0/24", "dev", "xfrm0", "src", "10.1.0.1")
			}

			all := serveEach(t, here, append([]string{"--packets", "--monitor-subnets=0.0.0.0/0"}, c.args...)...)
			here.Run("ping", "-q", "-c", strconv.Itoa(pings), "-i0.01", "-s972", "10.2.0.1")
			all.agree(t, func() (map[string]counts, error) { return c.want, nil })
			for backend, p := range all {
				m := regexp.MustCompile(`by IPsec counts twice.* interface=wan subnets=(\S+)`).FindStringSubmatch(p.log.String())
				if (m != nil) != (c.warned != "") || m != nil && m[1] != c.warned {
					t.Errorf("%s warned of %v, want %q: %s", backend, m, c.warned, p.log)
				}
			}
			r := finishes(t, inside(t, here, append([]string{"check", "--metrics-address=none", "--exporters=none", "--monitor-subnets=0.0.0.0/0"}, c.args...)...), 0)
			if c.warned != "" {
				r.want(t, "ipsec", "warning", "with "+c.warned+" added to --exclude-subnets")
			} else {
				r.want(t, "ipsec", "ok", "")
			}
		})
	}
}
