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

// OldQinQ is the EtherType of the service tags of older equipment, unknown to gopacket.
const OldQinQ layers.EthernetType = 0x9100

// LinkCases are frames by what stands before the IP header.
func LinkCases(t testing.TB) []Case {
	var (
		v4, v6        = IP4(t, 100), IP6(t, 100) // of 120 and 140 bytes
		all, ethernet = collector{t: t}, collector{t: t, prefix: "ethernet/"}
		add, eth      = all.add, ethernet.eth
	)

	eth("IPv4", Counted4(120), Ethernet(ipv4), v4)
	eth("IPv6", counted6(140), Ethernet(ipv6), v6)
	eth("one tag, IPv4", in(7, Counted4(120)), Ethernet(dot1q), Tag(ipv4), v4)
	eth("one tag, IPv6", in(7, counted6(140)), Ethernet(dot1q), Tag(ipv6), v6)
	eth("802.1ad", in(7, Counted4(120)), Ethernet(qinq), Tag(dot1q), Tag(ipv4), v4)
	eth("802.1Q in 802.1Q", in(7, counted6(140)), Ethernet(dot1q), Tag(dot1q), Tag(ipv6), v6)
	eth("0x9100 tags", in(7, Counted4(120)), Ethernet(OldQinQ), Tag(dot1q), Tag(ipv4), v4)
	eth("0x9100 inside 802.1ad", in(7, Counted4(120)), Ethernet(qinq), Tag(OldQinQ), Tag(ipv4), v4)

	tags := func(n int) stack {
		return slices.Concat(stack{Ethernet(dot1q)}, repeat(n-1, Tag(dot1q)), stack{Tag(ipv4), v4})
	}
	eth("as many tags as are followed", in(7, Counted4(120)), tags(frame.MaxTags)...)
	eth("one tag too many", malformed(14+4*(frame.MaxTags+1)+120), tags(frame.MaxTags+1)...)

	// What carries no IP, however much it looks like it.
	eth("ARP", nonIP(60), Ethernet(layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: ipv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: 1, SourceHwAddress: mac, SourceProtAddress: src4.AsSlice(), DstHwAddress: mac, DstProtAddress: dst4.AsSlice(),
	})
	eth("tagged ARP", nonIP(60), Ethernet(dot1q), Tag(layers.EthernetTypeARP), make(gopacket.Payload, 28))
	eth("LLC, spanning tree", nonIP(60), &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeLLC, Length: 38},
		With(make([]byte, 38), 0, 0x42, 0x42, 3))
	eth("PPPoE discovery", nonIP(60), Ethernet(layers.EthernetTypePPPoEDiscovery), gopacket.Payload{0x11, 9, 0, 0, 0, 0})
	eth("loopback test", nonIP(60), Ethernet(layers.EthernetTypeEthernetCTP), gopacket.Payload{})

	// Sessions.
	ppp4, ppp6 := &layers.PPP{PPPType: layers.PPPTypeIPv4}, &layers.PPP{PPPType: layers.PPPTypeIPv6}
	eth("PPPoE, IPv4", Counted4(120), Ethernet(pppoe), Session(), ppp4, v4)
	eth("PPPoE, IPv6", counted6(140), Ethernet(pppoe), Session(), ppp6, v6)
	eth("PPPoE behind a tag", in(7, counted6(140)), Ethernet(dot1q), Tag(pppoe), Session(), ppp6, v6)
	eth("PPPoE, one-byte protocol", Counted4(120), Ethernet(pppoe), Session(), Concat([]byte{0x21}, v4))
	eth("PPPoE, link control", nonIP(60), Ethernet(pppoe), Session(), gopacket.Payload{0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0})
	eth("PPPoE, code of discovery", nonIP(142), Ethernet(pppoe), &layers.PPPoE{Version: 1, Type: 1, Code: layers.PPPoECodePADI}, ppp4, v4)
	eth("PPPoE, other version", nonIP(142), Ethernet(pppoe), &layers.PPPoE{Version: 2, Type: 1}, ppp4, v4)
	eth("PPPoE, other type", nonIP(142), Ethernet(pppoe), &layers.PPPoE{Version: 1, Type: 2}, ppp4, v4)
	eth("PPPoE with MPLS", Counted4(120), Ethernet(pppoe), Session(), &layers.PPP{PPPType: layers.PPPTypeMPLSUnicast}, Label(16, true), v4)
	add("PPPoE link, IPv4", frame.LinkPPPoE, Build(t, Session(), ppp4, v4), Counted4(120))
	add("PPPoE link, empty session", frame.LinkPPPoE, Build(t, Session()), malformed(6))

	// Labels.
	eth("MPLS, IPv4", Counted4(120), Ethernet(mpls), Label(1000, true), v4)
	eth("MPLS, IPv6", counted6(140), Ethernet(mpls), Label(1000, true), v6)
	eth("MPLS multicast", Counted4(120), Ethernet(layers.EthernetTypeMPLSMulticast), Label(1000, true), v4)
	eth("MPLS stack", Counted4(120), Ethernet(mpls), Label(1000, false), Label(2000, false), Label(3000, true), v4)
	eth("MPLS, IPv4 explicit null", Counted4(120), Ethernet(mpls), Label(0, true), v4)
	eth("MPLS, IPv6 explicit null", counted6(140), Ethernet(mpls), Label(2, true), v6)
	eth("MPLS behind two tags", in(7, counted6(140)), Ethernet(qinq), Tag(dot1q), Tag(mpls), Label(1000, true), v6)
	eth("MPLS, pseudowire with a control word", nonIP(156), Ethernet(mpls), Label(1000, true), gopacket.Payload{0, 0, 0, 1},
		Ethernet(ipv4), v4)
	eth("MPLS, associated channel", nonIP(60), Ethernet(mpls), Label(1000, true), gopacket.Payload{0x10, 0, 0, 7, 0x20, 0x40})
	labels := func(n int) stack {
		return slices.Concat(stack{Ethernet(mpls)}, repeat(n-1, Label(5, false)), stack{Label(6, true), v4})
	}
	eth("as many labels as are followed", Counted4(120), labels(frame.MaxLabels)...)
	eth("one label too many", malformed(14+4*(frame.MaxLabels+1)+120), labels(frame.MaxLabels+1)...)

	// Linux cooked capture.
	for _, version := range []struct {
		name   string
		link   frame.Link
		header func(layers.EthernetType) []byte
	}{{"SLL", frame.LinkSLL, SLL}, {"SLL2", frame.LinkSLL2, sll2}} {
		n := len(version.header(0))
		add(version.name+", IPv4", version.link, Concat(version.header(ipv4), v4), Counted4(120))
		add(version.name+", IPv6", version.link, Concat(version.header(ipv6), v6), counted6(140))
		add(version.name+", tag", version.link, Concat(version.header(dot1q), Build(t, Tag(ipv6), v6)), in(7, counted6(140)))
		add(version.name+", PPPoE", version.link, Concat(version.header(pppoe), Build(t, Session(), ppp4, v4)), Counted4(120))
		add(version.name+", ARP", version.link, Concat(version.header(layers.EthernetTypeARP), make([]byte, 28)), nonIP(n+28))
		add(version.name+", LLC", version.link, Concat(version.header(4), v4), nonIP(n+120))
		add(version.name+", SNAP", version.link, Concat(version.header(4), snap(0, ipv4), v4), Counted4(120))
		add(version.name+", SNAP, tag", version.link, Concat(version.header(4), snap(0, dot1q), Build(t, Tag(ipv6), v6)), in(7, counted6(140)))
		add(version.name+", LLC behind a tag", version.link, Concat(version.header(dot1q), Build(t, Tag(128)), snap(0, ipv4), v4),
			in(7, Counted4(120)))
		add(version.name+", Novell", version.link, Concat(version.header(1), snap(0, ipv4), v4), nonIP(n+128))
		add(version.name+", no length", version.link, Concat(version.header(128), snap(0, ipv4), v4), nonIP(n+128))
		add(version.name+", cut short", version.link, version.header(ipv4)[:n-1], malformed(n-1))
		add(version.name+", header only", version.link, version.header(ipv4), malformed(n))
	}

	// BSD loopback.
	for _, family := range []struct {
		number uint32
		packet []byte
		want   frame.Packet
	}{
		{2, v4, Counted4(120)}, {10, v6, counted6(140)}, {23, v6, counted6(140)}, {24, v6, counted6(140)},
		{28, v6, counted6(140)}, {30, v6, counted6(140)}, {0x0800, v4, Counted4(120)}, {0x86dd, v6, counted6(140)},
		{7, v4, nonIP(124)}, {0, v4, nonIP(124)},
	} {
		big := Concat(binary.BigEndian.AppendUint32(nil, family.number), family.packet)
		little := Concat(binary.LittleEndian.AppendUint32(nil, family.number), family.packet)
		add(fmt.Sprint("null, big-endian family ", family.number), frame.LinkNull, big, family.want)
		add(fmt.Sprint("null, little-endian family ", family.number), frame.LinkNull, little, family.want)
		add(fmt.Sprint("loop, family ", family.number), frame.LinkLoop, big, family.want)
	}
	add("null, by gopacket", frame.LinkNull, Build(t, &layers.Loopback{Family: layers.ProtocolFamilyIPv4}, v4), Counted4(120))
	add("loop is never little-endian", frame.LinkLoop, Concat([]byte{2, 0, 0, 0}, v4), nonIP(124))
	add("null, cut short", frame.LinkNull, []byte{2, 0, 0}, malformed(3))

	// PPP.
	add("PPP, IPv4", frame.LinkPPP, Build(t, ppp4, v4), Counted4(120))
	add("PPP, IPv6", frame.LinkPPP, Build(t, ppp6, v6), counted6(140))
	hdlc := &layers.PPP{PPPType: layers.PPPTypeIPv4, HasPPTPHeader: true}
	add("PPP in HDLC framing", frame.LinkPPP, Build(t, hdlc, v4), Counted4(120))
	add("PPP, one-byte protocol", frame.LinkPPP, Concat([]byte{0x57}, v6), counted6(140))
	add("PPP in HDLC framing, one-byte protocol", frame.LinkPPP, Concat([]byte{0xff, 3, 0x21}, v4), Counted4(120))
	add("PPP, MPLS", frame.LinkPPP, Build(t, &layers.PPP{PPPType: layers.PPPTypeMPLSUnicast}, Label(0, true), v4), Counted4(120))
	add("PPP, MPLS multicast", frame.LinkPPP, Build(t, &layers.PPP{PPPType: layers.PPPTypeMPLSMulticast}, Label(2, true), v6), counted6(140))
	add("PPP, echo request", frame.LinkPPP, []byte{0xff, 3, 0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0}, nonIP(12))
	add("PPP, protocol cut in half", frame.LinkPPP, []byte{0xff, 3, 0}, malformed(3))
	add("PPP, framing only", frame.LinkPPP, []byte{0xff, 3}, malformed(2))
	add("PPP with direction, IPv4", frame.LinkPPPDir, Concat([]byte{0}, Build(t, hdlc, v4)), Counted4(120))
	add("PPP with direction, IPv6 without framing", frame.LinkPPPDir, Concat([]byte{1}, Build(t, ppp6, v6)), counted6(140))
	add("PPP with direction, direction only", frame.LinkPPPDir, []byte{1}, malformed(1))

	// No link header.
	add("raw, IPv4", frame.LinkRaw, v4, Counted4(120))
	add("raw, IPv6", frame.LinkRaw, v6, counted6(140))
	add("raw, other version", frame.LinkRaw, With(v4, 0, 0x55), malformed(120))
	add("IPv4 link", frame.LinkIPv4, v4, Counted4(120))
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
		{"IPv4", ipv4, v4, Counted4(120)},
		{"IPv6", ipv6, v6, counted6(140)},
		{"tag", qinq, Build(t, Tag(ipv6), v6), in(7, counted6(140))},
		{"MPLS", mpls, Build(t, Label(3, true), v4), Counted4(120)},
		{"ARP", layers.EthernetTypeARP, make([]byte, 28), nonIP(28)},
		{"no length", 128, Concat(snap(0, ipv4), v4), nonIP(128)},
		{"LLC behind a tag", dot1q, Concat(Build(t, Tag(128)), snap(0, ipv4), v4), in(7, Counted4(120))},
		{"IPv4 called IPv6", ipv6, v4, malformed(120)},
	} {
		f := frame.Frame{Link: frame.LinkNone, EtherType: uint16(none.kind), Data: none.data, Wire: len(none.data)}
		all.frame("no link header, "+none.name, f, none.want)
	}

	// Nothing at all.
	for link := frame.LinkUnknown; link <= frame.Link80211; link++ {
		f := frame.Frame{Link: link, EtherType: uint16(ipv4)}
		all.frame(fmt.Sprint("no data, link ", link), f, malformed(0))
		f.Wire = 1500
		all.frame(fmt.Sprint("nothing captured, link ", link), f, malformed(1500))
	}
	all.frame("no data, no link header, ARP", frame.Frame{Link: frame.LinkNone, EtherType: 0x0806}, nonIP(0))
	return slices.Concat(ethernet.cases, all.cases)
}
