package check

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// clock is what the kernel's clock says at its start.
type clock struct{ begin time.Time }

func startClock() clock { return clock{time.Now()} }

// finding is about the system's clock, by which Prometheus and collectors order what they get.
func (c clock) finding() Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	now := time.Now()
	return clockFinding(state, &t, err, now.Round(0).Sub(c.begin.Round(0)), now.Sub(c.begin))
}

// mostStep is by how much the clock may be adjusted during a check.
const mostStep = 100 * time.Millisecond

// clockFinding judges an answer of adjtimex(2), and how far the wall clock and the monotonic clock have gone since the start.
func clockFinding(state int, t *unix.Timex, err error, wall, monotonic time.Duration) Finding {
	f := Finding{Name: "clock", Summary: "synchronised"}
	switch {
	case err != nil:
		f.Status = Info
		f.Summary = "the kernel does not tell whether it is synchronised: " + err.Error()
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		f.Status = Warning
		f.Summary = "not synchronised, as far as the kernel knows"
		f.detail("counts do not depend on it; the times of pushes do")
	default:
		f.detail("at most %v off", time.Duration(t.Maxerror)*time.Microsecond)
	}
	if step := wall - monotonic; step.Abs() > mostStep {
		f.atLeast(Warning)
		f.detail("it was set by %v while promflow counted", fmt.Sprintf("%+v", step.Round(time.Millisecond)))
	}
	return f
}
