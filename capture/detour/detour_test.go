package detour

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"promflow/capture/subnets"
)

func TestBypass(t *testing.T) {
	links := []link{
		{name: "lo", index: 1},
		{name: "lan1", index: 2, master: 10, kind: "dsa", parent: 9},
		{name: "lan2", index: 3, master: 10, kind: "dsa", parent: 9},
		{name: "wan", index: 4, kind: "veth", parent: 40}, // whose peer is elsewhere
		{name: "eth0", index: 9},
		{name: "br-lan", index: 10, kind: "bridge"},
		{name: "br-lan.7", index: 11, kind: "vlan", parent: 10},
		{name: "wan.35", index: 12, kind: "vlan", parent: 4},
		{name: "wan.35.2", index: 13, kind: "vlan", parent: 12},
		{name: "wlan0", index: 14, master: 10},
		{name: "eth1", index: 20, master: 21},
		{name: "bond0", index: 21, kind: "bond", master: 22},
		{name: "br1", index: 22, kind: "bridge", master: 24},
		{name: "mv0", index: 23, kind: "macvlan", parent: 2},
		{name: "red", index: 24, kind: "vrf"},
		{name: "a", index: 30, kind: "bridge", master: 31}, // what cannot be
		{name: "b", index: 31, kind: "bridge", master: 30},
	}
	for _, c := range []struct {
		name       string
		flowtables []flowtable
		want       map[string]Bypass // by interface; others have none
	}{
		{"none", nil, nil},
		{"OpenWrt's", []flowtable{{name: "inet fw4 ft", devices: []string{"lan1", "lan2", "wan"}}}, map[string]Bypass{
			"br-lan":   {Flowtables: []string{"inet fw4 ft"}, Ports: []string{"lan1", "lan2", "wlan0"}},
			"br-lan.7": {Flowtables: []string{"inet fw4 ft"}, Ports: []string{"lan1", "lan2", "wlan0"}},
			"wan.35":   {Flowtables: []string{"inet fw4 ft"}, Ports: []string{"wan"}},
			"wan.35.2": {Flowtables: []string{"inet fw4 ft"}, Ports: []string{"wan"}},
		}},
		{"of the bridge itself", []flowtable{{name: "ip t f", devices: []string{"br-lan", "wan.35"}}}, map[string]Bypass{
			"br-lan.7": {Flowtables: []string{"ip t f"}, Ports: []string{"br-lan"}},
			"wan.35.2": {Flowtables: []string{"ip t f"}, Ports: []string{"wan.35"}},
		}},
		{"of the bridge and its ports", []flowtable{{name: "ip t f", devices: []string{"br-lan", "lan1"}}}, map[string]Bypass{
			"br-lan":   {Flowtables: []string{"ip t f"}, Ports: []string{"lan1", "lan2", "wlan0"}},
			"br-lan.7": {Flowtables: []string{"ip t f"}, Ports: []string{"lan1", "lan2", "wlan0"}},
		}},
		{"two", []flowtable{{name: "ip t f", devices: []string{"lan1"}}, {name: "ip6 t f", devices: []string{"lan2"}}, {name: "ip u f", devices: []string{"eth0"}}},
			map[string]Bypass{
				"br-lan":   {Flowtables: []string{"ip t f", "ip6 t f"}, Ports: []string{"lan1", "lan2", "wlan0"}},
				"br-lan.7": {Flowtables: []string{"ip t f", "ip6 t f"}, Ports: []string{"lan1", "lan2", "wlan0"}},
			}},
		{"of what has a name with a beginning", []flowtable{{name: "ip t f", devices: []string{"lan*"}}}, map[string]Bypass{
			"br-lan":   {Flowtables: []string{"ip t f"}, Ports: []string{"lan1", "lan2", "wlan0"}},
			"br-lan.7": {Flowtables: []string{"ip t f"}, Ports: []string{"lan1", "lan2", "wlan0"}},
		}},
		{"of a bond", []flowtable{{name: "ip t f", devices: []string{"bond0"}}}, map[string]Bypass{
			"br1": {Flowtables: []string{"ip t f"}, Ports: []string{"bond0"}},
			"red": {Flowtables: []string{"ip t f"}, Ports: []string{"bond0"}},
		}},
		{"of a bond's slave", []flowtable{{name: "ip t f", devices: []string{"eth1"}}}, nil},
		{"of a switch's conduit", []flowtable{{name: "ip t f", devices: []string{"eth0"}}}, nil},
		{"in hardware", []flowtable{{name: "ip t f", devices: []string{"lan1", "wan"}, hardware: true}}, map[string]Bypass{
			"lan1":     {Flowtables: []string{"ip t f"}, Hardware: true},
			"wan":      {Flowtables: []string{"ip t f"}, Hardware: true},
			"br-lan":   {Flowtables: []string{"ip t f"}, Ports: []string{"lan1", "lan2", "wlan0"}, Hardware: true},
			"br-lan.7": {Flowtables: []string{"ip t f"}, Ports: []string{"lan1", "lan2", "wlan0"}, Hardware: true},
			"wan.35":   {Flowtables: []string{"ip t f"}, Ports: []string{"wan"}, Hardware: true},
			"wan.35.2": {Flowtables: []string{"ip t f"}, Ports: []string{"wan"}, Hardware: true},
		}},
	} {
		n := &Namespace{links: links, flowtables: c.flowtables}
		for _, name := range append([]string{"nothing"}, names(links)...) {
			got, ok := n.Bypass(name)
			want, wanted := c.want[name]
			if ok != wanted || ok && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s has %+v, %v; want %+v, %v", c.name, name, got, ok, want, wanted)
			}
		}
	}
}

func names(links []link) (all []string) {
	for _, l := range links {
		all = append(all, l.name)
	}
	return all
}

func TestDecryption(t *testing.T) {
	prefix := netip.MustParsePrefix
	const wan, lan = 4, 10
	links := []link{{name: "wan", index: wan}, {name: "lan", index: lan}}
	site := tunnel{prefix("10.2.0.0/24"), prefix("10.1.0.0/24"), wan}
	site6 := tunnel{prefix("fd00:2::/64"), prefix("fd00:1::/64"), wan}
	all := tunnel{prefix("0.0.0.0/0"), prefix("10.9.0.5/32"), wan}
	for _, c := range []struct {
		name                string
		tunnels             []tunnel
		device              string
		monitored, excluded string
		want                string // the subnets, separated by spaces; "none" if nothing is decrypted
	}{
		{"none", nil, "wan", "0.0.0.0/0,::/0", "", "none"},
		{"a site", []tunnel{site}, "wan", "0.0.0.0/0,::/0", "", "10.2.0.0/24"},
		{"by another interface", []tunnel{site}, "lan", "0.0.0.0/0,::/0", "", "none"},
		{"by an interface that is not known", []tunnel{{site.from, site.to, 0}}, "lan", "0.0.0.0/0", "", "10.2.0.0/24"},
		{"on an interface that is not there", []tunnel{{site.from, site.to, 0}}, "ppp0", "0.0.0.0/0", "", "none"},
		{"sites in order", []tunnel{site6, {prefix("10.2.0.0/16"), site.to, wan}, site, {site.from, prefix("10.3.0.0/24"), wan}}, "wan", "0.0.0.0/0,::/0", "",
			"10.2.0.0/16 10.2.0.0/24 fd00:2::/64"},
		{"all goes through it", []tunnel{all}, "wan", "0.0.0.0/0", "", "10.9.0.5/32"},
		{"all at both ends", []tunnel{{prefix("0.0.0.0/0"), prefix("0.0.0.0/0"), wan}}, "wan", "0.0.0.0/0", "", ""},
		{"excluded", []tunnel{site, site6}, "wan", "0.0.0.0/0,::/0", "10.2.0.0/16", "fd00:2::/64"},
		{"excluded by the near end", []tunnel{site}, "wan", "0.0.0.0/0", "10.1.0.0/24", "none"},
		{"excluded in part", []tunnel{site}, "wan", "0.0.0.0/0", "10.2.0.0/25", "10.2.0.0/24"},
		{"not monitored", []tunnel{site}, "wan", "192.0.2.0/24", "", "none"},
		{"monitored in part", []tunnel{site}, "wan", "10.1.0.7/32", "", "10.2.0.0/24"},
	} {
		parse := func(list string) subnets.Set {
			s, err := subnets.Parse(list)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		for _, early := range []bool{false, true} {
			n := &Namespace{links: links, tunnels: c.tunnels, early: early}
			d, ok := n.Decryption(c.device, parse(c.monitored), parse(c.excluded))
			want, none := parsePrefixes(c.want)
			if ok == none || !slices.Equal(d.Subnets, want) || d.Early != (ok && early) {
				t.Errorf("%s: %+v, %v, want %s", c.name, d, ok, c.want)
			}
		}
	}
}

func parsePrefixes(list string) (all []netip.Prefix, none bool) {
	if list == "none" {
		return nil, true
	}
	for _, p := range strings.Fields(list) {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all, false
}
