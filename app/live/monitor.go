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

// Monitor reads a table for telemetry.
type Monitor struct {
	Table      *capture.Table
	Interfaces func() []telemetry.Interface        // brings the table up to date, and returns the state of its interfaces
	Info       func(netip.Addr) telemetry.HostInfo // what addresses are called; may be nil
	Log        *slog.Logger                        // gets one warning when the table is full; may be nil

	full, seriesFull sync.Once // logs
}

// Monitor returns a monitor of the capture. info may be nil.
func (l *Live) Monitor(info func(netip.Addr) telemetry.HostInfo) *Monitor {
	return &Monitor{Table: l.config.Table, Interfaces: l.interfaces, Info: info, Log: l.config.Log}
}

// Read returns the state of the capture. It is safe for concurrent use.
func (m *Monitor) Read() telemetry.Reading {
	interfaces := m.Interfaces() // before the snapshot: it brings the table up to date
	s := m.Table.Snapshot()
	r := telemetry.Reading{
		Limit: int64(m.Table.Limit()), Expiry: m.Table.ExpireAfter() > 0, Evicted: s.Evicted, Info: m.Info, Interfaces: interfaces,
	}
	for i := range s.Hosts {
		if h := &s.Hosts[i]; h.Addr.IsValid() && !s.Expired(h) {
			r.Tracked++
		}
	}
	if m.Log != nil {
		m.warnIfFull(&s)
	}
	g := m.Table.Grouping()
	if g != nil && g.Mask() != 0 {
		r.Series, r.SeriesLimit = int64(s.SeriesCount()), int64(m.Table.SeriesLimit())
	}
	if g != nil && g.Labels() != 0 {
		r.Labels = func(h telemetry.Host) (all []telemetry.Label) {
			for _, t := range g.Texts(h.Addr, labels.Values(h.Labels)) {
				all = append(all, telemetry.Label{Name: t.Label.String(), Value: strings.ToValidUTF8(t.Value, "\uFFFD")})
			}
			return all
		}
	}
	host := func(at int, totals *capture.Totals) telemetry.Host {
		h := &s.Hosts[at]
		of := telemetry.Host{
			Addr: h.Addr, Entry: h.Entry, Expired: s.Expired(h),
			ReceiveBytes: totals.ReceiveBytes, TransmitBytes: totals.TransmitBytes,
			ReceivePackets: totals.ReceivePackets, TransmitPackets: totals.TransmitPackets,
		}
		if g != nil {
			of.Bits, of.Labels = g.Bits(h.Addr), uint64(g.Rest())
		}
		return of
	}
	r.Hosts = func(yield func(telemetry.Host) bool) {
		for i := range s.Hosts {
			if !yield(host(i, &s.Hosts[i].Totals)) {
				return
			}
		}
		for at, series := range s.Series() {
			of := host(at, &series.Totals)
			of.Labels, of.Entry, of.Part = uint64(series.Labels), series.Entry, true
			if !yield(of) {
				return
			}
		}
	}
	return r
}

// warnIfFull logs once that further addresses, and once that further labels, count as other.
func (m *Monitor) warnIfFull(s *capture.Snapshot) {
	if n := len(s.Hosts); n > 0 && s.Evicted == 0 && !s.Hosts[n-1].Addr.IsValid() {
		m.full.Do(func() {
			m.Log.Warn("the table is full: further addresses count as ip=\"other\" until others have expired (see --max-ips and --expire-after)",
				"addresses", m.Table.Limit())
		})
	}
	if n := s.SeriesCount(); n > 0 && n == m.Table.SeriesLimit() {
		m.seriesFull.Do(func() {
			m.Log.Warn("the limit of series is reached: labels of further ones are \"other\" until addresses have expired (see --max-series)",
				"series", n)
		})
	}
}

// Outcomes returns outcomes with the names that they have on the page.
func Outcomes(of [frame.Outcomes]capture.OutcomeSize) (all []telemetry.Outcome) {
	for o, size := range of {
		all = append(all, telemetry.Outcome{Name: frame.Outcome(o).String(), Packets: size.Packets, Bytes: size.Bytes})
	}
	return all
}
