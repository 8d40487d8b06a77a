package capture

import (
	"hash/maphash"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"time"

	"promflow/capture/labels"
	"promflow/capture/subnets"
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

func (t *Totals) add(more Totals) {
	t.ReceiveBytes += more.ReceiveBytes
	t.TransmitBytes += more.TransmitBytes
	t.ReceivePackets += more.ReceivePackets
	t.TransmitPackets += more.TransmitPackets
}

// Host is a key and its totals.
type Host struct {
	Key
	Totals
	Entry uint32 // tells what an address moves from what it had moved before it was evicted
	seen  uint32 // when it last moved something, in ticks; with it, a host is a line of the processor's cache
}

// DefaultLimit is how many addresses a table tracks when nothing else is said: a full IPv4 /16.
const DefaultLimit = 65536

// tick is the unit of a table's time: 32 bits of it are 13 years.
const tick = 100 * time.Millisecond

// Table has the totals of every address, for at most limit of them; what further addresses move adds up under the zero
// Key. An address that has moved nothing for some time is expired: it keeps its totals, but it is the first to go when a new
// address finds the table full, the one that has been idle for longest before the others. Its totals are then part of the zero
// Key's. So the sum over the table is always the sum of what was counted, and nothing but that time lets an address go.
//
// Writers take the table's lock once for a batch of packets, not for each of them, and readers copy it out under the lock:
// several of both can go on at once, and nobody waits longer than for one batch or one copy.
type Table struct {
	mu     sync.Mutex
	limit  int
	expiry expiry
	hosts  []Host   // in the order in which they were first seen, but that a new one takes the place of one that was evicted
	other  Totals   // of addresses beyond the limit
	index  []uint64 // open addressing: the upper half of a hash, then 1 + a position in hosts; 0 is free
	seed   [2]uint64

	group  *labels.Grouping // nil is by addresses alone
	series series           // only with labels
}

// NewTable makes a table for at most limit addresses, at least 1. They expire when they were idle for expireAfter; with 0,
// never.
func NewTable(limit int, expireAfter time.Duration) *Table {
	seed := maphash.MakeSeed()
	return &Table{
		limit:  limit,
		expiry: newExpiry(expireAfter),
		index:  make([]uint64, 1<<9),
		// Whoever can choose addresses must not be able to choose collisions.
		seed: [2]uint64{maphash.Comparable(seed, 1), maphash.Comparable(seed, 2)},
	}
}

// NewGroupedTable makes a table that keeps what an address moves apart by labels: up to maxSeries combinations of them, of all
// addresses together. What has no room adds up under the address alone.
func NewGroupedTable(limit int, expireAfter time.Duration, g *labels.Grouping, maxSeries int) *Table {
	t := NewTable(limit, expireAfter)
	t.group, t.series.limit = g, maxSeries
	return t
}

// Grouping is by what the table keeps totals; nil is by addresses alone.
func (t *Table) Grouping() *labels.Grouping { return t.group }

// SeriesLimit is how many combinations of labels are kept apart, of all addresses together.
func (t *Table) SeriesLimit() int { return t.series.limit }

// Limit is how many addresses the table tracks at most.
func (t *Table) Limit() int { return t.limit }

// ExpireAfter is for how long an address may be idle before it expires; 0 is for ever.
func (t *Table) ExpireAfter() time.Duration { return t.expiry.after }

// Snapshot is a table at one instant.
type Snapshot struct {
	Hosts   []Host // what did not fit in the table comes last, under the zero Key, if there was any
	Evicted int64  // how many addresses made room for others so far

	horizon uint32
	series  []Series
}

// Expired tells whether a host of the snapshot has been idle for so long that it has expired. The zero Key's never has.
func (s *Snapshot) Expired(h *Host) bool { return h.seen < s.horizon }

// Snapshot copies the table.
func (t *Table) Snapshot() Snapshot {
	t.lock()
	defer t.mu.Unlock()
	hosts := make([]Host, len(t.hosts), len(t.hosts)+1)
	copy(hosts, t.hosts)
	if t.other != (Totals{}) {
		hosts = append(hosts, Host{Totals: t.other, seen: math.MaxUint32})
	}
	return Snapshot{Hosts: hosts, Evicted: t.expiry.evicted, horizon: t.expiry.horizon, series: slices.Clone(t.series.all)}
}

// lock begins a batch, or a copy, which all happens at one time.
func (t *Table) lock() {
	t.mu.Lock()
	t.expiry.update()
}

// totals gives where to add what key moved, valid until the next call; n is the key's address as a number. The caller holds
// the lock.
func (t *Table) totals(key Key, n subnets.Number) *Totals {
	if at := t.position(key, n); at >= 0 {
		return &t.hosts[at].Totals
	}
	return &t.other
}

// position gives where in hosts a key is, less than 0 if it has no room.
func (t *Table) position(key Key, n subnets.Number) int {
	hash := t.hash(n)
	mask := uint64(len(t.index) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		slot := t.index[at]
		if slot == 0 {
			return t.add(key, hash)
		}
		if slot>>32 == hash>>32 {
			if host := &t.hosts[uint32(slot)-1]; host.Key == key {
				host.seen = t.expiry.now
				return int(uint32(slot) - 1)
			}
		}
	}
}

// add begins to track key, which has that hash, if there is room or one that has expired makes some: else what it gives is less
// than 0.
func (t *Table) add(key Key, hash uint64) int {
	at := len(t.hosts)
	if at < t.limit {
		t.hosts = append(t.hosts, Host{})
	} else {
		expired, ok := t.expiry.next(t.hosts)
		if !ok {
			return -1
		}
		t.evict(expired)
		at = expired
	}
	host := &t.hosts[at]
	*host = Host{Key: key, Entry: uint32(t.expiry.evicted), seen: t.expiry.now}
	t.enter(hash, at)
	if len(t.hosts) > len(t.index)/2 {
		t.grow()
	}
	return at
}

// evict gives what the host at a position had moved to the others, and takes it out of the index.
func (t *Table) evict(position int) {
	t.fold(position)
	host := &t.hosts[position]
	t.other.add(host.Totals)
	mask := uint64(len(t.index) - 1)
	gap := t.hash(subnets.NumberOf(host.Addr)) & mask
	for uint32(t.index[gap]) != uint32(position+1) {
		gap = (gap + 1) & mask
	}
	// What a search would no longer find, as it ends at a gap, moves into it.
	for at := (gap + 1) & mask; t.index[at] != 0; at = (at + 1) & mask {
		home := t.hash(subnets.NumberOf(t.hosts[uint32(t.index[at])-1].Addr))
		if (at-home)&mask >= (at-gap)&mask {
			t.index[gap] = t.index[at]
			gap = at
		}
	}
	t.index[gap] = 0
}

// enter puts a position of hosts into the index.
func (t *Table) enter(hash uint64, position int) {
	mask := uint64(len(t.index) - 1)
	at := hash & mask
	for t.index[at] != 0 {
		at = (at + 1) & mask
	}
	t.index[at] = hash>>32<<32 | uint64(position+1)
}

// grow doubles the index.
func (t *Table) grow() {
	t.index = make([]uint64, 2*len(t.index))
	for i := range t.hosts {
		t.enter(t.hash(subnets.NumberOf(t.hosts[i].Addr)), i)
	}
}

// hash folds two 128-bit products of the key's words with the seed, after the multiply-and-fold step of wyhash
// (https://github.com/wangyi-fudan/wyhash).
func (t *Table) hash(n subnets.Number) uint64 {
	hi, lo := bits.Mul64(n.Hi^t.seed[0], n.Lo^t.seed[1])
	hi, lo = bits.Mul64(hi^t.seed[1], lo^t.seed[0])
	return hi ^ lo
}
