package otlp_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"promflow/telemetry/otlp"
	"promflow/telemetry/otlp/otlptest"
)

// TestProbe has collectors in all states: what is wrong is said, and which step of the connection it is.
func TestProbe(t *testing.T) {
	forEach(t, func(t *testing.T, protocol string) {
		authority := otlptest.NewAuthority(t)
		secure := listen(t, protocol, "", authority.Server(t, false)).Addr
		plain := listen(t, protocol, "", nil)
		refusing := listen(t, protocol, "", nil)
		refusing.Judge(func(int) (int, error) { return 0, status.Error(codes.Unauthenticated, "no token, no push") })
		frozen, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer frozen.Close()
		absent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		absent.Close()

		for _, c := range []struct {
			name string
			o    otlp.Config
			want []string // in the error; none if there is to be none
		}{
			{"in plain text", otlp.Config{Endpoint: plain.Addr}, nil},
			{"with TLS", otlp.Config{Endpoint: "https://" + secure, CAFile: authority.File}, nil},
			{"unknown authority", otlp.Config{Endpoint: "https://" + secure}, []string{"TLS with " + secure, "unknown authority"}},
			{"absent", otlp.Config{Endpoint: absent.Addr().String()},
				[]string{"connecting to " + absent.Addr().String(), "connection refused"}},
			{"frozen", otlp.Config{Endpoint: frozen.Addr().String()},
				[]string{"deadline exceeded", frozen.Addr().String() + " can be reached, but does not accept the push"}},
			{"refusing", otlp.Config{Endpoint: refusing.Addr}, []string{"does not accept the push"}},
			{"unknown host", otlp.Config{Endpoint: "collector.invalid:4317"}, []string{"resolving collector.invalid"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				c.o.Protocol, c.o.Timeout = protocol, patience
				if c.want != nil {
					c.o.Timeout = 500 * time.Millisecond
				}
				endpoint, err := otlp.Probe(context.Background(), c.o, slog.New(slog.DiscardHandler))
				if endpoint != c.o.Endpoint {
					t.Errorf("the endpoint is %q, want %q", endpoint, c.o.Endpoint)
				}
				if (err == nil) != (c.want == nil) {
					t.Fatalf("got %v", err)
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("got %v, want %q in it", err, want)
					}
				}
			})
		}
		if plain.Seen().Messages != 1 || len(plain.Values()) != 0 || len(plain.Seen().Problems) != 0 {
			t.Errorf("got %d messages with %v, want an empty one; %q", plain.Seen().Messages, plain.Values(), plain.Seen().Problems)
		}
	})
}
