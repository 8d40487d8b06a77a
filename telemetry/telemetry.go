// Package telemetry turns the state of the capture into OpenTelemetry metrics, and hands them to readers: those of package page for
// Prometheus, of package otlp for a collector, and the console here. [WriteText] writes the page's text for a reading that is needed once.
//
// The package is never on the packet path: nothing happens here until a reader collects, and then the totals of that instant
// are read once. Every reader sees the same totals, and an address that has left the capture's table leaves the page.
//
// An exporter is an [sdkmetric.Reader] of a [Source], made by a function in a folder of its own; package app has the list.
//
// # Instruments or a producer
//
// The totals enter the SDK by a MetricProducer, not by instruments. What the SDK does with an observable instrument is fit for
// hundreds of series: in each collection, and for each reader, it makes a concurrent hash map of all series anew, with a lookup,
// an insertion and two allocations for each observation, and then ranges over it. For 65,536 addresses that took 0.22 s, where
// the whole page takes 0.04 s with the producer (go test -bench Readers). It also cuts each instrument off at 2000 series unless told otherwise (WithCardinalityLimit),
// gives each series an exemplar reservoir (WithExemplarFilter), and has one start time for all series of an instrument, so
// that no backend can tell a new address from one that was there before. The right place to mend this is the SDK: a way to
// observe many values at once, or storage that outlives a collection (sdk/metric/internal/aggregate, precomputedSum).
//
// The Prometheus exporter has a like problem behind its reader, see package page.
package telemetry

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/prometheus/common/version"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"promflow/telemetry/sdk"
)

// Reading is the state of the capture at one instant. All counts are totals since the start.
type Reading struct {
	Hosts          iter.Seq[Host]            // may be nil; each address comes once, or once with each of its labels
	Labels         func(Host) []Label        // besides ip, in UTF-8, other ones for others of an address; may be nil. It is asked once, as long as a Host is in each reading
	Info           func(netip.Addr) HostInfo // what else is known of an address; nil if nobody wants to know. It must not block
	Interfaces     []Interface
	Tracked, Limit int64 // addresses that have not expired, and how many the table can hold
	Series         int64 // combinations of labels that are kept apart
	SeriesLimit    int64 // how many the table can hold; 0 without labels
	Expiry         bool  // addresses can expire
	Evicted        int64 // addresses that made room for others: what they had moved is part of the zero Addr's
}

// Label is a label besides ip, as which it becomes an attribute.
type Label struct{ Name, Value string }

// Host is the totals of one address, in network-layer bytes and packets as on the wire. The zero Addr stands for all
// addresses that had no room in the table; it is reported as ip="other".
type Host struct {
	Addr                            netip.Addr
	Bits                            int    // of the prefix that Addr stands for; 0 for Addr itself
	Labels                          uint64 // tells apart the totals of an address that have other labels, see Reading.Labels
	Part                            bool   // the address has come before, with other labels
	Entry                           uint32 // another one when an address that was evicted begins anew
	Expired                         bool   // it has been idle for long: it has no series, but keeps its totals
	ReceiveBytes, TransmitBytes     int64
	ReceivePackets, TransmitPackets int64
}

// IP is the value of the ip label: the address, its prefix, or "other".
func (h Host) IP() string { return ipLabel(h.Addr, h.Bits) }

// HostInfo is what an address is called, empty where that is not known. It may change from one reading to the next.
type HostInfo struct{ Hostname, MAC string }

// Interface is the state of the capture on one interface, or of a capture file.
type Interface struct {
	Name     string
	Backend  string // empty for a file, which is not up or down and drops nothing
	Up       bool
	Dropped  int64 // packets that the kernel dropped before they were seen
	Outcomes []Outcome
}

// Label is the interface's name as an attribute. The name of a Linux interface may be any bytes, but a label and a Protocol Buffers
// string must be UTF-8: one that is not would cost the whole export.
func (i Interface) Label() string { return strings.ToValidUTF8(i.Name, "\uFFFD") }

// Outcome is what became of the packets that were seen on an interface.
type Outcome struct {
	Name           string
	Packets, Bytes int64
}

// New returns a provider of the readers. It describes this process to them as a resource: instance, "<hostname>:<port>" by
// custom, is its service.instance.id, and the version is that which the build stamped into
// github.com/prometheus/common/version. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over all other attributes.
//
// New sends the OpenTelemetry SDK's own messages, which are global to the process, to log.
//
// Shutdown of the provider takes the last counts, sends them where they are pushed, and ends by the deadline of its context
// even where a collector does not answer. The Prometheus page has no totals from then on: close its server before.
func New(instance string, log *slog.Logger, readers ...sdkmetric.Reader) *sdkmetric.MeterProvider {
	sdk.RouteLogs(log)
	options := []sdkmetric.Option{sdkmetric.WithResource(newResource(instance, log))}
	for _, r := range readers {
		options = append(options, sdkmetric.WithReader(r))
	}
	return sdkmetric.NewMeterProvider(options...)
}

// newResource describes this process. What the environment says comes last: a later detector wins.
func newResource(instance string, log *slog.Logger) *resource.Resource {
	attributes := []attribute.KeyValue{semconv.ServiceName("promflow")}
	if version.Version != "" {
		attributes = append(attributes, semconv.ServiceVersion(version.Version))
	}
	if instance != "" {
		attributes = append(attributes, semconv.ServiceInstanceID(instance))
	}
	r, err := resource.New(context.Background(),
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(attributes...),
		resource.WithFromEnv(),
	)
	if err != nil { // and r has what could be found out
		log.Warn("OpenTelemetry resource is incomplete", "err", err)
	}
	return r
}
