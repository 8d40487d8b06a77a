package frame_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

// The EtherType of the service tags of older equipment, unknown to gopacket.
const oldQinQ layers.EthernetType = 0x9100

type decodeCase struct {
	name string
	in   frame.Frame
	want frame.Packet
}

// linkCases are frames by what stands before the IP header.
func linkCases(t testing.TB) []decodeCase {
	var (
		v4, v6  = ip4(t, 100), ip6(t, 100) // of 120 and 140 bytes
		payload = func(d []byte) gopacket.SerializableLayer { return gopacket.Payload(d) }
		cases   []decodeCase
	)
	add := func(name string, link frame.Link, data []byte, want frame.Packet) {
		cases = append(cases, decodeCase{name, frame.Frame{Link: link, Data: data, Wire: len(data)}, want})
	}
	eth := func(name string, want frame.Packet, stack ...gopacket.SerializableLayer) {
		add("ethernet/"+name, frame.LinkEthernet, build(t, stack...), want)
	}

	eth("IPv4", counted4(120), ethernet(layers.EthernetTypeIPv4), payload(v4))
	eth("IPv6", counted6(140), ethernet(layers.EthernetTypeIPv6), payload(v6))
	eth("one tag, IPv4", counted4(120), ethernet(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeIPv4), payload(v4))
	eth("one tag, IPv6", counted6(140), ethernet(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeIPv6), payload(v6))
	eth("802.1ad", counted4(120), ethernet(layers.EthernetTypeQinQ), tag(layers.EthernetTypeDot1Q),
		tag(layers.EthernetTypeIPv4), payload(v4))
	eth("802.1Q in 802.1Q", counted6(140), ethernet(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeDot1Q),
		tag(layers.EthernetTypeIPv6), payload(v6))
	eth("0x9100 tags", counted4(120), ethernet(oldQinQ), tag(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeIPv4), payload(v4))
	eth("0x9100 inside 802.1ad", counted4(120), ethernet(layers.EthernetTypeQinQ), tag(oldQinQ), tag(layers.EthernetTypeIPv4), payload(v4))

	tags := func(n int) []gopacket.SerializableLayer {
		return append(repeat(n-1, tag(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeIPv4)), payload(v4))
	}
	eth("as many tags as are followed", counted4(120),
		append([]gopacket.SerializableLayer{ethernet(layers.EthernetTypeDot1Q)}, tags(frame.MaxTags)...)...)
	eth("one tag too many", malformed(14+4*(frame.MaxTags+1)+120),
		append([]gopacket.SerializableLayer{ethernet(layers.EthernetTypeDot1Q)}, tags(frame.MaxTags+1)...)...)

	// What carries no IP, however much it looks like it.
	eth("ARP", nonIP(60), ethernet(layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: 1, SourceHwAddress: mac, SourceProtAddress: src4.AsSlice(), DstHwAddress: mac, DstProtAddress: dst4.AsSlice(),
	})
	eth("tagged ARP", nonIP(60), ethernet(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeARP), payload(make([]byte, 28)))
	eth("LLC, spanning tree", nonIP(60), &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeLLC, Length: 38},
		payload(with(make([]byte, 38), 0, 0x42, 0x42, 3)))
	eth("SNAP, even with IPv4 in it", nonIP(142), &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeLLC, Length: 128},
		payload(concat([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, v4)))
	eth("PPPoE discovery", nonIP(60), ethernet(layers.EthernetTypePPPoEDiscovery), payload([]byte{0x11, 9, 0, 0, 0, 0}))
	eth("loopback test", nonIP(60), ethernet(layers.EthernetTypeEthernetCTP), payload(nil))

	// Sessions.
	ppp4, ppp6 := &layers.PPP{PPPType: layers.PPPTypeIPv4}, &layers.PPP{PPPType: layers.PPPTypeIPv6}
	pppoe := ethernet(layers.EthernetTypePPPoESession)
	eth("PPPoE, IPv4", counted4(120), pppoe, session(), ppp4, payload(v4))
	eth("PPPoE, IPv6", counted6(140), pppoe, session(), ppp6, payload(v6))
	eth("PPPoE behind a tag", counted6(140), ethernet(layers.EthernetTypeDot1Q), tag(layers.EthernetTypePPPoESession), session(), ppp6, payload(v6))
	eth("PPPoE, one-byte protocol", counted4(120), pppoe, session(), payload(concat([]byte{0x21}, v4)))
	eth("PPPoE, link control", nonIP(60), pppoe, session(), payload([]byte{0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0}))
	eth("PPPoE, code of discovery", nonIP(142), pppoe, &layers.PPPoE{Version: 1, Type: 1, Code: layers.PPPoECodePADI}, ppp4, payload(v4))
	eth("PPPoE, other version", nonIP(142), pppoe, &layers.PPPoE{Version: 2, Type: 1}, ppp4, payload(v4))
	eth("PPPoE, other type", nonIP(142), pppoe, &layers.PPPoE{Version: 1, Type: 2}, ppp4, payload(v4))
	eth("PPPoE with MPLS", counted4(120), pppoe, session(), &layers.PPP{PPPType: layers.PPPTypeMPLSUnicast}, label(16, true), payload(v4))
	add("PPPoE link, IPv4", frame.LinkPPPoE, build(t, session(), ppp4, payload(v4)), counted4(120))
	add("PPPoE link, empty session", frame.LinkPPPoE, build(t, session()), malformed(6))

	// Labels.
	mpls := ethernet(layers.EthernetTypeMPLSUnicast)
	eth("MPLS, IPv4", counted4(120), mpls, label(1000, true), payload(v4))
	eth("MPLS, IPv6", counted6(140), mpls, label(1000, true), payload(v6))
	eth("MPLS multicast", counted4(120), ethernet(layers.EthernetTypeMPLSMulticast), label(1000, true), payload(v4))
	eth("MPLS stack", counted4(120), mpls, label(1000, false), label(2000, false), label(3000, true), payload(v4))
	eth("MPLS, IPv4 explicit null", counted4(120), mpls, label(0, true), payload(v4))
	eth("MPLS, IPv6 explicit null", counted6(140), mpls, label(2, true), payload(v6))
	eth("MPLS behind two tags", counted6(140), ethernet(layers.EthernetTypeQinQ), tag(layers.EthernetTypeDot1Q),
		tag(layers.EthernetTypeMPLSUnicast), label(1000, true), payload(v6))
	eth("MPLS, pseudowire with a control word", nonIP(156), mpls, label(1000, true), payload([]byte{0, 0, 0, 1}),
		ethernet(layers.EthernetTypeIPv4), payload(v4))
	eth("MPLS, associated channel", nonIP(60), mpls, label(1000, true), payload([]byte{0x10, 0, 0, 7, 0x20, 0x40}))
	eth("as many labels as are followed", counted4(120), append(append([]gopacket.SerializableLayer{mpls},
		repeat(frame.MaxLabels-1, label(5, false), label(6, true))...), payload(v4))...)
	eth("one label too many", malformed(14+4*(frame.MaxLabels+1)+120), append(append([]gopacket.SerializableLayer{mpls},
		repeat(frame.MaxLabels, label(5, false), label(6, true))...), payload(v4))...)

	// Linux cooked capture.
	for _, version := range []struct {
		name   string
		link   frame.Link
		header func(layers.EthernetType) []byte
	}{{"SLL", frame.LinkSLL, sll}, {"SLL2", frame.LinkSLL2, sll2}} {
		n := len(version.header(0))
		add(version.name+", IPv4", version.link, concat(version.header(layers.EthernetTypeIPv4), v4), counted4(120))
		add(version.name+", IPv6", version.link, concat(version.header(layers.EthernetTypeIPv6), v6), counted6(140))
		add(version.name+", tag", version.link,
			concat(version.header(layers.EthernetTypeDot1Q), build(t, tag(layers.EthernetTypeIPv6), payload(v6))), counted6(140))
		add(version.name+", PPPoE", version.link,
			concat(version.header(layers.EthernetTypePPPoESession), build(t, session(), ppp4, payload(v4))), counted4(120))
		add(version.name+", ARP", version.link, concat(version.header(layers.EthernetTypeARP), make([]byte, 28)), nonIP(n+28))
		add(version.name+", 802.3 frame", version.link, concat(version.header(4), v4), nonIP(n+120))
		add(version.name+", cut short", version.link, version.header(layers.EthernetTypeIPv4)[:n-1], malformed(n-1))
		add(version.name+", header only", version.link, version.header(layers.EthernetTypeIPv4), malformed(n))
	}

	// BSD loopback.
	for _, family := range []struct {
		number uint32
		packet []byte
		want   frame.Packet
	}{
		{2, v4, counted4(120)}, {10, v6, counted6(140)}, {23, v6, counted6(140)}, {24, v6, counted6(140)},
		{28, v6, counted6(140)}, {30, v6, counted6(140)}, {0x0800, v4, counted4(120)}, {0x86dd, v6, counted6(140)},
		{7, v4, nonIP(124)}, {0, v4, nonIP(124)},
	} {
		big := concat(binary.BigEndian.AppendUint32(nil, family.number), family.packet)
		little := concat(binary.LittleEndian.AppendUint32(nil, family.number), family.packet)
		add(fmt.Sprint("null, big-endian family ", family.number), frame.LinkNull, big, family.want)
		add(fmt.Sprint("null, little-endian family ", family.number), frame.LinkNull, little, family.want)
		add(fmt.Sprint("loop, family ", family.number), frame.LinkLoop, big, family.want)
	}
	add("null, by gopacket", frame.LinkNull, build(t, &layers.Loopback{Family: layers.ProtocolFamilyIPv4}, payload(v4)), counted4(120))
	add("loop is never little-endian", frame.LinkLoop, concat([]byte{2, 0, 0, 0}, v4), nonIP(124))
	add("null, cut short", frame.LinkNull, []byte{2, 0, 0}, malformed(3))

	// PPP.
	add("PPP, IPv4", frame.LinkPPP, build(t, ppp4, payload(v4)), counted4(120))
	add("PPP, IPv6", frame.LinkPPP, build(t, ppp6, payload(v6)), counted6(140))
	hdlc := &layers.PPP{PPPType: layers.PPPTypeIPv4, HasPPTPHeader: true}
	add("PPP in HDLC framing", frame.LinkPPP, build(t, hdlc, payload(v4)), counted4(120))
	add("PPP, one-byte protocol", frame.LinkPPP, concat([]byte{0x57}, v6), counted6(140))
	add("PPP in HDLC framing, one-byte protocol", frame.LinkPPP, concat([]byte{0xff, 3, 0x21}, v4), counted4(120))
	add("PPP, MPLS", frame.LinkPPP, build(t, &layers.PPP{PPPType: layers.PPPTypeMPLSUnicast}, label(0, true), payload(v4)), counted4(120))
	add("PPP, MPLS multicast", frame.LinkPPP, build(t, &layers.PPP{PPPType: layers.PPPTypeMPLSMulticast}, label(2, true), payload(v6)), counted6(140))
	add("PPP, echo request", frame.LinkPPP, []byte{0xff, 3, 0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0}, nonIP(12))
	add("PPP, protocol cut in half", frame.LinkPPP, []byte{0xff, 3, 0}, malformed(3))
	add("PPP, framing only", frame.LinkPPP, []byte{0xff, 3}, malformed(2))
	add("PPP with direction, IPv4", frame.LinkPPPDir, concat([]byte{0}, build(t, hdlc, payload(v4))), counted4(120))
	add("PPP with direction, IPv6 without framing", frame.LinkPPPDir, concat([]byte{1}, build(t, ppp6, payload(v6))), counted6(140))
	add("PPP with direction, direction only", frame.LinkPPPDir, []byte{1}, malformed(1))

	// No link header.
	add("raw, IPv4", frame.LinkRaw, v4, counted4(120))
	add("raw, IPv6", frame.LinkRaw, v6, counted6(140))
	add("raw, other version", frame.LinkRaw, with(v4, 0, 0x55), malformed(120))
	add("IPv4 link", frame.LinkIPv4, v4, counted4(120))
	add("IPv4 link, IPv6", frame.LinkIPv4, v6, malformed(140))
	add("IPv6 link", frame.LinkIPv6, v6, counted6(140))
	add("IPv6 link, IPv4", frame.LinkIPv6, v4, malformed(120))
	add("unknown link", frame.LinkUnknown, v4, malformed(120))
	for _, none := range []struct {
		name string
		kind layers.EthernetType
		data []byte
		want frame.Packet
	}{
		{"IPv4", layers.EthernetTypeIPv4, v4, counted4(120)},
		{"IPv6", layers.EthernetTypeIPv6, v6, counted6(140)},
		{"tag", layers.EthernetTypeQinQ, build(t, tag(layers.EthernetTypeIPv6), payload(v6)), counted6(140)},
		{"MPLS", layers.EthernetTypeMPLSUnicast, build(t, label(3, true), payload(v4)), counted4(120)},
		{"ARP", layers.EthernetTypeARP, make([]byte, 28), nonIP(28)},
		{"IPv4 called IPv6", layers.EthernetTypeIPv6, v4, malformed(120)},
	} {
		cases = append(cases, decodeCase{"no link header, " + none.name,
			frame.Frame{Link: frame.LinkNone, EtherType: uint16(none.kind), Data: none.data, Wire: len(none.data)}, none.want})
	}

	// Nothing at all.
	for link := frame.LinkUnknown; link <= frame.LinkSLL2; link++ {
		f := frame.Frame{Link: link, EtherType: uint16(layers.EthernetTypeIPv4)}
		cases = append(cases, decodeCase{fmt.Sprint("no data, link ", link), f, malformed(0)})
		f.Wire = 1500
		cases = append(cases, decodeCase{fmt.Sprint("nothing captured, link ", link), f, malformed(1500)})
	}
	cases = append(cases, decodeCase{"no data, no link header, ARP", frame.Frame{Link: frame.LinkNone, EtherType: 0x0806}, nonIP(0)})
	return cases
}

// headerCases are Ethernet frames by their IP header.
func headerCases(t testing.TB) []decodeCase {
	var cases []decodeCase
	add := func(name string, etherType layers.EthernetType, packet []byte, want frame.Packet) {
		data := build(t, ethernet(etherType), gopacket.Payload(packet))
		cases = append(cases, decodeCase{name, frame.Frame{Link: frame.LinkEthernet, Data: data, Wire: len(data)}, want})
	}
	v4 := func(name string, packet []byte, want frame.Packet) {
		add("IPv4/"+name, layers.EthernetTypeIPv4, packet, want)
	}
	v6 := func(name string, packet []byte, want frame.Packet) {
		add("IPv6/"+name, layers.EthernetTypeIPv6, packet, want)
	}
	tcp := func() *layers.TCP { return &layers.TCP{SrcPort: 1, DstPort: 2, ACK: true} }

	options := ip4Header(layers.IPProtocolUDP)
	options.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 39, OptionData: make([]byte, 37)}, {OptionType: 0, OptionLength: 1}}
	withOptions := build(t, options, gopacket.Payload(make([]byte, 100)))
	v4("all of its options", withOptions, counted4(160))
	v4("padding does not count", ip4(t, 1), counted4(21))
	v4("header only", ip4(t, 0), counted4(20))
	v4("version 5", with(ip4(t, 100), 0, 0x55), malformed(134))
	v4("version 6", with(ip4(t, 100), 0, 0x65), malformed(134))
	for ihl := range byte(5) {
		v4(fmt.Sprint("IHL ", ihl), with(ip4(t, 100), 0, 0x40|ihl), malformed(134))
	}
	v4("IHL beyond the total length", with(ip4(t, 19), 0, 0x4a), malformed(60))
	v4("IHL equal to the total length", with(ip4(t, 20), 0, 0x4a), counted4(40))
	v4("total length 19", with(ip4(t, 100), 2, 0, 19), malformed(134))
	v4("total length 1", with(ip4(t, 100), 2, 0, 1), malformed(134))
	v4("total length less than the header with options", with(withOptions, 2, 0, 59), malformed(174))
	v4("total length 0 is all the frame held", with(ip4(t, 100), 2, 0, 0), counted4(120))
	v4("total length 0 with padding", with(ip4(t, 1), 2, 0, 0), counted4(46))
	v4("total length over the frame", with(ip4(t, 100), 2, 0xff, 0xff), counted4(120))
	v4("total length one over the frame", with(ip4(t, 100), 2, 0, 121), counted4(120))
	v4("total length less than the frame", with(ip4(t, 100), 2, 0, 99), counted4(99))
	v4("broken checksum", with(ip4(t, 100), 10, 0xde, 0xad), counted4(120))
	v4("broken options", with(withOptions, 20, 7, 255), counted4(160))
	first := ip4Header(layers.IPProtocolTCP)
	first.Flags = layers.IPv4MoreFragments
	v4("first fragment", build(t, first, gopacket.Payload(make([]byte, 1480))), counted4(1500))
	last := ip4Header(layers.IPProtocolTCP)
	last.FragOffset = 185
	v4("last fragment", build(t, last, gopacket.Payload(make([]byte, 3))), counted4(23))
	v4("broken transport header", build(t, ip4Header(layers.IPProtocolTCP), gopacket.Payload{0xff}), counted4(21))

	v6("header only, length 0, padding", ip6(t, 0), counted6(46)) // a length of 0 is all of the frame
	v6("length 0 without padding", with(ip6(t, 100), 4, 0, 0), counted6(140))
	v6("length over the frame", with(ip6(t, 100), 4, 0xff, 0xff), counted6(140))
	v6("length one over the frame", with(ip6(t, 100), 4, 0, 101), counted6(140))
	v6("length less than the frame", with(ip6(t, 100), 4, 0, 1), counted6(41))
	v6("padding does not count", ip6(t, 1), counted6(41))
	v6("version 4", with(ip6(t, 100), 0, 0x45), malformed(154))
	v6("version 7", with(ip6(t, 100), 0, 0x70), malformed(154))
	hop := &layers.IPv6HopByHop{}
	hop.NextHeader, hop.Options = layers.IPProtocolUDP, []*layers.IPv6HopByHopOption{{OptionType: 1, OptionData: make([]byte, 4)}}
	ext := ip6Header(layers.IPProtocolIPv6HopByHop)
	v6("extension headers count", build(t, ext, hop, gopacket.Payload(make([]byte, 100))), counted6(148))
	jumbo := concat(with(ip6(t, 0), 4, 0, 0, 0), []byte{17, 0, 0xc2, 4, 0, 1, 0, 1}, make([]byte, 65537))
	v6("jumbogram", jumbo, counted6(len(jumbo)))

	// The outermost header counts, whatever it carries.
	v4("IPv4 in IPv4", build(t, ip4Header(layers.IPProtocolIPv4), gopacket.Payload(ip4(t, 100))), counted4(140))
	v4("IPv6 in IPv4", build(t, ip4Header(layers.IPProtocolIPv6), gopacket.Payload(ip6(t, 100))), counted4(160))
	v6("IPv4 in IPv6", build(t, ip6Header(layers.IPProtocolIPv4), gopacket.Payload(ip4(t, 100))), counted6(160))
	v4("GRE", build(t, ip4Header(layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeIPv6}, gopacket.Payload(ip6(t, 100))), counted4(164))
	outer, udp := ip4Header(layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 4789}
	if err := udp.SetNetworkLayerForChecksum(outer); err != nil {
		t.Fatal(err)
	}
	v4("VXLAN", build(t, outer, udp, &layers.VXLAN{ValidIDFlag: true, VNI: 3}, ethernet(layers.EthernetTypeIPv6), gopacket.Payload(ip6(t, 100))),
		counted4(20+8+8+14+140))
	inner := ip4Header(layers.IPProtocolTCP)
	segment := tcp()
	if err := segment.SetNetworkLayerForChecksum(inner); err != nil {
		t.Fatal(err)
	}
	v4("TCP with a payload", build(t, inner, segment, gopacket.Payload(make([]byte, 1460))), counted4(1500))

	// Frames captured in part.
	cut := func(name string, f []byte, captured int, want frame.Packet) {
		cases = append(cases, decodeCase{name, frame.Frame{Link: frame.LinkEthernet, Data: f[:captured], Wire: len(f)}, want})
	}
	long4 := build(t, ethernet(layers.EthernetTypeIPv4), gopacket.Payload(ip4(t, 1400)))
	long6 := build(t, ethernet(layers.EthernetTypeIPv6), gopacket.Payload(ip6(t, 1400)))
	cut("IPv4/20 bytes of the header captured", long4, 14+20, counted4(1420))
	cut("IPv4/19 bytes of the header captured", long4, 14+19, malformed(1434))
	cut("IPv4/options not captured", build(t, ethernet(layers.EthernetTypeIPv4), gopacket.Payload(withOptions)), 14+20, counted4(160))
	cut("IPv4/snapped, total length 0", with(long4, 16, 0, 0), 96, counted4(1420))
	cut("IPv4/snapped, total length over the wire", with(long4, 16, 0xff, 0xff), 96, counted4(1420))
	cut("IPv6/40 bytes of the header captured", long6, 14+40, counted6(1440))
	cut("IPv6/39 bytes of the header captured", long6, 14+39, malformed(1454))
	cut("IPv6/snapped, length 0", with(long6, 18, 0, 0), 96, counted6(1440))
	cut("Ethernet header cut short", long4, 13, malformed(1434))
	cut("Ethernet header only", long4, 14, malformed(1434))
	tagged := build(t, ethernet(layers.EthernetTypeDot1Q), tag(layers.EthernetTypeIPv4), gopacket.Payload(ip4(t, 1400)))
	cut("tag cut short", tagged, 17, malformed(1438))
	cut("tag only", tagged, 18, malformed(1438))
	cut("tag and 20 bytes", tagged, 38, counted4(1420))
	pppoe := build(t, ethernet(layers.EthernetTypePPPoESession), session(), &layers.PPP{PPPType: layers.PPPTypeIPv4}, gopacket.Payload(ip4(t, 1400)))
	for n := 14; n < 22+20; n++ {
		cut(fmt.Sprint("PPPoE, captured ", n), pppoe, n, malformed(1442))
	}
	cut("PPPoE and 20 bytes", pppoe, 22+20, counted4(1420))
	mpls := build(t, ethernet(layers.EthernetTypeMPLSUnicast), label(5, false), label(6, true), gopacket.Payload(ip6(t, 1400)))
	for n := 14; n < 22+40; n++ {
		cut(fmt.Sprint("MPLS, captured ", n), mpls, n, malformed(1462))
	}
	cut("MPLS and 40 bytes", mpls, 22+40, counted6(1440))

	// A capture may not know the length on the wire.
	cases = append(cases,
		decodeCase{"wire length 0", frame.Frame{Link: frame.LinkEthernet, Data: long4}, counted4(1420)},
		decodeCase{"negative wire length", frame.Frame{Link: frame.LinkEthernet, Data: long4, Wire: -1}, counted4(1420)},
		decodeCase{"wire length less than captured", frame.Frame{Link: frame.LinkEthernet, Data: long4, Wire: 60}, counted4(1420)},
	)
	return cases
}

func decodeCases(t testing.TB) []decodeCase { return slices.Concat(linkCases(t), headerCases(t)) }

func TestDecode(t *testing.T) {
	for _, c := range decodeCases(t) {
		t.Run(c.name, func(t *testing.T) {
			if got := decode(c.in); got != c.want {
				t.Errorf("\ngot  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// A capture that ends early may turn a packet malformed, but must not panic or change what it counts for.
func TestDecodeOfCutFrames(t *testing.T) {
	for _, c := range decodeCases(t) {
		for n := range min(len(c.in.Data), 200) {
			cut := c.in
			cut.Data, cut.Wire = c.in.Data[:n:n], max(c.in.Wire, len(c.in.Data))
			if got := decode(cut); got.Outcome == frame.Counted && got != c.want {
				t.Errorf("%s, %d bytes captured:\ngot  %+v\nwant %+v", c.name, n, got, c.want)
			}
		}
	}
}

func TestLinkOfTypeKnowsTheNumbersOfCaptureFiles(t *testing.T) {
	want := map[uint32]frame.Link{
		uint32(layers.LinkTypeNull): frame.LinkNull, uint32(layers.LinkTypeEthernet): frame.LinkEthernet,
		uint32(layers.LinkTypePPP): frame.LinkPPP, uint32(layers.LinkTypePPP_HDLC): frame.LinkPPP,
		uint32(layers.LinkTypePPPEthernet): frame.LinkPPPoE, uint32(layers.LinkTypeRaw): frame.LinkRaw,
		uint32(layers.LinkTypeLoop): frame.LinkLoop, uint32(layers.LinkTypeLinuxSLL): frame.LinkSLL,
		uint32(layers.LinkTypeIPv4): frame.LinkIPv4, uint32(layers.LinkTypeIPv6): frame.LinkIPv6,
		12: frame.LinkRaw, 14: frame.LinkRaw, 204: frame.LinkPPPDir, 276: frame.LinkSLL2,
	}
	for number := range uint32(400) {
		if got := frame.LinkOfType(number); got != want[number] {
			t.Errorf("link type %d: got %d, want %d", number, got, want[number])
		}
	}
}

func TestOutcomeNames(t *testing.T) {
	want := []string{"counted", "unmonitored", "excluded", "non_ip", "malformed"}
	for outcome := range frame.Outcomes {
		if outcome.String() != want[outcome] {
			t.Errorf("outcome %d: got %q, want %q", outcome, outcome, want[outcome])
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	for _, c := range slices.Concat(decodeCases(t), segmentCases(t)) {
		var p frame.Packet
		if n := testing.AllocsPerRun(10, func() { p.Decode(&c.in) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}
