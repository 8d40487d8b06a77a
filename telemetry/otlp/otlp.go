// Package otlp pushes metrics to an OpenTelemetry collector, over gRPC or HTTP.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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
	// batchPoints is the number of data points in a message. gRPC receivers accept 4 MiB by default, before compression, and answer
	// ResourceExhausted to more. A point with an IPv6 address of 39 characters takes 78 bytes, and the longest message 0.8 MB. The
	// limit allows 419 bytes a point.
	batchPoints = 10_000

	// defaultTimeout is shorter than the exporters' 10 s: the next push has the totals of one that fails.
	defaultTimeout = 5 * time.Second

	// maxReconnect is the longest time between two attempts to connect. gRPC's default is 2 minutes.
	maxReconnect = 10 * time.Second

	// The first and the longest time before a message is sent again, until its timeout.
	firstRetry, lastRetry = 500 * time.Millisecond, 2 * time.Second
)

// The protocols of OTLP, as in OTEL_EXPORTER_OTLP_PROTOCOL.
const (
	GRPC         = "grpc"
	HTTPProtobuf = "http/protobuf"
)

// The compressions of OTLP, as in OTEL_EXPORTER_OTLP_COMPRESSION.
const (
	NoCompression = "none"
	Gzip          = "gzip"
)

// The temporalities of OTLP, as in OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE. LowMemory is delta only for synchronous counters,
// of which there are none here.
const (
	Cumulative = "cumulative"
	Delta      = "delta"
	LowMemory  = "lowmemory"
)

// Config says how to push to a collector. Zero fields are taken from the variables OTEL_EXPORTER_OTLP_METRICS_*, then
// OTEL_EXPORTER_OTLP_*, then from the defaults.
type Config struct {
	Protocol string // GRPC or HTTPProtobuf; the default is HTTPProtobuf for an Endpoint with port 4318, else GRPC

	// Endpoint is the collector's address; see parseEndpoint. The default is this machine.
	Endpoint string

	// Insecure false means TLS for an endpoint without a scheme. It must not contradict the scheme of Endpoint. By the OTLP
	// specification, the variable does not apply to an endpoint with a scheme.
	Insecure *bool

	// CAFile has the certificate authorities for the collector's certificate, in PEM; the default are the system's. CertFile and
	// KeyFile are the client's certificate. They are read for each connection, so that they can be replaced.
	CAFile, CertFile, KeyFile string

	// Headers, of [ParseHeaders], are sent with each request. HeadersFile overrides them. It has the same format, with commas or line
	// breaks, and is read for each request, so that it can be replaced.
	Headers     map[string]string
	HeadersFile string

	Compression string        // NoCompression, which is the default, or Gzip
	Temporality string        // Cumulative, which is the default, Delta or LowMemory
	Interval    time.Duration // between exports; OTEL_METRIC_EXPORT_INTERVAL, then 60 s
	Timeout     time.Duration // of one message with all its retries; 5 s
}

// Configured reports whether o or the environment has an endpoint.
func (o Config) Configured() bool { return o.endpointSetting().value != "" }

// Reread checks that this process, which may have given up privileges, can open the files that are read for each push or connection. The
// error is a *[SettingError], or names the variable.
func (o Config) Reread() error {
	return errors.Join(
		setting{name: "headers-file", value: o.HeadersFile}.readable(), o.certFile().readable(), o.keyFile().readable())
}

// Prepare completes o by the environment, reads its files, and returns a function that makes the reader which pushes a source to the
// collector. Call that once. The error is a *[SettingError], or names the variable.
//
// Nothing waits for the collector: while it is away, counting and other readers go on, and the totals arrive when it is back. The log
// says when exports begin to fail and when they work again. Failures and the time of the last success are metrics of the source.
func Prepare(o Config, log *slog.Logger) (func(*telemetry.Source) sdkmetric.Reader, error) {
	c, err := o.resolve(log)
	if err != nil {
		return nil, err
	}
	if (len(c.Headers) > 0 || c.HeadersFile != "") && !c.endpoint.tls && !c.endpoint.loopback() {
		c.log.Warn("OTLP headers, which may have credentials, are sent unencrypted: use https://", "endpoint", c.endpoint.String())
	}
	x, err := c.newExporter()
	if err != nil {
		return nil, err
	}
	return func(source *telemetry.Source) sdkmetric.Reader {
		if c.Temporality == Delta {
			x.deltas = newDeltas(source.Kept)
			x.deltas.pass(source)
		}
		x.log.Info("pushing to a collector", "protocol", c.Protocol)
		x.health = source.NewHealth("otlp")
		return sdk.NewPeriodicReader(x, source, c.Interval, log)
	}, nil
}

// maxHeaders bounds the headers of a collector's answer, in bytes. gRPC's default is 16 MiB.
const maxHeaders = 64 << 10

// newExporter returns an exporter, which connects when it is used.
func (c *resolved) newExporter() (x *exporter, err error) {
	x = &exporter{config: c, closeIdle: func() {}, log: c.log.With("endpoint", c.endpoint.String())}
	sdk.Quietly(c.log, func() {
		if c.Protocol == HTTPProtobuf {
			x.Exporter, err = otlpmetrichttp.New(context.Background(), c.httpOptions(x)...)
		} else {
			x.Exporter, err = otlpmetricgrpc.New(context.Background(), c.grpcOptions(x)...)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("OTLP endpoint %s: %w", c.endpoint, err)
	}
	return x, nil
}

func (c *resolved) grpcOptions(x *exporter) []otlpmetricgrpc.Option {
	security := insecure.NewCredentials()
	if c.endpoint.tls {
		security = credentials.NewTLS(c.tls)
	}
	reconnect := backoff.DefaultConfig
	reconnect.MaxDelay = maxReconnect
	compressor := map[string]string{NoCompression: "", Gzip: gzip.Name}[c.Compression]
	return []otlpmetricgrpc.Option{
		otlpmetricgrpc.WithEndpoint(c.endpoint.target()),
		otlpmetricgrpc.WithTLSCredentials(security),
		otlpmetricgrpc.WithHeaders(nil), // not those of the variable, which c has
		otlpmetricgrpc.WithTimeout(0),   // x has one
		otlpmetricgrpc.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: !c.once, InitialInterval: firstRetry, MaxInterval: lastRetry}),
		otlpmetricgrpc.WithDialOption(
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: maxReconnect}),
			// gRPC also uses Timeout as TCP_USER_TIMEOUT: without it a push would wait for minutes on a connection whose other end has
			// vanished. Time is so long that there are hardly any pings.
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 15 * time.Second}),
			grpc.WithMaxHeaderListSize(maxHeaders),
			grpc.WithChainUnaryInterceptor(x.intercept),
			grpc.WithDefaultCallOptions(grpc.UseCompressor(compressor)), // WithCompressor cannot override the variable with "none"
		),
	}
}

func (c *resolved) httpOptions(x *exporter) []otlpmetrichttp.Option {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = c.tls.Clone() // to which it adds
	if c.direct {
		base.Proxy = nil
	}
	x.closeIdle = base.CloseIdleConnections
	compressions := map[string]otlpmetrichttp.Compression{
		NoCompression: otlpmetrichttp.NoCompression, Gzip: otlpmetrichttp.GzipCompression,
	}
	return []otlpmetrichttp.Option{
		otlpmetrichttp.WithEndpointURL(c.endpoint.url()),
		otlpmetrichttp.WithTLSClientConfig(nil), // not that of the variables, which is an error without TLS
		otlpmetrichttp.WithHeaders(nil),
		otlpmetrichttp.WithCompression(compressions[c.Compression]),
		otlpmetrichttp.WithHTTPClient(&http.Client{
			Transport: transport{base, x},
			// A redirect would turn POST into GET, or send the headers to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		otlpmetrichttp.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: !c.once, InitialInterval: firstRetry, MaxInterval: lastRetry}),
	}
}
