package ebpf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"

	"promflow/capture"
	"promflow/capture/frame"
)

// Hosts are read as many at a time as have totals of so many bytes over all processors, and not less than a bucket of the
// kernel's hash table may have.
const (
	batchMemory = 1 << 20
	minBatch    = 256
)

// As in totals.h.
const (
	receive = iota
	transmit
	directions

	sums     = 8 // of a processor
	sumOther = int(frame.Outcomes)
)

// reader brings a table up to date with what a program has counted. The kernel's totals only grow: what they have grown by
// since they were last read is what the table lacks.
type reader struct {
	program  *program
	counter  *capture.Counter
	outcomes [frame.Outcomes]capture.OutcomeSize // as they were last read, as are the following
	other    capture.Totals
	indexed  []capture.Totals
	hosts4   map[uint32]*capture.Totals
	hosts6   map[countAddress6]*capture.Totals
}

func newReader(p *program, counter *capture.Counter) *reader {
	return &reader{
		program: p,
		counter: counter,
		indexed: make([]capture.Totals, len(p.addresses)),
		hosts4:  map[uint32]*capture.Totals{},
		hosts6:  map[countAddress6]*capture.Totals{},
	}
}

// read adds what is new to the table. It must not be called concurrently.
func (r *reader) read() error {
	r.readIndexed()
	err := errors.Join(
		readHosts(r, r.program.hosts4, r.hosts4, address4),
		readHosts(r, r.program.hosts6, r.hosts6, address6))
	r.readSums()
	return err
}

func (r *reader) readSums() {
	var other capture.Totals
	var outcomes [frame.Outcomes]capture.OutcomeSize
	for of := range slices.Chunk(r.program.sums, sums) {
		addSize(&other.ReceiveBytes, &other.ReceivePackets, &of[sumOther+receive])
		addSize(&other.TransmitBytes, &other.TransmitPackets, &of[sumOther+transmit])
		for o := range outcomes {
			addSize(&outcomes[o].Bytes, &outcomes[o].Packets, &of[o])
		}
	}
	r.counter.Lock()
	defer r.counter.Unlock()
	r.grow(capture.Key{}, &r.other, other)
	for o, now := range outcomes {
		last := &r.outcomes[o]
		r.counter.AddOutcome(frame.Outcome(o), capture.OutcomeSize{Packets: grown(&last.Packets, now.Packets), Bytes: grown(&last.Bytes, now.Bytes)})
	}
}

func (r *reader) readIndexed() {
	r.counter.Lock()
	defer r.counter.Unlock()
	count := len(r.program.addresses)
	for i, addr := range r.program.addresses {
		var now capture.Totals
		for at := i; at < len(r.program.low); at += directions * count {
			r.addIndexed(&now.ReceiveBytes, &now.ReceivePackets, at+receive*count)
			r.addIndexed(&now.TransmitBytes, &now.TransmitPackets, at+transmit*count)
		}
		r.grow(capture.Key{Addr: addr}, &r.indexed[i], now)
	}
}

// readHosts reads a map of hosts, batch by batch. Hosts that the program adds meanwhile may have to wait for the next time.
func readHosts[K comparable](r *reader, m *ebpf.Map, last map[K]*capture.Totals, address func(K) netip.Addr) error {
	cpus := len(r.program.sums) / sums
	size := min(max(batchMemory/cpus/int(unsafe.Sizeof(countTotals{})), minBatch), int(m.MaxEntries()))
	keys, values := make([]K, size), make([]countTotals, size*cpus)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("reading the kernel's map of hosts: %w", err)
		}
		r.counter.Lock()
		for i, key := range keys[:n] {
			var now capture.Totals
			for cpu := range cpus {
				add(&now, &values[i*cpus+cpu])
			}
			was := last[key]
			if was == nil {
				was = new(capture.Totals)
				last[key] = was
			}
			r.grow(capture.Key{Addr: address(key)}, was, now)
		}
		r.counter.Unlock()
		if err != nil {
			return nil // that was all
		}
	}
}

// grow adds to the table what the totals of a key have grown by since they were last read. One that was read while it was
// being written may appear to have shrunk: it has its turn the next time.
func (r *reader) grow(key capture.Key, last *capture.Totals, now capture.Totals) {
	if now == *last {
		return
	}
	r.counter.Add(key, capture.Totals{
		ReceiveBytes:    grown(&last.ReceiveBytes, now.ReceiveBytes),
		TransmitBytes:   grown(&last.TransmitBytes, now.TransmitBytes),
		ReceivePackets:  grown(&last.ReceivePackets, now.ReceivePackets),
		TransmitPackets: grown(&last.TransmitPackets, now.TransmitPackets),
	})
}

// grown gives by how much a number is more than it was last, which it then is.
func grown(last *int64, now int64) int64 {
	more := max(0, now-*last)
	*last += more
	return more
}

// add and addSize add what a processor has counted, and may be counting, to sums.

func add(sum *capture.Totals, t *countTotals) {
	addSize(&sum.ReceiveBytes, &sum.ReceivePackets, &t.Of[receive])
	addSize(&sum.TransmitBytes, &sum.TransmitPackets, &t.Of[transmit])
}

func addSize(bytes, packets *int64, s *countSize) {
	*bytes += int64(atomic.LoadUint64(&s.Bytes))
	*packets += int64(atomic.LoadUint64(&s.Packets))
}

// addIndexed adds what a processor has counted, and may be counting, at a place of the indexed addresses to sums.
func (r *reader) addIndexed(bytes, packets *int64, at int) {
	low, high := &r.program.low[at], &r.program.high[at]
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
