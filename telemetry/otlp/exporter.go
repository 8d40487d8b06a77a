package otlp

import (
	"cmp"
	"context"
	"fmt"
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
	config    *resolved
	deltas    *deltas // nil for totals
	closeIdle func()  // closes idle connections that the exporter does not close
	log       *slog.Logger
	health    *telemetry.ExportHealth

	arrived bool   // the collector answered the last request, perhaps rejecting points
	answer  answer // to the last request
	failing bool   // the last collection did not arrive completely
	named   bool   // the log has named the setting that makes it fail
	asked   answer // after which it was last asked which protocol the other end speaks
}

// Export sends a collection.
func (x *exporter) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	if x.deltas != nil {
		defer x.deltas.forget()
	}
	scope := all.ScopeMetrics[0] // a telemetry.Source has no other
	var failure error
	for batch := range batches(scope.Metrics, batchPoints) {
		sent := batch
		if x.deltas != nil {
			sent = x.deltas.of(batch)
		}
		if len(sent) == 0 {
			continue
		}
		err := x.send(ctx, &metricdata.ResourceMetrics{
			Resource: all.Resource, ScopeMetrics: []metricdata.ScopeMetrics{{Scope: scope.Scope, Metrics: sent}},
		})
		if x.deltas != nil && (err == nil || x.arrived) {
			x.deltas.acknowledge(batch)
		}
		failure = cmp.Or(failure, err)
		if err != nil && !x.arrived {
			break
		}
	}
	if failure == nil {
		switch before := x.health.LastSuccess.Swap(time.Now().Unix()); {
		case x.failing:
			x.log.Info("OTLP export works again", "protocol", x.config.Protocol)
		case before == 0:
			x.log.Info("metrics are exported by OTLP", "protocol", x.config.Protocol)
		}
		x.failing, x.named = false, false
		return nil
	}
	if ctx.Err() == context.Canceled { // the shutdown pushes again
		return &sdk.LoggedError{Err: failure}
	}
	x.health.Failures.Add(1)
	news := !x.failing
	if !x.named && (x.answer == silence || x.answer == stranger && x.asked != stranger) { // also later: it may not have been there at first
		x.asked = x.answer
		if wrong := x.config.wrongProtocol(ctx); wrong != nil {
			failure = fmt.Errorf("%w (%w)", wrong, failure)
			news, x.named = true, true
		}
	}
	failure = &sdk.LoggedError{Err: failure}
	if news {
		x.log.Error("OTLP export fails", "err", failure)
	}
	x.failing = true
	return failure
}

// send sends a message.
func (x *exporter) send(ctx context.Context, message *metricdata.ResourceMetrics) error {
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeout)
	defer cancel()
	x.arrived, x.answer = false, silence
	return x.Exporter.Export(ctx, message)
}

// close is Shutdown where there is nothing to lose.
func (x *exporter) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = x.Shutdown(ctx)
}

// Shutdown closes the connections.
func (x *exporter) Shutdown(ctx context.Context) error {
	defer x.closeIdle()
	return x.Exporter.Shutdown(ctx)
}

// intercept adds the headers to a gRPC request, and records whether the collector answers.
func (x *exporter) intercept(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	headers, err := x.config.headersNow()
	if err != nil {
		return err
	}
	for key, value := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	var header, trailer metadata.MD
	err = invoke(ctx, method, request, reply, conn, append(options, grpc.Header(&header), grpc.Trailer(&trailer))...)
	x.arrived, x.answer = err == nil, answerOverGRPC(err, conn.GetState(), header, trailer)
	return err
}

// transport does for HTTP what intercept does for gRPC.
type transport struct {
	http.RoundTripper
	exporter *exporter
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	headers, err := t.exporter.config.headersNow()
	if err != nil {
		return nil, err
	}
	for key, value := range headers {
		r.Header.Set(key, value)
	}
	response, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		t.exporter.arrived, t.exporter.answer = false, silence
		return nil, err
	}
	t.exporter.arrived, t.exporter.answer = response.StatusCode/100 == 2, answerOverHTTP(response)
	return response, nil
}

// batches splits metrics into batches of at most size points.
func batches(metrics []metricdata.Metrics, size int) iter.Seq[[]metricdata.Metrics] {
	return func(yield func([]metricdata.Metrics) bool) {
		var batch []metricdata.Metrics
		room := size
		for _, m := range metrics {
			sum, counter := m.Data.(metricdata.Sum[int64])
			points := sum.DataPoints
			if !counter { // a telemetry.Source has nothing but counters and gauges
				points = m.Data.(metricdata.Gauge[int64]).DataPoints
			}
			for len(points) > 0 {
				n := min(room, len(points))
				m.Data = metricdata.Gauge[int64]{DataPoints: points[:n]}
				if counter {
					sum.DataPoints = points[:n]
					m.Data = sum
				}
				batch = append(batch, m)
				points, room = points[n:], room-n
				if room > 0 {
					continue
				}
				if !yield(batch) {
					return
				}
				batch, room = nil, size
			}
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}
