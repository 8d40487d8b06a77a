package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"promflow/capture/nettest"
)

// formatsCase is a job that scrapes the program: its options, and how the Content-Type of the page that it gets begins.
type formatsCase struct{ job, options, want string }

const (
	typeText        = "text/plain; version=0.0.4"
	typeOpenMetrics = "application/openmetrics-text; version=1.0.0"
	typeProtobuf    = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

var formatsCases = []formatsCase{
	{"default", "", typeOpenMetrics}, // all others are of Prometheus 3
	{"protobuf", "scrape_protocols: [PrometheusProto]", typeProtobuf},
	{"openmetrics-0", "scrape_protocols: [OpenMetricsText0.0.1]", "application/openmetrics-text; version=0.0.1"},
	{"text", "scrape_protocols: [PrometheusText0.0.4]", typeText},
	{"text-1", "scrape_protocols: [PrometheusText1.0.0]", typeText},
	{"fallback", "scrape_protocols: [PrometheusText1.0.0], fallback_scrape_protocol: PrometheusProto", typeText},
	{"native-histograms", "scrape_native_histograms: true", typeProtobuf},
	{"legacy", "metric_name_validation_scheme: legacy", typeOpenMetrics},
	{"underscores", "metric_name_escaping_scheme: underscores", typeOpenMetrics},
	{"dots", "metric_name_escaping_scheme: dots", typeOpenMetrics},
	{"values", "metric_name_escaping_scheme: values", typeOpenMetrics},
}

// TestPrometheusFormats has each Prometheus scrape the program by every format and escaping of names that it can ask for: it gets that
// format, and has the same series and values, with a network whose name is not ASCII.
func TestPrometheusFormats(t *testing.T) {
	t.Parallel()
	type run struct {
		release
		features string
		cases    []formatsCase
	}
	var runs []run
	for _, r := range releases(t) {
		if strings.HasPrefix(r.version, "2.") {
			runs = append(runs, run{r, "", formatsCases[:1]})
		} else {
			runs = append(runs, run{r, "", formatsCases}, run{r, "openmetrics2,type-and-unit-labels,zstd-scrape", formatsCases[:1]})
		}
	}
	for _, r := range runs {
		t.Run(strings.TrimSpace(r.version+" "+r.features), func(t *testing.T) {
			t.Parallel()
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			p := serve(t, here, "--interface=here", "--monitor-subnets=Küche 1.5 °C=10.0.0.0/24", "--labels=network")
			proxy := newScrapeProxy(t, here, p)
			config := "global: {scrape_interval: 1s}\nscrape_configs:\n"
			types, values := map[string]string{}, map[string]float64{}
			for _, c := range r.cases {
				config += fmt.Sprintf("- {job_name: %s, metrics_path: /%[1]s, static_configs: [{targets: [%q]}], %s}\n", c.job, proxy.address, c.options)
				types[c.job] = c.want
				values[c.job+" promflow_transmit_bytes_total 10.0.0.1 Küche 1.5 °C"] = 1000
				values[c.job+" promflow_receive_bytes_total 10.0.0.2 Küche 1.5 °C"] = 1000
			}
			prometheus := r.serve(t, here, "127.0.0.1:9090", config, "--enable-feature="+r.features)
			nettest.NewSender(t, there, "there").Send(nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 1000))
			const query = `{__name__=~"promflow_+(receive|transmit)_.*"}`
			eventually(t, func() error {
				if got := prometheus.query(t, p, query, "job", "__name__", "ip", "network"); !maps.Equal(got, values) {
					return fmt.Errorf("Prometheus has %v, want %v", got, values)
				}
				return nil
			})
			for job, want := range types {
				if asked, got := proxy.seen(job); !strings.HasPrefix(got, want) {
					t.Errorf("%s: asked for %q, Prometheus got %q, want %q", job, asked, got, want)
				}
			}
		})
	}
}

// scrapeProxy hands on scrapes of /JOB to a program's page, and remembers each job's Accept and Content-Type.
type scrapeProxy struct {
	address string

	mu   sync.Mutex
	last map[string][2]string
}

func newScrapeProxy(t *testing.T, ns *nettest.Namespace, p *program) *scrapeProxy {
	t.Helper()
	l := ns.Listen("127.0.0.1:0")
	s := &scrapeProxy{address: l.Addr().String(), last: map[string][2]string{}}
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Transport: p.client.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: p.address})
			r.Out.URL.Path = "/metrics"
			r.Out.Header.Set("X-Job", strings.TrimPrefix(r.In.URL.Path, "/"))
		},
		ModifyResponse: func(r *http.Response) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.last[r.Request.Header.Get("X-Job")] = [2]string{r.Request.Header.Get("Accept"), r.Header.Get("Content-Type")}
			return nil
		},
	}}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return s
}

func (s *scrapeProxy) seen(job string) (accept, contentType string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[job][0], s.last[job][1]
}

// TestPrometheusStartTimes has Prometheus 3 take the times when counters began from the page: it has what an address moved before the
// first scrape, too.
func TestPrometheusStartTimes(t *testing.T) {
	t.Parallel()
	r := prometheus3(t)
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	p := serve(t, here, "--interface=here", "--monitor-subnets=10.0.0.1")
	s := nettest.NewSender(t, there, "there")
	send := func(bytes int) {
		s.Send(nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), bytes))
	}
	send(500)
	eventually(t, func() error {
		if got := hosts(t, p.get("/metrics"))["10.0.0.1"].transmitBytes; got != 500 {
			return fmt.Errorf("%d bytes counted", got)
		}
		return nil
	})
	features := []struct {
		name        string
		least, most float64 // that the increase is, which Prometheus extrapolates, from two scrapes to twice as much
	}{
		{"", 300, 700}, // the series begins with the first scrape
		{"created-timestamp-zero-ingestion", 800, 1100},
		{"st-storage,use-start-timestamps", 800, 1100},
	}
	var servers []prometheusServer
	for i, f := range features {
		servers = append(servers, r.serve(t, here, fmt.Sprint("127.0.0.1:", 9090+i), scrapesPromflow(p.address), "--enable-feature="+f.name))
	}
	for _, s := range servers {
		s.has(t, p, "promflow_transmit_bytes_total", 500)
	}
	send(300)
	for i, f := range features {
		servers[i].has(t, p, "promflow_transmit_bytes_total", 800)
		const increase = "increase(promflow_transmit_bytes_total[2m])"
		if got := servers[i].query(t, p, increase)[""]; got < f.least || got > f.most {
			t.Errorf("with %q, %s is %v, want %v to %v", f.name, increase, got, f.least, f.most)
		}
	}
}

// has waits until a query without labels gives a value.
func (s prometheusServer) has(t *testing.T, p *program, query string, want float64) {
	t.Helper()
	eventually(t, func() error {
		if got := s.query(t, p, query)[""]; got != want {
			return fmt.Errorf("Prometheus has %s %v, want %v", query, got, want)
		}
		return nil
	})
}

// TestPrometheusOTLP has the program push to the OTLP receiver of Prometheus 3: totals by its ways to translate names, and what was added
// since the last push with the features that take it.
func TestPrometheusOTLP(t *testing.T) {
	t.Parallel()
	r := prometheus3(t)
	const (
		total  = "promflow_transmit_bytes_total"
		labels = "__name__ instance ip job"
		delta  = "--otlp-temporality=delta"
	)
	for _, c := range []struct {
		name, config, feature string
		args                  []string
		query, labels         string
		want                  string // values of these labels
	}{
		{"totals", "{}", "", nil, total, labels, total + " $INSTANCE 10.0.0.1 promflow"},
		{"no translation", "otlp: {translation_strategy: NoTranslation}", "", nil,
			"promflow_transmit_bytes", labels, "promflow_transmit_bytes $INSTANCE 10.0.0.1 promflow"},
		{"UTF-8 names", `otlp: {translation_strategy: NoUTF8EscapingWithSuffixes, promote_resource_attributes: [service.name]}`, "", nil,
			`{"` + total + `", "service.name"="promflow"}`, labels + " service.name", total + " $INSTANCE 10.0.0.1 promflow promflow"},
		{"deltas to totals", "{}", "otlp-deltatocumulative", []string{delta}, total, labels, total + " $INSTANCE 10.0.0.1 promflow"},
		{"native deltas", "{}", "otlp-native-delta-ingestion", []string{delta},
			"sum_over_time(" + total + "[1m])", "instance ip job", "$INSTANCE 10.0.0.1 promflow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			prometheus := r.serve(t, here, "127.0.0.1:9090", c.config, "--web.enable-otlp-receiver", "--enable-feature="+c.feature)
			p := servePushing(t, here, c.args...)
			s := nettest.NewSender(t, there, "there")
			for n := 1; n <= 3; n++ {
				s.Send(nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 500))
				want := map[string]float64{strings.ReplaceAll(c.want, "$INSTANCE", p.instance()): float64(500 * n)}
				eventually(t, func() error {
					got, err := prometheus.instant(p, c.query, float64(time.Now().UnixMilli())/1000, strings.Fields(c.labels)...)
					if err == nil && !maps.Equal(got, want) {
						err = fmt.Errorf("Prometheus has %v, want %v", got, want)
					}
					return err
				})
			}
			if c.feature == "" && !strings.Contains(c.config, "NoTranslation") {
				// The names are those of the page, and all are there that are pushed.
				onPage := map[string]float64{}
				for _, line := range pushedLines(p.get("/metrics")) {
					if name, _, _ := strings.Cut(strings.Fields(line)[0], "{"); name != "#" {
						onPage[name] = 1
					}
				}
				eventually(t, func() error {
					if got := prometheus.query(t, p, `group by (__name__) ({__name__=~"promflow_.+", __name__!~"promflow_export_.+"})`, "__name__"); !maps.Equal(got, onPage) {
						return fmt.Errorf("Prometheus has %v, want %v", got, onPage)
					}
					return nil
				})
			}
			if got := p.pushes(); got.failures != 0 {
				t.Errorf("%v pushes failed", got.failures)
			}
		})
	}
	t.Run("deltas that it does not take", func(t *testing.T) {
		t.Parallel()
		here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
		here.Veth("here", there, "there")
		r.serve(t, here, "127.0.0.1:9090", "{}", "--web.enable-otlp-receiver")
		p := servePushing(t, here, delta)
		p.failing()
		if log := p.log.String(); !strings.Contains(log, "invalid temporality") {
			t.Errorf("the log does not say why: %s", log)
		}
	})
}

// servePushing starts a program that pushes to the OTLP receiver of a Prometheus.
func servePushing(t *testing.T, ns *nettest.Namespace, args ...string) *program {
	t.Helper()
	return serve(t, ns, append(args, "--interface=here", "--monitor-subnets=10.0.0.1", "--otlp-interval=500ms",
		"--otlp-protocol=http/protobuf", "--otlp-endpoint=http://127.0.0.1:9090/api/v1/otlp")...)
}

// TestPrometheusRemoteWrite has the program push to a collector, which hands on to each Prometheus by remote write.
func TestPrometheusRemoteWrite(t *testing.T) {
	t.Parallel()
	needCollector(t)
	for _, r := range releases(t) {
		t.Run(r.version, func(t *testing.T) {
			t.Parallel()
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			prometheus := r.serve(t, here, "127.0.0.1:9090", "{}", "--web.enable-remote-write-receiver")
			startCollector(t, here, []string{"REMOTE_WRITE_URL=http://" + prometheus.address + "/api/v1/write"}, "collector.yaml", "remote-write.yaml")
			p := serve(t, here, "--interface=here", "--monitor-subnets=10.0.0.1", "--otlp-interval=500ms", "--otlp-endpoint=127.0.0.1:4317")
			s := nettest.NewSender(t, there, "there")
			for n := 1; n <= 2; n++ {
				s.Send(nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 500))
				want := map[string]float64{p.instance() + " 10.0.0.1 promflow": float64(500 * n)}
				eventually(t, func() error {
					got := prometheus.query(t, p, "promflow_transmit_bytes_total", "instance", "ip", "job")
					if !maps.Equal(got, want) {
						return fmt.Errorf("Prometheus has %v, want %v", got, want)
					}
					return nil
				})
			}
		})
	}
}
