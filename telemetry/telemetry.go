// Package telemetry turns the state of the capture into OpenTelemetry metrics and hands them to readers: the Prometheus page
// and an OTLP collector. [WriteText] writes the same series without any of that machinery, for a reading that is needed once.
//
// The package is never on the packet path: all instruments are observable, so nothing happens here until a reader collects,
// and then the totals of that instant are read once. Every reader sees the same totals, and an address that has left the
// capture's table leaves the page: an observable counter reports what its callback observes and no more, where the SDK's
// synchronous counters keep each series until the process ends.
//
// A backend is an [sdkmetric.Reader], made by a function in a file of its own here and passed to [New] by package app.
//
// Defaults of the SDK that do not suit a series per address, and are changed here:
//
//   - Each instrument is cut off at 2000 series, the rest goes silently to otel_metric_overflow="true"
//     (WithCardinalityLimit).
//   - Each series has an exemplar reservoir that grows with GOMAXPROCS: 1.3 kB an address at 2 cores, 20 kB at 64
//     (WithExemplarFilter).
//   - A collection whose callback returned an error is not exported at all by OTLP (PeriodicReader): the callback never
//     returns one.
package telemetry

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/netip"

	"github.com/prometheus/common/version"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Reading is the state of the capture at one instant. All counts are totals since the start.
type Reading struct {
	Hosts          iter.Seq[Host] // may be nil; an address that comes twice counts as the sum
	Interfaces     []Interface
	Tracked, Limit int64 // addresses in the table, and how many it can hold
}

// Host is the totals of one address, in network-layer bytes and packets as on the wire. The zero Addr stands for all
// addresses that had no room in the table; it is reported as ip="other".
type Host struct {
	Addr                            netip.Addr
	ReceiveBytes, TransmitBytes     int64
	ReceivePackets, TransmitPackets int64
}

// Interface is the state of the capture on one interface, or of a capture file.
type Interface struct {
	Name     string
	Backend  string // empty for a file, which is not up or down and drops nothing
	Up       bool
	Dropped  int64 // packets that the kernel dropped before they were seen
	Outcomes []Outcome
}

// Outcome is what became of the packets that were seen on an interface.
type Outcome struct {
	Name           string
	Packets, Bytes int64
}

// Config is what a provider is told about the program.
type Config struct {
	Instance string // service.instance.id, where the environment has none; "<hostname>:<port>" is the custom
	Packets  bool   // count packets by address too
	Log      *slog.Logger
}

// New returns a provider whose readers report what read returns. Readers that are nil are left out.
//
// read is called once in each collection of each reader, by several goroutines at a time where several readers collect, and
// for the last time within Shutdown. It must not block, nor may the sequence that it returns.
//
// The resource has the version that the build stamped into github.com/prometheus/common/version, which promflow_build_info
// shows too. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over all other resource attributes.
//
// New sends the OpenTelemetry SDK's own messages, which are global to the process, to cfg.Log.
//
// Shutdown of the provider takes the last counts, sends them where they are pushed, and ends by the deadline of its context
// even where a collector does not answer. The Prometheus page has no totals from then on: close its server before.
func New(cfg Config, read func() Reading, readers ...sdkmetric.Reader) (*sdkmetric.MeterProvider, error) {
	routeSDKLogs(cfg.Log)
	opts := []sdkmetric.Option{
		sdkmetric.WithResource(newResource(cfg)),
		sdkmetric.WithCardinalityLimit(0),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter),
	}
	for _, r := range readers {
		if r != nil {
			opts = append(opts, sdkmetric.WithReader(r))
		}
	}
	provider := sdkmetric.NewMeterProvider(opts...)
	if err := register(provider.Meter("promflow"), read, cfg.Packets); err != nil {
		return nil, errors.Join(err, provider.Shutdown(context.Background()))
	}
	return provider, nil
}

// newResource describes this process. What the environment says comes last: a later detector wins.
func newResource(cfg Config) *resource.Resource {
	attributes := []attribute.KeyValue{semconv.ServiceName("promflow")}
	if version.Version != "" {
		attributes = append(attributes, semconv.ServiceVersion(version.Version))
	}
	if cfg.Instance != "" {
		attributes = append(attributes, semconv.ServiceInstanceID(cfg.Instance))
	}
	r, err := resource.New(context.Background(),
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(attributes...),
		resource.WithFromEnv(),
	)
	if err != nil { // and r has what could be found out
		cfg.Log.Warn("OpenTelemetry resource is incomplete", "err", err)
	}
	return r
}
