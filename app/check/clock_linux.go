package check

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// clockSince checks the system clock, which gives Prometheus and collectors the times of counts.
func clockSince(begin time.Time) Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	now := time.Now()
	return clockFinding(state, &t, err, now.Round(0).Sub(begin.Round(0)), now.Sub(begin))
}

// maxStep is how much the clock may be adjusted during a check.
const maxStep = 100 * time.Millisecond

// clockFinding judges an answer of adjtimex(2), and how far the wall clock and the monotonic clock have advanced during the check.
func clockFinding(state int, t *unix.Timex, err error, wall, monotonic time.Duration) Finding {
	f := Finding{Name: "clock", Summary: "synchronised"}
	switch {
	case err != nil:
		f.set(Info, "the kernel does not tell whether it is synchronised: %v", err)
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		f.set(Warning, "not synchronised, as far as the kernel knows")
		f.detail("counts do not depend on it; the times of pushes do")
	default:
		f.detail("at most %v off", time.Duration(t.Maxerror)*time.Microsecond)
	}
	if step := wall - monotonic; step.Abs() > maxStep {
		f.atLeast(Warning)
		f.detail("it was set by %v while promflow counted", fmt.Sprintf("%+v", step.Round(time.Millisecond)))
	}
	return f
}
