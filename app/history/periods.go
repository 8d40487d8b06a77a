package history

import "time"

// Resolution is a length of the periods that volumes are kept by.
type Resolution uint8

// The resolutions, from the finest on.
const (
	FiveMinutes Resolution = iota
	Hour
	Day
	Month
	resolutions
)

func (r Resolution) String() string { return [resolutions]string{"5m", "1h", "1d", "1mo"}[r] }

// Calendar divides time into periods.
//
// A day is the time in which the clocks of a zone show its date: it has 23 or 25 hours when they change. An hour and five minutes are cut
// where they change, so that an hour that comes twice is two periods. A period is known by the instant at which it starts.
type Calendar struct {
	Zone          *time.Location
	MonthStartsOn int // a day of the month; the last one where a month is shorter
}

// Start returns when the period of an instant starts.
func (c Calendar) Start(r Resolution, t time.Time) time.Time {
	t = t.In(c.Zone)
	switch r {
	case FiveMinutes:
		return c.cut(t, 5*time.Minute)
	case Hour:
		return c.cut(t, time.Hour)
	case Day:
		return c.firstOf(t.Date())
	}
	year, month, day := t.Date()
	if day < c.monthStart(year, month) {
		month--
	}
	return c.firstOf(year, month, c.monthStart(year, month))
}

// End returns when the period of an instant ends, and the next one starts.
func (c Calendar) End(r Resolution, t time.Time) time.Time {
	t = t.In(c.Zone)
	switch r {
	case FiveMinutes, Hour:
		length := 5 * time.Minute
		if r == Hour {
			length = time.Hour
		}
		end := t.Add(length - sinceFull(t, length))
		if _, change := t.ZoneBounds(); !change.IsZero() && change.Before(end) {
			return change
		}
		return end
	case Day:
		year, month, day := t.Date()
		return c.firstOf(year, month, day+1)
	}
	year, month, day := t.Date()
	if day >= c.monthStart(year, month) {
		month++
	}
	return c.firstOf(year, month, c.monthStart(year, month))
}

// Back returns when the period starts that is n periods before that of an instant.
func (c Calendar) Back(r Resolution, t time.Time, n int) time.Time {
	start := c.Start(r, t)
	for range n {
		start = c.Start(r, start.Add(-1))
	}
	return start
}

// monthStart returns on which day a month starts. The month may be outside the year.
func (c Calendar) monthStart(year int, month time.Month) int {
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return min(max(c.MonthStartsOn, 1), last)
}

// cut returns when the length of time began that clocks count t in, or when they were last changed, whichever is later.
func (c Calendar) cut(t time.Time, length time.Duration) time.Time {
	start := t.Add(-sinceFull(t, length))
	if change, _ := t.ZoneBounds(); change.After(start) {
		return change
	}
	return start
}

// sinceFull returns how long ago clocks showed a multiple of length, which divides an hour.
func sinceFull(t time.Time, length time.Duration) time.Duration {
	_, minute, second := t.Clock()
	return (time.Duration(minute)*time.Minute + time.Duration(second)*time.Second + time.Duration(t.Nanosecond())) % length
}

// firstOf returns the first instant of a date, or of the next one where a zone left it out, as Samoa did when it crossed the date line. Clocks
// may show midnight never or twice on a date: time.Date would choose one of two zones.
func (c Calendar) firstOf(year int, month time.Month, day int) time.Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	for from := midnight.Add(-36 * time.Hour).In(c.Zone); ; { // zones are within 14 hours of UTC
		_, offset := from.Zone()
		begin, end := from.ZoneBounds()
		at := midnight.Add(-time.Duration(offset) * time.Second).In(c.Zone)
		if !begin.IsZero() && at.Before(begin) {
			at = begin
		}
		if at.Before(end) || !end.After(from) { // or there is no end
			return at
		}
		from = end.In(c.Zone)
	}
}
