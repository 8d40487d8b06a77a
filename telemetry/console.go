package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/common/expfmt"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"promflow/telemetry/exposition"
	"promflow/telemetry/sdk"
)

// WriteText writes r in the Prometheus text format, without the metrics of the process.
func WriteText(w io.Writer, r Reading, packets bool) error {
	metrics, _ := NewSource(func() Reading { return r }, packets).Produce(context.Background()) // which never fails
	page, err := exposition.Append(nil, expfmt.FmtText, metrics, nil)
	if err == nil {
		_, err = w.Write(page)
	}
	return err
}

// consoleInterval is the specification's default
// (https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/stdout/).
const consoleInterval = 10 * time.Second

// NewConsole returns a reader that writes the metrics of source to w in the Prometheus text format, each time after a comment with the
// time: every 10 s, or as OTEL_METRIC_EXPORT_INTERVAL says, and at shutdown.
func NewConsole(source *Source, w io.Writer, log *slog.Logger) sdkmetric.Reader {
	return sdk.NewPeriodicReader(&console{Writer: w, log: log}, source, sdk.DefaultInterval(log, consoleInterval), log)
}

type console struct {
	io.Writer
	log     *slog.Logger
	failing bool // the last write failed
}

func (c *console) Export(_ context.Context, all *metricdata.ResourceMetrics) error {
	header := fmt.Appendf(nil, "# %s\n", time.Now().Format(time.RFC3339))
	text, err := exposition.Append(header, expfmt.FmtText, all.ScopeMetrics, nil)
	if err != nil {
		return err
	}
	_, err = c.Write(append(text, '\n'))
	if err != nil {
		err = &sdk.LoggedError{Err: fmt.Errorf("console: %w", err)}
		if !c.failing {
			c.log.Error("cannot write metrics to the console", "err", err)
		}
	}
	c.failing = err != nil
	return err
}

func (*console) Temporality(sdkmetric.InstrumentKind) metricdata.Temporality {
	return metricdata.CumulativeTemporality
}

func (*console) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}

func (*console) ForceFlush(context.Context) error { return nil }
func (*console) Shutdown(context.Context) error   { return nil }
