// Package otlptest is an OpenTelemetry collector for tests.
package otlptest

import (
	"cmp"
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
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // as real collectors take it
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

	collector.UnimplementedMetricsServiceServer

	mu     sync.Mutex
	judge  func(message int) (rejected int, err error)
	deltas bool
	values map[string]int64
	ends   map[string]uint64 // of the series' last interval
	starts map[string]uint64
	times  map[uint64]bool // of all points
	seen   Seen
}

// Seen is what a receiver has seen so far.
type Seen struct {
	Request  *http.Request     // the last one
	Messages int               // their number since Judge, or else since the start
	Largest  int               // the size of the largest message in bytes, before compression
	Resource map[string]string // the attributes of the last message's resource; values that are not strings are empty

	// Problems is what was wrong with messages: sums that are not monotonic or have the wrong temporality, and deltas whose interval
	// begins neither at the end of the series' last one, nor at a later message without the series.
	Problems []string
}

// Header returns the values of a header of the last request, separated by commas.
func (s Seen) Header(key string) string { return strings.Join(s.Request.Header.Values(key), ",") }

// Compression returns the compression of the last request: "gzip", or "" for none.
func (s Seen) Compression() string { return s.Header("Grpc-Encoding") + s.Header("Content-Encoding") }

// Start starts a receiver for OTLP over gRPC on l, which it closes. It uses TLS if config is not nil.
func Start(t testing.TB, l net.Listener, config *tls.Config) *Receiver {
	r := newReceiver(l)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))
	collector.RegisterMetricsServiceServer(server, r)
	r.serve(t, l, config, server)
	return r
}

// StartHTTP is Start for OTLP over HTTP. The receiver accepts any path.
func StartHTTP(t testing.TB, l net.Listener, config *tls.Config) *Receiver {
	r := newReceiver(l)
	r.serve(t, l, config, http.HandlerFunc(r.serveHTTP))
	return r
}

// serve serves requests until Stop is called.
func (r *Receiver) serve(t testing.TB, l net.Listener, config *tls.Config, handler http.Handler) {
	server := &http.Server{TLSConfig: config, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		r.seen.Request = request
		r.mu.Unlock()
		handler.ServeHTTP(w, request)
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		serve := server.Serve
		if config != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := serve(l); err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	r.Stop = sync.OnceFunc(func() {
		server.Close()
		l.Close() // the server does not have l yet if it is stopped before it began
		wg.Wait()
	})
	t.Cleanup(r.Stop)
}

func newReceiver(l net.Listener) *Receiver {
	return &Receiver{Addr: l.Addr().String(), values: map[string]int64{}, ends: map[string]uint64{}, times: map[uint64]bool{}, starts: map[string]uint64{}}
}

// Judge lets judge decide about each message, whose numbers begin at 1 again: how many of its points are rejected, as a partial success,
// or with which error all are. It is a gRPC error; over HTTP it becomes the status that OTLP defines for it. Judge(nil) accepts all.
func (r *Receiver) Judge(judge func(message int) (rejected int, err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.judge, r.seen.Messages = judge, 0
}

// ExpectDeltas lets the receiver expect deltas.
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

// Starts returns when the last point of each series began, in nanoseconds since 1970.
func (r *Receiver) Starts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.starts)
}

// Take returns the same as Values, and forgets it.
func (r *Receiver) Take() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.values
	r.values = map[string]int64{}
	return v
}

// Seen returns what the receiver has seen so far.
func (r *Receiver) Seen() Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// Export receives a message.
func (r *Receiver) Export(_ context.Context, m *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Messages++
	r.seen.Largest = max(r.seen.Largest, proto.Size(m))
	response, rejected := &collector.ExportMetricsServiceResponse{}, 0
	if r.judge != nil {
		var err error
		if rejected, err = r.judge(r.seen.Messages); err != nil {
			return nil, err
		}
		if rejected > 0 {
			response.PartialSuccess = &collector.ExportMetricsPartialSuccess{
				RejectedDataPoints: int64(rejected), ErrorMessage: "rejected by the test",
			}
		}
	}
	for _, resource := range m.ResourceMetrics {
		r.seen.Resource = map[string]string{}
		for _, a := range resource.Resource.Attributes {
			r.seen.Resource[a.Key] = a.Value.GetStringValue()
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
			r.seen.Problems = append(r.seen.Problems, fmt.Sprintf("%s has %v, monotonic %v; want %v, monotonic", m.Name,
				sum.AggregationTemporality, sum.IsMonotonic, want))
		}
	}
	rejected = min(rejected, len(points))
	for i, p := range points {
		key := m.Name
		for _, a := range p.Attributes {
			key += " " + a.Key + "=" + a.Value.GetStringValue()
		}
		if r.deltas && sum != nil {
			end, known := r.ends[key]
			joined := !known || p.StartTimeUnixNano >= end && r.times[p.StartTimeUnixNano]
			if !joined || p.StartTimeUnixNano >= p.TimeUnixNano {
				r.seen.Problems = append(r.seen.Problems, fmt.Sprintf("%s is for the time from %d to %d, after one until %d", key,
					p.StartTimeUnixNano, p.TimeUnixNano, end))
			}
			r.ends[key] = p.TimeUnixNano
		}
		r.times[p.TimeUnixNano] = true
		if i < rejected {
			continue
		}
		r.values[key], r.starts[key] = p.GetAsInt(), p.StartTimeUnixNano
	}
	return rejected
}

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
	m := &collector.ExportMetricsServiceRequest{}
	if err := readHTTP(request, m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", contentType)
	response, err := r.Export(request.Context(), m)
	reply := proto.Message(response)
	if err != nil {
		w.WriteHeader(cmp.Or(httpStatus[status.Code(err)], http.StatusBadRequest))
		reply = status.Convert(err).Proto()
	}
	body, err := proto.Marshal(reply)
	if err != nil {
		panic(err)
	}
	w.Write(body)
}

// readHTTP reads the message of a request.
func readHTTP(r *http.Request, m proto.Message) (err error) {
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != contentType {
		return fmt.Errorf("%s of %q", r.Method, r.Header.Get("Content-Type"))
	}
	body := r.Body
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "":
	case "gzip":
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	default:
		return fmt.Errorf("encoding %q", encoding)
	}
	message, err := io.ReadAll(http.MaxBytesReader(nil, body, maxMessage))
	if err != nil {
		return err
	}
	return proto.Unmarshal(message, m)
}
