package flow

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
)

// exporter is one that has sent.
type exporter struct {
	addr    netip.Addr
	counter *capture.Counter

	// The table's lock guards these.
	records  [frame.Outcomes]int64
	otherWay int64
	empty    int64
	inputs   map[uint32]uint16 // the table's numbers of its interfaces
	counted  amount
	since    time.Time // when it was first heard of; does not change

	mu         sync.Mutex // guards the rest
	decoder    Decoder
	heard      time.Time
	pauses     [2]time.Duration // the last ones between two reports
	lost       int64
	noTemplate int64
	clock      time.Duration
	hasClock   bool
	up, warned bool // logged
	gone       bool // its counts are a part of those that are gone
}

// burst is the longest pause inside a report, which may take several datagrams.
const burst = 10 * time.Second

// patience is how long an exporter may be silent at least.
const patience = 2 * time.Minute

// hear takes the time of a datagram.
func (e *exporter) hear(at time.Time) {
	if pause := at.Sub(e.heard); pause > burst && !e.heard.IsZero() {
		e.pauses[0], e.pauses[1] = e.pauses[1], pause
	}
	e.heard = at
}

func (e *exporter) lastHeard() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

// isUp tells whether the exporter has sent something within three of its intervals, or two minutes. One long pause is no interval.
func (e *exporter) isUp(now time.Time) bool {
	interval := min(e.pauses[0], e.pauses[1], time.Hour)
	return now.Sub(e.heard) <= max(patience, 3*interval)
}

// input returns the table's number of an interface.
func (e *exporter) input(index uint32, g *labels.Grouping) uint16 {
	number, known := e.inputs[index]
	if known || !g.Labels().Has(labels.Interface) {
		return number
	}
	if len(e.inputs) == mostInputs {
		return g.InterfaceNumber(Gone)
	}
	if e.inputs == nil {
		e.inputs = map[uint32]uint16{}
	}
	name := e.addr.String()
	if e.addr.Is6() {
		name = "[" + name + "]"
	}
	number = g.InterfaceNumber(name + ":" + strconv.FormatUint(uint64(index), 10))
	e.inputs[index] = number
	return number
}

// status returns the counts. The caller holds mu.
func (e *exporter) status() Status {
	s := Status{
		Exporter: e.addr.String(), NoTemplate: e.noTemplate, Sends: e.decoder.Describe(), Clock: e.clock, HasClock: e.hasClock,
	}
	s.Dropped = e.lost
	s.Outcomes = e.counter.Outcomes()
	e.counter.Lock()
	s.Records, s.OtherWay, s.Empty = e.records, e.otherWay, e.empty
	e.counter.Unlock()
	return s
}

// report logs that the exporter is silent or sends again, and that none of its records count.
func (e *exporter) report(c *Collector, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if up := e.isUp(now); up != e.up {
		e.up = up
		if up {
			c.Log.Info("an exporter sends again", "exporter", e.addr)
		} else {
			c.Log.Warn("an exporter is silent", "exporter", e.addr, "seconds", int(now.Sub(e.heard).Seconds()))
		}
	}
	if !e.warned {
		e.counter.Lock()
		none := e.otherWay > 0 && e.records == [frame.Outcomes]int64{}
		e.counter.Unlock()
		if none {
			c.Log.Warn("an exporter's records do not count, as they are of the other direction (see --flow-direction)", "exporter", e.addr)
		}
		e.warned = none
	}
}
