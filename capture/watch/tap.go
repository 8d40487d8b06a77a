package watch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"promflow/capture"
)

// tap is the capture on what has a name.
type tap struct {
	name  string
	found bool // by a glob
	log   *slog.Logger

	attachment
	left     time.Time // when it was last gone
	err      error     // why it could not be captured
	said     string    // the last error that was logged, since it was captured
	saidAt   time.Time
	retiring []capture.Source // earlier ones that still count
	before   capture.Status   // what those have counted that have ended, or for it before they went to another name; less the reverse
}

// attachment is a source, and what it is attached to.
type attachment struct {
	source   capture.Source // nil while a tap that was found is gone
	index    int            // of the device; 0 is none
	ethernet bool           // what the device was when it was attached
	loopback bool
	up       bool // as was logged last
	cancel   context.CancelFunc
	ended    chan struct{}
}

// now is the status of its source.
func (a *attachment) now() capture.Status {
	if a.source == nil {
		return capture.Status{}
	}
	return a.source.Status()
}

func (t *tap) open(c capture.Capture) error {
	source, err := c.Open()
	if err != nil {
		return fmt.Errorf("interface %s: %w", t.name, err)
	}
	t.source, t.cancel, t.ended = source, nil, nil
	return nil
}

// attached takes note of what its source is attached to by now.
func (t *tap) attached(to capture.Interface) {
	t.index, t.ethernet, t.loopback = to.Index, to.Ethernet, to.Loopback
	t.said = ""
}

// sayAgain is the time after which an error that stays the same is logged again: attempts come each second.
const sayAgain = 10 * time.Minute

// complains tells whether its error is to be logged.
func (t *tap) complains(now time.Time) bool {
	if t.said == t.err.Error() && now.Sub(t.saidAt) < sayAgain {
		return false
	}
	t.said, t.saidAt = t.err.Error(), now
	return true
}

// status adds up what its sources have counted.
func (t *tap) status() capture.Status {
	s := t.before
	for _, source := range t.retiring {
		addStatus(&s, source.Status(), 1)
	}
	now := t.now()
	addStatus(&s, now, 1)
	s.Up = now.Up
	return s
}

// addStatus adds counts so many times: -1 takes them off.
func addStatus(sum *capture.Status, more capture.Status, times int64) {
	sum.Dropped += times * more.Dropped
	for o := range sum.Outcomes {
		sum.Outcomes[o].Packets += times * more.Outcomes[o].Packets
		sum.Outcomes[o].Bytes += times * more.Outcomes[o].Bytes
	}
}
