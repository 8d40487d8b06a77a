package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	otlpmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"

	"promflow/capture/nettest"
	"promflow/telemetry/otlp/otlptest"
)

// crowd is 5000 hosts that each send to one that is monitored, too: more than the 2000 series that OpenTelemetry has room
// for by default, and than one message takes.
type crowd struct {
	sender *nettest.Sender
	totals map[string]counts
}

func (c *crowd) send() {
	sink := netip.MustParseAddr("10.255.0.1")
	to := c.totals[sink.String()]
	for i := range 5000 {
		ip, size := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 60+i%1000
		c.sender.Send(nettest.UDP(ip, sink, size))
		from := c.totals[ip.String()]
		from.transmitBytes += int64(size)
		from.transmitPackets++
		c.totals[ip.String()] = from
		to.receiveBytes += int64(size)
		to.receivePackets++
	}
	c.totals[sink.String()] = to
}

// collector starts a receiver in the namespace.
func collector(t *testing.T, ns *nettest.Namespace, address string) *otlptest.Receiver {
	t.Helper()
	return otlptest.Start(t, ns.Listen(address), nil)
}

var pushedSeries = regexp.MustCompile(`^promflow_(receive|transmit)_(bytes|packets) ip=(.+)$`)

// pushed reads the addresses that a receiver has got.
func pushed(r *otlptest.Receiver) map[string]counts {
	all := map[string]counts{}
	for series, v := range r.Values() {
		if m := pushedSeries.FindStringSubmatch(series); m != nil {
			c := all[m[3]]
			*c.field(m[1], m[2]) = v
			all[m[3]] = c
		}
	}
	return all
}

func TestCollectorGetsWhatThePageHas(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	r := collector(t, here, "127.0.0.1:0")
	p := serve(t, here, "--interface=here", "--monitor-subnets=10.0.0.0/8", "--packets", "--otlp-endpoint="+r.Addr, "--otlp-interval=500ms")
	sent := &crowd{nettest.NewSender(t, there, "there"), map[string]counts{}}
	agree := func() {
		t.Helper()
		eventually(t, func() error { return same(hosts(t, p.get("/metrics")), sent.totals) })
		eventually(t, func() error { return same(pushed(r), sent.totals) })
	}
	sent.send()
	agree()

	r.Stop()
	sent.send()
	eventually(t, func() error { return same(hosts(t, p.get("/metrics")), sent.totals) })
	r = collector(t, here, r.Addr)
	agree()

	sent.send()
	p.terminate()
	if err := same(pushed(r), sent.totals); err != nil {
		t.Error("after the end:", err)
	}
	for _, problem := range r.Seen().Problems {
		t.Error(problem)
	}
}

func TestCollectorByEnvironment(t *testing.T) {
	ns := nettest.NewNamespace(t)
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		env      map[string]string // {} stands for the receiver's address
		args     string
		header   string            // the value of authorization
		resource map[string]string // {} stands for the program's port
	}{
		{"standard variables", map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://{}",
			"OTEL_EXPORTER_OTLP_HEADERS":  "authorization=Bearer%20abc",
			"OTEL_METRIC_EXPORT_INTERVAL": "100",
			"OTEL_RESOURCE_ATTRIBUTES":    "site=lab,host.name=router",
			"OTEL_SERVICE_NAME":           "edge",
		}, "", "Bearer abc", map[string]string{
			"service.name": "edge", "service.instance.id": hostname + ":{}", "host.name": "router", "site": "lab",
		}},
		{"promflow's variables", map[string]string{
			"PROMFLOW_OTLP_ENDPOINT":      "{}",
			"PROMFLOW_OTLP_HEADERS":       "Authorization=Bearer%20abc",
			"PROMFLOW_OTLP_INTERVAL":      "100ms",
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
			"OTEL_EXPORTER_OTLP_HEADERS":  "authorization=no",
		}, "", "Bearer abc", map[string]string{
			"service.name": "promflow", "service.instance.id": hostname + ":{}", "host.name": hostname,
		}},
		{"flags", map[string]string{
			"PROMFLOW_OTLP_ENDPOINT":   "127.0.0.1:1",
			"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=mine",
		}, "--otlp-endpoint=http://{} --otlp-interval=100ms --otlp-headers=authorization=flag", "flag", map[string]string{
			"service.name": "promflow", "service.instance.id": "mine",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := collector(t, ns, "127.0.0.1:0")
			for k, v := range c.env {
				t.Setenv(k, strings.ReplaceAll(v, "{}", r.Addr))
			}
			p := serve(t, ns, append(strings.Fields(strings.ReplaceAll(c.args, "{}", r.Addr)), "--interface=lo")...)
			_, port, err := net.SplitHostPort(p.address)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error { // by the interval, before the end
				if _, ok := r.Values()["promflow_capture_up backend=ebpf interface=lo"]; !ok {
					return fmt.Errorf("the receiver has %v", r.Values())
				}
				return nil
			})
			p.terminate()
			if got := r.Seen().Header("authorization"); got != c.header {
				t.Errorf("authorization is %q, want %q", got, c.header)
			}
			got := r.Seen().Resource
			for k, v := range c.resource {
				if want := strings.ReplaceAll(v, "{}", port); got[k] != want {
					t.Errorf("%s is %q, want %q", k, got[k], want)
				}
			}
			if v := got["service.version"]; v == "" {
				t.Error("no service.version")
			}
		})
	}
}

// TestCollectorsProtocol has collectors with one protocol each, at their default ports. A push works where only the endpoint is set, and
// where the protocol is set wrongly, the log and the check name the setting.
func TestCollectorsProtocol(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	taken := map[string]*atomic.Int64{"grpc": {}, "http/protobuf": {}}
	g := grpc.NewServer()
	otlpmetrics.RegisterMetricsServiceServer(g, grpcCollector{taken: taken["grpc"]})
	go g.Serve(here.Listen("127.0.0.1:4317"))
	t.Cleanup(g.Stop)
	h := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/metrics" {
			http.NotFound(w, r)
			return
		}
		io.Copy(io.Discard, r.Body)
		taken["http/protobuf"].Add(1)
		w.Header().Set("Content-Type", "application/x-protobuf")
	})}
	go h.Serve(here.Listen("127.0.0.1:4318"))
	t.Cleanup(func() { h.Close() })

	const grpcPort, httpPort = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
	for _, c := range []struct {
		env, args string
		over      string // the protocol of pushes that arrive
		names     string // the setting, where none do
	}{
		{grpcPort, "", "grpc", ""},
		{httpPort, "", "http/protobuf", ""},
		{"", "--otlp-endpoint=127.0.0.1:4317", "grpc", ""},
		{"", "--otlp-endpoint=127.0.0.1:4318", "http/protobuf", ""},
		{httpPort, "--otlp-protocol=grpc", "", "127.0.0.1:4318 speaks http/protobuf, not grpc: set --otlp-protocol=http/protobuf"},
		{grpcPort, "--otlp-protocol=http/protobuf", "", "127.0.0.1:4317 speaks grpc, not http/protobuf: set --otlp-protocol=grpc"},
		{httpPort + " OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "", "",
			"127.0.0.1:4318 speaks http/protobuf, not grpc: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "--otlp-endpoint=127.0.0.1:4317", "",
			"127.0.0.1:4317 speaks grpc, not http/protobuf: set OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
	} {
		t.Run(c.env+c.args, func(t *testing.T) {
			for _, variable := range strings.Fields(c.env) {
				name, value, _ := strings.Cut(variable, "=")
				t.Setenv(name, value)
			}
			args := append(strings.Fields(c.args), "--interface=here", "--otlp-timeout=1s")
			report := func(status int) checked {
				return finishes(t, inside(t, here, append([]string{"check"}, args...)...), status)
			}
			if c.over != "" {
				report(0).want(t, "collector", "ok", "takes pushes")
			} else {
				report(1).want(t, "collector", "error", c.names)
			}
			before := map[string]int64{}
			for protocol, n := range taken {
				before[protocol] = n.Load()
			}
			p := serve(t, here, append(args, "--otlp-interval=100ms")...)
			eventually(t, func() error {
				arrived := int64(2)
				if c.over != "" {
					arrived = taken[c.over].Load() - before[c.over]
				}
				if arrived < 2 || !strings.Contains(p.log.String(), c.names) {
					return fmt.Errorf("%d pushes have arrived; log:\n%s", arrived, p.log)
				}
				return nil
			})
			p.terminate()
			if said := strings.Contains(p.log.String(), "OTLP export fails"); said != (c.names != "") {
				t.Errorf("log:\n%s", p.log)
			}
		})
	}
}

// TestProxyHearsNothing has a proxy for HTTP, which gRPC does not use: whoever asks for the other protocol must not send the headers there.
func TestProxyHearsNothing(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	l := here.Listen("127.0.0.1:3128")
	var asked atomic.Int64
	proxy := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Error(w, "not from here", http.StatusForbidden)
	})}
	go proxy.Serve(l)
	t.Cleanup(func() { proxy.Close() })
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:3128")
	r := finishes(t, inside(t, here, "check", "--interface=here", "--otlp-endpoint=192.0.2.1:4317", "--otlp-timeout=500ms"), 1)
	r.want(t, "collector", "error", "connecting to 192.0.2.1:4317")
	if n := asked.Load(); n > 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

// grpcCollector counts the pushes that it takes.
type grpcCollector struct {
	otlpmetrics.UnimplementedMetricsServiceServer
	taken *atomic.Int64
}

func (c grpcCollector) Export(context.Context, *otlpmetrics.ExportMetricsServiceRequest) (*otlpmetrics.ExportMetricsServiceResponse, error) {
	c.taken.Add(1)
	return &otlpmetrics.ExportMetricsServiceResponse{}, nil
}
