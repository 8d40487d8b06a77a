// Package capture counts the packets of network interfaces by IP address.
//
// Packets go one way. A backend, one of the folders in capture/backend, opens a [Source] for each interface. The source decodes packets
// with package frame and gives them to a [Counter], which drops those outside the monitored subnets. The counter adds the others to the
// [Table], which all sources share and each scrape reads. A backend that decodes and counts in the kernel adds totals instead of packets.
//
// The table has totals by address, or by prefix, and by labels if it has a [labels.Grouping]. The grouping knows what labels mean, the
// table keeps within its limits.
//
// Package flow has sources of another kind: it collects what routers and switches report of the packets that they have counted themselves.
//
// Package watch knows which interfaces exist, and attaches sources to them.
//
// A backend is one folder in capture/backend with the name that --capture has for it. To add one, write its folder, pass the conformance
// suite of package capturetest, and add one line to the list in app/live.
package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"promflow/capture/frame"
)

// Backend is a way to count the packets of live interfaces.
type Backend struct {
	Name         string // as in --capture and on the metrics page
	Capabilities string // Linux capabilities that it needs, in the notation of setcap(8)

	// Open prepares to capture on up to so many interfaces at a time. The error of a backend that cannot run here says why. It wraps
	// errors.ErrUnsupported if the kernel or system lacks something, and os.ErrPermission as a *MissingCapabilityError if the process
	// lacks a capability.
	Open func(c Config, interfaces int) (Capture, error)
}

// Unsupported returns the Open of a backend that cannot run on this system, because it needs another one.
func Unsupported(needs string) func(Config, int) (Capture, error) {
	return func(Config, int) (Capture, error) {
		return nil, fmt.Errorf("%s, this is %s/%s: %w", needs, runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
	}
}

// Config configures a capture.
type Config struct {
	Table       *Table
	Promiscuous bool // ask interfaces for frames that are not addressed to this machine
	Mirror      bool // drop frames that are not for this machine, once they were counted; only some backends can
	Changes     bool // the table's subnets may change while sources are open
	Log         *slog.Logger
}

// Capture is what the sources of a backend share. Its methods are safe for concurrent use, but not with Close.
type Capture interface {
	// Open opens a source that is not attached yet. It needs CAP_NET_RAW if the backend does. What follows needs only the capabilities
	// of Keeps.
	Open() (Source, error)

	// Keeps returns the capabilities that are needed after sources are open, such as cap_bpf: none on a recent kernel if subnets do not
	// change.
	Keeps() []string

	// Update has all sources count by the subnets that the table has now, from one packet to the next: none is lost or counted twice. If it
	// fails, they go on as before. It may be called only if Changes is set.
	Update() error

	// Read adds what the kernel has counted since the last call to the table, and takes expired addresses out of the kernel if it needs
	// their room. It does nothing if sources add each packet. It is called before each scrape and at intervals. What it cannot
	// read, the next call reads.
	Read() error

	// Close releases all resources, after the sources were closed and Read was called: what was not read is lost.
	Close() error
}

// Opener is the Capture of a backend whose sources share nothing and add each packet to the table: a function that opens a source.
type Opener func() (Source, error)

// Open calls the function.
func (o Opener) Open() (Source, error) { return o() }

// Keeps returns nothing.
func (Opener) Keeps() []string { return nil }

// Update does nothing: counters look at the table.
func (Opener) Update() error { return nil }

// Read does nothing.
func (Opener) Read() error { return nil }

// Close does nothing.
func (Opener) Close() error { return nil }

// Source is a capture on one interface at a time. Its counts add up over all interfaces that it was attached to.
type Source interface {
	// Attach starts to capture on an interface, and stops on the one before. After it has returned, no packet is missed while the
	// interface is up, until it is deleted or moved to another network namespace. It is called in the network namespace of Open.
	Attach(Interface) error

	// Detach stops: packets that arrive after it has returned are not counted. It is not needed if the interface is gone.
	Detach() error

	// Follow tells what the attached interface is like from now on: it may have another name, another MAC address, or be shared.
	Follow(Interface)

	// Run counts packets until ctx ends. Then it stops the capture, counts the packets that the kernel still holds for it, and returns
	// nil. It is called at most once.
	Run(ctx context.Context) error

	// Status is safe for concurrent use, during Run and after.
	Status() Status

	// Close releases all resources, after Run has returned or instead of Run.
	Close() error
}

// Interface is a network interface of this machine.
type Interface struct {
	Name     string
	Index    int
	Ethernet bool // frames begin with an Ethernet header; else the kernel says where the network layer begins
	Loopback bool // sent packets come back as received packets
	MTU      int  // in network-layer bytes; 0 if it is not known

	Address [6]byte // the MAC address; 0 if there is none

	// Shared names what takes frames to other MAC addresses from it: a bridge, a bond, a macvlan device. It is empty if nothing does, or
	// Config.Mirror is not set.
	Shared string
}

// Status is the state of a source at one instant.
type Status struct {
	Up       bool                        // it is attached to an interface that exists and is up
	Dropped  int64                       // packets that the kernel dropped before they were counted
	Outcomes [frame.Outcomes]OutcomeSize // all other packets, by outcome
}

// OutcomeSize is how much had one outcome: packets on the wire, and network-layer bytes (frame bytes if there is no IP header).
type OutcomeSize struct{ Packets, Bytes int64 }

// MissingCapabilityError says that the process lacks a Linux capability.
type MissingCapabilityError struct {
	Capability string // such as cap_net_raw
	Doing      string // what needs it
	Err        error  // of the kernel; wraps os.ErrPermission
}

func (e *MissingCapabilityError) Error() string {
	return e.Doing + ": " + e.Err.Error() + " (needs " + e.Capability + ")"
}

func (e *MissingCapabilityError) Unwrap() error { return e.Err }
