package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"promflow/telemetry/otlp"
	"promflow/telemetry/otlp/otlptest"
)

// TestPushes has a collector get what a promflow of a fleet has counted, the last of it at its end.
func TestPushes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := otlptest.Start(t, l, nil)
	f := newFleet(1, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := f.push(ctx, otlp.Config{Endpoint: r.Addr, Interval: 100 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	got := r.Values()
	for _, h := range f[0].hosts {
		for direction, want := range map[string]int64{"receive": h.ReceiveBytes, "transmit": h.TransmitBytes} {
			if key := fmt.Sprintf("promflow_%s_bytes ip=%s", direction, h.Addr); got[key] != want || want == 0 {
				t.Errorf("%s is %d, want %d", key, got[key], want)
			}
		}
	}
}

// TestWrites reads the samples of a fleet.
func TestWrites(t *testing.T) {
	var out strings.Builder
	if err := newFleet(2, 3).write(&out, 4, time.Minute); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(out.String(), "\n"); len(lines) != 2*(1+2*3*4)+2 || lines[len(lines)-2] != "# EOF" {
		t.Errorf("got %d lines:\n%s", len(lines), &out)
	}
	type sample struct {
		total int64
		at    float64
	}
	last := map[string]sample{}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var series string
		var s sample
		if _, err := fmt.Sscan(line, &series, &s.total, &s.at); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if before, known := last[series]; known && (s.total < before.total || s.at-before.at < 59.9 || s.at-before.at > 60.1) {
			t.Errorf("%s after %v", line, before)
		}
		last[series] = s
	}
	if len(last) != 2*2*3 {
		t.Errorf("got %d series", len(last))
	}
}
