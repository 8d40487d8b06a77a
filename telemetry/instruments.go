package telemetry

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instrument is an index into definitions.
type instrument int

const (
	receiveBytes instrument = iota
	transmitBytes
	receivePackets
	transmitPackets
	capturePackets
	captureBytes
	captureDropped
	captureUp
	trackedIPs
	trackedIPsLimit
	instruments // how many there are
)

// definitions are the metrics of promflow. Name and unit become the name on the Prometheus page: "By" adds "bytes" where the
// name does not have it yet, a unit in braces adds nothing, a counter gets "_total". promtool check metrics wants each to have
// a description.
var definitions = [instruments]struct {
	gauge                   bool
	name, unit, description string
}{
	receiveBytes: {false, "promflow_receive_bytes", "By",
		"Network-layer bytes received by an IP address in the monitored subnets."},
	transmitBytes: {false, "promflow_transmit_bytes", "By",
		"Network-layer bytes transmitted by an IP address in the monitored subnets."},
	receivePackets: {false, "promflow_receive_packets", "{packet}",
		"Packets received by an IP address in the monitored subnets."},
	transmitPackets: {false, "promflow_transmit_packets", "{packet}",
		"Packets transmitted by an IP address in the monitored subnets."},
	capturePackets: {false, "promflow_capture_packets", "{packet}",
		"Packets seen on an interface, each once, by what became of them."},
	captureBytes: {false, "promflow_capture_bytes", "By",
		"Network-layer bytes of the packets seen on an interface (bytes of the frame where it has no IP header), by what became of them."},
	captureDropped: {false, "promflow_capture_dropped_packets", "{packet}",
		"Packets that the kernel dropped before promflow could count them."},
	captureUp: {true, "promflow_capture_up", "",
		"Whether an interface is being captured (1) or is away (0)."},
	trackedIPs: {true, "promflow_tracked_ips", "{address}",
		"IP addresses in the table."},
	trackedIPsLimit: {true, "promflow_tracked_ips_limit", "{address}",
		"IP addresses that the table has room for; further ones count as ip=\"other\"."},
}

// sink takes the series of a reading, with labels as it keeps them.
type sink[L any] interface {
	address(netip.Addr) L
	labels(keyValues ...string) L // sorted by key
	observe(i instrument, value int64, labels L)
}

// send gives every series of r to s.
func send[L any](r Reading, packets bool, s sink[L]) {
	s.observe(trackedIPs, r.Tracked, s.labels())
	s.observe(trackedIPsLimit, r.Limit, s.labels())
	for _, i := range r.Interfaces {
		// The name of a Linux interface may be any bytes, but a label and a Protocol Buffers string must be UTF-8: one that
		// is not would cost the whole export.
		name := strings.ToValidUTF8(i.Name, "\uFFFD")
		if i.Backend != "" {
			up := int64(0)
			if i.Up {
				up = 1
			}
			s.observe(captureUp, up, s.labels("backend", i.Backend, "interface", name))
			s.observe(captureDropped, i.Dropped, s.labels("interface", name))
		}
		for _, o := range i.Outcomes {
			labels := s.labels("interface", name, "outcome", o.Name)
			s.observe(capturePackets, o.Packets, labels)
			s.observe(captureBytes, o.Bytes, labels)
		}
	}
	if r.Hosts == nil {
		return
	}
	for h := range r.Hosts {
		labels := s.address(h.Addr)
		counted := func(i instrument, total int64) {
			if total > 0 { // a series appears once it has counted something
				s.observe(i, total, labels)
			}
		}
		counted(receiveBytes, h.ReceiveBytes)
		counted(transmitBytes, h.TransmitBytes)
		if packets {
			counted(receivePackets, h.ReceivePackets)
			counted(transmitPackets, h.TransmitPackets)
		}
	}
}

// ipLabel is the value of the ip label for addr.
func ipLabel(addr netip.Addr) string {
	if !addr.IsValid() {
		return "other"
	}
	return addr.String()
}

// meter observes readings for the SDK's readers.
type meter struct {
	read    func() Reading
	packets bool
	sdk     [instruments]metric.Int64Observable

	// Building 65,536 attribute sets takes a good part of a collection, so they are kept from one to the next.
	mu         sync.Mutex
	collection uint64
	seen       int // addresses in this collection
	addresses  map[netip.Addr]*address
}

// address is the cached attributes of one address.
type address struct {
	attributes []metric.ObserveOption
	collection uint64 // the last one that had the address
}

// register creates the instruments in sdk. Several readers may then collect at the same time.
func register(sdk metric.Meter, read func() Reading, packets bool) error {
	m := &meter{read: read, packets: packets, addresses: map[netip.Addr]*address{}}
	var all []metric.Observable
	var errs []error
	for i, d := range definitions {
		var err error
		unit, description := metric.WithUnit(d.unit), metric.WithDescription(d.description)
		if d.gauge {
			m.sdk[i], err = sdk.Int64ObservableGauge(d.name, unit, description)
		} else {
			m.sdk[i], err = sdk.Int64ObservableCounter(d.name, unit, description)
		}
		all, errs = append(all, m.sdk[i]), append(errs, err)
	}
	_, err := sdk.RegisterCallback(m.callback, all...)
	return errors.Join(append(errs, err)...)
}

// callback reports one reading to one reader. It always returns nil: an error would keep OTLP from exporting anything.
func (m *meter) callback(_ context.Context, o metric.Observer) error {
	reading := m.read()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.collection++
	m.seen = 0
	send(reading, m.packets, observer{m, o})
	if len(m.addresses) > m.seen {
		maps.DeleteFunc(m.addresses, func(_ netip.Addr, a *address) bool { return a.collection != m.collection })
	}
	return nil
}

// observer is the sink of one collection.
type observer struct {
	*meter
	metric.Observer
}

func (o observer) address(addr netip.Addr) []metric.ObserveOption {
	a := o.addresses[addr]
	if a == nil {
		a = &address{attributes: o.labels("ip", ipLabel(addr))}
		o.addresses[addr] = a
	}
	if a.collection != o.collection {
		a.collection = o.collection
		o.seen++
	}
	return a.attributes
}

func (o observer) labels(keyValues ...string) []metric.ObserveOption {
	set := make([]attribute.KeyValue, 0, len(keyValues)/2)
	for i := 0; i < len(keyValues); i += 2 {
		set = append(set, attribute.String(keyValues[i], keyValues[i+1]))
	}
	return []metric.ObserveOption{metric.WithAttributeSet(attribute.NewSet(set...))}
}

func (o observer) observe(i instrument, value int64, attributes []metric.ObserveOption) {
	o.ObserveInt64(o.sdk[i], value, attributes...)
}
