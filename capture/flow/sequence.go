package flow

import (
	"slices"
	"time"
)

// Sequence finds out what is missing between the sequence numbers of datagrams. It is that of one exporter's process or observation domain.
//
// Datagrams may come late: what is missing is lost once it has not come within a grace period. An exporter that starts again begins a new
// sequence, and nothing is missing.
//
// What a number counts is the protocol's unit in theory. In practice some exporters count flows where the standard says datagrams, or
// include the datagram that has the number. So the caller gives the sizes of a datagram in several units, the standard's first, and the
// sequence follows the numbers in each way. The one that fits most datagrams is right: what is missing by the others is not.
//
// The zero value is an empty sequence.
type Sequence struct {
	started bool
	heard   time.Time // when the last datagram came
	tracks  [ways]track
	way     int   // that is taken to be right
	lost    int64 // that was returned
}

// Sizes is how much a datagram has, in the standard's unit and in others that exporters are known to count. They may be the same.
type Sizes [units]uint32

const (
	units = 3
	ways  = 2 * units // with numbers of what came before a datagram, and of what came with it
)

// track follows the numbers in one way.
type track struct {
	next    uint32 // where the next datagram begins
	gaps    []gap
	misfits int    // gaps that were not filled, and numbers that were neither the next one nor missing
	lost    int64  // for good
	unsure  uint32 // how much the last datagrams may have had at most, beside what is known
	strange bool   // the last number was neither the next one nor missing
	restart uint32 // the next one after a strange one
}

// gap is what is missing: from first up to but not last.
type gap struct {
	first, last uint32
	since       time.Time
	seen        bool // it may be none: it was sent before the first datagram, or the last one had it
}

// Limits of gaps.
const (
	grace    = 2 * time.Second
	mostGaps = 32
	reach    = 1 << 16 // what may come late before the first datagram

	// An exporter that starts again may jump ahead by any number. A real gap is not larger than this, and what a very fast exporter sends while
	// nothing is heard of it.
	mostMissing = 1 << 17
	fastest     = 1 << 20 // in a second

	hopeless = 64   // misfits more than those of another way: a way is not followed further
	forget   = 1024 // misfits, after which older ones count less
)

// Observe takes the number of a datagram, and how much the datagram has. It returns how much more is lost for good, as Lost does.
func (s *Sequence) Observe(number uint32, has Sizes, now time.Time) (lost int64) {
	most := mostMissing + fastest*now.Sub(s.heard).Seconds()
	for w := range s.tracks {
		t, size, start := &s.tracks[w], has[w%units], number
		if w >= units { // it has come with the datagram
			start -= size
		}
		switch {
		case !s.started:
			t.begin(start, size, now)
		case s.isHopeless(t):
			t.next, t.gaps, t.lost, t.strange = start+size, t.gaps[:0], s.lost, false
		default:
			t.observe(start, size, most, now)
		}
	}
	s.started, s.heard = true, now
	for w := range s.tracks {
		if s.tracks[w].misfits < s.tracks[s.way].misfits {
			s.way = w
		}
	}
	if s.tracks[s.way].misfits > forget {
		for w := range s.tracks {
			s.tracks[w].misfits /= 2
		}
	}
	return s.Lost(now)
}

func (s *Sequence) isHopeless(t *track) bool { return t.misfits > s.tracks[s.way].misfits+hopeless }

// observe takes a datagram that begins at a number.
func (t *track) observe(start, size uint32, most float64, now time.Time) {
	ahead := int32(start - t.next)
	switch {
	case ahead == 0:
	case ahead > 0 && t.unsure > 0 && float64(ahead) <= most:
		sure := t.next + min(t.unsure, uint32(ahead))
		t.gaps = append(t.gaps, gap{first: t.next, last: sure, since: now, seen: true})
		if sure != start {
			t.gaps = append(t.gaps, gap{first: sure, last: start, since: now})
			t.misfits++
		}
	case ahead > 0 && float64(ahead) <= most:
		t.gaps = append(t.gaps, gap{first: t.next, last: start, since: now})
		t.misfits++
	case t.fill(start, size): // it came late
		return
	case t.strange && start == t.restart:
		// Two datagrams in a row go on with another sequence: the exporter has started again.
		t.begin(start, size, now)
		return
	default:
		t.strange, t.restart = true, start+size
		t.misfits++
		return
	}
	if t.strange = false; ahead != 0 { // one that has nothing has the number of the next one
		t.unsure = 0
	}
	t.next = start + size
}

// Skip says how much more the last datagram may have had, in each unit, than what was given. That is not missing.
func (s *Sequence) Skip(most Sizes) {
	for w := range s.tracks {
		t := &s.tracks[w]
		t.unsure = min(t.unsure+most[w%units], reach)
	}
}

func (t *track) begin(start, size uint32, now time.Time) {
	t.next, t.strange, t.unsure = start+size, false, 0
	t.gaps = slices.DeleteFunc(t.gaps, func(g gap) bool { return g.seen })
	t.gaps = append(t.gaps, gap{first: start - reach, last: start, since: now, seen: true})
}

// fill takes what came late out of a gap. It returns false if there is no such gap.
func (t *track) fill(start, size uint32) bool {
	for i, g := range t.gaps {
		if start-g.first >= g.last-g.first {
			continue
		}
		end := start + min(size, g.last-start)
		t.gaps = slices.Delete(t.gaps, i, i+1)
		before := len(t.gaps)
		if left := g; left.first != start {
			left.last = start
			t.gaps = append(t.gaps, left)
		}
		if left := g; end != left.last {
			left.first = end
			t.gaps = append(t.gaps, left)
		}
		if !g.seen {
			t.misfits += len(t.gaps) - before - 1
		}
		return true
	}
	return false
}

// Lost returns how much more is lost for good: what has been missing for the grace period, or is too much to remember.
func (s *Sequence) Lost(now time.Time) int64 {
	for w := range s.tracks {
		t := &s.tracks[w]
		if len(t.gaps) == 0 {
			continue
		}
		over := len(t.gaps) - mostGaps
		t.gaps = slices.DeleteFunc(t.gaps, func(g gap) bool {
			over--
			if over < 0 && now.Sub(g.since) < grace {
				return false
			}
			t.lost += g.missing()
			return true
		})
	}
	return s.more()
}

// End returns how much more is missing, for good.
func (s *Sequence) End() int64 {
	for w := range s.tracks {
		t := &s.tracks[w]
		for _, g := range t.gaps {
			t.lost += g.missing()
		}
		t.gaps = t.gaps[:0]
	}
	return s.more()
}

// more returns what is lost and was not returned yet.
func (s *Sequence) more() int64 {
	lost := max(0, s.tracks[s.way].lost-s.lost)
	s.lost += lost
	return lost
}

// missing is how much a gap lacks.
func (g gap) missing() int64 {
	if g.seen {
		return 0
	}
	return int64(g.last - g.first)
}
