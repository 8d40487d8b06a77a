// Package otlptest is an OpenTelemetry collector for tests.
package otlptest

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // as real collectors take it
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxMessage is gRPC's default limit for messages, which real collectors have.
const maxMessage = 4 << 20

// Receiver receives metrics over gRPC or HTTP, in messages of at most 4 MiB, and keeps the last value of each series. Its methods are
// safe for concurrent use.
type Receiver struct {
	Addr string // of its listener
	Stop func() // stops it and closes its connections, as the end of the test does

	mu       sync.Mutex
	judge    func(message int) (rejected int, err error)
	deltas   bool
	values   map[string]int64
	sums     map[string]int64
	ends     map[string]uint64 // of the series' last interval
	times    map[uint64]bool   // of all points
	resource map[string]string
	request  request
	messages int
	largest  int
	problems []string
}

// request describes the request of a message.
type request struct {
	path        string
	headers     metadata.MD
	compression string
}

// Start starts a receiver for OTLP over gRPC on l, which it closes.
func Start(t testing.TB, l net.Listener, opts ...grpc.ServerOption) *Receiver {
	r := newReceiver(l)
	server := grpc.NewServer(append(opts, grpc.StatsHandler(compressions{}), grpc.MaxRecvMsgSize(maxMessage))...)
	collector.RegisterMetricsServiceServer(server, service{receiver: r})
	r.serve(t, func() error { return server.Serve(l) }, server.Stop)
	return r
}

// StartHTTP starts a receiver for OTLP over HTTP on l, which it closes. It accepts any path, and uses TLS if config is not nil.
func StartHTTP(t testing.TB, l net.Listener, config *tls.Config) *Receiver {
	r := newReceiver(l)
	server := &http.Server{Handler: http.HandlerFunc(r.serveHTTP), TLSConfig: config, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	serve := func() error {
		if config != nil {
			return server.ServeTLS(l, "", "")
		}
		return server.Serve(l)
	}
	r.serve(t, serve, func() { server.Close(); l.Close() }) // the server does not have l yet if it is stopped before it began
	return r
}

// serve calls serve until Stop is called.
func (r *Receiver) serve(t testing.TB, serve func() error, stop func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serve(); err != nil && err != grpc.ErrServerStopped && err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	r.Stop = sync.OnceFunc(func() { stop(); wg.Wait() })
	t.Cleanup(r.Stop)
}

func newReceiver(l net.Listener) *Receiver {
	return &Receiver{
		Addr: l.Addr().String(), values: map[string]int64{}, sums: map[string]int64{}, ends: map[string]uint64{},
		times: map[uint64]bool{},
	}
}

// Freeze accepts connections on a listener and never answers, until the test ends.
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

// Judge lets judge decide about each message, whose numbers begin at 1 again: how many of its points are rejected, as a partial success,
// or with which error all are. It is a gRPC error; over HTTP it becomes the status that OTLP defines for it. Judge(nil) accepts all.
func (r *Receiver) Judge(judge func(message int) (rejected int, err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.judge, r.messages = judge, 0
}

// ExpectDeltas lets the receiver expect deltas and add them up.
func (r *Receiver) ExpectDeltas() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deltas = true
}

// Values returns the last values of the series, by the name of the metric and " key=value" for each attribute.
func (r *Receiver) Values() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.values)
}

// Take returns the same as Values, and forgets it.
func (r *Receiver) Take() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.values
	r.values = map[string]int64{}
	return v
}

// Sums returns the sums of all deltas, with the keys of Values.
func (r *Receiver) Sums() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.sums)
}

// read returns a field, which is not changed in place.
func read[T any](r *Receiver, field *T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *field
}

// Messages returns the number of messages since Judge, or else since the start.
func (r *Receiver) Messages() int { return read(r, &r.messages) }

// Resource returns the attributes of the last message's resource; values that are not strings are empty.
func (r *Receiver) Resource() map[string]string { return read(r, &r.resource) }

// Header returns the values of a header of the last message, separated by commas.
func (r *Receiver) Header(key string) string {
	return strings.Join(read(r, &r.request).headers.Get(key), ",")
}

// Path returns the path of the last message.
func (r *Receiver) Path() string { return read(r, &r.request).path }

// Compression returns the compression of the last message: "gzip", or "" for none.
func (r *Receiver) Compression() string { return read(r, &r.request).compression }

// Largest returns the size of the largest message in bytes, before compression.
func (r *Receiver) Largest() int { return read(r, &r.largest) }

// Problems returns what was wrong with messages: sums that are not monotonic or have the wrong temporality, and deltas whose interval
// begins neither at the end of the series' last one, nor at a later message without the series.
func (r *Receiver) Problems() []string { return read(r, &r.problems) }

// take receives a message.
func (r *Receiver) take(by request, m *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.request = by
	r.messages++
	r.largest = max(r.largest, proto.Size(m))
	response, rejected := &collector.ExportMetricsServiceResponse{}, 0
	if r.judge != nil {
		var err error
		if rejected, err = r.judge(r.messages); err != nil {
			return nil, err
		}
		if rejected > 0 {
			response.PartialSuccess = &collector.ExportMetricsPartialSuccess{
				RejectedDataPoints: int64(rejected), ErrorMessage: "rejected by the test",
			}
		}
	}
	for _, resource := range m.ResourceMetrics {
		r.resource = map[string]string{}
		for _, a := range resource.Resource.Attributes {
			r.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range resource.ScopeMetrics {
			for _, metric := range scope.Metrics {
				rejected -= r.add(metric, rejected)
			}
		}
	}
	return response, nil
}

// add adds the points of m, except for the first ones if some are to be rejected, and returns the number of the latter.
func (r *Receiver) add(m *metrics.Metric, rejected int) int {
	points := m.GetGauge().GetDataPoints()
	sum := m.GetSum()
	if sum != nil {
		points = sum.DataPoints
		want := metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
		if r.deltas {
			want = metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
		}
		if sum.AggregationTemporality != want || !sum.IsMonotonic {
			r.problems = append(r.problems, fmt.Sprintf("%s has %v, monotonic %v; want %v, monotonic", m.Name,
				sum.AggregationTemporality, sum.IsMonotonic, want))
		}
	}
	rejected = min(rejected, len(points))
	for i, p := range points {
		key := m.Name + labels(p.Attributes)
		if r.deltas && sum != nil {
			end, known := r.ends[key]
			joined := !known || p.StartTimeUnixNano >= end && r.times[p.StartTimeUnixNano]
			if !joined || p.StartTimeUnixNano >= p.TimeUnixNano {
				r.problems = append(r.problems, fmt.Sprintf("%s is for the time from %d to %d, after one until %d", key,
					p.StartTimeUnixNano, p.TimeUnixNano, end))
			}
			r.ends[key] = p.TimeUnixNano
		}
		r.times[p.TimeUnixNano] = true
		if i < rejected {
			continue
		}
		r.values[key] = p.GetAsInt()
		if r.deltas && sum != nil {
			r.sums[key] += p.GetAsInt()
		}
	}
	return rejected
}

func labels(attributes []*common.KeyValue) string {
	var b strings.Builder
	for _, a := range attributes {
		b.WriteString(" " + a.Key + "=" + a.Value.GetStringValue())
	}
	return b.String()
}

// service is the receiver for gRPC.
type service struct {
	collector.UnimplementedMetricsServiceServer
	receiver *Receiver
}

func (s service) Export(ctx context.Context, m *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	by := request{compression: *ctx.Value(compressionKey{}).(*string)}
	by.path, _ = grpc.Method(ctx)
	by.headers, _ = metadata.FromIncomingContext(ctx)
	return s.receiver.take(by, m)
}

// compressions puts the compression of a message into the context of its call. Only a stats handler knows it.
type compressions struct{}

type compressionKey struct{}

func (compressions) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, compressionKey{}, new(string))
}

func (compressions) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if header, ok := s.(*stats.InHeader); ok {
		*ctx.Value(compressionKey{}).(*string) = header.Compression
	}
}

func (compressions) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (compressions) HandleConn(context.Context, stats.ConnStats)                       {}

// httpStatus has the HTTP status for gRPC codes (https://opentelemetry.io/docs/specs/otlp/#otlphttp-response); others have 400.
var httpStatus = map[codes.Code]int{
	codes.Unauthenticated:   http.StatusUnauthorized,
	codes.PermissionDenied:  http.StatusForbidden,
	codes.ResourceExhausted: http.StatusTooManyRequests,
	codes.Internal:          http.StatusInternalServerError,
	codes.Unavailable:       http.StatusServiceUnavailable,
}

const contentType = "application/x-protobuf"

func (r *Receiver) serveHTTP(w http.ResponseWriter, request *http.Request) {
	m, by, err := readHTTP(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var reply proto.Message
	w.Header().Set("Content-Type", contentType)
	if reply, err = r.take(by, m); err != nil {
		code, known := httpStatus[status.Code(err)]
		if !known {
			code = http.StatusBadRequest
		}
		w.WriteHeader(code)
		reply = status.Convert(err).Proto()
	}
	body, err := proto.Marshal(reply)
	if err != nil {
		panic(err)
	}
	w.Write(body)
}

func readHTTP(r *http.Request) (*collector.ExportMetricsServiceRequest, request, error) {
	by := request{path: r.URL.Path, headers: metadata.MD{}, compression: r.Header.Get("Content-Encoding")}
	for key, values := range r.Header {
		by.headers.Append(key, values...)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != contentType {
		return nil, by, fmt.Errorf("%s of %q", r.Method, r.Header.Get("Content-Type"))
	}
	body := io.Reader(r.Body)
	switch by.compression {
	case "":
	case "gzip":
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, by, err
		}
		body = unzipped
	default:
		return nil, by, fmt.Errorf("encoding %q", by.compression)
	}
	message, err := io.ReadAll(io.LimitReader(body, maxMessage+1))
	if err == nil && len(message) > maxMessage {
		err = fmt.Errorf("the message has more than %d bytes", maxMessage)
	}
	m := &collector.ExportMetricsServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(message, m)
	}
	return m, by, err
}
