package talkers

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"promflow/telemetry"
)

// table is a source of readings: what its addresses have moved grows at their rates, in bytes a second of a bubble's time.
type table struct {
	begin    time.Time
	hosts    []telemetry.Host // with rates as totals
	before   []moved          // what they had moved when the bubble began
	drops    int64            // packets a second
	info     map[string]telemetry.HostInfo
	readings atomic.Int64
}

func newTable(hosts ...telemetry.Host) *table {
	return &table{begin: time.Now(), hosts: hosts, before: make([]moved, len(hosts))}
}

func host(addr string, receive, transmit int64) telemetry.Host {
	h := telemetry.Host{ReceiveBytes: receive, TransmitBytes: transmit}
	if addr != "other" {
		h.Addr = netip.MustParseAddr(addr)
	}
	return h
}

func (t *table) read() telemetry.Reading {
	t.readings.Add(1)
	passed := time.Since(t.begin)
	grown := func(rate int64) int64 { return int64(float64(rate) * passed.Seconds()) }
	r := telemetry.Reading{Limit: 100, Interfaces: []telemetry.Interface{{Name: "eth0", Backend: "ebpf", Up: true, Dropped: grown(t.drops)}}}
	for _, h := range t.hosts {
		if h.Addr.IsValid() && !h.Expired && !h.Part {
			r.Tracked++
		}
	}
	if t.info != nil {
		r.Info = func(addr netip.Addr) telemetry.HostInfo { return t.info[addr.String()] }
	}
	r.Hosts = func(yield func(telemetry.Host) bool) {
		for i, h := range t.hosts {
			h.ReceiveBytes, h.TransmitBytes = t.before[i].receive+grown(h.ReceiveBytes), t.before[i].transmit+grown(h.TransmitBytes)
			if !yield(h) {
				return
			}
		}
	}
	return r
}

// change changes what is read, between two readings.
func (t *Talkers) change(what func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	what()
}

// watched runs a test with talkers of a table, in a bubble.
func watched(t *testing.T, hosts []telemetry.Host, test func(t *testing.T, of *table, k *Talkers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		of := newTable(hosts...)
		k := New(of.read)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- k.Run(ctx) }()
		test(t, of, k)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// after lets time pass, in which somebody watches.
func after(d time.Duration, k *Talkers, q Query) *Report {
	for ; d > 0; d -= Interval {
		time.Sleep(min(d, Interval))
		synctest.Wait()
		k.Report(q)
	}
	return k.Report(q)
}

func TestRates(t *testing.T) {
	hosts := []telemetry.Host{host("10.0.0.1", 1000, 0), host("10.0.0.2", 3000, 500), host("10.0.0.3", 0, 0)}
	watched(t, hosts, func(t *testing.T, of *table, k *Talkers) {
		of.before[0], of.before[1] = moved{5e6, 7e6}, moved{1, 1}
		first := k.Report(Query{})
		if first.WindowSeconds != 0 || first.ReceiveRate != 0 || len(first.History.Time) != 0 {
			t.Errorf("the first reading has a window of %v s, %d bytes/s and a history of %d", first.WindowSeconds, first.ReceiveRate, len(first.History.Time))
		}
		r := after(firstInterval, k, Query{})
		if r.WindowSeconds != 1 {
			t.Errorf("the first rates are over %v s", r.WindowSeconds)
		}
		check := func(r *Report) {
			t.Helper()
			if r.ReceiveRate != 4000 || r.TransmitRate != 500 {
				t.Errorf("in all %d received and %d transmitted, want 4000 and 500", r.ReceiveRate, r.TransmitRate)
			}
			if got, want := ips(r), []string{"10.0.0.2", "10.0.0.1", "10.0.0.3"}; !slices.Equal(got, want) {
				t.Fatalf("talkers are %v, want %v", got, want)
			}
			top := r.Talkers[0]
			if top.ReceiveRate != 3000 || top.TransmitRate != 500 || top.Share != 3500.0/4500 {
				t.Errorf("the first one has %d and %d bytes/s, and %v of all", top.ReceiveRate, top.TransmitRate, top.Share)
			}
		}
		check(r)
		r = after(10*Interval, k, Query{})
		check(r)
		if r.WindowSeconds != 4 {
			t.Errorf("rates are over %v s", r.WindowSeconds)
		}
		if want := int64(5e6 + 1000*21); r.Talkers[1].ReceiveTotal != want {
			t.Errorf("a total is %d, want %d", r.Talkers[1].ReceiveTotal, want)
		}
		if got := r.Talkers[0].History; len(got) != 11 || got[0] != 3500 || got[10] != 3500 {
			t.Errorf("its history is %v", got)
		}
		if got := r.History; len(got.Time) != 11 || got.Time[10]-got.Time[9] != 2 || got.Receive[0] != 4000 || got.Transmit[10] != 500 {
			t.Errorf("the history of all is %+v", got)
		}
		r = after(10*time.Minute, k, Query{})
		if n := len(r.Talkers[0].History); n != historyPoints {
			t.Errorf("the history of one has %d rates", n)
		}
		if got := r.History.Time; len(got) != 151 || got[150]-got[0] != 300 {
			t.Errorf("the history of all goes back for %d readings", len(got))
		}
	})
}

func TestRatesWhereTheTableChanges(t *testing.T) {
	tests := map[string]struct {
		hosts  []telemetry.Host
		change func(*table)
		want   map[string]int64 // rates of receiving
		all    int64
	}{
		"an address that is new": {
			hosts:  []telemetry.Host{host("10.0.0.1", 100, 0)},
			change: func(of *table) { of.append(host("10.0.0.2", 0, 0), 4000) },
			want:   map[string]int64{"10.0.0.1": 100, "10.0.0.2": 1000},
			all:    1100,
		},
		"one that expires": {
			hosts:  []telemetry.Host{host("10.0.0.1", 100, 0), host("10.0.0.2", 0, 0)},
			change: func(of *table) { of.hosts[1].Expired = true },
			want:   map[string]int64{"10.0.0.1": 100},
			all:    100,
		},
		"one that makes room for another": {
			hosts: []telemetry.Host{host("10.0.0.1", 100, 0), host("10.0.0.2", 0, 0), host("other", 50, 0)},
			change: func(of *table) {
				of.hosts[1].Addr, of.hosts[1].Entry = netip.MustParseAddr("10.0.0.3"), 1
				of.before[2] = of.before[2].plus(of.before[1])
				of.before[1] = moved{receive: 8000}
			},
			want: map[string]int64{"10.0.0.1": 100, "10.0.0.3": 2000, "other": 50},
			all:  2150,
		},
		"one that returns after that": {
			hosts: []telemetry.Host{host("10.0.0.1", 100, 0), host("10.0.0.2", 0, 0), host("other", 0, 0)},
			change: func(of *table) {
				of.hosts[1].Entry = 1
				of.before[2] = of.before[2].plus(of.before[1])
				of.before[1] = moved{receive: 40}
			},
			want: map[string]int64{"10.0.0.1": 100, "10.0.0.2": 10, "other": 0},
			all:  110,
		},
		"labels of an address": {
			hosts: []telemetry.Host{
				host("10.0.0.1", 100, 0), host("10.0.0.2", 10, 0),
				part(host("10.0.0.2", 200, 0)), part(host("10.0.0.1", 3, 0)), part(host("10.0.0.2", 1000, 0)),
			},
			change: func(of *table) {},
			want:   map[string]int64{"10.0.0.1": 103, "10.0.0.2": 1210},
			all:    1313,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			watched(t, test.hosts, func(t *testing.T, of *table, k *Talkers) {
				for i := range of.before {
					of.before[i] = moved{1e9, 1e9}
				}
				k.Report(Query{})
				after(firstInterval+2*Interval, k, Query{})
				k.change(func() { test.change(of) })
				r := after(2*Interval, k, Query{})
				got := map[string]int64{}
				for _, talker := range r.Talkers {
					got[talker.IP] = talker.ReceiveRate
				}
				if !reflect.DeepEqual(got, test.want) || r.ReceiveRate != test.all {
					t.Errorf("rates are %v, in all %d, want %v, in all %d", got, r.ReceiveRate, test.want, test.all)
				}
			})
		})
	}
}

// append has an address appear that has moved something.
func (t *table) append(h telemetry.Host, total int64) {
	t.hosts = append(t.hosts, h)
	t.before = append(t.before, moved{receive: total})
}

func part(h telemetry.Host) telemetry.Host {
	h.Part = true
	return h
}

// What moved before an address made room for another does not show in the history of that.
func TestHistoryOfAPlaceThatChangesHands(t *testing.T) {
	watched(t, []telemetry.Host{host("10.0.0.1", 100, 0)}, func(t *testing.T, of *table, k *Talkers) {
		k.Report(Query{})
		after(5*Interval, k, Query{})
		k.change(func() { of.hosts[0] = telemetry.Host{Addr: netip.MustParseAddr("10.0.0.2"), Entry: 1} })
		r := after(Interval, k, Query{})
		for _, rate := range r.Talkers[0].History {
			if rate != 0 {
				t.Fatalf("the history of who is new is %v", r.Talkers[0].History)
			}
		}
	})
}

// A machine without a clock of its own has its time set long after it began.
func TestHistoryWhenTheClockIsSet(t *testing.T) {
	var h History
	begin := time.Now()
	add := func(after time.Duration) {
		h.add(&samples{taken: begin.Add(after), intervals: [2]time.Duration{Interval, Interval}})
	}
	for i := range 200 {
		add(time.Duration(i) * Interval)
	}
	add(200*Interval - 3*time.Second)
	if !slices.IsSorted(h.Time) || len(h.Time) < 140 || len(h.Receive) != len(h.Time) || len(h.Transmit) != len(h.Time) {
		t.Errorf("after 3 s back the times are %v", h.Time)
	}
	for i := range 200 {
		add(-time.Hour + time.Duration(i)*Interval)
	}
	if n := len(h.Time); n != 151 || !slices.IsSorted(h.Time) {
		t.Errorf("after an hour back there are %d times", n)
	}
	add(time.Hour)
	if n := len(h.Time); n != 1 {
		t.Errorf("after an hour ahead there are %d times", n)
	}
}

func TestReadsOnlyWhileSomebodyAsks(t *testing.T) {
	watched(t, []telemetry.Host{host("10.0.0.1", 100, 0)}, func(t *testing.T, of *table, k *Talkers) {
		time.Sleep(time.Hour)
		synctest.Wait()
		if of.readings.Load() != 0 {
			t.Errorf("%d readings for nobody", of.readings.Load())
		}
		k.Report(Query{})
		k.Report(Query{Sort: "ip"})
		if of.readings.Load() != 1 {
			t.Errorf("%d readings for two questions at once", of.readings.Load())
		}
		r := after(time.Minute, k, Query{})
		if got := of.readings.Load(); got != 31 {
			t.Errorf("%d readings in a minute", got)
		}
		seen := len(r.History.Time)
		time.Sleep(patience + Interval)
		synctest.Wait()
		last := of.readings.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if of.readings.Load() != last || k.samples != nil || k.answers != nil {
			t.Errorf("%d readings for nobody, who was there before", of.readings.Load()-last)
		}
		r = k.Report(Query{})
		if r.WindowSeconds != 0 || r.Talkers[0].ReceiveRate != 0 {
			t.Errorf("a rate of %d over %v s when somebody is there again", r.Talkers[0].ReceiveRate, r.WindowSeconds)
		}
		if len(r.History.Time) <= seen {
			t.Error("what was seen a minute ago is forgotten")
		}
		if r = after(firstInterval, k, Query{}); r.Talkers[0].ReceiveRate != 100 {
			t.Errorf("a rate of %d, want 100", r.Talkers[0].ReceiveRate)
		}
	})
}

func TestDropsAndInterfaces(t *testing.T) {
	watched(t, nil, func(t *testing.T, of *table, k *Talkers) {
		k.change(func() { of.drops = 7 })
		k.Report(Query{})
		r := after(firstInterval+Interval, k, Query{})
		want := []Interface{{Name: "eth0", Backend: "ebpf", Up: true, Dropped: 21, DroppedRate: 7}}
		if !slices.Equal(r.Interfaces, want) {
			t.Errorf("interfaces are %+v, want %+v", r.Interfaces, want)
		}
	})
}

func ips(r *Report) (all []string) {
	for _, talker := range r.Talkers {
		all = append(all, talker.IP)
	}
	return all
}

func TestQuery(t *testing.T) {
	hosts := []telemetry.Host{
		host("10.0.0.10", 100, 1), host("10.0.0.2", 1, 200), host("10.1.0.3", 50, 50), host("fd00::1", 7, 7), host("other", 1000, 1000),
	}
	expired := host("10.0.0.99", 5000, 5000)
	expired.Expired = true
	hosts = append(hosts[:4:4], expired, hosts[4])
	tests := map[string]struct {
		query    string
		want     []string
		matching int
	}{
		"as it comes":              {"", []string{"other", "10.0.0.2", "10.0.0.10", "10.1.0.3", "fd00::1"}, 5},
		"by what is received":      {"sort=receive_rate", []string{"other", "10.0.0.10", "10.1.0.3", "fd00::1", "10.0.0.2"}, 5},
		"by what is transmitted":   {"sort=transmit_rate", []string{"other", "10.0.0.2", "10.1.0.3", "fd00::1", "10.0.0.10"}, 5},
		"by total":                 {"sort=receive_total&limit=2", []string{"other", "10.0.0.10"}, 5},
		"the lowest first":         {"sort=transmit_total&reverse=true&limit=2", []string{"10.0.0.10", "fd00::1"}, 5},
		"by address":               {"sort=ip", []string{"10.0.0.2", "10.0.0.10", "10.1.0.3", "fd00::1", "other"}, 5},
		"by name":                  {"sort=hostname", []string{"10.1.0.3", "10.0.0.10", "other", "10.0.0.2", "fd00::1"}, 5},
		"by name, from Z":          {"sort=hostname&reverse=true", []string{"10.0.0.10", "10.1.0.3", "other", "10.0.0.2", "fd00::1"}, 5},
		"some":                     {"limit=2", []string{"other", "10.0.0.2"}, 5},
		"others":                   {"limit=2&offset=2", []string{"10.0.0.10", "10.1.0.3"}, 5},
		"beyond the end":           {"offset=7", nil, 5},
		"that contain":             {"filter=10.0.0.", []string{"10.0.0.2", "10.0.0.10"}, 2},
		"in a subnet":              {"filter=10.0.0.0%2F15", []string{"10.0.0.2", "10.0.0.10", "10.1.0.3"}, 3},
		"in one of the other kind": {"filter=fd00::%2F8", []string{"fd00::1"}, 1},
		"with a name":              {"filter=PRINT", []string{"10.0.0.10"}, 1},
		"with a MAC":               {"filter=0:AB:", []string{"10.1.0.3"}, 1},
		"that are nowhere":         {"filter=nowhere", nil, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			watched(t, hosts, func(t *testing.T, of *table, k *Talkers) {
				of.info = map[string]telemetry.HostInfo{"10.0.0.10": {Hostname: "Printer"}, "10.1.0.3": {Hostname: "nas", MAC: "02:00:00:00:ab:cd"}}
				ask, err := url.ParseQuery(test.query)
				if err != nil {
					t.Fatal(err)
				}
				q, err := ParseQuery(ask)
				if err != nil {
					t.Fatal(err)
				}
				k.Report(q)
				r := after(3*Interval, k, q)
				if got := ips(r); !slices.Equal(got, test.want) || r.Matching != test.matching {
					t.Errorf("%v of %d, want %v of %d", got, r.Matching, test.want, test.matching)
				}
				if again, err := ParseQuery(q.Values()); err != nil || again != q {
					t.Errorf("%+v becomes %+v, %v", q, again, err)
				}
			})
		})
	}
}

// deviceOf is what a table's info has of an address.
func deviceOf(name string, n int) telemetry.HostInfo {
	return telemetry.HostInfo{Hostname: name, MAC: fmt.Sprintf("02:00:00:00:00:%02x", n)}
}

func TestQueryByDevice(t *testing.T) {
	prefix := host("10.9.0.0", 3, 0)
	prefix.Bits = 24
	expired := host("10.0.0.5", 90_000, 0)
	expired.Expired = true
	hosts := []telemetry.Host{
		host("10.0.0.1", 100, 0), host("fd00::1", 50, 300), // a laptop, more of it by IPv6
		host("10.0.0.2", 60, 0), host("10.0.0.3", 60, 0), host("fd00::3", 0, 10), // names that differ
		host("10.0.0.4", 80, 0), expired, // the one that has expired is not on the page
		host("10.0.0.6", 20, 0), host("10.0.0.7", 5, 0), // no MAC, though they have the same name
		prefix, host("other", 1000, 0),
	}
	info := map[string]telemetry.HostInfo{
		"10.0.0.1": deviceOf("", 1), "fd00::1": deviceOf("Laptop", 1),
		"10.0.0.2": deviceOf("", 2), "10.0.0.3": deviceOf("zebra", 2), "fd00::3": deviceOf("ant", 2),
		"10.0.0.4": deviceOf("", 4), "10.0.0.5": deviceOf("gone", 4),
		"10.0.0.6": {Hostname: "proxy"}, "10.0.0.7": {Hostname: "proxy"},
		"10.9.0.0": deviceOf("no prefix", 1),
	}
	const (
		other  = "other other"
		laptop = "02:00:00:00:00:01 fd00::1,10.0.0.1 Laptop"
		zebra  = "02:00:00:00:00:02 10.0.0.2,10.0.0.3,fd00::3 zebra"
		four   = "02:00:00:00:00:04 10.0.0.4"
		six    = "10.0.0.6 10.0.0.6 proxy"
		seven  = "10.0.0.7 10.0.0.7 proxy"
		net    = "10.9.0.0/24 10.9.0.0/24"
	)
	all := []string{other, laptop, zebra, four, six, seven, net}
	tests := map[string]struct {
		query    string
		want     []string
		matching int
	}{
		"as it comes":                  {"", all, 7},
		"the lowest first":             {"reverse=true&limit=2", []string{net, seven}, 7},
		"by what all receive":          {"sort=receive_rate&limit=3", []string{other, laptop, zebra}, 7},
		"by what all transmit":         {"sort=transmit_rate&limit=2", []string{laptop, zebra}, 7},
		"by total":                     {"sort=total&limit=4", all[:4], 7},
		"by address":                   {"sort=ip", []string{zebra, four, six, seven, net, laptop, other}, 7},
		"by name":                      {"sort=hostname", []string{laptop, six, seven, zebra, other, four, net}, 7},
		"others":                       {"limit=2&offset=2", []string{zebra, four}, 7},
		"beyond the end":               {"offset=7", nil, 7},
		"with an address":              {"filter=10.0.0.1", []string{laptop}, 1},
		"in a subnet":                  {"filter=fd00::%2F16", []string{laptop, zebra}, 2},
		"with its name":                {"filter=lapTOP", []string{laptop}, 1},
		"with the name of an address":  {"filter=ant", []string{zebra}, 1},
		"with a MAC":                   {"filter=:00:0", []string{laptop, zebra, four}, 3},
		"with what only the past has":  {"filter=gone", nil, 0},
		"with a name that several use": {"filter=proxy", []string{six, seven}, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			watched(t, hosts, func(t *testing.T, of *table, k *Talkers) {
				of.info = info
				v, err := url.ParseQuery("by=device&" + test.query)
				if err != nil {
					t.Fatal(err)
				}
				q, err := ParseQuery(v)
				if err != nil {
					t.Fatal(err)
				}
				k.Report(q)
				r := after(3*Interval, k, q)
				if got := rows(t, r); !slices.Equal(got, test.want) || r.Matching != test.matching {
					t.Errorf("%q of %d, want %q of %d", got, r.Matching, test.want, test.matching)
				}
			})
		})
	}
	watched(t, hosts, func(t *testing.T, _ *table, k *Talkers) { // without --host-info
		if r := k.Report(Query{By: "device", Limit: 2}); r.Matching != 10 || r.Talkers[1].ID != r.Talkers[1].IP {
			t.Errorf("without MACs %d devices, %+v", r.Matching, r.Talkers)
		}
	})
}

// rows returns the talkers of a report by device: ID, IPs and hostname.
func rows(t *testing.T, r *Report) (all []string) {
	t.Helper()
	for _, k := range r.Talkers {
		if k.IP != k.IPs[0] || k.ID != k.IP && k.ID != k.MAC {
			t.Errorf("wrong or no ID, IP or IPs: %+v", k)
		}
		all = append(all, strings.TrimRight(k.ID+" "+strings.Join(k.IPs, ",")+" "+k.Hostname, " "))
	}
	return all
}

// Whatever moves, comes, goes and gets another MAC, a device has what its addresses have, to the byte.
func TestDevicesAreSumsOfAddresses(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	watched(t, nil, func(t *testing.T, of *table, k *Talkers) {
		of.info = map[string]telemetry.HostInfo{}
		for i := range 200 {
			of.append(host(fmt.Sprintf("10.0.%d.%d", i/100, i%100), random.Int64N(1000), random.Int64N(1000)), random.Int64N(10))
		}
		of.append(host("other", 77, 7), 1)
		for range 100 {
			k.change(func() {
				for range 20 {
					i := random.IntN(200)
					h := &of.hosts[i]
					switch random.IntN(4) {
					case 0:
						h.Expired = !h.Expired
					case 1:
						of.before[200] = of.before[200].plus(of.before[i])
						of.before[i] = moved{receive: 5}
						h.Entry++
						h.Addr = netip.AddrFrom4([4]byte{10, byte(random.IntN(255)), byte(i), byte(h.Entry)})
					case 2:
						of.info[h.Addr.String()] = deviceOf("", random.IntN(60))
					default:
						delete(of.info, h.Addr.String())
					}
				}
			})
			got := after(Interval, k, Query{By: "device", Limit: MaxLimit})
			all := k.Report(Query{Limit: MaxLimit})
			if got.Traffic != all.Traffic || got.Addresses != all.Addresses || len(got.Talkers) != got.Matching {
				t.Fatalf("all together %+v and %d of %d, want %+v", got.Traffic, len(got.Talkers), got.Matching, all.Traffic)
			}
			want := map[string]*Talker{}
			for _, k := range all.Talkers { // the one that moves most comes first
				id := k.IP
				if k.MAC != "" {
					id = k.MAC
				}
				sum := want[id]
				if sum == nil {
					sum = &Talker{MAC: k.MAC, History: make([]int64, len(k.History))}
					want[id] = sum
				}
				sum.IPs = append(sum.IPs, k.IP)
				sum.ReceiveTotal += k.ReceiveTotal
				sum.TransmitTotal += k.TransmitTotal
				sum.ReceiveRate += k.ReceiveRate
				sum.TransmitRate += k.TransmitRate
				sum.Share += k.Share
				for i := range sum.History {
					sum.History[i] += k.History[i]
				}
			}
			if len(want) != len(got.Talkers) {
				t.Fatalf("%d devices, want %d", len(got.Talkers), len(want))
			}
			for _, k := range got.Talkers {
				sum := want[k.ID]
				if sum == nil {
					t.Fatalf("%s is no device", k.ID)
				}
				slices.Sort(sum.IPs)
				slices.Sort(k.IPs)
				n := int64(len(k.IPs))
				near := func(a, b int64) bool { return max(a-b, b-a) <= n } // each address' rate is rounded
				if k.ReceiveTotal != sum.ReceiveTotal || k.TransmitTotal != sum.TransmitTotal || k.MAC != sum.MAC || !slices.Equal(k.IPs, sum.IPs) ||
					!near(k.ReceiveRate, sum.ReceiveRate) || !near(k.TransmitRate, sum.TransmitRate) || !near(int64(1e9*k.Share), int64(1e9*sum.Share)) ||
					len(k.History) != len(sum.History) || len(k.History) > 0 && !near(k.History[len(k.History)-1], sum.History[len(sum.History)-1]) {
					t.Fatalf("%+v, want %+v", k, *sum)
				}
			}
		}
	})
}

func TestDeviceListsTheAddressesThatMovedMost(t *testing.T) {
	var hosts []telemetry.Host
	for i := range 40 {
		hosts = append(hosts, host(fmt.Sprintf("10.0.0.%d", i), int64(i/2), 0))
	}
	watched(t, hosts, func(t *testing.T, of *table, k *Talkers) {
		of.info = map[string]telemetry.HostInfo{}
		for i, h := range hosts {
			of.info[h.Addr.String()] = deviceOf(strings.Repeat("a", 40-i), 1)
		}
		k.Report(Query{})
		r := after(3*Interval, k, Query{By: "device"})
		var want IPs
		for i := 38; len(want) < MaxIPs; i -= 2 {
			want = append(want, fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("10.0.0.%d", i+1))
		}
		if r.Matching != 1 || r.Talkers[0].IP != "10.0.0.38" || r.Talkers[0].Hostname != "aa" || !slices.Equal(r.Talkers[0].IPs, want) {
			t.Errorf("%d devices, %+v, want %q", r.Matching, r.Talkers[0], want)
		}
		if rate := r.Talkers[0].ReceiveRate; rate != 19*20 {
			t.Errorf("a rate of %d", rate)
		}
	})
}

// In a table with more addresses than are asked for their MACs at once, a MAC changes.
func TestMACsChangeInALargeTable(t *testing.T) {
	hosts := many(3*macsAtOnce + 5)
	watched(t, hosts, func(t *testing.T, of *table, k *Talkers) {
		of.info = map[string]telemetry.HostInfo{"10.0.0.1": deviceOf("", 1), "10.0.0.2": deviceOf("", 1), "10.0.47.0": deviceOf("", 3)}
		q := Query{By: "device", Filter: "02:00", Sort: "hostname"}
		check := func(wait time.Duration, want ...string) {
			t.Helper()
			if got := rows(t, after(wait, k, q)); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		check(2*Interval, "02:00:00:00:00:03 10.0.47.0", "02:00:00:00:00:01 10.0.0.2,10.0.0.1")
		k.change(func() { of.info["10.0.0.2"], of.info["10.0.47.0"] = deviceOf("", 2), deviceOf("", 1) })
		check(4*Interval, "02:00:00:00:00:01 10.0.47.0,10.0.0.1", "02:00:00:00:00:02 10.0.0.2")
	})
}

// What is known of MACs is bounded by the table, and forgotten while nobody asks for devices.
func TestMACsAreForgotten(t *testing.T) {
	hosts := []telemetry.Host{host("10.0.0.1", 1, 0), host("10.0.0.2", 2, 0)}
	watched(t, hosts, func(t *testing.T, of *table, k *Talkers) {
		of.info = map[string]telemetry.HostInfo{}
		for i := range 100 {
			mac := fmt.Sprintf("02:00:00:00:01:%02x", i)
			k.change(func() {
				of.info["10.0.0.1"] = telemetry.HostInfo{MAC: mac}
				if k.samples != nil && len(k.samples.devices.macs) > 10 {
					t.Errorf("%d MACs are remembered of 2 addresses", len(k.samples.devices.macs))
				}
			})
			if r := after(Interval, k, Query{By: "device", Filter: "02:"}); r.Matching != 1 || r.Talkers[0].ID != mac {
				t.Errorf("%+v, want %s", r.Talkers, mac)
			}
		}
		after((devicesKept+2)*Interval, k, Query{})
		k.change(func() {
			if k.samples == nil || k.samples.devices != nil {
				t.Error("devices are made for nobody")
			}
			of.info["10.0.0.2"] = telemetry.HostInfo{MAC: "02:00:00:00:02:00"}
		})
		if r := k.Report(Query{By: "device", Filter: "02:"}); r.Matching != 2 {
			t.Errorf("%+v", r.Talkers)
		}
	})
}

func TestQueryRefuses(t *testing.T) {
	for query, want := range map[string]string{
		"by=mac":                               `by="mac": expected one of ip, device`,
		"sort=speed":                           `sort="speed": expected one of rate, `,
		"limit=0":                              `limit="0": expected a number from 1 to 1000`,
		"limit=1001":                           `limit="1001": expected`,
		"offset=-1":                            `offset="-1": expected`,
		"reverse=maybe":                        `reverse="maybe": expected true or false`,
		"filter=" + strings.Repeat("a", 254):   "at most 253 bytes",
		"filter=%ff":                           "UTF-8",
		"filter=%zz":                           `invalid URL escape "%zz"`,
		"sort=ip;limit=3":                      "semicolon",
		"sort=x&limit=many&offset=1&reverse=1": `limit="many"`,
	} {
		w := httptest.NewRecorder()
		New(newTable().read).ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"?"+query, nil))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is answered with %d %q, want %q", query, w.Code, w.Body, want)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("by=device&sort=ip&reverse=true&filter=a&limit=3&offset=7")
	f.Add("filter=%ff")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := ParseQuery(v)
		if err != nil {
			return
		}
		again, err := ParseQuery(q.Values())
		if err != nil || again != q {
			t.Errorf("%+v becomes %+v, %v", q, again, err)
		}
	})
}

// A page of many is what sorting all of them gives.
func TestPageOfMany(t *testing.T) {
	s := samples{talkers: make([]talker, 10_000)}
	for i := range s.talkers {
		s.talkers[i] = talker{addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), present: true,
			total: moved{receive: rand.Int64N(100)}, last: [2]moved{{receive: rand.Int64N(10)}}}
	}
	v := s.view(Query{})
	for _, sort := range Sorts {
		for _, page := range []struct{ limit, offset int }{{1, 0}, {50, 0}, {1000, 20}, {50, 9990}, {50, 10_000}} {
			q := Query{Sort: sort, Limit: page.limit, Offset: page.offset}
			all := v.find("")
			slices.SortFunc(all, v.order(q, all))
			want := all[min(page.offset, len(all)):min(page.offset+page.limit, len(all))]
			if got := v.page(v.find(""), q); !slices.Equal(got, want) {
				t.Errorf("%s, %+v: %v, want %v", sort, page, got, want)
			}
		}
	}
}

func TestFetch(t *testing.T) {
	of := newTable(host("10.0.0.1", 1, 2))
	k := New(of.read)
	mux := http.NewServeMux()
	mux.Handle("/below"+Path, k)
	mux.HandleFunc("/secret/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	mux.HandleFunc("/page/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	server := httptest.NewServer(mux)
	defer server.Close()
	fetch := func(path string, q Query) (*Report, error) {
		base, err := url.Parse(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		return Fetch(t.Context(), server.Client(), base, q)
	}
	r, err := fetch("/below/", Query{Filter: "10."})
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(k.Report(Query{Filter: "10."}.canonical()))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(r); err != nil || string(got) != string(want) {
		t.Errorf("got %s, want %s, %v", got, want, err)
	}
	for path, want := range map[string]string{"/": "--no-ui", "/secret": "a user and a password", "/page": "no report of promflow"} {
		if _, err := fetch(path, Query{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := fetch("/below", Query{Sort: "speed"}); err == nil || !strings.Contains(err.Error(), "expected one of") {
		t.Errorf("a wrong question is answered with %v", err)
	}
}

// TestFetchOfOldVersions has servers answer that know neither id nor ips, nor the parameter by.
func TestFetchOfOldVersions(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"time":"2026-01-01T00:00:00Z","window_seconds":4,"interval_seconds":2,"talkers":[{"ip":"10.0.0.1","mac":"02:00:00:00:00:01"}]}`)
	}))
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Fetch(t.Context(), server.Client(), base, Query{})
	if err != nil {
		t.Fatal(err)
	}
	if k := r.Talkers[0]; k.ID != "10.0.0.1" || !slices.Equal(k.IPs, []string{"10.0.0.1"}) {
		t.Errorf("%+v", k)
	}
	if _, err := Fetch(t.Context(), server.Client(), base, Query{By: "device"}); err == nil || !strings.Contains(err.Error(), "an old version") {
		t.Errorf("by device: %v", err)
	}
}

// TestFetchBelievesNoServer has servers answer that are none of promflow's, or lie.
func TestFetchBelievesNoServer(t *testing.T) {
	const begin = `{"time":"2026-01-01T00:00:00Z","window_seconds":4,"interval_seconds":2,`
	for body, want := range map[string]string{
		begin + `"talkers":[` + strings.Repeat("{},", 1_300_000) + `{}]}`:           "talkers: expected 50 at most",
		begin + `"interfaces":[` + strings.Repeat("{},", 1_300_000) + `{}]}`:        "interfaces: expected 10000 at most",
		begin + `"talkers":[{"ips":[` + strings.Repeat(`"",`, 1_300_000) + `""]}]}`: "ips: expected 32 at most",
		begin + `"talkers":[{"ips":"10.0.0.1"}]}`:                                   "ips: expected a list",
		begin + `"talkers":[{"ips":[1]}]}`:                                          "cannot unmarshal number",
		begin + `"talkers":{}}`:                                                     "talkers: expected a list",
		begin + `"talkers":[1]}`:                                                    "cannot unmarshal number",
		`{"time":"2026-01-01T00:00:00Z","window_seconds":-4,"interval_seconds":2}`:  "window_seconds is -4",
		`{"time":"2026-01-01T00:00:00Z","window_seconds":4,"interval_seconds":1e9}`: "interval_seconds is 1e+09",
		`{"window_seconds":4}`:                                                      "it has no time",
		strings.Repeat(" ", 9<<20) + begin + `"talkers":[]}`:                        "more than 4194304 bytes",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		base, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = Fetch(t.Context(), server.Client(), base, Query{})
		runtime.ReadMemStats(&after)
		server.Close()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: got %v, want %q", body, err, want)
		}
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 128<<20 {
			t.Errorf("%.100s: takes %d MB", body, taken>>20)
		}
	}
}

func FuzzReport(f *testing.F) {
	of := newTable(host("10.0.0.1", 1, 2))
	seed, err := json.Marshal(New(of.read).Report(Query{}.canonical()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"time":"2026-01-01T00:00:00Z","talkers":[{},{},{}],"interfaces":null}`))
	f.Add([]byte(`{"time":"2026-01-01T00:00:00Z","talkers":[{"ip":"10.0.0.1"},{"ips":null}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := new(Report)
		if err := r.decode(body, Query{Limit: 2}.canonical()); err != nil {
			return
		}
		if len(r.Talkers) > 2 || r.WindowSeconds < 0 || r.Time.IsZero() {
			t.Errorf("%s: got %+v", body, r)
		}
		for _, k := range r.Talkers {
			if len(k.IPs) == 0 || len(k.IPs) > MaxIPs {
				t.Errorf("%s: got %q", body, k.IPs)
			}
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Skip(err) // such as a year that JSON does not have
		}
		if err := new(Report).decode(again, Query{Limit: 2}.canonical()); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	of := newTable(many(65536)...)
	r, s := of.read(), samples{}
	now := time.Now()
	s.take(r, now)
	b.Run("reading", func(b *testing.B) {
		for b.Loop() {
			now = now.Add(Interval)
			s.take(r, now)
		}
	})
	for _, q := range []Query{{}, {Limit: MaxLimit}, {Sort: "ip"}, {Filter: "10.0.1"}} {
		b.Run("report?"+q.Values().Encode(), func(b *testing.B) {
			for b.Loop() {
				s.report(q)
			}
		})
	}
}

// many returns so many addresses.
func many(n int) []telemetry.Host {
	hosts := make([]telemetry.Host, n)
	for i := range hosts {
		hosts[i] = telemetry.Host{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), ReceiveBytes: int64(i), TransmitBytes: 1}
	}
	return hosts
}

// BenchmarkDevices compares devices with addresses: readings while somebody asks, and answers. Devices have so many addresses; with 0, no
// address has a MAC.
func BenchmarkDevices(b *testing.B) {
	hosts, random := many(65536), rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	names, passed := map[netip.Addr]telemetry.HostInfo{}, int64(0)
	r := telemetry.Reading{Tracked: int64(len(hosts)), Info: func(a netip.Addr) telemetry.HostInfo { return names[a] }}
	r.Hosts = func(yield func(telemetry.Host) bool) {
		passed++
		for _, h := range hosts {
			h.ReceiveBytes *= passed
			if !yield(h) {
				return
			}
		}
	}
	for _, size := range []int{0, 1, 2, 32, len(hosts)} {
		for i, h := range hosts {
			names[h.Addr] = telemetry.HostInfo{Hostname: fmt.Sprint("host-", i)}
			if size > 0 {
				names[h.Addr] = telemetry.HostInfo{Hostname: fmt.Sprint("host-", i/size), MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i/size>>8, i/size&0xff)}
			}
		}
		compare := func(name string, run func(b *testing.B, s *samples, next func(), by string)) {
			took := map[string]float64{}
			for _, by := range Groupings {
				s, now := samples{}, time.Now()
				next := func() {
					now = now.Add(Interval)
					s.take(r, now)
				}
				for range 3 {
					next()
					s.view(Query{By: by})
				}
				b.Run(fmt.Sprintf("%s/%d/%s", name, size, by), func(b *testing.B) {
					run(b, &s, next, by)
					took[by] = float64(b.Elapsed()) / float64(b.N)
					if by == ByDevice {
						b.ReportMetric(took[by]/took[Groupings[0]], "times")
					}
				})
			}
		}
		compare("reading", func(b *testing.B, s *samples, next func(), by string) {
			for b.Loop() {
				s.view(Query{By: by})
				next()
			}
		})
		for name, q := range map[string]Query{"first 50": {}, "first 1000": {Limit: MaxLimit}, "by name": {Sort: "hostname"}, "filter": {Filter: "10.0.1"}} {
			compare(name, func(b *testing.B, s *samples, _ func(), by string) {
				q.By = by
				for b.Loop() {
					s.report(q)
				}
			})
		}
	}
}
