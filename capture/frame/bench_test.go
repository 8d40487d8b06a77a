package frame_test

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

// BenchmarkDecode decodes one frame of 1,400 bytes again and again. A packet should take at most 25 ns.
func BenchmarkDecode(b *testing.B) {
	v4, v6 := gopacket.Payload(ip4(b, 1380)), gopacket.Payload(ip6(b, 1360))
	merged := shapes()[4] // TCP with timestamps over IPv6
	for _, c := range []struct {
		name     string
		link     frame.Link
		data     []byte
		segments frame.Segments
	}{
		{"ethernet/ipv4", frame.LinkEthernet, build(b, ethernet(layers.EthernetTypeIPv4), v4), frame.Segments{}},
		{"ethernet/ipv6", frame.LinkEthernet, build(b, ethernet(layers.EthernetTypeIPv6), v6), frame.Segments{}},
		{"vlan", frame.LinkEthernet, build(b, ethernet(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeIPv4), v4), frame.Segments{}},
		{"qinq", frame.LinkEthernet, build(b, ethernet(layers.EthernetTypeQinQ), tag(layers.EthernetTypeDot1Q),
			tag(layers.EthernetTypeIPv4), v4), frame.Segments{}},
		{"pppoe", frame.LinkEthernet, build(b, ethernet(layers.EthernetTypePPPoESession), session(),
			&layers.PPP{PPPType: layers.PPPTypeIPv4}, v4), frame.Segments{}},
		{"mpls", frame.LinkEthernet, build(b, ethernet(layers.EthernetTypeMPLSUnicast), label(16, false), label(17, true), v4), frame.Segments{}},
		{"sll", frame.LinkSLL, concat(sll(layers.EthernetTypeIPv4), v4), frame.Segments{}},
		{"merged", frame.LinkEthernet, build(b, ethernet(layers.EthernetTypeIPv6), gopacket.Payload(merged.merged(b, 40*1428))),
			frame.Segments{Size: 1428}},
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
