package telemetry

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// metric is an index into definitions.
type metric int

const (
	receiveBytes metric = iota
	transmitBytes
	receivePackets
	transmitPackets
	hostInfo
	capturePackets
	captureBytes
	captureDropped
	captureUp
	trackedIPs
	trackedIPsLimit
	trackedSeries
	trackedSeriesLimit
	expiredIPs
	expiredBytes
	expiredPackets
	evictedIPs
	exportFailures
	exportLastSuccess
	metrics // the number of metrics
)

// hostMetrics is the number of metrics with a series for each address. They come first.
const hostMetrics = transmitPackets + 1

// definitions are promflow's metrics. The name on the Prometheus page is made from name and unit: "By" appends "bytes" unless the name
// has it, a unit in braces appends nothing, and a counter gets "_total". promtool check metrics requires descriptions.
var definitions = [metrics]struct {
	gauge                   bool
	name, unit, description string
	attributes              string // for README.md; series with ip also have those of --labels
}{
	receiveBytes: {false, "promflow_receive_bytes", "By",
		"Network-layer bytes received by an IP address in the monitored subnets.", "ip"},
	transmitBytes: {false, "promflow_transmit_bytes", "By",
		"Network-layer bytes transmitted by an IP address in the monitored subnets.", "ip"},
	receivePackets: {false, "promflow_receive_packets", "{packet}",
		"Packets received by an IP address in the monitored subnets.", "ip"},
	transmitPackets: {false, "promflow_transmit_packets", "{packet}",
		"Packets transmitted by an IP address in the monitored subnets.", "ip"},
	hostInfo: {true, "promflow_host_info", "",
		"Always 1: what is known of an IP address on the page besides its counts, to be joined by ip.", "ip, hostname, mac"},
	capturePackets: {false, "promflow_capture_packets", "{packet}",
		"Packets seen on an interface, each once, by outcome.", "interface, outcome"},
	captureBytes: {false, "promflow_capture_bytes", "By",
		"Network-layer bytes of the packets seen on an interface (bytes of the frame where it has no IP header), by outcome.", "interface, outcome"},
	captureDropped: {false, "promflow_capture_dropped_packets", "{packet}",
		"Packets that the kernel dropped before promflow could count them.", "interface"},
	captureUp: {true, "promflow_capture_up", "",
		"Whether an interface is being captured (1) or is away (0).", "interface, backend"},
	trackedIPs: {true, "promflow_tracked_ips", "{address}",
		"IP addresses on the page.", ""},
	trackedIPsLimit: {true, "promflow_tracked_ips_limit", "{address}",
		"IP addresses that the table has room for; further ones count as ip=\"other\".", ""},
	trackedSeries: {true, "promflow_tracked_series", "{series}",
		"Combinations of labels that are counted separately, over all IP addresses.", ""},
	trackedSeriesLimit: {true, "promflow_tracked_series_limit", "{series}",
		"Combinations of labels that the table has room for; labels of further ones are \"other\".", ""},
	expiredIPs: {true, "promflow_expired_ips", "{address}",
		"IP addresses that were idle for so long that they left the page, and whose totals are kept for their return.", ""},
	expiredBytes: {true, "promflow_expired", "By",
		"Network-layer bytes moved by IP addresses that have left the page.", "direction"},
	expiredPackets: {true, "promflow_expired_packets", "{packet}",
		"Packets moved by IP addresses that have left the page.", "direction"},
	evictedIPs: {false, "promflow_evicted_ips", "{address}",
		"IP addresses that had left the page and made room for others: what they had moved is part of ip=\"other\".", ""},
	exportFailures: {false, "promflow_export_failures", "{push}",
		"Pushes to a collector that did not arrive as a whole.", "exporter"},
	exportLastSuccess: {true, "promflow_export_last_success_timestamp", "s",
		"When a push to a collector last arrived as a whole, in seconds since 1970; 0 if none has.", "exporter"},
}

// ByAddress reports whether the metric with this name has a series for each address.
func ByAddress(name string) bool {
	for _, d := range definitions[:hostMetrics] {
		if d.name == name {
			return true
		}
	}
	return false
}

// Source turns readings into metrics for all readers that were made with it. It is a MetricProducer, OpenTelemetry's interface for
// metrics that are already aggregated (https://opentelemetry.io/docs/specs/otel/metrics/sdk/#metricproducer). Its methods are safe for
// concurrent use.
type Source struct {
	read    func() Reading
	packets bool
	begin   time.Time

	mu      sync.Mutex
	last    time.Time // of the last reading
	hosts   []host    // of the last reading, in the same order
	sorted  []int32   // indexes of hosts, in the order of their label values
	exports []*ExportHealth
}

// host is what is kept between readings of an address or, with labels, of one of its combinations of labels.
type host struct {
	hostKey
	order      string // what hosts are sorted by: label values in the order of label names
	attributes attribute.Set
	info       *infoSet // nil until Reading.Info was asked
	// began is when the series of each direction began: at the reading before the first in which it is not 0.
	began [2]time.Time
}

// hostKey identifies a host. An address that was evicted and returns has another entry.
type hostKey struct {
	addr   netip.Addr
	labels uint64
	entry  uint32
}

func (h *Host) key() hostKey { return hostKey{h.Addr, h.Labels, h.Entry} }

// totals returns the values of the first hostMetrics metrics.
func (h *Host) totals() [hostMetrics]int64 {
	return [...]int64{h.ReceiveBytes, h.TransmitBytes, h.ReceivePackets, h.TransmitPackets}
}

// infoSet is a HostInfo and its attributes. They are kept because making them takes most of the time of a collection.
type infoSet struct {
	HostInfo
	attributes attribute.Set
}

// NewSource returns a source of the readings that read returns. If packets is true, it also counts packets by address.
//
// Each collection of each reader calls read once. Calls do not overlap, and the last one is at the provider's shutdown. read and the
// sequence that it returns must not block.
func NewSource(read func() Reading, packets bool) *Source {
	now := time.Now()
	return &Source{read: read, packets: packets, begin: now, last: now}
}

// ExportHealth counts the successes and failures of an exporter that pushes. Its methods are safe for concurrent use.
type ExportHealth struct {
	exporter    attribute.KeyValue
	failures    atomic.Int64 // collections that did not arrive completely
	lastSuccess atomic.Int64 // when one last did, in seconds since 1970
}

// NewHealth adds the health of an exporter to the metrics.
func (s *Source) NewHealth(exporter string) *ExportHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &ExportHealth{exporter: attribute.String("exporter", exporter)}
	s.exports = append(s.exports, h)
	return h
}

// Failed records that a collection did not arrive completely.
func (h *ExportHealth) Failed() { h.failures.Add(1) }

// Succeeded records that a collection arrived completely.
func (h *ExportHealth) Succeeded() { h.lastSuccess.Store(time.Now().Unix()) }

// Produce takes a reading and returns its metrics. Series are sorted by their labels. The error is always nil: the SDK would not export
// anything after another one.
func (s *Source) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &collection{begin: s.begin, now: time.Now()}
	r := s.read()
	c.observe(trackedIPs, r.Tracked)
	c.observe(trackedIPsLimit, r.Limit)
	if r.SeriesLimit > 0 {
		c.observe(trackedSeries, r.Series)
		c.observe(trackedSeriesLimit, r.SeriesLimit)
	}
	for _, i := range r.Interfaces {
		c.observeInterface(i)
	}
	for _, e := range s.exports {
		c.observe(exportFailures, e.failures.Load(), e.exporter)
		c.observe(exportLastSuccess, e.lastSuccess.Load(), e.exporter)
	}
	expired, totals := s.observeHosts(c, r)
	if r.Expiry {
		c.observe(expiredIPs, expired)
		c.observe(evictedIPs, r.Evicted)
		for i, name := range []string{"receive", "transmit"} {
			direction := attribute.String("direction", name)
			c.observe(expiredBytes, totals[receiveBytes+metric(i)], direction)
			if s.packets {
				c.observe(expiredPackets, totals[receivePackets+metric(i)], direction)
			}
		}
	}
	s.last = c.now
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: "promflow"}, Metrics: c.metrics()}}, nil
}

// observeHosts adds the series of addresses. It returns the number of expired addresses, and the sums of their totals.
func (s *Source) observeHosts(c *collection, r Reading) (expired int64, expiredTotals [hostMetrics]int64) {
	if r.Hosts == nil {
		return
	}
	hosts := make([]Host, 0, r.Tracked+1)
	for h := range r.Hosts {
		hosts = append(hosts, h)
	}
	s.match(hosts, r.Labels)
	exported := hostMetrics
	if !s.packets {
		exported = receivePackets
	}
	for m := range exported {
		c.points[m] = make([]point, 0, len(hosts))
	}
	if r.Info != nil {
		c.points[hostInfo] = make([]point, 0, r.Tracked+1)
	}
	for _, i := range s.sorted {
		now, kept := &hosts[i], &s.hosts[i]
		totals := now.totals()
		for direction := range kept.began {
			if kept.began[direction].IsZero() && totals[direction] > 0 {
				kept.began[direction] = s.last
			}
		}
		if now.Expired {
			if !now.Part {
				expired++
			}
			for m, total := range totals {
				expiredTotals[m] += total
			}
			continue
		}
		// With labels, it may be the other parts of the address that have counted.
		if r.Info != nil && !now.Part && (r.Labels != nil || totals[receiveBytes] > 0 || totals[transmitBytes] > 0) {
			c.points[hostInfo] = append(c.points[hostInfo], point{Attributes: kept.infoAttributes(now, r.Info), Time: c.now, Value: 1})
		}
		for m, total := range totals[:exported] {
			if total > 0 { // a series appears once it has counted something
				c.points[m] = append(c.points[m], point{Attributes: kept.attributes, StartTime: kept.began[m%2], Time: c.now, Value: total})
			}
		}
	}
	return expired, expiredTotals
}

// infoAttributes returns the attributes of the host's info metric. All of them exist for each address on the page, also where nothing
// is known, and for prefixes and "other": PromQL's on(ip) group_left(hostname, mac) drops series without a partner, and sums of
// joined series would be too small.
func (h *host) infoAttributes(of *Host, info func(netip.Addr) HostInfo) attribute.Set {
	var now HostInfo
	if of.Addr.IsValid() && of.Bits == 0 {
		now = info(of.Addr)
	}
	if h.info == nil || h.info.HostInfo != now {
		h.info = &infoSet{now, attribute.NewSet(
			attribute.String("ip", of.IP()),
			attribute.String("hostname", strings.ToValidUTF8(now.Hostname, "\uFFFD")),
			attribute.String("mac", strings.ToValidUTF8(now.MAC, "\uFFFD")),
		)}
	}
	return h.info.attributes
}

// match updates s.hosts to those of a reading. Most addresses are where they were in the last reading, and keep their attributes and
// order: making these anew takes longer than the rest of a collection. Expired addresses stay, so that their series go on if they
// return.
func (s *Source) match(hosts []Host, labels func(Host) []Label) {
	same := 0
	for same < min(len(s.hosts), len(hosts)) && s.hosts[same].hostKey == hosts[same].key() {
		same++
	}
	if same == len(s.hosts) && same == len(hosts) {
		return
	}
	moved := make(map[hostKey]host, len(s.hosts)-same)
	for _, h := range s.hosts[same:] {
		moved[h.hostKey] = h
	}
	s.hosts = slices.Grow(s.hosts[:same], len(hosts)-same)
	for i := range hosts[same:] {
		now := &hosts[same+i]
		h, known := moved[now.key()]
		if !known {
			h = newHost(now, labels)
		}
		s.hosts = append(s.hosts, h)
	}
	s.sorted = slices.Grow(s.sorted[:0], len(s.hosts))
	for i := range s.hosts {
		s.sorted = append(s.sorted, int32(i))
	}
	slices.SortFunc(s.sorted, func(a, b int32) int { return strings.Compare(s.hosts[a].order, s.hosts[b].order) })
}

func newHost(of *Host, labels func(Host) []Label) host {
	h := host{hostKey: of.key(), order: of.IP()}
	attributes := []attribute.KeyValue{attribute.String("ip", h.order)}
	if labels != nil {
		for _, l := range labels(*of) {
			attributes = append(attributes, attribute.String(l.Name, l.Value))
		}
	}
	h.attributes = attribute.NewSet(attributes...)
	if len(attributes) > 1 {
		var values []string
		for i := h.attributes.Iter(); i.Next(); {
			values = append(values, i.Attribute().Value.AsString())
		}
		h.order = strings.Join(values, "\x00")
	}
	return h
}

// Kept returns the attributes of all addresses in the last reading, and of their parts.
func (s *Source) Kept() map[attribute.Distinct]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make(map[attribute.Distinct]bool, len(s.hosts))
	for i := range s.hosts {
		kept[s.hosts[i].attributes.Equivalent()] = true
	}
	return kept
}

type point = metricdata.DataPoint[int64]

// collection is the metrics of one reading.
type collection struct {
	begin, now time.Time
	points     [metrics][]point
}

func (c *collection) observeInterface(i Interface) {
	name := attribute.String("interface", i.Label())
	if i.Backend != "" {
		up := int64(0)
		if i.Up {
			up = 1
		}
		c.observe(captureUp, up, name, attribute.String("backend", i.Backend))
	}
	if i.Backend != "" || i.Dropped > 0 {
		c.observe(captureDropped, i.Dropped, name)
	}
	for _, o := range i.Outcomes {
		outcome := attribute.String("outcome", o.Name)
		c.observe(capturePackets, o.Packets, name, outcome)
		c.observe(captureBytes, o.Bytes, name, outcome)
	}
}

// observe adds a value.
func (c *collection) observe(m metric, value int64, attributes ...attribute.KeyValue) {
	p := point{Attributes: attribute.NewSet(attributes...), Time: c.now, Value: value}
	if !definitions[m].gauge {
		p.StartTime = c.begin
	}
	c.points[m] = append(c.points[m], p)
}

// metrics returns the metrics that have points.
func (c *collection) metrics() []metricdata.Metrics {
	var all []metricdata.Metrics
	for m, d := range definitions {
		points := c.points[m]
		if len(points) == 0 {
			continue
		}
		if metric(m) > hostInfo { // those of addresses are sorted, and different
			points = merge(points, d.gauge)
		}
		var data metricdata.Aggregation = metricdata.Gauge[int64]{DataPoints: points}
		if !d.gauge {
			data = metricdata.Sum[int64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
		}
		all = append(all, metricdata.Metrics{Name: d.name, Description: d.description, Unit: d.unit, Data: data})
	}
	return all
}

// merge sorts points by their label values, and merges those with the same attributes, such as of a capture file that was given twice:
// counters are added, of gauges the highest one counts.
func merge(points []point, gauge bool) []point {
	slices.SortFunc(points, func(x, y point) int { return compareSets(&x.Attributes, &y.Attributes) })
	merged := points[:0]
	for _, p := range points {
		last := len(merged) - 1
		switch {
		case last < 0 || !merged[last].Attributes.Equals(&p.Attributes):
			merged = append(merged, p)
		case gauge:
			merged[last].Value = max(merged[last].Value, p.Value)
		default:
			merged[last].Value += p.Value
		}
	}
	return merged
}

// compareSets compares the values of two sets that have the same keys.
func compareSets(x, y *attribute.Set) int {
	for i := range min(x.Len(), y.Len()) {
		a, _ := x.Get(i)
		b, _ := y.Get(i)
		if order := strings.Compare(a.Value.AsString(), b.Value.AsString()); order != 0 {
			return order
		}
	}
	return 0
}
