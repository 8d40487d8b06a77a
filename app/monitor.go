package app

import (
	"promflow/capture"
	"promflow/capture/frame"
	"promflow/telemetry"
)

// monitor is where capture and telemetry meet: the table, what fills it, and how to read both.
type monitor struct {
	table    *capture.Table
	statuses []func() capture.Status
}

// add has what fills the table report its state. All that do are added before anything reads.
func (m *monitor) add(status func() capture.Status) {
	m.statuses = append(m.statuses, status)
}

// read gives the state of everything. Statuses come first: to ask for them brings the table up to date.
func (m *monitor) read() telemetry.Reading {
	r := telemetry.Reading{Limit: int64(m.table.Limit())}
	for _, status := range m.statuses {
		r.Interfaces = append(r.Interfaces, ofStatus(status()))
	}
	hosts := m.table.Snapshot(nil)
	r.Tracked = int64(len(hosts))
	if n := len(hosts); n > 0 && hosts[n-1].Key == (capture.Key{}) {
		r.Tracked--
	}
	r.Hosts = func(yield func(telemetry.Host) bool) {
		for i := range hosts {
			h := &hosts[i]
			if !yield(telemetry.Host{
				Addr:         h.Addr,
				ReceiveBytes: h.ReceiveBytes, TransmitBytes: h.TransmitBytes,
				ReceivePackets: h.ReceivePackets, TransmitPackets: h.TransmitPackets,
			}) {
				return
			}
		}
	}
	return r
}

func ofStatus(s capture.Status) telemetry.Interface {
	i := telemetry.Interface{Name: s.Interface, Backend: s.Backend, Up: s.Up, Dropped: s.Dropped}
	for o, size := range s.Outcomes {
		i.Outcomes = append(i.Outcomes, telemetry.Outcome{Name: frame.Outcome(o).String(), Packets: size.Packets, Bytes: size.Bytes})
	}
	return i
}
