package live

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/telemetry"
)

// Monitor is where capture and telemetry meet: a table, and how to read it as telemetry does.
type Monitor struct {
	table      *capture.Table
	interfaces func() []telemetry.Interface
	info       func(netip.Addr) telemetry.HostInfo
	log        *slog.Logger

	mu         sync.Mutex
	full       bool // that there is no room was logged
	seriesFull bool // that there is none for labels was, too
}

// NewMonitor returns a monitor of a table. interfaces brings the table up to date, and gives the state of what fills it. info says what
// addresses are called, and log is told once that the table is full: either may be nil.
func NewMonitor(table *capture.Table, interfaces func() []telemetry.Interface, info func(netip.Addr) telemetry.HostInfo, log *slog.Logger) *Monitor {
	return &Monitor{table: table, interfaces: interfaces, info: info, log: log}
}

// Monitor returns a monitor of what is captured. info may be nil.
func (l *Live) Monitor(info func(netip.Addr) telemetry.HostInfo) *Monitor {
	return NewMonitor(l.config.Table, l.interfaces, info, l.config.Log)
}

// Read gives the state of everything. It is safe for concurrent use.
func (m *Monitor) Read() telemetry.Reading {
	r := telemetry.Reading{Limit: int64(m.table.Limit()), Expiry: m.table.ExpireAfter() > 0, Info: m.info, Interfaces: m.interfaces()}
	s := m.table.Snapshot()
	r.Evicted = s.Evicted
	for i := range s.Hosts {
		if h := &s.Hosts[i]; h.Addr.IsValid() && !s.Expired(h) {
			r.Tracked++
		}
	}
	m.warnIfFull(&s)
	g := m.table.Grouping()
	if g != nil && g.Mask() != 0 {
		r.Series, r.SeriesLimit = int64(s.SeriesCount()), int64(m.table.SeriesLimit())
	}
	if g != nil && g.Labels() != 0 {
		r.Labels = func(h telemetry.Host) (all []telemetry.Label) {
			for _, t := range g.Texts(h.Addr, labels.Values(h.Labels)) {
				all = append(all, telemetry.Label{Name: t.Label.String(), Value: strings.ToValidUTF8(t.Value, "\uFFFD")})
			}
			return all
		}
	}
	host := func(at int) telemetry.Host {
		h := &s.Hosts[at]
		of := telemetry.Host{Addr: h.Addr, Entry: h.Entry, Expired: s.Expired(h)}
		if g != nil {
			of.Bits, of.Labels = g.Bits(h.Addr), uint64(g.Rest())
		}
		return of
	}
	r.Hosts = func(yield func(telemetry.Host) bool) {
		for i := range s.Hosts {
			if !yield(withTotals(host(i), &s.Hosts[i].Totals)) {
				return
			}
		}
		for at, series := range s.Series() {
			of := host(at)
			of.Labels, of.Entry, of.Part = uint64(series.Labels), series.Entry, true
			if !yield(withTotals(of, &series.Totals)) {
				return
			}
		}
	}
	return r
}

func withTotals(h telemetry.Host, t *capture.Totals) telemetry.Host {
	h.ReceiveBytes, h.TransmitBytes = t.ReceiveBytes, t.TransmitBytes
	h.ReceivePackets, h.TransmitPackets = t.ReceivePackets, t.TransmitPackets
	return h
}

// warnIfFull says once that addresses, or labels of one, count together.
func (m *Monitor) warnIfFull(s *capture.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(s.Hosts); m.log != nil && !m.full && n > 0 && s.Evicted == 0 && !s.Hosts[n-1].Addr.IsValid() {
		m.full = true
		m.log.Warn("the table is full: further addresses count as ip=\"other\" until others have expired (see --max-ips and --expire-after)",
			"addresses", m.table.Limit())
	}
	if n := s.SeriesCount(); m.log != nil && !m.seriesFull && n > 0 && n == m.table.SeriesLimit() {
		m.seriesFull = true
		m.log.Warn("no more combinations of labels are kept apart: labels of further ones are \"other\" until addresses have expired (see --max-series)",
			"series", n)
	}
}

// Outcomes gives what became of packets as telemetry has it.
func Outcomes(of [frame.Outcomes]capture.OutcomeSize) (all []telemetry.Outcome) {
	for o, size := range of {
		all = append(all, telemetry.Outcome{Name: frame.Outcome(o).String(), Packets: size.Packets, Bytes: size.Bytes})
	}
	return all
}
