package detour

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// look is what there is in a namespace.
func look(t *testing.T, ns *nettest.Namespace) (n *Namespace) {
	t.Helper()
	if err := ns.Do(func() error { n = Look(); return errors.Join(n.FlowtablesErr, n.IPsecErr) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLinks has devices on top of each other, and one whose parent is elsewhere.
func TestLinks(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("lan1", there, "there")
	here.IP("link", "add", "br-lan", "type", "bridge")
	here.IP("link", "set", "lan1", "master", "br-lan")
	index := func(name string) int { return here.Interface(name).Index }
	has := func(t *testing.T, all ...link) {
		t.Helper()
		n := look(t, here)
		for _, want := range all {
			if !slices.Contains(n.links, want) {
				t.Errorf("no %+v among %+v", want, n.links)
			}
		}
	}
	has(t, link{"lo", 1, "device", 0, 0, ""}, link{"lan1", index("lan1"), "veth", index("br-lan"), 0, ""},
		link{"br-lan", index("br-lan"), "bridge", 0, 0, ""})
	for _, c := range []struct{ name, kind, option, value string }{{"br-lan.7", "vlan", "id", "7"}, {"red", "vrf", "table", "10"}} {
		t.Run(c.kind, func(t *testing.T) {
			args := []string{"ip", "link", "add", "link", "br-lan", "name", c.name, "type", c.kind, c.option, c.value}
			parent := index("br-lan")
			if c.kind == "vrf" {
				args, parent = append(args[:3], args[5:]...), 0
			}
			if out, err := here.Command(args...).CombinedOutput(); err != nil {
				nettest.KernelLacks(t, c.kind+": "+string(out))
			}
			has(t, link{c.name, index(c.name), c.kind, 0, parent, ""})
		})
	}
}

// TestFlowtablesOfThisKernel lists real ones.
func TestFlowtablesOfThisKernel(t *testing.T) {
	ns, peer := nettest.NewNamespace(t), nettest.NewNamespace(t)
	ns.Veth("lan1", peer, "lan1")
	ns.Veth("wan", peer, "wan")
	nettest.NewFlowtable(ns, "inet", "fw4", "ft", "lan1", "wan")
	nettest.NewFlowtable(ns, "ip", "other", "empty")
	nettest.NewFlowtable(ns, "ip6", "other", "six", "wan")
	want := []flowtable{{name: "inet fw4 ft", devices: []string{"lan1", "wan"}}, {name: "ip other empty"}, {name: "ip6 other six", devices: []string{"wan"}}}
	got := look(t, ns).flowtables
	for _, f := range got {
		slices.Sort(f.devices)
	}
	slices.SortFunc(got, func(a, b flowtable) int { return strings.Compare(a.name, b.name) })
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestTunnelsOfThisKernel lists real policies.
func TestTunnelsOfThisKernel(t *testing.T) {
	ns, peer := nettest.NewNamespace(t), nettest.NewNamespace(t)
	ns.Veth("wan", peer, "there")
	ns.IP("addr", "add", "192.0.2.1/24", "dev", "wan")
	policy := func(args string) {
		ns.IP(append([]string{"xfrm", "policy", "add"}, strings.Fields(args)...)...)
	}
	const esp, reversed = "tmpl src 192.0.2.2 dst 192.0.2.1 proto esp mode tunnel", "tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel"
	policy("src 10.2.0.0/24 dst 10.1.0.0/24 dir in " + esp)
	policy("src 10.2.0.0/24 dst 10.1.0.0/24 dir fwd " + esp)
	policy("src 10.1.0.0/24 dst 10.2.0.0/24 dir out " + reversed)
	policy("src fd00:2::/64 dst fd00:1::/64 dir fwd " + esp)
	policy("src 0.0.0.0/0 dst 10.1.0.9/32 dir in tmpl src 198.51.100.1 dst 192.0.2.1 proto esp mode tunnel") // no route leads there
	policy("src 10.3.0.0/24 dst 10.1.0.0/24 dir in tmpl proto comp mode tunnel level use tmpl proto esp mode transport")
	policy("src 10.4.0.0/24 dst 10.1.0.0/24 dir in if_id 42 " + esp)
	policy("src 192.0.2.2/32 dst 192.0.2.1/32 dir in tmpl proto esp mode transport")
	policy("src 10.5.0.0/24 dst 10.1.0.0/24 dir in action block")
	policy("src 10.6.0.0/24 dst 10.1.0.0/24 dir in")
	prefix, wan := netip.MustParsePrefix, ns.Interface("wan").Index
	want := []tunnel{
		{prefix("10.2.0.0/24"), prefix("10.1.0.0/24"), wan},
		{prefix("fd00:2::/64"), prefix("fd00:1::/64"), wan},
		{prefix("0.0.0.0/0"), prefix("10.1.0.9/32"), 0},
		{prefix("10.3.0.0/24"), prefix("10.1.0.0/24"), 0},
	}
	n := look(t, ns)
	for _, w := range want {
		if !slices.Contains(n.tunnels, w) {
			t.Errorf("no %+v", w)
		}
	}
	if len(n.tunnels) != len(want) {
		t.Errorf("got %+v, want %+v", n.tunnels, want)
	}
	all := subnets.Of(prefix("0.0.0.0/0"), prefix("::/0"))
	if d, ok := n.Decryption("wan", all, subnets.Set{}); !ok || d.List() != "10.1.0.9/32,10.2.0.0/24,10.3.0.0/24,fd00:2::/64" {
		t.Errorf("on wan: %v, %v", d.List(), ok)
	}

	t.Run("vti", func(t *testing.T) {
		args := []string{"ip", "link", "add", "vti7", "up", "type", "vti", "local", "192.0.2.1", "remote", "192.0.2.2", "key", "7"}
		if out, err := ns.Command(args...).CombinedOutput(); err != nil {
			nettest.KernelLacks(t, "VTIs: "+string(out))
		}
		policy("src 10.7.0.0/24 dst 10.1.0.0/24 dir in mark 7 " + esp)
		if got := look(t, ns).tunnels; !slices.Equal(got, n.tunnels) {
			t.Errorf("with a VTI and its policy got %+v, want %+v", got, n.tunnels)
		}
	})
}

// TestLookWithoutCapability has nothing but what everybody may see.
func TestLookWithoutCapability(t *testing.T) {
	ns, peer := nettest.NewNamespace(t), nettest.NewNamespace(t)
	ns.Veth("here", peer, "there")
	look(t, ns) // loads what there is of modules
	var n *Namespace
	err := ns.Do(func() error {
		// Of this thread, which ends.
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		none := make([]unix.CapUserData, 2)
		if err := unix.Capset(&header, &none[0]); err != nil {
			return err
		}
		n = Look()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.links) != 2 {
		t.Errorf("the interfaces are %+v", n.links)
	}
	for protocol, err := range map[int]error{unix.NETLINK_NETFILTER: n.FlowtablesErr, unix.NETLINK_XFRM: n.IPsecErr} {
		if answers(protocol) != errors.Is(err, unix.EPERM) {
			t.Errorf("netlink protocol %d, which the kernel speaks (%v): %v", protocol, answers(protocol), err)
		}
	}
}

// TestPolicyOfVTI has policies for packets that a VTI receives, and others.
func TestPolicyOfVTI(t *testing.T) {
	addr := netip.MustParseAddr
	p := policy{remote: addr("192.0.2.2"), own: addr("192.0.2.1"), mark: 7}
	up := netlink.LinkAttrs{Flags: net.FlagUp}
	here, there := net.IP{192, 0, 2, 1}, net.IP{192, 0, 2, 2}
	for _, c := range []struct {
		name string
		link netlink.Link
		want bool
	}{
		{"both ends and the key", &netlink.Vti{LinkAttrs: up, Local: here, Remote: there, IKey: 7}, true},
		{"any other end", &netlink.Vti{LinkAttrs: up, Local: here, Remote: net.IPv4zero.To4(), IKey: 7}, true},
		{"no ends", &netlink.Vti{LinkAttrs: up, IKey: 7}, true},
		{"down", &netlink.Vti{Local: here, Remote: there, IKey: 7}, false},
		{"another key", &netlink.Vti{LinkAttrs: up, Local: here, Remote: there, IKey: 8}, false},
		{"another end", &netlink.Vti{LinkAttrs: up, Local: here, Remote: net.IP{192, 0, 2, 3}, IKey: 7}, false},
		{"another start", &netlink.Vti{LinkAttrs: up, Local: net.IP{192, 0, 2, 9}, Remote: there, IKey: 7}, false},
		{"no VTI", &netlink.Gretun{LinkAttrs: up, Local: here, Remote: there, IKey: 7}, false},
	} {
		if got := p.isOf(c.link); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
