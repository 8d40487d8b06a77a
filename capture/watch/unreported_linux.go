package watch

import (
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// unreported returns, by the index of a captured device, other captured devices that have the same packets, which no report of the kernel says:
// the device that carries the PPPoE of a ppp device, and those whose packets tc(8) redirects or mirrors to an ifb or dummy device. What
// cannot be read is not known. Nothing is read unless such a device and others are captured: there may be a thousand ppp devices.
func (s *subscription) unreported(devices map[int]device, captured []int) map[int][]int {
	of := func(kinds ...string) (all []int) {
		for _, index := range captured {
			if slices.Contains(kinds, devices[index].kind) {
				all = append(all, index)
			}
		}
		return all
	}
	all := map[int][]int{}
	if ppp := of("ppp"); len(ppp) > 0 && len(ppp) < len(captured) {
		sessions, _ := os.ReadFile("/proc/thread-self/net/pppoe") // there is none without PPPoE
		var below []int
		for _, name := range pppoeDevices(string(sessions)) {
			for index, d := range devices {
				if d.Name == name {
					below = append(below, index)
				}
			}
		}
		for _, index := range ppp { // the kernel does not tell whose session is whose
			all[index] = below
		}
	}
	if targets := of("ifb", "dummy"); len(targets) > 0 && len(targets) < len(captured) {
		maps.Copy(all, s.redirected(captured, targets))
	}
	return all
}

// pppoeDevices returns the names of the devices with PPPoE sessions, from /proc/net/pppoe: a headline, and lines of an id, an address and a name.
func pppoeDevices(sessions string) (names []string) {
	for line := range strings.Lines(sessions) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "Id" && !slices.Contains(names, f[2]) {
			names = append(names, f[2])
		}
	}
	return names
}

// redirected returns, by target, the devices of which filters redirect or mirror packets there.
func (s *subscription) redirected(from, targets []int) map[int][]int {
	qdiscs, _ := s.handle.QdiscList(nil)
	all := map[int][]int{}
	for _, q := range qdiscs {
		a := q.Attrs()
		if !slices.Contains(from, a.LinkIndex) {
			continue
		}
		parents := []uint32{a.Handle}
		if q.Type() == "clsact" {
			parents = []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}
		}
		for _, parent := range parents {
			filters, _ := s.handle.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: a.LinkIndex}}, parent)
			for _, f := range filters {
				for _, action := range actionsOf(f) {
					m, ok := action.(*netlink.MirredAction)
					if ok && slices.Contains(targets, m.Ifindex) && !slices.Contains(all[m.Ifindex], a.LinkIndex) {
						all[m.Ifindex] = append(all[m.Ifindex], a.LinkIndex)
					}
				}
			}
		}
	}
	return all
}

// actionsOf returns the actions of a filter, of the kinds that can be read.
func actionsOf(f netlink.Filter) []netlink.Action {
	switch f := f.(type) {
	case *netlink.U32:
		return f.Actions
	case *netlink.MatchAll:
		return f.Actions
	case *netlink.Flower:
		return f.Actions
	case *netlink.FwFilter:
		return f.Actions
	}
	return nil
}
