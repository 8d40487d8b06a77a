package otlp_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"promflow/telemetry"
	"promflow/telemetry/otlp"
	"promflow/telemetry/otlp/otlptest"
	"promflow/telemetry/telemetrytest"
)

// grpcService answers all messages in the same way.
type grpcService struct {
	collector.UnimplementedMetricsServiceServer
	err error
}

func (s grpcService) Export(context.Context, *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	return &collector.ExportMetricsServiceResponse{}, s.err
}

func grpcServer(err error, options ...grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(options...)
	collector.RegisterMetricsServiceServer(s, grpcService{err: err})
	return s
}

// serveGRPC starts a server of nothing but gRPC, and returns its address.
func serveGRPC(t *testing.T, on string, config *tls.Config, err error) string {
	t.Helper()
	l, listenErr := net.Listen("tcp", on)
	if listenErr != nil {
		t.Fatal(listenErr)
	}
	var options []grpc.ServerOption
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	s := grpcServer(err, options...)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// serveHTTP starts a server of HTTP/1 and maybe, with TLS, of HTTP/2, and returns its address.
func serveHTTP(t *testing.T, config *tls.Config, http2 bool, h http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.EnableHTTP2 = http2
	if s.TLS = config; config != nil {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// answers is a handler with the same answer for all.
func answers(code int, content string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", content)
		w.WriteHeader(code)
	})
}

// both serves gRPC, and all else by a handler.
func both(err error, rest http.Handler) http.Handler {
	s := grpcServer(err)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") == "application/grpc" {
			s.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// treats starts a server that does something with each connection, and returns its address.
func treats(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(c)
		}
	}()
	return l.Addr().String()
}

// TestWrongProtocol has servers of one protocol, of both and of none: the setting is named where the other protocol is what is wrong, and
// nowhere else.
func TestWrongProtocol(t *testing.T) {
	const protobuf, text = "application/x-protobuf", "text/plain; charset=utf-8"
	authority := otlptest.NewAuthority(t)
	secure := func() *tls.Config { return authority.Server(t, false) }
	absent := treats(t, func(c net.Conn) { c.Close() })
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		absent = l.Addr().String()
		l.Close()
	}
	unauthenticated := status.Error(codes.Unauthenticated, "who is it")
	h1 := func(code int, content string) string { return serveHTTP(t, nil, false, answers(code, content)) }
	h2 := func(h http.Handler) string { return "https://" + serveHTTP(t, secure(), true, h) }

	const none, grpcToHTTP, httpToGRPC = "", "set --otlp-protocol=http/protobuf", "set --otlp-protocol=grpc"
	for _, c := range []struct {
		name, endpoint string
		grpc, http     string // what a push by gRPC, and one over HTTP, is told
	}{
		{"gRPC", serveGRPC(t, "127.0.0.1:0", nil, nil), none, httpToGRPC},
		{"gRPC with TLS", "https://" + serveGRPC(t, "127.0.0.1:0", secure(), nil), none, httpToGRPC},
		{"gRPC, which knows nobody", serveGRPC(t, "127.0.0.1:0", nil, unauthenticated), none, httpToGRPC},
		{"gRPC with TLS, which knows nobody", "https://" + serveGRPC(t, "127.0.0.1:0", secure(), unauthenticated), none, httpToGRPC},
		{"gRPC within an HTTP server with TLS", h2(grpcServer(nil)), none, httpToGRPC},
		{"gRPC beside pages", h2(both(nil, http.NotFoundHandler())), none, httpToGRPC},
		{"HTTP", h1(200, protobuf), grpcToHTTP, none},
		{"HTTP with JSON", h1(200, "application/json"), grpcToHTTP, none},
		{"HTTP/1 with TLS", "https://" + serveHTTP(t, secure(), false, answers(200, protobuf)), grpcToHTTP, none},
		{"HTTP/2 with TLS", h2(answers(200, protobuf)), grpcToHTTP, none},
		{"HTTP, too busy", h1(429, protobuf), grpcToHTTP, none},
		{"HTTP, which knows nobody", h1(401, text), grpcToHTTP, none},
		{"HTTP with another path", h1(404, text), grpcToHTTP, none},
		{"HTTP of another kind", h1(200, "text/html"), grpcToHTTP, none},

		{"both", h2(both(nil, answers(200, protobuf))), none, none},
		{"both, which know nobody", h2(both(unauthenticated, answers(401, text))), none, none},
		{"both, gRPC knows nobody", h2(both(unauthenticated, answers(200, protobuf))), none, none},
		{"both, HTTP too busy", h2(both(nil, answers(429, text))), none, none},
		{"both, with an error that is OTLP", h2(both(nil, answers(404, protobuf))), none, none},
		{"gRPC of another kind beside pages", h2(both(status.Error(codes.Unimplemented, "what"), http.NotFoundHandler())), none, none},
		{"pages over HTTP/2", h2(http.NotFoundHandler()), none, none},
		{"HTTP/2 that knows nobody", h2(answers(401, text)), none, none},
		{"a proxy without its server", h1(503, text), none, none},
		{"a proxy without its server, with JSON", h1(502, "application/json"), none, none},
		{"a proxy without its server, with TLS", h2(answers(502, text)), none, none},
		{"a redirection to TLS", serveHTTP(t, nil, false, http.RedirectHandler("https://127.0.0.1:1/", http.StatusMovedPermanently)), none, none},
		{"plain text to HTTP with TLS", serveHTTP(t, secure(), true, answers(200, protobuf)), none, none},
		{"plain text to gRPC with TLS", serveGRPC(t, "127.0.0.1:0", secure(), nil), none, none},
		{"TLS to HTTP", "https://" + h1(200, protobuf), none, none},
		{"TLS to gRPC", "https://" + serveGRPC(t, "127.0.0.1:0", nil, nil), none, none},
		{"TLS of an unknown authority", "https://" + serveGRPC(t, "127.0.0.1:0", otlptest.NewAuthority(t).Server(t, false), nil), none, none},
		{"TLS of an unknown authority, HTTP", "https://" + serveHTTP(t, otlptest.NewAuthority(t).Server(t, false), false, answers(200, protobuf)), none, none},
		{"a client certificate is missing", "https://" + serveGRPC(t, "127.0.0.1:0", authority.Server(t, true), nil), none, none},
		{"nobody", absent, none, none},
		{"a server that closes", treats(t, func(c net.Conn) { c.Close() }), none, none},
		{"a server of another kind", treats(t, func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); c.Close() }), none, none},
		{"a server that says nothing", treats(t, func(c net.Conn) { t.Cleanup(func() { c.Close() }) }), none, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			forEach(t, func(t *testing.T, protocol string) {
				t.Parallel()
				want := map[string]string{otlp.GRPC: c.grpc, otlp.HTTPProtobuf: c.http}[protocol]
				o := otlp.Config{Protocol: protocol, Endpoint: c.endpoint, Timeout: time.Second}
				if strings.HasPrefix(c.endpoint, "https://") {
					o.CAFile = authority.File
				}
				_, err := otlp.Probe(t.Context(), o, slog.New(slog.DiscardHandler))
				switch {
				case want == none && err != nil && strings.Contains(err.Error(), "set --otlp-protocol"):
					t.Errorf("the protocol is blamed: %v", err)
				case want != none && (err == nil || !strings.Contains(err.Error(), want)):
					t.Errorf("got %v, want %q in it", err, want)
				}
			})
		})
	}
}

// TestProbeOfHTTP1 has a server with TLS and without HTTP/2, which refuses: TLS is not what is wrong.
func TestProbeOfHTTP1(t *testing.T) {
	authority := otlptest.NewAuthority(t)
	o := otlp.Config{Protocol: otlp.HTTPProtobuf, CAFile: authority.File,
		Endpoint: "https://" + serveHTTP(t, authority.Server(t, false), false, answers(http.StatusUnauthorized, "text/plain"))}
	_, err := otlp.Probe(t.Context(), o, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "can be reached, and TLS works, but does not accept the push") {
		t.Errorf("got %v", err)
	}
}

// TestWrongProtocolInTheLog has a collector that is away at first, then there with the other protocol, and then with the right one.
func TestWrongProtocolInTheLog(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		other := map[string]string{otlp.GRPC: otlp.HTTPProtobuf, otlp.HTTPProtobuf: otlp.GRPC}[protocol]
		r := listen(t, protocol, "", nil)
		r.Stop()
		t.Setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", protocol)
		p := push(t, otlp.Config{Endpoint: r.Addr, Timeout: 500 * time.Millisecond, Interval: time.Hour},
			func() telemetry.Reading { return telemetrytest.Hosts(3) })
		names := r.Addr + " speaks " + other + ", not " + protocol + ": set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=" + other
		for _, c := range []struct {
			serves        string // a protocol
			errors, named int    // lines of the log
		}{{"", 1, 0}, {"", 1, 0}, {other, 2, 1}, {other, 2, 1}, {protocol, 2, 1}, {"", 3, 1}, {other, 4, 2}} {
			if c.serves != "" {
				r = listen(t, c.serves, r.Addr, nil)
			}
			if c.serves == protocol {
				p.flushUntilItWorks(t)
			} else if p.flush(t) == nil {
				t.Errorf("a push to %q worked", c.serves)
			}
			if p.count("level=ERROR") != c.errors || p.count(names) != c.named {
				t.Errorf("%+v: log:\n%s", c, p.log)
			}
			r.Stop()
		}
		p.abandon()
	})
}
