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

// Totals is what an address has moved since the start. Packets and bytes are those of [frame.Packet].
type Totals struct {
	ReceiveBytes, TransmitBytes     int64
	ReceivePackets, TransmitPackets int64
}

// Add adds totals to t.
func (t *Totals) Add(more Totals) {
	t.ReceiveBytes += more.ReceiveBytes
	t.TransmitBytes += more.TransmitBytes
	t.ReceivePackets += more.ReceivePackets
	t.TransmitPackets += more.TransmitPackets
}

// Host is an address and its totals. It has the size of a cache line.
type Host struct {
	Addr netip.Addr // invalid for the sum of all addresses for which there was no room
	Totals
	Entry uint32 // another one when an evicted address returns: its totals begin at 0
	seen  uint32 // when the address last moved something, in ticks
}

// DefaultLimit is the default of how many addresses a table has room for: a full IPv4 /16.
const DefaultLimit = 65536

// tick is the unit of a table's time: 32 bits of it are 13 years.
const tick = 100 * time.Millisecond

// Table has the totals of each address, for up to limit addresses. What further addresses move adds up as other.
//
// An address that has moved nothing for some time has expired. It keeps its totals until a new address finds the table full: then the
// address that has been idle for longest is evicted, and its totals move to other. So the sum over the table is always the sum of what was
// counted, and an address that has not expired is never evicted.
//
// Writers take the table's lock once for a batch of packets, and readers copy the table under the lock. Both may be many, and each
// waits for one batch or one copy at most.
type Table struct {
	mu     sync.Mutex
	limit  int
	expiry expiry
	hosts  []Host   // in the order of their first packet, except that a new host takes the place of an evicted one
	other  Totals   // of addresses for which there was no room
	index  []uint64 // a hash table with open addressing: the upper half of a hash, then 1 + a position in hosts; 0 is free
	seed   [2]uint64

	subnets Subnets
	group   *labels.Grouping // nil: one total for each address
	rest    labels.Values    // of the group: the labels of totals that no series has
	series  series           // only with labels
}

// Subnets are the addresses that count.
type Subnets struct {
	Monitored subnets.Set // an address in here has totals
	Excluded  subnets.Set // a packet to or from here does not count
	Peers     subnets.Set // further subnets that the label peer knows
}

// Monitor sets which addresses count from now on, and returns the table. It takes the lock.
func (t *Table) Monitor(s Subnets) *Table {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subnets = s
	if t.group != nil {
		t.group.Divide(s.Monitored, s.Peers)
	}
	return t
}

// Subnets returns which addresses count.
func (t *Table) Subnets() Subnets {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.subnets
}

// NewTable returns a table with room for at least 1 address. Addresses expire when they have been idle for expireAfter; 0 is never.
func NewTable(limit int, expireAfter time.Duration) *Table {
	seed := maphash.MakeSeed()
	return &Table{
		limit:  limit,
		expiry: expiry{after: expireAfter, began: time.Now()},
		index:  make([]uint64, 1<<9),
		// The seed is random, so that nobody can choose addresses whose hashes collide.
		seed: [2]uint64{maphash.Comparable(seed, 1), maphash.Comparable(seed, 2)},
	}
}

// NewGroupedTable returns a table that splits the totals of addresses by labels, into up to maxSeries series of all addresses together.
// What further series would have adds up in the totals of the address.
func NewGroupedTable(limit int, expireAfter time.Duration, g *labels.Grouping, maxSeries int) *Table {
	t := NewTable(limit, expireAfter)
	t.group, t.rest, t.series.limit = g, g.Rest(), maxSeries
	return t
}

// Grouping says how the table groups packets; nil is by address.
func (t *Table) Grouping() *labels.Grouping { return t.group }

// SeriesLimit is how many series the table has room for.
func (t *Table) SeriesLimit() int { return t.series.limit }

// Limit is how many addresses the table has room for.
func (t *Table) Limit() int { return t.limit }

// ExpireAfter is how long an address may be idle before it expires; 0 is for ever.
func (t *Table) ExpireAfter() time.Duration { return t.expiry.after }

// Snapshot is a copy of a table at one instant.
type Snapshot struct {
	Hosts   []Host // the last one has the invalid address if some addresses had no room
	Evicted int64  // how many addresses were evicted so far

	now, horizon uint32
	series       []Series
}

// Expired tells whether a host of the snapshot has expired. The one with the invalid address never has.
func (s *Snapshot) Expired(h *Host) bool { return h.seen < s.horizon }

// Snapshot copies the table.
func (t *Table) Snapshot() Snapshot {
	t.lock()
	defer t.mu.Unlock()
	return t.snapshot()
}

// snapshot copies the table. The caller holds the lock.
func (t *Table) snapshot() Snapshot {
	hosts := make([]Host, len(t.hosts), len(t.hosts)+1)
	copy(hosts, t.hosts)
	if t.other != (Totals{}) {
		hosts = append(hosts, Host{Totals: t.other, seen: math.MaxUint32})
	}
	return Snapshot{
		Hosts: hosts, Evicted: t.expiry.evicted,
		now: t.expiry.now, horizon: t.expiry.horizon, series: slices.Clone(t.series.all),
	}
}

// lock begins a batch or a copy. The table's time stands still until it ends.
func (t *Table) lock() {
	t.mu.Lock()
	t.expiry.update()
}

// totals returns the totals of an address, whose number is n, for packets with these labels. They are valid until the next call. The
// caller holds the lock.
func (t *Table) totals(addr netip.Addr, n subnets.Number, of labels.Values) *Totals {
	hash := t.hash(n)
	mask := uint64(len(t.index) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		slot := t.index[i]
		if slot == 0 {
			at := t.add(addr, hash)
			switch {
			case at < 0:
				return &t.other
			case of == t.rest:
				return &t.hosts[at].Totals
			}
			return t.seriesTotals(at, of)
		}
		if slot>>32 == hash>>32 {
			if host := &t.hosts[uint32(slot)-1]; host.Addr == addr {
				host.seen = t.expiry.now
				if of == t.rest {
					return &host.Totals
				}
				return t.seriesTotals(int(uint32(slot)-1), of)
			}
		}
	}
}

// add adds a host for an address, which has that hash, if there is room or a host that has expired can be evicted. It returns the
// position, or -1.
func (t *Table) add(addr netip.Addr, hash uint64) int {
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
	t.hosts[at] = Host{Addr: addr, Entry: uint32(t.expiry.evicted), seen: t.expiry.now}
	t.enter(hash, at)
	if len(t.hosts) > len(t.index)/2 { // twice the size
		t.index = make([]uint64, 2*len(t.index))
		for i := range t.hosts {
			t.enter(t.hashOf(i), i)
		}
	}
	return at
}

// evict adds the totals of the host at a position to other, and takes it out of the index.
func (t *Table) evict(position int) {
	t.fold(position)
	t.other.Add(t.hosts[position].Totals)
	mask := uint64(len(t.index) - 1)
	gap := t.hashOf(position) & mask
	for uint32(t.index[gap]) != uint32(position+1) {
		gap = (gap + 1) & mask
	}
	// A search ends at a gap. So an entry that it would no longer find moves into the gap.
	for at := (gap + 1) & mask; t.index[at] != 0; at = (at + 1) & mask {
		home := t.hashOf(int(uint32(t.index[at]) - 1))
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

// hashOf returns the hash of the host at a position.
func (t *Table) hashOf(position int) uint64 { return t.hash(subnets.NumberOf(t.hosts[position].Addr)) }

// hash folds two 128-bit products of the number's words with the seed, as wyhash does
// (https://github.com/wangyi-fudan/wyhash).
func (t *Table) hash(n subnets.Number) uint64 {
	hi, lo := bits.Mul64(n.Hi^t.seed[0], n.Lo^t.seed[1])
	hi, lo = bits.Mul64(hi^t.seed[1], lo^t.seed[0])
	return hi ^ lo
}
