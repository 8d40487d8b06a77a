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

func TestQueryRefuses(t *testing.T) {
	for query, want := range map[string]string{
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
	f.Add("sort=ip&reverse=true&filter=a&limit=3&offset=7")
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
	for _, sort := range Sorts {
		for _, page := range []struct{ limit, offset int }{{1, 0}, {50, 0}, {1000, 20}, {50, 9990}, {50, 10_000}} {
			q := Query{Sort: sort, Limit: page.limit, Offset: page.offset}
			all := s.find("")
			slices.SortFunc(all, s.order(q, all))
			want := all[min(page.offset, len(all)):min(page.offset+page.limit, len(all))]
			if got := s.page(s.find(""), q); !slices.Equal(got, want) {
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

// TestFetchBelievesNoServer has servers answer that are none of promflow's, or lie.
func TestFetchBelievesNoServer(t *testing.T) {
	const begin = `{"time":"2026-01-01T00:00:00Z","window_seconds":4,"interval_seconds":2,`
	for body, want := range map[string]string{
		begin + `"talkers":[` + strings.Repeat("{},", 1_300_000) + `{}]}`:    "talkers: expected 50 at most",
		begin + `"interfaces":[` + strings.Repeat("{},", 1_300_000) + `{}]}`: "interfaces: expected 10000 at most",
		begin + `"talkers":{}}`:  "talkers: expected a list",
		begin + `"talkers":[1]}`: "cannot unmarshal number",
		`{"time":"2026-01-01T00:00:00Z","window_seconds":-4,"interval_seconds":2}`:  "window_seconds is -4",
		`{"time":"2026-01-01T00:00:00Z","window_seconds":4,"interval_seconds":1e9}`: "interval_seconds is 1e+09",
		`{"window_seconds":4}`:                               "it has no time",
		strings.Repeat(" ", 9<<20) + begin + `"talkers":[]}`: "more than 4194304 bytes",
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
	f.Fuzz(func(t *testing.T, body []byte) {
		r := new(Report)
		if err := r.decode(body, 2); err != nil {
			return
		}
		if len(r.Talkers) > 2 || r.WindowSeconds < 0 || r.Time.IsZero() {
			t.Errorf("%s: got %+v", body, r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Skip(err) // such as a year that JSON does not have
		}
		if err := new(Report).decode(again, 2); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	hosts := make([]telemetry.Host, 65536)
	for i := range hosts {
		hosts[i] = telemetry.Host{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), ReceiveBytes: int64(i), TransmitBytes: 1}
	}
	of := newTable(hosts...)
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
