package telemetry_test

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"promflow/telemetry"
	"promflow/telemetry/otlp"
)

// steppingClock is a clock that can be set, in seconds, while the monotonic one goes on.
type steppingClock struct {
	begin         time.Time
	elapsed, step time.Duration
}

func (c *steppingClock) now() time.Time {
	t := c.begin.Add(c.elapsed)
	fields := (*struct {
		wall uint64 // from the 30th bit on, the seconds of a time with a monotonic reading
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	fields.wall += uint64(c.step/time.Second) << 30
	return t
}

func newSteppingClock(t *testing.T) *steppingClock {
	t.Helper()
	c := &steppingClock{begin: time.Now()}
	before := c.now()
	c.step = -time.Hour
	if after := c.now(); !after.Equal(before) || after.Unix() != before.Unix()-3600 {
		t.Fatal("a Time has other fields in this version of Go")
	}
	c.step = 0
	return c
}

// TestStartAfterAStepBack has counters that began before the clock stepped back, by less or more than they are old. They begin as long ago as
// before if that would be in the future otherwise, and else when they did.
func TestStartAfterAStepBack(t *testing.T) {
	for _, c := range []struct{ step, start, laterStart time.Duration }{ // since the source was made, as the clock has it at the end
		{0, 0, 60 * time.Second},
		{time.Hour, 0, 60 * time.Second},
		{-30 * time.Second, 0, 60 * time.Second},
		{-60 * time.Second, 0, 60 * time.Second},
		{-90 * time.Second, 0, -30 * time.Second},
		{-time.Hour, -time.Hour, -time.Hour + 60*time.Second},
	} {
		clock := newSteppingClock(t)
		hosts := []telemetry.Host{{Addr: netip.MustParseAddr("10.0.0.1"), ReceiveBytes: 1}, {Addr: netip.MustParseAddr("10.0.0.2")}}
		source := telemetry.NewSource(func() telemetry.Reading {
			return telemetry.Reading{Hosts: slices.Values(hosts), Tracked: 2, Evicted: 1, Expiry: true}
		}, false)
		source.SetClock(clock.now)
		clock.elapsed = 60 * time.Second
		produce(t, source)
		hosts[1].ReceiveBytes = 1
		clock.elapsed, clock.step = 120*time.Second, c.step
		var produced [2]map[string]string
		for i := range produced { // the second time it is the same
			scopes := produce(t, source)
			produced[i] = map[string]string{}
			for name, want := range map[string]time.Duration{"10.0.0.1": c.start, "10.0.0.2": c.laterStart} {
				points, _ := pointsBy(t, scopes, "promflow_receive_bytes")
				start := points[name].StartTime.Round(0)
				if got := start.Sub(clock.begin.Round(0)).Round(time.Second); got != want || start.After(points[name].Time.Round(0)) {
					t.Errorf("a step of %v: %s begins at %v, want %v", c.step, name, got, want)
				}
				produced[i][name] = start.String()
			}
			points, _ := pointsBy(t, scopes, "promflow_evicted_ips")
			if start := points[""].StartTime.Round(0); start.Sub(clock.begin.Round(0)).Round(time.Second) != c.start {
				t.Errorf("a step of %v: a counter without an address begins at %v", c.step, start)
			}
			clock.elapsed += time.Minute
		}
		if produced[0]["10.0.0.1"] != produced[1]["10.0.0.1"] || produced[0]["10.0.0.2"] != produced[1]["10.0.0.2"] {
			t.Errorf("a step of %v: %v, then %v", c.step, produced[0], produced[1])
		}
	}
}

// pushedPoints is a collector that takes pushes unless it refuses, and returns those of received bytes by their address.
type pushedPoints struct {
	refuses bool
	take    func(ip string, p *metrics.NumberDataPoint)
	all     func(p *metrics.NumberDataPoint) // of sums
}

func (c *pushedPoints) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-protobuf")
	body, err := io.ReadAll(r.Body)
	message := &collector.ExportMetricsServiceRequest{}
	if c.refuses || err != nil || proto.Unmarshal(body, message) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, m := range message.ResourceMetrics[0].ScopeMetrics[0].Metrics {
		for _, p := range m.GetSum().GetDataPoints() {
			if c.all(p); m.Name == "promflow_receive_bytes" {
				c.take(p.Attributes[0].Value.GetStringValue(), p)
			}
		}
	}
}

// TestPushesWithAClockThatSteps has the clock step both ways while addresses come, go and begin anew, and some pushes fail. All points begin
// before they end, totals are right, and deltas add up to them, after totals that an earlier process had pushed.
func TestPushesWithAClockThatSteps(t *testing.T) {
	for _, temporality := range []string{otlp.Cumulative, otlp.Delta} {
		for seed := range uint64(10) {
			clock, random := newSteppingClock(t), rand.New(rand.NewPCG(seed, 1))
			hosts := make([]telemetry.Host, 5)
			for i := range hosts {
				hosts[i].Addr = netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)})
			}
			const before = 1000
			hosts[0].ReceiveBytes, hosts[0].ReceivePackets = before, 1
			began := clock.begin.Add(-30 * time.Minute).Round(0)
			source := telemetry.NewSource(func() telemetry.Reading {
				return telemetry.Reading{Hosts: slices.Values(slices.Clone(hosts)), Tracked: 5, Expiry: true,
					Restored: func(of telemetry.Host) (r telemetry.Restored) {
						if of.Addr == hosts[0].Addr && of.Entry == 0 {
							r = telemetry.Restored{Began: [2]time.Time{began}, ReceiveBytes: before}
						}
						return r
					}}
			}, false)
			source.SetClock(clock.now)
			produce(t, source)

			got, want := map[string]int64{}, map[string]int64{}
			c := &pushedPoints{all: func(p *metrics.NumberDataPoint) {
				if p.StartTimeUnixNano > p.TimeUnixNano || temporality == otlp.Delta && p.StartTimeUnixNano == p.TimeUnixNano {
					t.Errorf("%s: a point is for the time from %d to %d", temporality, p.StartTimeUnixNano, p.TimeUnixNano)
				}
			}, take: func(ip string, p *metrics.NumberDataPoint) {
				if temporality == otlp.Cumulative {
					got[ip] = 0
				}
				got[ip] += p.GetAsInt()
			}}
			server := httptest.NewServer(c)
			log := slog.New(slog.DiscardHandler)
			newReader, err := otlp.Prepare(otlp.Config{
				Endpoint: server.URL, Protocol: otlp.HTTPProtobuf, Temporality: temporality, Interval: time.Hour, Timeout: time.Minute}, log)
			if err != nil {
				t.Fatal(err)
			}
			provider := telemetry.New("", log, newReader(source), sdkmetric.NewManualReader())
			push := func(refuses bool) {
				t.Helper()
				c.refuses = refuses
				if err := provider.ForceFlush(t.Context()); (err != nil) != refuses {
					t.Fatalf("a push that is refused (%v): %v", refuses, err)
				}
			}
			for range 300 {
				clock.elapsed += time.Duration(1+random.IntN(120e3)) * time.Millisecond
				if random.IntN(4) == 0 {
					clock.step += time.Duration(random.IntN(7200)-3600) * time.Second
				}
				h := &hosts[random.IntN(len(hosts))]
				ip := h.Addr.String()
				switch random.IntN(8) {
				case 0: // begins anew, after all has arrived
					push(false)
					h.ReceiveBytes, h.Entry = 0, h.Entry+1
					clock.elapsed += time.Second
				case 1:
					produce(t, source) // by another reader
				case 2, 3:
					push(random.IntN(2) == 0)
				default:
					n := 1 + random.Int64N(100)
					h.ReceiveBytes += n
					want[ip] += n
				}
			}
			clock.elapsed += time.Second
			push(false)
			for i := range hosts {
				ip := hosts[i].Addr.String()
				if temporality == otlp.Cumulative {
					if want[ip] = hosts[i].ReceiveBytes; want[ip] == 0 {
						continue // it has no series, and the collector that of a life before
					}
				}
				if got[ip] != want[ip] {
					t.Errorf("%s, seed %d: %s has %d, want %d", temporality, seed, ip, got[ip], want[ip])
				}
			}
			if err := provider.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			server.Close()
		}
	}
}
