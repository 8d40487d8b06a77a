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

// TestMergedUDPThatWillBeFragmented has merged UDP that is one datagram (UFO) and such that is several (USO).
func TestMergedUDPThatWillBeFragmented(t *testing.T) {
	k := newKernel(t, everything, subnets.Set{})
	const v4, v6, payload = 20 + 3000, 40 + 3000, 3000 // with UDP's header
	data4 := ipv4(17, make([]byte, payload)...)
	data6 := append([]byte{0x60, 0, 0, 0, payload >> 8, payload & 0xff, 17, 64, 31: 1, 39: 2}, make([]byte, payload)...)
	for _, c := range []struct {
		name                string
		data                []byte
		size, segments, mtu int
		bytes               int64 // of 3 packets
	}{
		{"fragments", data4, 1480, 0, 1500, v4 + 2*20},
		{"segments as long as can be", data4, 1472, 0, 1500, v4 + 2*28},
		{"fragments of an interface with a larger MTU", data4, 1480, 0, 1507, v4 + 2*20},
		{"segments of an interface with a larger MTU", data4, 1480, 0, 1508, v4 + 2*28},
		{"segments of this machine", data4, 1480, 6, 1500, v4 + 2*28},
		{"no length of a fragment", data4, 1481, 0, 1500, v4 + 2*28},
		{"an MTU that is not known", data4, 1480, 0, 0, v4 + 2*28},
		{"IPv6", data6, 1448, 0, 1500, v6 + 2*48}, // may be either
		{"fragments, before Linux 6.2", data4, 1376, 0, noUSO, v4 + 2*20},
		{"IPv6 fragments, before Linux 6.2", data6, 1448, 0, noUSO, v6 + 2*40 + 3*8},
	} {
		k.network.mtus[0] = uint64(c.mtu)
		f := frame.Frame{Link: frame.LinkNone, EtherType: 0x0800, Data: c.data}
		if c.data[0]>>4 == 6 {
			f.EtherType = 0x86dd
		}
		want := capture.OutcomeSize{Packets: 3, Bytes: c.bytes}
		if got := k.run(&f, c.size, c.segments).outcomes[frame.Counted]; got != want {
			t.Errorf("%s: counted %v, want %v", c.name, got, want)
		}
	}
}
