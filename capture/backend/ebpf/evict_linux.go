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

// States of slots, see slots.h.
const (
	slotsOpen   = countSlotsStateOPEN
	slotsClosed = countSlotsStateCLOSED
)

// evict takes back the slots of addresses that were idle for expireAfter, if an address was refused for want of one, and those of
// series likewise. It is for who has just read, and must not be called concurrently with that.
//
// Not a packet is lost over it. Once slots are full, no program gives one away or inserts into a map, and once they are closed, none keeps
// what it has found. When those have ended that may not have seen that, addresses and series are deleted; when those have ended, too, that
// may have found them before, the last of what they counted is read, and the slots are free. If something of that fails, the next call
// does it again.
//
// Series are also found in caches, which are let go of in between. The series of an address go with it, so that for these, too, none is
// given away meanwhile: what is new then counts for its address.
func (r *reader) evict(expireAfter time.Duration) error {
	p, now := r.program, time.Since(r.began)
	var full, seriesFull countSlotsState
	err := p.full.Get(&full)
	if p.hasSeries() {
		err = errors.Join(err, p.seriesFull.Get(&seriesFull))
	}
	if err != nil {
		return err
	}
	var expired []int
	next, nextSeries := r.look, r.lookSeries
	if full != slotsOpen && now >= r.look {
		expired, next = r.expired(now, expireAfter, len(p.addresses), p.firstSeries)
	}
	if seriesFull != slotsOpen && now >= r.lookSeries {
		var series []int
		series, nextSeries = r.expired(now, expireAfter, p.firstSeries, p.slots)
		expired = append(expired, series...)
	}
	if len(expired) == 0 {
		r.look, r.lookSeries = next, nextSeries
		return nil
	}
	evicted := make([]bool, p.slots)
	ofAddresses := false
	for _, i := range expired {
		evicted[i] = true
		ofAddresses = ofAddresses || i < p.firstSeries
	}
	if p.hasSeries() {
		if err := p.seriesFull.Set(slotsClosed); err != nil {
			return err
		}
	}
	if ofAddresses {
		if err := p.full.Set(slotsClosed); err != nil {
			return err
		}
	}
	if err := awaitPrograms(); err != nil {
		// Nothing was deleted: what is idle now may not be so at the next call.
		if p.hasSeries() && seriesFull == slotsOpen {
			err = errors.Join(err, p.seriesFull.Set(slotsOpen))
		}
		if ofAddresses {
			err = errors.Join(err, p.full.Set(full))
		}
		return err
	}
	if ofAddresses {
		// A program that was held up may have said since that slots are full. None can say so any more.
		var now countSlotsState
		if err := p.full.Get(&now); err != nil {
			return err
		}
		if now != slotsClosed {
			if err := errors.Join(p.full.Set(slotsClosed), awaitPrograms()); err != nil {
				return err
			}
		}
		for i := p.firstSeries; i < p.slots; i++ {
			if of, _, owned := p.seriesOf(i); owned && evicted[of] && !evicted[i] {
				evicted[i], expired = true, append(expired, i)
			}
		}
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
	// None of them is found in a map any more, but may be in a cache.
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
	r.look, r.lookSeries = next, nextSeries
	if p.hasSeries() {
		err = p.seriesFull.Set(slotsOpen)
	}
	if ofAddresses {
		p.learn()
		err = errors.Join(err, p.full.Set(slotsOpen))
	}
	return err
}

// nextGeneration has programs forget which flows and series they have found.
func (p *program) nextGeneration() error {
	var now uint32
	if err := p.generation.Get(&now); err != nil {
		return err
	}
	return p.generation.Set(now + 1)
}

// giveBack makes a slot free of which no program knows any more.
func (p *program) giveBack(slot int) error {
	if slot < p.firstSeries {
		if err := p.freeSlots.Put(nil, uint32(slot)); err != nil {
			return err
		}
		p.owners[slot-len(p.addresses)] = countOwner{}
		return nil
	}
	if err := p.freeSeries.Put(nil, uint32(slot)); err != nil {
		return err
	}
	owner := &p.seriesOwners[slot-p.firstSeries]
	p.seriesCounts[owner.Owned-1]--
	*owner = countSeriesOwner{}
	return nil
}

// learn has known be what the owners of slots make it, while no program looks at it.
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

// expired gives those of the slots from first to end that were idle for so long, and when there may next be one.
func (r *reader) expired(now, after time.Duration, first, end int) (slots []int, next time.Duration) {
	oldest := now
	for i := first; i < end; i++ {
		switch seen := r.slots[i].seen; {
		case seen == 0: // nobody's, or of somebody whom no read has found yet
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
		if i >= p.firstSeries {
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
