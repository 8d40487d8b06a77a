package capture

import (
	"iter"

	"promflow/capture/labels"
)

// SeriesPerIP is how many series an address can have. VLANs and interfaces have no end: once an address has so many series, new ones have
// "other" for both, and there can be as many again. What they do not hold adds up in the totals of the address.
const SeriesPerIP = 64

// Series is what an address has moved with one combination of labels.
type Series struct {
	Labels labels.Values
	Totals
	Entry uint32 // another one when a series that was folded begins anew: its totals begin at 0
	host  int32  // position in hosts, -1 if the series is free
	next  int32  // 1 + position of the next series of the same host, or of the next one that is free; 0 for the last
}

// series has the series of all hosts of a table. Those of a host are a list, the one that was used last first: an address moves most of
// its packets with few combinations of labels.
type series struct {
	limit int
	all   []Series
	free  int32  // 1 + position of the first one that is free
	lists []list // by position in hosts
	made  uint32
	swept uint32 // when the table last searched for series to fold
}

type list struct {
	first int32 // 1 + position, 0 if the list is empty
	count int32
}

// find returns the series with these labels, and moves it to the begin of its list.
func (s *series) find(l *list, of labels.Values) *Totals {
	before := &l.first
	for at := l.first; at != 0; at = *before {
		found := &s.all[at-1]
		if found.Labels == of {
			if at != l.first {
				*before, found.next, l.first = found.next, l.first, at
			}
			return &found.Totals
		}
		before = &found.next
	}
	return nil
}

// add adds a series to the host at a position, if there is room.
func (s *series) add(host int, of labels.Values) *Totals {
	l, at := &s.lists[host], s.free
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
	s.all[at-1] = Series{Labels: of, Entry: s.made, host: int32(host), next: l.first}
	l.first = at
	l.count++
	return &s.all[at-1].Totals
}

// seriesTotals returns the totals of the host at a position for packets with these labels: those of a series, or the host's own if there
// is no room for one.
func (t *Table) seriesTotals(host int, of labels.Values) *Totals {
	s := &t.series
	for len(s.lists) <= host {
		s.lists = append(s.lists, list{})
	}
	l := &s.lists[host]
	for of != t.rest {
		if found := s.find(l, of); found != nil {
			return found
		}
		coarser, room := t.group.Coarser(of), int32(SeriesPerIP)
		if of == coarser {
			room *= 2
		}
		if l.count < room {
			added := s.add(host, of)
			if added == nil && t.sweep() {
				added = s.add(host, of)
			}
			if added != nil {
				return added
			}
		}
		if of == coarser {
			break
		}
		of = coarser
	}
	return &t.hosts[host].Totals
}

// fold adds the series of the host at a position to its own totals, and frees them.
func (t *Table) fold(position int) {
	s := &t.series
	if position >= len(s.lists) {
		return
	}
	l := &s.lists[position]
	for at := l.first; at != 0; {
		folded := &s.all[at-1]
		t.hosts[position].Totals.Add(folded.Totals)
		next := folded.next
		folded.host, folded.next, s.free = -1, s.free, at
		at = next
	}
	*l = list{}
}

// sweep folds the series of hosts that have expired, and tells whether there is room for a series then. It looks at all hosts, so it does
// this once in a tick at most.
func (t *Table) sweep() bool {
	s := &t.series
	if t.expiry.horizon == 0 || t.expiry.now == s.swept {
		return false
	}
	s.swept = t.expiry.now
	for i := range s.lists {
		if t.hosts[i].seen < t.expiry.horizon {
			t.fold(i)
		}
	}
	return s.free != 0
}

// Series returns the series, with the position of their host in Hosts. A host's own totals are without those of its series. A series
// stays in the same place of the sequence until it is folded.
func (s *Snapshot) Series() iter.Seq2[int, *Series] {
	return func(yield func(int, *Series) bool) {
		for i := range s.series {
			if of := &s.series[i]; of.host >= 0 && !yield(int(of.host), of) {
				return
			}
		}
	}
}

// SeriesCount is how many series there are.
func (s *Snapshot) SeriesCount() (n int) {
	for range s.Series() {
		n++
	}
	return n
}
