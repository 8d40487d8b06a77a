package otlp

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"net/http"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"promflow/telemetry"
	"promflow/telemetry/sdk"
)

// exporter sends a collection in batches until one fails, and logs when failures begin and end. The reader does not call it
// concurrently.
//
// The SDK's reader can also make batches, but its exporter does not see where a collection begins: a dead collector would take a
// timeout for each batch, and one that accepts some batches would be logged as failing and working in turn.
type exporter struct {
	sdkmetric.Exporter
	timeout   time.Duration // of a batch
	headers   headers
	deltas    *deltas // nil for totals
	closeIdle func()  // closes idle connections; may be nil
	log       *slog.Logger
	health    *telemetry.ExportHealth

	arrived bool // the collector answered the last request, perhaps rejecting points
	failing bool // the last collection did not arrive completely
}

// Export sends a collection.
func (x *exporter) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	if x.deltas != nil {
		defer x.deltas.forget()
	}
	var failure error
	for batch := range batches(all, batchPoints) {
		err := x.send(ctx, batch)
		failure = cmp.Or(failure, err)
		if err != nil && !x.arrived {
			break
		}
	}
	if failure == nil {
		x.health.LastSuccess.Store(time.Now().Unix())
		if x.failing {
			x.log.Info("OTLP export works again")
		}
		x.failing = false
		return nil
	}
	failure = &sdk.LoggedError{Err: failure}
	if ctx.Err() == context.Canceled { // the shutdown pushes again
		return failure
	}
	x.health.Failures.Add(1)
	if !x.failing {
		x.log.Error("OTLP export fails", "err", failure)
	}
	x.failing = true
	return failure
}

// send sends a batch.
func (x *exporter) send(ctx context.Context, batch *metricdata.ResourceMetrics) error {
	ctx, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	x.arrived = false
	if x.deltas == nil {
		return x.Exporter.Export(ctx, batch)
	}
	grown := x.deltas.of(batch)
	if len(grown.ScopeMetrics) == 0 {
		return nil
	}
	err := x.Exporter.Export(ctx, grown)
	if err == nil || x.arrived {
		x.deltas.acknowledge(batch)
	}
	return err
}

// Shutdown closes the connections.
func (x *exporter) Shutdown(ctx context.Context) error {
	err := x.Exporter.Shutdown(ctx)
	if x.closeIdle != nil {
		x.closeIdle()
	}
	return err
}

// intercept adds the headers to a gRPC request, and records whether the collector answers.
func (x *exporter) intercept(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	headers, err := x.headers.now()
	if err != nil {
		return err
	}
	for key, value := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	err = invoke(ctx, method, request, reply, conn, options...)
	x.arrived = err == nil
	return err
}

// transport does for HTTP what intercept does for gRPC.
type transport struct {
	http.RoundTripper
	exporter *exporter
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	headers, err := t.exporter.headers.now()
	if err != nil {
		return nil, err
	}
	for key, value := range headers {
		r.Header.Set(key, value)
	}
	response, err := t.RoundTripper.RoundTrip(r)
	t.exporter.arrived = err == nil && response.StatusCode/100 == 2
	return response, err
}

// batches splits a collection into batches of at most size points.
func batches(all *metricdata.ResourceMetrics, size int) iter.Seq[*metricdata.ResourceMetrics] {
	return func(yield func(*metricdata.ResourceMetrics) bool) {
		batch, room := metricdata.ResourceMetrics{Resource: all.Resource}, size
		for _, scope := range all.ScopeMetrics {
			batch.ScopeMetrics = append(batch.ScopeMetrics, metricdata.ScopeMetrics{Scope: scope.Scope})
			for _, m := range scope.Metrics {
				points := pointsOf(m.Data)
				for len(points) > 0 {
					if room == 0 {
						if !yield(&batch) {
							return
						}
						batch.ScopeMetrics, room = []metricdata.ScopeMetrics{{Scope: scope.Scope}}, size
					}
					n := min(room, len(points))
					m.Data = withPoints(m.Data, points[:n])
					last := &batch.ScopeMetrics[len(batch.ScopeMetrics)-1]
					last.Metrics = append(last.Metrics, m)
					points, room = points[n:], room-n
				}
			}
		}
		if room < size {
			yield(&batch)
		}
	}
}

// pointsOf returns the points of a counter or a gauge. A [telemetry.Source] has nothing else.
func pointsOf(data metricdata.Aggregation) []metricdata.DataPoint[int64] {
	switch d := data.(type) {
	case metricdata.Sum[int64]:
		return d.DataPoints
	case metricdata.Gauge[int64]:
		return d.DataPoints
	}
	return nil
}

// withPoints returns a counter or a gauge like data with other points.
func withPoints(data metricdata.Aggregation, points []metricdata.DataPoint[int64]) metricdata.Aggregation {
	if d, ok := data.(metricdata.Sum[int64]); ok {
		d.DataPoints = points
		return d
	}
	return metricdata.Gauge[int64]{DataPoints: points}
}
