package ebpf

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// States of a pool's slots, see slots.h.
const (
	slotsOpen   = countSlotsStateOPEN
	slotsClosed = countSlotsStateCLOSED
)

// pool is the slots that addresses share, or those of series.
type pool struct {
	first, end int             // the slots
	state      *ebpf.Variable  // a countSlotsState
	was        countSlotsState // when evict last looked at it
	free       *ebpf.Map       // the slots that nobody has
	look       time.Duration   // since the reader began: none has expired before
}

// pools gives those that have slots.
func (p *program) pools() (all []*pool) {
	for _, of := range []*pool{&p.shared, &p.series} {
		if of.first < of.end {
			all = append(all, of)
		}
	}
	return all
}

// evict takes back the slots of addresses that were idle for expireAfter, if some address found no free slot, and likewise the slots of
// series. Call it right after a read, and not concurrently with one.
//
// It loses no packet. While a pool is full, no program gives a slot away or inserts into the pool's map. While it is closed, programs also
// keep nothing that they find. So evict closes the pools and waits for the programs that have not seen that. It deletes what has expired
// from the maps, waits for the programs that still found it there, and has programs forget what their caches have. Then nobody counts in
// these slots any more. It reads the last counts and frees the slots. If a step fails, the next call does all of this again.
//
// The series of an address go with it. So the pool of series is closed, too, when addresses are evicted. Labels that are new meanwhile
// count in the slot of their address.
func (r *reader) evict(expireAfter time.Duration) error {
	p, now := r.program, time.Since(r.began)
	var expired []int
	var closing []*pool
	for _, of := range p.pools() {
		if err := of.state.Get(&of.was); err != nil {
			return err
		}
		var idle []int
		if of.was != slotsOpen && now >= of.look {
			var next time.Duration
			if idle, next = r.expired(now, expireAfter, of); len(idle) == 0 {
				of.look = next
			}
		}
		expired = append(expired, idle...)
		if len(idle) > 0 || of == &p.series && len(expired) > 0 {
			closing = append(closing, of)
		}
	}
	if len(expired) == 0 {
		return nil
	}
	return r.takeBack(expired, closing, now)
}

// takeBack frees the slots of pools that have expired.
func (r *reader) takeBack(expired []int, of []*pool, now time.Duration) error {
	p := r.program
	if _, err := closePools(of); err != nil {
		return err
	}
	for again := true; again; {
		err := awaitPrograms()
		if err != nil {
			// Nothing was deleted: what is idle now may not be so at the next call.
			for _, each := range of {
				err = errors.Join(err, each.state.Set(each.was))
			}
			return err
		}
		// A program that was held up may have set the state to full since.
		if again, err = closePools(of); err != nil {
			return err
		}
	}
	ofAddresses := of[0] == &p.shared
	if ofAddresses {
		expired = p.withSeries(expired)
	}
	if err := p.forget(expired); err != nil {
		return fmt.Errorf("taking idle addresses out of the kernel's map: %w", err)
	}
	if ofAddresses {
		for i := range p.found {
			atomic.StoreUint64(&p.found[i], 0) // programs read whole words
		}
	}
	if err := awaitPrograms(); err != nil {
		return err
	}
	// Programs find them in no map any more, but in their caches.
	if err := errors.Join(p.nextGeneration(), awaitPrograms()); err != nil {
		return err
	}
	r.counter.Lock()
	for _, i := range expired {
		r.readSlot(i, now)
	}
	r.counter.Unlock()
	for _, i := range slices.Backward(expired) { // series before their addresses
		if err := p.giveBack(i); err != nil {
			return fmt.Errorf("giving back slots of idle addresses: %w", err)
		}
		r.slots[i].seen = 0
	}
	if ofAddresses {
		p.learn()
	}
	var err error
	for _, each := range of {
		err = errors.Join(err, each.state.Set(slotsOpen))
	}
	return err
}

// closePools closes pools, and tells whether one was not closed.
func closePools(pools []*pool) (closed bool, err error) {
	for _, of := range pools {
		var state countSlotsState
		err = errors.Join(err, of.state.Get(&state))
		if state != slotsClosed {
			err = errors.Join(err, of.state.Set(slotsClosed))
			closed = true
		}
	}
	return closed, err
}

// withSeries adds to slots of addresses, and of series, those of the addresses' other series.
func (p *program) withSeries(slots []int) []int {
	listed := map[int]bool{}
	for _, i := range slots {
		listed[i] = true
	}
	for i := p.series.first; i < p.series.end; i++ {
		if address, _, owned := p.seriesOf(i); owned && listed[address] && !listed[i] {
			slots = append(slots, i)
		}
	}
	return slots
}

// nextGeneration makes programs forget which flows and series they have found.
func (p *program) nextGeneration() error {
	var now uint32
	if err := p.generation.Get(&now); err != nil {
		return err
	}
	return p.generation.Set(now + 1)
}

// giveBack frees a slot that no program knows any more.
func (p *program) giveBack(slot int) error {
	of := &p.shared
	if slot >= p.series.first {
		of = &p.series
	}
	if err := of.free.Put(nil, uint32(slot)); err != nil {
		return err
	}
	if of == &p.shared {
		p.owners[slot-of.first] = countOwner{}
		return nil
	}
	owner := &p.seriesOwners[slot-of.first]
	p.seriesCounts[owner.Owned-1]--
	*owner = countSeriesOwner{}
	return nil
}

// learn sets known by the owners of slots. No program may look at it meanwhile.
func (p *program) learn() {
	clear(p.known)
	for i := range p.owners {
		if o := &p.owners[i]; o.Version != 0 {
			p.known[p.hashOf(o.High, o.Low)>>(64-p.knownBits)] = 1
		}
	}
}

const golden = 0x9e3779b97f4a7c15 // GOLDEN of slots.h

// hashOf is hash_of of slots.h.
func (p *program) hashOf(high, low uint64) uint64 {
	return (((high ^ p.seed) * golden) ^ low ^ p.seed) * golden
}

// expired gives the slots of a pool that were idle for so long, and the earliest time at which another one may be.
func (r *reader) expired(now, after time.Duration, of *pool) (slots []int, next time.Duration) {
	oldest := now
	for i := of.first; i < of.end; i++ {
		switch seen := r.slots[i].seen; {
		case seen == 0: // nobody's, or its owner was not read yet
		case now-seen > after:
			slots = append(slots, i)
		default:
			oldest = min(oldest, seen)
		}
	}
	return slots, oldest + after
}

// forget deletes the addresses and series of slots.
func (p *program) forget(slots []int) error {
	var keys4 []uint32
	var keys6 []countAddress6
	var series []countSeriesKey
	for _, i := range slots {
		if i >= p.series.first {
			of, labels, _ := p.seriesOf(i)
			series = append(series, countSeriesKey{Slot: uint64(of), Labels: uint64(labels)})
		} else if addr := p.address(i); addr.Is4() {
			keys4 = append(keys4, number4(addr))
		} else {
			keys6 = append(keys6, number6(addr))
		}
	}
	return errors.Join(deleteAll(p.slots4, keys4), deleteAll(p.slots6, keys6), deleteAll(p.seriesSlots, series))
}

func deleteAll[K any](m *ebpf.Map, keys []K) error {
	for len(keys) > 0 {
		deleted, err := m.BatchDelete(keys, nil)
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		keys = keys[deleted+1:] // the one after them was deleted by a call that failed later
	}
	return nil
}

// awaitPrograms waits until every run of an eBPF program that was under way has ended: those run in a read-side section of RCU, and
// membarrier(2) waits for all of these (as the kernel's own tests of eBPF do, kern_sync_rcu).
func awaitPrograms() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		return fmt.Errorf("waiting for eBPF programs (membarrier): %w", errno)
	}
	return nil
}

const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL of linux/membarrier.h
