package frame_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

// shape is a kind of packet that can be merged.
type shape struct {
	name      string
	packet    func(t testing.TB, payload []byte) []byte // from the IP header on, as on the wire
	v6, udp   bool
	transport int // where its innermost transport header begins, if the kernel has to tell
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

func shapes() []shape {
	// timestamps are the options of nearly every TCP segment: a header of 32 bytes.
	timestamps := func() *layers.TCP {
		return &layers.TCP{SrcPort: 443, DstPort: 50000, ACK: true, Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)},
		}}
	}
	plain := func() *layers.TCP { return &layers.TCP{SrcPort: 443, DstPort: 50000, ACK: true} }
	quic := func() *layers.UDP { return &layers.UDP{SrcPort: 443, DstPort: 50000} }

	return []shape{
		{name: "TCP over IPv4", packet: func(t testing.TB, payload []byte) []byte {
			ip := ip4Header(layers.IPProtocolTCP)
			return build(t, ip, transport(t, ip, plain()), gopacket.Payload(payload))
		}},
		{name: "TCP with timestamps over IPv4", packet: func(t testing.TB, payload []byte) []byte {
			ip := ip4Header(layers.IPProtocolTCP)
			return build(t, ip, transport(t, ip, timestamps()), gopacket.Payload(payload))
		}},
		{name: "TCP over IPv4 with options", packet: func(t testing.TB, payload []byte) []byte {
			ip := ip4Header(layers.IPProtocolTCP)
			ip.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 11, OptionData: make([]byte, 9)}}
			return build(t, ip, transport(t, ip, timestamps()), gopacket.Payload(payload))
		}},
		{name: "UDP over IPv4", udp: true, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip4Header(layers.IPProtocolUDP)
			return build(t, ip, transport(t, ip, quic()), gopacket.Payload(payload))
		}},
		{name: "TCP over IPv6", v6: true, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip6Header(layers.IPProtocolTCP)
			return build(t, ip, transport(t, ip, timestamps()), gopacket.Payload(payload))
		}},
		{name: "TCP over IPv6 with extension headers", v6: true, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip6Header(layers.IPProtocolTCP)
			// A hop-by-hop header of 8 bytes, routing of 24 and destination options of 16 stand before TCP.
			extensions := concat([]byte{43, 0, 5, 2, 0, 0, 1, 0}, with(make([]byte, 24), 0, 60, 2), with(make([]byte, 16), 0, 6, 1, 1, 12))
			d := build(t, ip, transport(t, ip, plain()), gopacket.Payload(payload))
			d = concat(d[:40], extensions, d[40:])
			d[6] = 0
			binary.BigEndian.PutUint16(d[4:], uint16(len(d)-40))
			return d
		}},
		{name: "UDP over IPv6", v6: true, udp: true, packet: func(t testing.TB, payload []byte) []byte {
			ip := ip6Header(layers.IPProtocolUDP)
			return build(t, ip, transport(t, ip, quic()), gopacket.Payload(payload))
		}},
		{name: "TCP over IPv6 in VXLAN over IPv4", transport: 20 + 8 + 8 + 14 + 40, packet: func(t testing.TB, payload []byte) []byte {
			outer, inner := ip4Header(layers.IPProtocolUDP), ip6Header(layers.IPProtocolTCP)
			return build(t, outer, transport(t, outer, &layers.UDP{SrcPort: 1, DstPort: 4789}), &layers.VXLAN{ValidIDFlag: true},
				ethernet(layers.EthernetTypeIPv6), inner, transport(t, inner, timestamps()), gopacket.Payload(payload))
		}},
		{name: "TCP over IPv4 in GRE over IPv6", v6: true, transport: 40 + 4 + 20, packet: func(t testing.TB, payload []byte) []byte {
			inner := ip4Header(layers.IPProtocolTCP)
			return build(t, ip6Header(layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeIPv4},
				inner, transport(t, inner, plain()), gopacket.Payload(payload))
		}},
	}
}

// merged is the packet of a shape that the kernel makes of many: their headers once, then all of their payload. A length
// that does not fit its field is 0 (BIG TCP).
func (s shape) merged(t testing.TB, payload int) []byte {
	d := s.packet(t, make([]byte, min(payload, 40_000)))
	d = append(d, make([]byte, payload-min(payload, 40_000))...)
	total, at := len(d), 2
	if s.v6 {
		total, at = total-40, 4
	}
	if total > 0xffff {
		total = 0
	}
	binary.BigEndian.PutUint16(d[at:], uint16(total))
	return d
}

// onTheWire is what the payload counts for when it is really cut up and put in packets.
func (s shape) onTheWire(t testing.TB, payload, size int) frame.Packet {
	want := counted4(0)
	if s.v6 {
		want = counted6(0)
	}
	want.Packets = 0
	for sent := 0; sent < payload || want.Packets == 0; sent += size {
		want.Packets++
		want.Bytes += int64(len(s.packet(t, make([]byte, min(size, payload-sent)))))
	}
	return want
}

// segmentCases are merged frames and what they are on the wire.
func segmentCases(t testing.TB) []decodeCase {
	var cases []decodeCase
	for _, s := range shapes() {
		etherType := layers.EthernetTypeIPv4
		if s.v6 {
			etherType = layers.EthernetTypeIPv6
		}
		for _, size := range []int{1, 100, 1448} {
			for _, payload := range []int{0, 1, size - 1, size, size + 1, 2 * size, 2*size + 1, 17*size - 1, 44 * size} {
				add := func(name string, link frame.Link, header []byte, packet []byte) {
					f := frame.Frame{Link: link, Data: concat(header, packet), Segments: frame.Segments{Size: size, UDP: s.udp}}
					if s.transport > 0 {
						f.Segments.Transport = len(header) + s.transport
					}
					f.Wire = len(f.Data)
					name = fmt.Sprintf("%s, %s, %d bytes by %d", s.name, name, payload, size)
					cases = append(cases, decodeCase{name, f, s.onTheWire(t, payload, size)})
				}
				packet := s.merged(t, payload)
				add("Ethernet", frame.LinkEthernet, build(t, ethernet(etherType), gopacket.Payload(packet))[:14], packet)
				add("tag", frame.LinkEthernet, build(t, ethernet(layers.EthernetTypeDot1Q), tag(etherType), gopacket.Payload(packet))[:18], packet)
				add("raw", frame.LinkRaw, nil, packet)
			}
		}
		// BIG TCP: more than a length field can say.
		if s.udp {
			continue
		}
		for _, payload := range []int{65_496, 128 * 1448, 190_001} {
			packet := s.merged(t, payload)
			f := frame.Frame{Link: frame.LinkRaw, Data: packet, Wire: len(packet), Segments: frame.Segments{Size: 1448, Transport: s.transport}}
			cases = append(cases, decodeCase{fmt.Sprintf("%s, %d bytes", s.name, payload), f, s.onTheWire(t, payload, 1448)})
			if s.v6 && s.transport == 0 && packet[6] == byte(layers.IPProtocolTCP) {
				// Linux says the length in a hop-by-hop header, which no packet on the wire has.
				jumbo := concat(packet[:40], []byte{packet[6], 0, 0xc2, 4, 0, 0, 0, 0}, packet[40:])
				jumbo[4], jumbo[5] = 0, 0
				jumbo[6] = byte(layers.IPProtocolIPv6HopByHop)
				binary.BigEndian.PutUint32(jumbo[44:], uint32(len(jumbo)-40))
				f.Data, f.Wire = jumbo, len(jumbo)
				cases = append(cases, decodeCase{fmt.Sprintf("%s, %d bytes, jumbo option", s.name, payload), f, s.onTheWire(t, payload, 1448)})
			}
		}
	}
	return cases
}

func TestMergedSegmentsCountAsThePacketsOnTheWire(t *testing.T) {
	for _, c := range segmentCases(t) {
		if got := decode(c.in); got != c.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.name, got, c.want)
		}
		// Headers are all that has to be captured.
		if len(c.in.Data) > 180 {
			c.in.Data = c.in.Data[:180]
			if got := decode(c.in); got != c.want {
				t.Errorf("%s, snapped:\ngot  %+v\nwant %+v", c.name, got, c.want)
			}
		}
	}
}

func TestMergedSegmentsWithoutTheirTransportHeader(t *testing.T) {
	for _, s := range shapes()[:1] {
		packet := s.merged(t, 14_600)
		want := s.onTheWire(t, 14_600, 1460)
		for captured := 20; captured <= 40; captured++ {
			// Where the capture does not say how long TCP's header is, it has no options.
			f := frame.Frame{Link: frame.LinkRaw, Data: packet[:captured], Wire: len(packet), Segments: frame.Segments{Size: 1460}}
			if got := decode(f); got != want {
				t.Errorf("%d bytes captured:\ngot  %+v\nwant %+v", captured, got, want)
			}
		}
	}
}

func TestSegmentsOfAFrameThatIsNotIPAreIgnored(t *testing.T) {
	for _, c := range linkCases(t) {
		if c.want.Outcome != frame.Counted {
			c.in.Segments = frame.Segments{Size: 10}
			if got := decode(c.in); got != c.want {
				t.Errorf("%s:\ngot  %+v\nwant %+v", c.name, got, c.want)
			}
		}
	}
}

func TestEveryTCPDataOffset(t *testing.T) {
	s := shapes()[0]
	for offset := range 16 {
		packet := with(s.merged(t, 5_000), 20+12, byte(offset)<<4)
		header := int64(20 + 4*max(offset, 5)) // TCP has no shorter one
		payload := int64(len(packet)) - header
		want := counted4(0)
		want.Packets = (payload + 999) / 1000
		want.Bytes = payload + want.Packets*header
		f := frame.Frame{Link: frame.LinkRaw, Data: packet, Wire: len(packet), Segments: frame.Segments{Size: 1000}}
		if got := decode(f); got != want {
			t.Errorf("data offset %d:\ngot  %+v\nwant %+v", offset, got, want)
		}
	}
}

func TestHostileSegmentsStayInBounds(t *testing.T) {
	extreme := []int{math.MinInt, -1, 0, 1, 2, 8, 13, 14, 15, 33, 34, 35, 54, 100, 1448, 65535, 65536, math.MaxInt32, math.MaxInt - 20, math.MaxInt}
	for _, c := range headerCases(t) {
		for _, size := range extreme {
			for _, transport := range extreme {
				for _, udp := range []bool{false, true} {
					for _, wire := range []int{0, len(c.in.Data), 1 << 20, math.MaxInt32} {
						f := c.in
						f.Wire, f.Segments = wire, frame.Segments{Size: size, UDP: udp, Transport: transport}
						if why := outOfBounds(f, decode(f)); why != "" {
							t.Fatalf("%s, wire %d, %+v: %s", c.name, wire, f.Segments, why)
						}
					}
				}
			}
		}
	}
}

// outOfBounds says what is wrong with what a frame counts for, whatever is in the frame.
func outOfBounds(f frame.Frame, got frame.Packet) string {
	wire := int64(max(f.Wire, len(f.Data)))
	if counted := got.Outcome == frame.Counted; got.Source.IsValid() != counted || got.Destination.IsValid() != counted {
		return fmt.Sprintf("addresses must be valid if it is counted, and only then: %+v", got)
	}
	switch got.Outcome {
	case frame.Counted:
	case frame.NonIP, frame.Malformed:
		if got.Bytes != wire {
			return fmt.Sprintf("a frame of %d bytes without IP counts for %d", wire, got.Bytes)
		}
	default:
		return fmt.Sprint("not an outcome of decoding: ", got.Outcome)
	}

	f.Segments = frame.Segments{}
	whole := decode(f)
	if whole.Packets != 1 || whole.Bytes < 0 || whole.Bytes > wire {
		return fmt.Sprintf("a frame of %d bytes counts for %+v", wire, whole)
	}
	// Every segment has at least a byte of the payload, and at most all of the headers, which are less than the whole. A
	// jumbo payload option of 8 bytes may have been taken out.
	if got.Outcome != whole.Outcome || got.Source != whole.Source || got.Destination != whole.Destination ||
		got.Packets < 1 || got.Packets > max(whole.Bytes, 1) || got.Bytes < whole.Bytes-8 || got.Bytes > whole.Bytes*got.Packets {
		return fmt.Sprintf("got %+v, unmerged %+v", got, whole)
	}
	return ""
}
