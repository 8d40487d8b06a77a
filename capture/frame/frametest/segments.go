package frametest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

// Shape is a kind of packet that can be merged.
type Shape struct {
	Name      string
	packet    func(t testing.TB, payload []byte) []byte // from the IP header on, as on the wire
	V6, UDP   bool
	Transport int               // where its innermost transport header begins, if the kernel has to tell
	Protocol  layers.IPProtocol // of its outermost IP header, behind extension headers
}

// transport completes a transport layer, whose checksum covers the addresses of ip.
func transport[L interface {
	gopacket.SerializableLayer
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}](t testing.TB, ip gopacket.NetworkLayer, l L) L {
	t.Helper()
	if err := l.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return l
}

// Shapes are the kinds of packets that are merged.
func Shapes() []Shape {
	// timestamps are the options of nearly every TCP segment: a header of 32 bytes.
	timestamps := func() *layers.TCP {
		return &layers.TCP{SrcPort: 443, DstPort: 50000, ACK: true, Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)},
		}}
	}
	plain := func() *layers.TCP { return &layers.TCP{SrcPort: 443, DstPort: 50000, ACK: true} }
	quic := func() *layers.UDP { return &layers.UDP{SrcPort: 443, DstPort: 50000} }

	return []Shape{
		{Name: "TCP over IPv4", Protocol: layers.IPProtocolTCP, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip4Header(layers.IPProtocolTCP)
			return Build(t, ip, transport(t, ip, plain()), gopacket.Payload(payload))
		}},
		{Name: "TCP with timestamps over IPv4", Protocol: layers.IPProtocolTCP, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip4Header(layers.IPProtocolTCP)
			return Build(t, ip, transport(t, ip, timestamps()), gopacket.Payload(payload))
		}},
		{Name: "TCP over IPv4 with options", Protocol: layers.IPProtocolTCP, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip4Header(layers.IPProtocolTCP)
			ip.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 11, OptionData: make([]byte, 9)}}
			return Build(t, ip, transport(t, ip, timestamps()), gopacket.Payload(payload))
		}},
		{Name: "UDP over IPv4", Protocol: layers.IPProtocolUDP, UDP: true, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip4Header(layers.IPProtocolUDP)
			return Build(t, ip, transport(t, ip, quic()), gopacket.Payload(payload))
		}},
		{Name: "TCP over IPv6", Protocol: layers.IPProtocolTCP, V6: true, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip6Header(layers.IPProtocolTCP)
			return Build(t, ip, transport(t, ip, timestamps()), gopacket.Payload(payload))
		}},
		{Name: "TCP over IPv6 with extension headers", Protocol: layers.IPProtocolTCP, V6: true,
			packet: func(t testing.TB, payload []byte) []byte {
				ip := ip6Header(layers.IPProtocolTCP)
				// A hop-by-hop header of 8 bytes, routing of 24 and destination options of 16 stand before TCP.
				extensions := Concat([]byte{43, 0, 5, 2, 0, 0, 1, 0}, With(make([]byte, 24), 0, 60, 2), With(make([]byte, 16), 0, 6, 1, 1, 12))
				d := Build(t, ip, transport(t, ip, plain()), gopacket.Payload(payload))
				d = Concat(d[:40], extensions, d[40:])
				d[6] = 0
				binary.BigEndian.PutUint16(d[4:], uint16(len(d)-40))
				return d
			}},
		{Name: "UDP over IPv6", Protocol: layers.IPProtocolUDP, V6: true, UDP: true,
			packet: func(t testing.TB, payload []byte) []byte {
				ip := ip6Header(layers.IPProtocolUDP)
				return Build(t, ip, transport(t, ip, quic()), gopacket.Payload(payload))
			}},
		{Name: "TCP over IPv6 in VXLAN over IPv4", Protocol: layers.IPProtocolUDP, Transport: 20 + 8 + 8 + 14 + 40,
			packet: func(t testing.TB, payload []byte) []byte {
				outer, inner := ip4Header(layers.IPProtocolUDP), ip6Header(layers.IPProtocolTCP)
				return Build(t, outer, transport(t, outer, &layers.UDP{SrcPort: 1, DstPort: 4789}), &layers.VXLAN{ValidIDFlag: true},
					Ethernet(layers.EthernetTypeIPv6), inner, transport(t, inner, timestamps()), gopacket.Payload(payload))
			}},
		{Name: "TCP over IPv4 in GRE over IPv6", Protocol: layers.IPProtocolGRE, V6: true, Transport: 40 + 4 + 20,
			packet: func(t testing.TB, payload []byte) []byte {
				inner := ip4Header(layers.IPProtocolTCP)
				return Build(t, ip6Header(layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeIPv4},
					inner, transport(t, inner, plain()), gopacket.Payload(payload))
			}},
		{Name: "TCP over IPv4 in Ethernet in GRE with a key over IPv4", Protocol: layers.IPProtocolGRE, Transport: 20 + 8 + 14 + 20,
			packet: func(t testing.TB, payload []byte) []byte {
				inner := ip4Header(layers.IPProtocolTCP)
				return Build(t, ip4Header(layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeTransparentEthernetBridging, KeyPresent: true, Key: 7},
					Ethernet(layers.EthernetTypeIPv4), inner, transport(t, inner, timestamps()), gopacket.Payload(payload))
			}},
		{Name: "UDP over IPv4 in a VLAN in Geneve with an option over IPv6", Protocol: layers.IPProtocolUDP, V6: true, UDP: true,
			Transport: 40 + 8 + 8 + 8 + 14 + 4 + 20, packet: func(t testing.TB, payload []byte) []byte {
				outer, inner := ip6Header(layers.IPProtocolUDP), ip4Header(layers.IPProtocolUDP)
				geneve := gopacket.Payload{2, 0, 0x65, 0x58, 0, 0, 3, 0, 1, 2, 3, 1, 0, 0, 0, 0}
				link := Build(t, Ethernet(layers.EthernetTypeDot1Q), Tag(layers.EthernetTypeIPv4))[:18] // without padding
				return Build(t, outer, transport(t, outer, &layers.UDP{SrcPort: 1, DstPort: 6081}), geneve, gopacket.Payload(link),
					inner, transport(t, inner, quic()), gopacket.Payload(payload))
			}},
		{Name: "TCP over IPv6 in IPv4", Protocol: layers.IPProtocolIPv6, Transport: 20 + 40,
			packet: func(t testing.TB, payload []byte) []byte {
				inner := ip6Header(layers.IPProtocolTCP)
				return Build(t, ip4Header(layers.IPProtocolIPv6), inner, transport(t, inner, plain()), gopacket.Payload(payload))
			}},
		{Name: "TCP over IPv4 in IPv4 in IPv6", Protocol: layers.IPProtocolIPv4, V6: true, Transport: 40 + 20 + 20,
			packet: func(t testing.TB, payload []byte) []byte {
				inner := ip4Header(layers.IPProtocolTCP)
				return Build(t, ip6Header(layers.IPProtocolIPv4), ip4Header(layers.IPProtocolIPv4), inner, transport(t, inner, plain()), gopacket.Payload(payload))
			}},
	}
}

// Merged is the packet of a shape that the kernel makes of many: their headers once, then all of their payload. A length
// that does not fit its field is 0 (BIG TCP).
func (s Shape) Merged(t testing.TB, payload int) []byte {
	d := s.packet(t, make([]byte, min(payload, 40_000)))
	d = append(d, make([]byte, payload-min(payload, 40_000))...)
	total, at := len(d), 2
	if s.V6 {
		total, at = total-40, 4
	}
	if total > 0xffff {
		total = 0
	}
	binary.BigEndian.PutUint16(d[at:], uint16(total))
	return d
}

// OnTheWire is what the payload counts for when it is really cut up and put in packets.
func (s Shape) OnTheWire(t testing.TB, payload, size int) frame.Packet {
	want := Counted4(0)
	if s.V6 {
		want = counted6(0)
	}
	want.Packets, want.Protocol = 0, uint8(s.Protocol)
	for sent := 0; sent < payload || want.Packets == 0; sent += size {
		want.Packets++
		want.Bytes += int64(len(s.packet(t, make([]byte, min(size, payload-sent)))))
	}
	return want
}

// SegmentCases are merged frames and what they are on the wire.
func SegmentCases(t testing.TB) []Case {
	var cases []Case
	for _, s := range Shapes() {
		etherType := layers.EthernetTypeIPv4
		if s.V6 {
			etherType = layers.EthernetTypeIPv6
		}
		for _, size := range []int{1, 100, 1448} {
			for _, payload := range []int{0, 1, size - 1, size, size + 1, 2 * size, 2*size + 1, 17*size - 1, 44 * size} {
				add := func(name string, link frame.Link, vlan uint16, header []byte, packet []byte) {
					f := frame.Frame{Link: link, Data: Concat(header, packet), Segments: frame.Segments{Size: size, UDP: s.UDP}}
					if s.Transport > 0 {
						f.Segments.Transport = len(header) + s.Transport
					}
					f.Wire = len(f.Data)
					name = fmt.Sprintf("%s, %s, %d bytes by %d", s.Name, name, payload, size)
					cases = append(cases, Case{name, f, in(vlan, s.OnTheWire(t, payload, size))})
				}
				packet := s.Merged(t, payload)
				add("Ethernet", frame.LinkEthernet, 0, Build(t, Ethernet(etherType), gopacket.Payload(packet))[:14], packet)
				add("tag", frame.LinkEthernet, 7,
					Build(t, Ethernet(layers.EthernetTypeDot1Q), Tag(etherType), gopacket.Payload(packet))[:18], packet)
				add("raw", frame.LinkRaw, 0, nil, packet)
			}
		}
		// BIG TCP: more than a length field can say.
		if s.UDP {
			continue
		}
		for _, payload := range []int{65_496, 128 * 1448, 190_001} {
			packet := s.Merged(t, payload)
			f := frame.Frame{Link: frame.LinkRaw, Data: packet, Wire: len(packet), Segments: frame.Segments{Size: 1448, Transport: s.Transport}}
			cases = append(cases, Case{fmt.Sprintf("%s, %d bytes", s.Name, payload), f, s.OnTheWire(t, payload, 1448)})
			if s.V6 && s.Transport == 0 && packet[6] == byte(layers.IPProtocolTCP) {
				// Linux says the length in a hop-by-hop header, which no packet on the wire has.
				jumbo := Concat(packet[:40], []byte{packet[6], 0, 0xc2, 4, 0, 0, 0, 0}, packet[40:])
				jumbo[4], jumbo[5] = 0, 0
				jumbo[6] = byte(layers.IPProtocolIPv6HopByHop)
				binary.BigEndian.PutUint32(jumbo[44:], uint32(len(jumbo)-40))
				f.Data, f.Wire = jumbo, len(jumbo)
				cases = append(cases, Case{fmt.Sprintf("%s, %d bytes, jumbo option", s.Name, payload), f, s.OnTheWire(t, payload, 1448)})
			}
		}
	}
	return cases
}
