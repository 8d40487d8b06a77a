// Package capture counts the packets of network interfaces by address.
//
// Packets go one way: a [Source] is a capture on an interface, opened by one of the backends in the folder backend. It has packets
// decoded by package frame and hands them to a [Counter], which knows the subnets that matter. The counter adds to the [Table],
// which all sources share and which is read for a scrape. A backend whose packets are decoded and selected elsewhere, as in the
// kernel, adds sums instead of packets.
//
// Totals are kept by address, or by prefix, and apart by labels if the table has a [labels.Grouping]: that says what a label's value is, and
// the table has the bounds. A table without one knows nothing of labels.
//
// Which interfaces there are, and when they come and go, is known to package watch: it moves sources from one to another.
//
// A backend is one folder in backend/, named as --capture names it. To add one, write its folder, pass the conformance suite of
// package capturetest, and add one line to the list in app/live.
package capture

import (
	"context"
	"log/slog"

	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// Backend is a way to count the packets of live interfaces.
type Backend struct {
	Name         string // as in --capture and on the metrics page
	Capabilities string // of Linux, that it needs, in the notation of setcap(8)

	// Open prepares to capture on so many interfaces at a time. Where the backend cannot run, its error says why and wraps
	// errors.ErrUnsupported (this kernel or system lacks something) or os.ErrPermission (a capability is missing: then it is
	// a *MissingCapabilityError).
	Open func(c Config, interfaces int) (Capture, error)
}

// Config is what a capture is told.
type Config struct {
	Table               *Table
	Monitored, Excluded subnets.Set
	Promiscuous         bool // ask interfaces for frames that are not addressed to this machine
	Log                 *slog.Logger
}

// Capture is what the sources of a backend have in common. Its methods are safe for concurrent use, but not with Close.
type Capture interface {
	// Open opens a source that is not attached yet. It needs the backend's capabilities, as far as they are CAP_NET_RAW; all
	// that comes after it needs only what Keeps names.
	Open() (Source, error)

	// Keeps names the capabilities that are needed for longer than to open sources, such as cap_bpf: none on a recent kernel.
	Keeps() []string

	// Read brings the table up to date with what the kernel has counted so far, if that is not done packet by packet, and has
	// the kernel forget addresses that have expired where it needs their room. It is called for each scrape, and now and
	// then. What it cannot read appears the next time.
	Read() error

	// Close frees what Open took, after the sources have been closed. Counts were lost if Read was not called since.
	Close() error
}

// Source is a capture on an interface, one at a time. What it has counted and dropped adds up over them.
type Source interface {
	// Attach begins to capture on an interface, and ends to do so on the one before: from its return on, no packet is missed,
	// once the interface is up, until it is deleted or moves to another network namespace.
	Attach(Interface) error

	// Detach ends that: no packet is counted that comes after its return. Of an interface that is gone it is not needed.
	Detach() error

	// Rename has packets that are counted from now on carry another name of the interface that it is attached to, as their label.
	Rename(name string)

	// Run counts packets until ctx ends, then stops the capture, counts what the kernel still held for it and returns nil.
	// It is called at most once.
	Run(ctx context.Context) error

	// Status is safe for concurrent use, during Run and after.
	Status() Status

	// Close frees what Open took, after Run has returned or instead of it.
	Close() error
}

// Interface is a network interface of this machine.
type Interface struct {
	Name     string
	Index    int
	Ethernet bool // frames begin with an Ethernet header; else the network layer begins where the kernel says
	Loopback bool // what is sent comes back as received
}

// Status is the state of a source at one instant.
type Status struct {
	Up       bool                        // frames can arrive: it is attached to an interface that is there and up
	Dropped  int64                       // packets that the kernel dropped before they could be counted
	Outcomes [frame.Outcomes]OutcomeSize // everything else that was seen, by what became of it
}

// OutcomeSize says how much had one outcome: packets on the wire, and network-layer bytes (frame bytes where no IP header
// was found).
type OutcomeSize struct{ Packets, Bytes int64 }

// MissingCapabilityError says that the process lacks a Linux capability.
type MissingCapabilityError struct {
	Capability string // such as cap_net_raw
	Doing      string // what needed it
	Err        error  // what the kernel said; wraps os.ErrPermission
}

func (e *MissingCapabilityError) Error() string {
	return e.Doing + ": " + e.Err.Error() + " (needs " + e.Capability + ")"
}

func (e *MissingCapabilityError) Unwrap() error { return e.Err }
