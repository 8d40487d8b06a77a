// Package capture counts the packets of network interfaces by address.
//
// Packets go one way: a [Source], opened by one of the backends in the folders below, has them decoded by package frame and
// hands them to a [Counter], which knows the subnets that matter. The counter adds to the [Table], which all sources share
// and which is read for a scrape. A source whose packets are decoded and selected elsewhere, as in the kernel, gives the
// counter sums instead of packets.
//
// A backend is one folder, named as --capture names it. To add one, write its folder, pass the conformance suite of
// package capturetest, and add one line to the list in package app.
package capture

import (
	"context"
	"log/slog"

	"promflow/capture/frame"
)

// Backend is a way to count the packets of a live interface.
type Backend struct {
	Name         string // as in --capture and on the metrics page
	Capabilities string // of Linux, that it needs, in the notation of setcap(8)

	// Open starts to capture, so that no packet after its return is missed. Where the backend cannot run, its error says
	// why and wraps errors.ErrUnsupported (this kernel or system lacks something) or os.ErrPermission (a capability is
	// missing: then it is a *MissingCapabilityError).
	Open func(Config, *Counter) (Source, error)
}

// Config is what a backend is told about the interface to capture on.
type Config struct {
	Interface   string
	Promiscuous bool // ask the interface for frames that are not addressed to this machine
	Log         *slog.Logger
}

// Source is an open capture on one interface.
type Source interface {
	// Run counts packets until ctx ends, then stops the capture, counts what the kernel still held for it and returns nil.
	// It is called at most once.
	Run(ctx context.Context) error

	// Status brings the table up to date with what the kernel has counted or dropped so far. It is safe for concurrent
	// use, during Run and after.
	Status() Status

	// Close frees what Open took, after Run has returned or instead of it.
	Close() error
}

// Status is the state of a source at one instant.
type Status struct {
	Interface string
	Backend   string
	Up        bool                        // frames can arrive: the interface is there and up
	Dropped   int64                       // packets that the kernel dropped before they could be counted
	Outcomes  [frame.Outcomes]OutcomeSize // everything else that was seen, by what became of it
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
