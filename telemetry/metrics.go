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
	metrics // how many there are
)

// definitions are the metrics of promflow. Name and unit become the name on the Prometheus page: "By" adds "bytes" where the
// name does not have it yet, a unit in braces adds nothing, a counter gets "_total". promtool check metrics wants each to have
// a description.
var definitions = [metrics]struct {
	gauge                   bool
	name, unit, description string
	attributes              string // besides those of --labels, which go with ip; README.md has them
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

// ByAddress tells whether the metric of a name has a series for each address.
func ByAddress(name string) bool {
	for _, m := range []metric{receiveBytes, transmitBytes, receivePackets, transmitPackets} {
		if definitions[m].name == name {
			return true
		}
	}
	return false
}

// Source turns readings into metrics, for every reader that was made with it: for OpenTelemetry it is a MetricProducer, the
// place that the specification has for metrics which are already aggregated, as the totals of the capture's table are
// (https://opentelemetry.io/docs/specs/otel/metrics/sdk/#metricproducer). Its methods are safe for concurrent use.
type Source struct {
	read    func() Reading
	packets bool
	begin   time.Time

	mu      sync.Mutex
	last    time.Time // of the last reading
	hosts   []host    // of the last reading, in its order
	order   []int32   // of hosts by the values of their labels
	exports []*ExportHealth
}

// host is what is kept of an address, and of labels that it had, from one reading to the next.
type host struct {
	hostKey
	entry      uint32
	order      string // values of labels, in the order of their names
	attributes attribute.Set
	known      *knownHost // nil until somebody wants to know
	// When the series began: at the reading before the first that had them, where they were still 0.
	receiveBegan, transmitBegan time.Time
}

// knownHost is what an address was called in the last reading, as attributes: to make these anew each time would take longer than
// all the rest.
type knownHost struct {
	HostInfo
	attributes attribute.Set
}

// hostKey tells hosts apart.
type hostKey struct {
	addr   netip.Addr
	labels uint64
}

// NewSource returns a source of what read returns, with packets by address if wanted.
//
// read is called once in each collection of each reader, by one goroutine at a time, and for the last time when the provider
// is shut down. It must not block, nor may the sequence that it returns.
func NewSource(read func() Reading, packets bool) *Source {
	now := time.Now()
	return &Source{read: read, packets: packets, begin: now, last: now}
}

// ExportHealth is what the metrics say of an exporter that pushes. Its methods are safe for concurrent use.
type ExportHealth struct {
	exporter    attribute.KeyValue
	failures    atomic.Int64 // collections that did not arrive as a whole
	lastSuccess atomic.Int64 // the last that did, in seconds since 1970
}

// NewHealth makes the health of an exporter a part of the metrics.
func (s *Source) NewHealth(exporter string) *ExportHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &ExportHealth{exporter: attribute.String("exporter", exporter)}
	s.exports = append(s.exports, h)
	return h
}

// Failed says that a collection did not arrive as a whole.
func (h *ExportHealth) Failed() { h.failures.Add(1) }

// Succeeded says that one did.
func (h *ExportHealth) Succeeded() { h.lastSuccess.Store(time.Now().Unix()) }

// Produce reads once and returns the metrics of that instant. Series of addresses are in the order of their labels. The error
// is always nil: another would keep OTLP from exporting anything.
func (s *Source) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &collection{begin: s.begin, now: time.Now(), places: map[place]int{}}
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
	expired := s.observeHosts(c, r)
	if r.Expiry {
		c.observe(expiredIPs, expired.hosts)
		c.observe(evictedIPs, r.Evicted)
		c.observeDirections(expiredBytes, expired.ReceiveBytes, expired.TransmitBytes)
		if s.packets {
			c.observeDirections(expiredPackets, expired.ReceivePackets, expired.TransmitPackets)
		}
	}
	s.last = c.now
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: "promflow"}, Metrics: c.metrics()}}, nil
}

// expired is what addresses have moved that have no series.
type expired struct {
	hosts int64
	Host
}

// observeHosts adds the series of addresses.
func (s *Source) observeHosts(c *collection, r Reading) (gone expired) {
	if r.Hosts == nil {
		return gone
	}
	totals := make([]Host, 0, r.Tracked+1)
	for h := range r.Hosts {
		totals = append(totals, h)
	}
	s.match(totals, r.Labels)
	of := []metric{receiveBytes, transmitBytes}
	if s.packets {
		of = append(of, receivePackets, transmitPackets)
	}
	for _, m := range of {
		c.points[m] = make([]point, 0, len(totals))
	}
	if r.Info != nil {
		c.points[hostInfo] = make([]point, 0, r.Tracked+1)
	}
	add := func(m metric, total int64, h *host, began time.Time) {
		if total > 0 { // a series appears once it has counted something
			c.points[m] = append(c.points[m], point{Attributes: h.attributes, StartTime: began, Time: c.now, Value: total})
		}
	}
	for _, i := range s.order {
		t, h := &totals[i], &s.hosts[i]
		if h.receiveBegan.IsZero() && t.ReceiveBytes > 0 {
			h.receiveBegan = s.last
		}
		if h.transmitBegan.IsZero() && t.TransmitBytes > 0 {
			h.transmitBegan = s.last
		}
		if t.Expired {
			if !t.Part {
				gone.hosts++
			}
			gone.ReceiveBytes += t.ReceiveBytes
			gone.TransmitBytes += t.TransmitBytes
			gone.ReceivePackets += t.ReceivePackets
			gone.TransmitPackets += t.TransmitPackets
			continue
		}
		if r.Info != nil && !t.Part && (r.Labels != nil || t.ReceiveBytes > 0 || t.TransmitBytes > 0) { // or its parts have counted
			c.points[hostInfo] = append(c.points[hostInfo], point{Attributes: h.info(t, r.Info), Time: c.now, Value: 1})
		}
		add(receiveBytes, t.ReceiveBytes, h, h.receiveBegan)
		add(transmitBytes, t.TransmitBytes, h, h.transmitBegan)
		if s.packets {
			add(receivePackets, t.ReceivePackets, h, h.receiveBegan)
			add(transmitPackets, t.TransmitPackets, h, h.transmitBegan)
		}
	}
	return gone
}

// info gives the attributes of the address for its info metric. All of them are there for each address on the page, where nothing is
// known, too, and for prefixes and "other", of which nothing can be: PromQL's on(ip) group_left(hostname, mac) drops what it finds no
// partner for, and a sum over what it joined would be too little without saying so.
func (h *host) info(of *Host, info func(netip.Addr) HostInfo) attribute.Set {
	var now HostInfo
	if of.Addr.IsValid() && of.Bits == 0 {
		now = info(of.Addr)
	}
	if h.known == nil || h.known.HostInfo != now {
		h.known = &knownHost{now, attribute.NewSet(
			attribute.String("ip", ipLabel(of.Addr, of.Bits)),
			attribute.String("hostname", strings.ToValidUTF8(now.Hostname, "\uFFFD")),
			attribute.String("mac", strings.ToValidUTF8(now.MAC, "\uFFFD")),
		)}
	}
	return h.known.attributes
}

// match makes s.hosts those of totals, and keeps what is known of them. To make attributes and to sort takes longer than all
// the rest of a collection, but most addresses are where they were in the last one. Those that have expired stay, too: when they
// return, their series are the old ones.
func (s *Source) match(totals []Host, labels func(Host) []Label) {
	same := 0
	for same < min(len(s.hosts), len(totals)) && s.hosts[same].is(&totals[same]) {
		same++
	}
	if same == len(s.hosts) && same == len(totals) {
		return
	}
	moved := make(map[hostKey]host, len(s.hosts)-same)
	for _, h := range s.hosts[same:] {
		moved[h.hostKey] = h
	}
	s.hosts = slices.Grow(s.hosts[:same], len(totals)-same)
	for _, t := range totals[same:] {
		h, known := moved[hostKey{t.Addr, t.Labels}]
		if !known || !h.is(&t) {
			h = newHost(t, labels)
		}
		s.hosts = append(s.hosts, h)
	}
	s.order = slices.Grow(s.order[:0], len(s.hosts))
	for i := range s.hosts {
		s.order = append(s.order, int32(i))
	}
	slices.SortFunc(s.order, func(a, b int32) int { return strings.Compare(s.hosts[a].order, s.hosts[b].order) })
}

func newHost(t Host, labels func(Host) []Label) host {
	h := host{hostKey: hostKey{t.Addr, t.Labels}, entry: t.Entry, order: ipLabel(t.Addr, t.Bits)}
	attributes := []attribute.KeyValue{attribute.String("ip", h.order)}
	if labels != nil {
		for _, l := range labels(t) {
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

// is tells whether h is what is kept of an address, and not of what it was before it was evicted.
func (h *host) is(of *Host) bool {
	return h.addr == of.Addr && h.labels == of.Labels && h.entry == of.Entry
}

// Kept gives the attributes of all addresses of the last reading.
func (s *Source) Kept() map[attribute.Distinct]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make(map[attribute.Distinct]bool, len(s.hosts))
	for i := range s.hosts {
		kept[s.hosts[i].attributes.Equivalent()] = true
	}
	return kept
}

// ipLabel is the value of the ip label for addr, or the prefix of so many bits that it stands for.
func ipLabel(addr netip.Addr, bits int) string {
	switch {
	case !addr.IsValid():
		return "other"
	case bits > 0:
		return netip.PrefixFrom(addr, bits).String()
	}
	return addr.String()
}

type point = metricdata.DataPoint[int64]

// collection is the metrics of one reading.
type collection struct {
	begin, now time.Time
	points     [metrics][]point
	places     map[place]int // in points, of what observe has added
}

// place is a series: a metric with its attributes.
type place struct {
	metric metric
	of     attribute.Distinct
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

func (c *collection) observeDirections(m metric, receive, transmit int64) {
	c.observe(m, receive, attribute.String("direction", "receive"))
	c.observe(m, transmit, attribute.String("direction", "transmit"))
}

// observe adds a value. Of a counter that comes twice, as that of a capture file that was given twice, it adds up.
func (c *collection) observe(m metric, value int64, attributes ...attribute.KeyValue) {
	set := attribute.NewSet(attributes...)
	at := place{m, set.Equivalent()}
	if i, twice := c.places[at]; twice {
		p := &c.points[m][i]
		if definitions[m].gauge {
			p.Value = 0
		}
		p.Value += value
		return
	}
	c.places[at] = len(c.points[m])
	p := point{Attributes: set, Time: c.now, Value: value}
	if !definitions[m].gauge {
		p.StartTime = c.begin
	}
	c.points[m] = append(c.points[m], p)
}

// metrics gives those that have points.
func (c *collection) metrics() []metricdata.Metrics {
	var all []metricdata.Metrics
	for m, d := range definitions {
		if len(c.points[m]) == 0 {
			continue
		}
		if metric(m) >= capturePackets { // those of addresses are in order
			slices.SortFunc(c.points[m], func(x, y point) int { return compareSets(&x.Attributes, &y.Attributes) })
		}
		var data metricdata.Aggregation = metricdata.Gauge[int64]{DataPoints: c.points[m]}
		if !d.gauge {
			data = metricdata.Sum[int64]{
				DataPoints: c.points[m], Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
			}
		}
		all = append(all, metricdata.Metrics{Name: d.name, Description: d.description, Unit: d.unit, Data: data})
	}
	return all
}

// compareSets compares sets of the same keys by their values.
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
