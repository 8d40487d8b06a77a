package usage

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"promflow/app/history"
)

// SpanHelp says what periods there are.
const SpanHelp = "today, yesterday, week, month, last-month, the last hours, days or months as in 24h, 31d or 12mo, a day as in 2026-11-30, " +
	"a month as in 2026-11, or FROM..TO"

// Span parses a period: when it begins, and when it ends. What begins with history itself has a zero begin. A week begins on Monday. The last
// hours, days and months have the one that has not ended. FROM and TO are months and days, which TO includes, or times such as
// 2026-11-30T18:00, maybe with an offset as in RFC 3339; either may be missing.
func Span(period string, now time.Time, c history.Calendar) (from, to time.Time, err error) {
	now = now.In(c.Zone)
	year, month, day := now.Date()
	switch period {
	case "today":
		return c.Start(history.Day, now), c.End(history.Day, now), nil
	case "yesterday":
		return c.Back(history.Day, now, 1), c.Start(history.Day, now), nil
	case "week":
		monday := noon(year, month, day-(int(now.Weekday())+6)%7, c)
		return c.Start(history.Day, monday), c.End(history.Day, now), nil
	case "month":
		return c.Start(history.Month, now), c.End(history.Month, now), nil
	case "last-month":
		return c.Back(history.Month, now, 1), c.Start(history.Month, now), nil
	}
	for _, each := range []struct {
		suffix string
		r      history.Resolution
		most   int
	}{{"h", history.Hour, 10000}, {"d", history.Day, 10000}, {"mo", history.Month, 1200}} {
		if digits, ok := strings.CutSuffix(period, each.suffix); ok {
			if n, err := strconv.Atoi(digits); err == nil && n > 0 && n <= each.most {
				return c.Back(each.r, now, n-1), c.End(each.r, now), nil
			}
		}
	}
	first, last, isSpan := strings.Cut(period, "..")
	if !isSpan {
		last = first
	}
	wrong := func() (_, _ time.Time, err error) {
		return from, to, fmt.Errorf("expected %s", SpanHelp)
	}
	if first == "" && !isSpan {
		return wrong()
	}
	to = c.End(history.FiveMinutes, now)
	var ok bool
	if first != "" {
		if from, _, ok = instant(first, c); !ok {
			return wrong()
		}
	}
	if last != "" {
		if _, to, ok = instant(last, c); !ok {
			return wrong()
		}
	}
	if !isSpan && !to.After(from) { // a time is no period
		return wrong()
	}
	if last == "" && !from.Before(to) {
		return from, to, fmt.Errorf("it begins at %s, which is not yet", from.Format(time.RFC3339))
	}
	if !from.Before(to) {
		return from, to, fmt.Errorf("it ends at %s, and begins at %s", to.Format(time.RFC3339), from.Format(time.RFC3339))
	}
	return from, to, nil
}

// noon is an instant that is on a date in every zone.
func noon(year int, month time.Month, day int, c history.Calendar) time.Time {
	return time.Date(year, month, day, 12, 0, 0, 0, c.Zone)
}

// instant parses a month, a day or a time, and returns when it begins and ends.
func instant(text string, c history.Calendar) (begin, end time.Time, ok bool) {
	inRange := func(t time.Time) bool { return t.Year() >= 1970 && t.Year() < 2200 }
	if t, err := time.Parse("2006-01", text); err == nil {
		last := noon(t.Year(), t.Month()+1, 0, c) // when a month has begun that starts on any day
		return c.Start(history.Month, last), c.End(history.Month, last), inRange(t)
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		at := noon(t.Year(), t.Month(), t.Day(), c)
		return c.Start(history.Day, at), c.End(history.Day, at), inRange(t)
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04Z07:00", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, c.Zone); err == nil {
			return t, t, inRange(t)
		}
	}
	return begin, end, false
}
