package watch

import (
	"fmt"
	"maps"
	"slices"

	"promflow/capture"
)

// device is an interface of this machine.
type device struct {
	capture.Interface
	altNames []string // further names (ip-link(8), altname)
	kind     string   // of device, as ip-link(8) names it; empty for hardware, and on other systems than Linux
	up       bool
	master   int // index of the bridge or bond that it is a port of, 0 for none
	parent   int // index of the device that sends the same packets, as for a VLAN; 0 for none, or for one in another network namespace
	below    int // index of the device from which it takes frames: parent, or that of a MACsec device, whose packets are others
}

// news is a report of a device.
type news struct {
	device
	gone bool
	anew bool // it may have been made anew since the last report, with the same index
}

// pair is two interfaces that see the same packets.
type pair struct{ upper, lower string }

// overlaps returns the pairs among captured devices: one is a port of the other (a bridge or a bond) or sends by it (as a VLAN does),
// directly or through further devices. unreported has, by index, further devices that have the packets of a device.
func overlaps(devices map[int]device, captured []int, unreported map[int][]int) (pairs []pair) {
	for _, index := range captured {
		above := map[int]bool{index: true}
		for queue := []int{index}; len(queue) > 0; queue = queue[1:] {
			for _, next := range append([]int{devices[queue[0]].master, devices[queue[0]].parent}, unreported[queue[0]]...) {
				if next == 0 || above[next] {
					continue
				}
				above[next] = true
				queue = append(queue, next)
				if !slices.Contains(captured, next) {
					continue
				}
				p := pair{devices[next].Name, devices[index].Name}
				if !slices.Contains(pairs, p) && !slices.Contains(pairs, pair{p.lower, p.upper}) { // both ends of a veth have the other as parent
					pairs = append(pairs, p)
				}
			}
		}
	}
	return pairs
}

// sharedBy returns the name of a device that takes frames to other MAC addresses from a device: a bridge or a bond of which that is a port, or
// a device on top of it that has an address of its own, as macvlan devices do, or is shared itself. It returns nothing if there is none. A VRF
// is none: it takes what is for the machine.
func sharedBy(devices map[int]device, d device) string {
	if d.master != 0 && devices[d.master].kind != "vrf" {
		if name := devices[d.master].Name; name != "" {
			return name
		}
		return fmt.Sprintf("interface %d", d.master) // not reported yet
	}
	for _, index := range slices.Sorted(maps.Keys(devices)) { // the first one, whenever it is asked
		above := devices[index]
		if above.below != d.Index || isEnd(above) || index == d.Index {
			continue
		}
		if takesAll(above) || above.Address != d.Address {
			return above.Name
		}
		if by := sharedBy(devices, above); by != "" {
			return by
		}
	}
	return ""
}

// takesAll tells whether a device takes frames to further MAC addresses from the one below.
func takesAll(d device) bool { return d.kind == "macvlan" || d.kind == "macvtap" || d.kind == "dsa" }

// isEnd tells whether a device is one end of a pair, whose parent is the other end.
func isEnd(d device) bool { return d.kind == "veth" || d.kind == "netkit" }
