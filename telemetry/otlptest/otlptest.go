// Package otlptest is an OpenTelemetry collector for tests.
package otlptest

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Receiver takes metrics over gRPC and keeps the last value of each series. Its limit for messages is gRPC's default of
// 4 MiB, as that of real collectors. Its methods are safe for concurrent use.
type Receiver struct {
	Addr string // of its listener
	Stop func() // ends it and drops its connections; the test's end does so, too

	mu       sync.Mutex
	values   map[string]int64
	resource map[string]string
	headers  metadata.MD
	largest  int
	problems []string
}

// Start starts a receiver that serves on l and closes it.
func Start(t testing.TB, l net.Listener, opts ...grpc.ServerOption) *Receiver {
	r := &Receiver{Addr: l.Addr().String(), values: map[string]int64{}}
	server := grpc.NewServer(opts...)
	collector.RegisterMetricsServiceServer(server, service{receiver: r})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(l); err != nil && err != grpc.ErrServerStopped { // stopped before it began
			t.Error(err)
		}
	})
	r.Stop = sync.OnceFunc(func() { server.Stop(); wg.Wait() })
	t.Cleanup(r.Stop)
	return r
}

// Freeze has a listener accept connections and never answer, until the test ends.
func Freeze(t testing.TB, l net.Listener) {
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); accepting.Wait() })
}

// Values returns the series that have arrived, by the name of the metric and " key=value" for each attribute.
func (r *Receiver) Values() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.values)
}

// Take returns what Values does and forgets it.
func (r *Receiver) Take() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.values
	r.values = map[string]int64{}
	return v
}

// Resource returns the attributes of the last message's resource; values that are not strings are empty.
func (r *Receiver) Resource() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.resource)
}

// Header returns the values of a header of the last message, separated by commas.
func (r *Receiver) Header(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.headers.Get(key), ",")
}

// Largest returns the size of the largest message in bytes.
func (r *Receiver) Largest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.largest
}

// Problems returns what was wrong with messages: sums that are not cumulative and monotonic.
func (r *Receiver) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.problems)
}

// service is the receiver as gRPC sees it.
type service struct {
	collector.UnimplementedMetricsServiceServer
	receiver *Receiver
}

func (s service) Export(ctx context.Context, m *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	r := s.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	r.largest = max(r.largest, proto.Size(m))
	r.headers, _ = metadata.FromIncomingContext(ctx)
	for _, resource := range m.ResourceMetrics {
		r.resource = map[string]string{}
		for _, a := range resource.Resource.Attributes {
			r.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range resource.ScopeMetrics {
			for _, metric := range scope.Metrics {
				r.add(metric)
			}
		}
	}
	return &collector.ExportMetricsServiceResponse{}, nil
}

func (r *Receiver) add(m *metrics.Metric) {
	points := m.GetGauge().GetDataPoints()
	if sum := m.GetSum(); sum != nil {
		points = sum.DataPoints
		if sum.AggregationTemporality != metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE || !sum.IsMonotonic {
			r.problems = append(r.problems, m.Name+" is not a cumulative monotonic sum")
		}
	}
	for _, p := range points {
		r.values[m.Name+labels(p.Attributes)] = p.GetAsInt()
	}
}

func labels(attributes []*common.KeyValue) string {
	var b strings.Builder
	for _, a := range attributes {
		b.WriteString(" " + a.Key + "=" + a.Value.GetStringValue())
	}
	return b.String()
}
