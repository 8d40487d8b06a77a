package capture

import (
	"slices"
	"time"
)

// expiry tells which hosts of a table have expired. Times are in ticks since it was made.
type expiry struct {
	after   time.Duration // 0 is never
	began   time.Time
	now     uint32
	horizon uint32   // who was seen last before this has expired
	queue   []uint64 // who had expired when they were last looked for, longest first: when seen, then the position in hosts
	look    uint32   // when it is worth while to look for them again
	evicted int64
}

func newExpiry(after time.Duration) expiry { return expiry{after: after, began: time.Now()} }

// update takes note of the time.
func (e *expiry) update() {
	e.now = uint32(time.Since(e.began) / tick)
	e.horizon = 0
	if after := (e.after-1)/tick + 1; e.after > 0 && time.Duration(e.now) > after { // it may be more ticks than 32 bits have
		e.horizon = e.now - uint32(after)
	}
}

// next gives the position of the host that is to be evicted: of those that have expired, the one that has been idle for longest.
func (e *expiry) next(hosts []Host) (position int, ok bool) {
	if len(e.queue) == 0 && e.horizon > 0 && e.now >= e.look {
		e.search(hosts)
	}
	for len(e.queue) > 0 {
		seen, position := uint32(e.queue[0]>>32), int(uint32(e.queue[0]))
		e.queue = e.queue[1:]
		if hosts[position].seen == seen { // else it has returned, even if it has expired again
			e.evicted++
			return position, true
		}
	}
	return 0, false
}

// search fills the queue. To look at all hosts takes a millisecond for some 100,000 of them: while none has expired, which may be
// so for each packet of a flood, it is done as often as that is little, and not before one of them can have expired.
func (e *expiry) search(hosts []Host) {
	e.queue = e.queue[:0]
	oldest := e.now
	for i := range hosts {
		seen := hosts[i].seen
		if seen < e.horizon {
			e.queue = append(e.queue, uint64(seen)<<32|uint64(i))
		} else {
			oldest = min(oldest, seen)
		}
	}
	slices.Sort(e.queue)
	untilNext := oldest - e.horizon + 1
	e.look = e.now + max(untilNext, uint32(len(hosts)>>16))
}
