package telemetry_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry"
	"promflow/telemetry/telemetrytest"
)

// pointsBy gives the points of a metric by the values of their labels, joined with a comma, and those values in the order of the
// points.
func pointsBy(tb testing.TB, scopes []metricdata.ScopeMetrics, name string) (map[string]metricdata.DataPoint[int64], []string) {
	tb.Helper()
	byLabels := map[string]metricdata.DataPoint[int64]{}
	var order []string
	for _, scope := range scopes {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			case metricdata.Sum[int64]:
				points = data.DataPoints
				if !data.IsMonotonic || data.Temporality != metricdata.CumulativeTemporality {
					tb.Errorf("%s is not a cumulative counter", name)
				}
			}
			for _, p := range points {
				var values []string
				for _, a := range p.Attributes.ToSlice() {
					values = append(values, a.Value.AsString())
				}
				labels := strings.Join(values, ",")
				if _, twice := byLabels[labels]; twice {
					tb.Errorf("%s has %q twice", name, labels)
				}
				byLabels[labels] = p
				order = append(order, labels)
			}
		}
	}
	return byLabels, order
}

func produce(tb testing.TB, source *telemetry.Source) []metricdata.ScopeMetrics {
	tb.Helper()
	scopes, err := source.Produce(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return scopes
}

// received and transmitted are hosts of which one direction or both have counted.
func received(addr string) telemetry.Host {
	return telemetry.Host{Addr: netip.MustParseAddr(addr), ReceiveBytes: 100, ReceivePackets: 1}
}

func transmitted(addr string) telemetry.Host {
	return telemetry.Host{Addr: netip.MustParseAddr(addr), TransmitBytes: 100, TransmitPackets: 1}
}

func both(addr string) telemetry.Host {
	h := received(addr)
	h.TransmitBytes, h.TransmitPackets = 100, 1
	return h
}

func TestSeriesBeginAtTheReadingBeforeTheirFirst(t *testing.T) {
	type hosts []telemetry.Host
	type minutes map[string]int // from the start to the beginning of a series
	other := telemetry.Host{ReceiveBytes: 1, ReceivePackets: 1}
	for name, readings := range map[string][]struct { // one a minute, from minute 1 on
		hosts             hosts
		receive, transmit minutes
	}{
		"there at once": {
			{hosts{both("10.0.0.1")}, minutes{"10.0.0.1": 0}, minutes{"10.0.0.1": 0}},
			{hosts{both("10.0.0.1")}, minutes{"10.0.0.1": 0}, minutes{"10.0.0.1": 0}},
		},
		"one comes": {
			{hosts{both("10.0.0.1")}, minutes{"10.0.0.1": 0}, minutes{"10.0.0.1": 0}},
			{nil, minutes{}, minutes{}},
			{hosts{both("10.0.0.2")}, minutes{"10.0.0.2": 2}, minutes{"10.0.0.2": 2}},
			{hosts{both("10.0.0.2"), both("10.0.0.3")}, minutes{"10.0.0.2": 2, "10.0.0.3": 3}, minutes{"10.0.0.2": 2, "10.0.0.3": 3}},
		},
		"first one direction, then the other": {
			{hosts{{Addr: netip.MustParseAddr("10.0.0.1")}}, minutes{}, minutes{}},
			{hosts{received("10.0.0.1")}, minutes{"10.0.0.1": 1}, minutes{}},
			{hosts{received("10.0.0.1")}, minutes{"10.0.0.1": 1}, minutes{}},
			{hosts{both("10.0.0.1")}, minutes{"10.0.0.1": 1}, minutes{"10.0.0.1": 3}},
			{hosts{both("10.0.0.1")}, minutes{"10.0.0.1": 1}, minutes{"10.0.0.1": 3}},
		},
		"positions change": {
			{hosts{received("10.0.0.1")}, minutes{"10.0.0.1": 0}, minutes{}},
			{hosts{received("10.0.0.1"), received("10.0.0.2")}, minutes{"10.0.0.1": 0, "10.0.0.2": 1}, minutes{}},
			{hosts{transmitted("10.0.0.3"), both("10.0.0.2"), both("10.0.0.1")},
				minutes{"10.0.0.1": 0, "10.0.0.2": 1}, minutes{"10.0.0.1": 2, "10.0.0.2": 2, "10.0.0.3": 2}},
			{hosts{both("10.0.0.1"), both("10.0.0.3"), both("10.0.0.2")},
				minutes{"10.0.0.1": 0, "10.0.0.2": 1, "10.0.0.3": 3}, minutes{"10.0.0.1": 2, "10.0.0.2": 2, "10.0.0.3": 2}},
		},
		"others leave": {
			{hosts{received("10.0.0.1"), received("10.0.0.2")}, minutes{"10.0.0.1": 0, "10.0.0.2": 0}, minutes{}},
			{hosts{received("10.0.0.1"), received("10.0.0.2"), received("10.0.0.3")},
				minutes{"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 1}, minutes{}},
			{hosts{received("10.0.0.2"), received("10.0.0.3")}, minutes{"10.0.0.2": 0, "10.0.0.3": 1}, minutes{}},
			{hosts{received("10.0.0.3")}, minutes{"10.0.0.3": 1}, minutes{}},
		},
		"one leaves and returns": {
			{hosts{received("10.0.0.1"), received("10.0.0.2")}, minutes{"10.0.0.1": 0, "10.0.0.2": 0}, minutes{}},
			{hosts{received("10.0.0.2")}, minutes{"10.0.0.2": 0}, minutes{}},
			{hosts{received("10.0.0.2"), received("10.0.0.1")}, minutes{"10.0.0.1": 2, "10.0.0.2": 0}, minutes{}},
			{hosts{received("10.0.0.2"), received("10.0.0.1")}, minutes{"10.0.0.1": 2, "10.0.0.2": 0}, minutes{}},
		},
		"the last leaves and returns": {
			{hosts{received("10.0.0.1")}, minutes{"10.0.0.1": 0}, minutes{}},
			{hosts{}, minutes{}, minutes{}},
			{hosts{received("10.0.0.1")}, minutes{"10.0.0.1": 2}, minutes{}},
		},
		"other": {
			{hosts{received("10.0.0.1")}, minutes{"10.0.0.1": 0}, minutes{}},
			{hosts{received("10.0.0.1"), other}, minutes{"10.0.0.1": 0, "other": 1}, minutes{}},
			{hosts{received("10.0.0.1"), received("10.0.0.2"), other}, minutes{"10.0.0.1": 0, "10.0.0.2": 2, "other": 1}, minutes{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s telemetrytest.State
				source := telemetry.NewSource(s.Read, true)
				start := time.Now()
				for i, r := range readings {
					time.Sleep(time.Minute) // of the bubble, which takes none
					s.Set(telemetry.Reading{
						Hosts: slices.Values(r.hosts), Tracked: int64(len(r.hosts)),
						Interfaces: []telemetry.Interface{{Name: "eth0", Backend: "ebpf", Outcomes: []telemetry.Outcome{{"counted", 1, 1}}}},
					})
					scopes := produce(t, source)
					for metric, want := range map[string]minutes{
						"promflow_receive_bytes": r.receive, "promflow_receive_packets": r.receive,
						"promflow_transmit_bytes": r.transmit, "promflow_transmit_packets": r.transmit,
						"promflow_capture_bytes": {"eth0,counted": 0}, "promflow_capture_dropped_packets": {"eth0": 0},
					} {
						got := minutes{}
						points, _ := pointsBy(t, scopes, metric)
						for labels, p := range points {
							got[labels] = int(p.StartTime.Sub(start).Minutes())
							if at := p.Time.Sub(start); at != time.Duration(i+1)*time.Minute {
								t.Errorf("reading %d: %s of %s is of minute %v", i+1, metric, labels, at.Minutes())
							}
						}
						if !maps.Equal(got, want) {
							t.Errorf("reading %d: %s began in minutes %v, want %v", i+1, metric, got, want)
						}
					}
				}
			})
		})
	}
}

// Gauges have no beginning.
func TestGaugesHaveNoStartTime(t *testing.T) {
	scopes := produce(t, telemetry.NewSource(telemetrytest.Example, false))
	for _, name := range []string{"promflow_tracked_ips", "promflow_tracked_ips_limit", "promflow_capture_up"} {
		points, _ := pointsBy(t, scopes, name)
		if len(points) == 0 {
			t.Errorf("no %s", name)
		}
		for labels, p := range points {
			if !p.StartTime.IsZero() {
				t.Errorf("%s of %q began at %v", name, labels, p.StartTime)
			}
		}
	}
}

// A series begins at the last reading before it, whoever had that, and begins there for everybody.
func TestReadersShareStartTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s telemetrytest.State
		source := telemetry.NewSource(s.Read, false)
		start := time.Now()
		often, seldom := sdkmetric.NewManualReader(sdkmetric.WithProducer(source)), sdkmetric.NewManualReader(sdkmetric.WithProducer(source))
		provider := telemetry.New("", slog.New(slog.NewTextHandler(t.Output(), nil)), often, seldom)
		defer provider.Shutdown(context.Background())
		var all []telemetry.Host
		check := func(reader sdkmetric.Reader, want map[string]time.Duration) {
			t.Helper()
			var collected metricdata.ResourceMetrics
			if err := reader.Collect(t.Context(), &collected); err != nil {
				t.Fatal(err)
			}
			got := map[string]time.Duration{}
			points, _ := pointsBy(t, collected.ScopeMetrics, "promflow_receive_bytes")
			for labels, p := range points {
				got[labels] = p.StartTime.Sub(start)
			}
			if !maps.Equal(got, want) {
				t.Errorf("series begin at %v, want %v", got, want)
			}
		}
		add := func(addr string) {
			all = append(all, received(addr))
			s.Set(telemetry.Reading{Hosts: slices.Values(all)})
			time.Sleep(time.Minute)
		}
		add("10.0.0.1")
		check(often, map[string]time.Duration{"10.0.0.1": 0})
		add("10.0.0.2")
		check(often, map[string]time.Duration{"10.0.0.1": 0, "10.0.0.2": time.Minute})
		add("10.0.0.3")
		first := map[string]time.Duration{"10.0.0.1": 0, "10.0.0.2": time.Minute, "10.0.0.3": 2 * time.Minute}
		check(seldom, first)
		check(often, first)
		add("10.0.0.4")
		first["10.0.0.4"] = 3 * time.Minute
		check(seldom, first)
		check(often, first)
	})
}

func TestSeriesAreInOrderOfLabels(t *testing.T) {
	var s telemetrytest.State
	source := telemetry.NewSource(s.Read, true)
	random := rand.New(rand.NewPCG(1, 2))
	all := slices.Collect(telemetrytest.Hosts(300).Hosts)
	for _, addr := range []string{"9.0.0.1", "::1", "fe80::1%eth0", "2001:db8::1", "10.10.0.1"} {
		all = append(all, both(addr))
	}
	all = append(all, telemetry.Host{ReceiveBytes: 1, TransmitBytes: 2, ReceivePackets: 3, TransmitPackets: 4})
	for range 20 {
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		some := slices.Clone(all[:random.IntN(len(all)+1)])
		s.Set(telemetry.Reading{
			Hosts: slices.Values(some),
			Interfaces: []telemetry.Interface{
				{Name: "wlan0", Backend: "b", Outcomes: []telemetry.Outcome{{"z", 1, 1}, {"a", 1, 1}}},
				{Name: "eth0", Backend: "b", Outcomes: []telemetry.Outcome{{"z", 1, 1}, {"a", 1, 1}}},
			},
		})
		scopes := produce(t, source)
		for name, n := range map[string]int{
			"promflow_receive_bytes": len(some), "promflow_transmit_bytes": len(some),
			"promflow_receive_packets": len(some), "promflow_transmit_packets": len(some),
			"promflow_capture_up": 2, "promflow_capture_bytes": 4,
		} {
			if _, order := pointsBy(t, scopes, name); len(order) != n || !slices.IsSorted(order) {
				t.Errorf("%s has %d series, want %d, in the order %q", name, len(order), n, order)
			}
		}
		points, _ := pointsBy(t, scopes, "promflow_transmit_bytes")
		for _, h := range some {
			label := "other"
			if h.Addr.IsValid() {
				label = h.Addr.String()
			}
			if points[label].Value != h.TransmitBytes {
				t.Errorf("%s has %d bytes, want %d", label, points[label].Value, h.TransmitBytes)
			}
		}
	}
}

// What the addresses have counted belongs to them whatever comes and goes meanwhile, and metrics stay as they were produced.
func TestConcurrentProduce(t *testing.T) {
	var readings atomic.Int64
	total := func(addr netip.Addr) int64 { return 1 + int64(addr.As4()[3]) }
	var at atomic.Int64 // as only one goroutine may read at a time
	source := telemetry.NewSource(func() telemetry.Reading {
		if at.Add(1) != 1 {
			t.Error("two readings at a time")
		}
		defer at.Add(-1)
		random := rand.New(rand.NewPCG(uint64(readings.Add(1)), 0))
		var all []telemetry.Host
		for _, i := range random.Perm(200)[:random.IntN(200)] {
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			all = append(all, telemetry.Host{Addr: addr, ReceiveBytes: total(addr), TransmitBytes: 1000 * total(addr)})
		}
		return telemetry.Reading{Hosts: slices.Values(all), Tracked: int64(len(all))}
	}, false)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var previous, copied []metricdata.ScopeMetrics
			for range 50 {
				scopes := produce(t, source)
				tracked, _ := pointsBy(t, scopes, "promflow_tracked_ips")
				for name, times := range map[string]int64{"promflow_receive_bytes": 1, "promflow_transmit_bytes": 1000} {
					points, order := pointsBy(t, scopes, name)
					if int64(len(points)) != tracked[""].Value || !slices.IsSorted(order) {
						t.Errorf("%d series of %d addresses, in the order %q", len(points), tracked[""].Value, order)
					}
					for label, p := range points {
						if want := times * total(netip.MustParseAddr(label)); p.Value != want {
							t.Errorf("%s of %s is %d, want %d", name, label, p.Value, want)
						}
						if p.StartTime.After(p.Time) {
							t.Errorf("%s of %s began at %v, after %v", name, label, p.StartTime, p.Time)
						}
					}
				}
				if got, want := fmt.Sprint(texts(previous)), fmt.Sprint(texts(copied)); got != want {
					t.Errorf("metrics changed from\n%s\nto\n%s", want, got)
				}
				previous, copied = scopes, copyOf(scopes)
			}
		})
	}
	wg.Wait()
}

// texts gives the points of all metrics in words.
func texts(scopes []metricdata.ScopeMetrics) (all []string) {
	for _, scope := range scopes {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Sum[int64]); ok {
				for _, p := range data.DataPoints {
					all = append(all, fmt.Sprint(m.Name, p.Attributes.Encoded(attribute.DefaultEncoder()), p.Value, p.StartTime, p.Time))
				}
			}
		}
	}
	return all
}

// copyOf copies metrics with their points.
func copyOf(scopes []metricdata.ScopeMetrics) []metricdata.ScopeMetrics {
	copied := slices.Clone(scopes)
	for i := range copied {
		copied[i].Metrics = slices.Clone(copied[i].Metrics)
		for j := range copied[i].Metrics {
			if data, ok := copied[i].Metrics[j].Data.(metricdata.Sum[int64]); ok {
				data.DataPoints = slices.Clone(data.DataPoints)
				copied[i].Metrics[j].Data = data
			}
		}
	}
	return copied
}

// An address that is there and has counted nothing is not on the page.
func TestSeriesAppearOnceTheyCount(t *testing.T) {
	hosts := []telemetry.Host{{Addr: netip.MustParseAddr("10.0.0.1")}, received("10.0.0.2"), transmitted("10.0.0.3")}
	scopes := produce(t, telemetry.NewSource(func() telemetry.Reading {
		return telemetry.Reading{Hosts: slices.Values(hosts), Tracked: 3}
	}, true))
	for name, want := range map[string][]string{
		"promflow_receive_bytes": {"10.0.0.2"}, "promflow_receive_packets": {"10.0.0.2"},
		"promflow_transmit_bytes": {"10.0.0.3"}, "promflow_transmit_packets": {"10.0.0.3"},
	} {
		if _, order := pointsBy(t, scopes, name); !slices.Equal(order, want) {
			t.Errorf("%s has %q, want %q", name, order, want)
		}
	}
}

// TestRestoredTotals has what an earlier process had counted, also of expired addresses, and whatever they have moved since.
func TestRestoredTotals(t *testing.T) {
	for _, packets := range []bool{false, true} {
		r := telemetrytest.Labelled()
		all := slices.Collect(r.Hosts)
		r.Hosts, r.Expiry = slices.Values(all), true
		source := telemetry.NewSource(func() telemetry.Reading { return r }, packets)
		want := map[string]int64{} // while none has expired
		for _, m := range produce(t, source)[0].Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && telemetry.ByAddress(m.Name) {
				for _, p := range sum.DataPoints {
					want[m.Name+p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
				}
			}
		}
		before := slices.Clone(all)
		r.Restored = func(of telemetry.Host) telemetry.Restored {
			for _, h := range before {
				if h.Addr == of.Addr && h.Labels == of.Labels && h.Entry == of.Entry {
					return telemetry.Restored{ReceiveBytes: h.ReceiveBytes, TransmitBytes: h.TransmitBytes, ReceivePackets: h.ReceivePackets, TransmitPackets: h.TransmitPackets}
				}
			}
			return telemetry.Restored{}
		}
		for i := range all {
			all[i].Expired = i%2 == 0
			all[i].ReceiveBytes += 7
		}
		got := map[string]int64{}
		for name, p := range source.Restored() {
			got[name+p.Attributes.Encoded(attribute.DefaultEncoder())] += p.Value
		}
		if len(got) < 7 || !maps.Equal(got, want) {
			t.Errorf("packets %t: totals are %v, want %v", packets, got, want)
		}
		for range source.Restored() {
			break
		}
	}
}

// TestRestoredStartIsNotInTheFuture has the clock be behind that of the earlier process.
func TestRestoredStartIsNotInTheFuture(t *testing.T) {
	future := time.Now().Add(time.Hour)
	host := telemetry.Host{Addr: netip.MustParseAddr("10.0.0.1"), ReceiveBytes: 1, TransmitBytes: 1}
	source := telemetry.NewSource(func() telemetry.Reading {
		return telemetry.Reading{Hosts: slices.Values([]telemetry.Host{host}), Tracked: 1, Restored: func(telemetry.Host) telemetry.Restored {
			return telemetry.Restored{Began: [2]time.Time{future, future}, ReceiveBytes: 1, TransmitBytes: 1}
		}}
	}, false)
	points := 0
	for _, m := range produce(t, source)[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && telemetry.ByAddress(m.Name) {
			for _, p := range sum.DataPoints {
				if points++; p.StartTime.After(p.Time) {
					t.Errorf("%s begins at %v, after %v", m.Name, p.StartTime, p.Time)
				}
			}
		}
	}
	if points != 2 {
		t.Errorf("%d points", points)
	}
}

// TestExpiredAddresses has addresses expire, return and be evicted at random: page and expired together are all that was counted,
// and a series begins when its address came, or came again after it was evicted.
func TestExpiredAddresses(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			const slots = 10
			random := rand.New(rand.NewPCG(seed, 3))
			var hosts [slots]telemetry.Host
			began := map[netip.Addr]time.Time{} // at the reading before the first, and since then
			var other telemetry.Host
			evicted, counted := int64(0), int64(0)
			source := telemetry.NewSource(func() telemetry.Reading {
				r := telemetry.Reading{Expiry: true, Evicted: evicted}
				for _, h := range hosts {
					if !h.Expired && h.Addr.IsValid() {
						r.Tracked++
					}
				}
				r.Hosts = func(yield func(telemetry.Host) bool) {
					for _, h := range hosts {
						if h.Addr.IsValid() && !yield(h) {
							return
						}
					}
					yield(other)
				}
				return r
			}, true)
			last := time.Now()
			for step := range 500 {
				for i := range hosts {
					h := &hosts[i]
					switch random.IntN(12) {
					case 0:
						h.Expired = h.Addr.IsValid()
					case 1:
						if h.Expired {
							evicted++
							other.ReceiveBytes += h.ReceiveBytes
							other.ReceivePackets += h.ReceivePackets
							delete(began, h.Addr)
							*h = telemetry.Host{Addr: netip.AddrFrom4([4]byte{10, 0, byte(step % 3), byte(i)}), Entry: uint32(evicted)}
						}
						fallthrough
					default:
						if !h.Addr.IsValid() {
							h.Addr = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
						}
						if _, known := began[h.Addr]; !known {
							began[h.Addr] = last
						}
						n := random.Int64N(1000)
						h.Expired = false
						h.ReceiveBytes += n + 1
						h.ReceivePackets++
						counted += n + 1
					}
				}
				time.Sleep(time.Second)
				if random.IntN(4) == 0 { // nobody reads: addresses come and expire unseen
					continue
				}
				scopes, err := source.Produce(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				last = time.Now()
				points, _ := pointsBy(t, scopes, "promflow_receive_bytes")
				expired, _ := pointsBy(t, scopes, "promflow_expired")
				sum := expired["receive"].Value
				for ip, p := range points {
					sum += p.Value
					if ip == "other" {
						continue
					}
					addr := netip.MustParseAddr(ip)
					if !p.StartTime.Equal(began[addr]) {
						t.Fatalf("%v began at %v, want %v", addr, p.StartTime, began[addr])
					}
				}
				if sum != counted {
					t.Fatalf("page and expired have %d bytes, want %d", sum, counted)
				}
				tracked, _ := pointsBy(t, scopes, "promflow_tracked_ips")
				off, _ := pointsBy(t, scopes, "promflow_expired_ips")
				gone, _ := pointsBy(t, scopes, "promflow_evicted_ips")
				n := int64(len(points))
				if _, has := points["other"]; has {
					n--
				}
				if tracked[""].Value != n || off[""].Value != int64(len(began))-n || gone[""].Value != evicted {
					t.Fatalf("tracked are %d, expired %d, evicted %d; want %d, %d, %d", tracked[""].Value, off[""].Value, gone[""].Value,
						n, int64(len(began))-n, evicted)
				}
			}
			if evicted < 20 {
				t.Errorf("%d evictions: the test shows little", evicted)
			}
		})
	}
}

// TestManyInterfaces has four times as many take four times as long, or some more to sort; to compare each with all takes 16 times.
func TestManyInterfaces(t *testing.T) {
	takes := func(interfaces int) time.Duration {
		r := telemetrytest.Hosts(0)
		for i := range interfaces {
			one := telemetry.Interface{Name: fmt.Sprint("eth", i), Backend: "ebpf"}
			for _, name := range []string{"counted", "unmonitored", "excluded", "non_ip", "malformed"} {
				one.Outcomes = append(one.Outcomes, telemetry.Outcome{Name: name, Packets: 1, Bytes: 1})
			}
			r.Interfaces = append(r.Interfaces, one)
		}
		source := telemetry.NewSource(func() telemetry.Reading { return r }, false)
		least := time.Duration(math.MaxInt64)
		for range 5 { // of which a busy machine does not disturb all
			begin := time.Now()
			if _, err := source.Produce(t.Context()); err != nil {
				t.Fatal(err)
			}
			least = min(least, time.Since(begin))
		}
		return least
	}
	if few, many := takes(500), takes(2000); many > 8*few {
		t.Errorf("500 interfaces take %v, 2000 %v", few, many)
	}
}
