// Package check tells whether promflow would work here: it captures for some seconds as the program would, compares what was
// counted with the counters that the kernel keeps of each interface, and asks everything around it what state it is in.
//
// # What the kernel's counters mean
//
// An interface's counters have every frame with its link header, and leave it to the driver what a frame is: most count a segment
// that was merged (GRO, LRO), or is yet to be split (TSO), as one frame, while promflow counts the packets on the wire, each with
// its headers. So neither packets nor bytes are the same in general. As measured with veth (with and without TSO and GRO):
//
//   - Without merged segments, packets are equal to the last one: those of all outcomes and the dropped ones together are what the
//     kernel received and transmitted.
//   - With merged segments the kernel has fewer packets, and fewer bytes by the headers that it has once where the wire has them
//     often: 52 for each TCP packet with timestamps over IPv4.
//   - Bytes have 14 of an Ethernet header in each frame, or none where a driver counts after it has taken it off, as veth does
//     when it merges (GRO).
//
// A device may also have its driver refresh the counters now and then only, such as once a second. With traffic that comes and goes,
// a check should take longer then.
//
// The share that promflow sees is therefore a bound from above, and exact where nothing was merged: see share.
package check

import (
	"context"
	"log/slog"
	"time"

	"promflow/capture"
	"promflow/capture/subnets"
)

// Setup is what is to be checked.
type Setup struct {
	Interfaces  []string // as the program was told, maybe patterns
	Monitored   subnets.Set
	Excluded    subnets.Set
	Promiscuous bool
	Duration    time.Duration // how long to count, unless the context ends before
	Log         *slog.Logger  // is told, for debugging, when counting begins

	// Open begins to capture as the program would, and then gives up privileges, which may be a *DropError. What it logs as a warning
	// becomes part of the report.
	Open func(context.Context, *slog.Logger) (*Capture, error)

	// MetricsAddress is where the page would be served: host:port, empty for nowhere.
	MetricsAddress string
	Refused        error // why that cannot be, nil if it can

	// Push sends nothing to the collector as the program would send counts, and gives the collector's address for messages,
	// even with an error. It is nil where the program would push nothing.
	Push func(context.Context) (endpoint string, err error)

	// Others are findings about what this package does not know of.
	Others []Finding
}

// DropError is why privileges cannot be given up once a capture is open, or why promflow would not run with what is left.
type DropError struct{ Err error }

func (e *DropError) Error() string { return e.Err.Error() }

func (e *DropError) Unwrap() error { return e.Err }

// Capture is a capture that is under way.
type Capture struct {
	Backend string
	Keeps   []string // capabilities that it needs for as long as it lasts
	Table   *capture.Table
	Read    func() map[string]capture.Status // of each interface; the table is up to date then
	Stop    func() error                     // counts what has come until now, and nothing that comes later; Read still works
	Close   func() error                     // frees everything, after Stop
}
