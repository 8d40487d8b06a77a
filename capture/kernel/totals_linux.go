package kernel

import (
	"net/netip"
	"sync/atomic"
	"time"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
)

// See totals.h.
const (
	receive    = int(countDirectionRECEIVE)
	transmit   = int(countDirectionTRANSMIT)
	directions = int(countDirectionDIRECTIONS)

	sums     = int(countSumSUMS) // for each interface in a row
	sumOther = int(countSumSUM_OTHER)
)

// reader adds to a table what a program has counted. The kernel's totals only grow. What they have grown by since the last read is what the
// table lacks.
type reader struct {
	program *Program
	counter *capture.Counter
	began   time.Time
	last    []lastRead     // by slot
	later   []int          // slots whose owners were not read yet
	other   capture.Totals // at the last read
}

// lastRead is what was last read of a slot.
type lastRead struct {
	totals capture.Totals
	seen   time.Duration // since the reader began: when a read last found that the owner had moved something; 0 is never
}

func newReader(p *Program, counter *capture.Counter) *reader {
	return &reader{program: p, counter: counter, began: time.Now(), last: make([]lastRead, p.slots)}
}

// read adds what is new to the table. It must not be called concurrently.
func (r *reader) read() {
	p, now := r.program, time.Since(r.began)
	r.counter.Lock()
	defer r.counter.Unlock()
	// If this read is late, addresses that the table knows may seem expired to it until they are read. So they are read before new addresses,
	// which could take their place in the table.
	r.later = r.later[:0]
	for i := range r.last {
		switch address, _, owned := p.ownerOf(i); {
		case !owned:
		case r.last[address].seen != 0: // an earlier read has seen the address move something
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

// readSlot adds to the table what the owner of a slot has moved since the slot was last read. The caller holds the counter's lock.
func (r *reader) readSlot(i int, now time.Duration) {
	p, s := r.program, &r.last[i]
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
	address, labels, _ := p.ownerOf(i)
	if addr := p.address(address); addr.IsValid() {
		r.counter.AddSeries(addr, labels, grown(&s.totals, totals))
		s.seen = max(now, 1)
		r.last[address].seen = s.seen
	}
}

// address returns the address that owns a slot, which must not be one of a series. It is invalid if nobody owns the slot.
func (p *Program) address(slot int) netip.Addr {
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

// ownerOf returns what owns a slot: the slot of an address, and the labels of a series or those of what no series has. If owned is false,
// nothing does.
func (p *Program) ownerOf(slot int) (address int, values labels.Values, owned bool) {
	if slot < p.series.first {
		return slot, p.rest, slot < len(p.addresses) || atomic.LoadUint64(&p.owners[slot-p.shared.first].Version) != 0
	}
	o := &p.seriesOwners[slot-p.series.first]
	n := atomic.LoadUint64(&o.Owned)
	return int(n) - 1, labels.Values(o.Labels), n != 0
}

// outcomes returns the outcomes of the packets of the interface with a number.
func (p *Program) outcomes(number int) (all [frame.Outcomes]capture.OutcomeSize) {
	for at := number * sums; at < len(p.sums); at += p.interfaces * sums {
		for o := range all {
			addSize(&all[o].Bytes, &all[o].Packets, &p.sums[at+o])
		}
	}
	return all
}

// grown returns by how much totals have grown since last, and sets last to them. A total that was read while it was written may seem to
// have shrunk: that counts as no growth, and last keeps its value until a later read.
func grown(last *capture.Totals, now capture.Totals) capture.Totals {
	return capture.Totals{
		ReceiveBytes:    grown64(&last.ReceiveBytes, now.ReceiveBytes),
		TransmitBytes:   grown64(&last.TransmitBytes, now.TransmitBytes),
		ReceivePackets:  grown64(&last.ReceivePackets, now.ReceivePackets),
		TransmitPackets: grown64(&last.TransmitPackets, now.TransmitPackets),
	}
}

func grown64(last *int64, now int64) int64 {
	growth := max(0, now-*last)
	*last += growth
	return growth
}

// addSize and addSlot add what a row has to bytes and packets. Its processor may be counting meanwhile.

func addSize(bytes, packets *int64, s *countSize) {
	*bytes += int64(atomic.LoadUint64(&s.Bytes))
	*packets += int64(atomic.LoadUint64(&s.Packets))
}

func (p *Program) addSlot(bytes, packets *int64, at int) {
	low, high := &p.low[at], &p.high[at]
	*bytes += joinHalves(&low.Bytes, &high.Bytes)
	*packets += joinHalves(&low.Packets, &high.Packets)
}

// joinHalves returns the number that two halves make up. The program writes the low half first, but other processors may see the two writes
// out of order: then the low half shrinks between two loads, and joinHalves tries again.
func joinHalves(low, high *uint32) int64 {
	for {
		h, l := atomic.LoadUint32(high), atomic.LoadUint32(low)
		if again := atomic.LoadUint32(low); h == atomic.LoadUint32(high) && again >= l {
			return int64(h)<<32 | int64(again)
		}
	}
}
