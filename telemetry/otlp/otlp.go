// Package otlp pushes metrics to an OpenTelemetry collector, over gRPC or HTTP.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"

	"promflow/telemetry"
	"promflow/telemetry/sdk"
)

const (
	// batchPoints is how many data points go into one message. A gRPC receiver takes 4 MiB unless told otherwise and answers
	// ResourceExhausted to more, compressed or not. A point with an IPv6 address of 39 characters takes 78 bytes, so
	// a message has at most 0.8 MB; there is room for 419 bytes a point.
	batchPoints = 10_000

	// defaultTimeout is shorter than the exporters' 10 s: what does not arrive now is in the totals that are sent next.
	defaultTimeout = 5 * time.Second

	// maxReconnect is the longest wait between attempts to reach a collector that is away; gRPC's own is 2 minutes.
	maxReconnect = 10 * time.Second

	// A message is sent again for as long as its timeout allows, after these times.
	firstRetry, lastRetry = 500 * time.Millisecond, 2 * time.Second
)

// The protocols of OTLP, by the names that OTEL_EXPORTER_OTLP_PROTOCOL has for them.
const (
	GRPC         = "grpc"
	HTTPProtobuf = "http/protobuf"
)

// The compressions of OTLP, by the names that OTEL_EXPORTER_OTLP_COMPRESSION has for them.
const (
	NoCompression = "none"
	Gzip          = "gzip"
)

// The temporalities of OTLP, by the names that OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE has for them. The one called
// lowmemory is delta for synchronous counters only, of which there are none here.
const (
	Cumulative = "cumulative"
	Delta      = "delta"
	LowMemory  = "lowmemory"
)

// Config is how to push to a collector. What is zero here is taken from the OTEL_EXPORTER_OTLP_METRICS_* variables, then from
// OTEL_EXPORTER_OTLP_*, then from the defaults.
type Config struct {
	Protocol string // GRPC, which is the default, or HTTPProtobuf

	// Endpoint is the collector's address; see parseEndpoint for what it may look like. The default is this machine.
	Endpoint string

	// Insecure false means TLS for an endpoint without a scheme. It must not contradict the scheme of Endpoint; the variable
	// does not apply to an endpoint with a scheme, as the OTLP specification has it.
	Insecure *bool

	// CAFile has the certificates, in PEM, of who may sign the collector's; without it, the system's are asked. CertFile and
	// KeyFile are this client's own, read anew for each connection, so that they may be replaced.
	CAFile, CertFile, KeyFile string

	// Headers go with every request; see [ParseHeaders]. Those of HeadersFile, which has the same format and may have line
	// breaks instead of commas, come on top; the file is read anew for each request, so that it may be replaced.
	Headers     map[string]string
	HeadersFile string

	Compression string        // NoCompression, which is the default, or Gzip
	Temporality string        // Cumulative, which is the default, Delta or LowMemory
	Interval    time.Duration // between exports; OTEL_METRIC_EXPORT_INTERVAL, then 60 s
	Timeout     time.Duration // of one message with all its retries; 5 s
}

// Configured reports whether o or the environment has an endpoint, without which nobody is thought to want OTLP.
func (o Config) Configured() bool {
	return strings.TrimSpace(o.Endpoint) != "" || otlpVariable("ENDPOINT").Name != ""
}

// Reread opens the files that are read again later, for each push or connection, as whom this process is now. The error is a
// *[SettingError], or names the variable.
func (o Config) Reread() error {
	cert, ofCert := fileOr(o.CertFile, "CLIENT_CERTIFICATE")
	key, ofKey := fileOr(o.KeyFile, "CLIENT_KEY")
	return errors.Join(
		settingError(sdk.Variable{}, "headers-file", readable(o.HeadersFile)),
		settingError(ofCert, "cert-file", readable(cert)),
		settingError(ofKey, "key-file", readable(key)))
}

// readable gives an error if there is a file that cannot be opened.
func readable(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

// Push is a push that was prepared: all that could be wrong with its settings has been looked at.
type Push struct {
	config   *resolved
	exporter *exporter
}

// Prepare completes o by the environment and reads the files that it names. The error is a *[SettingError], or names the variable.
func Prepare(o Config, log *slog.Logger) (*Push, error) {
	c, err := o.resolve(log)
	if err != nil {
		return nil, err
	}
	log = log.With("endpoint", c.endpoint.String())
	if c.headers.any() && !c.endpoint.tls && !c.endpoint.loopback() {
		log.Warn("OTLP headers, which may hold credentials, are sent unencrypted: use https://")
	}
	x := &exporter{timeout: c.timeout, log: log}
	sdk.Quietly(log, func() { x.Exporter, err = c.dial(x) })
	if err != nil {
		return nil, fmt.Errorf("OTLP endpoint %s: %w", c.endpoint, err)
	}
	return &Push{c, x}, nil
}

// Reader returns the reader that pushes source to the collector. It is called once.
//
// Nothing waits for the collector. While it is away, counting and the other readers go on as ever; the totals arrive
// when it is back. That an export fails is logged once, and once more when exports work again. Failures and the time of the
// last success are metrics of source.
func (p *Push) Reader(source *telemetry.Source) sdkmetric.Reader {
	x := p.exporter
	if p.config.temporality == Delta {
		x.deltas = newDeltas(source.Kept)
	}
	x.log.Info("pushing to a collector", "protocol", p.config.protocol)
	x.health = source.NewHealth("otlp")
	return sdk.NewPeriodicReader(x, source, p.config.interval, x.log)
}

// dial makes the protocol's exporter, which connects when it has to. What each request meets is told to x.
func (c *resolved) dial(x *exporter) (sdkmetric.Exporter, error) {
	if c.protocol == HTTPProtobuf {
		return otlpmetrichttp.New(context.Background(), c.httpOptions(x)...)
	}
	return otlpmetricgrpc.New(context.Background(), c.grpcOptions(x)...)
}

func (c *resolved) grpcOptions(x *exporter) []otlpmetricgrpc.Option {
	security := insecure.NewCredentials()
	if c.endpoint.tls {
		security = credentials.NewTLS(c.tls)
	}
	reconnect := backoff.DefaultConfig
	reconnect.MaxDelay = maxReconnect
	compressor := ""
	if c.compression == Gzip {
		compressor = gzip.Name
	}
	return []otlpmetricgrpc.Option{
		otlpmetricgrpc.WithEndpoint(c.endpoint.target),
		otlpmetricgrpc.WithTLSCredentials(security),
		otlpmetricgrpc.WithHeaders(nil), // instead of the variable's, which c has read
		otlpmetricgrpc.WithTimeout(0),   // that of x
		otlpmetricgrpc.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: firstRetry, MaxInterval: lastRetry}),
		otlpmetricgrpc.WithDialOption(
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: maxReconnect}),
			// For its timeout, within which TCP must have an answer: else a push would wait for minutes on a connection whose
			// other end has gone without a word. By its time it hardly ever sends a ping.
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 15 * time.Second}),
			grpc.WithChainUnaryInterceptor(c.headers.intercept, x.intercept),
			grpc.WithDefaultCallOptions(grpc.UseCompressor(compressor)), // WithCompressor cannot undo what the variable says
		),
	}
}

func (c *resolved) httpOptions(x *exporter) []otlpmetrichttp.Option {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = c.tls
	x.idle = transport.CloseIdleConnections
	compression := otlpmetrichttp.NoCompression
	if c.compression == Gzip {
		compression = otlpmetrichttp.GzipCompression
	}
	return []otlpmetrichttp.Option{
		otlpmetrichttp.WithEndpointURL(c.endpoint.url.String()),
		otlpmetrichttp.WithTLSClientConfig(nil), // instead of the variables', which are an error without TLS
		otlpmetrichttp.WithHeaders(nil),
		otlpmetrichttp.WithCompression(compression),
		otlpmetrichttp.WithHTTPClient(&http.Client{
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if err := c.headers.set(r.Header); err != nil {
					return nil, err
				}
				return x.roundTrip(transport, r)
			}),
			// A redirection would turn POST into GET, or take the headers to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		otlpmetrichttp.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: firstRetry, MaxInterval: lastRetry}),
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
