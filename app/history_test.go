package app

import (
	"fmt"
	"testing"
	"time"

	"promflow/app/history"
)

func TestZoneWarning(t *testing.T) {
	for _, c := range []struct {
		tz, local string
		wrong     bool
	}{
		{"Nowhere/Bogus", "UTC", true}, {":Nowhere", "UTC", true}, {"/nosuch/zone", "UTC", true}, {"CET-1CEST,M3.5.0,M10.5.0/3", "UTC", true},
		{"", "UTC", false}, {"", "Local", false}, {":", "UTC", false}, {"UTC", "UTC", false}, {":UTC", "UTC", false},
		{"Etc/UTC", "Etc/UTC", false}, {"Europe/Berlin", "Europe/Berlin", false}, {"/etc/localtime", "Local", false},
		{"Nowhere/Bogus", "Local", false}, // Windows, where Go does not read TZ
	} {
		want := ""
		if c.wrong {
			want = fmt.Sprintf("TZ %q is no known time zone: days and months are those of UTC", c.tz)
		}
		if got := zoneWarning(c.tz, c.local); got != want {
			t.Errorf("TZ=%s of zone %s gives %q, want %q", c.tz, c.local, got, want)
		}
	}
}

func TestParseRetention(t *testing.T) {
	const day = 24 * time.Hour
	type periods = [history.Month + 1]time.Duration
	for text, want := range map[string]periods{
		"":                       {},
		"5m=2d,1h=35d":           {2 * day, 35 * day},
		"1d=0, 1mo=90d":          {0, 0, -1, 90 * day},
		"5m=36h":                 {36 * time.Hour},
		"5m=2d,1h=35d,1d=1,1mo=": {-2},
		"2h=1d":                  {-2},
		"5m":                     {-2},
		"5m=-1h":                 {-2},
		"5m=99999d":              {-2},
	} {
		got, err := parseRetention(text)
		if wrong := want[0] == -2; wrong != (err != nil) || !wrong && got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"256MiB": 256 << 20, "2GB": 2e9, "1 GiB": 1 << 30, "1048576": 1 << 20, "64M": 64 << 20, "64mb": 64e6,
		"": 0, "1MB": 0, "MiB": 0, "-1GiB": 0, "1.5GiB": 0, "1PiB": 0, "99999999999TiB": 0, "256MiBs": 0,
	} {
		if got, err := parseSize(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
}
