package telemetry_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/version"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"promflow/telemetry"
	"promflow/telemetry/otlptest"
)

// listen starts a receiver on addr, "127.0.0.1:0" for any port.
func listen(t *testing.T, addr string, opts ...grpc.ServerOption) *otlptest.Receiver {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return otlptest.Start(t, l, opts...)
}

// lines is a log that a test can read while others write it.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// push returns a provider that pushes read's readings by o, and what it logs. The test shuts it down.
func push(t *testing.T, o telemetry.OTLP, cfg telemetry.Config, read func() telemetry.Reading, more ...sdkmetric.Reader) (*sdkmetric.MeterProvider, *lines) {
	t.Helper()
	log := &lines{}
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	reader, err := telemetry.NewOTLP(o, cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	if reader == nil {
		t.Fatal("OTLP is off")
	}
	provider, err := telemetry.New(cfg, read, append(more, reader)...)
	if err != nil {
		t.Fatal(err)
	}
	return provider, log
}

func shutdown(t *testing.T, p *sdkmetric.MeterProvider) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		t.Error("shutdown:", err)
	}
}

// series returns what a receiver should have of a reading.
func series(r telemetry.Reading) map[string]int64 {
	want := map[string]int64{"promflow_tracked_ips": r.Tracked, "promflow_tracked_ips_limit": r.Limit}
	for h := range r.Hosts {
		want["promflow_receive_bytes ip="+h.Addr.String()] = h.ReceiveBytes
		want["promflow_transmit_bytes ip="+h.Addr.String()] = h.TransmitBytes
	}
	return want
}

func expect(t *testing.T, r *otlptest.Receiver, want map[string]int64) {
	t.Helper()
	got := r.Take()
	if !maps.Equal(got, want) {
		t.Errorf("%d series arrived that are not the %d expected", len(got), len(want))
		for k, v := range want {
			if g, ok := got[k]; !ok || g != v {
				t.Errorf("for example %s is %d (there: %v), want %d", k, g, ok, v)
				break
			}
		}
	}
	for _, p := range r.Problems() {
		t.Error(p)
	}
}

func TestOTLPCarriesAll(t *testing.T) {
	for _, n := range []int{5000, 65536} {
		r := listen(t, "127.0.0.1:0")
		log := slog.New(slog.DiscardHandler)
		page, err := telemetry.NewPrometheus(log)
		if err != nil {
			t.Fatal(err)
		}
		reading := hosts(n)
		p, logged := push(t, telemetry.OTLP{Endpoint: r.Addr, Timeout: time.Minute}, telemetry.Config{},
			func() telemetry.Reading { return reading }, page)
		onPage := strings.Count(ours(scrape(t, page)), "{ip=")
		shutdown(t, p)
		expect(t, r, series(reading))
		if onPage != 2*n {
			t.Errorf("page has %d series of %d addresses", onPage, n)
		}
		if r.Largest() > 1<<20 {
			t.Errorf("largest message has %d bytes", r.Largest())
		}
		if logged.String() != "" {
			t.Error("log:", logged)
		}
	}
}

// IPv6 addresses of full length make the largest points.
func TestOTLPLargestMessage(t *testing.T) {
	r := listen(t, "127.0.0.1:0")
	p, _ := push(t, telemetry.OTLP{Endpoint: r.Addr, Timeout: time.Minute}, telemetry.Config{}, func() telemetry.Reading {
		return telemetry.Reading{Hosts: func(yield func(telemetry.Host) bool) {
			for i := range 10_000 {
				addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 16 + byte(i>>8), byte(i)})
				if !yield(telemetry.Host{Addr: addr, ReceiveBytes: 1 << 62, TransmitBytes: 1 << 62}) {
					return
				}
			}
		}}
	})
	shutdown(t, p)
	t.Logf("%d bytes", r.Largest())
	if r.Largest() < 700_000 || r.Largest() > 800_000 {
		t.Errorf("largest message has %d bytes: the arithmetic at batchPoints is wrong", r.Largest())
	}
}

func TestOTLPReceiverAway(t *testing.T) {
	r := listen(t, "127.0.0.1:0")
	s := &state{reading: hosts(3)}
	p, log := push(t, telemetry.OTLP{Endpoint: r.Addr, Timeout: 200 * time.Millisecond, Interval: time.Hour}, telemetry.Config{}, s.read)
	if err := p.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, r, series(hosts(3)))

	r.Stop()
	for n := range 3 {
		s.set(hosts(10 + n))
		if err := p.ForceFlush(t.Context()); err == nil {
			t.Error("an export to nobody worked")
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), r.Addr) {
		t.Errorf("want one error that names the endpoint; log:\n%s", log)
	}

	s.set(hosts(20))
	r = listen(t, r.Addr)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for p.ForceFlush(ctx) != nil { // until gRPC has connected again
		if ctx.Err() != nil {
			t.Fatal("the receiver is back, but nothing arrives")
		}
	}
	expect(t, r, series(hosts(20)))
	s.set(hosts(30))
	shutdown(t, p)
	expect(t, r, series(hosts(30)))
	if got := log.String(); strings.Count(got, "level=ERROR") != 1 || strings.Count(got, "works again") != 1 {
		t.Errorf("want one error and one recovery; log:\n%s", got)
	}
}

// frozen accepts connections and never answers.
func frozen(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	otlptest.Freeze(t, l)
	return l.Addr().String()
}

func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// stuck is a collector that speaks gRPC but never answers an export.
type stuck struct {
	collector.UnimplementedMetricsServiceServer
}

func (stuck) Export(ctx context.Context, _ *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func stuckCollector(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collector.RegisterMetricsServiceServer(server, stuck{})
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(l) })
	t.Cleanup(func() { server.Stop(); wg.Wait() })
	return l.Addr().String()
}

func TestShutdownEndsInTime(t *testing.T) {
	for name, collector := range map[string]func(*testing.T) string{"frozen": frozen, "down": closedPort, "stuck": stuckCollector} {
		for _, busy := range []bool{false, true} { // an export is under way
			t.Run(name, func(t *testing.T) {
				ignore := goleak.IgnoreCurrent()
				t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
				interval := time.Hour
				if busy {
					interval = time.Millisecond
				}
				collecting := make(chan struct{})
				signal := sync.OnceFunc(func() { close(collecting) })
				p, _ := push(t, telemetry.OTLP{Endpoint: collector(t), Interval: interval}, telemetry.Config{},
					func() telemetry.Reading { signal(); return hosts(6000) }) // two batches
				if busy {
					<-collecting
				}
				const patience = 300 * time.Millisecond
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				begin := time.Now()
				err := p.Shutdown(ctx)
				if took := time.Since(begin); took > patience+5*time.Second {
					t.Errorf("took %v", took)
				}
				if err == nil {
					t.Error("no error, although the last counts are lost")
				}
			})
		}
	}
}

// A dead collector costs one timeout for a collection, not one for each of its 4 batches.
func TestOTLPGivesUpOnCollection(t *testing.T) {
	const timeout = 500 * time.Millisecond
	p, log := push(t, telemetry.OTLP{Endpoint: frozen(t), Timeout: timeout, Interval: time.Hour}, telemetry.Config{},
		func() telemetry.Reading { return hosts(20_000) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := p.ForceFlush(ctx)
	if err == nil || strings.Count(err.Error(), "failed to upload") != 1 {
		t.Errorf("want the error of one batch, got %v", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.Shutdown(done); !errors.Is(err, context.Canceled) {
		t.Error("shutdown:", err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("want one line; log:\n%s", log)
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
			r := listen(t, "127.0.0.1:0")
			p, _ := push(t, telemetry.OTLP{Endpoint: r.Addr}, telemetry.Config{Instance: "router:9088"}, example)
			shutdown(t, p)
			got := r.Resource()
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
		options telemetry.OTLP
		header  string // the value of x-key
		log     string
	}{
		"general":                {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://{}"}},
		"without scheme":         {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "{}"}},
		"metrics first":          {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": dead, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "{}"}},
		"flag first":             {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1"}, options: telemetry.OTLP{Endpoint: "{}"}},
		"insecure with a scheme": {env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://{}", "OTEL_EXPORTER_OTLP_INSECURE": "false"}},
		"headers": {
			env:    env{"OTEL_EXPORTER_OTLP_ENDPOINT": "{}", "OTEL_EXPORTER_OTLP_HEADERS": "X-Key=a%20b, y=2"},
			header: "a b",
		},
		"headers of metrics": {
			env:    env{"OTEL_EXPORTER_OTLP_HEADERS": "x-key=no", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-key=yes"},
			header: "yes", options: telemetry.OTLP{Endpoint: "{}"},
		},
		"headers of the flag": {
			env: env{"OTEL_EXPORTER_OTLP_HEADERS": "x-key=no"}, header: "flag",
			options: telemetry.OTLP{Endpoint: "{}", Headers: map[string]string{"X-Key": "flag"}},
		},
		"compression": {env: env{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, options: telemetry.OTLP{Endpoint: "{}"}},
		"delta": {
			env:     env{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"},
			options: telemetry.OTLP{Endpoint: "{}"}, log: "cumulative",
		},
		"other exporter": {env: env{"OTEL_METRICS_EXPORTER": "none"}, options: telemetry.OTLP{Endpoint: "{}"}},
		"bad timeout":    {env: env{"OTEL_EXPORTER_OTLP_TIMEOUT": "5s"}, options: telemetry.OTLP{Endpoint: "{}"}, log: "level=ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			r := listen(t, "127.0.0.1:0")
			for k, v := range c.env {
				t.Setenv(k, strings.ReplaceAll(v, "{}", r.Addr))
			}
			c.options.Endpoint = strings.ReplaceAll(c.options.Endpoint, "{}", r.Addr)
			p, log := push(t, c.options, telemetry.Config{}, func() telemetry.Reading { return hosts(3) })
			shutdown(t, p)
			expect(t, r, series(hosts(3)))
			if got := r.Header("x-key"); got != c.header {
				t.Errorf("header is %q, want %q", got, c.header)
			}
			if got := log.String(); (got == "") != (c.log == "") || !strings.Contains(got, c.log) {
				t.Errorf("log is %q, want %q", got, c.log)
			}
		})
	}
}

func TestOTLPOff(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"no endpoint":       {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
		"empty":             {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
		"SDK disabled":      {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost", "OTEL_SDK_DISABLED": "true"},
		"other exporters":   {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost", "OTEL_METRICS_EXPORTER": "prometheus,console"},
		"exporters of none": {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "localhost", "OTEL_METRICS_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			reader, err := telemetry.NewOTLP(telemetry.OTLP{}, slog.Default())
			if reader != nil || err != nil {
				t.Errorf("got %v, %v", reader, err)
			}
		})
	}
}

func TestOTLPRefuses(t *testing.T) {
	yes := true
	for name, c := range map[string]struct {
		env     map[string]string
		options telemetry.OTLP
		want    []string
	}{
		"endpoint":      {nil, telemetry.OTLP{Endpoint: "ftp://x"}, []string{`"ftp://x"`, "http://"}},
		"variable":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "x:y"}, telemetry.OTLP{}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT", `"x:y"`}},
		"contradiction": {nil, telemetry.OTLP{Endpoint: "https://x", Insecure: &yes}, []string{`"https://x"`, "insecure"}},
		"protocol": {
			map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, telemetry.OTLP{Endpoint: "x"},
			[]string{"OTEL_EXPORTER_OTLP_PROTOCOL", `"http/protobuf"`, "grpc"},
		},
		"insecure": {
			map[string]string{"OTEL_EXPORTER_OTLP_INSECURE": "1"}, telemetry.OTLP{Endpoint: "x"},
			[]string{"OTEL_EXPORTER_OTLP_INSECURE", `"1"`, "true or false"},
		},
		"headers": {
			map[string]string{"OTEL_EXPORTER_OTLP_METRICS_HEADERS": "key"}, telemetry.OTLP{Endpoint: "x"},
			[]string{"OTEL_EXPORTER_OTLP_METRICS_HEADERS", "key=value"},
		},
		"header of flag": {nil, telemetry.OTLP{Endpoint: "x", Headers: map[string]string{"a b": "c"}}, []string{`"a b"`}},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			_, err := telemetry.NewOTLP(c.options, slog.Default())
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q has several lines", err)
			}
		})
	}
}

func TestOTLPWarnsOfOpenHeaders(t *testing.T) {
	for endpoint, warns := range map[string]bool{
		"192.0.2.1": true, "http://collector.example": true, "https://collector.example": false, "localhost": false, "[::1]:4317": false,
	} {
		log := &lines{}
		r, err := telemetry.NewOTLP(telemetry.OTLP{Endpoint: endpoint, Headers: map[string]string{"authorization": "secret"}},
			slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		r.Shutdown(t.Context())
		if got := strings.Count(log.String(), "level=WARN"); (got == 1) != warns || strings.Contains(log.String(), "secret") {
			t.Errorf("%s: log is %q", endpoint, log)
		}
	}
}

// authority makes a certificate authority and a server's certificate for localhost and 127.0.0.1; file has the authority's.
func authority(t *testing.T) (server tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestOTLPOverTLS(t *testing.T) {
	cert, file := authority(t)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1") // must not make the flag's endpoint insecure
	no := false
	r := listen(t, "127.0.0.1:0", grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []telemetry.OTLP{
		{Endpoint: "https://127.0.0.1:" + port},
		{Endpoint: "https://localhost:" + port},
		{Endpoint: "localhost:" + port, Insecure: &no},
	} {
		p, log := push(t, o, telemetry.Config{}, func() telemetry.Reading { return hosts(3) })
		shutdown(t, p)
		expect(t, r, series(hosts(3)))
		if log.String() != "" {
			t.Error("log:", log)
		}
	}

	// A certificate in the environment does not turn plaintext into TLS.
	plain := listen(t, "127.0.0.1:0")
	p, _ := push(t, telemetry.OTLP{Endpoint: "http://" + plain.Addr}, telemetry.Config{}, func() telemetry.Reading { return hosts(3) })
	shutdown(t, p)
	expect(t, plain, series(hosts(3)))

	// Without the authority's certificate the collector is not trusted.
	os.Unsetenv("OTEL_EXPORTER_OTLP_CERTIFICATE")
	p, log := push(t, telemetry.OTLP{Endpoint: "https://" + r.Addr, Timeout: time.Second}, telemetry.Config{}, example)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.Shutdown(ctx); err == nil || len(r.Take()) > 0 {
		t.Error("sent to a collector with an unknown certificate")
	}
	if !strings.Contains(log.String(), "certificate") {
		t.Error("log does not say why:", log)
	}
}

func TestOTLPOverUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := otlptest.Start(t, l)
	p, _ := push(t, telemetry.OTLP{Endpoint: "unix://" + path}, telemetry.Config{}, func() telemetry.Reading { return hosts(3) })
	shutdown(t, p)
	expect(t, r, series(hosts(3)))
}

func TestParseHeaders(t *testing.T) {
	for s, want := range map[string]map[string]string{
		"":                                   {},
		"k=v,k2=v2":                          {"k": "v", "k2": "v2"},
		" K = v , ":                          {"k": "v"},
		"a=b=c,d=":                           {"a": "b=c", "d": ""},
		"a=Bearer%20x%2Cy,a=2%":              nil,
		"authorization=Basic%20dXNlcjpwYXNz": {"authorization": "Basic dXNlcjpwYXNz"},
		"a=1,a=2":                            {"a": "2"},
		"novalue":                            nil,
		"=v":                                 nil,
		"a b=v":                              nil,
		"ä=v":                                nil,
		"a=%C3%A4":                           nil,
		"a-bin=%C3":                          {"a-bin": "\xc3"},
		"a=%0d":                              nil,
		"grpc-host=x":                        nil,
	} {
		got, err := telemetry.ParseHeaders(s)
		if (err != nil) != (want == nil) || err == nil && !maps.Equal(got, want) {
			t.Errorf("%q: got %v, %v; want %v", s, got, err, want)
		}
	}
	if _, err := telemetry.ParseHeaders("a=1,key=secret%"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error shows the value: %v", err)
	}
}
