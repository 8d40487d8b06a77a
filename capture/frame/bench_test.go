package frame_test

import (
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
)

// inside gives the frame of a case.
func inside(b *testing.B, name string) []byte {
	cases := frametest.InsideCases(b)
	return cases[slices.IndexFunc(cases, func(c frametest.Case) bool { return c.Name == name })].In.Data
}

// BenchmarkDecode decodes one frame again and again, of 1,400 bytes on most links. A packet of an interface should take at most 25 ns.
func BenchmarkDecode(b *testing.B) {
	v4, v6 := gopacket.Payload(frametest.IP4(b, 1380)), gopacket.Payload(frametest.IP6(b, 1360))
	merged := frametest.Shapes()[4]   // TCP with timestamps over IPv6
	extended := frametest.Shapes()[5] // TCP over IPv6 with three extension headers
	for _, c := range []struct {
		name     string
		link     frame.Link
		data     []byte
		segments frame.Segments
	}{
		{"ethernet/ipv4", frame.LinkEthernet, frametest.Build(b, frametest.Ethernet(layers.EthernetTypeIPv4), v4), frame.Segments{}},
		{"ethernet/ipv6", frame.LinkEthernet, frametest.Build(b, frametest.Ethernet(layers.EthernetTypeIPv6), v6), frame.Segments{}},
		{"ethernet/ipv6 with extension headers", frame.LinkEthernet, frametest.Build(b, frametest.Ethernet(layers.EthernetTypeIPv6),
			gopacket.Payload(extended.Merged(b, 1292))), frame.Segments{}},
		{"vlan", frame.LinkEthernet, frametest.Build(b, frametest.Ethernet(layers.EthernetTypeDot1Q),
			frametest.Tag(layers.EthernetTypeIPv4), v4), frame.Segments{}},
		{"qinq", frame.LinkEthernet, frametest.Build(b, frametest.Ethernet(layers.EthernetTypeQinQ), frametest.Tag(layers.EthernetTypeDot1Q),
			frametest.Tag(layers.EthernetTypeIPv4), v4), frame.Segments{}},
		{"pppoe", frame.LinkEthernet, frametest.Build(b, frametest.Ethernet(layers.EthernetTypePPPoESession), frametest.Session(),
			&layers.PPP{PPPType: layers.PPPTypeIPv4}, v4), frame.Segments{}},
		{"mpls", frame.LinkEthernet, frametest.Build(b, frametest.Ethernet(layers.EthernetTypeMPLSUnicast), frametest.Label(16, false),
			frametest.Label(17, true), v4), frame.Segments{}},
		{"sll", frame.LinkSLL, frametest.Concat(frametest.SLL(layers.EthernetTypeIPv4), v4), frame.Segments{}},
		{"merged", frame.LinkEthernet, frametest.Build(b, frametest.Ethernet(layers.EthernetTypeIPv6), gopacket.Payload(merged.Merged(b, 40*1428))),
			frame.Segments{Size: 1428}},
		{"radiotap", frame.LinkRadiotap, inside(b, "radiotap/time, flags, FCS"), frame.Segments{}},
		{"nflog", frame.LinkNFLOG, inside(b, "NFLOG/LittleEndian, IPv4"), frame.Segments{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := frame.Frame{Link: c.link, Data: c.data, Wire: len(c.data), Segments: c.segments}
			var p frame.Packet
			b.ReportAllocs()
			for b.Loop() {
				p.Decode(&f)
			}
			if p.Outcome != frame.Counted {
				b.Fatal(p.Outcome)
			}
		})
	}
}
