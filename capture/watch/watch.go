// Package watch keeps a capture on the network interfaces that are asked for, as they come and go.
//
// An interface is what is called so now: one that is deleted and made anew, or gets its name from another, is captured as soon as
// the kernel says that it is there, which is before it is up, so that nothing is missed. One that is renamed is gone, unless
// its new name is asked for, too. The kernel tells by netlink (rtnetlink(7)), which takes no privilege.
//
// The source of an interface that is asked for by name is opened at the start and kept for good: it is attached again without any
// privilege. Globs open sources as interfaces appear, for which [Watch.Keeps] names a capability.
package watch

import (
	"log/slog"

	"promflow/capture"
)

// Interfaces that globs find: so many are captured at a time, and the counts of so many that are gone are kept by name.
const (
	maxFound = 1024
	maxGone  = 1024
)

// Config says what to keep a capture on.
type Config struct {
	Names   Names
	Capture capture.Capture
	Log     *slog.Logger
}

// Room is how many interfaces a capture must be prepared for.
func (n Names) Room() int {
	if len(n.Globs) > 0 {
		return len(n.Exact) + maxFound
	}
	return len(n.Exact)
}

// Status is the state of the capture on an interface.
type Status struct {
	Interface string // Gone for interfaces that were forgotten
	capture.Status
}

// Gone is the name under which counts of interfaces add up that globs found, and that have been gone for longer than others.
const Gone = "other"
