package names

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// keepNeighbours is how long a MAC is remembered after the kernel has dropped it. The kernel does so within minutes.
const keepNeighbours = time.Hour

// neighbour is an entry of the kernel's table.
type neighbour struct {
	addr netip.Addr
	mac  string
	rank int64 // if an address has several entries, the lowest rank counts
}

// neighbours remembers what the kernel's neighbour table (ARP, NDP) has, or had recently.
type neighbours struct {
	list    func() ([]neighbour, error)
	limit   int // of addresses
	kept    map[netip.Addr]keptMAC
	moved   []netip.Addr        // have another MAC since the last refresh
	several map[netip.Addr]bool // link-local addresses that several hosts have, on links of their own
	reported
}

type keptMAC struct {
	mac  string
	seen time.Time
}

func newNeighbours(list func() ([]neighbour, error), limit int) *neighbours {
	return &neighbours{list: list, limit: limit, kept: map[netip.Addr]keptMAC{}}
}

// refresh reads the table, and tells whether a MAC has changed.
func (n *neighbours) refresh(now time.Time) (changed bool) {
	var all []neighbour
	all, n.err = n.list()
	n.moved = nil
	several := map[netip.Addr]bool{}
	slices.SortStableFunc(all, func(a, b neighbour) int { return cmp.Compare(a.rank, b.rank) })
	for _, each := range all {
		was, known := n.kept[each.addr]
		if !known && len(n.kept) >= n.limit && !n.forgetOldest(now) {
			continue
		}
		if known && was.seen.Equal(now) { // an entry of lower rank came before
			if was.mac != each.mac && each.addr.IsLinkLocalUnicast() {
				several[each.addr] = true
			}
			continue
		}
		if known && was.mac != each.mac {
			n.moved = append(n.moved, each.addr)
		}
		n.kept[each.addr] = keptMAC{each.mac, now}
		changed = changed || was.mac != each.mac
	}
	if n.err == nil {
		changed = changed || !maps.Equal(several, n.several)
		n.several = several
	}
	before := len(n.kept)
	maps.DeleteFunc(n.kept, func(_ netip.Addr, k keptMAC) bool { return now.Sub(k.seen) > keepNeighbours })
	return changed || len(n.kept) < before
}

// forgetOldest makes room: it forgets the addresses that left the table first. It returns false if all are still in the table.
func (n *neighbours) forgetOldest(now time.Time) bool {
	oldest := now
	for _, k := range n.kept {
		if k.seen.Before(oldest) {
			oldest = k.seen
		}
	}
	if oldest.Equal(now) {
		return false
	}
	// Forgetting all addresses of that time at once keeps this from running again for each new address.
	maps.DeleteFunc(n.kept, func(_ netip.Addr, k keptMAC) bool { return k.seen.Equal(oldest) })
	return true
}
