package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// What is monitored, but for the excluded part of it.
const (
	monitored = "10.0.0.0/8,192.168.7.0/24,fd00::/64" // counted by a hash, by an index, and by a hash
	excluded  = "10.255.0.0/16"
)

// constants is how many addresses are never idle.
const constants = 192 + 64 + 192

var (
	stranger4, stranger6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	excludedAddr         = netip.MustParseAddr("10.255.0.1")
)

// packet is one that is sent.
type packet struct {
	from, to netip.Addr
	size     int // network-layer bytes
}

// traffic decides what a soak sends, and keeps the books on it. Half of the packets go between constant addresses. Others have
// churning ones at one end, which come, move something for a moment and are idle then; some return after they have expired, and
// some once more when they have been evicted, too. Now and then somebody scans a net and for a moment meets more addresses than
// there is room for. The rest does not count.
type traffic struct {
	sent     int64 // packets
	total    tally // that promflow has to count
	constant map[netip.Addr]*tally

	random           *rand.Rand
	families         [2][]netip.Addr // the constant addresses, IPv4 and IPv6
	all              []netip.Addr
	expireAfter      time.Duration
	arrivals         float64 // addresses that come for the first time, a second
	stay, soon, late time.Duration
}

// newTraffic plans traffic for a table of so much room whose addresses expire after so long.
func newTraffic(room int, expireAfter time.Duration) *traffic {
	t := &traffic{
		constant:    make(map[netip.Addr]*tally),
		random:      rand.New(rand.NewPCG(1, 2)), // the same each time
		expireAfter: expireAfter,
		stay:        2 * time.Second,
	}
	for i := range 192 {
		t.families[0] = append(t.families[0], netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
		t.families[1] = append(t.families[1], netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)}))
	}
	for i := range 64 {
		t.families[0] = append(t.families[0], netip.AddrFrom4([4]byte{192, 168, 7, byte(i)}))
	}
	t.all = slices.Concat(t.families[:]...)
	for _, addr := range t.all {
		t.constant[addr] = new(tally)
	}
	// Those that have not expired fill two thirds of the table, so that each new one needs the place of one that has. Each of
	// four comes back twice.
	t.soon, t.late = t.stay+expireAfter+expireAfter/4, t.stay+4*expireAfter
	t.arrivals = float64(room*2/3-constants) / (t.stay + expireAfter).Seconds() / 1.5
	return t
}

// next gives the packet to be sent at so much time after the begin, and enters it.
func (t *traffic) next(now time.Duration) packet {
	p := t.choose(now)
	t.sent++
	if p.from == excludedAddr || p.to == excludedAddr {
		return p
	}
	if isMonitored(p.from) {
		t.total.transmit += int64(p.size)
		if books := t.constant[p.from]; books != nil {
			books.transmit += int64(p.size)
		}
	}
	if isMonitored(p.to) {
		t.total.receive += int64(p.size)
		if books := t.constant[p.to]; books != nil {
			books.receive += int64(p.size)
		}
	}
	return p
}

func isMonitored(addr netip.Addr) bool { return addr != stranger4 && addr != stranger6 }

func (t *traffic) choose(now time.Duration) packet {
	random := t.random.Uint64()
	kind, family, size := random%16, random>>8%4/3, 60+int(random>>16%256)
	if t.sent < int64(len(t.all)) { // they are there before all others
		p := packet{to: t.all[t.sent], size: size}
		p.from = stranger(p.to)
		return p
	}
	constant := func() netip.Addr { return t.families[family][t.random.IntN(len(t.families[family]))] }
	p := packet{size: size}
	switch {
	case kind < 8:
		p.from, p.to = constant(), constant()
	case kind < 11:
		p.from = t.churning(now)
		p.to = stranger(p.from)
	case kind < 14:
		p.to = t.churning(now)
		p.from = stranger(p.to)
		if kind == 13 {
			if p.to.Is6() {
				family = 1
			} else {
				family = 0
			}
			p.from = constant()
		}
	case kind == 14 && t.scanned(now):
		p.from = stranger4
		p.to = netip.AddrFrom4([4]byte{10, 128, byte(random >> 32), byte(random >> 40)})
	case kind == 14:
		p.from, p.to = stranger4, stranger4
	default:
		family = 0
		p.from, p.to = constant(), excludedAddr
		if size%2 == 0 {
			p.from, p.to = p.to, p.from
		}
	}
	return p
}

// stranger is an address of the same kind that is not monitored.
func stranger(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		return stranger6
	}
	return stranger4
}

// churning gives one of the addresses that are there for a moment.
func (t *traffic) churning(now time.Duration) netip.Addr {
	random := t.random.Uint64()
	since, every := now, 1
	switch random % 4 {
	case 0:
		since, every = now-t.soon, 4
	case 1:
		since, every = now-t.late, 4
	}
	if since < 0 {
		since, every = now, 1
	}
	first, n := max(0, (since-t.stay).Seconds()*t.arrivals), min(since, t.stay).Seconds()*t.arrivals
	i := uint64(first) + random>>8%uint64(max(1, n))
	i -= i % uint64(every)
	if i/4%4 == 3 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 11: 1, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
	}
	return netip.AddrFrom4([4]byte{10, byte(16 + i>>16), byte(i >> 8), byte(i)})
}

// scanned tells whether there is a scan.
func (t *traffic) scanned(now time.Duration) bool {
	every := 3 * t.expireAfter
	return now > every && now%every < time.Second
}

// check compares a page with the books.
func (t *traffic) check(p *page) (broken []string) {
	if sum := p.sum(); sum != t.total {
		broken = append(broken, fmt.Sprintf("all addresses together received %d and transmitted %d bytes, and the page has %d and %d", t.total.receive, t.total.transmit, sum.receive, sum.transmit))
	}
	return append(broken, sameHosts(t.constant, p)...)
}

// sameHosts says which addresses do not have on a page what they should have.
func sameHosts(want map[netip.Addr]*tally, p *page) (broken []string) {
	wrong, example := 0, ""
	for addr, books := range want {
		if got := p.hosts[addr.String()]; got != *books {
			wrong++
			example = fmt.Sprintf("%v received %d and transmitted %d bytes, and the page has %d and %d", addr, books.receive, books.transmit, got.receive, got.transmit)
		}
	}
	if wrong > 0 {
		broken = append(broken, fmt.Sprintf("%d of %d constant addresses are wrong: %s", wrong, len(want), example))
	}
	return broken
}
