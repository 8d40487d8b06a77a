package telemetry

import "time"

// SetClock has s begin now and go on by another clock.
func (s *Source) SetClock(clock func() time.Time) {
	s.clock = clock
	s.begin = truncate(clock())
	s.last = s.begin
}
