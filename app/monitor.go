package app

import (
	"log/slog"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/telemetry"
)

// monitor is where capture and telemetry meet: the table, what fills it, and how to read both.
type monitor struct {
	table *capture.Table
	fill  func() []telemetry.Interface // brings the table up to date, and gives the state of what fills it
	log   *slog.Logger                 // of what there is to say about the table; may be nil

	full bool // that there is no room was logged
}

// read gives the state of everything.
func (m *monitor) read() telemetry.Reading {
	r := telemetry.Reading{Limit: int64(m.table.Limit()), Expiry: m.table.ExpireAfter() > 0, Interfaces: m.fill()}
	s := m.table.Snapshot()
	r.Evicted = s.Evicted
	for i := range s.Hosts {
		if h := &s.Hosts[i]; h.Addr.IsValid() && !s.Expired(h) {
			r.Tracked++
		}
	}
	m.warnIfFull(&s)
	r.Hosts = func(yield func(telemetry.Host) bool) {
		for i := range s.Hosts {
			h := &s.Hosts[i]
			if !yield(telemetry.Host{
				Addr: h.Addr, Entry: h.Entry, Expired: s.Expired(h),
				ReceiveBytes: h.ReceiveBytes, TransmitBytes: h.TransmitBytes,
				ReceivePackets: h.ReceivePackets, TransmitPackets: h.TransmitPackets,
			}) {
				return
			}
		}
	}
	return r
}

// warnIfFull says once that addresses count together.
func (m *monitor) warnIfFull(s *capture.Snapshot) {
	if n := len(s.Hosts); m.log != nil && !m.full && n > 0 && s.Evicted == 0 && s.Hosts[n-1].Key == (capture.Key{}) {
		m.full = true
		m.log.Warn("the table is full: further addresses count as ip=\"other\" until others have expired (see --max-ips and --expire-after)",
			"addresses", m.table.Limit())
	}
}

// outcomes gives what became of packets as telemetry has it.
func outcomes(of [frame.Outcomes]capture.OutcomeSize) (all []telemetry.Outcome) {
	for o, size := range of {
		all = append(all, telemetry.Outcome{Name: frame.Outcome(o).String(), Packets: size.Packets, Bytes: size.Bytes})
	}
	return all
}
