// Package exposition writes metrics in the formats that Prometheus scrapes: the text format, OpenMetrics and delimited
// Protocol Buffers.
//
// It is fast for many series of OpenTelemetry Int64 counters and gauges. The SDK's Prometheus exporter turns each series into a metric
// and a message, with several allocations each, and a Prometheus registry sorts and checks them. The output here is the same, byte for
// byte.
//
//   - Text: https://prometheus.io/docs/instrumenting/exposition_formats/
//   - OpenMetrics: https://prometheus.io/docs/specs/om/open_metrics_spec/
//   - Protocol Buffers: io.prometheus.client.MetricFamily of https://github.com/prometheus/client_model
package exposition

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Translation is how OpenTelemetry names become Prometheus names.
var Translation = otlptranslator.UnderscoreEscapingWithSuffixes

// Formats are the formats that Append writes, in the order of preference.
var Formats = []expfmt.Format{expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtProtoDelim}

// family is the series of one metric.
type family struct {
	name, help string
	kind       dto.MetricType // COUNTER or GAUGE
	points     []metricdata.DataPoint[int64]
	other      *dto.MetricFamily // instead of all but the name
}

// format appends the parts of a family to b.
type format interface {
	head(b []byte, f *family) []byte
	point(b []byte, f *family, p *metricdata.DataPoint[int64]) []byte
	tail(b []byte, begin int) []byte // b[begin:] is head and points
}

// Append appends metrics and others to b as one page, sorted by name. Series stay in their order. Metrics must be Int64 counters and
// gauges, each once. Attributes must be strings in UTF-8, and their keys valid label names. If something cannot be written, the page
// has the rest, and the error says what is missing.
func Append(b []byte, f expfmt.Format, metrics []metricdata.ScopeMetrics, others []*dto.MetricFamily) ([]byte, error) {
	families, errs := translate(metrics)
	for _, other := range others {
		families = append(families, family{name: other.GetName(), other: other})
	}
	slices.SortStableFunc(families, func(x, y family) int { return cmp.Compare(x.name, y.name) })

	var ours format
	switch f.FormatType() {
	case expfmt.TypeTextPlain:
		ours = text{}
	case expfmt.TypeOpenMetrics:
		ours = text{openMetrics: true}
	case expfmt.TypeProtoDelim:
		ours = &protobuf{}
	default:
		return b, fmt.Errorf("format %s is not supported", f)
	}
	rest := bytes.Buffer{}
	theirs := expfmt.NewEncoder(&rest, f)
	for i := range families {
		fam := &families[i]
		if fam.other != nil {
			rest.Reset()
			errs = append(errs, theirs.Encode(fam.other))
			b = append(b, rest.Bytes()...)
			continue
		}
		begin := len(b)
		b = ours.head(b, fam)
		for i := range fam.points {
			at := len(b)
			b = ours.point(b, fam, &fam.points[i])
			if i == 0 { // grow once for all points of about this size
				b = slices.Grow(b, (len(fam.points)-1)*(len(b)-at+8))
			}
		}
		b = ours.tail(b, begin)
	}
	rest.Reset()
	if closer, ok := theirs.(expfmt.Closer); ok { // writes the end marker of OpenMetrics
		errs = append(errs, closer.Close())
	}
	return append(b, rest.Bytes()...), errors.Join(errs...)
}

// translate makes families, with names as the SDK's Prometheus exporter makes them.
func translate(metrics []metricdata.ScopeMetrics) (families []family, errs []error) {
	namer := otlptranslator.NewMetricNamer("", Translation)
	for _, scope := range metrics {
		for _, m := range scope.Metrics {
			f := family{help: m.Description, kind: dto.MetricType_GAUGE}
			named := otlptranslator.Metric{Name: m.Name, Unit: m.Unit, Type: otlptranslator.MetricTypeGauge}
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				f.points = data.DataPoints
			case metricdata.Sum[int64]:
				f.points = data.DataPoints
				named.Type = otlptranslator.MetricTypeNonMonotonicCounter
				if data.IsMonotonic {
					f.kind, named.Type = dto.MetricType_COUNTER, otlptranslator.MetricTypeMonotonicCounter
				}
			default:
				errs = append(errs, fmt.Errorf("metric %s: %T is not supported", m.Name, m.Data))
				continue
			}
			var err error
			if f.name, err = namer.Build(named); err != nil {
				errs = append(errs, fmt.Errorf("metric %s: %w", m.Name, err))
				continue
			}
			if len(f.points) > 0 {
				families = append(families, f)
			}
		}
	}
	return families, errs
}

// text is the Prometheus text format or OpenMetrics 1.0. It writes no _created lines of OpenMetrics: unless told otherwise, Prometheus
// stores them as one more series for each counter.
type text struct{ openMetrics bool }

var (
	helpEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escaper     = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`) // of label values, and of help in OpenMetrics
)

func (t text) head(b []byte, f *family) []byte {
	name, help := f.name, helpEscaper
	if t.openMetrics {
		help = escaper
		if f.kind == dto.MetricType_COUNTER {
			name = strings.TrimSuffix(name, "_total")
		}
	}
	return fmt.Appendf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help.Replace(f.help), name, strings.ToLower(f.kind.String()))
}

func (t text) point(b []byte, f *family, p *metricdata.DataPoint[int64]) []byte {
	b = append(b, f.name...)
	n := p.Attributes.Len()
	for i := range n {
		a, _ := p.Attributes.Get(i)
		b = append(b, "{,"[min(i, 1)])
		b = append(b, a.Key...)
		b = append(b, `="`...)
		b = append(b, escaper.Replace(a.Value.AsString())...)
		b = append(b, '"')
	}
	if n > 0 {
		b = append(b, '}')
	}
	b = append(b, ' ')
	begin := len(b)
	b = strconv.AppendFloat(b, float64(p.Value), 'g', -1, 64)
	if t.openMetrics && !bytes.ContainsAny(b[begin:], "e.") {
		b = append(b, ".0"...)
	}
	return append(b, '\n')
}

func (text) tail(b []byte, _ int) []byte { return b }
