package capture

import (
	"net/netip"
	"time"

	"promflow/capture/labels"
	"promflow/capture/subnets"
)

// Saved is totals that outlive a process: those of an address apart from its series, or those of one of its series.
type Saved struct {
	Addr   netip.Addr    // invalid for the sum of all addresses for which there was no room
	Bits   int           // the length of the prefix that Addr stands for; 0 for a single address
	Labels []labels.Text // of a series; nil for the totals that no series has
	Totals
	Idle    time.Duration // how long ago the address last moved something; 0 for other
	Expired bool
}

// Restore adds totals of an earlier process, and returns what the table has then. The totals of an address come before those of its series.
// Call it before anything counts. Where there is not room for all, the first ones have it.
//
// An address goes on from its totals, and is as idle as it was; one that had expired still has. Series whose labels are not those of the
// table are added to the totals of their address, addresses to their prefix if the table groups by one. What there is no room for, and a
// prefix that the table would split, is part of other.
func (t *Table) Restore(saved []Saved) Snapshot {
	t.lock()
	defer t.mu.Unlock()
	longest := time.Duration(0)
	for i := range saved {
		longest = max(longest, t.expiry.idle(&saved[i]))
	}
	t.expiry.goBack(longest, t.hosts)
	for i := range saved {
		s := &saved[i]
		addr, n, ok := t.place(s)
		if !ok {
			t.other.Add(s.Totals)
			continue
		}
		values, ok := t.rest, true
		if t.group != nil && s.Labels != nil {
			if values, ok = t.group.Values(s.Labels); !ok {
				values = t.rest
			}
		}
		at, known := t.find(addr, n)
		if !known {
			if len(t.hosts) == t.limit { // nobody makes room
				t.other.Add(s.Totals)
				continue
			}
			at = t.add(addr, t.hash(n))
			t.hosts[at].seen = 0
		}
		host := &t.hosts[at]
		host.seen = max(host.seen, t.expiry.now-uint32(t.expiry.idle(s)/tick))
		if values == t.rest {
			host.Totals.Add(s.Totals)
		} else {
			t.seriesTotals(at, values).Add(s.Totals)
		}
	}
	return t.snapshot()
}

// place returns the address that saved totals belong to. It is false for what the table counts as other.
func (t *Table) place(s *Saved) (netip.Addr, subnets.Number, bool) {
	if !s.Addr.IsValid() {
		return netip.Addr{}, subnets.Number{}, false
	}
	var ignored labels.HostBits
	if t.group != nil {
		ignored = t.group.HostBits()
	}
	if length := s.Addr.BitLen() - ignored.Of(s.Addr); s.Bits > 0 && s.Bits < length {
		return netip.Addr{}, subnets.Number{}, false
	}
	addr, n := ignored.Mask(s.Addr, subnets.NumberOf(s.Addr))
	return addr, n, true
}

// find returns the position of the host of an address, whose number is n.
func (t *Table) find(addr netip.Addr, n subnets.Number) (position int, ok bool) {
	hash := t.hash(n)
	mask := uint64(len(t.index) - 1)
	for i := hash & mask; t.index[i] != 0; i = (i + 1) & mask {
		if slot := t.index[i]; slot>>32 == hash>>32 && t.hosts[uint32(slot)-1].Addr == addr {
			return int(uint32(slot) - 1), true
		}
	}
	return 0, false
}

// maxIdle is how long an address is remembered to have been idle. The table's time has room for 13 years.
const maxIdle = 5 * 365 * 24 * time.Hour

// idle returns how long an address that is restored has been idle, in the table's terms.
func (e *expiry) idle(s *Saved) time.Duration {
	idle := max(s.Idle, 0)
	if s.Expired && e.after > 0 && e.after < maxIdle {
		idle = max(idle, e.after+2*tick)
	}
	return min(idle, maxIdle)
}

// goBack has the table's time begin earlier, so that hosts can have been idle for that long.
func (e *expiry) goBack(by time.Duration, hosts []Host) {
	ticks := uint32((by + tick - 1) / tick)
	e.began = e.began.Add(-time.Duration(ticks) * tick)
	for i := range hosts {
		hosts[i].seen += ticks
	}
	e.update()
}

// Idle returns how long ago a host of the snapshot last moved something, in tenths of a second. That of the invalid address is 0.
func (s *Snapshot) Idle(h *Host) time.Duration {
	if h.seen > s.now {
		return 0
	}
	return time.Duration(s.now-h.seen) * tick
}
