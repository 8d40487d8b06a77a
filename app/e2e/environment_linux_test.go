package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"promflow/capture/nettest"
	"promflow/telemetry/otlp/otlptest"
)

// environmentCase is what a program that is told to push to a receiver does with OpenTelemetry's variables. In variables and
// flags, {} stands for the receiver's address.
type environmentCase struct {
	covers string // rows of the table in the collector example's README
	env    map[string]string
	args   string
	http   bool

	// Of the receiver, whose authority's file is CA in variables; CERT and KEY are those of a client's certificate.
	tls, mutual bool

	noPage, noPush, console bool // where there are no counts, and where there are
	check                   func(t *testing.T, p *program, r *otlptest.Receiver)
}

const (
	endpoint  = "OTEL_EXPORTER_OTLP_ENDPOINT"
	quickly   = " --otlp-interval=100ms"
	toHere    = "--otlp-endpoint={}" + quickly
	oneSeries = "promflow_tracked_ips"
)

var environmentCases = map[string]environmentCase{
	"nothing set":         {args: toHere},
	"disabled":            {covers: "OTEL_SDK_DISABLED", env: map[string]string{"OTEL_SDK_DISABLED": "True"}, args: toHere, noPage: true, noPush: true},
	"not disabled by 1":   {covers: "OTEL_SDK_DISABLED", env: map[string]string{"OTEL_SDK_DISABLED": "1"}, args: toHere},
	"page only":           {covers: "OTEL_METRICS_EXPORTER", env: map[string]string{"OTEL_METRICS_EXPORTER": "prometheus", endpoint: "http://{}"}, noPush: true},
	"push only":           {covers: "OTEL_METRICS_EXPORTER", env: map[string]string{"OTEL_METRICS_EXPORTER": "otlp", endpoint: "http://{}"}, args: quickly, noPage: true},
	"none":                {covers: "OTEL_METRICS_EXPORTER", env: map[string]string{"OTEL_METRICS_EXPORTER": "none", endpoint: "http://{}"}, noPage: true, noPush: true},
	"console only":        {covers: "OTEL_METRICS_EXPORTER", env: map[string]string{"OTEL_METRICS_EXPORTER": "console", endpoint: "http://{}"}, noPage: true, noPush: true, console: true},
	"several":             {covers: "OTEL_METRICS_EXPORTER", env: map[string]string{"OTEL_METRICS_EXPORTER": "otlp, prometheus,console"}, args: toHere, console: true},
	"an unknown one":      {covers: "OTEL_METRICS_EXPORTER", env: map[string]string{"OTEL_METRICS_EXPORTER": "statsd"}, args: toHere},
	"unlike the flag's":   {covers: "OTEL_METRICS_EXPORTER", env: map[string]string{"OTEL_METRICS_EXPORTER": "none"}, args: toHere + " --exporters=otlp,prometheus"},
	"service":             {covers: "OTEL_SERVICE_NAME", env: map[string]string{"OTEL_SERVICE_NAME": "edge"}, args: toHere, check: hasResource("service.name", "edge")},
	"resource attributes": {covers: "OTEL_RESOURCE_ATTRIBUTES", env: map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "site=lab,service.instance.id=i"}, args: toHere, check: hasResource("site", "lab", "service.instance.id", "i")},
	"interval":            {covers: "OTEL_METRIC_EXPORT_INTERVAL", env: map[string]string{"OTEL_METRIC_EXPORT_INTERVAL": "100"}, args: "--otlp-endpoint={}"},
	"endpoint":            {covers: endpoint, env: map[string]string{endpoint: "http://{}"}, args: quickly},
	"endpoint of metrics": {covers: endpoint, env: map[string]string{endpoint: "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "{}"}, args: quickly},
	"endpoint for HTTP": {
		covers: endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL", http: true, args: quickly, check: atPath("/base/v1/metrics"),
		env: map[string]string{endpoint: "http://{}/base", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
	},
	"endpoint of metrics for HTTP": {
		covers: endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL", http: true, args: quickly, check: atPath("/mine"),
		env: map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://{}/mine", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
	},
	"unknown protocol": {covers: "OTEL_EXPORTER_OTLP_PROTOCOL", env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon"}, args: toHere, check: warned("OTEL_EXPORTER_OTLP_PROTOCOL")},
	"headers": {
		covers: "OTEL_EXPORTER_OTLP_HEADERS", env: map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b"}, args: toHere, check: hasHeader("x-key", "a b"),
	},
	"headers of metrics": {
		covers: "OTEL_EXPORTER_OTLP_HEADERS", env: map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "x-key=no", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-key=yes"},
		args: toHere, check: hasHeader("x-key", "yes"),
	},
	"compression": {
		covers: "OTEL_EXPORTER_OTLP_COMPRESSION", env: map[string]string{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, args: toHere,
		check: func(t *testing.T, _ *program, r *otlptest.Receiver) {
			if got := r.Seen().Compression(); got != "gzip" {
				t.Errorf("compressed by %q", got)
			}
		},
	},
	"deltas": {
		covers: "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", env: map[string]string{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "DELTA"}, args: toHere,
		check: func(t *testing.T, _ *program, r *otlptest.Receiver) {
			if len(r.Seen().Problems) == 0 {
				t.Error("the receiver got totals")
			}
		},
	},
	"low memory": {
		covers: "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", env: map[string]string{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "lowmemory"}, args: toHere,
		check: func(t *testing.T, _ *program, r *otlptest.Receiver) {
			for _, problem := range r.Seen().Problems {
				t.Error(problem)
			}
		},
	},
	"timeout": {
		covers: "OTEL_EXPORTER_OTLP_TIMEOUT", env: map[string]string{"OTEL_EXPORTER_OTLP_TIMEOUT": "200"}, args: "--otlp-endpoint=FROZEN" + quickly,
		noPush: true, check: pushFails,
	},
	"timeout of all": {
		covers: "OTEL_METRIC_EXPORT_TIMEOUT", env: map[string]string{"OTEL_METRIC_EXPORT_TIMEOUT": "200"}, args: "--otlp-endpoint=FROZEN --otlp-timeout=1h" + quickly,
		noPush: true, check: pushFails,
	},
	"secure": {
		covers: "OTEL_EXPORTER_OTLP_CERTIFICATE OTEL_EXPORTER_OTLP_INSECURE", args: quickly, tls: true,
		env: map[string]string{endpoint: "{}", "OTEL_EXPORTER_OTLP_INSECURE": "false", "OTEL_EXPORTER_OTLP_CERTIFICATE": "CA"},
	},
	"insecure": {covers: "OTEL_EXPORTER_OTLP_INSECURE", env: map[string]string{endpoint: "{}", "OTEL_EXPORTER_OTLP_INSECURE": "TRUE"}, args: quickly},
	"own certificate": {
		covers: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE OTEL_EXPORTER_OTLP_CLIENT_KEY", args: quickly, tls: true, mutual: true,
		env: map[string]string{endpoint: "https://{}", "OTEL_EXPORTER_OTLP_CERTIFICATE": "CA",
			"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "CERT", "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY": "KEY"},
	},
	"not honoured": {args: toHere, env: map[string]string{
		"OTEL_EXPORTER_PROMETHEUS_HOST": "192.0.2.1", "OTEL_EXPORTER_PROMETHEUS_PORT": "1", "OTEL_LOG_LEVEL": "none",
		"OTEL_CONFIG_FILE": "/no/such", "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
		"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
	}},
}

func hasResource(keyValues ...string) func(*testing.T, *program, *otlptest.Receiver) {
	return func(t *testing.T, _ *program, r *otlptest.Receiver) {
		for i := 0; i < len(keyValues); i += 2 {
			if got := r.Seen().Resource[keyValues[i]]; got != keyValues[i+1] {
				t.Errorf("%s is %q, want %q", keyValues[i], got, keyValues[i+1])
			}
		}
	}
}

func hasHeader(key, want string) func(*testing.T, *program, *otlptest.Receiver) {
	return func(t *testing.T, _ *program, r *otlptest.Receiver) {
		if got := r.Seen().Header(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func atPath(want string) func(*testing.T, *program, *otlptest.Receiver) {
	return func(t *testing.T, _ *program, r *otlptest.Receiver) {
		if got := r.Seen().Request.URL.Path; got != want {
			t.Errorf("pushed to %s, want %s", got, want)
		}
	}
}

func warned(of string) func(*testing.T, *program, *otlptest.Receiver) {
	return func(t *testing.T, p *program, _ *otlptest.Receiver) {
		if log := p.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, of) {
			t.Errorf("the log has no warning of %s", of)
		}
	}
}

func pushFails(t *testing.T, p *program, _ *otlptest.Receiver) {
	eventually(t, func() error {
		if !strings.Contains(p.log.String(), "OTLP export fails") {
			return errors.New("no push has failed")
		}
		return nil
	})
}

// TestEnvironment has a case for each row of the table of OpenTelemetry's variables.
func TestEnvironment(t *testing.T) {
	ns := nettest.NewNamespace(t)
	covered := map[string]bool{}
	for name, c := range environmentCases {
		for _, variable := range strings.Fields(c.covers) {
			covered[variable] = true
		}
		t.Run(name, func(t *testing.T) { c.run(t, ns) })
	}
	readme, err := os.ReadFile("../../examples/otel-collector/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(OTEL_[A-Z_]+)`").FindAllStringSubmatch(string(readme), -1) {
		rows[row[1]] = true
	}
	if !maps.Equal(rows, covered) {
		t.Errorf("rows without a case: %v; cases without a row: %v", without(rows, covered), without(covered, rows))
	}
}

func without(a, b map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(a)), func(s string) bool { return b[s] })
}

func (c environmentCase) run(t *testing.T, ns *nettest.Namespace) {
	r, words := c.receiver(t, ns)
	for k, v := range c.env {
		t.Setenv(k, words.Replace(v))
	}
	var printed bytes.Buffer
	args := append([]string{"--interface=lo", "--metrics-address=127.0.0.1:0"}, strings.Fields(words.Replace(c.args))...)
	cmd := inside(t, ns, args...)
	cmd.Stdout = &printed
	p := start(t, ns, cmd).listening()

	if !c.noPush {
		eventually(t, func() error {
			if _, ok := r.Values()[oneSeries]; !ok {
				return errors.New("nothing was pushed")
			}
			return nil
		})
	}
	page := p.get("/metrics")
	if got := strings.Contains(page, "\n"+oneSeries+" "); got == c.noPage || !strings.Contains(page, "\ngo_info{") {
		t.Errorf("the page is\n%s", page)
	}
	if c.check != nil {
		c.check(t, p, r)
	}
	p.terminate()
	if got := strings.Contains(printed.String(), "\n"+oneSeries+" "); got != c.console {
		t.Errorf("printed %q", &printed)
	}
	if c.noPush && r.Seen().Messages > 0 {
		t.Error("something was pushed")
	}
}

// receiver starts the case's receiver, and gives what to replace in variables and flags.
func (c environmentCase) receiver(t *testing.T, ns *nettest.Namespace) (*otlptest.Receiver, *strings.Replacer) {
	t.Helper()
	l := ns.Listen("127.0.0.1:0")
	words := []string{"{}", l.Addr().String()}
	if strings.Contains(c.args, "FROZEN") {
		words = append(words, "FROZEN", frozen(t, ns))
	}
	var config *tls.Config
	if c.tls {
		a := otlptest.NewAuthority(t)
		cert, key := a.Issue(t, "client", t.TempDir())
		hand(t, cert, key)
		words = append(words, "CA", a.File, "CERT", cert, "KEY", key)
		config = a.Server(t, c.mutual)
	}
	if c.http {
		return otlptest.StartHTTP(t, l, config), strings.NewReplacer(words...)
	}
	return otlptest.Start(t, l, config), strings.NewReplacer(words...)
}
