package telemetry_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"promflow/telemetry"
	"promflow/telemetry/telemetrytest"
)

// TestExpiredSeriesAreOneAddress has an address whose series have expired: it is one, and all that it moved is there.
func TestExpiredSeriesAreOneAddress(t *testing.T) {
	r := telemetrytest.Labelled()
	var all []telemetry.Host
	for h := range r.Hosts {
		h.Expired = h.Addr == netip.MustParseAddr("192.168.1.133")
		all = append(all, h)
	}
	r.Hosts, r.Expiry = slices.Values(all), true
	scopes := produce(t, telemetry.NewSource(func() telemetry.Reading { return r }, true))
	for metric, want := range map[string]map[string]int64{
		"promflow_expired_ips":      {"": 1},
		"promflow_expired":          {"receive": 194184, "transmit": 181418},
		"promflow_expired_packets":  {"receive": 301, "transmit": 291},
		"promflow_receive_bytes":    {"eth0,other,other": 1},
		"promflow_transmit_bytes":   {"eth0,192.168.5.0/24,other": 7, "eth0,192.168.5.0/24,external": 70},
		"promflow_tracked_series":   {"": 3},
		"promflow_transmit_packets": {"eth0,192.168.5.0/24,other": 1, "eth0,192.168.5.0/24,external": 1},
	} {
		got := map[string]int64{}
		points, order := pointsBy(t, scopes, metric)
		for labels, p := range points {
			got[labels] = p.Value
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s is %v, want %v", metric, got, want)
		}
		if !slices.IsSorted(order) {
			t.Errorf("%s comes in the order %v", metric, order)
		}
	}
}

// TestSeriesBeginByTheirLabels has labels of an address come later, and begin anew once they had made room.
func TestSeriesBeginByTheirLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s telemetrytest.State
		source := telemetry.NewSource(s.Read, false)
		start := time.Now()
		addr := netip.MustParseAddr("10.0.0.1")
		for minute, hosts := range [][]telemetry.Host{
			{{Addr: addr, Labels: 9}, {Addr: addr, Labels: 1, Part: true, ReceiveBytes: 1}},
			{{Addr: addr, Labels: 9}, {Addr: addr, Labels: 2, Part: true, ReceiveBytes: 1}, {Addr: addr, Labels: 1, Part: true, ReceiveBytes: 1}},
			{{Addr: addr, Labels: 9, ReceiveBytes: 1}, {Addr: addr, Labels: 1, Part: true, ReceiveBytes: 1, Entry: 1}, {Addr: addr, Labels: 2, Part: true, ReceiveBytes: 1}},
		} {
			time.Sleep(time.Minute) // of the bubble, which takes none
			r := telemetrytest.Labelled()
			r.Hosts = slices.Values(hosts)
			s.Set(r)
			points, _ := pointsBy(t, produce(t, source), "promflow_receive_bytes")
			want := []map[string]int{
				{`eth0,10.0.0.1,"quoted\`: 0},
				{`eth0,10.0.0.1,"quoted\`: 0, "eth0,10.0.0.1,external": 1},
				{`eth0,10.0.0.1,"quoted\`: 2, "eth0,10.0.0.1,external": 1, "eth0,10.0.0.1,other": 2},
			}[minute]
			got := map[string]int{}
			for labels, p := range points {
				got[labels] = int(p.StartTime.Sub(start).Minutes())
			}
			if !maps.Equal(got, want) {
				t.Errorf("minute %d: series began in minutes %v, want %v", minute, got, want)
			}
		}
	})
}

func TestLabelsAreAskedForOnce(t *testing.T) {
	asked := 0
	r := telemetrytest.Labelled()
	of := r.Labels
	r.Labels = func(h telemetry.Host) []telemetry.Label { asked++; return of(h) }
	source := telemetry.NewSource(func() telemetry.Reading { return r }, false)
	for range 3 {
		produce(t, source)
	}
	if n := len(slices.Collect(r.Hosts)); asked != n {
		t.Errorf("asked %d times for the labels of %d series", asked, n)
	}
	if !strings.Contains(telemetrytest.Scrape(t, telemetrytest.Start(t, func() telemetry.Reading { return r }, false)), `peer="\"quoted\\"`) {
		t.Error("a value is not quoted")
	}
}
