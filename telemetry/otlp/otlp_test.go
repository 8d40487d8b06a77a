package otlp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/version"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"promflow/telemetry"
	"promflow/telemetry/otlp"
	"promflow/telemetry/otlp/otlptest"
	"promflow/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { telemetrytest.Main(m) }

// patience is for what should happen at once.
const patience = 30 * time.Second

// forEach runs test for each protocol of OTLP.
func forEach(t *testing.T, test func(t *testing.T, protocol string)) {
	for _, protocol := range []string{otlp.GRPC, otlp.HTTPProtobuf} {
		t.Run(protocol, func(t *testing.T) { test(t, protocol) })
	}
}

// listen starts a receiver on addr, or on any port if addr is empty, with TLS if config is not nil.
func listen(t *testing.T, protocol, addr string, config *tls.Config) *otlptest.Receiver {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if protocol == otlp.HTTPProtobuf {
		return otlptest.StartHTTP(t, l, config)
	}
	return otlptest.Start(t, l, config)
}

// pusher pushes to a collector.
type pusher struct {
	*sdkmetric.MeterProvider
	log   *telemetrytest.Lines // but for its beginning
	other *sdkmetric.ManualReader
}

// push returns what pushes read's readings by o. The test shuts it down.
func push(t *testing.T, o otlp.Config, read func() telemetry.Reading) pusher {
	t.Helper()
	logged := &telemetrytest.Lines{}
	log := slog.New(withoutArrival{slog.NewTextHandler(logged, nil)})
	source := telemetry.NewSource(read, false)
	newReader, err := otlp.Prepare(o, log)
	if err != nil {
		t.Fatal(err)
	}
	reader := newReader(source)
	logged.Forget("pushing to a collector")
	other := sdkmetric.NewManualReader(sdkmetric.WithProducer(source))
	return pusher{telemetry.New("router:9088", log, reader, other), logged, other}
}

// withoutArrival leaves out what is logged when the first push arrives, which TestOTLPSaysThatItArrives tests.
type withoutArrival struct{ slog.Handler }

const arrival = "metrics are exported by OTLP"

func (h withoutArrival) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == arrival {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h withoutArrival) WithAttrs(attributes []slog.Attr) slog.Handler {
	return withoutArrival{h.Handler.WithAttrs(attributes)}
}

// TestOTLPSaysThatItArrives pushes several times: the log says once that a push has arrived, and how.
func TestOTLPSaysThatItArrives(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", nil)
		logged := &telemetrytest.Lines{}
		newReader, err := otlp.Prepare(otlp.Config{Protocol: protocol, Endpoint: r.Addr, Interval: time.Hour}, slog.New(slog.NewTextHandler(logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		reader := newReader(telemetry.NewSource(telemetrytest.Example, false))
		p := pusher{telemetry.New("router:9088", slog.New(slog.DiscardHandler), reader), logged, nil}
		for range 3 {
			if err := p.flush(t); err != nil {
				t.Error(err)
			}
		}
		p.shutdown(t)
		if p.count(arrival) != 1 || p.count("protocol="+protocol) < 1 {
			t.Errorf("the log is\n%s", logged)
		}
	})
}

// flush pushes and returns what ForceFlush does.
func (p pusher) flush(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := p.ForceFlush(ctx)
	if ctx.Err() != nil {
		t.Fatal("the push does not end:", err)
	}
	return err
}

// flushUntilItWorks is for a connection that has to be made anew.
func (p pusher) flushUntilItWorks(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for err := error(nil); ; {
		if err = p.ForceFlush(ctx); err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("nothing arrives:", err)
		}
	}
}

func (p pusher) shutdown(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		t.Error("shutdown:", err)
	}
}

// abandon shuts down without pushing.
func (p pusher) abandon() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.Shutdown(ctx)
}

// health returns what another reader sees of the pushes: how many failed, and when one last worked.
func (p pusher) health(t *testing.T) (failures, lastSuccess int64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := p.other.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range all.ScopeMetrics[0].Metrics {
		var points []metricdata.DataPoint[int64]
		into := &lastSuccess
		switch m.Name {
		case "promflow_export_failures":
			points, into = m.Data.(metricdata.Sum[int64]).DataPoints, &failures
		case "promflow_export_last_success_timestamp":
			points = m.Data.(metricdata.Gauge[int64]).DataPoints
		default:
			continue
		}
		if exporter, _ := points[0].Attributes.Value("exporter"); exporter.AsString() != "otlp" || len(points) != 1 {
			t.Errorf("%s has %v", m.Name, points)
		}
		*into = points[0].Value
		found++
	}
	if found != 2 {
		t.Errorf("found %d metrics of pushes", found)
	}
	return failures, lastSuccess
}

// count returns how many lines of the log have text.
func (p pusher) count(text string) int { return strings.Count(p.log.String(), text) }

// series returns what a receiver should have of a reading, but for the health of the push.
func series(r telemetry.Reading) map[string]int64 {
	want := map[string]int64{"promflow_tracked_ips": r.Tracked, "promflow_tracked_ips_limit": r.Limit}
	for h := range r.Hosts {
		for name, total := range map[string]int64{"receive": h.ReceiveBytes, "transmit": h.TransmitBytes} {
			if total > 0 {
				want["promflow_"+name+"_bytes ip="+h.Addr.String()] = total
			}
		}
	}
	return want
}

// expect compares all that has arrived.
func expect(t *testing.T, r *otlptest.Receiver, want map[string]int64) {
	t.Helper()
	expectSeries(t, r.Take(), want)
	for _, p := range r.Seen().Problems {
		t.Error(p)
	}
}

func expectSeries(t *testing.T, got, want map[string]int64) {
	t.Helper()
	maps.DeleteFunc(got, func(name string, _ int64) bool { return strings.HasPrefix(name, "promflow_export_") })
	if maps.Equal(got, want) {
		return
	}
	t.Errorf("%d series arrived that are not the %d expected", len(got), len(want))
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			t.Errorf("for example %s is %d (there: %v), want %d", k, g, ok, v)
			break
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("for example %s is %d, unexpected", k, v)
			break
		}
	}
}

func TestOTLPCarriesAll(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		const n = 65536
		r := listen(t, protocol, "", nil)
		reading := telemetrytest.Hosts(n)
		p := push(t, otlp.Config{Protocol: protocol, Endpoint: r.Addr, Timeout: time.Minute}, func() telemetry.Reading { return reading })
		p.shutdown(t)
		got := r.Values()
		expect(t, r, series(reading))
		if len(got) < 2*n {
			t.Errorf("%d series arrived of %d addresses", len(got), n)
		}
		for _, name := range []string{"promflow_export_failures", "promflow_export_last_success_timestamp"} {
			if _, ok := got[name+" exporter=otlp"]; !ok {
				t.Error("no", name)
			}
		}
		if r.Seen().Largest > 1<<20 {
			t.Errorf("largest message has %d bytes", r.Seen().Largest)
		}
		if p.log.String() != "" {
			t.Error("log:", p.log)
		}
	})
}

// IPv6 addresses of full length make the largest points.
func TestOTLPLargestMessage(t *testing.T) {
	r := listen(t, otlp.GRPC, "", nil)
	p := push(t, otlp.Config{Endpoint: r.Addr, Timeout: time.Minute}, func() telemetry.Reading {
		return telemetry.Reading{Hosts: func(yield func(telemetry.Host) bool) {
			for i := range 10_000 {
				addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 16 + byte(i>>8), byte(i)})
				if !yield(telemetry.Host{Addr: addr, ReceiveBytes: 1 << 62, TransmitBytes: 1 << 62}) {
					return
				}
			}
		}}
	})
	p.shutdown(t)
	if r.Seen().Largest < 700_000 || r.Seen().Largest > 800_000 {
		t.Errorf("largest message has %d bytes: the arithmetic at batchPoints is wrong", r.Seen().Largest)
	}
}

func TestOTLPReceiverAway(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", nil)
		s := &telemetrytest.State{}
		s.Set(telemetrytest.Hosts(3))
		p := push(t, otlp.Config{Protocol: protocol, Endpoint: r.Addr, Timeout: 200 * time.Millisecond, Interval: time.Hour}, s.Read)
		if failures, last := p.health(t); failures != 0 || last != 0 {
			t.Errorf("health before all pushes: %d failures, last success %d", failures, last)
		}
		before := time.Now().Unix()
		if err := p.flush(t); err != nil {
			t.Fatal(err)
		}
		expect(t, r, series(telemetrytest.Hosts(3)))
		failures, worked := p.health(t)
		if failures != 0 || worked < before || worked > time.Now().Unix() {
			t.Errorf("health after a push: %d failures, last success %d, at %d", failures, worked, before)
		}

		r.Stop()
		for n := range 3 {
			s.Set(telemetrytest.Hosts(10 + n))
			if p.flush(t) == nil {
				t.Error("an export to nobody worked")
			}
		}
		if p.count("level=ERROR") != 1 || p.count("endpoint="+r.Addr) != 1 {
			t.Errorf("want one error that names the endpoint; log:\n%s", p.log)
		}
		if failures, last := p.health(t); failures != 3 || last != worked {
			t.Errorf("health: %d failures, last success %d; want 3, %d", failures, last, worked)
		}

		s.Set(telemetrytest.Hosts(20))
		r = listen(t, protocol, r.Addr, nil)
		p.flushUntilItWorks(t)
		expect(t, r, series(telemetrytest.Hosts(20)))
		s.Set(telemetrytest.Hosts(30))
		p.shutdown(t)
		expect(t, r, series(telemetrytest.Hosts(30)))
		if p.count("level=ERROR") != 1 || p.count("works again") != 1 {
			t.Errorf("want one error and one recovery; log:\n%s", p.log)
		}
	})
}

// Two messages make a collection, of which the collector does not take all.
func TestOTLPReceiverRefuses(t *testing.T) {
	reading := telemetrytest.Hosts(5_100)
	all := len(series(reading)) + 2 // with the health
	const firstBatch = 10_000
	for name, c := range map[string]struct {
		judge    func(message int) (rejected int, err error)
		messages int // that are sent
		taken    int // series
		says     string
	}{
		"points": {func(n int) (int, error) {
			if n == 1 {
				return 3, nil
			}
			return 0, nil
		}, 2, all - 3, "3 metric data points rejected"},
		"the first message": {func(int) (int, error) { return 0, status.Error(codes.InvalidArgument, "too odd") }, 1, 0, "too odd"},
		"later messages": {func(n int) (int, error) {
			if n == 1 {
				return 0, nil
			}
			return 0, status.Error(codes.Internal, "too many")
		}, 2, firstBatch, "too many"},
		"the client": {func(int) (int, error) { return 0, status.Error(codes.Unauthenticated, "who is it") }, 1, 0, "who is it"},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *testing.T, protocol string) {
				r := listen(t, protocol, "", nil)
				p := push(t, otlp.Config{Protocol: protocol, Endpoint: r.Addr, Timeout: patience, Interval: time.Hour},
					func() telemetry.Reading { return reading })
				for n := range int64(2) {
					r.Judge(c.judge)
					if err := p.flush(t); err == nil || !strings.Contains(err.Error(), c.says) {
						t.Errorf("error is %v, want %q", err, c.says)
					}
					if r.Seen().Messages != c.messages {
						t.Errorf("%d messages were sent, want %d", r.Seen().Messages, c.messages)
					}
					if got := len(r.Take()); got != c.taken {
						t.Errorf("%d series were taken, want %d", got, c.taken)
					}
					if failures, last := p.health(t); failures != n+1 || last != 0 {
						t.Errorf("health: %d failures, last success %d", failures, last)
					}
				}
				if p.count("level=ERROR") != 1 || p.count(c.says) != 1 || p.count("\n") != 1 {
					t.Errorf("want one error; log:\n%s", p.log)
				}
				r.Judge(nil)
				p.shutdown(t)
				expect(t, r, series(reading))
				if p.count("works again") != 1 || p.count("\n") != 2 {
					t.Errorf("want one error and one recovery; log:\n%s", p.log)
				}
			})
		})
	}
}

// A collector that is too busy is asked again until the timeout.
func TestOTLPReceiverBusy(t *testing.T) {
	busy := status.Error(codes.Unavailable, "busy")
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", nil)
		r.Judge(func(n int) (int, error) {
			if n == 1 {
				return 0, busy
			}
			return 0, nil
		})
		o := otlp.Config{Protocol: protocol, Endpoint: r.Addr, Timeout: patience, Interval: time.Hour}
		p := push(t, o, func() telemetry.Reading { return telemetrytest.Hosts(3) })
		if err := p.flush(t); err != nil || r.Seen().Messages != 2 {
			t.Errorf("%v after %d messages", err, r.Seen().Messages)
		}
		expect(t, r, series(telemetrytest.Hosts(3)))
		if failures, _ := p.health(t); failures != 0 || p.log.String() != "" {
			t.Errorf("%d failures; log: %s", failures, p.log)
		}
		p.shutdown(t)

		r.Judge(func(int) (int, error) { return 0, busy })
		o.Timeout = 1500 * time.Millisecond
		p = push(t, o, func() telemetry.Reading { return telemetrytest.Hosts(3) })
		if err := p.flush(t); err == nil || !strings.Contains(err.Error(), "busy") || r.Seen().Messages < 2 {
			t.Errorf("%v after %d messages", err, r.Seen().Messages)
		}
		p.abandon()
	})
}

// A redirection would take the headers to another host.
func TestOTLPFollowsNoRedirection(t *testing.T) {
	for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		r := listen(t, otlp.HTTPProtobuf, "", nil)
		server := httptest.NewServer(http.RedirectHandler("http://"+r.Addr, code))
		p := push(t, otlp.Config{Protocol: otlp.HTTPProtobuf, Endpoint: server.URL, Interval: time.Hour}, telemetrytest.Example)
		if err := p.flush(t); err == nil || !strings.Contains(err.Error(), http.StatusText(code)) {
			t.Errorf("%d: got %v", code, err)
		}
		if r.Seen().Messages != 0 {
			t.Errorf("%d was followed", code)
		}
		p.abandon()
		server.Close()
	}
}

// frozen has connections that nobody accepts, and never answers.
func frozen(t *testing.T, _ string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func closedPort(t *testing.T, _ string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// stuck takes messages but never answers.
func stuck(t *testing.T, protocol string) string {
	r := listen(t, protocol, "", nil)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	r.Judge(func(int) (int, error) { <-end; return 0, nil })
	return r.Addr
}

func TestShutdownEndsInTime(t *testing.T) {
	for name, collector := range map[string]func(*testing.T, string) string{"frozen": frozen, "down": closedPort, "stuck": stuck} {
		for _, busy := range []bool{false, true} { // an export is under way
			t.Run(name, func(t *testing.T) {
				forEach(t, func(t *testing.T, protocol string) {
					ignore := goleak.IgnoreCurrent()
					collectors := goleak.IgnoreAnyFunction("net/http.(*conn).serve") // it may wait half a second before it closes a connection
					t.Cleanup(func() { goleak.VerifyNone(t, ignore, collectors) })
					interval := time.Hour
					if busy {
						interval = time.Millisecond
					}
					collecting := make(chan struct{})
					signal := sync.OnceFunc(func() { close(collecting) })
					p := push(t, otlp.Config{Protocol: protocol, Endpoint: collector(t, protocol), Interval: interval},
						func() telemetry.Reading { signal(); return telemetrytest.Hosts(6000) }) // two batches
					if busy {
						<-collecting
					}
					const patience = 300 * time.Millisecond
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					begin := time.Now()
					err := p.Shutdown(ctx)
					if took := time.Since(begin); took > patience+4*time.Second {
						t.Errorf("took %v", took)
					}
					if err == nil {
						t.Error("no error, although the last counts are lost")
					}
				})
			})
		}
	}
}

// A push that is under way when the shutdown begins is given up for the last one, which has its counts, too.
func TestShutdownPushesAgain(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", nil)
		arrived, release := make(chan struct{}), make(chan struct{})
		r.Judge(func(n int) (int, error) {
			if n == 1 {
				close(arrived)
				<-release
			}
			return 0, nil
		})
		var readings atomic.Int64
		p := push(t, otlp.Config{Protocol: protocol, Endpoint: r.Addr, Timeout: patience, Interval: time.Millisecond}, func() telemetry.Reading {
			if readings.Add(1) == 2 {
				close(release)
			}
			return telemetrytest.Hosts(3)
		})
		<-arrived
		p.shutdown(t)
		expect(t, r, series(telemetrytest.Hosts(3)))
		if r.Seen().Messages != 2 || p.log.String() != "" {
			t.Errorf("want two messages and no log; %d messages, log:\n%s", r.Seen().Messages, p.log)
		}
	})
}

func TestShutdownClosesConnections(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", nil)
		ignore := goleak.IgnoreCurrent()
		p := push(t, otlp.Config{Protocol: protocol, Endpoint: r.Addr, Interval: time.Hour}, func() telemetry.Reading { return telemetrytest.Hosts(3) })
		if err := p.flush(t); err != nil {
			t.Fatal(err)
		}
		p.shutdown(t)
		goleak.VerifyNone(t, ignore) // while the receiver is still there
	})
}

// A dead collector costs one timeout for a collection, not one for each of its 4 batches.
func TestOTLPGivesUpOnCollection(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		p := push(t, otlp.Config{Protocol: protocol, Endpoint: frozen(t, protocol), Timeout: 500 * time.Millisecond, Interval: time.Hour},
			func() telemetry.Reading { return telemetrytest.Hosts(20_000) })
		err := p.flush(t)
		if err == nil || strings.Count(err.Error(), "failed to upload") != 1 {
			t.Errorf("want the error of one batch, got %v", err)
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Shutdown(done); !errors.Is(err, context.Canceled) {
			t.Error("shutdown:", err)
		}
		if p.count("\n") != 1 {
			t.Errorf("want one line; log:\n%s", p.log)
		}
	})
}

// The default is 5 s.
func TestOTLPTimeout(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for name, c := range map[string]struct {
		env     string
		timeout time.Duration
	}{"setting": {"60000", timeout}, "variable": {"300", 0}} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *testing.T, protocol string) {
				t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", c.env)
				p := push(t, otlp.Config{Protocol: protocol, Endpoint: stuck(t, protocol), Timeout: c.timeout, Interval: time.Hour}, telemetrytest.Example)
				begin := time.Now()
				err := p.flush(t)
				if took := time.Since(begin); err == nil || took < timeout || took > timeout+4*time.Second {
					t.Errorf("%v after %v", err, took)
				}
				p.abandon()
			})
		})
	}
}

func TestOTLPInterval(t *testing.T) {
	for name, c := range map[string]struct {
		env      string
		interval time.Duration
	}{"setting": {"3600000", time.Millisecond}, "variable": {"1", 0}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", c.env)
			r := listen(t, otlp.GRPC, "", nil)
			readings := make(chan struct{})
			var pushed atomic.Int64
			p := push(t, otlp.Config{Endpoint: r.Addr, Interval: c.interval}, func() telemetry.Reading {
				if pushed.Add(1) == 3 { // so two have been pushed
					close(readings)
				}
				return telemetrytest.Hosts(3)
			})
			select {
			case <-readings:
			case <-time.After(patience):
				t.Error("nothing is pushed")
			}
			expect(t, r, series(telemetrytest.Hosts(3)))
			p.shutdown(t)
		})
	}
}

func TestResource(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	old := version.Version
	version.Version = "1.2.3"
	t.Cleanup(func() { version.Version = old })
	for name, c := range map[string]struct{ env, want map[string]string }{
		"defaults": {nil, map[string]string{
			"service.name": "promflow", "service.version": "1.2.3", "service.instance.id": "router:9088",
			"host.name": hostname, "telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": "go",
		}},
		"environment": {
			map[string]string{
				"OTEL_SERVICE_NAME":        "edge",
				"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=i-1,host.name=h,service.version=9,site=a%2Cb",
			},
			map[string]string{
				"service.name": "edge", "service.version": "9", "service.instance.id": "i-1", "host.name": "h", "site": "a,b",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			r := listen(t, otlp.GRPC, "", nil)
			p := push(t, otlp.Config{Endpoint: r.Addr}, telemetrytest.Example)
			p.shutdown(t)
			got := r.Seen().Resource
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
			}
		})
	}
}

func TestOTLPEnvironment(t *testing.T) {
	const dead = "http://127.0.0.1:1"
	type env map[string]string
	for name, c := range map[string]struct {
		env     env // {} stands for the receiver's address
		options otlp.Config
		header  string // the value of x-key
		zip     string
		delta   bool
		warns   string // of this variable
	}{
		"general":                {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://{}"}},
		"without scheme":         {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "{}"}},
		"metrics first":          {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": dead, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "{}"}},
		"flag first":             {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1"}, options: otlp.Config{Endpoint: "{}"}},
		"insecure with a scheme": {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://{}", "OTEL_EXPORTER_OTLP_INSECURE": "false"}},
		"headers": {
			env:    env{"OTEL_EXPORTER_OTLP_ENDPOINT": "{}", "OTEL_EXPORTER_OTLP_HEADERS": "X-Key=a%20b, y=2"},
			header: "a b",
		},
		"headers of metrics": {
			env:    env{"OTEL_EXPORTER_OTLP_HEADERS": "x-key=no", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-key=yes"},
			header: "yes", options: otlp.Config{Endpoint: "{}"},
		},
		"headers of the flag": {
			env: env{"OTEL_EXPORTER_OTLP_HEADERS": "x-key=no,x-other=no"}, header: "flag",
			options: otlp.Config{Endpoint: "{}", Headers: map[string]string{"x-key": "flag"}},
		},
		"compression":             {env: env{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, options: otlp.Config{Endpoint: "{}"}, zip: "gzip"},
		"compression of the flag": {options: otlp.Config{Endpoint: "{}", Compression: otlp.Gzip}, zip: "gzip"},
		"compression of metrics": {
			env:     env{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "none"},
			options: otlp.Config{Endpoint: "{}"},
		},
		"no compression": {
			env:     env{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"},
			options: otlp.Config{Endpoint: "{}", Compression: otlp.NoCompression},
		},
		"delta": {
			env:     env{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "Delta"},
			options: otlp.Config{Endpoint: "{}"}, delta: true,
		},
		"low memory": {
			env:     env{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "lowmemory"},
			options: otlp.Config{Endpoint: "{}"},
		},
		"certificate for others": {
			env:     env{"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/no/such"},
			options: otlp.Config{Endpoint: "http://{}"},
		},
		"unknown compression": {
			env:     env{"OTEL_EXPORTER_OTLP_COMPRESSION": "brotli"},
			options: otlp.Config{Endpoint: "{}"}, warns: "OTEL_EXPORTER_OTLP_COMPRESSION",
		},
		"unknown temporality": {
			env:     env{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "both"},
			options: otlp.Config{Endpoint: "{}"}, warns: "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
		},
		"timeout with a unit": {
			env:     env{"OTEL_EXPORTER_OTLP_TIMEOUT": "5s"},
			options: otlp.Config{Endpoint: "{}"}, warns: "OTEL_EXPORTER_OTLP_TIMEOUT",
		},
		"no timeout": {
			env:     env{"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "0"},
			options: otlp.Config{Endpoint: "{}"}, warns: "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
		},
		"other exporter": {env: env{"OTEL_METRICS_EXPORTER": "none"}, options: otlp.Config{Endpoint: "{}"}}, // is for the caller
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *testing.T, protocol string) {
				t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
				r := listen(t, protocol, "", nil)
				if c.delta {
					r.ExpectDeltas()
				}
				for k, v := range c.env {
					t.Setenv(k, strings.ReplaceAll(v, "{}", r.Addr))
				}
				o := c.options
				o.Endpoint = strings.ReplaceAll(o.Endpoint, "{}", r.Addr)
				p := push(t, o, func() telemetry.Reading { return telemetrytest.Hosts(3) })
				p.shutdown(t)
				expect(t, r, series(telemetrytest.Hosts(3)))
				if got := r.Seen().Header("x-key"); got != c.header || r.Seen().Header("x-other") != "" {
					t.Errorf("headers are %q and %q, want %q", got, r.Seen().Header("x-other"), c.header)
				}
				if got := r.Seen().Compression(); got != c.zip {
					t.Errorf("compression is %q, want %q", got, c.zip)
				}
				switch {
				case c.warns == "" && p.log.String() != "":
					t.Errorf("log is %q", p.log)
				case c.warns != "" && (p.count("\n") != 1 || p.count("level=WARN") != 1 || p.count("variable="+c.warns+" ") != 1):
					t.Errorf("want one warning of %s; log is %q", c.warns, p.log)
				}
			})
		})
	}
}

// A protocol that is not known is ignored, too.
func TestOTLPUnknownProtocol(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	r := listen(t, otlp.GRPC, "", nil)
	p := push(t, otlp.Config{Endpoint: r.Addr}, func() telemetry.Reading { return telemetrytest.Hosts(3) })
	p.shutdown(t)
	expect(t, r, series(telemetrytest.Hosts(3)))
	if p.count("\n") != 1 || p.count("http/json") != 1 || p.count("level=WARN") != 1 {
		t.Error("log:", p.log)
	}
}

func TestOTLPPaths(t *testing.T) {
	type env map[string]string
	const all, metrics = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
	for _, c := range []struct {
		endpoint string
		env      env
		want     string
	}{
		{"{}", nil, "/v1/metrics"},
		{"http://{}", nil, "/v1/metrics"},
		{"http://{}/", nil, "/v1/metrics"},
		{"http://{}/otlp", nil, "/otlp/v1/metrics"},
		{"{}/otlp/", nil, "/otlp/v1/metrics"},
		{"http://{}/api/v1/otlp", nil, "/api/v1/otlp/v1/metrics"},
		{"http://{}/v1/metrics", nil, "/v1/metrics"},
		{"http://{}/api/v1/otlp/v1/metrics", nil, "/api/v1/otlp/v1/metrics"},
		{"", env{all: "http://{}"}, "/v1/metrics"},
		{"", env{all: "http://{}/otlp"}, "/otlp/v1/metrics"},
		{"", env{all: "http://{}/api/v1/otlp/"}, "/api/v1/otlp/v1/metrics"},
		{"", env{all: "http://{}/v1/metrics"}, "/v1/metrics"},
		{"", env{metrics: "http://{}/v1/metrics"}, "/v1/metrics"},
		{"", env{metrics: "http://{}/api/v1/otlp"}, "/api/v1/otlp"},
		{"", env{metrics: "http://{}/otlp/"}, "/otlp/"},
		{"", env{metrics: "http://{}/"}, "/"},
		{"", env{metrics: "http://{}"}, "/"},
		{"", env{metrics: "{}"}, "/"},
		{"", env{all: "http://127.0.0.1:1/x", metrics: "http://{}/y"}, "/y"},
		{"http://{}/x", env{metrics: "http://127.0.0.1:1/y"}, "/x/v1/metrics"},
	} {
		t.Run(c.endpoint, func(t *testing.T) {
			r := listen(t, otlp.HTTPProtobuf, "", nil)
			for k, v := range c.env {
				t.Setenv(k, strings.ReplaceAll(v, "{}", r.Addr))
			}
			p := push(t, otlp.Config{Protocol: otlp.HTTPProtobuf, Endpoint: strings.ReplaceAll(c.endpoint, "{}", r.Addr)},
				func() telemetry.Reading { return telemetrytest.Hosts(3) })
			p.shutdown(t)
			expect(t, r, series(telemetrytest.Hosts(3)))
			if r.Seen().Request.URL.Path != c.want {
				t.Errorf("%q, %v: path is %q, want %q", c.endpoint, c.env, r.Seen().Request.URL.Path, c.want)
			}
		})
	}
}

func TestOTLPConfigured(t *testing.T) {
	for name, c := range map[string]struct {
		env      map[string]string
		endpoint string
		want     bool
	}{
		"nothing":             {nil, "", false},
		"others":              {map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "x"}, "", false},
		"empty":               {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": " ", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": ""}, " ", false},
		"setting":             {nil, "localhost", true},
		"variable":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost"}, "", true},
		"variable of metrics": {map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "localhost"}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if got := (otlp.Config{Endpoint: c.endpoint}).Configured(); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestOTLPRefuses(t *testing.T) {
	yes := true
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := otlptest.NewAuthority(t)
	cert, key := a.Issue(t, "client", dir)
	noPEM, noHeaders := file("no.pem", "secret"), file("headers", "a=1\nsecret\n")
	type env map[string]string
	for name, c := range map[string]struct {
		env     env
		options otlp.Config
		setting string // that is to blame
		want    []string
	}{
		"endpoint":      {nil, otlp.Config{Endpoint: "ftp://x"}, "endpoint", []string{`"ftp://x"`, "http://"}},
		"variable":      {env{"OTEL_EXPORTER_OTLP_ENDPOINT": "x:y"}, otlp.Config{}, "", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", `"x:..."`}},
		"contradiction": {nil, otlp.Config{Endpoint: "https://x", Insecure: &yes}, "endpoint", []string{`"https://x"`, "insecure"}},
		"path by gRPC":  {nil, otlp.Config{Endpoint: "http://x/v1/metrics"}, "endpoint", []string{`"/v1/metrics"`, "http/protobuf"}},
		"socket by HTTP": {
			nil, otlp.Config{Endpoint: "unix:///x", Protocol: otlp.HTTPProtobuf}, "endpoint", []string{`"unix:///x"`, "grpc"},
		},
		"headers": {
			env{"OTEL_EXPORTER_OTLP_METRICS_HEADERS": "secret"}, otlp.Config{Endpoint: "x"}, "",
			[]string{"OTEL_EXPORTER_OTLP_METRICS_HEADERS", "key=value"},
		},
		"no headers file": {nil, otlp.Config{Endpoint: "x", HeadersFile: dir + "/none"}, "headers-file", []string{dir + "/none", "no such file"}},
		"headers file":    {nil, otlp.Config{Endpoint: "x", HeadersFile: noHeaders}, "headers-file", []string{noHeaders, "header 2", "key=value"}},
		"no authority":    {nil, otlp.Config{Endpoint: "https://x", CAFile: dir + "/none"}, "ca-file", []string{dir + "/none"}},
		"authority":       {nil, otlp.Config{Endpoint: "https://x", CAFile: noPEM}, "ca-file", []string{noPEM, "PEM"}},
		"authority of the variable": {
			env{"OTEL_EXPORTER_OTLP_CERTIFICATE": noPEM}, otlp.Config{Endpoint: "https://x"}, "",
			[]string{"OTEL_EXPORTER_OTLP_CERTIFICATE", noPEM, "PEM"},
		},
		"certificate without key": {nil, otlp.Config{Endpoint: "https://x", CertFile: cert}, "cert-file", []string{cert, "key"}},
		"key without certificate": {nil, otlp.Config{Endpoint: "https://x", KeyFile: key}, "key-file", []string{key, "certificate"}},
		"certificate for a key":   {nil, otlp.Config{Endpoint: "https://x", CertFile: cert, KeyFile: a.File}, "cert-file", []string{cert, a.File}},
		"certificate of the variable": {
			env{"OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE": noPEM, "OTEL_EXPORTER_OTLP_CLIENT_KEY": key},
			otlp.Config{Endpoint: "https://x"}, "", []string{"OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", noPEM, key},
		},
		"authority without TLS":   {nil, otlp.Config{Endpoint: "http://x", CAFile: a.File}, "endpoint", []string{"http://x", "https://"}},
		"certificate without TLS": {nil, otlp.Config{Endpoint: "x", CertFile: cert, KeyFile: key}, "endpoint", []string{"https://"}},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			_, err := otlp.Prepare(c.options, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
			if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q has several lines or a secret", err)
			}
			if wrong := (*otlp.SettingError)(nil); errors.As(err, &wrong) != (c.setting != "") || wrong != nil && wrong.Setting != c.setting {
				t.Errorf("%q blames %+v, want %q", err, wrong, c.setting)
			}
		})
	}
}

func TestOTLPWarns(t *testing.T) {
	secret := map[string]string{"authorization": "secret"}
	for _, c := range []struct {
		endpoint, insecure string
		headers            map[string]string
		file               string
		warns              string
	}{
		{"192.0.2.1", "", secret, "", "unencrypted"},
		{"http://collector.example", "", secret, "", "unencrypted"},
		{"http://collector.example", "", nil, "a=b\n", "unencrypted"},
		{"http://collector.example", "", nil, "", ""},
		{"https://collector.example", "", secret, "", ""},
		{"localhost", "", secret, "", ""},
		{"[::1]:4317", "", secret, "", ""},
		{"collector.example", "1", secret, "", "OTEL_EXPORTER_OTLP_INSECURE"}, // which is not true
		{"collector.example", "False", secret, "", ""},
		{"collector.example", "TRUE", secret, "", "unencrypted"},
		{"https://collector.example", "1", secret, "", ""}, // does not apply
	} {
		t.Run(c.endpoint, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_INSECURE", c.insecure)
			o := otlp.Config{Endpoint: c.endpoint, Headers: c.headers}
			if c.file != "" {
				o.HeadersFile = filepath.Join(t.TempDir(), "headers")
				if err := os.WriteFile(o.HeadersFile, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p := push(t, o, telemetrytest.Example)
			p.abandon()
			want := 0
			if c.warns != "" {
				want = 1
			}
			if p.count("level=WARN") != want || p.count("\n") != want || !strings.Contains(p.log.String(), c.warns) || p.count("secret") > 0 {
				t.Errorf("log is %q, want %q", p.log, c.warns)
			}
		})
	}
}

// The file is read for each push.
func TestOTLPHeadersFile(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		file := filepath.Join(t.TempDir(), "headers")
		write := func(s string) {
			t.Helper()
			if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("authorization=Bearer%20secret1\nempty=\r\n\nother=1\n")
		r := listen(t, protocol, "", nil)
		p := push(t, otlp.Config{Protocol: protocol, Endpoint: r.Addr, HeadersFile: file, Interval: time.Hour,
			Headers: map[string]string{"authorization": "setting", "tenant": "lab"}}, func() telemetry.Reading { return telemetrytest.Hosts(3) })
		expectHeaders := func(authorization, other string) {
			t.Helper()
			if err := p.flush(t); err != nil {
				t.Fatal(err)
			}
			if r.Seen().Header("authorization") != authorization || r.Seen().Header("tenant") != "lab" || r.Seen().Header("other") != other {
				t.Errorf("headers are %q, %q and %q", r.Seen().Header("authorization"), r.Seen().Header("tenant"), r.Seen().Header("other"))
			}
			r.Take()
		}
		expectHeaders("Bearer secret1", "1")
		write("authorization=Bearer%20secret2")
		expectHeaders("Bearer secret2", "")

		for n, breaks := range []func(){
			func() { write("authorization: Bearer secret3=") },
			func() { write("authorization=secret4%") },
			func() { os.Remove(file) },
		} {
			breaks()
			err := p.flush(t)
			if err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error is %v", err)
			}
			if failures, _ := p.health(t); failures != int64(n+1) || len(r.Take()) > 0 {
				t.Errorf("%d failures after %d bad files, or something was sent", failures, n+1)
			}
		}
		if p.count("level=ERROR") != 1 || p.count(file) != 1 {
			t.Errorf("want one error that names the file; log:\n%s", p.log)
		}
		write("authorization=secret5")
		expectHeaders("secret5", "")
		p.shutdown(t)
		if p.count("works again") != 1 || p.count("secret") > 0 {
			t.Errorf("want a recovery and no secret; log:\n%s", p.log)
		}
	})
}

// The SDK reads the variables, too, and would log what it cannot parse.
func TestOTLPLogsNoSecret(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization secret,=secret%zz,secret%zz=1,a=secret%zz")
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "://secret")
		logged := &telemetrytest.Lines{}
		log := slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		telemetry.New("", log).Shutdown(t.Context()) // its log is the SDK's from now on
		newReader, err := otlp.Prepare(otlp.Config{Protocol: protocol, Endpoint: closedPort(t, protocol), Timeout: 100 * time.Millisecond,
			Headers: map[string]string{"authorization": "secret"}}, log)
		if err != nil {
			t.Fatal(err)
		}
		p := telemetry.New("", log, newReader(telemetry.NewSource(telemetrytest.Example, false)))
		if err := p.Shutdown(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Error("shutdown:", err)
		}
		if got := logged.String(); strings.Contains(got, "secret") || !strings.Contains(got, "OTLP export fails") {
			t.Errorf("log is\n%s", got)
		}
	})
}

func TestOTLPOverTLS(t *testing.T) {
	a := otlptest.NewAuthority(t)
	no := false
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", a.Server(t, false))
		_, port, err := net.SplitHostPort(r.Addr)
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			options otlp.Config
			env     map[string]string
		}{
			"file":     {otlp.Config{Endpoint: "https://127.0.0.1:" + port, CAFile: a.File}, nil},
			"name":     {otlp.Config{Endpoint: "https://localhost:" + port, CAFile: a.File}, nil},
			"insecure": {otlp.Config{Endpoint: "localhost:" + port, Insecure: &no, CAFile: a.File}, nil},
			"insecure first": {
				otlp.Config{Endpoint: "localhost:" + port, Insecure: &no, CAFile: a.File}, map[string]string{"OTEL_EXPORTER_OTLP_INSECURE": "true"},
			},
			"file first":   {otlp.Config{Endpoint: "https://localhost:" + port, CAFile: a.File}, map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such"}},
			"variable":     {otlp.Config{Endpoint: "https://localhost:" + port}, map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": a.File}},
			"of metrics":   {otlp.Config{Endpoint: "https://localhost:" + port}, map[string]string{"OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE": a.File}},
			"by variables": {otlp.Config{CAFile: a.File}, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.Addr, "OTEL_EXPORTER_OTLP_INSECURE": "false"}},
			// The variable's endpoint must not make the setting's insecure.
			"other endpoint": {otlp.Config{Endpoint: "https://" + r.Addr, CAFile: a.File}, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}},
		} {
			t.Run(name, func(t *testing.T) {
				for k, v := range c.env {
					t.Setenv(k, v)
				}
				c.options.Protocol = protocol
				p := push(t, c.options, func() telemetry.Reading { return telemetrytest.Hosts(3) })
				p.shutdown(t)
				expect(t, r, series(telemetrytest.Hosts(3)))
				if p.log.String() != "" {
					t.Error("log:", p.log)
				}
			})
		}
	})
}

// A certificate in the environment does not turn plaintext into TLS.
func TestOTLPStaysPlain(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", otlptest.NewAuthority(t).File)
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", nil)
		for _, endpoint := range []string{"http://" + r.Addr, r.Addr} {
			p := push(t, otlp.Config{Protocol: protocol, Endpoint: endpoint}, func() telemetry.Reading { return telemetrytest.Hosts(3) })
			p.shutdown(t)
			expect(t, r, series(telemetrytest.Hosts(3)))
			if p.log.String() != "" {
				t.Error("log:", p.log)
			}
		}
	})
}

func TestOTLPTrustsNobodyElse(t *testing.T) {
	a := otlptest.NewAuthority(t)
	for name, file := range map[string]string{"system": "", "other": otlptest.NewAuthority(t).File} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *testing.T, protocol string) {
				r := listen(t, protocol, "", a.Server(t, false))
				p := push(t, otlp.Config{Protocol: protocol, Endpoint: "https://" + r.Addr, CAFile: file,
					Timeout: time.Second, Interval: time.Hour}, telemetrytest.Example)
				for range 2 {
					if err := p.flush(t); err == nil || r.Seen().Messages > 0 {
						t.Errorf("got %v; %d messages arrived", err, r.Seen().Messages)
					}
				}
				if p.count("\n") != 1 || p.count("unknown authority") != 1 {
					t.Errorf("want one line that says why; log:\n%s", p.log)
				}
				p.abandon()
			})
		})
	}
}

// The files of a client's certificate may be replaced, as they are before they expire.
func TestOTLPClientCertificate(t *testing.T) {
	a := otlptest.NewAuthority(t)
	for _, byVariable := range []bool{false, true} {
		forEach(t, func(t *testing.T, protocol string) {
			var client atomic.Value
			config := func() *tls.Config {
				c := a.Server(t, true)
				c.VerifyConnection = func(s tls.ConnectionState) error {
					client.Store(s.PeerCertificates[0].Subject.CommonName)
					return nil
				}
				return c
			}
			r := listen(t, protocol, "", config())
			dir := t.TempDir()
			o := otlp.Config{Protocol: protocol, Endpoint: "https://" + r.Addr, CAFile: a.File, Timeout: time.Second, Interval: time.Hour}

			stranger := push(t, o, telemetrytest.Example) // without a certificate
			if err := stranger.flush(t); err == nil || r.Seen().Messages > 0 {
				t.Errorf("got %v; %d messages arrived", err, r.Seen().Messages)
			}
			stranger.abandon()

			cert, key := a.Issue(t, "first", dir)
			if byVariable {
				t.Setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", cert)
				t.Setenv("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", key)
			} else {
				o.CertFile, o.KeyFile = cert, key
			}
			p := push(t, o, func() telemetry.Reading { return telemetrytest.Hosts(3) })
			if err := p.flush(t); err != nil {
				t.Fatal(err)
			}
			expect(t, r, series(telemetrytest.Hosts(3)))
			if client.Load() != "first" {
				t.Errorf("the client is %v", client.Load())
			}
			r.Stop()
			a.Issue(t, "second", dir)
			r = listen(t, protocol, r.Addr, config())
			p.flushUntilItWorks(t)
			expect(t, r, series(telemetrytest.Hosts(3)))
			if client.Load() != "second" {
				t.Errorf("the client is %v", client.Load())
			}
			p.shutdown(t)
		})
	}
}

func TestOTLPOverUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := otlptest.Start(t, l, nil)
	p := push(t, otlp.Config{Endpoint: "unix://" + path}, func() telemetry.Reading { return telemetrytest.Hosts(3) })
	p.shutdown(t)
	expect(t, r, series(telemetrytest.Hosts(3)))
}

func TestOTLPDeltas(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::1")
	type totals = map[netip.Addr][2]int64 // bytes received and transmitted
	type values map[string]int64
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", nil)
		r.ExpectDeltas()
		s := &telemetrytest.State{}
		p := push(t, otlp.Config{Protocol: protocol, Endpoint: r.Addr, Temporality: otlp.Delta, Timeout: patience, Interval: time.Hour}, s.Read)
		for _, step := range []struct {
			name   string
			totals totals
			reject int  // points
			refuse bool // all
			want   values
		}{
			{"new", totals{a: {100, 10}, b: {5, 0}}, 0, false, values{"receive a": 100, "transmit a": 10, "receive b": 5}},
			{"some moved", totals{a: {150, 10}, b: {5, 0}}, 0, false, values{"receive a": 50}},
			{"none moved", totals{a: {150, 10}, b: {5, 0}}, 0, false, values{}},
			{"lost", totals{a: {151, 11}, b: {5, 0}}, 0, true, values{}},
			{"lost again", totals{a: {153, 11}, b: {5, 1}}, 0, true, values{}},
			{"after losses", totals{a: {157, 11}, b: {5, 1}, c: {9, 9}}, 0, false,
				values{"receive a": 7, "transmit a": 1, "transmit b": 1, "receive c": 9, "transmit c": 9}},
			{"anew", totals{a: {7, 12}, b: {5, 1}, c: {10, 9}}, 0, false, values{"receive a": 7, "transmit a": 1, "receive c": 1}},
			{"moved since", totals{a: {8, 12}, b: {6, 1}, c: {10, 9}}, 0, false, values{"receive a": 1, "receive b": 1}},
			// What a collector rejects must not be sent again, by the specification.
			{"rejected", totals{a: {10, 12}, b: {9, 1}, c: {10, 9}}, 1, false, values{"receive b": 3}},
			{"after a rejection", totals{a: {11, 12}, b: {9, 1}, c: {10, 9}}, 0, false, values{"receive a": 1}},
		} {
			reading := telemetry.Reading{Tracked: 3, Limit: 8, Hosts: func(yield func(telemetry.Host) bool) {
				for _, addr := range []netip.Addr{a, b, c} {
					if t, ok := step.totals[addr]; ok && !yield(telemetry.Host{Addr: addr, ReceiveBytes: t[0], TransmitBytes: t[1]}) {
						return
					}
				}
			}}
			s.Set(reading)
			r.Judge(func(int) (int, error) {
				if step.refuse {
					return 0, status.Error(codes.InvalidArgument, "no")
				}
				return step.reject, nil
			})
			if err := p.flush(t); (err != nil) != (step.refuse || step.reject > 0) {
				t.Errorf("%s: %v", step.name, err)
			}
			want := values{}
			if !step.refuse {
				want = values{"promflow_tracked_ips": 3, "promflow_tracked_ips_limit": 8}
			}
			for k, v := range step.want {
				direction, host, _ := strings.Cut(k, " ")
				addr := map[string]netip.Addr{"a": a, "b": b, "c": c}[host]
				key := "promflow_" + direction + "_bytes ip=" + addr.String()
				want[key] = v
			}
			t.Run(step.name, func(t *testing.T) {
				expect(t, r, want)
			})
		}
		p.shutdown(t)
	})
}

// What was taken of a collection is not sent again, what was not is.
func TestOTLPDeltasOfPart(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		r := listen(t, protocol, "", nil)
		r.ExpectDeltas()
		s := &telemetrytest.State{}
		s.Set(telemetrytest.Hosts(5_100)) // two messages
		p := push(t, otlp.Config{Protocol: protocol, Endpoint: r.Addr, Temporality: otlp.Delta, Timeout: patience, Interval: time.Hour}, s.Read)
		r.Judge(func(n int) (int, error) {
			if n == 2 {
				return 0, status.Error(codes.Internal, "no")
			}
			return 0, nil
		})
		if p.flush(t) == nil {
			t.Error("want one of two messages to arrive")
		}
		sums := r.Take()
		if len(sums) != 10_000 {
			t.Errorf("%d series of the first message arrived", len(sums))
		}
		s.Set(telemetrytest.Hosts(5_101))
		r.Judge(nil)
		if err := p.flush(t); err != nil {
			t.Error(err)
		}
		rest := r.Take()
		if got, want := len(rest), len(series(telemetrytest.Hosts(5_101)))+2-10_000; got != want {
			t.Errorf("%d series arrived, want %d", got, want)
		}
		r.Judge(nil)
		if err := p.flush(t); err != nil || r.Seen().Messages != 1 {
			t.Errorf("%v; %d messages although nothing moved", err, r.Seen().Messages)
		}
		p.shutdown(t)
		for _, later := range []map[string]int64{rest, r.Take()} {
			for key, delta := range later {
				if strings.Contains(key, "_tracked_") { // a gauge
					delta -= sums[key]
				}
				sums[key] += delta
			}
		}
		expectSeries(t, sums, series(telemetrytest.Hosts(5_101)))
		for _, problem := range r.Seen().Problems {
			t.Error(problem)
		}
	})
}
