package history

import (
	"testing"
	"time"
	_ "time/tzdata"
)

// zone returns a time zone.
func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestPeriods(t *testing.T) {
	const layout = "2006-01-02 15:04:05 -0700"
	for _, c := range []struct {
		name, zone string
		resolution Resolution
		startsOn   int
		at         string // UTC
		start, end string
	}{
		{"five minutes", "Europe/Berlin", FiveMinutes, 1, "2026-02-03T04:59:59Z", "2026-02-03 05:55:00 +0100", "2026-02-03 06:00:00 +0100"},
		{"an hour", "Europe/Berlin", Hour, 1, "2026-02-03T04:59:59Z", "2026-02-03 05:00:00 +0100", "2026-02-03 06:00:00 +0100"},
		{"an hour of half an hour's zone", "Asia/Kolkata", Hour, 1, "2026-02-03T04:40:00Z", "2026-02-03 10:00:00 +0530", "2026-02-03 11:00:00 +0530"},
		{"before summer time", "Europe/Berlin", Hour, 1, "2026-03-29T00:59:00Z", "2026-03-29 01:00:00 +0100", "2026-03-29 03:00:00 +0200"},
		{"after summer time begins", "Europe/Berlin", Hour, 1, "2026-03-29T01:00:00Z", "2026-03-29 03:00:00 +0200", "2026-03-29 04:00:00 +0200"},
		{"the hour that comes twice, first", "Europe/Berlin", Hour, 1, "2026-10-25T00:30:00Z", "2026-10-25 02:00:00 +0200", "2026-10-25 02:00:00 +0100"},
		{"the hour that comes twice, second", "Europe/Berlin", Hour, 1, "2026-10-25T01:30:00Z", "2026-10-25 02:00:00 +0100", "2026-10-25 03:00:00 +0100"},
		{"half an hour that comes twice", "Australia/Lord_Howe", Hour, 1, "2026-04-04T15:10:00Z", "2026-04-05 01:30:00 +1030", "2026-04-05 02:00:00 +1030"},
		{"a day", "Europe/Berlin", Day, 1, "2026-02-03T23:30:00Z", "2026-02-04 00:00:00 +0100", "2026-02-05 00:00:00 +0100"},
		{"a day of 23 hours", "Europe/Berlin", Day, 1, "2026-03-29T12:00:00Z", "2026-03-29 00:00:00 +0100", "2026-03-30 00:00:00 +0200"},
		{"a day of 25 hours", "Europe/Berlin", Day, 1, "2026-10-25T12:00:00Z", "2026-10-25 00:00:00 +0200", "2026-10-26 00:00:00 +0100"},
		{"a day without midnight", "America/Santiago", Day, 1, "2026-09-06T12:00:00Z", "2026-09-06 01:00:00 -0300", "2026-09-07 00:00:00 -0300"},
		{"a day with two midnights", "America/Havana", Day, 1, "2026-11-01T12:00:00Z", "2026-11-01 00:00:00 -0400", "2026-11-02 00:00:00 -0500"},
		{"a day before one that was left out", "Pacific/Apia", Day, 1, "2011-12-30T09:00:00Z", "2011-12-29 00:00:00 -1000", "2011-12-31 00:00:00 +1400"},
		{"a month", "Europe/Berlin", Month, 1, "2026-03-31T22:30:00Z", "2026-04-01 00:00:00 +0200", "2026-05-01 00:00:00 +0200"},
		{"a month from the 15th", "Europe/Berlin", Month, 15, "2026-01-14T22:59:00Z", "2025-12-15 00:00:00 +0100", "2026-01-15 00:00:00 +0100"},
		{"a month from the 31st, in February", "Europe/Berlin", Month, 31, "2026-02-15T12:00:00Z", "2026-01-31 00:00:00 +0100", "2026-02-28 00:00:00 +0100"},
		{"a month from the last of February", "Europe/Berlin", Month, 31, "2026-02-28T12:00:00Z", "2026-02-28 00:00:00 +0100", "2026-03-31 00:00:00 +0200"},
		{"a month from the last of February, later", "Europe/Berlin", Month, 31, "2026-03-30T12:00:00Z", "2026-02-28 00:00:00 +0100", "2026-03-31 00:00:00 +0200"},
		{"a month from the 31st of December", "Europe/Berlin", Month, 31, "2027-01-05T12:00:00Z", "2026-12-31 00:00:00 +0100", "2027-01-31 00:00:00 +0100"},
		{"a month from the 30th of a leap year", "UTC", Month, 30, "2028-02-29T12:00:00Z", "2028-02-29 00:00:00 +0000", "2028-03-30 00:00:00 +0000"},
		{"no day is the first", "UTC", Month, 0, "2028-02-29T12:00:00Z", "2028-02-01 00:00:00 +0000", "2028-03-01 00:00:00 +0000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			calendar := Calendar{zone(t, c.zone), c.startsOn}
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			start, end := calendar.Start(c.resolution, at).Format(layout), calendar.End(c.resolution, at).Format(layout)
			if start != c.start || end != c.end {
				t.Errorf("from %s to %s, want %s to %s", start, end, c.start, c.end)
			}
		})
	}
}

// TestPeriodsFollowEachOther walks through the periods of years in zones with rare rules.
func TestPeriodsFollowEachOther(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/Santiago", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "Africa/Casablanca"}
	for _, name := range zones {
		for r := range resolutions {
			for _, startsOn := range []int{1, 15, 31} {
				if startsOn > 1 && r != Month {
					continue
				}
				c := Calendar{zone(t, name), startsOn}
				at := c.Start(r, time.Date(2011, 6, 15, 12, 0, 0, 0, time.UTC))
				for range 800 {
					end := c.End(r, at)
					if !end.After(at) {
						t.Fatalf("%s, %v: the period of %v ends at %v", name, r, at, end)
					}
					for _, in := range []time.Time{at, at.Add(end.Sub(at) / 2), end.Add(-1)} {
						if got := c.Start(r, in); !got.Equal(at) {
							t.Fatalf("%s, %v: %v is in the period of %v, want that of %v", name, r, in, got, at)
						}
						if got := c.End(r, in); !got.Equal(end) {
							t.Fatalf("%s, %v: the period of %v ends at %v, want %v", name, r, in, got, end)
						}
					}
					if got := c.Back(r, end, 1); !got.Equal(at) {
						t.Fatalf("%s, %v: before %v is %v, want %v", name, r, end, got, at)
					}
					at = end
				}
			}
		}
	}
}
