package detour

import (
	"reflect"
	"testing"
	"testing/fstest"
)

func TestConduit(t *testing.T) {
	interfaces := fstest.MapFS{}
	for name, tags := range map[string]string{"eth0": "mtk", "eth1": "edsa", "eth2": "ksz9477", "eth3": "lan9303", "eth4": "none"} {
		interfaces[name+"/dsa/tagging"] = &fstest.MapFile{Data: []byte(tags + "\n")}
		interfaces[name+"/mtu"] = &fstest.MapFile{Data: []byte("1504\n")}
	}
	interfaces["wan/mtu"] = &fstest.MapFile{Data: []byte("1500\n")}
	n := &Namespace{links: []link{
		{name: "lo", index: 1, kind: "device"},
		{name: "eth0", index: 2, kind: "device"},
		{name: "eth1", index: 3, kind: "device"},
		{name: "eth2", index: 4, kind: "device"},
		{name: "eth3", index: 5, kind: "device"},
		{name: "eth4", index: 6, kind: "device"},
		{name: "wan", index: 7, kind: "device"},
		{name: "lan2", index: 8, kind: "dsa", parent: 2, master: 20},
		{name: "lan1", index: 9, kind: "dsa", parent: 2, master: 20},
		{name: "eth0.7", index: 10, kind: "vlan", parent: 2},
		{name: "port1", index: 11, kind: "device", parent: 3},
		{name: "br-lan", index: 20, kind: "bridge"},
	}}
	for i := range n.links {
		n.links[i].tags = tagsOf(interfaces, n.links[i].name)
	}
	want := map[string]Conduit{
		"eth0": {Tags: "mtk", Ports: []string{"lan1", "lan2"}},
		"eth1": {Tags: "edsa", Ports: []string{"port1"}},
	}
	for _, l := range append(n.links, link{name: "nosuch0"}) {
		got, ok := n.Conduit(l.name)
		if want, is := want[l.name]; ok != is || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", l.name, got, ok, want, is)
		}
	}
}
