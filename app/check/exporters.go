package check

import (
	"fmt"
	"math"
	"time"

	"promflow/capture/flow"
	"promflow/capture/frame"
)

// Exporter has the counts of a flow exporter.
type Exporter struct {
	Address string           `json:"address"`
	Sends   string           `json:"sends"` // for people
	Records map[string]int64 `json:"records"`
	Lost    int64            `json:"lost"`          // in the unit of the protocol's sequence numbers
	Clock   float64          `json:"clock_seconds"` // ahead of this machine's
}

func newExporter(s flow.Status) Exporter {
	e := Exporter{Address: s.Exporter, Sends: s.Sends, Lost: s.Dropped, Clock: math.Round(s.Clock.Seconds()), Records: map[string]int64{
		"empty": s.Empty, "other_direction": s.OtherWay, "no_template": s.NoTemplate,
	}}
	for o, n := range s.Records {
		e.Records[frame.Outcome(o).String()] = n
	}
	return e
}

// wrongClock is how much an exporter's clock may differ. The time of a datagram is given in seconds.
const wrongClock = 5 * time.Second

// exporterFinding says what an exporter sends, and what is wrong with that.
func exporterFinding(s flow.Status) Finding {
	f := Finding{Name: "exporter", Interface: s.Exporter}
	all := s.OtherWay + s.Empty
	for _, n := range s.Records {
		all += n
	}
	f.Summary = fmt.Sprintf("%s; %d records, %d of them of monitored addresses", s.Sends, all, s.Records[frame.Counted])
	if n := s.Records[frame.Malformed]; n > 0 {
		f.atLeast(Warning)
		f.detail("%d records or datagrams are malformed", n)
	}
	if s.OtherWay > 0 {
		f.atLeast(Info)
		f.detail("%d records do not count, as they are of the other direction: if the exporter reports each flow once, --flow-direction=both counts them", s.OtherWay)
	}
	if s.NoTemplate > 0 {
		f.atLeast(Warning)
		f.detail("the template of %d sets of data did not come: have the exporter send its templates each minute", s.NoTemplate)
	}
	if lost := s.Dropped - s.NoTemplate; lost > 0 {
		f.atLeast(Warning)
		f.detail("%d are missing between the sequence numbers, which count %s", lost, s.Unit)
	}
	if s.HasClock && s.Clock.Abs() > wrongClock {
		way := "ahead of"
		if s.Clock < 0 {
			way = "behind"
		}
		f.atLeast(Info)
		f.detail("its clock is %v %s this machine's; promflow does not depend on it", s.Clock.Abs().Round(time.Second), way)
	}
	return f
}

// receivingFinding says whether anybody has sent something to the address for exporters.
func receivingFinding(s flow.Status, exporters int) Finding {
	f := Finding{Name: "receiving"}
	switch exporters {
	case 0:
		f.set(Warning, "nobody has sent anything to %s", s.Exporter)
		f.detail("exporters report when a flow ends, or each minute or so: check for longer, as with --duration=2m")
		f.detail("does a firewall let UDP through to this port?")
	case 1:
		f.set(OK, "1 exporter sends to %s", s.Exporter)
	default:
		f.set(OK, "%d exporters send to %s", exporters, s.Exporter)
	}
	if n := s.Records[frame.Malformed]; n > 0 {
		f.atLeast(Warning)
		f.detail("%d datagrams of others are malformed: is it the protocol of --capture?", n)
	}
	switch {
	case s.Refused > 0 && s.Full:
		f.atLeast(Warning)
		f.detail("%d datagrams were refused, the last one from %v, as there are too many exporters", s.Refused, s.LastRefused)
	case s.Refused > 0:
		f.atLeast(Warning)
		f.detail("%d datagrams were refused, the last one from %v: add it to --flow-exporters if it may send", s.Refused, s.LastRefused)
	}
	if s.Dropped > 0 {
		f.atLeast(Warning)
		f.detail("the kernel dropped %d datagrams, as the receive buffer was full", s.Dropped)
	}
	return f
}
