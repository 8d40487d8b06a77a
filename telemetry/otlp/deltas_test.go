package otlp

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry"
)

func TestDeltas(t *testing.T) {
	type delta struct{ value, start, at int64 } // times in seconds
	d := newDeltas(nil)
	for _, step := range []struct {
		name    string
		total   int64
		at      int64 // the total's
		arrives bool
		want    []delta
	}{
		{"new", 10, 1, true, []delta{{10, 0, 1}}},
		{"moved", 15, 2, true, []delta{{5, 1, 2}}},
		{"unmoved", 15, 3, true, nil},
		{"moved, lost", 20, 4, false, []delta{{5, 3, 4}}},
		{"moved after a loss", 27, 5, true, []delta{{12, 3, 5}}},
		{"begun anew, lost", 3, 6, false, []delta{{3, 5, 6}}},
		{"begun anew", 4, 7, true, []delta{{4, 5, 7}}},
		{"moved since", 5, 8, true, []delta{{1, 7, 8}}},
	} {
		batch := []metricdata.Metrics{
			{Name: "c", Data: metricdata.Sum[int64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
				DataPoints: []metricdata.DataPoint[int64]{{Attributes: attribute.NewSet(), StartTime: time.Unix(0, 0), Time: time.Unix(step.at, 0), Value: step.total}}}},
		}
		var got []delta
		for _, m := range d.of(batch) {
			sum := m.Data.(metricdata.Sum[int64])
			if sum.Temporality != metricdata.DeltaTemporality || !sum.IsMonotonic {
				t.Errorf("%s: %+v", step.name, sum)
			}
			for _, p := range sum.DataPoints {
				got = append(got, delta{p.Value, p.StartTime.Unix(), p.Time.Unix()})
			}
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: got %v, want %v", step.name, got, step.want)
		}
		if sum := batch[0].Data.(metricdata.Sum[int64]); sum.DataPoints[0].Value != step.total {
			t.Errorf("%s: the total became %d", step.name, sum.DataPoints[0].Value)
		}
		if step.arrives {
			d.acknowledge(batch)
		}
	}
}

// A series is a metric with its attributes, and a gauge has no deltas.
func TestDeltasBySeries(t *testing.T) {
	d, at := newDeltas(nil), time.Unix(1, 0)
	ip := func(s string) attribute.Set { return attribute.NewSet(attribute.String("ip", s)) }
	counter := func(name string, points ...metricdata.DataPoint[int64]) metricdata.Metrics {
		return metricdata.Metrics{Name: name, Data: metricdata.Sum[int64]{IsMonotonic: true, DataPoints: points}}
	}
	batch := func(a, b, c, gauge int64) []metricdata.Metrics {
		return []metricdata.Metrics{
			counter("x", metricdata.DataPoint[int64]{Attributes: ip("a"), Time: at, Value: a}, metricdata.DataPoint[int64]{Attributes: ip("b"), Time: at, Value: b}),
			counter("y", metricdata.DataPoint[int64]{Attributes: ip("a"), Time: at, Value: c}),
			{Name: "g", Data: metricdata.Gauge[int64]{DataPoints: []metricdata.DataPoint[int64]{{Value: gauge}}}},
		}
	}
	d.acknowledge(batch(1, 2, 3, 4))
	var got []int64
	for _, m := range d.of(batch(11, 22, 3, 4)) {
		for _, p := range pointsOf(m.Data) {
			got = append(got, p.Value)
		}
	}
	if want := []int64{10, 20, 4}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// pointsOf returns the points of a counter or a gauge.
func pointsOf(data metricdata.Aggregation) []metricdata.DataPoint[int64] {
	switch d := data.(type) {
	case metricdata.Sum[int64]:
		return d.DataPoints
	case metricdata.Gauge[int64]:
		return d.DataPoints
	}
	return nil
}

// takes is an exporter that adds up deltas by address and fails now and then.
type takes struct {
	sdkmetric.Exporter
	fails  func() bool
	totals map[string]int64
}

var errRefused = errors.New("refused")

func (x *takes) Export(_ context.Context, batch *metricdata.ResourceMetrics) error {
	if x.fails() {
		return errRefused
	}
	for _, scope := range batch.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "promflow_receive_bytes" {
				continue
			}
			for _, p := range pointsOf(m.Data) {
				ip, _ := p.Attributes.Value("ip")
				x.totals[ip.AsString()] += p.Value
			}
		}
	}
	return nil
}

// TestDeltasOfAddressesThatComeAndGo has addresses expire, return, be evicted and begin anew, while some pushes fail: a collector
// that adds up deltas must have what they have moved in all their lives, as far as it was there to be pushed.
func TestDeltasOfAddressesThatComeAndGo(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			const slots, steps = 8, 3000
			random := rand.New(rand.NewPCG(seed, 0))
			var hosts []telemetry.Host
			next := uint32(0)
			source := telemetry.NewSource(func() telemetry.Reading {
				return telemetry.Reading{Hosts: slices.Values(slices.Clone(hosts)), Tracked: int64(len(hosts)), Expiry: true}
			}, false)
			failing := false
			collector := &takes{fails: func() bool { return failing && random.IntN(2) == 0 }, totals: map[string]int64{}}
			deltas := newDeltas(source.Kept)
			x := &exporter{health: source.NewHealth("test"), Exporter: collector, config: &resolved{Config: Config{Timeout: time.Second}}, deltas: deltas, log: slog.New(slog.DiscardHandler)}
			want := map[string]int64{}
			push := func() error {
				deltas.prune = slots // forgets as often as it can
				metrics, _ := source.Produce(t.Context())
				return x.Export(t.Context(), &metricdata.ResourceMetrics{ScopeMetrics: metrics})
			}
			for step := range steps {
				switch i := random.IntN(slots); {
				case i >= len(hosts):
					hosts = append(hosts, telemetry.Host{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(len(hosts))})})
				case hosts[i].Expired && random.IntN(4) == 0: // makes room, for itself or another
					next++
					hosts[i] = telemetry.Host{Addr: netip.AddrFrom4([4]byte{10, 0, byte(random.IntN(2) * (1 + step%200)), byte(i)}), Entry: next}
				case random.IntN(6) == 0:
					// What it has moved has arrived by then, as pushes are more frequent than addresses expire.
					failing = false
					if err := push(); err != nil {
						t.Fatal(err)
					}
					hosts[i].Expired = true
				default:
					n := 1 + random.Int64N(100)
					hosts[i].Expired = false
					hosts[i].ReceiveBytes += n
					want[hosts[i].Addr.String()] += n
				}
				time.Sleep(time.Second)
				if failing = true; random.IntN(3) == 0 {
					push()
				}
			}
			failing = false
			if err := push(); err != nil {
				t.Fatal(err)
			}
			for ip, w := range want {
				if got := collector.totals[ip]; got != w {
					t.Errorf("%s has %d, want %d", ip, got, w)
				}
			}
			if next < 50 {
				t.Errorf("%d evictions: the test shows little", next)
			}
		})
	}
}

// TestDeltasAfterARestart begins with totals of an earlier process, which had pushed them: the collector gets only what is moved since, by
// addresses that are there and by those that had expired and return.
func TestDeltasAfterARestart(t *testing.T) {
	for _, c := range []struct {
		expired bool
		began   time.Duration // from now, which may not be the right time yet
		early   int64         // what moves before the first push is prepared
	}{{false, -time.Hour, 0}, {true, -time.Hour, 0}, {false, time.Hour, 0}, {true, time.Hour, 0}, {false, -time.Hour, 3}} {
		expired := c.expired
		synctest.Test(t, func(t *testing.T) {
			restored := time.Now().Add(c.began)
			host := telemetry.Host{Addr: netip.MustParseAddr("10.0.0.1"), ReceiveBytes: 1000, TransmitBytes: 100, ReceivePackets: 10, TransmitPackets: 1, Expired: expired}
			idle := telemetry.Host{Addr: netip.MustParseAddr("10.0.0.2"), Expired: true} // has moved nothing yet
			source := telemetry.NewSource(func() telemetry.Reading {
				return telemetry.Reading{Hosts: slices.Values([]telemetry.Host{host, idle}), Tracked: 2, Expiry: true,
					Restored: func(of telemetry.Host) (before telemetry.Restored) {
						if of.Addr == host.Addr {
							before = telemetry.Restored{
								Began: [2]time.Time{restored, restored}, ReceiveBytes: 1000, TransmitBytes: 100, ReceivePackets: 10, TransmitPackets: 1}
						}
						return before
					}}
			}, true)
			host.ReceiveBytes += c.early
			_, _ = source.Produce(t.Context())
			time.Sleep(time.Second)
			deltas := newDeltas(source.Kept)
			deltas.pass(source)
			begin := time.Now()
			time.Sleep(time.Second)
			pushed := func() map[string]int64 {
				all := map[string]int64{}
				scopes, _ := source.Produce(t.Context())
				for _, m := range deltas.of(scopes[0].Metrics) {
					if !telemetry.ByAddress(m.Name) {
						continue
					}
					for _, p := range pointsOf(m.Data) {
						ip, _ := p.Attributes.Value("ip")
						if all[m.Name+" "+ip.AsString()] = p.Value; ip.AsString() == "10.0.0.1" && (p.StartTime.Before(begin) || p.StartTime.After(p.Time)) {
							t.Errorf("%s begins at %v, before %v, or after %v", m.Name, p.StartTime, begin, p.Time)
						}
					}
				}
				deltas.acknowledge(scopes[0].Metrics)
				return all
			}
			if got := pushed(); got["promflow_receive_bytes 10.0.0.1"] != c.early || len(got) > int(min(c.early, 1)) {
				t.Errorf("%+v: at first it pushes %v", c, got)
			}
			host.Expired, host.ReceiveBytes, host.ReceivePackets = false, host.ReceiveBytes+7, 11
			idle.Expired, idle.TransmitBytes = false, 5
			if got, want := pushed(), map[string]int64{
				"promflow_receive_bytes 10.0.0.1": 7, "promflow_receive_packets 10.0.0.1": 1, "promflow_transmit_bytes 10.0.0.2": 5,
			}; !maps.Equal(got, want) {
				t.Errorf("%+v: it pushes %v, want %v", c, got, want)
			}
		})
	}
}

// TestDeltasForgetWhoWasEvicted has other addresses at each push.
func TestDeltasForgetWhoWasEvicted(t *testing.T) {
	const slots, pushes = 1000, 100
	begin := 0
	source := telemetry.NewSource(func() telemetry.Reading {
		return telemetry.Reading{Tracked: slots, Expiry: true, Hosts: func(yield func(telemetry.Host) bool) {
			for i := range slots {
				n := begin + i
				if !yield(telemetry.Host{Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), ReceiveBytes: 1, TransmitBytes: 1}) {
					return
				}
			}
		}}
	}, false)
	deltas := newDeltas(source.Kept)
	collector := &takes{fails: func() bool { return false }, totals: map[string]int64{}}
	x := &exporter{health: source.NewHealth("test"), Exporter: collector, config: &resolved{Config: Config{Timeout: time.Second}}, deltas: deltas, log: slog.New(slog.DiscardHandler)}
	for range pushes {
		metrics, _ := source.Produce(t.Context())
		if err := x.Export(t.Context(), &metricdata.ResourceMetrics{ScopeMetrics: metrics}); err != nil {
			t.Fatal(err)
		}
		begin += slots
	}
	if n := len(deltas.received); n > 3*2*slots+minPrune {
		t.Errorf("%d series are remembered, of %d at a time", n, 2*slots)
	}
	if n := len(collector.totals); n != slots*pushes {
		t.Errorf("%d addresses have arrived, want %d", n, slots*pushes)
	}
}
