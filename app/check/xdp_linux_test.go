package check

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"testing"

	"promflow/capture/nettest"
)

func TestInterfacesWithXDP(t *testing.T) {
	ns, peer := nettest.NewNamespace(t), nettest.NewNamespace(t)
	ns.Veth("here", peer, "there")
	ns.IP("link", "add", "br0", "type", "bridge")
	for name, want := range map[string]bool{"here": true, "br0": false, "lo": false} {
		var has bool
		if err := ns.Do(func() error { all, err := links(); has = hasXDP(all[name]); return err }); err != nil {
			t.Fatal(err)
		}
		if has != want {
			t.Errorf("%s has XDP: %v, want %v", name, has, want)
		}
	}
}

// TestHearsWhatIsForOthers has frames for another machine, for this one and for all, and some that this machine sends.
func TestHearsWhatIsForOthers(t *testing.T) {
	ns, peer := nettest.NewNamespace(t), nettest.NewNamespace(t)
	for _, name := range []string{"here", "port", "below"} {
		ns.Veth(name, peer, name)
	}
	ns.IP("link", "add", "br0", "type", "bridge")
	ns.IP("link", "set", "port", "master", "br0")
	ns.IP("link", "add", "link", "below", "name", "above", "type", "macvlan")
	var all []*listener
	var own net.HardwareAddr
	err := ns.Do(func() error {
		before, err := links()
		all = listen(before, func(string) bool { return true })
		here, failed := net.InterfaceByName("here")
		own = here.HardwareAddr
		return errors.Join(err, failed)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].link.Name != "here" {
		t.Fatalf("it listens to %+v, want here only: something else needs what is for others on port and below", all)
	}
	defer all[0].close()
	all[0].start()
	to := func(address []byte) []byte { return append(slices.Clone(address), make([]byte, 54)...) }
	other, everybody := []byte{2, 0, 0, 0, 0, 9}, bytes.Repeat([]byte{0xff}, 6)
	const each = 300 // more than there is room for
	arriving, leaving := nettest.NewSender(t, peer, "here"), nettest.NewSender(t, ns, "here")
	for range each {
		arriving.Send(to(other), to(other), to(own), to(everybody))
		leaving.Send(to(other))
	}
	if others, heard := all[0].heard(); others != 2*each || heard != 4*each {
		t.Errorf("heard %d of %d for others, want %d of %d", others, heard, 2*each, 4*each)
	}
}
