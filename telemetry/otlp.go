package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	// batchPoints is how many data points go into one message. A gRPC receiver takes 4 MiB unless told otherwise and answers
	// ResourceExhausted to more, compressed or not. A point with an IPv6 address of 39 characters takes 78 bytes, so
	// a message has at most 0.8 MB; there is room for 419 bytes a point.
	batchPoints = 10_000

	// defaultTimeout is shorter than the exporter's 10 s: what does not arrive now is in the totals that are sent next.
	defaultTimeout = 5 * time.Second

	// maxReconnect is the longest wait between attempts to reach a collector that is away; gRPC's own is 2 minutes.
	maxReconnect = 10 * time.Second
)

// OTLP is how to push to a collector by OTLP over gRPC. What is zero here is taken from the OTEL_EXPORTER_OTLP_METRICS_*
// variables, then from OTEL_EXPORTER_OTLP_*, then from the defaults.
type OTLP struct {
	// Endpoint is host:port (plaintext, port 4317 by default), http://host:port (the same), https://host:port (TLS, port 443
	// by default) or unix:///path. Where no variable has one either, OTLP is off.
	Endpoint string

	// Insecure false means TLS for an endpoint without a scheme. It must not contradict the scheme of Endpoint; the variable
	// does not apply to an endpoint with a scheme, as the OTLP specification has it.
	Insecure *bool

	// Headers go with every request; see [ParseHeaders].
	Headers map[string]string

	Interval time.Duration // between exports; OTEL_METRIC_EXPORT_INTERVAL, then 60 s
	Timeout  time.Duration // of one message with all its retries; 5 s
}

// NewOTLP returns a reader that pushes cumulative totals, or nil where OTLP is off. The variables for certificates,
// compression and timeout that the OTLP exporter knows are in force. OTEL_SDK_DISABLED=true, and OTEL_METRICS_EXPORTER without
// otlp, turn off an endpoint that comes from a variable.
//
// NewOTLP does not wait for the collector. While it is away, counting and the other readers go on as ever; the totals arrive
// when it is back. That an export fails is logged once, and once more when exports work again.
func NewOTLP(o OTLP, log *slog.Logger) (sdkmetric.Reader, error) {
	routeSDKLogs(log)
	value, variable := strings.TrimSpace(o.Endpoint), ""
	if value == "" {
		if value, variable = otlpEnv("ENDPOINT"); value == "" || disabledByEnv() {
			return nil, nil
		}
	}
	e, err := o.endpoint(value)
	if err != nil {
		return nil, inVariable(variable, err)
	}
	if protocol, variable := otlpEnv("PROTOCOL"); protocol != "" && protocol != "grpc" {
		return nil, fmt.Errorf("%s is %q, but promflow speaks OTLP over grpc only", variable, protocol)
	}
	headers, err := o.headers()
	if err != nil {
		return nil, err
	}
	if len(headers) > 0 && !e.tls && !e.loopback() {
		log.Warn("OTLP headers, which may hold credentials, are sent unencrypted: use https://", "endpoint", value)
	}
	if t, variable := otlpEnv("TEMPORALITY_PREFERENCE"); t != "" && !strings.EqualFold(t, "cumulative") {
		log.Warn("promflow sends cumulative totals: delta would lose the counts of a failed export",
			"ignored", variable+"="+t)
	}

	client, err := otlpmetricgrpc.New(context.Background(), o.clientOptions(e, headers)...)
	if err != nil {
		return nil, fmt.Errorf("OTLP endpoint %q: %w", value, err)
	}
	x := &exporter{Exporter: client, log: log.With("endpoint", value)}
	return sdkmetric.NewPeriodicReader(x,
		sdkmetric.WithInterval(o.Interval),
		sdkmetric.WithMaxExportBatchSize(batchPoints),
		sdkmetric.WithProducer(x),
	), nil
}

// endpoint parses value. The variable for insecure is asked only where value has no scheme.
func (o OTLP) endpoint(value string) (endpoint, error) {
	plain := o.Insecure
	if s, variable := otlpEnv("INSECURE"); plain == nil && s != "" && !strings.Contains(value, "://") {
		b := strings.EqualFold(s, "true")
		if !b && !strings.EqualFold(s, "false") {
			return endpoint{}, fmt.Errorf("%s is %q, expected true or false", variable, s)
		}
		plain = &b
	}
	return parseEndpoint(value, plain)
}

func (o OTLP) headers() (map[string]string, error) {
	if len(o.Headers) > 0 {
		return checkHeaders(o.Headers)
	}
	s, variable := otlpEnv("HEADERS")
	headers, err := ParseHeaders(s)
	return headers, inVariable(variable, err)
}

func (o OTLP) clientOptions(e endpoint, headers map[string]string) []otlpmetricgrpc.Option {
	timeout := o.Timeout
	if s, _ := otlpEnv("TIMEOUT"); timeout <= 0 && s == "" {
		timeout = defaultTimeout
	}
	options := []otlpmetricgrpc.Option{
		otlpmetricgrpc.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector),
		otlpmetricgrpc.WithHeaders(headers),
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{ // until the timeout
			Enabled: true, InitialInterval: 500 * time.Millisecond, MaxInterval: 2 * time.Second,
		}),
		otlpmetricgrpc.WithDialOption(grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: backoff.DefaultConfig.BaseDelay, Multiplier: backoff.DefaultConfig.Multiplier,
				Jitter: backoff.DefaultConfig.Jitter, MaxDelay: maxReconnect,
			},
			MinConnectTimeout: maxReconnect,
		})),
	}
	if timeout > 0 {
		options = append(options, otlpmetricgrpc.WithTimeout(timeout))
	}
	if e.tls {
		// Only a URL can say "secure" where the endpoint of a variable said otherwise; its host is replaced below. The
		// certificates of the variables stay.
		options = append(options, otlpmetricgrpc.WithEndpointURL("https://"))
	} else {
		// Not WithInsecure: it has no effect once the environment names a certificate.
		options = append(options, otlpmetricgrpc.WithTLSCredentials(insecure.NewCredentials()))
	}
	return append(options, otlpmetricgrpc.WithEndpoint(e.target))
}

// otlpEnv returns the value of the variable for metrics, or else of that for all signals, and which it was.
func otlpEnv(name string) (value, variable string) {
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_METRICS_" + name, "OTEL_EXPORTER_OTLP_" + name} {
		if value := strings.TrimSpace(os.Getenv(variable)); value != "" {
			return value, variable
		}
	}
	return "", ""
}

// disabledByEnv reports whether the environment turns OTLP off in ways that the SDK leaves to the program.
func disabledByEnv() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return true
	}
	list := os.Getenv("OTEL_METRICS_EXPORTER")
	return list != "" && !slices.ContainsFunc(strings.Split(list, ","), func(s string) bool {
		return strings.TrimSpace(s) == "otlp"
	})
}

// inVariable names the environment variable that err is about, if it is about one.
func inVariable(variable string, err error) error {
	if err == nil || variable == "" {
		return err
	}
	return fmt.Errorf("%s: %w", variable, err)
}

// exporter sends the batches of a collection until one fails, and logs when failing begins and ends. The reader calls it from
// one goroutine at a time.
type exporter struct {
	sdkmetric.Exporter
	log *slog.Logger

	gaveUp  bool // on the rest of this collection
	failing bool // as of the last batch
}

// Produce adds no metrics. The reader asks for them in each collection, which is how one is told from the next: with a
// timeout for each of its batches, a collection of 65,536 addresses would be busy with a dead collector for more than
// a minute.
func (x *exporter) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	x.gaveUp = false
	return nil, nil
}

func (x *exporter) Export(ctx context.Context, batch *metricdata.ResourceMetrics) error {
	if x.gaveUp {
		return nil // the reader has the error of the batch that failed
	}
	err := x.Exporter.Export(ctx, batch)
	if err == nil {
		if x.failing {
			x.log.Info("OTLP export works again")
		}
		x.failing = false
		return nil
	}
	// A status means that the call failed. Without one the collector took the batch but rejected points of it, or time is up.
	_, failed := status.FromError(err)
	x.gaveUp = failed || ctx.Err() != nil
	if !x.failing && ctx.Err() != context.Canceled { // cancelled: a shutdown is under way, and will try again
		x.failing = true
		x.log.Error("OTLP export fails; its counts will be in the next one", "err", err)
	}
	return &exportError{err}
}

// exportError is an error that exporter has logged.
type exportError struct{ err error }

func (e *exportError) Error() string { return e.err.Error() }
func (e *exportError) Unwrap() error { return e.err }
