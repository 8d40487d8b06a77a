package main

import (
	"net/netip"
	"testing"
	"time"
)

// TestTraffic sees that addresses come, rest for long enough to expire, return and are scanned, all within bounds, and that the
// books are those of the packets.
func TestTraffic(t *testing.T) {
	const room, expireAfter, rate = 4096, 5 * time.Second, 50_000
	traffic := newTraffic(room, expireAfter)
	var total tally
	last, longest := make(map[netip.Addr]time.Duration), make(map[netip.Addr]time.Duration)
	live, most := 0, 0
	for n := range int(rate * 40 * time.Second / time.Second) {
		now := time.Duration(n) * time.Second / rate
		p := traffic.next(now)
		if p.from.Is4() != p.to.Is4() || p.size < 60 || p.size > 315 {
			t.Fatalf("packet %d is %+v", n, p)
		}
		if p.from == excludedAddr || p.to == excludedAddr {
			continue
		}
		for _, addr := range []netip.Addr{p.from, p.to} {
			if addr == stranger4 || addr == stranger6 {
				continue
			}
			if before, known := last[addr]; known {
				longest[addr] = max(longest[addr], now-before)
			}
			last[addr] = now
		}
		if isMonitored(p.from) {
			total.transmit += int64(p.size)
		}
		if isMonitored(p.to) {
			total.receive += int64(p.size)
		}
		if n%rate == 0 {
			live = 0
			for _, seen := range last {
				if now-seen < expireAfter {
					live++
				}
			}
			if most = max(most, live); now < 3*expireAfter && live > room {
				t.Errorf("after %v, before any scan, %d addresses are live", now, live)
			}
		}
	}
	if total != traffic.total {
		t.Errorf("the books have %+v, the packets %+v", traffic.total, total)
	}
	if most < room {
		t.Errorf("at most %d addresses were live, for whom there is room", most)
	}
	for addr := range traffic.constant {
		if longest[addr] > time.Second {
			t.Errorf("%v, a constant address, was idle for %v", addr, longest[addr])
		}
		delete(longest, addr)
	}
	returned, much := 0, 0
	for _, idle := range longest {
		if idle > expireAfter {
			returned++
		}
		if idle > 2*expireAfter {
			much++
		}
	}
	if returned < 100 || much < 50 || len(last) < 2*room {
		t.Errorf("of %d addresses %d returned, %d of them after long", len(last), returned, much)
	}
}

func TestBooks(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	page := func(text string) *page {
		t.Helper()
		p, err := parsePage(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const right = `# TYPE promflow_receive_bytes_total counter
promflow_receive_bytes_total{ip="10.0.0.1"} 1e+06
promflow_receive_bytes_total{ip="other"} 20
# TYPE promflow_transmit_bytes_total counter
promflow_transmit_bytes_total{ip="10.0.0.1"} 7
promflow_transmit_bytes_total{ip="fd00::1"} 8
promflow_transmit_bytes_total{ip="other"} 30
# TYPE promflow_expired_bytes gauge
promflow_expired_bytes{direction="receive"} 300
promflow_expired_bytes{direction="transmit"} 400
`
	books := &traffic{
		total:    tally{1_000_320, 445},
		constant: map[netip.Addr]*tally{a: {1_000_000, 7}, b: {0, 8}},
	}
	if broken := books.check(page(right)); len(broken) > 0 {
		t.Errorf("the page is right, and it says %q", broken)
	}
	books.total.receive++
	if broken := books.check(page(right)); len(broken) != 1 {
		t.Errorf("a byte is missing, and it says %q", broken)
	}
	books.constant[b].transmit--
	if broken := books.check(page(right)); len(broken) != 2 {
		t.Errorf("an address is wrong, too, and it says %q", broken)
	}
	for _, wrong := range []string{"promflow", "promflow_expired_bytes{direction=\"up\"} 1\n"} {
		if _, err := parsePage(wrong); err == nil {
			t.Errorf("the page %q is accepted", wrong)
		}
	}
}
