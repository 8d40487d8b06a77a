package kernel

import (
	"encoding/binary"
	"testing"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// ipv4 is an IPv4 packet from 10.0.0.1 to 10.0.0.2.
func ipv4(protocol byte, payload ...byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	return append(h, payload...)
}

// TestMergedFramesThatOnlyTheKernelKnows tests merged frames that other backends never see or see with more information. So there is no
// result of package frame to compare with.
func TestMergedFramesThatOnlyTheKernelKnows(t *testing.T) {
	k := newKernel(t, everything, subnets.Set{})
	bytes := func(n int) []byte { return make([]byte, n) }
	udp := func(payload []byte) []byte { return ipv4(17, append(bytes(8), payload...)...) }
	// A program sends VXLAN by itself, in several UDP packets that are merged: that is no tunnel of the kernel.
	lookalike := append([]byte{8, 0, 0, 0, 0, 0, 1, 0}, append(append(bytes(12), 8, 0), ipv4(6, bytes(180)...)...)...)
	lookalike = append(lookalike, bytes(2*len(lookalike))...)
	for _, c := range []struct {
		name           string
		data           []byte
		size, segments int
		want           capture.OutcomeSize
		outcome        frame.Outcome
	}{
		{"SCTP, whose packets have sizes of their own", ipv4(132, bytes(12+3000)...), 0xffff, 4,
			capture.OutcomeSize{Packets: 4, Bytes: 4*32 + 3000}, frame.Counted},
		{"SCTP of one packet", ipv4(132, bytes(12+300)...), 0xffff, 1, capture.OutcomeSize{Packets: 1, Bytes: 332}, frame.Counted},
		{"a UDP payload that looks like VXLAN", udp(lookalike), len(lookalike) / 3, 0,
			capture.OutcomeSize{Packets: 3, Bytes: int64(len(lookalike)) + 3*28}, frame.Counted},
		{"a UDP payload that looks like Geneve with options beyond its end",
			udp(append([]byte{0x37, 0, 0, 1, 0, 0, 0, 0}, bytes(192)...)), 100, 0,
			capture.OutcomeSize{Packets: 2, Bytes: 2*28 + 200}, frame.Counted},
		{"a UDP payload that looks like VXLAN, in two tunnels",
			ipv4(4, ipv4(4, udp(append([]byte{8, 0, 0, 0, 0, 0, 0, 0}, bytes(192)...))...)...), 100, 0,
			capture.OutcomeSize{Packets: 2, Bytes: 2*68 + 200}, frame.Counted},
		{"TCP that was merged like SCTP", ipv4(6, bytes(3000)...), 0xffff, 3, capture.OutcomeSize{Packets: 1, Bytes: 3020}, frame.Malformed},
		{"SCTP that was merged like TCP", ipv4(132, bytes(3000)...), 1000, 3, capture.OutcomeSize{Packets: 1, Bytes: 3020}, frame.Malformed},
		{"a transport that nobody merges", ipv4(50, bytes(3000)...), 1000, 3, capture.OutcomeSize{Packets: 1, Bytes: 3020}, frame.Malformed},
		{"GRE of a later version", ipv4(47, append([]byte{0, 1, 8, 0}, ipv4(6, bytes(1000)...)...)...), 100, 0,
			capture.OutcomeSize{Packets: 1, Bytes: 20 + 4 + 1020}, frame.Malformed},
		{"a tunnel in a tunnel in a tunnel", ipv4(4, ipv4(4, ipv4(4, ipv4(6, bytes(1000)...)...)...)...), 100, 0,
			capture.OutcomeSize{Packets: 1, Bytes: 80 + 1000}, frame.Malformed},
	} {
		f := frame.Frame{Link: frame.LinkNone, EtherType: 0x0800, Data: c.data}
		var want [frame.Outcomes]capture.OutcomeSize
		want[c.outcome] = c.want
		if got := k.run(&f, c.size, c.segments); got.outcomes != want {
			t.Errorf("%s: outcomes are %v, want %v", c.name, got.outcomes, want)
		}
	}
}
