package ebpf

import (
	"net/netip"
	"sync/atomic"
	"time"

	"promflow/capture"
	"promflow/capture/frame"
)

// See totals.h.
const (
	receive    = int(countDirectionRECEIVE)
	transmit   = int(countDirectionTRANSMIT)
	directions = int(countDirectionDIRECTIONS)

	sums     = int(countSumSUMS) // of an interface and row
	sumOther = int(countSumSUM_OTHER)
)

// reader brings a table up to date with what a program has counted. The kernel's totals only grow: what they have grown by
// since they were last read is what the table lacks.
type reader struct {
	program *program
	counter *capture.Counter
	began   time.Time
	slots   []slot
	later   []int          // slots of addresses that are new
	other   capture.Totals // as it was last read
}

// slot is what was last read of a slot.
type slot struct {
	totals capture.Totals
	seen   time.Duration // since the reader began: when its address was last found to have moved something; 0 is not yet
}

func newReader(p *program, counter *capture.Counter) *reader {
	return &reader{program: p, counter: counter, began: time.Now(), slots: make([]slot, p.slots)}
}

// read adds what is new to the table. It must not be called concurrently.
func (r *reader) read() {
	p, now := r.program, time.Since(r.began)
	r.counter.Lock()
	defer r.counter.Unlock()
	// If reads were late, the table takes those that it knows for idle until they are read: they come before who may take their place.
	r.later = r.later[:0]
	for i := range r.slots {
		switch {
		case !p.owned(i):
		case r.knows(i):
			r.readSlot(i, now)
		default:
			r.later = append(r.later, i)
		}
	}
	for _, i := range r.later {
		r.readSlot(i, now)
	}
	var other capture.Totals
	for at := 0; at < len(p.sums); at += sums {
		addSize(&other.ReceiveBytes, &other.ReceivePackets, &p.sums[at+sumOther+receive])
		addSize(&other.TransmitBytes, &other.TransmitPackets, &p.sums[at+sumOther+transmit])
	}
	if other != r.other {
		r.counter.Add(netip.Addr{}, grown(&r.other, other))
	}
}

// knows tells whether a read has found the address that a slot is of.
func (r *reader) knows(slot int) bool {
	if slot >= r.program.series.first {
		of, _, owned := r.program.seriesOf(slot)
		return owned && r.slots[of].seen != 0
	}
	return r.slots[slot].seen != 0
}

// readSlot adds to the table what the address of a slot has moved since the slot was last read. The caller holds the lock.
func (r *reader) readSlot(i int, now time.Duration) {
	p, s := r.program, &r.slots[i]
	var totals capture.Totals
	for at := i; at < len(p.low); at += directions * p.slots {
		p.addSlot(&totals.ReceiveBytes, &totals.ReceivePackets, at+receive*p.slots)
		p.addSlot(&totals.TransmitBytes, &totals.TransmitPackets, at+transmit*p.slots)
	}
	if p.sharesRow {
		addSize(&totals.ReceiveBytes, &totals.ReceivePackets, &p.sharedRow[receive*p.slots+i])
		addSize(&totals.TransmitBytes, &totals.TransmitPackets, &p.sharedRow[transmit*p.slots+i])
	}
	if totals == s.totals {
		return
	}
	if i >= p.series.first {
		of, labels, owned := p.seriesOf(i)
		if addr := p.address(of); owned && addr.IsValid() {
			r.counter.AddSeries(addr, labels, grown(&s.totals, totals))
			s.seen = max(now, 1)
			r.slots[of].seen = s.seen
		}
		return
	}
	if addr := p.address(i); addr.IsValid() {
		r.counter.Add(addr, grown(&s.totals, totals))
		s.seen = max(now, 1)
	}
}

// address gives the address that has a slot, which is none of a series.
func (p *program) address(slot int) netip.Addr {
	if slot < len(p.addresses) {
		return p.addresses[slot]
	}
	switch o := &p.owners[slot-p.shared.first]; atomic.LoadUint64(&o.Version) {
	case 4:
		return address4(uint32(o.Low))
	case 6:
		return address6(countAddress6{High: o.High, Low: o.Low})
	}
	return netip.Addr{}
}

// owned tells whether a slot is an address's or a series'.
func (p *program) owned(slot int) bool {
	switch {
	case slot < len(p.addresses):
		return true
	case slot < p.series.first:
		return atomic.LoadUint64(&p.owners[slot-p.shared.first].Version) != 0
	}
	return atomic.LoadUint64(&p.seriesOwners[slot-p.series.first].Owned) != 0
}

// outcomes gives what became of the packets of an interface.
func (p *program) outcomes(of int) (all [frame.Outcomes]capture.OutcomeSize) {
	for at := of * sums; at < len(p.sums); at += p.interfaces * sums {
		for o := range all {
			addSize(&all[o].Bytes, &all[o].Packets, &p.sums[at+o])
		}
	}
	return all
}

// grown gives by how much totals are more than they were last, which they then are. Those that were read while they were being
// written may appear to have shrunk: they have their turn the next time.
func grown(last *capture.Totals, now capture.Totals) capture.Totals {
	return capture.Totals{
		ReceiveBytes:    more64(&last.ReceiveBytes, now.ReceiveBytes),
		TransmitBytes:   more64(&last.TransmitBytes, now.TransmitBytes),
		ReceivePackets:  more64(&last.ReceivePackets, now.ReceivePackets),
		TransmitPackets: more64(&last.TransmitPackets, now.TransmitPackets),
	}
}

func more64(last *int64, now int64) int64 {
	more := max(0, now-*last)
	*last += more
	return more
}

// addSize and addSlot add what a processor has counted, and may be counting, to a sum.

func addSize(bytes, packets *int64, s *countSize) {
	*bytes += int64(atomic.LoadUint64(&s.Bytes))
	*packets += int64(atomic.LoadUint64(&s.Packets))
}

func (p *program) addSlot(bytes, packets *int64, at int) {
	low, high := &p.low[at], &p.high[at]
	*bytes += whole(&low.Bytes, &high.Bytes)
	*packets += whole(&low.Packets, &high.Packets)
}

// whole puts halves together, of which the low one is written first. A processor may let others see that out of order: then
// the low half shrinks while it is looked at.
func whole(low, high *uint32) int64 {
	for {
		h, l := atomic.LoadUint32(high), atomic.LoadUint32(low)
		if again := atomic.LoadUint32(low); h == atomic.LoadUint32(high) && again >= l {
			return int64(h)<<32 | int64(again)
		}
	}
}
