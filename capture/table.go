package capture

import (
	"hash/maphash"
	"math/bits"
	"net/netip"
	"sync"
)

// Key is what totals are kept by.
type Key struct {
	Addr netip.Addr // invalid for the totals of addresses that found the table full
}

// Totals is what an address has moved since the start. Packets and bytes are those of [frame.Packet].
type Totals struct {
	ReceiveBytes, TransmitBytes     int64
	ReceivePackets, TransmitPackets int64
}

// Host is a key and its totals.
type Host struct {
	Key
	Totals
}

// DefaultLimit is how many addresses a table tracks when nothing else is said: a full IPv4 /16.
const DefaultLimit = 65536

// Table has the totals of every address, for at most limit of them; what further addresses move adds up under the zero
// Key. So the sum over the table is always the sum of what was counted.
//
// Writers take the table's lock once for a batch of packets, not for each of them, and readers copy it out under the lock:
// several of both can go on at once, and nobody waits longer than for one batch or one copy.
type Table struct {
	mu    sync.Mutex
	limit int
	hosts []Host   // in the order in which they were first seen
	other Totals   // of addresses beyond the limit
	index []uint64 // open addressing: the upper half of a hash, then 1 + a position in hosts; 0 is free
	seed  [2]uint64
}

// NewTable makes a table for at most limit addresses, at least 1.
func NewTable(limit int) *Table {
	seed := maphash.MakeSeed()
	return &Table{
		limit: limit,
		index: make([]uint64, 1<<9),
		// Whoever can choose addresses must not be able to choose collisions.
		seed: [2]uint64{maphash.Comparable(seed, 1), maphash.Comparable(seed, 2)},
	}
}

// Limit is how many addresses the table tracks at most.
func (t *Table) Limit() int { return t.limit }

// Snapshot appends all totals as they are at one instant to hosts. What did not fit in the table comes last, under the
// zero Key, if there was any.
func (t *Table) Snapshot(hosts []Host) []Host {
	t.mu.Lock()
	defer t.mu.Unlock()
	hosts = append(hosts, t.hosts...)
	if t.other != (Totals{}) {
		hosts = append(hosts, Host{Totals: t.other})
	}
	return hosts
}

// totals gives where to add what key moved, valid until the next call; n is the key's address as a number. The caller holds
// the lock.
func (t *Table) totals(key Key, n uint128) *Totals {
	hash := t.hash(n)
	mask := uint64(len(t.index) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		slot := t.index[at]
		if slot == 0 {
			return t.add(key, hash, at)
		}
		if slot>>32 == hash>>32 {
			if host := &t.hosts[uint32(slot)-1]; host.Key == key {
				return &host.Totals
			}
		}
	}
}

// add begins to track key, whose hash belongs at a free place of the index, if there is room.
func (t *Table) add(key Key, hash, at uint64) *Totals {
	if len(t.hosts) >= t.limit {
		return &t.other
	}
	t.hosts = append(t.hosts, Host{Key: key})
	t.index[at] = hash>>32<<32 | uint64(len(t.hosts))
	if len(t.hosts) > len(t.index)/2 {
		t.grow()
	}
	return &t.hosts[len(t.hosts)-1].Totals
}

// grow doubles the index.
func (t *Table) grow() {
	index := make([]uint64, 2*len(t.index))
	mask := uint64(len(index) - 1)
	for i := range t.hosts {
		hash := t.hash(number(t.hosts[i].Addr))
		at := hash & mask
		for index[at] != 0 {
			at = (at + 1) & mask
		}
		index[at] = hash>>32<<32 | uint64(i+1)
	}
	t.index = index
}

// hash folds two 128-bit products of the key's words with the seed, after the multiply-and-fold step of wyhash
// (https://github.com/wangyi-fudan/wyhash).
func (t *Table) hash(n uint128) uint64 {
	hi, lo := bits.Mul64(n.hi^t.seed[0], n.lo^t.seed[1])
	hi, lo = bits.Mul64(hi^t.seed[1], lo^t.seed[0])
	return hi ^ lo
}
