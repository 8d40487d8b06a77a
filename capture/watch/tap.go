package watch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"promflow/capture"
)

// tap is the capture on interfaces of one name, and what they have counted under this name.
type tap struct {
	name   string
	found  bool // by a glob
	log    *slog.Logger
	counts capture.Status

	attachment
	left     time.Time      // when it last lost its interface
	err      error          // why the interface cannot be captured
	failed   int            // index of the interface with which an attempt failed since the last retry; 0 for none
	said     string         // the last error that was logged since it was captured
	repeated rate.Sometimes // logs that error
	retired  []*feed        // earlier sources that are not closed yet
}

// attachment is a source and its interface. It goes to another tap when the interface gets that name.
type attachment struct {
	source *feed             // nil while a tap that was found has no interface
	to     capture.Interface // as it was when it was attached; Index is 0 for none
	up     bool              // the state that was logged last
}

// feed is a source.
type feed struct {
	capture.Source
	taken  capture.Status     // what of its counts is in those of taps
	cancel context.CancelFunc // nil before it runs
	of     *tap               // that is to close it when it has run, nil if the Watch does
}

// status returns the counts of the name, and whether an interface of this name is up.
func (t *tap) status() capture.Status {
	for _, f := range t.retired {
		t.take(f)
	}
	t.counts.Up = false
	if t.source != nil {
		t.take(t.source)
		t.counts.Up = t.source.taken.Up
	}
	return t.counts
}

// take adds to the counts of the name what a source has counted since the last call.
func (t *tap) take(f *feed) {
	now := f.Status()
	addStatus(&t.counts, f.taken, now)
	f.taken = now
}

// addStatus adds to a sum how much counts have grown.
func addStatus(sum *capture.Status, before, now capture.Status) {
	sum.Dropped += now.Dropped - before.Dropped
	for o := range sum.Outcomes {
		sum.Outcomes[o].Packets += now.Outcomes[o].Packets - before.Outcomes[o].Packets
		sum.Outcomes[o].Bytes += now.Outcomes[o].Bytes - before.Outcomes[o].Bytes
	}
}

func (t *tap) open(c capture.Capture) error {
	source, err := c.Open()
	if err != nil {
		return fmt.Errorf("interface %s: %w", t.name, err)
	}
	t.source = &feed{Source: source}
	return nil
}

// sayAgain is the interval at which the same error is logged again: an attempt is made each second.
const sayAgain = 10 * time.Minute

// complain logs the error.
func (t *tap) complain() {
	if text := t.err.Error(); t.said != text {
		t.said, t.repeated = text, rate.Sometimes{Interval: sayAgain}
	}
	t.repeated.Do(func() { t.log.Error("interface cannot be captured: trying again", "interface", t.name, "error", t.err) })
}
