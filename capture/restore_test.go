package capture

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"promflow/capture/labels"
)

// save returns what a table has as it is saved.
func save(t *Table) (all []Saved) {
	s, g := t.Snapshot(), t.Grouping()
	for i := range s.Hosts {
		h := &s.Hosts[i]
		saved := Saved{Addr: h.Addr, Totals: h.Totals, Idle: s.Idle(h), Expired: s.Expired(h)}
		if g != nil && h.Addr.IsValid() {
			saved.Bits = g.Bits(h.Addr)
		}
		all = append(all, saved)
	}
	for at, series := range s.Series() {
		of := all[at]
		of.Totals, of.Labels = series.Totals, g.Texts(of.Addr, series.Labels)
		all = append(all, of)
	}
	return all
}

// total is the sum over all that a table has.
func total(s Snapshot) Totals {
	all := sum(s.Hosts)
	for _, series := range s.Series() {
		all.Add(series.Totals)
	}
	return all
}

func TestRestoredTableGoesOn(t *testing.T) {
	for _, c := range []struct {
		name, before, after         string // labels
		bitsBefore, bitsAfter       labels.HostBits
		changes                     bool
		limit, maxSeries, monitored int // monitored: which of the lists after the restart
		want                        map[string]int64
	}{
		{name: "the same labels", before: "network,peer,protocol,interface,vlan", after: "network,peer,protocol,interface,vlan", want: map[string]int64{
			"10.0.0.1 network=lan peer=external protocol=tcp interface=eth7 vlan=3": 100,
			"10.0.0.1 network=lan peer=external protocol=udp interface=eth7 vlan=0": 10, "10.0.0.2 network=lan peer=external protocol=tcp interface=eth7 vlan=0": 1}},
		{name: "labels that are no longer asked for", before: "protocol,vlan", after: "", want: map[string]int64{"10.0.0.1": 110, "10.0.0.2": 1}},
		{name: "labels that are new", before: "", after: "vlan", want: map[string]int64{"10.0.0.1 vlan=other": 110, "10.0.0.2 vlan=other": 1}},
		{name: "other labels", before: "protocol", after: "vlan", want: map[string]int64{"10.0.0.1 vlan=other": 110, "10.0.0.2 vlan=other": 1}},
		{name: "a network that each address has", before: "network", after: "network", monitored: 1,
			want: map[string]int64{"10.0.0.1 network=office": 110, "10.0.0.2 network=office": 1}},
		{name: "a network that has changed", before: "network", after: "network", changes: true, monitored: 1,
			want: map[string]int64{"10.0.0.1 network=lan": 110, "10.0.0.2 network=lan": 1}},
		{name: "fewer addresses", limit: 1, want: map[string]int64{"10.0.0.1": 110, "other": 1}},
		{name: "fewer series", before: "protocol", after: "protocol", maxSeries: 1,
			want: map[string]int64{"10.0.0.1 protocol=tcp": 100, "10.0.0.1 protocol=other": 10, "10.0.0.2 protocol=other": 1}},
		{name: "by prefix", bitsAfter: labels.HostBits{V4: 8}, want: map[string]int64{"10.0.0.0/24": 111}},
		{name: "by a shorter prefix", bitsBefore: labels.HostBits{V4: 8}, bitsAfter: labels.HostBits{V4: 16}, want: map[string]int64{"10.0.0.0/16": 111}},
		{name: "by address again", bitsBefore: labels.HostBits{V4: 8}, want: map[string]int64{"other": 111}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lists := []string{"lan=10.0.0.0/8", "office=10.0.0.0/8"}
			if c.limit == 0 {
				c.limit = 10
			}
			if c.maxSeries == 0 {
				c.maxSeries = 10
			}
			before := NewGroupedTable(10, 0, labels.New(parseLabels(t, c.before), c.bitsBefore, c.changes), 10)
			counter := NewCounter(before.Monitor(Subnets{Monitored: parseSubnets(t, lists[0])}))
			counter.SeenOn("eth7")
			for _, each := range []struct {
				from     string
				bytes    int64
				protocol uint8
				vlan     uint16
			}{{"10.0.0.1", 100, 6, 3}, {"10.0.0.1", 10, 17, 0}, {"10.0.0.2", 1, 6, 0}} {
				p := talk(each.from, "192.0.2.1", each.bytes)
				p.Protocol, p.VLAN = each.protocol, each.vlan
				count(counter, p)
			}
			after := NewGroupedTable(c.limit, 0, labels.New(parseLabels(t, c.after), c.bitsAfter, c.changes), c.maxSeries)
			after.Monitor(Subnets{Monitored: parseSubnets(t, lists[c.monitored])})
			restored := after.Restore(save(before))
			if got, want := total(restored), total(before.Snapshot()); got != want {
				t.Errorf("restored are %+v, saved were %+v", got, want)
			}
			got := map[string]int64{}
			for name, totals := range bySeries(t, after) {
				got[name] = totals.TransmitBytes
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRestoredAddressesStayExpired(t *testing.T) {
	for _, c := range []struct {
		name              string
		idle, after, away time.Duration
		expired           bool // as it was saved
		wantExpired       bool
	}{
		{"just seen", 0, time.Minute, 0, false, false},
		{"nearly expired", 59 * time.Second, time.Minute, 0, false, false},
		{"expired", 2 * time.Minute, time.Minute, 0, true, true},
		{"expired, but the clock says otherwise", 0, time.Minute, 0, true, true},
		{"expired while away", 30 * time.Second, time.Minute, 40 * time.Second, false, true},
		{"seen after now", -time.Hour, time.Minute, 0, false, false},
		{"idle for longer than the table knows", 100 * 365 * 24 * time.Hour, time.Minute, 0, true, true},
		{"nothing expires", 100 * time.Hour, 0, 0, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := NewTable(1, c.after)
				s := table.Restore([]Saved{{Addr: addr4(1), Totals: Totals{ReceiveBytes: 5}, Idle: c.idle + c.away, Expired: c.expired}})
				if got := s.Expired(&s.Hosts[0]); got != c.wantExpired {
					t.Errorf("expired: %t", got)
				}
				if c.wantExpired {
					move(table, 2)
					if live, _ := split(table.Snapshot()); live[addr4(2)] != 1 || live[netip.Addr{}] != 5 {
						t.Errorf("a new address does not take its place: %v", live)
					}
					return
				}
				if c.after > 0 {
					time.Sleep(c.after - max(c.idle, 0) - tick)
					if s := table.Snapshot(); s.Expired(&s.Hosts[0]) {
						t.Error("it expires early")
					}
					time.Sleep(3 * tick)
					if s := table.Snapshot(); !s.Expired(&s.Hosts[0]) {
						t.Error("it does not expire")
					}
				}
				move(table, 1)
				if s := table.Snapshot(); s.Hosts[0].ReceiveBytes != 6 || s.Hosts[0].Entry != 0 || s.Expired(&s.Hosts[0]) {
					t.Errorf("it does not go on: %+v", s.Hosts[0])
				}
			})
		})
	}
}

// TestRestoredTotalsAreConserved has tables of random limits restored from each other, with traffic between.
func TestRestoredTotalsAreConserved(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	synctest.Test(t, func(t *testing.T) {
		var saved []Saved
		var moved int64
		for range 200 {
			table := NewTable(1+random.IntN(60), 30*time.Second)
			table.Restore(saved)
			for range random.IntN(200) {
				move(table, random.IntN(100))
				moved++
				time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
			}
			if got := sum(table.Snapshot().Hosts).ReceiveBytes; got != moved {
				t.Fatalf("%d bytes in the table, %d were received", got, moved)
			}
			saved = save(table)
		}
	})
}

// BenchmarkRestore restores a full table, which is locked meanwhile.
func BenchmarkRestore(b *testing.B) {
	for _, n := range []int{DefaultLimit, 1_000_000} {
		saved := make([]Saved, n)
		for i := range saved {
			saved[i] = Saved{Addr: addr4(i), Totals: Totals{ReceiveBytes: 1}, Idle: time.Duration(i) * time.Millisecond}
		}
		b.Run(fmt.Sprintf("addresses=%d", n), func(b *testing.B) {
			for b.Loop() {
				NewTable(n, 0).Restore(saved)
			}
		})
	}
}
