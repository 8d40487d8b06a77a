package watch

import "slices"

// pair is two interfaces which both see what one of them moves.
type pair struct{ upper, lower string }

// overlaps gives the pairs among captured devices: where one is a port of another (of a bridge or a bond) or sends by it (as a
// VLAN does), if not directly, then by others in between.
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
