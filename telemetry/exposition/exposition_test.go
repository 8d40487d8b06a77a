package exposition_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"promflow/telemetry/exposition"
)

var (
	began = time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC)
	now   = began.Add(time.Hour)
)

// point returns a point with the labels of a list of keys and values.
func point(value int64, labels ...string) metricdata.DataPoint[int64] {
	var attributes []attribute.KeyValue
	for pair := range slices.Chunk(labels, 2) {
		attributes = append(attributes, attribute.String(pair[0], pair[1]))
	}
	return metricdata.DataPoint[int64]{
		Attributes: attribute.NewSet(attributes...), StartTime: began, Time: now, Value: value,
	}
}

func counter(name, unit, help string, points ...metricdata.DataPoint[int64]) metricdata.Metrics {
	return metricdata.Metrics{Name: name, Unit: unit, Description: help, Data: metricdata.Sum[int64]{
		DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
	}}
}

func gauge(name, unit, help string, points ...metricdata.DataPoint[int64]) metricdata.Metrics {
	return metricdata.Metrics{Name: name, Unit: unit, Description: help, Data: metricdata.Gauge[int64]{DataPoints: points}}
}

func upDownCounter(name, unit, help string, points ...metricdata.DataPoint[int64]) metricdata.Metrics {
	return metricdata.Metrics{Name: name, Unit: unit, Description: help, Data: metricdata.Sum[int64]{
		DataPoints: points, Temporality: metricdata.CumulativeTemporality,
	}}
}

func scope(metrics ...metricdata.Metrics) []metricdata.ScopeMetrics {
	return []metricdata.ScopeMetrics{{Metrics: metrics}}
}

var pages = map[string][]metricdata.ScopeMetrics{
	"nothing":        nil,
	"an empty scope": scope(),
	"as promflow has them": scope(
		gauge("promflow_tracked_ips", "{address}", "IP addresses in the table.", point(3)),
		counter("promflow_receive_bytes", "By", "Bytes received.",
			point(194179, "ip", "192.168.1.133"), point(1, "ip", "2001:db8::1"), point(60, "ip", "other")),
		counter("promflow_transmit_bytes", "By", "Bytes transmitted.", point(181358, "ip", "192.168.1.133")),
	),
	"values": scope(
		counter("counted", "", "Counters.", values(0, 1, 10, 999_999, 1_000_000, 1_000_001, 20_000_000, 21_000_000, 999_999_999_999,
			1<<53-1, 1<<53, 1<<53+1, math.MaxInt64-1, math.MaxInt64)...),
		gauge("measured", "", "Gauges.", values(0, 1, 1_000_000, -1, -1_000_000, -(1<<53+1), 1<<53+1, math.MinInt64, math.MaxInt64)...),
	),
	"label values": scope(
		counter("escaped", "", "Counters.", labels()...),
		gauge("as_is", "", "Gauges.", labels()...),
	),
	"labels": scope(
		counter("none", "", "No label.", point(1)),
		counter("three", "", "Three labels.",
			point(1, "b", "1", "a", "2", "_c", "3"), point(2, "b", "0", "a", "3", "_c", "3"), point(3, "b", "2", "a", "3", "_c", "3")),
	),
	"help": scope(
		counter("help_b", "", "", point(1)),
		counter("help_c", "", `"quoted" by \ and `+"a new\nline, in café 東京", point(1)),
		gauge("help_d", "", "ends in a backslash \\", point(1)),
	),
	"names": scope(
		counter("name.with.dots", "By", "1", point(1)),
		counter("already_total", "", "2", point(1)),
		counter("already_bytes_total", "By", "3", point(1)),
		gauge("total", "", "4", point(1)),
		gauge("last_seen_timestamp", "s", "5", point(1)),
		gauge("share", "1", "6", point(1)),
		upDownCounter("balance", "1", "7", point(-1)),
		upDownCounter("queue", "By", "8", point(1)),
		counter("speed", "By/s", "9", point(1)),
		gauge("9lives", "{cat}", "10", point(9)),
		gauge("temperature", "Cel", "11", point(-40)),
		counter("ünï", "", "12", point(1)),
	),
	"two scopes, names out of order": append(
		scope(gauge("m", "", "m", point(1)), counter("a", "", "a", point(2))),
		scope(gauge("z", "", "z", point(3)), gauge("go_h", "", "between those of others", point(4)), counter("b", "", "b", point(5)))...,
	),
	"metrics without points": scope(counter("without", "", "a"), gauge("without", "", "b"), gauge("with", "", "c", point(1))),
	"a name that cannot be":  scope(gauge("a", "", "a", point(1)), gauge("東京", "", "Only what no name may have.", point(2))),
}

func values(values ...int64) (points []metricdata.DataPoint[int64]) {
	for i, v := range values {
		points = append(points, point(v, "i", fmt.Sprintf("%02d", i)))
	}
	return points
}

func labels() (points []metricdata.DataPoint[int64]) {
	values := []string{
		"", " ", `"`, `\`, "\n", "\\n", `\"`, `"\` + "\n", "a\"b\\c\nd", "\t\r\x00\x7f", "{", "}", ",", "=", "#", "# EOF\n",
		"café", "東京", "\U0001F980", "\uFFFD", strings.Repeat("long", 100),
	}
	slices.Sort(values)
	for i, v := range values {
		points = append(points, point(int64(i), "label", v))
	}
	return points
}

// randomPage makes a page of many metrics.
func randomPage(r *rand.Rand) []metricdata.ScopeMetrics {
	random := func(alphabet string, most int) string {
		runes := []rune(alphabet)
		b := make([]rune, r.IntN(most+1))
		for i := range b {
			b[i] = runes[r.IntN(len(runes))]
		}
		return string(b)
	}
	const any = "ab\"\\\n é東{}=,"
	page := make([]metricdata.ScopeMetrics, 1+r.IntN(3))
	for n := range 1 + r.IntN(20) {
		make := []func(string, string, string, ...metricdata.DataPoint[int64]) metricdata.Metrics{counter, gauge, upDownCounter}[r.IntN(3)]
		name := random("xyz", 3) + fmt.Sprint("m", n)
		unit := []string{"", "By", "s", "{thing}", "1"}[r.IntN(5)]
		keys := []string{"a", "b_", "C", "_d", "e9"}[:r.IntN(6)]
		byLabels := map[string]metricdata.DataPoint[int64]{}
		for range 1 + r.IntN(30) {
			var labels []string
			for _, k := range keys {
				labels = append(labels, k, random(any, 6))
			}
			p := point(int64(r.Uint64()>>r.IntN(64)), labels...)
			p.StartTime = time.Unix(r.Int64N(1<<33), r.Int64N(1e9))
			byLabels[fmt.Sprintf("%q", labels)] = p
		}
		var points []metricdata.DataPoint[int64]
		for _, p := range byLabels {
			points = append(points, p)
		}
		slices.SortFunc(points, func(x, y metricdata.DataPoint[int64]) int {
			return slices.CompareFunc(x.Attributes.ToSlice(), y.Attributes.ToSlice(), func(a, b attribute.KeyValue) int {
				return strings.Compare(a.Value.AsString(), b.Value.AsString())
			})
		})
		s := &page[r.IntN(len(page))]
		s.Metrics = append(s.Metrics, make(name, unit, random(any, 10), points...))
	}
	return page
}

// others are collectors of what a client_golang registry has besides, of every type.
func others() []prometheus.Collector {
	count := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "go_c_total", Help: `A "counter" \ of` + "\nothers."}, []string{"l"})
	count.WithLabelValues("x\"\\\ny").Add(1.5)
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "promflow_build_info", Help: "Build."})
	info.Set(1)
	infinite := prometheus.NewGauge(prometheus.GaugeOpts{Name: "go_i", Help: "Infinite."})
	infinite.Set(math.Inf(1))
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "go_z_seconds", Help: "A histogram.", Buckets: []float64{1, 2}})
	histogram.Observe(1.25)
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "go_gc_seconds", Help: "A summary.", Objectives: map[float64]float64{.5: .1}})
	summary.Observe(2)
	return []prometheus.Collector{count, info, infinite, histogram, summary}
}

// accepts has the Accept header that asks for each format.
var accepts = []string{
	"text/plain;version=0.0.4",
	"application/openmetrics-text;version=1.0.0",
	"application/openmetrics-text;version=0.0.1",
	"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
}

// produced is a MetricProducer of metrics that are there already.
type produced []metricdata.ScopeMetrics

func (p produced) Produce(context.Context) ([]metricdata.ScopeMetrics, error) { return p, nil }

// reference returns the page that the SDK's Prometheus exporter and a client_golang registry make.
func reference(tb testing.TB, accept string, metrics []metricdata.ScopeMetrics, others ...prometheus.Collector) (expfmt.Format, []byte) {
	tb.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(others...)
	exporter, err := otelprom.New(
		otelprom.WithRegisterer(registry),
		otelprom.WithProducer(produced(metrics)),
		otelprom.WithTranslationStrategy(exposition.Translation),
		otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
	)
	if err != nil {
		tb.Fatal(err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	defer provider.Shutdown(context.Background())
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, DisableCompression: true, ErrorHandling: promhttp.ContinueOnError,
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	handler.ServeHTTP(w, r)
	return expfmt.Format(w.Header().Get("Content-Type")), w.Body.Bytes()
}

// gather returns the families of collectors.
func gather(tb testing.TB, collectors ...prometheus.Collector) []*dto.MetricFamily {
	tb.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors...)
	families, err := registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	return families
}

// decode returns the messages of a delimited page.
func decode(tb testing.TB, page []byte) (families []*dto.MetricFamily) {
	tb.Helper()
	r := bytes.NewReader(page)
	for {
		f := &dto.MetricFamily{}
		err := protodelim.UnmarshalFrom(r, f)
		if errors.Is(err, io.EOF) {
			return families
		}
		if err != nil {
			tb.Fatalf("after %d families: %v", len(families), err)
		}
		families = append(families, f)
	}
}

// takeCreated takes the times of creation out of the counters of families, and returns those of each family.
func takeCreated(families []*dto.MetricFamily) map[string][]*timestamppb.Timestamp {
	created := map[string][]*timestamppb.Timestamp{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.Counter == nil {
				continue
			}
			created[f.GetName()] = append(created[f.GetName()], m.Counter.CreatedTimestamp)
			m.Counter.CreatedTimestamp = nil
		}
	}
	return created
}

// checkConformity compares what Append writes with what the SDK's exporter does, in all formats.
func checkConformity(tb testing.TB, metrics []metricdata.ScopeMetrics, others ...prometheus.Collector) {
	tb.Helper()
	gathered := gather(tb, others...)
	for _, accept := range accepts {
		format, want := reference(tb, accept, metrics, others...)
		if ours := expfmt.NegotiateAccept(http.Header{"Accept": {accept}}, exposition.Formats...); ours != format {
			tb.Errorf("for Accept: %s the format is %s, want %s", accept, ours, format)
		}
		got, _ := exposition.Append(nil, format, metrics, gathered)
		if format.FormatType() != expfmt.TypeProtoDelim {
			if !bytes.Equal(got, want) {
				tb.Errorf("%s is\n%s\nwant\n%s", format, got, want)
			}
			continue
		}
		gotFamilies, wantFamilies := decode(tb, got), decode(tb, want)
		takeCreated(gotFamilies)
		takeCreated(wantFamilies)
		if !slices.EqualFunc(gotFamilies, wantFamilies, func(x, y *dto.MetricFamily) bool { return proto.Equal(x, y) }) {
			tb.Errorf("messages are\n%v\nwant\n%v", gotFamilies, wantFamilies)
		}
	}
}

func TestAppendWritesAsSDK(t *testing.T) {
	for name, metrics := range pages {
		t.Run(name, func(t *testing.T) {
			checkConformity(t, metrics)
			checkConformity(t, metrics, others()...)
		})
	}
}

func TestAppendWritesAsSDKAtRandom(t *testing.T) {
	for seed := range uint64(100) {
		checkConformity(t, randomPage(rand.New(rand.NewPCG(seed, 0))), others()...)
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

// A metric that is longer than one of which the length fits in a byte or two.
func TestAppendWritesAsSDKManyPoints(t *testing.T) {
	for _, n := range []int{1, 2, 10, 400, 40_000} {
		var points []metricdata.DataPoint[int64]
		for i := range n {
			points = append(points, point(int64(i), "ip", fmt.Sprintf("%06d", i)))
		}
		checkConformity(t, scope(counter("many", "By", "Many.", points...), gauge("then", "", "Then.", point(1))))
	}
}

func TestProtobufHasStartTimeOfCounters(t *testing.T) {
	times := []time.Time{
		began, time.Unix(0, 0), time.Unix(1, 0), time.Unix(0, 1), time.Unix(-1, 999_999_999),
		time.Date(2024, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)), {},
	}
	var points []metricdata.DataPoint[int64]
	for i, start := range times {
		p := point(int64(i), "i", fmt.Sprint(i))
		p.StartTime = start
		points = append(points, p)
	}
	page, err := exposition.Append(nil, expfmt.FmtProtoDelim,
		scope(counter("c", "", "Counters.", points...), gauge("g", "", "Gauges.", points...)), nil)
	if err != nil {
		t.Fatal(err)
	}
	families := decode(t, page)
	for i, created := range takeCreated(families)["c_total"] {
		switch {
		case times[i].IsZero():
			if created != nil {
				t.Errorf("created at %v, want no time", created)
			}
		case !proto.Equal(created, timestamppb.New(times[i])):
			t.Errorf("created at %v, want %v", created, times[i])
		}
	}
	if n := len(families[1].GetMetric()); n != len(times) || families[1].GetType() != dto.MetricType_GAUGE {
		t.Errorf("gauge has %d points: %v", n, families[1])
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	for _, format := range exposition.Formats {
		for _, room := range []int{0, 10, 100, 10_000} {
			want, err := exposition.Append(nil, format, pages["as promflow has them"], nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := exposition.Append(append(make([]byte, 0, room), "before"...), format, pages["as promflow has them"], nil)
			if err != nil || string(got) != "before"+string(want) {
				t.Errorf("%s: %q, err %v, want %q after what was there", format, got, err, want)
			}
		}
	}
}

func TestAppendGivesTheRestWithAnError(t *testing.T) {
	good := []metricdata.Metrics{counter("a", "", "a", point(1)), gauge("z", "", "z", point(2))}
	for name, bad := range map[string]metricdata.Metrics{
		"histogram":       {Name: "of_durations", Data: metricdata.Histogram[int64]{DataPoints: []metricdata.HistogramDataPoint[int64]{{}}}},
		"float counter":   {Name: "of_seconds", Data: metricdata.Sum[float64]{DataPoints: []metricdata.DataPoint[float64]{{}}}},
		"float gauge":     {Name: "of_shares", Data: metricdata.Gauge[float64]{DataPoints: []metricdata.DataPoint[float64]{{}}}},
		"no data":         {Name: "of_nothing"},
		"no name":         gauge("", "", "", point(1)),
		"impossible name": gauge("--", "", "", point(1)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, format := range exposition.Formats {
				gathered := gather(t, others()...)
				want, err := exposition.Append(nil, format, scope(good...), gathered)
				if err != nil {
					t.Fatal(err)
				}
				got, err := exposition.Append(nil, format, scope(good[0], bad, good[1]), gathered)
				if err == nil || !strings.Contains(err.Error(), bad.Name) {
					t.Errorf("err %v, want one that names the metric", err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s is\n%s\nwant\n%s", format, got, want)
				}
			}
		})
	}
	// Of the encoder for others.
	nameless := &dto.MetricFamily{Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(1)}}}, Type: dto.MetricType_GAUGE.Enum()}
	got, err := exposition.Append(nil, expfmt.FmtOpenMetrics_1_0_0, scope(good...), []*dto.MetricFamily{nameless})
	if want, _ := exposition.Append(nil, expfmt.FmtOpenMetrics_1_0_0, scope(good...), nil); err == nil || !bytes.Equal(got, want) {
		t.Errorf("err %v, page\n%s\nwant an error and\n%s", err, got, want)
	}
}

func TestAppendRefusesOtherFormats(t *testing.T) {
	for _, format := range []expfmt.Format{expfmt.FmtProtoText, expfmt.FmtProtoCompact, expfmt.FmtUnknown, ""} {
		got, err := exposition.Append([]byte("before"), format, pages["values"], nil)
		if err == nil || string(got) != "before" {
			t.Errorf("format %q: %q, err %v", format, got, err)
		}
	}
}

func TestAppendPassesPromlint(t *testing.T) {
	page, err := exposition.Append(nil, expfmt.FmtText, pages["as promflow has them"], nil)
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.New(bytes.NewReader(page)).Lint(); err != nil || len(problems) > 0 {
		t.Error("promlint:", problems, err)
	}
}

func ExampleAppend() {
	metrics := []metricdata.ScopeMetrics{{Metrics: []metricdata.Metrics{{
		Name: "promflow_receive_bytes", Unit: "By", Description: "Bytes received.",
		Data: metricdata.Sum[int64]{
			IsMonotonic: true,
			DataPoints: []metricdata.DataPoint[int64]{
				{Attributes: attribute.NewSet(attribute.String("ip", "192.168.1.133")), Value: 194179},
				{Attributes: attribute.NewSet(attribute.String("ip", "192.168.1.2")), Value: 12_000_000},
			},
		},
	}}}}
	for _, format := range []expfmt.Format{expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0} {
		page, err := exposition.Append(nil, format, metrics, nil)
		if err != nil {
			fmt.Println(err)
		}
		os.Stdout.Write(page)
	}
	// Output:
	// # HELP promflow_receive_bytes_total Bytes received.
	// # TYPE promflow_receive_bytes_total counter
	// promflow_receive_bytes_total{ip="192.168.1.133"} 194179
	// promflow_receive_bytes_total{ip="192.168.1.2"} 1.2e+07
	// # HELP promflow_receive_bytes Bytes received.
	// # TYPE promflow_receive_bytes counter
	// promflow_receive_bytes_total{ip="192.168.1.133"} 194179.0
	// promflow_receive_bytes_total{ip="192.168.1.2"} 1.2e+07
	// # EOF
}

// FuzzAppend reads back what Append wrote, and compares it with the SDK's page.
func FuzzAppend(f *testing.F) {
	f.Add("192.168.1.133", "", "Bytes.", int64(194179), int64(0), int64(1_700_000_000_000_000_000))
	f.Add("a\"b\\c\nd", "é東", "Help \\ \"of\"\n", int64(1<<53+1), int64(-1), int64(0))
	f.Add("", "", "", int64(0), int64(math.MaxInt64), int64(-1))
	f.Fuzz(func(t *testing.T, a, b, help string, count, level, start int64) {
		// Labels and help are UTF-8, and a counter counts up.
		a, b, help = strings.ToValidUTF8(a, "?"), strings.ToValidUTF8(b, "?"), strings.ToValidUTF8(help, "?")
		count = max(count, 0)
		counted, level1 := point(count, "a", a, "b", b), point(level, "b", b)
		counted.StartTime = time.Unix(0, start)
		metrics := scope(counter("counted", "By", help, counted), gauge("level", "", help, level1))
		checkConformity(t, metrics)

		page, err := exposition.Append(nil, expfmt.FmtText, metrics, nil)
		if err != nil {
			t.Fatal(err)
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		parsed, err := parser.TextToMetricFamilies(bytes.NewReader(page))
		if err != nil {
			t.Fatalf("%v in\n%s", err, page)
		}
		page, err = exposition.Append(nil, expfmt.FmtProtoDelim, metrics, nil)
		if err != nil {
			t.Fatal(err)
		}
		decoded := decode(t, page)
		created := takeCreated(decoded)["counted_bytes_total"]
		if len(created) != 1 || !proto.Equal(created[0], timestamppb.New(counted.StartTime)) {
			t.Errorf("created %v, want %v", created, counted.StartTime)
		}
		for _, families := range []map[string]*dto.MetricFamily{parsed, byName(decoded)} {
			c, g := families["counted_bytes_total"], families["level"]
			if len(families) != 2 || len(c.GetMetric()) != 1 || len(g.GetMetric()) != 1 {
				t.Fatalf("families are %v", families)
			}
			if got := c.GetMetric()[0]; got.GetCounter().GetValue() != float64(count) || labelsOf(got) != fmt.Sprintf("a=%q b=%q ", a, b) {
				t.Errorf("counter is %v, want %d with %q and %q", got, count, a, b)
			}
			if got := g.GetMetric()[0]; got.GetGauge().GetValue() != float64(level) || labelsOf(got) != fmt.Sprintf("b=%q ", b) {
				t.Errorf("gauge is %v, want %d with %q", got, level, b)
			}
		}
		if got := byName(decoded)["level"].GetHelp(); got != help {
			t.Errorf("help is %q, want %q", got, help)
		}
	})
}

func byName(families []*dto.MetricFamily) map[string]*dto.MetricFamily {
	m := map[string]*dto.MetricFamily{}
	for _, f := range families {
		m[f.GetName()] = f
	}
	return m
}

func labelsOf(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.GetLabel() {
		fmt.Fprintf(&b, "%s=%q ", l.GetName(), l.GetValue())
	}
	return b.String()
}
