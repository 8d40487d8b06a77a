package kernel

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// BenchmarkCount has the kernel count one frame again and again, without a network. ns/packet leaves out the time of an empty program,
// which is mostly that of BPF_PROG_TEST_RUN. The frame and the counters of its addresses are all in the cache.
func BenchmarkCount(b *testing.B) {
	nettest.NeedRoot(b)
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	defer empty.Close()
	emptyXDP, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpDrop), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	defer emptyXDP.Close()
	v4 := nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 46)
	v6 := nettest.UDP(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), 66)
	tagged := slices.Insert(slices.Clone(v4), 12, 0x81, 0, 0, 7)
	const many = "10.0.0.0/24,10.0.2.0/24,10.0.4.0/24,10.0.6.0/24,10.0.8.0/24,10.0.10.0/24"
	const all = "network,peer,protocol,interface,vlan"
	for _, c := range []struct {
		name, monitored, excluded string
		frame                     []byte
		labels                    string
	}{
		{"IPv4, one end in a /24", "10.0.0.1/32", "255.255.255.250/32", v4, ""},
		{"IPv4, both ends in a /24", "10.0.0.0/24", "255.255.255.250/32", v4, ""},
		{"IPv4, both ends in a /8", "10.0.0.0/8", "255.255.255.250/32", v4, ""},
		{"IPv4, both ends in one of 6 subnets", many, "255.255.255.250/32", v4, ""},
		{"IPv4, not monitored", "192.168.0.0/24", "255.255.255.250/32", v4, ""},
		{"IPv4 in a VLAN, both ends in a /24", "10.0.0.0/24", "255.255.255.250/32", tagged, ""},
		{"IPv6, both ends in a /64", "fd00::/64", "255.255.255.250/32", v6, ""},
		{"IPv4, one end in a /24, protocol", "10.0.0.1/32", "255.255.255.250/32", v4, "protocol"},
		{"IPv4, one end in a /24, all labels", "10.0.0.1/32", "255.255.255.250/32", v4, all},
		{"IPv4, both ends in a /24, all labels", "10.0.0.0/24", "255.255.255.250/32", v4, all},
		{"IPv4, both ends in a /8, all labels", "10.0.0.0/8", "255.255.255.250/32", v4, all},
		{"IPv6, both ends in a /64, all labels", "fd00::/64", "255.255.255.250/32", v6, all},
	} {
		for _, by := range []struct {
			hook  string
			kind  ebpf.ProgramType
			floor *ebpf.Program
		}{{"socket", ebpf.SchedCLS, empty}, {"XDP", ebpf.XDP, emptyXDP}} {
			b.Run(by.hook+"/"+c.name, func(b *testing.B) {
				r := newClassifier(b, by.kind, capture.DefaultLimit, c.monitored, c.excluded, c.labels)
				_, full, err := r.filter.Benchmark(c.frame, b.N, b.ResetTimer)
				if err != nil {
					b.Fatal(err)
				}
				_, none, err := by.floor.Benchmark(c.frame, b.N, nil)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64((full - none).Nanoseconds()), "ns/packet")
			})
		}
	}
}

const xdpDrop = 1 // XDP_DROP of linux/bpf.h

// BenchmarkRead updates a table as a scrape does, with 65,536 addresses. All of them have moved something since the last read.
func BenchmarkRead(b *testing.B) {
	nettest.NeedRoot(b)
	const count = 1 << 16
	for _, c := range []struct {
		name, monitored, labels string
		address                 func(i uint32) netip.Addr
	}{
		{"IPv4, indexed", "10.0.0.0/16", "", func(i uint32) netip.Addr { return address4(10<<24 + i) }},
		{"IPv4, indexed, labels", "10.0.0.0/16", "peer,protocol", func(i uint32) netip.Addr { return address4(10<<24 + i) }},
		{"IPv4, hashed", "10.0.0.0/8", "", func(i uint32) netip.Addr { return address4(10<<24 + i) }},
		{"IPv6", "fd00::/64", "", func(i uint32) netip.Addr { return address6(countAddress6{High: 0xfd << 56, Low: uint64(i)}) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newClassifier(b, ebpf.SchedCLS, count, c.monitored, "", c.labels)
			for i := range uint32(count) {
				f := nettest.UDP(c.address(i), c.address(i), 66)
				if _, err := r.filter.Run(&ebpf.RunOptions{Data: f}); err != nil {
					b.Fatal(err)
				}
			}
			r.read()
			for b.Loop() {
				b.StopTimer()
				clear(r.last)
				b.StartTimer()
				r.read()
			}
			if got, want := r.outcomes(0)[frame.Counted].Packets, int64(count); got != want {
				b.Errorf("%d packets were read, want %d", got, want)
			}
		})
	}
}

// newClassifier loads the program of a kind for frames that begin with an Ethernet header.
func newClassifier(b *testing.B, kind ebpf.ProgramType, limit int, monitored, excluded, by string) *runner {
	b.Helper()
	in, err := subnets.Parse(monitored)
	if err != nil {
		b.Fatal(err)
	}
	out, err := subnets.Parse(excluded)
	if err != nil {
		b.Fatal(err)
	}
	table := capture.NewTable(limit, 0)
	if by != "" {
		set, err := labels.Parse(by)
		if err != nil {
			b.Fatal(err)
		}
		table = capture.NewGroupedTable(limit, 0, labels.New(set, labels.HostBits{}, false), 4*limit)
	}
	return newRunner(b, kind, capture.Config{Mirror: true, Table: table.Monitor(capture.Subnets{Monitored: in, Excluded: out})})
}
