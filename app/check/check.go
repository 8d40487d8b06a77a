// Package check tests whether promflow works here. It captures for some seconds as the program would, compares its counts with the kernel's
// counters of each interface, and tests what promflow depends on.
//
// # What the kernel's counters mean
//
// The kernel's counters include link headers, and the driver decides what a frame is. Most drivers count a segment that was merged (GRO,
// LRO), or that will be split (TSO), as one frame. promflow counts the packets on the wire, each with its headers. So neither packets nor
// bytes are equal in general. Measured with veth, with and without TSO and GRO:
//
//   - Without merged segments, packets agree exactly: the packets of all outcomes and the dropped ones together are what the kernel
//     received and transmitted.
//   - With merged segments the kernel counts fewer packets. It also counts fewer bytes, since a merged segment has its headers once: 52
//     bytes fewer for each further TCP packet with timestamps over IPv4.
//   - Bytes include 14 of an Ethernet header in each frame. They do not if the driver counts after it has removed the header, as veth
//     does when it merges (GRO) or runs XDP.
//
// Some drivers refresh the counters only now and then, such as once a second. If traffic comes in bursts, a check should take longer there.
//
// With --mirror, XDP drops packets once promflow has counted them. Most drivers have them among those that they received. Some count them in
// statistics of their own (ethtool -S), and of the others it is not known: see dropsOf.
//
// The share of packets that promflow saw is therefore an upper bound, and exact where nothing was merged: see share.
package check

import (
	"context"
	"log/slog"
	"time"

	"promflow/capture"
	"promflow/capture/flow"
	"promflow/capture/watch"
)

// Setup says what to check.
type Setup struct {
	Interfaces  []string // names and globs, as the program gets them
	Promiscuous bool
	Mirror      bool          // with --capture=xdp: what is for other machines is dropped, once it is counted
	Duration    time.Duration // how long to count; less if the context ends before
	Log         *slog.Logger  // gets a debug message when counting begins

	// Open opens a capture that fills the table, as the program would, and returns its backend's name, too. Then Drop gives up privileges
	// but for these capabilities; an error says why promflow would not run. The report includes the warnings that they log.
	Open  func(*slog.Logger) (c Capture, backend string, err error)
	Drop  func(keep []string, log *slog.Logger) error
	Table *capture.Table

	Addresses []Address // that would serve the metrics page

	// Push sends an empty push to the collector as the program would. It returns the collector's address for messages, even with an error.
	// It is nil if the program would not push.
	Push func(context.Context) (endpoint string, err error)

	// Others are findings of the caller.
	Others []Finding
}

// Address is where promflow would serve the metrics page.
type Address struct {
	Text    string // as the user wrote it
	Network string // of package net, for a client on this machine
	Local   string // the address for that client
	Refused error  // why promflow cannot listen there, or nil
}

// Capture is an open capture.
type Capture interface {
	Keeps() []string                // capabilities that it needs while it runs
	Run(context.Context) error      // counts packets until the context ends
	Read()                          // brings the table and the statuses up to date, after Run, too
	Statuses() (all []watch.Status) // of the interfaces
	Exporters() []flow.Status       // of the address for flow exporters, and of those; nil for a capture on interfaces
	Close() error                   // frees everything, after Run has returned or instead of Run
}
