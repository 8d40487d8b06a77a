package kernel

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"promflow/capture/subnets"
)

// States of a pool, see slots.h.
const (
	slotsOpen   = countSlotsStateOPEN
	slotsClosed = countSlotsStateCLOSED
)

// pool is the slots that addresses share, or those of series.
type pool struct {
	first, end int             // slots from first on, before end
	state      *ebpf.Variable  // a countSlotsState
	lastState  countSlotsState // when evict last looked at it
	free       *ebpf.Map       // the slots without an owner
	nextLook   time.Duration   // since the reader began: evict does not look for expired slots before this time
}

// pools returns the pools that have slots.
func (p *Program) pools() (nonEmpty []*pool) {
	for _, each := range []*pool{&p.shared, &p.series} {
		if each.first < each.end {
			nonEmpty = append(nonEmpty, each)
		}
	}
	return nonEmpty
}

// evict takes back the slots of addresses that were idle for expireAfter, if some address found no free slot, and likewise the slots of
// series. Call it right after a read, and not concurrently with one.
//
// It loses no packet. While a pool is full, no program gives a slot away or inserts into the pool's map. While the pool of addresses is
// closed, programs also put nothing into found. Their own caches (flows, series) go on: what these keep is of the current generation. So
// evict takes these steps:
//
//  1. It closes the pools, and waits for programs that have not seen that.
//  2. It deletes what has expired from the maps and from found, and waits for programs that found it before.
//  3. It begins the next generation, and waits for programs that used the last one. Then no program counts in these slots any more.
//  4. It reads the last counts, frees the slots and opens the pools.
//
// If a step fails, the next call does all of this again, for slots that are still idle then.
//
// The series of an address are evicted with it. So evict also closes the pool of series when it evicts addresses. Meanwhile, new series
// count in the slot of their address.
func (r *reader) evict(expireAfter time.Duration) error {
	p, now := r.program, time.Since(r.began)
	var expired []int
	var closing []*pool
	for _, each := range p.pools() {
		if err := each.state.Get(&each.lastState); err != nil {
			return err
		}
		var idle []int
		if each.lastState != slotsOpen && now >= each.nextLook {
			var next time.Duration
			if idle, next = r.expired(now, expireAfter, each); len(idle) == 0 {
				each.nextLook = next
			}
		}
		expired = append(expired, idle...)
		if len(idle) > 0 || each == &p.series && len(expired) > 0 {
			closing = append(closing, each)
		}
	}
	if len(expired) == 0 {
		return nil
	}
	return r.takeBack(expired, closing, now)
}

// takeBack frees expired slots, and closes their pools meanwhile.
func (r *reader) takeBack(expired []int, pools []*pool, now time.Duration) error {
	p := r.program
	if _, err := closePools(pools); err != nil {
		return err
	}
	for again := true; again; {
		err := awaitPrograms()
		if err != nil {
			// This call has deleted nothing. The slots may not be idle any more at the next call, so pools do not stay closed until then.
			for _, each := range pools {
				err = errors.Join(err, each.state.Set(each.lastState))
			}
			return err
		}
		// A program that was delayed may have set the state to full since.
		if again, err = closePools(pools); err != nil {
			return err
		}
	}
	ofAddresses := pools[0] == &p.shared
	if ofAddresses {
		expired = p.withSeries(expired)
	}
	if err := p.deleteKeys(expired); err != nil {
		return fmt.Errorf("deleting idle addresses from the kernel's maps: %w", err)
	}
	if ofAddresses {
		for i := range p.found {
			atomic.StoreUint64(&p.found[i], 0) // programs read whole words meanwhile
		}
	}
	if err := awaitPrograms(); err != nil {
		return err
	}
	// No map has these slots any more, but caches of programs do.
	if err := errors.Join(p.nextGeneration(), awaitPrograms()); err != nil {
		return err
	}
	r.counter.Lock()
	for _, i := range expired {
		r.readSlot(i, now)
	}
	r.counter.Unlock()
	for _, i := range slices.Backward(expired) { // series before their addresses
		if err := p.freeSlot(i); err != nil {
			return fmt.Errorf("freeing slots of idle addresses: %w", err)
		}
		r.last[i].seen = 0
	}
	if ofAddresses {
		p.rebuildKnown()
	}
	var err error
	for _, each := range pools {
		err = errors.Join(err, each.state.Set(slotsOpen))
	}
	return err
}

// closePools closes pools, and tells whether any of them was not closed before.
func closePools(pools []*pool) (changed bool, err error) {
	for _, each := range pools {
		var state countSlotsState
		err = errors.Join(err, each.state.Get(&state))
		if state != slotsClosed {
			err = errors.Join(err, each.state.Set(slotsClosed))
			changed = true
		}
	}
	return changed, err
}

// withSeries adds the remaining series of the addresses among slots.
func (p *Program) withSeries(slots []int) []int {
	listed := map[int]bool{}
	for _, i := range slots {
		listed[i] = true
	}
	for i := p.series.first; i < p.series.end; i++ {
		if address, _, owned := p.ownerOf(i); owned && listed[address] && !listed[i] {
			slots = append(slots, i)
		}
	}
	return slots
}

// nextGeneration begins the next generation: programs then ignore what they cached about flows and series.
func (p *Program) nextGeneration() error {
	var now uint32
	if err := p.generation.Get(&now); err != nil {
		return err
	}
	return p.generation.Set(now + 1)
}

// freeSlot frees a slot that no program uses any more.
func (p *Program) freeSlot(slot int) error {
	from := &p.shared
	if slot >= p.series.first {
		from = &p.series
	}
	if err := from.free.Put(nil, uint32(slot)); err != nil {
		return err
	}
	if from == &p.shared {
		p.owners[slot-from.first] = countOwner{}
		return nil
	}
	owner := &p.seriesOwners[slot-from.first]
	p.seriesCounts[owner.Owned-1]--
	*owner = countSeriesOwner{}
	return nil
}

// rebuildKnown fills known anew, from the owners of slots. Call it while the pool is closed: programs must not use known meanwhile.
func (p *Program) rebuildKnown() {
	clear(p.known)
	for i := range p.owners {
		if o := &p.owners[i]; o.Version != 0 {
			p.known[p.hashOf(o.High, o.Low)>>(64-p.knownBits)] = 1
		}
	}
}

const golden = 0x9e3779b97f4a7c15 // GOLDEN of slots.h

// hashOf is hash_of of slots.h.
func (p *Program) hashOf(high, low uint64) uint64 {
	return (((high ^ p.seed) * golden) ^ low ^ p.seed) * golden
}

// expired returns the slots of a pool that were idle for longer than after, and the earliest time at which another one may be.
func (r *reader) expired(now, after time.Duration, from *pool) (slots []int, next time.Duration) {
	oldest := now
	for i := from.first; i < from.end; i++ {
		switch seen := r.last[i].seen; {
		case seen == 0: // it has no owner, or its owner was not read yet
		case now-seen > after:
			slots = append(slots, i)
		default:
			oldest = min(oldest, seen)
		}
	}
	return slots, oldest + after
}

// deleteKeys deletes the addresses and series that own slots from the kernel's maps.
func (p *Program) deleteKeys(slots []int) error {
	var keys4 []uint32
	var keys6 []countAddress6
	var series []countSeriesKey
	for _, i := range slots {
		if i >= p.series.first {
			address, labels, _ := p.ownerOf(i)
			series = append(series, countSeriesKey{Slot: uint64(address), Labels: uint64(labels)})
		} else if addr := p.address(i); addr.Is4() {
			keys4 = append(keys4, subnets.Number4(addr))
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
		keys = keys[deleted+1:] // the map lacks the key behind these: an earlier call deleted it, and failed later
	}
	return nil
}

// awaitPrograms waits until every run of an eBPF program that has begun has ended. Programs run in read-side critical sections of RCU, and
// membarrier(2) waits for all of these. The kernel's own tests of eBPF use it for that, too (kern_sync_rcu).
func awaitPrograms() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		return fmt.Errorf("waiting for eBPF programs (membarrier): %w", errno)
	}
	return nil
}

const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL of linux/membarrier.h
