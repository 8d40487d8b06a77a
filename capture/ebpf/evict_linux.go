package ebpf

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What full is, as in totals.h.
const (
	slotsOpen uint32 = iota
	slotsFull
	slotsClosed
)

// evict takes back the slots of addresses that were idle for expireAfter, if an address was refused for want of one. It is for
// who has just read, and must not be called concurrently with that.
//
// Not a packet is lost over it. Once slots are full, no program gives one away or inserts into a map. Once those have ended that
// may not have seen that, addresses are deleted; once those have ended, too, that may have found them before, the last of what they
// counted is read, and the slots are free. If something of that fails, the next call does it again.
func (r *reader) evict(expireAfter time.Duration) error {
	p, now := r.program, time.Since(r.began)
	var full uint32
	if err := p.full.Get(&full); err != nil || full == slotsOpen || now < r.look {
		return err
	}
	expired, next := r.expired(now, expireAfter)
	if len(expired) == 0 {
		r.look = next
		return nil
	}
	if err := awaitPrograms(); err != nil {
		return err
	}
	if err := errors.Join(p.full.Set(slotsClosed), p.forget(expired)); err != nil {
		return fmt.Errorf("taking idle addresses out of the kernel's map: %w", err)
	}
	if err := awaitPrograms(); err != nil {
		return err
	}
	r.counter.Lock()
	for _, i := range expired {
		r.readSlot(i, now)
	}
	r.counter.Unlock()
	for _, i := range expired {
		if err := p.freeSlots.Put(nil, uint32(i)); err != nil {
			return fmt.Errorf("giving back slots of idle addresses: %w", err)
		}
		r.slots[i].seen = 0
		p.owners[i-len(p.addresses)] = countOwner{}
	}
	p.learn()
	r.look = next
	return p.full.Set(slotsOpen)
}

// learn has known be what the owners of slots make it, while no program looks at it.
func (p *program) learn() {
	clear(p.known)
	for i := range p.owners {
		if o := &p.owners[i]; owned(o) {
			p.known[p.knownPlace(o.High, o.Low)] = 1
		}
	}
}

// knownPlace is known_place of totals.h.
func (p *program) knownPlace(high, low uint64) uint64 {
	const golden = 0x9e3779b97f4a7c15
	return (((high ^ p.knownSeed) * golden) ^ low ^ p.knownSeed) * golden >> (64 - p.knownBits)
}

// expired gives the shared slots of addresses that were idle for so long, and when there may next be one.
func (r *reader) expired(now, after time.Duration) (slots []int, next time.Duration) {
	oldest := now
	for i := len(r.program.addresses); i < len(r.slots); i++ {
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

// forget deletes the addresses of slots.
func (p *program) forget(slots []int) error {
	var keys4 []uint32
	var keys6 []countAddress6
	for _, i := range slots {
		if addr := p.address(i); addr.Is4() {
			keys4 = append(keys4, number4(addr))
		} else {
			keys6 = append(keys6, number6(addr))
		}
	}
	return errors.Join(deleteAll(p.slots4, keys4), deleteAll(p.slots6, keys6))
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
