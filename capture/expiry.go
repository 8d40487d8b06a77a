package capture

import (
	"slices"
	"time"
)

// expiry tells which hosts of a table have expired. Times are in ticks since it began.
type expiry struct {
	after       time.Duration // 0 is never
	began       time.Time
	now         uint32
	horizon     uint32   // hosts that were last seen before this have expired
	queue       []uint64 // hosts that had expired at the last search, longest idle first: when they were seen, and their position
	searchAgain uint32   // when the next search may find one
	evicted     int64
}

// update sets the time.
func (e *expiry) update() {
	e.now = uint32(time.Since(e.began) / tick)
	e.horizon = 0
	if after := (e.after-1)/tick + 1; e.after > 0 && time.Duration(e.now) > after { // after may need more than 32 bits
		e.horizon = e.now - uint32(after)
	}
}

// next returns the position of the host to evict: the one that has been idle for longest, if it has expired.
func (e *expiry) next(hosts []Host) (position int, ok bool) {
	if len(e.queue) == 0 && e.horizon > 0 && e.now >= e.searchAgain {
		e.search(hosts)
	}
	for len(e.queue) > 0 {
		seen, position := uint32(e.queue[0]>>32), int(uint32(e.queue[0]))
		e.queue = e.queue[1:]
		if hosts[position].seen == seen { // else it has moved something since the search
			e.evicted++
			return position, true
		}
	}
	return 0, false
}

// search fills the queue. It looks at all hosts, some 100,000 in a millisecond, and a flood may want it for each packet. So the next search
// is not before another host can have expired, and later with many hosts.
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
	e.searchAgain = e.now + max(untilNext, uint32(len(hosts)>>16))
}
