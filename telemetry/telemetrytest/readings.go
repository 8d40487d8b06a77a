// Package telemetrytest has readings for tests, and functions for pages and logs.
package telemetrytest

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"promflow/telemetry"
)

// State is a capture whose reading a test can change.
type State struct{ now atomic.Value }

// Set sets the reading that Read returns.
func (s *State) Set(r telemetry.Reading) { s.now.Store(r) }

// Read is for telemetry.NewSource.
func (s *State) Read() telemetry.Reading { return s.now.Load().(telemetry.Reading) }

// Hosts returns a reading of n addresses with different totals.
func Hosts(n int) telemetry.Reading {
	all := make([]telemetry.Host, n)
	for i := range all {
		v := int64(i + 1)
		all[i] = telemetry.Host{
			Addr:           netip.AddrFrom4([4]byte{10, byte(1 + i>>16), byte(i >> 8), byte(i)}),
			ReceiveBytes:   v * 1_234_567,
			TransmitBytes:  v * 40,
			ReceivePackets: v * 20, TransmitPackets: v,
		}
	}
	return telemetry.Reading{Hosts: slices.Values(all), Tracked: int64(n), Limit: 65536}
}

// Example returns a reading with all kinds of series and characters.
func Example() telemetry.Reading {
	return telemetry.Reading{
		Hosts: slices.Values([]telemetry.Host{
			{
				Addr:         netip.MustParseAddr("192.168.1.133"),
				ReceiveBytes: 194179, TransmitBytes: 181358, ReceivePackets: 300, TransmitPackets: 290,
			},
			{Addr: netip.MustParseAddr("192.168.1.2"), ReceiveBytes: 60, ReceivePackets: 1},
			{Addr: netip.MustParseAddr("192.168.1.3"), TransmitBytes: 1_000_000, TransmitPackets: 1000},
			{Addr: netip.MustParseAddr("2001:db8::1"), ReceiveBytes: 1<<53 + 1, TransmitBytes: math.MaxInt64},
			{Addr: netip.MustParseAddr("192.168.1.4")},
			{ReceiveBytes: 1, TransmitBytes: 1234567, ReceivePackets: 1, TransmitPackets: 1},
		}),
		Interfaces: []telemetry.Interface{
			{
				Name: "eth0", Backend: "ebpf", Up: true, Dropped: 3,
				Outcomes: []telemetry.Outcome{{Name: "counted", Packets: 1300, Bytes: 1_500_000}, {Name: "malformed", Packets: 0, Bytes: 0}, {Name: "non_ip", Packets: 17, Bytes: 782}},
			},
			{Name: "odd\"\\\n\xff0", Backend: "afpacket", Outcomes: []telemetry.Outcome{{Name: "counted", Packets: 1, Bytes: 2}}},
		},
		Tracked: 5,
		Limit:   65536,
	}
}

// Labelled returns a reading of addresses and prefixes with labels. Several hosts have the same number for their labels.
func Labelled() telemetry.Reading {
	lan, five := netip.MustParseAddr("192.168.1.133"), netip.MustParseAddr("192.168.5.0")
	return telemetry.Reading{
		Hosts: slices.Values([]telemetry.Host{
			{Addr: lan, Labels: 9, ReceiveBytes: 5, ReceivePackets: 1},
			{Addr: five, Bits: 24, Labels: 9, TransmitBytes: 7, TransmitPackets: 1},
			{Addr: netip.MustParseAddr("fd00:1::"), Bits: 64, Labels: 9},
			{Labels: 9, ReceiveBytes: 1, ReceivePackets: 1},
			{Addr: lan, Labels: 1, Part: true, ReceiveBytes: 194179, TransmitBytes: 181358, ReceivePackets: 300, TransmitPackets: 290},
			{Addr: lan, Labels: 2, Part: true, TransmitBytes: 60, TransmitPackets: 1},
			{Addr: five, Bits: 24, Labels: 2, Part: true, TransmitBytes: 70, TransmitPackets: 1},
		}),
		Labels: func(h telemetry.Host) []telemetry.Label {
			peer := map[uint64]string{1: `"quoted\`, 2: "external", 9: "other"}[h.Labels]
			return []telemetry.Label{{Name: "peer", Value: peer}, {Name: "interface", Value: "eth0"}}
		},
		Tracked: 3, Limit: 65536, Series: 3, SeriesLimit: 262144,
	}
}

// Named returns Example with names for some addresses, also with characters that only an attacker would choose.
func Named() telemetry.Reading {
	r := Example()
	r.Info = func(addr netip.Addr) telemetry.HostInfo {
		return map[string]telemetry.HostInfo{
			"192.168.1.133": {Hostname: "laptop.lan", MAC: "02:00:00:00:00:01"},
			"192.168.1.2":   {MAC: "02:00:00:00:00:02"},
			"2001:db8::1":   {Hostname: "odd\"\\\n\xff0"},
		}[addr.String()]
	}
	return r
}

// Lines is a log that a test can read while it is written.
type Lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// Forget removes the lines that contain text.
func (l *Lines) Forget(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := slices.DeleteFunc(strings.SplitAfter(l.b.String(), "\n"), func(line string) bool { return strings.Contains(line, text) })
	l.b.Reset()
	l.b.WriteString(strings.Join(kept, ""))
}

func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
