package usage

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"promflow/app/history"
)

func berlin(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestSpan(t *testing.T) {
	zone := berlin(t)
	now := time.Date(2026, 11, 5, 18, 24, 30, 0, zone) // a Thursday
	for _, c := range []struct {
		period   string
		startsOn int
		from, to string
	}{
		{"today", 1, "2026-11-05 00:00 +0100", "2026-11-06 00:00 +0100"},
		{"yesterday", 1, "2026-11-04 00:00 +0100", "2026-11-05 00:00 +0100"},
		{"week", 1, "2026-11-02 00:00 +0100", "2026-11-06 00:00 +0100"},
		{"month", 1, "2026-11-01 00:00 +0100", "2026-12-01 00:00 +0100"},
		{"month", 15, "2026-10-15 00:00 +0200", "2026-11-15 00:00 +0100"},
		{"last-month", 1, "2026-10-01 00:00 +0200", "2026-11-01 00:00 +0100"},
		{"last-month", 31, "2026-09-30 00:00 +0200", "2026-10-31 00:00 +0100"},
		{"24h", 1, "2026-11-04 19:00 +0100", "2026-11-05 19:00 +0100"},
		{"1h", 1, "2026-11-05 18:00 +0100", "2026-11-05 19:00 +0100"},
		{"31d", 1, "2026-10-06 00:00 +0200", "2026-11-06 00:00 +0100"},
		{"12mo", 1, "2025-12-01 00:00 +0100", "2026-12-01 00:00 +0100"},
		{"2026-10-25", 1, "2026-10-25 00:00 +0200", "2026-10-26 00:00 +0100"},
		{"2026-10", 1, "2026-10-01 00:00 +0200", "2026-11-01 00:00 +0100"},
		{"2026-10", 15, "2026-10-15 00:00 +0200", "2026-11-15 00:00 +0100"},
		{"2026-02", 31, "2026-02-28 00:00 +0100", "2026-03-31 00:00 +0200"},
		{"2026-10-01..2026-10-02", 1, "2026-10-01 00:00 +0200", "2026-10-03 00:00 +0200"},
		{"2026-01..2026-03", 1, "2026-01-01 00:00 +0100", "2026-04-01 00:00 +0200"},
		{"2026-10-01T10:00..2026-10-01T10:05", 1, "2026-10-01 10:00 +0200", "2026-10-01 10:05 +0200"},
		{"2026-10-01 10:00..2026-10-02", 1, "2026-10-01 10:00 +0200", "2026-10-03 00:00 +0200"},
		{"2026-10-01T10:00:00Z..2026-10-01T14:00+02:00", 1, "2026-10-01 10:00 +0000", "2026-10-01 14:00 +0200"},
		{"2026-11-01..", 1, "2026-11-01 00:00 +0100", "2026-11-05 18:25 +0100"},
		{"..2026-11-01", 1, "", "2026-11-02 00:00 +0100"},
		{"..", 1, "", "2026-11-05 18:25 +0100"},
	} {
		t.Run(c.period, func(t *testing.T) {
			from, to, err := Span(c.period, now, history.Calendar{Zone: zone, MonthStartsOn: c.startsOn})
			if err != nil {
				t.Fatal(err)
			}
			const layout = "2006-01-02 15:04 -0700"
			begin := ""
			if !from.IsZero() {
				begin = from.Format(layout)
			}
			if begin != c.from || to.Format(layout) != c.to {
				t.Errorf("from %s to %s, want %s to %s", begin, to.Format(layout), c.from, c.to)
			}
		})
	}
	for period, want := range map[string]string{
		"": "expected", "tomorrow": "expected", "0h": "expected", "-1d": "expected", "99999h": "expected", "3m": "expected", "2026-13": "expected",
		"2026-02-30": "expected", "1969-12": "expected", "9999-01": "expected", "2026-10-01T10:00": "expected", "a..b": "expected",
		"2026-11..2026-10": "and begins at", "2026-10-01T10:00..2026-10-01T10:00": "and begins at",
		"2027-01..": "which is not yet",
	} {
		if _, _, err := Span(period, now, history.Calendar{Zone: zone}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %s", period, err, want)
		}
	}
}

func FuzzSpan(f *testing.F) {
	for _, period := range []string{"today", "12mo", "2026-10..", "..2026-10-01", "2026-10-01T10:00:00Z..2026-10-01T14:00+02:00"} {
		f.Add(period, int64(1_800_000_000), uint8(31))
	}
	zone := berlin(f)
	f.Fuzz(func(t *testing.T, period string, at int64, startsOn uint8) {
		now := time.Unix(at%(200*365*86400), 0)
		from, to, err := Span(period, now, history.Calendar{Zone: zone, MonthStartsOn: int(startsOn)})
		if err == nil && !from.Before(to) {
			t.Errorf("from %v to %v", from, to)
		}
	})
}
