package frametest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

// Shape is a kind of packet that can be merged.
type Shape struct {
	Name      string
	V6, UDP   bool
	Transport int               // offset of the innermost transport header, if the kernel has to tell
	Protocol  layers.IPProtocol // of the outermost IP header, behind extension headers
	headers   stack             // from the IP header on, as on the wire
}

// packet is a packet with this payload.
func (s Shape) packet(t testing.TB, payload gopacket.Payload) []byte {
	return Build(t, append(slices.Clip(s.headers), payload)...)
}

// over is a transport header behind an IP header, whose addresses its checksum covers.
func over[IP interface {
	gopacket.SerializableLayer
	gopacket.NetworkLayer
}, L interface {
	gopacket.SerializableLayer
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}](ip IP, l L) stack {
	if err := l.SetNetworkLayerForChecksum(ip); err != nil {
		panic(err)
	}
	return stack{ip, l}
}

// Shapes are the kinds of packets that are merged.
func Shapes() []Shape {
	const (
		v4 = layers.IPProtocolIPv4
		v6 = layers.IPProtocolIPv6
	)
	plain := func() *layers.TCP { return &layers.TCP{SrcPort: 443, DstPort: 50000, ACK: true} }
	// timestamps has the options of nearly every TCP segment: a header of 32 bytes.
	timestamps := func() *layers.TCP {
		return &layers.TCP{SrcPort: 443, DstPort: 50000, ACK: true, Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)},
		}}
	}
	quic := func() *layers.UDP { return &layers.UDP{SrcPort: 443, DstPort: 50000} }
	tunnel := func(port layers.UDPPort) *layers.UDP { return &layers.UDP{SrcPort: 1, DstPort: port} }

	withOptions := ip4Header(tcp)
	withOptions.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 11, OptionData: make([]byte, 9)}}
	// A hop-by-hop header of 8 bytes, routing of 24 and destination options of 16.
	extensions := Concat([]byte{43, 0, 5, 2, 0, 0, 1, 0}, With(make([]byte, 24), 0, 60, 2), With(make([]byte, 16), 0, 6, 1, 1, 12))
	vxlan := stack{&layers.VXLAN{ValidIDFlag: true}, Ethernet(ipv6)}
	bridged := &layers.GRE{Protocol: layers.EthernetTypeTransparentEthernetBridging, KeyPresent: true, Key: 7}
	// Geneve with an option, then Ethernet without padding, and a tag.
	geneve := Concat([]byte{2, 0, 0x65, 0x58, 0, 0, 3, 0, 1, 2, 3, 1, 0, 0, 0, 0}, mac, mac, []byte{0x81, 0, 0, 7, 8, 0})

	return []Shape{
		{Name: "TCP over IPv4", Protocol: tcp, headers: over(ip4Header(tcp), plain())},
		{Name: "TCP with timestamps over IPv4", Protocol: tcp, headers: over(ip4Header(tcp), timestamps())},
		{Name: "TCP over IPv4 with options", Protocol: tcp, headers: over(withOptions, timestamps())},
		{Name: "UDP over IPv4", Protocol: udp, UDP: true, headers: over(ip4Header(udp), quic())},
		{Name: "TCP over IPv6", Protocol: tcp, V6: true, headers: over(ip6Header(tcp), timestamps())},
		{Name: "TCP over IPv6 with extension headers", Protocol: tcp, V6: true,
			headers: slices.Insert(over(ip6Header(hopByHop), plain()), 1, gopacket.SerializableLayer(extensions))},
		{Name: "UDP over IPv6", Protocol: udp, V6: true, UDP: true, headers: over(ip6Header(udp), quic())},
		{Name: "TCP over IPv6 in VXLAN over IPv4", Protocol: udp, Transport: 20 + 8 + 8 + 14 + 40,
			headers: slices.Concat(over(ip4Header(udp), tunnel(4789)), vxlan, over(ip6Header(tcp), timestamps()))},
		{Name: "TCP over IPv4 in GRE over IPv6", Protocol: gre, V6: true, Transport: 40 + 4 + 20,
			headers: append(stack{ip6Header(gre), &layers.GRE{Protocol: ipv4}}, over(ip4Header(tcp), plain())...)},
		{Name: "TCP over IPv4 in Ethernet in GRE with a key over IPv4", Protocol: gre, Transport: 20 + 8 + 14 + 20,
			headers: append(stack{ip4Header(gre), bridged, Ethernet(ipv4)}, over(ip4Header(tcp), timestamps())...)},
		{Name: "UDP over IPv4 in a VLAN in Geneve with an option over IPv6", Protocol: udp, V6: true, UDP: true,
			Transport: 40 + 8 + 8 + 8 + 14 + 4 + 20,
			headers:   slices.Concat(over(ip6Header(udp), tunnel(6081)), stack{geneve}, over(ip4Header(udp), quic()))},
		{Name: "TCP over IPv6 in IPv4", Protocol: v6, Transport: 20 + 40,
			headers: append(stack{ip4Header(v6)}, over(ip6Header(tcp), plain())...)},
		{Name: "TCP over IPv4 in IPv4 in IPv6", Protocol: v4, V6: true, Transport: 40 + 20 + 20,
			headers: append(stack{ip6Header(v4), ip4Header(v4)}, over(ip4Header(tcp), plain())...)},
	}
}

// Merged is a merged segment: the headers of its packets once, and all of their payload. A length that does not fit its field is 0 (BIG
// TCP).
func (s Shape) Merged(t testing.TB, payload int) []byte {
	first := min(payload, 40_000) // what gopacket has length fields for
	d := append(s.packet(t, make([]byte, first)), make([]byte, payload-first)...)
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

// OnTheWire is what the payload counts as in packets of this size.
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
		etherType := ipv4
		if s.V6 {
			etherType = ipv6
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
					Build(t, Ethernet(dot1q), Tag(etherType), gopacket.Payload(packet))[:18], packet)
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
			if s.V6 && s.Transport == 0 && packet[6] == byte(tcp) {
				// Linux says the length in a hop-by-hop header, which no packet on the wire has.
				jumbo := Concat(packet[:40], []byte{packet[6], 0, 0xc2, 4, 0, 0, 0, 0}, packet[40:])
				jumbo[4], jumbo[5] = 0, 0
				jumbo[6] = byte(hopByHop)
				binary.BigEndian.PutUint32(jumbo[44:], uint32(len(jumbo)-40))
				f.Data, f.Wire = jumbo, len(jumbo)
				cases = append(cases, Case{fmt.Sprintf("%s, %d bytes, jumbo option", s.Name, payload), f, s.OnTheWire(t, payload, 1448)})
			}
		}
	}
	return cases
}
