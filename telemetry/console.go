package telemetry

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/prometheus/common/expfmt"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry/exposition"
)

// consoleInterval is what the specification has for the console
// (https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/stdout/).
const consoleInterval = 10 * time.Second

// NewConsole returns a reader that writes source to w as the Prometheus page has it, each time after a comment with the time:
// every 10 s, or as OTEL_METRIC_EXPORT_INTERVAL says, and at the end.
func NewConsole(source *Source, w io.Writer) sdkmetric.Reader {
	options := []sdkmetric.PeriodicReaderOption{sdkmetric.WithProducer(source)}
	if os.Getenv("OTEL_METRIC_EXPORT_INTERVAL") == "" {
		options = append(options, sdkmetric.WithInterval(consoleInterval))
	}
	return sdkmetric.NewPeriodicReader(console{w}, options...)
}

// console is the exporter.
type console struct{ io.Writer }

func (c console) Export(_ context.Context, all *metricdata.ResourceMetrics) error {
	b := fmt.Appendf(nil, "# %s\n", time.Now().Format(time.RFC3339))
	b, err := exposition.Append(b, expfmt.FmtText, all.ScopeMetrics, nil)
	if err != nil {
		return err
	}
	if _, err := c.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}

func (console) Temporality(sdkmetric.InstrumentKind) metricdata.Temporality {
	return metricdata.CumulativeTemporality
}

func (console) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}

func (console) ForceFlush(context.Context) error { return nil }
func (console) Shutdown(context.Context) error   { return nil }
