package telemetry

import (
	"context"
	"iter"
	"maps"
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

// definition is a metric. The name on the Prometheus page is made from name and unit: "By" appends "bytes" unless the name has it, a unit
// in braces appends nothing, and a counter gets "_total". promtool check metrics requires descriptions.
type definition struct {
	gauge                   bool
	name, unit, description string
	attributes              string // for README.md; series with ip also have those of --labels
}

// definitions are promflow's metrics. The first ones are those of Host.totals.
var definitions = []definition{
	{false, "promflow_receive_bytes", "By",
		"Network-layer bytes received by an IP address in the monitored subnets.", "ip"},
	{false, "promflow_transmit_bytes", "By",
		"Network-layer bytes transmitted by an IP address in the monitored subnets.", "ip"},
	{false, "promflow_receive_packets", "{packet}",
		"Packets received by an IP address in the monitored subnets.", "ip"},
	{false, "promflow_transmit_packets", "{packet}",
		"Packets transmitted by an IP address in the monitored subnets.", "ip"},
	{true, "promflow_host_info", "",
		"Always 1: what is known of an IP address on the page besides its counts, to be joined by ip.", "ip, hostname, mac"},
	{false, "promflow_capture_packets", "{packet}",
		"Packets seen on an interface, each once, by outcome.", "interface, outcome"},
	{false, "promflow_capture_bytes", "By",
		"Network-layer bytes of the packets seen on an interface (bytes of the frame where it has no IP header), by outcome.", "interface, outcome"},
	{false, "promflow_capture_dropped_packets", "{packet}",
		"Packets that the kernel dropped before promflow could count them.", "interface"},
	{false, "promflow_capture_records", "{record}",
		"Records of a flow exporter, by outcome.", "interface, outcome"},
	{false, "promflow_capture_refused_datagrams", "{datagram}",
		"Datagrams that were not decoded: those that send are not in --flow-exporters, or too many.", "interface"},
	{true, "promflow_capture_up", "",
		"Whether an interface is being captured (1) or is away (0).", "interface, backend"},
	{true, "promflow_tracked_ips", "{address}",
		"IP addresses on the page.", ""},
	{true, "promflow_tracked_ips_limit", "{address}",
		"IP addresses that the table has room for; further ones count as ip=\"other\".", ""},
	{true, "promflow_tracked_series", "{series}",
		"Combinations of labels that are counted separately, over all IP addresses.", ""},
	{true, "promflow_tracked_series_limit", "{series}",
		"Combinations of labels that the table has room for; labels of further ones are \"other\".", ""},
	{true, "promflow_expired_ips", "{address}",
		"IP addresses that were idle for so long that they left the page, and whose totals are kept for their return.", ""},
	{true, "promflow_expired", "By",
		"Network-layer bytes moved by IP addresses that have left the page.", "direction"},
	{true, "promflow_expired_packets", "{packet}",
		"Packets moved by IP addresses that have left the page.", "direction"},
	{false, "promflow_evicted_ips", "{address}",
		"IP addresses that had left the page and made room for others: what they had moved is part of ip=\"other\".", ""},
	{true, "promflow_monitored_subnets", "{subnet}",
		"Always 1, for each monitored subnet: network is its name, or itself if it has none.", "subnet, network"},
	{true, "promflow_config_last_reload_successful", "",
		"Whether the last reload of settings succeeded (1) or failed (0). The start counts as one.", ""},
	{true, "promflow_config_last_reload_success_timestamp", "s",
		"When a reload of settings last succeeded, in seconds since 1970.", ""},
	{true, "promflow_history_up", "",
		"Whether the history can be written (1) or not (0).", ""},
	{true, "promflow_history_last_write_timestamp", "s",
		"When the history was last written, in seconds since 1970; 0 if it never was.", ""},
	{false, "promflow_export_failures", "{push}",
		"Pushes to a collector that did not arrive as a whole.", "exporter"},
	{true, "promflow_export_last_success_timestamp", "s",
		"When a push to a collector last arrived as a whole, in seconds since 1970; 0 if none has.", "exporter"},
}

// hostMetrics is the number of metrics with a series for each address.
const hostMetrics = 4

// ByAddress reports whether the metric with this name has a series for each address.
func ByAddress(name string) bool {
	return slices.ContainsFunc(definitions[:hostMetrics], func(d definition) bool { return d.name == name })
}

// Source turns readings into metrics for all readers that were made with it. It is a MetricProducer, OpenTelemetry's interface for
// metrics that are already aggregated (https://opentelemetry.io/docs/specs/otel/metrics/sdk/#metricproducer). Its methods are safe for
// concurrent use.
type Source struct {
	read    func() Reading
	packets bool
	clock   func() time.Time
	begin   time.Time

	mu      sync.Mutex
	last    time.Time // of the last reading
	hosts   []host    // of the last reading, in the same order
	sorted  []int32   // indexes of hosts, in the order of their label values
	labels  func(Host) []Label
	exports []*ExportHealth
}

// host is what is kept between readings of an address or, with labels, of one of its combinations of labels.
type host struct {
	hostKey
	order      string // see order
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

// totals returns the values of the first metrics.
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
	now := truncate(time.Now())
	return &Source{read: read, packets: packets, clock: time.Now, begin: now, last: now}
}

// truncate returns t in milliseconds, which is how exact a start time is kept. t.Truncate would take the monotonic clock's reading from it.
func truncate(t time.Time) time.Time {
	return t.Add(-time.Duration(t.Nanosecond()) % time.Millisecond)
}

// AsOf returns t, which is not after now, as the clock that says now has it. Where t would be in the future, the clock has stepped back: t is
// as long ago then as the monotonic clock says. By that clock t stays what it was, as for Equal, if both have its reading.
func AsOf(now, t time.Time) time.Time {
	if t.Round(0).After(now.Round(0)) {
		return now.Add(min(t.Sub(now), 0))
	}
	return t
}

// now returns the time. No start time is after it.
func (s *Source) now() time.Time {
	now := s.clock()
	if !s.last.Round(0).After(now.Round(0)) {
		return now
	}
	s.begin, s.last = AsOf(now, s.begin), AsOf(now, s.last)
	for i := range s.hosts {
		for direction, began := range s.hosts[i].began {
			s.hosts[i].began[direction] = AsOf(now, began)
		}
	}
	return now
}

// ExportHealth counts the successes and failures of an exporter that pushes.
type ExportHealth struct {
	exporter    attribute.KeyValue
	Failures    atomic.Int64 // collections that did not arrive completely
	LastSuccess atomic.Int64 // when one last did, in seconds since 1970
}

// NewHealth adds the health of an exporter to the metrics.
func (s *Source) NewHealth(exporter string) *ExportHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &ExportHealth{exporter: attribute.String("exporter", exporter)}
	s.exports = append(s.exports, h)
	return h
}

// Produce takes a reading and returns its metrics. Series are sorted by their labels. The error is always nil: the SDK would not export
// anything after another one.
func (s *Source) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, r := s.now(), s.read()
	c := &collection{begin: s.begin, now: now, observed: map[string][]point{}, ofHosts: map[string][]point{}}
	c.observe("promflow_tracked_ips", r.Tracked)
	c.observe("promflow_tracked_ips_limit", r.Limit)
	if r.SeriesLimit > 0 {
		c.observe("promflow_tracked_series", r.Series)
		c.observe("promflow_tracked_series_limit", r.SeriesLimit)
	}
	for _, i := range r.Interfaces {
		c.observeInterface(i)
	}
	for _, in := range r.Subnets {
		c.observe("promflow_monitored_subnets", 1, attribute.String("subnet", in.Prefix), attribute.String("network", in.Network))
	}
	if last := r.Reload; last != nil {
		successful := int64(0)
		if last.Successful {
			successful = 1
		}
		c.observe("promflow_config_last_reload_successful", successful)
		c.observe("promflow_config_last_reload_success_timestamp", last.Succeeded.Unix())
	}
	if h := r.History; h != nil {
		up := int64(1)
		if h.Failing {
			up = 0
		}
		written := int64(0)
		if !h.LastWrite.IsZero() {
			written = h.LastWrite.Unix()
		}
		c.observe("promflow_history_up", up)
		c.observe("promflow_history_last_write_timestamp", written)
	}
	for _, e := range s.exports {
		c.observe("promflow_export_failures", e.Failures.Load(), e.exporter)
		c.observe("promflow_export_last_success_timestamp", e.LastSuccess.Load(), e.exporter)
	}
	expired, totals := s.observeHosts(c, r)
	if r.Expiry {
		c.observe("promflow_expired_ips", expired)
		c.observe("promflow_evicted_ips", r.Evicted)
		for i, name := range []string{"receive", "transmit"} {
			direction := attribute.String("direction", name)
			c.observe("promflow_expired", totals[i], direction)
			if s.packets {
				c.observe("promflow_expired_packets", totals[2+i], direction)
			}
		}
	}
	s.last = truncate(now)
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: "promflow"}, Metrics: c.metrics()}}, nil
}

// observeHosts adds the series of addresses. It returns the number of expired addresses, and the sums of their totals.
func (s *Source) observeHosts(c *collection, r Reading) (expired int64, expiredTotals [hostMetrics]int64) {
	hosts := slices.AppendSeq(make([]Host, 0, r.Tracked+1), r.Hosts)
	s.match(hosts, r.Labels, r.Restored)
	s.labels = r.Labels
	exported := s.exported()
	var points [hostMetrics][]point
	for m := range exported {
		points[m] = make([]point, 0, len(hosts))
	}
	var infos []point
	if r.Info != nil {
		infos = make([]point, 0, r.Tracked+1)
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
		if r.Info != nil && !now.Part && (r.Labels != nil || now.ReceiveBytes > 0 || now.TransmitBytes > 0) {
			infos = append(infos, point{Attributes: kept.infoAttributes(now, r.Info), Time: c.now, Value: 1})
		}
		for m, total := range totals[:exported] {
			if total > 0 { // a series appears once it has counted something
				points[m] = append(points[m], point{Attributes: kept.attributes, StartTime: kept.began[m%2], Time: c.now, Value: total})
			}
		}
	}
	for m := range points {
		c.ofHosts[definitions[m].name] = points[m]
	}
	c.ofHosts["promflow_host_info"] = infos
	return expired, expiredTotals
}

// exported returns how many of the metrics by address are exported.
func (s *Source) exported() int {
	if s.packets {
		return hostMetrics
	}
	return hostMetrics / 2 // the bytes
}

// Restored takes a reading, and returns the names of the metrics by address with the totals that an earlier process had counted. They include
// what addresses had moved that have expired: their series go on from there if they return.
func (s *Source) Restored() iter.Seq2[string, metricdata.DataPoint[int64]] {
	return func(yield func(string, point) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		now, r := s.now(), s.read()
		if r.Restored == nil {
			return
		}
		hosts := slices.AppendSeq(make([]Host, 0, r.Tracked+1), r.Hosts)
		s.match(hosts, r.Labels, r.Restored)
		s.labels = r.Labels
		for i := range hosts {
			before := r.Restored(hosts[i])
			totals := [hostMetrics]int64{before.ReceiveBytes, before.TransmitBytes, before.ReceivePackets, before.TransmitPackets}
			for m, total := range totals[:s.exported()] {
				p := point{Attributes: s.hosts[i].attributes, StartTime: s.hosts[i].began[m%2], Time: now, Value: total}
				if total > 0 && !yield(definitions[m].name, p) {
					return
				}
			}
		}
	}
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
func (s *Source) match(hosts []Host, labels func(Host) []Label, restored func(Host) Restored) {
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
			if restored != nil {
				h.began = restored(*now).Began
				for i, began := range h.began {
					if !began.IsZero() { // the clock may not be right yet
						h.began[i] = s.last.Add(min(began.Sub(s.last), 0))
					}
				}
			}
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
	h := host{hostKey: of.key()}
	attributes := []attribute.KeyValue{attribute.String("ip", of.IP())}
	if labels != nil {
		for _, l := range labels(*of) {
			attributes = append(attributes, attribute.String(l.Name, l.Value))
		}
	}
	h.attributes = attribute.NewSet(attributes...)
	h.order = order(&h.attributes)
	return h
}

// order returns what series of a metric are sorted by: their label values, in the order of label names.
func order(s *attribute.Set) string {
	var values []string
	for i := s.Iter(); i.Next(); {
		values = append(values, i.Attribute().Value.AsString())
	}
	return strings.Join(values, "\x00")
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

// Began returns when the totals of a host of the last reading began to be received and transmitted; zero if it has not, or the reading does
// not have the host. labels and entry are those of the Host.
func (s *Source) Began(addr netip.Addr, bits int, labels uint64, entry uint32) (began [2]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := Host{Addr: addr, Bits: bits, Labels: labels, Entry: entry}
	h := newHost(&of, s.labels)
	at, _ := slices.BinarySearchFunc(s.sorted, h.order, func(i int32, order string) int { return strings.Compare(s.hosts[i].order, order) })
	for ; at < len(s.sorted) && s.hosts[s.sorted[at]].order == h.order; at++ {
		if found := &s.hosts[s.sorted[at]]; found.hostKey == h.hostKey {
			return found.began
		}
	}
	return began
}

type point = metricdata.DataPoint[int64]

// collection is the points of one reading, by the names of their metrics.
type collection struct {
	begin, now time.Time
	observed   map[string][]point
	ofHosts    map[string][]point // sorted by their labels, and different
}

func (c *collection) observeInterface(i Interface) {
	name := attribute.String("interface", i.Label())
	if i.Backend != "" {
		up := int64(0)
		if i.Up {
			up = 1
		}
		c.observe("promflow_capture_up", up, name, attribute.String("backend", i.Backend))
	}
	if i.Backend != "" || i.Dropped > 0 {
		c.observe("promflow_capture_dropped_packets", i.Dropped, name)
	}
	for _, r := range i.Records {
		c.observe("promflow_capture_records", r.Packets, name, attribute.String("outcome", r.Name))
	}
	if i.Refused != nil {
		c.observe("promflow_capture_refused_datagrams", *i.Refused, name)
	}
	for _, o := range i.Outcomes {
		outcome := attribute.String("outcome", o.Name)
		c.observe("promflow_capture_packets", o.Packets, name, outcome)
		c.observe("promflow_capture_bytes", o.Bytes, name, outcome)
	}
}

// observe adds a value of a metric.
func (c *collection) observe(name string, value int64, attributes ...attribute.KeyValue) {
	c.observed[name] = append(c.observed[name], point{Attributes: attribute.NewSet(attributes...), Time: c.now, Value: value})
}

// metrics returns the metrics that have points.
func (c *collection) metrics() []metricdata.Metrics {
	var all []metricdata.Metrics
	for _, d := range definitions {
		points := append(c.ofHosts[d.name], c.merge(c.observed[d.name], d.gauge)...)
		if len(points) == 0 {
			continue
		}
		var data metricdata.Aggregation = metricdata.Gauge[int64]{DataPoints: points}
		if !d.gauge {
			data = metricdata.Sum[int64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
		}
		all = append(all, metricdata.Metrics{Name: d.name, Description: d.description, Unit: d.unit, Data: data})
	}
	return all
}

// merge sorts points by their labels, and merges those with the same labels, such as of a capture file that was given twice: counters,
// which began with c, are added, of gauges the highest one counts.
func (c *collection) merge(points []point, gauge bool) (merged []point) {
	byOrder := map[string]point{}
	for _, p := range points {
		at := order(&p.Attributes)
		if same, known := byOrder[at]; known && gauge {
			p.Value = max(p.Value, same.Value)
		} else if !gauge {
			p.StartTime = c.begin
			p.Value += same.Value
		}
		byOrder[at] = p
	}
	for _, at := range slices.Sorted(maps.Keys(byOrder)) {
		merged = append(merged, byOrder[at])
	}
	return merged
}
