package main

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// TestTable has a table keep what the traffic promises, and shows that the traffic makes it let addresses go.
func TestTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room, expireAfter, rate, step = 4096, 5 * time.Second, 50_000, 10 * time.Millisecond
		var sets [2]subnets.Set
		for i, list := range []string{monitored, excluded} {
			var err error
			if sets[i], err = subnets.Parse(list); err != nil {
				t.Fatal(err)
			}
		}
		table := capture.NewTable(room, expireAfter)
		counter := capture.NewCounter(table.Monitor(capture.Subnets{Monitored: sets[0], Excluded: sets[1]}))
		traffic := newTraffic(room, expireAfter)
		var last *page
		var expired int64
		w := &watch{options: options{maxIPs: room}, promises: &promises{progress: t.Output()}, constant: make(map[string]bool)}
		for addr := range traffic.constant {
			w.constant[addr.String()] = true
		}
		for now := time.Duration(0); now < 40*time.Second; now += step {
			time.Sleep(step)
			counter.Lock()
			for range rate * int(step) / int(time.Second) {
				p := traffic.next(now)
				counter.Count(&frame.Packet{Source: p.from, Destination: p.to, Bytes: int64(p.size), Packets: 1, Outcome: frame.Counted})
			}
			counter.Unlock()
			if now%time.Second == 0 {
				p := pageOf(table)
				expired = max(expired, p.expiredIPs)
				if last != nil {
					w.compare(p, last)
				}
				last = p
			}
		}
		last = pageOf(table)
		for _, broken := range append(w.promises.broken, traffic.check(last)...) {
			t.Error(broken)
		}
		if expired == 0 || last.evictedIPs == 0 || last.hosts["other"] == (tally{}) {
			t.Errorf("%d addresses expired, %d were evicted, and the others have %+v", expired, last.evictedIPs, last.hosts["other"])
		}
	})
}

// pageOf is what the page says of a table.
func pageOf(table *capture.Table) *page {
	p := &page{hosts: make(map[string]tally)}
	snapshot := table.Snapshot()
	p.evictedIPs = snapshot.Evicted
	for i := range snapshot.Hosts {
		h := &snapshot.Hosts[i]
		switch moved := (tally{h.ReceiveBytes, h.TransmitBytes}); {
		case h.Addr == (netip.Addr{}):
			p.hosts["other"] = moved
		case snapshot.Expired(h):
			p.expiredIPs++
			p.expired.receive += moved.receive
			p.expired.transmit += moved.transmit
		default:
			p.hosts[h.Addr.String()] = moved
		}
		if h.Addr.IsValid() {
			p.tracked++
		}
	}
	return p
}
