package watch

import (
	"testing"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// TestNewsOfAnIndexThatWasGivenAwayAgain reads news of a device that was deleted when there is another one with its index, and again
// when there is none.
func TestNewsOfAnIndexThatWasGivenAwayAgain(t *testing.T) {
	ns := nettest.NewNamespace(t)
	var s *subscription
	if err := ns.Do(func() (err error) {
		s, err = subscribe()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	add := func(name string) { ns.IP("link", "add", name, "index", "77", "type", "veth", "peer", "name", "p0") }
	add("a0")
	ns.IP("link", "del", "a0")
	add("b0")
	end := func() news {
		for {
			u := <-s.updates
			if u.Header.Type != unix.RTM_DELLINK || u.Link.Attrs().Index != 77 {
				continue
			}
			all, err := s.newsOf(u)
			if len(all) != 1 || err != nil {
				t.Fatalf("the news are %+v, %v", all, err)
			}
			return all[0]
		}
	}
	if n := end(); n.gone || !n.anew || n.Name != "b0" {
		t.Errorf("news of a0's end are %+v, want b0, made anew", n)
	}
	ns.IP("link", "del", "b0")
	if n := end(); !n.gone || n.anew || n.Name != "b0" {
		t.Errorf("news of b0's end are %+v, want that it is gone", n)
	}
}

// TestLinkLayerOfTunDevices has them say what they are not: frames of a tun device have no link header, whatever its type.
func TestLinkLayerOfTunDevices(t *testing.T) {
	ns := nettest.NewNamespace(t)
	var s *subscription
	if err := ns.Do(func() (err error) {
		s, err = subscribe()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for name, c := range map[string]struct {
		flags uint16
		want  map[int]bool // whether there is an Ethernet header, by type
	}{
		"tun0": {unix.IFF_TUN, map[int]bool{unix.ARPHRD_NONE: false, unix.ARPHRD_ETHER: false, unix.ARPHRD_LOOPBACK: false}},
		"tap0": {unix.IFF_TAP, map[int]bool{unix.ARPHRD_NONE: false, unix.ARPHRD_ETHER: true}},
	} {
		file := ns.Tun(name, c.flags|unix.IFF_NO_PI)
		for arphrd, want := range c.want {
			ns.SetTunType(file, name, arphrd)
			all, err := s.list()
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range all {
				if d.Name == name && (d.Ethernet != want || d.Loopback) {
					t.Errorf("%s of type %d is %+v, want Ethernet: %v, and no loopback", name, arphrd, d.Interface, want)
				}
				if d.Name == "lo" && (!d.Ethernet || !d.Loopback) {
					t.Errorf("lo is %+v", d.Interface)
				}
			}
		}
	}
}
