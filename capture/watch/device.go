package watch

import (
	"slices"

	"promflow/capture"
)

// device is an interface of this machine.
type device struct {
	capture.Interface
	altNames []string // further names (ip-link(8), altname)
	up       bool
	master   int // index of the bridge or bond that it is a port of, 0 for none
	parent   int // index of the device that sends the same packets, as for a VLAN; 0 for none, or for one in another network namespace
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
// directly or through further devices.
func overlaps(devices map[int]device, captured []int) (pairs []pair) {
	for _, index := range captured {
		above := map[int]bool{index: true}
		for queue := []int{index}; len(queue) > 0; queue = queue[1:] {
			for _, next := range []int{devices[queue[0]].master, devices[queue[0]].parent} {
				if next == 0 || above[next] {
					continue
				}
				above[next] = true
				queue = append(queue, next)
				if !slices.Contains(captured, next) {
					continue
				}
				p := pair{devices[next].Name, devices[index].Name}
				if !slices.Contains(pairs, p) && !slices.Contains(pairs, pair{p.lower, p.upper}) { // veths are each other's parent
					pairs = append(pairs, p)
				}
			}
		}
	}
	return pairs
}
