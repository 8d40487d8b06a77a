package names

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// keepNeighbours is for how long a MAC is remembered that the kernel has forgotten, which it does after minutes.
const keepNeighbours = time.Hour

// neighbour is an entry of the kernel's table.
type neighbour struct {
	addr netip.Addr
	mac  string
	rank int64 // which one to believe where an address has several: that with the least
}

// neighbours is what the kernel's neighbour table (ARP, NDP) has, or had not long ago.
type neighbours struct {
	list   func() ([]neighbour, error)
	most   int
	log    *slog.Logger
	kept   map[netip.Addr]keptMAC
	err    error
	logged string // of err, in the log
}

type keptMAC struct {
	mac  string
	seen time.Time
}

func newNeighbours(list func() ([]neighbour, error), most int, log *slog.Logger) *neighbours {
	return &neighbours{list: list, most: most, log: log, kept: map[netip.Addr]keptMAC{}}
}

// refresh looks at the table, and tells whether anything is not as it was.
func (n *neighbours) refresh(now time.Time) (changed bool) {
	var all []neighbour
	all, n.err = n.list()
	slices.SortStableFunc(all, func(a, b neighbour) int { return cmp.Compare(a.rank, b.rank) })
	for _, each := range all {
		was, known := n.kept[each.addr]
		if !known && len(n.kept) >= n.most && !n.forgetOldest(now) {
			continue
		}
		if known && was.seen.Equal(now) {
			continue // a better one was in this table
		}
		n.kept[each.addr] = keptMAC{each.mac, now}
		changed = changed || was.mac != each.mac
	}
	for addr, k := range n.kept {
		if now.Sub(k.seen) > keepNeighbours {
			delete(n.kept, addr)
			changed = true
		}
	}
	return changed
}

// forgetOldest makes room for a new one by those that left the table first; there may be none.
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
	for addr, k := range n.kept { // all of that time, so that this is not done for each new one
		if k.seen.Equal(oldest) {
			delete(n.kept, addr)
		}
	}
	return true
}

func (n *neighbours) logChanges() {
	now := ""
	if n.err != nil {
		now = n.err.Error()
	}
	if now != "" && now != n.logged {
		n.log.Warn("the kernel's neighbours cannot be read, so that MACs are missing", "error", n.err)
	}
	n.logged = now
}
