package otlp

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"

	"promflow/telemetry"
	"promflow/telemetry/sdk"
)

// exporter sends a collection in batches until one fails, and logs when failing begins and ends. The reader calls it from one
// goroutine at a time.
//
// The reader can make batches, too, but does not tell where a collection begins and ends: with a timeout for each batch it
// would be busy with a dead collector for more than a minute, and a collector that takes some batches only would be logged as
// failing and working by turns.
type exporter struct {
	sdkmetric.Exporter
	timeout time.Duration // of a batch
	deltas  *deltas       // nil where totals are sent
	idle    func()        // closes what is left of connections, may be nil
	log     *slog.Logger
	health  *telemetry.ExportHealth

	arrived bool // the last request, whatever the collector then said of its points
	failing bool // as of the last collection
}

// Export sends one collection.
func (x *exporter) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	if x.deltas != nil {
		defer x.deltas.forget()
	}
	var failure error
	for batch := range batches(all, batchPoints) {
		err := x.send(ctx, batch)
		if failure == nil {
			failure = err
		}
		if err != nil && !x.arrived {
			break
		}
	}
	if failure == nil {
		x.health.Succeeded()
		if x.failing {
			x.log.Info("OTLP export works again")
		}
		x.failing = false
		return nil
	}
	failure = &sdk.LoggedError{Err: failure}
	if ctx.Err() != context.Canceled { // else a shutdown is under way, and will try again
		x.health.Failed()
		if !x.failing {
			x.log.Error("OTLP export fails", "err", failure)
		}
		x.failing = true
	}
	return failure
}

// send sends one batch.
func (x *exporter) send(ctx context.Context, batch *metricdata.ResourceMetrics) error {
	ctx, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	x.arrived = false
	if x.deltas == nil {
		return x.Exporter.Export(ctx, batch)
	}
	moved := x.deltas.of(batch)
	if len(moved.ScopeMetrics) == 0 {
		return nil
	}
	err := x.Exporter.Export(ctx, moved)
	if err == nil || x.arrived {
		x.deltas.acknowledge(batch)
	}
	return err
}

// Shutdown closes the connections.
func (x *exporter) Shutdown(ctx context.Context) error {
	err := x.Exporter.Shutdown(ctx)
	if x.idle != nil {
		x.idle()
	}
	return err
}

// intercept notes whether a request arrives by gRPC.
func (x *exporter) intercept(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	x.arrived = err == nil
	return err
}

// roundTrip notes whether a request arrives by HTTP.
func (x *exporter) roundTrip(by http.RoundTripper, r *http.Request) (*http.Response, error) {
	response, err := by.RoundTrip(r)
	x.arrived = err == nil && response.StatusCode/100 == 2
	return response, err
}

// batches gives all in parts of at most size points.
func batches(all *metricdata.ResourceMetrics, size int) iter.Seq[*metricdata.ResourceMetrics] {
	return func(yield func(*metricdata.ResourceMetrics) bool) {
		batch, room := metricdata.ResourceMetrics{Resource: all.Resource}, size
		for _, scope := range all.ScopeMetrics {
			begun := false // this scope, in this batch
			for _, m := range scope.Metrics {
				points := pointsOf(m.Data)
				for len(points) > 0 {
					if room == 0 {
						if !yield(&batch) {
							return
						}
						batch.ScopeMetrics, room, begun = nil, size, false
					}
					if !begun {
						batch.ScopeMetrics = append(batch.ScopeMetrics, metricdata.ScopeMetrics{Scope: scope.Scope})
						begun = true
					}
					n := min(room, len(points))
					last := &batch.ScopeMetrics[len(batch.ScopeMetrics)-1]
					last.Metrics = append(last.Metrics, metricdata.Metrics{
						Name: m.Name, Description: m.Description, Unit: m.Unit, Data: withPoints(m.Data, points[:n]),
					})
					points, room = points[n:], room-n
				}
			}
		}
		if len(batch.ScopeMetrics) > 0 {
			yield(&batch)
		}
	}
}

// pointsOf gives the points of a counter or a gauge, which is what a [telemetry.Source] has.
func pointsOf(data metricdata.Aggregation) []metricdata.DataPoint[int64] {
	switch d := data.(type) {
	case metricdata.Sum[int64]:
		return d.DataPoints
	case metricdata.Gauge[int64]:
		return d.DataPoints
	}
	return nil
}

// withPoints gives a counter or a gauge like data with other points.
func withPoints(data metricdata.Aggregation, points []metricdata.DataPoint[int64]) metricdata.Aggregation {
	if d, ok := data.(metricdata.Sum[int64]); ok {
		d.DataPoints = points
		return d
	}
	return metricdata.Gauge[int64]{DataPoints: points}
}
