package watch

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"promflow/capture"
)

func TestOverlaps(t *testing.T) {
	// What there is on a machine, by index.
	devices := map[int]device{}
	for i, d := range []struct {
		name           string
		master, parent int
	}{
		1:  {name: "eth0", master: 3},
		2:  {name: "eth1", master: 3},
		3:  {name: "bond0", master: 4},
		4:  {name: "br0"},
		5:  {name: "br0.7", parent: 4},
		6:  {name: "veth0", parent: 7},
		7:  {name: "veth1", parent: 6},
		8:  {name: "wlan0"},
		9:  {name: "loop0", master: 10},
		10: {name: "loop1", master: 9},
		11: {name: "lost0", master: 99},
		12: {name: "ppp0"},
		13: {name: "eth1.7", parent: 2},
	} {
		if d.name != "" {
			devices[i] = device{Interface: capture.Interface{Name: d.name, Index: i}, master: d.master, parent: d.parent}
		}
	}
	unreported := map[int][]int{12: {13}}
	for _, c := range []struct {
		name     string
		captured []int
		want     []pair
	}{
		{"PPPoE and the VLAN that carries it", []int{12, 13}, []pair{{"eth1.7", "ppp0"}}},
		{"PPPoE and what is below", []int{2, 12}, []pair{{"eth1", "ppp0"}}},
		{"PPPoE and another", []int{1, 12}, nil},
		{"none", nil, nil},
		{"ports of one bridge", []int{1, 2}, nil},
		{"unrelated", []int{1, 8}, nil},
		{"a bond and its slave", []int{1, 3}, []pair{{"bond0", "eth0"}}},
		{"a bridge and a slave of its port", []int{2, 4}, []pair{{"br0", "eth1"}}},
		{"a VLAN and its parent", []int{4, 5}, []pair{{"br0", "br0.7"}}},
		{"a VLAN and a port below", []int{1, 5}, nil},
		{"both ends of a veth", []int{6, 7}, []pair{{"veth1", "veth0"}}},
		{"all of a stack", []int{1, 3, 4}, []pair{{"bond0", "eth0"}, {"br0", "eth0"}, {"br0", "bond0"}}},
		{"a circle", []int{9, 10}, []pair{{"loop1", "loop0"}}},
		{"a master that is not there", []int{11}, nil},
	} {
		if got := overlaps(devices, c.captured, unreported); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// What a tunnel sends by another interface are other packets than those in it.
func TestDeviceOf(t *testing.T) {
	attributes := func(namespace int) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name, a.Index, a.ParentIndex, a.MasterIndex, a.NetNsID, a.EncapType = "x0", 5, 3, 4, namespace, "ether"
		return a
	}
	const here, elsewhere = -1, 0
	for _, c := range []struct {
		link   netlink.Link
		parent int
	}{
		{&netlink.Vlan{LinkAttrs: attributes(here)}, 3},
		{&netlink.Vlan{LinkAttrs: attributes(elsewhere)}, 0},
		{&netlink.Macvlan{LinkAttrs: attributes(here)}, 3},
		{&netlink.IPVlan{LinkAttrs: attributes(here)}, 3},
		{&netlink.Veth{LinkAttrs: attributes(here)}, 3},
		{&netlink.Veth{LinkAttrs: attributes(elsewhere)}, 0},
		{&netlink.Netkit{LinkAttrs: attributes(here)}, 3},
		{&netlink.Netkit{LinkAttrs: attributes(elsewhere)}, 0},
		{&netlink.Gretun{LinkAttrs: attributes(here)}, 0},
		{&netlink.Vxlan{LinkAttrs: attributes(here)}, 0},
		{&netlink.GenericLink{LinkAttrs: attributes(here), LinkType: "dsa"}, 3},
	} {
		if d := deviceOf(c.link); d.parent != c.parent || d.master != 4 || !d.Ethernet || d.Loopback {
			t.Errorf("%s is %+v, want parent %d", c.link.Type(), d, c.parent)
		}
	}
}

func TestSharedBy(t *testing.T) {
	own, another := [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}
	devices := map[int]device{}
	for i, d := range []struct {
		name, kind     string
		address        [6]byte
		master, parent int
	}{
		1:  {name: "alone0", address: own},
		2:  {name: "port0", address: own, master: 3},
		3:  {name: "br0", kind: "bridge", address: own},
		4:  {name: "customer0", address: own, master: 5},
		5:  {name: "vrf0", kind: "vrf", address: another},
		6:  {name: "tagged0", address: own},
		7:  {name: "tagged0.7", kind: "vlan", address: own, parent: 6},
		8:  {name: "renumbered0", address: own},
		9:  {name: "renumbered0.7", kind: "vlan", address: another, parent: 8},
		10: {name: "parent0", address: own},
		11: {name: "m0", kind: "macvlan", address: another, parent: 10},
		12: {name: "m1", kind: "macvlan", address: another, parent: 10},
		13: {name: "veth0", kind: "veth", address: own, parent: 14},
		14: {name: "veth1", kind: "veth", address: another, parent: 13},
		15: {name: "conduit0", address: own},
		16: {name: "lan1", kind: "dsa", address: own, parent: 15},
		17: {name: "early0", address: own, master: 99},
		18: {name: "shared0", address: own},
		19: {name: "i0", kind: "ipvlan", address: own, parent: 18},
		20: {name: "trunk0", address: own},
		21: {name: "trunk0.7", kind: "vlan", address: own, parent: 20, master: 3},
		22: {name: "deep0", address: own},
		23: {name: "deep0.7", kind: "vlan", address: own, parent: 22},
		24: {name: "m2", kind: "macvlan", address: another, parent: 23},
		25: {name: "netkit0", kind: "netkit", address: own, parent: 26},
		26: {name: "netkit1", kind: "netkit", address: another, parent: 25},
	} {
		if d.name != "" {
			devices[i] = device{Interface: capture.Interface{Name: d.name, Index: i, Address: d.address}, kind: d.kind, master: d.master, parent: d.parent, below: d.parent}
		}
	}
	for name, want := range map[string]string{
		"alone0": "", "port0": "br0", "customer0": "", "tagged0": "", "renumbered0": "renumbered0.7", "parent0": "m0", "veth0": "", "conduit0": "lan1",
		"early0": "interface 99", "shared0": "", "trunk0": "br0", "deep0": "m2",
		"netkit0": "",
	} {
		for _, d := range devices {
			if d.Name == name {
				if got := sharedBy(devices, d); got != want {
					t.Errorf("%s is shared with %q, want %q", name, got, want)
				}
			}
		}
	}
}

// TestDevicesWithPPPoE has what the kernel prints (pppoe_seq_show, drivers/net/ppp/pppoe.c).
func TestDevicesWithPPPoE(t *testing.T) {
	const headline = "Id       Address              Device\n"
	for text, want := range map[string][]string{
		"":       nil,
		headline: nil,
		headline + "0000002A 02:00:00:00:00:01     eth1\n": {"eth1"},
		headline + "0000002A 02:00:00:00:00:01 enp3s0f1.7\n00000001 02:00:00:00:00:02     eth1\n00000002 02:00:00:00:00:02     eth1\n": {"enp3s0f1.7", "eth1"},
	} {
		if got := pppoeDevices(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
