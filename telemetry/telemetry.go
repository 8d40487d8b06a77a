// Package telemetry turns readings of the capture into OpenTelemetry metrics and hands them to readers: package page serves Prometheus,
// package otlp pushes to a collector, and the console is here. [WriteText] writes a single reading in the text format.
//
// Nothing here is on the packet path: the totals are read when a reader collects. Every reader sees the same totals. An address that
// has left the capture's table leaves the page.
//
// An exporter is an [sdkmetric.Reader] of a [Source], made by a function in a folder of its own. Package app has the list.
//
// # Why a producer and not instruments
//
// The totals enter the SDK through a MetricProducer. For observable instruments the SDK builds a new concurrent map of all series in each
// collection of each reader: with 65,536 addresses that takes 0.22 s, while a whole page takes 0.04 s with the producer (go test -bench
// Readers). The SDK also limits an instrument to 2000 series by default (WithCardinalityLimit), gives each series an exemplar reservoir
// (WithExemplarFilter), and has one start time for all series of an instrument, which hides that an address is new. Package page avoids
// a similar cost in the Prometheus exporter.
package telemetry

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/common/version"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"promflow/telemetry/sdk"
)

// Reading is the state of the capture at one instant. All counts are totals since the start.
type Reading struct {
	Hosts iter.Seq[Host] // has each address once, and then its parts by labels

	// Labels returns the labels of a host besides ip, in UTF-8, or is nil. The combinations of an address differ. It is called once
	// for a host, as long as each reading has the host.
	Labels func(Host) []Label

	Info           func(netip.Addr) HostInfo // nil without --host-info; must not block
	Interfaces     []Interface
	Tracked, Limit int64 // addresses that have not expired, and the table's room for addresses
	Series         int64 // combinations of labels
	SeriesLimit    int64 // the table's room for them; 0 without labels
	Expiry         bool  // addresses can expire
	Evicted        int64 // addresses that made room for others: their totals are part of the zero Addr's
	Subnets        []Subnet
	Reload         *Reload // nil if settings are read once

	Restored func(Host) Restored // what an earlier process had counted of a host; nil: nothing
	History  *History            // nil: nothing outlives the process
}

// Restored is what an earlier process had counted.
type Restored struct {
	Began                           [2]time.Time // when totals began to be received and transmitted; zero if they had not
	ReceiveBytes, TransmitBytes     int64
	ReceivePackets, TransmitPackets int64
}

// History is how the last write of what outlives the process ended, and when one last succeeded.
type History struct {
	Failing   bool
	LastWrite time.Time
}

// Subnet is a monitored subnet, and its name or, without one, itself.
type Subnet struct{ Prefix, Network string }

// Reload is how the last reload of settings ended, and when one last succeeded. The start is the first one.
type Reload struct {
	Successful bool
	Succeeded  time.Time
}

// Label becomes an attribute beside ip.
type Label struct{ Name, Value string }

// Host is the totals of one address, in network-layer bytes and packets as on the wire. The zero Addr stands for all
// addresses that had no room in the table; it is reported as ip="other".
type Host struct {
	Addr                            netip.Addr
	Bits                            int    // the length of the prefix that Addr stands for; 0 for Addr itself
	Labels                          uint64 // identifies the combination of labels, see Reading.Labels
	Part                            bool   // further totals of an address that came before, with other labels
	Entry                           uint32 // changes when an address returns after it was evicted
	Expired                         bool   // idle for long: it has no series, but keeps its totals
	ReceiveBytes, TransmitBytes     int64
	ReceivePackets, TransmitPackets int64
}

// IP returns the value of the ip label: the address, its prefix, or "other".
func (h Host) IP() string {
	switch {
	case !h.Addr.IsValid():
		return "other"
	case h.Bits > 0:
		return netip.PrefixFrom(h.Addr, h.Bits).String()
	}
	return h.Addr.String()
}

// HostInfo is what is known of an address; empty where it is not. It may change between readings.
type HostInfo struct{ Hostname, MAC string }

// Interface is the state of the capture on one interface, or of a capture file.
type Interface struct {
	Name     string
	Backend  string // empty for a file, which has neither a state nor drops
	Up       bool
	Dropped  int64 // packets that the kernel dropped before the capture saw them
	Outcomes []Outcome
	Records  []Outcome // of a flow exporter, their numbers as packets
	Refused  *int64    // datagrams of those who may not send; nil for what is no address for flow exporters
}

// Label returns the interface's name as an attribute. A Linux interface may have any bytes in its name, but labels and Protocol Buffers
// strings must be UTF-8: else the whole export fails.
func (i Interface) Label() string { return strings.ToValidUTF8(i.Name, "\uFFFD") }

// Outcome is how many packets of an interface had an outcome.
type Outcome struct {
	Name           string
	Packets, Bytes int64
}

// New returns a provider of the readers. Its resource describes this process: instance, by convention "<hostname>:<port>", becomes
// service.instance.id, and the version is that of github.com/prometheus/common/version, which the build sets. OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES override all other attributes.
//
// New sends the messages of the OpenTelemetry SDK to log, for the whole process.
//
// The provider's Shutdown takes a last reading and pushes it. It returns by the deadline of its context even if a collector does not
// answer. The Prometheus page has no totals after that: close its server first.
func New(instance string, log *slog.Logger, readers ...sdkmetric.Reader) *sdkmetric.MeterProvider {
	sdk.RouteLogs(log)
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
		resource.WithFromEnv(), // the last one overrides the others
	)
	if err != nil { // r has the rest
		log.Warn("OpenTelemetry resource is incomplete", "err", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(r)}
	for _, reader := range readers {
		options = append(options, sdkmetric.WithReader(reader))
	}
	return sdkmetric.NewMeterProvider(options...)
}
