package capture

import (
	"iter"
	"net/netip"

	"promflow/capture/labels"
	"promflow/capture/subnets"
)

// SeriesPerIP is how many combinations of labels an address can have, and as many again where VLAN and interface, of which there is
// no end, are "other". All labels of further ones are.
const SeriesPerIP = 64

// Series is what an address has moved with one combination of labels.
type Series struct {
	Labels labels.Values
	Totals
	Entry uint32 // tells it from what had the same labels before it made room for others
	host  int32  // the position in hosts, less than 0 if it is free
	next  int32  // 1 + the position of the address' next one, 0 if it is the last; of free ones, too
}

// series is the combinations of labels of a table's addresses. Those of an address are a chain, the one that was wanted last first:
// a few labels are most of what an address moves.
type series struct {
	limit  int
	all    []Series
	free   int32   // 1 + the position of the first that is free
	chains []chain // by position in hosts
	made   uint32
	swept  uint32 // when room was last looked for
}

type chain struct {
	first int32 // 1 + a position, 0 is none
	count int32
}

// find looks for labels in a chain, and puts them at its begin.
func (s *series) find(c *chain, of labels.Values) *Totals {
	before := &c.first
	for at := c.first; at != 0; at = *before {
		found := &s.all[at-1]
		if found.Labels == of {
			if at != c.first {
				*before, found.next, c.first = found.next, c.first, at
			}
			return &found.Totals
		}
		before = &found.next
	}
	return nil
}

// add begins a series of the host at a position, if there is room.
func (s *series) add(host int, of labels.Values) *Totals {
	c, at := &s.chains[host], s.free
	switch {
	case at != 0:
		s.free = s.all[at-1].next
	case len(s.all) < s.limit:
		s.all = append(s.all, Series{})
		at = int32(len(s.all))
	default:
		return nil
	}
	s.made++
	s.all[at-1] = Series{Labels: of, Entry: s.made, host: int32(host), next: c.first}
	c.first = at
	c.count++
	return &s.all[at-1].Totals
}

// grouped gives where to add what an address moved with labels, valid until the next call; n is the address as a number. The caller
// holds the lock.
func (t *Table) grouped(addr netip.Addr, n subnets.Number, of labels.Values) *Totals {
	if bits := t.group.HostBits(); bits != (labels.HostBits{}) {
		addr, n = bits.Mask(addr, n)
	}
	return t.labelled(Key{addr}, n, of)
}

// labelled is grouped for the address that stands for all of its prefix.
func (t *Table) labelled(key Key, n subnets.Number, of labels.Values) *Totals {
	at := t.position(key, n)
	if at < 0 {
		return &t.other
	}
	s, g := &t.series, t.group
	if of == g.Rest() {
		return &t.hosts[at].Totals
	}
	for len(s.chains) <= at {
		s.chains = append(s.chains, chain{})
	}
	c, coarser := &s.chains[at], g.Coarser(of)
	if found := s.find(c, of); found != nil {
		return found
	}
	if of != coarser && c.count < SeriesPerIP {
		if added := t.addSeries(at, of); added != nil {
			return added
		}
	}
	if coarser == g.Rest() {
		return &t.hosts[at].Totals
	}
	if found := s.find(c, coarser); found != nil {
		return found
	}
	if c.count < 2*SeriesPerIP {
		if added := t.addSeries(at, coarser); added != nil {
			return added
		}
	}
	return &t.hosts[at].Totals
}

// addSeries begins a series of a host, if there is room or there are some that have expired and make some: else it gives nil.
func (t *Table) addSeries(host int, of labels.Values) *Totals {
	added := t.series.add(host, of)
	if added == nil && t.sweep() {
		added = t.series.add(host, of)
	}
	return added
}

// fold gives all that an address has moved with labels to what it has moved altogether, or without room for labels.
func (t *Table) fold(position int) {
	s := &t.series
	if position >= len(s.chains) {
		return
	}
	c := &s.chains[position]
	for at := c.first; at != 0; {
		folded := &s.all[at-1]
		t.hosts[position].Totals.add(folded.Totals)
		next := folded.next
		folded.host, folded.next, s.free = -1, s.free, at
		at = next
	}
	*c = chain{}
}

// sweep has addresses that have expired make room for series, and tells whether one did. It looks at all of them, so not for each
// packet.
func (t *Table) sweep() bool {
	s := &t.series
	if t.expiry.horizon == 0 || t.expiry.now == s.swept {
		return false
	}
	s.swept = t.expiry.now
	for i := range s.chains {
		if t.hosts[i].seen < t.expiry.horizon {
			t.fold(i)
		}
	}
	return s.free != 0
}

// Series gives what hosts have moved by labels, with their positions in Hosts, whose own totals are of what had no room there. A
// series has its place among the others for as long as it is kept.
func (s *Snapshot) Series() iter.Seq2[int, *Series] {
	return func(yield func(int, *Series) bool) {
		for i := range s.series {
			if of := &s.series[i]; of.host >= 0 && !yield(int(of.host), of) {
				return
			}
		}
	}
}

// SeriesCount is how many combinations of labels are kept apart.
func (s *Snapshot) SeriesCount() (n int) {
	for range s.Series() {
		n++
	}
	return n
}
