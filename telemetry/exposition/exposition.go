// Package exposition writes metrics in the formats that Prometheus scrapes: the text format, OpenMetrics and delimited
// Protocol Buffers.
//
// It is for many series of OpenTelemetry Int64 counters and gauges, and does for them no more than to write: on the common way
// through the SDK's Prometheus exporter, a Prometheus registry and its encoder each series becomes a metric, then a message,
// both of several allocations, and is sorted and checked among all others. What it writes is the same, byte for byte.
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

// Translation is how names of OpenTelemetry become names of Prometheus.
var Translation = otlptranslator.UnderscoreEscapingWithSuffixes

// Formats are those that Append writes, the preferred first where a scraper accepts several alike.
var Formats = []expfmt.Format{expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtProtoDelim}

// family is the series of one metric.
type family struct {
	name, help string
	counter    bool
	points     []metricdata.DataPoint[int64]
	other      *dto.MetricFamily // instead of all but the name
}

// format writes families.
type format interface {
	head(b []byte, f *family) []byte
	point(b []byte, f *family, p *metricdata.DataPoint[int64]) []byte
	tail(b []byte, f *family, begin int) []byte // begin is where the family's head began
}

// Append appends metrics and others as one page to b, in the order of their names. The series of each have the order that they
// came in. Metrics must be Int64 counters and gauges, each once; their attributes must be strings of UTF-8 whose keys are names
// of labels as they are. What cannot be written gives an error besides the page of the rest.
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
		ours = openMetrics{}
	case expfmt.TypeProtoDelim:
		ours = protobuf{}
	default:
		return b, fmt.Errorf("format %s is not supported", f)
	}
	rest := bytes.Buffer{}
	theirs := expfmt.NewEncoder(&rest, f)
	for i := range families {
		fam := &families[i]
		if fam.other != nil {
			rest.Reset()
			if err := theirs.Encode(fam.other); err != nil {
				errs = append(errs, err)
			}
			b = append(b, rest.Bytes()...)
			continue
		}
		begin := len(b)
		b = ours.head(b, fam)
		for i := range fam.points {
			at := len(b)
			b = ours.point(b, fam, &fam.points[i])
			if i == 0 { // to grow once is cheaper than often
				b = slices.Grow(b, (len(fam.points)-1)*(len(b)-at+8))
			}
		}
		b = ours.tail(b, fam, begin)
	}
	rest.Reset()
	if closer, ok := theirs.(expfmt.Closer); ok { // OpenMetrics has an end
		errs = append(errs, closer.Close())
	}
	return append(b, rest.Bytes()...), errors.Join(errs...)
}

// translate names the metrics as the SDK's Prometheus exporter does.
func translate(metrics []metricdata.ScopeMetrics) (families []family, errs []error) {
	namer := otlptranslator.NewMetricNamer("", Translation)
	for _, scope := range metrics {
		for _, m := range scope.Metrics {
			f := family{help: m.Description}
			var kind otlptranslator.MetricType
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				f.points = data.DataPoints
				kind = otlptranslator.MetricTypeGauge
			case metricdata.Sum[int64]:
				f.points, f.counter = data.DataPoints, data.IsMonotonic
				kind = otlptranslator.MetricTypeNonMonotonicCounter
				if f.counter {
					kind = otlptranslator.MetricTypeMonotonicCounter
				}
			default:
				errs = append(errs, fmt.Errorf("metric %s: %T is not supported", m.Name, m.Data))
				continue
			}
			var err error
			if f.name, err = namer.Build(otlptranslator.Metric{Name: m.Name, Unit: m.Unit, Type: kind}); err != nil {
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

// kind is what a TYPE line says.
func (f *family) kind() string {
	if f.counter {
		return "counter"
	}
	return "gauge"
}

// text is the Prometheus text format.
type text struct{}

var helpEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

func (text) head(b []byte, f *family) []byte {
	return fmt.Appendf(b, "# HELP %s %s\n# TYPE %s %s\n", f.name, helpEscaper.Replace(f.help), f.name, f.kind())
}

func (text) point(b []byte, f *family, p *metricdata.DataPoint[int64]) []byte {
	b = appendSample(b, f.name, p)
	return append(strconv.AppendFloat(b, float64(p.Value), 'g', -1, 64), '\n')
}

func (text) tail(b []byte, _ *family, _ int) []byte { return b }

// openMetrics is OpenMetrics 1.0. It has no _created lines: a Prometheus that is not told to read them as the time of creation
// stores them, as one more series for each counter. Protocol Buffers have a field for it.
type openMetrics struct{}

var openMetricsEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (openMetrics) head(b []byte, f *family) []byte {
	name := f.name
	if f.counter {
		name = strings.TrimSuffix(name, "_total")
	}
	return fmt.Appendf(b, "# HELP %s %s\n# TYPE %s %s\n", name, openMetricsEscaper.Replace(f.help), name, f.kind())
}

func (openMetrics) point(b []byte, f *family, p *metricdata.DataPoint[int64]) []byte {
	b = appendSample(b, f.name, p)
	begin := len(b)
	b = strconv.AppendFloat(b, float64(p.Value), 'g', -1, 64)
	if !bytes.ContainsAny(b[begin:], "e.") {
		b = append(b, ".0"...)
	}
	return append(b, '\n')
}

func (openMetrics) tail(b []byte, _ *family, _ int) []byte { return b }

// appendSample appends name{key="value",...} and a space.
func appendSample(b []byte, name string, p *metricdata.DataPoint[int64]) []byte {
	b = append(b, name...)
	n := p.Attributes.Len()
	for i := range n {
		a, _ := p.Attributes.Get(i)
		b = append(b, "{,"[min(i, 1)])
		b = append(b, a.Key...)
		b = append(b, `="`...)
		b = appendEscaped(b, a.Value.AsString())
		b = append(b, '"')
	}
	if n > 0 {
		b = append(b, '}')
	}
	return append(b, ' ')
}

// appendEscaped appends a label's value as both text formats have it.
func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		switch s[i] {
		case '\\', '"':
			b = append(b, '\\', s[i])
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, s[i])
		}
	}
	return b
}
