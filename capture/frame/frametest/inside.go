package frametest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

// Headers of link layers that gopacket cannot write, or not in the forms that cases need.

// wireless is a header of 802.11 with frame control, then three addresses, then more.
func wireless(kind, flags byte, more ...byte) []byte {
	h := make([]byte, 24)
	h[0], h[1] = kind, flags
	copy(h[4:], mac)
	copy(h[10:], mac)
	copy(h[16:], mac)
	return append(h, more...)
}

const (
	data, qosData    = 0x08, 0x88
	toDS, fromDS     = 0x01, 0x02
	moreFragments    = 0x04
	protected, order = 0x40, 0x80
	withFCS, withPad = 0x10, 0x20
	aggregate        = 0x80 // of QoS control
)

// snap is LLC with a protocol of an organization.
func snap(organization uint32, protocol layers.EthernetType) []byte {
	h := binary.BigEndian.AppendUint32([]byte{0xaa, 0xaa}, 3<<24|organization)
	return binary.BigEndian.AppendUint16(h, uint16(protocol))
}

// radiotap is a header with a bitmap of fields, and the bytes of these.
func radiotap(present uint32, fields ...byte) []byte {
	h := binary.LittleEndian.AppendUint16([]byte{0, 0}, uint16(8+len(fields)))
	return append(binary.LittleEndian.AppendUint32(h, present), fields...)
}

// ppi is a header with flags, the link layer inside, and fields.
func ppi(flags byte, linkType uint32, fields ...byte) []byte {
	h := binary.LittleEndian.AppendUint16([]byte{0, flags}, uint16(8+len(fields)))
	return append(binary.LittleEndian.AppendUint32(h, linkType), fields...)
}

// ppiField is a field of PPI; 802.11 has flags in field 2.
func ppiField(kind uint16, data ...byte) []byte {
	h := binary.LittleEndian.AppendUint16(nil, kind)
	return append(binary.LittleEndian.AppendUint16(h, uint16(len(data))), data...)
}

func ppiCommon(flags byte) []byte { return ppiField(2, With(make([]byte, 20), 8, flags)...) }

// attribute is one of NFLOG, padded to four bytes.
func attribute(o binary.AppendByteOrder, kind uint16, value []byte) []byte {
	h := o.AppendUint16(o.AppendUint16(nil, uint16(4+len(value))), kind)
	h = append(h, value...)
	return append(h, make([]byte, -len(h)&3)...)
}

// nflog is a header with an address family, and the attributes that Linux writes before the packet.
func nflog(o binary.AppendByteOrder, family byte, packet []byte) []byte {
	return slices.Concat([]byte{family, 0, 0, 5}, attribute(o, 1, []byte{8, 0, 1, 0}), attribute(o, 10, []byte("a prefix\x00")),
		attribute(o, 5, []byte{0, 0, 0, 2}), attribute(o, 9, packet))
}

// msdu is a packet as 802.11 aggregates it, without padding.
func msdu(packet []byte) []byte {
	return Concat(mac, mac, binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet)
}

// InsideCases are frames of link layers whose headers tell where the packet ends, or which other link layer follows.
func InsideCases(t testing.TB) []Case {
	return slices.Concat(serialCases(t), infiniBandCases(t), nflogCases(t), wirelessCases(t), radiotapCases(t), ppiCases(t))
}

// serialCases are frames of Cisco HDLC and Frame Relay.
func serialCases(t testing.TB) []Case {
	v4, v6 := IP4(t, 100), IP6(t, 100) // of 120 and 140 bytes
	all := collector{t: t, prefix: "CHDLC/"}
	chdlc := func(name string, want frame.Packet, parts ...[]byte) {
		all.add(name, frame.LinkCHDLC, Concat(parts...), want)
	}
	chdlc("IPv4", Counted4(120), []byte{0x0f, 0, 8, 0}, v4)
	chdlc("IPv6, multicast", counted6(140), []byte{0x8f, 0, 0x86, 0xdd}, v6)
	chdlc("padding does not count", Counted4(120), []byte{0x0f, 0, 8, 0}, v4, make([]byte, 10))
	chdlc("MPLS", Counted4(120), []byte{0x0f, 0, 0x88, 0x47}, Build(t, Label(16, true), v4))
	chdlc("keepalive", nonIP(22), []byte{0x8f, 0, 0x80, 0x35, 0, 0, 0, 2}, make([]byte, 14))
	chdlc("header only", malformed(4), []byte{0x0f, 0, 8, 0})
	chdlc("cut short", malformed(3), []byte{0x0f, 0, 8})

	all.prefix = "frame relay/"
	relay := func(name string, want frame.Packet, header []byte, parts ...[]byte) {
		all.add(name, frame.LinkFrameRelay, Concat(header, Concat(parts...)), want)
	}
	relay("IPv4", Counted4(120), []byte{0x18, 0x41, 3, 0xcc}, v4)
	relay("IPv6", counted6(140), []byte{0x18, 0x41, 3, 0x8e}, v6)
	relay("padding before the NLPID", Counted4(120), []byte{0x18, 0x41, 3, 0, 0xcc}, v4)
	relay("address of three bytes", Counted4(120), []byte{0x18, 0x40, 0x21, 3, 0xcc}, v4)
	relay("address of four bytes", counted6(140), []byte{0x18, 0x40, 0x20, 0x21, 3, 0x8e}, v6)
	relay("address of five bytes", malformed(127), []byte{0x18, 0x40, 0x20, 0x20, 0x21, 3, 0xcc}, v4)
	relay("address of one byte", malformed(123), []byte{0x19, 3, 0xcc}, v4)
	relay("address without an end", malformed(20), make([]byte, 20))
	relay("SNAP, IPv4", Counted4(120), []byte{0x18, 0x41, 3, 0, 0x80, 0, 0, 0, 8, 0}, v4)
	relay("SNAP without padding, IPv6", counted6(140), []byte{0x18, 0x41, 3, 0x80, 0, 0, 0, 0x86, 0xdd}, v6)
	relay("SNAP, tag", in(7, Counted4(120)), []byte{0x18, 0x41, 3, 0, 0x80, 0, 0, 0, 0x81, 0}, Build(t, Tag(ipv4), v4))
	relay("SNAP, ARP", nonIP(38), []byte{0x18, 0x41, 3, 0, 0x80, 0, 0, 0, 8, 6}, make([]byte, 28))
	relay("SNAP of another organization", nonIP(130), []byte{0x18, 0x41, 3, 0, 0x80, 0, 0, 0xc, 8, 0}, v4)
	relay("SNAP cut short", malformed(9), []byte{0x18, 0x41, 3, 0, 0x80, 0, 0, 0, 8})
	unsized := With(IP4(t, 100), 2, 0, 0)
	relay("bridged Ethernet", Counted4(120), []byte{0x18, 0x41, 3, 0, 0x80, 0, 0x80, 0xc2, 0, 7}, Build(t, Ethernet(ipv4), unsized))
	relay("bridged Ethernet with FCS", Counted4(120), []byte{0x18, 0x41, 3, 0, 0x80, 0, 0x80, 0xc2, 0, 1},
		Build(t, Ethernet(ipv4), unsized), make([]byte, 4))
	relay("bridged token ring", nonIP(144), []byte{0x18, 0x41, 3, 0, 0x80, 0, 0x80, 0xc2, 0, 9}, Build(t, Ethernet(ipv4), v4))
	relay("PPP", Counted4(120), []byte{0x18, 0x41, 3, 0xcf, 0, 0x21}, v4)
	relay("Cisco, IPv4", Counted4(120), []byte{0x18, 0x41, 8, 0}, v4)
	relay("Cisco, IPv6", counted6(140), []byte{0x18, 0x41, 0x86, 0xdd}, v6)
	relay("Cisco, ARP", nonIP(32), []byte{0x18, 0x41, 8, 6}, make([]byte, 28))
	relay("signaling", nonIP(17), []byte{0, 1, 3, 8, 0, 0x75}, make([]byte, 11))
	relay("signaling, acknowledged", nonIP(124), []byte{0, 1, 8, 0}, v4)
	relay("OSI", nonIP(34), []byte{0x18, 0x41, 3, 0x83}, make([]byte, 30))
	relay("header only", malformed(4), []byte{0x18, 0x41, 3, 0xcc})
	relay("padding only", malformed(4), []byte{0x18, 0x41, 3, 0})
	relay("cut short", malformed(3), []byte{0x18, 0x41, 3})
	return all.cases
}

// infiniBand is a local route header and a base transport header, with more headers behind these, a packet, and checksums.
func infiniBand(next, opcode byte, padding int, parts ...[]byte) []byte {
	base := make([]byte, 12)
	base[0], base[1], base[7] = opcode, byte(padding)<<4, 9 // a queue pair that is not of management
	d := Concat(make([]byte, 8), base, Concat(parts...), make([]byte, padding+4))
	if next == 3 {
		d = Concat(d[:8], With(make([]byte, 40), 6, 0x1b), d[8:])
	}
	d[1] = next
	binary.BigEndian.PutUint16(d[4:], uint16(len(d)/4))
	return append(d, 1, 2)
}

// infiniBandCases are frames of IP over InfiniBand, with and without the headers of InfiniBand.
func infiniBandCases(t testing.TB) []Case {
	v4, v6 := IP4(t, 100), IP6(t, 100) // of 120 and 140 bytes
	all := collector{t: t, prefix: "IPoIB/"}
	ipoib := func(name string, etherType layers.EthernetType, packet []byte, want frame.Packet) {
		header := make([]byte, 44)
		binary.BigEndian.PutUint16(header[40:], uint16(etherType))
		all.add(name, frame.LinkIPoIB, Concat(header, packet), want)
	}
	ipoib("IPv4", ipv4, v4, Counted4(120))
	ipoib("IPv6", ipv6, v6, counted6(140))
	ipoib("ARP", layers.EthernetTypeARP, make([]byte, 56), nonIP(100))
	ipoib("header only", ipv4, nil, malformed(44))
	all.add("cut short", frame.LinkIPoIB, make([]byte, 43), malformed(43))

	all.prefix = "InfiniBand/"
	add := func(name string, want frame.Packet, data []byte) { all.add(name, frame.LinkInfiniBand, data, want) }
	datagram, immediate := []byte{0, 0, 0xb, 0x1b, 0, 0, 0, 9}, make([]byte, 4)
	type4, type6 := []byte{8, 0, 0, 0}, []byte{0x86, 0xdd, 0, 0}
	add("datagram, IPv4", Counted4(120), infiniBand(2, 0x64, 0, datagram, type4, v4))
	add("datagram, IPv6", counted6(140), infiniBand(2, 0x64, 0, datagram, type6, v6))
	add("global route header", Counted4(120), infiniBand(3, 0x64, 0, datagram, type4, v4))
	add("immediate data", Counted4(120), infiniBand(2, 0x65, 0, datagram, immediate, type4, v4))
	add("reliable connection", Counted4(120), infiniBand(2, 0x04, 0, type4, v4))
	add("unreliable connection", counted6(140), infiniBand(2, 0x24, 0, type6, v6))
	add("checksums do not count", Counted4(120), infiniBand(2, 0x64, 0, datagram, type4, With(v4, 2, 0, 0)))
	add("padding does not count", Counted4(118), infiniBand(2, 0x64, 2, datagram, type4, With(v4[:118], 2, 0, 0)))
	add("IPv6 without a transport", counted6(140), Concat([]byte{0, 1, 0, 0, 0, 37, 0, 0}, v6, []byte{1, 2}))
	add("ARP", nonIP(8+12+8+4+56+4+2), infiniBand(2, 0x64, 0, datagram, []byte{8, 6, 0, 0}, make([]byte, 56)))
	add("management", nonIP(8+12+8+256+4+2), infiniBand(2, 0x64, 0, datagram, []byte{1, 1, 1, 1}, make([]byte, 252)))
	add("no reserved bytes", nonIP(8+12+8+4+120+4+2), infiniBand(2, 0x64, 0, datagram, []byte{8, 0, 0, 1}, v4))
	add("first packet of a message", Counted4(120), infiniBand(2, 0x00, 0, type4, With(v4, 2, 0xff, 0xff)))
	add("last packet of a message", nonIP(8+12+4+120+4+2), infiniBand(2, 0x02, 0, type4, v4))
	add("congestion notification", nonIP(8+12+4+120+4+2), infiniBand(2, 0x84, 0, type4, v4))
	add("raw", nonIP(8+12+4+120+4+2), infiniBand(0, 0x04, 0, type4, v4))
	add("no packet", malformed(8+12+8+4+4+2), infiniBand(2, 0x64, 0, datagram, type4))
	add("length less than the headers", malformed(8+12+8+4+120+4+2), With(infiniBand(2, 0x64, 0, datagram, type4, v4), 4, 0, 8))
	add("cut short", malformed(7), make([]byte, 7))
	add("base transport header cut short", malformed(19), infiniBand(2, 0x64, 0)[:19])
	add("type cut short", malformed(31), infiniBand(2, 0x64, 0, datagram, type4)[:31])
	return all.cases
}

// nflogCases are frames of NFLOG.
func nflogCases(t testing.TB) []Case {
	v4, v6 := IP4(t, 101), IP6(t, 100) // of 121 and 140 bytes
	all := collector{t: t, prefix: "NFLOG/"}
	add := func(name string, want frame.Packet, data []byte) { all.add(name, frame.LinkNFLOG, data, want) }
	for _, o := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		add(fmt.Sprintf("%v, IPv4", o), Counted4(121), nflog(o, 2, v4))
		add(fmt.Sprintf("%v, IPv6", o), counted6(140), nflog(o, 10, v6))
		nested := attribute(o, 0x8014, make([]byte, 8))
		add(fmt.Sprintf("%v, begins with a nested attribute", o), Counted4(121), Concat([]byte{2, 0, 0, 5}, nested, attribute(o, 9, v4)))
		length := attribute(o, 9, With(v4, 2, 0xff, 0xff))
		add(fmt.Sprintf("%v, copied in part", o), Counted4(65535), Concat([]byte{2, 0, 0, 5}, length, attribute(o, 11, make([]byte, 4))))
		add(fmt.Sprintf("%v, length 0", o), Counted4(121), nflog(o, 2, With(v4, 2, 0, 0)))
	}
	le := binary.LittleEndian
	add("bridge, IPv4", Counted4(121), nflog(le, 7, v4))
	tagged := Concat([]byte{7, 0, 0, 5}, attribute(le, 1, []byte{0x81, 0, 1, 0}), attribute(le, 9, Build(t, Tag(ipv4), v4)))
	add("bridge, tag", in(7, Counted4(121)), tagged)
	arp := Concat([]byte{3, 0, 0, 5}, attribute(le, 1, []byte{8, 6, 1, 0}), attribute(le, 9, make([]byte, 28)))
	add("ARP", nonIP(len(arp)), arp)
	add("IPv6, copied in part", counted6(1440), nflog(le, 10, IP6(t, 1400)[:64]))
	add("IPv4, copied in part of the header", malformed(len(nflog(le, 2, v4[:19]))), nflog(le, 2, v4[:19]))
	add("bridge, length over the packet", Counted4(121), nflog(le, 7, With(v4, 2, 0xff, 0xff)))
	untold := Concat([]byte{7, 0, 0, 5}, attribute(le, 9, v4))
	add("bridge, of no type", nonIP(len(untold)), untold)
	add("IPv4 called IPv6", malformed(len(nflog(le, 10, v4))), nflog(le, 10, v4))
	add("other version", malformed(len(nflog(le, 2, v4))), With(nflog(le, 2, v4), 1, 1))
	add("no packet", malformed(12), Concat([]byte{2, 0, 0, 5}, attribute(le, 11, make([]byte, 4))))
	add("attribute of no length", malformed(8), []byte{2, 0, 0, 5, 0, 0, 1, 0})
	add("attribute longer than the frame", malformed(12), []byte{2, 0, 0, 5, 0xff, 0xff, 1, 0, 1, 2, 3, 4})
	add("header only", malformed(4), []byte{2, 0, 0, 5})
	whole := nflog(le, 2, IP4(t, 1400))
	all.frame("cut", frame.Frame{Link: frame.LinkNFLOG, Data: whole[:80], Wire: len(whole)}, Counted4(1420))
	all.frame("cut in the IP header", frame.Frame{Link: frame.LinkNFLOG, Data: whole[:59], Wire: len(whole)}, malformed(len(whole)))
	return all.cases
}

// wirelessCases are frames of 802.11, and their packets if they are aggregated.
func wirelessCases(t testing.TB) []Case {
	v4, v6 := Concat(snap(0, ipv4), IP4(t, 100)), Concat(snap(0, ipv6), IP6(t, 100)) // with packets of 120 and 140 bytes
	all := collector{t: t, prefix: "802.11/"}
	add := func(name string, want frame.Packet, parts ...[]byte) {
		all.add(name, frame.Link80211, Concat(parts...), want)
	}
	address4 := []byte{2, 0, 0, 0, 0, 4}
	add("to the access point", Counted4(120), wireless(data, toDS), v4)
	add("from the access point", counted6(140), wireless(data, fromDS), v6)
	add("between stations", Counted4(120), wireless(data, 0), v4)
	add("four addresses", counted6(140), wireless(data, toDS|fromDS, address4...), v6)
	add("QoS", Counted4(120), wireless(qosData, toDS, 6, 0), v4)
	add("QoS, HT control", counted6(140), wireless(qosData, fromDS|order, 6, 0, 0, 0, 0, 0), v6)
	add("QoS, four addresses", Counted4(120), wireless(qosData, toDS|fromDS, append(address4, 6, 0)...), v4)
	add("order without QoS", Counted4(120), wireless(data, toDS|order), v4)
	add("data with an acknowledgment", Counted4(120), wireless(data|0x10, fromDS), v4)
	add("802.1H", Counted4(120), wireless(data, toDS), snap(0xf8, ipv4), IP4(t, 100))
	add("SNAP, tag", in(7, counted6(140)), wireless(qosData, fromDS, 0, 0), snap(0, dot1q), Build(t, Tag(ipv6), IP6(t, 100)))
	add("SNAP, PPPoE", Counted4(120), wireless(data, toDS), snap(0, pppoe),
		Build(t, Session(), &layers.PPP{PPPType: layers.PPPTypeIPv4}, IP4(t, 100)))
	add("padding does not count", Counted4(120), wireless(data, toDS), v4, make([]byte, 30))
	add("SNAP, ARP", nonIP(60), wireless(data, toDS), snap(0, layers.EthernetTypeARP), make([]byte, 28))
	add("SNAP of another organization", nonIP(152), wireless(data, toDS), snap(0xc, ipv4), IP4(t, 100))
	add("LLC without SNAP", nonIP(62), wireless(data, toDS), []byte{0x42, 0x42, 3}, make([]byte, 35))
	add("encrypted", nonIP(152), wireless(data, toDS|protected), v4)
	add("QoS, encrypted", nonIP(154), wireless(qosData, toDS|protected, 0, 0), v4)
	add("no data", nonIP(24), wireless(data|0x40, toDS))
	add("QoS, no data", nonIP(26), wireless(qosData|0x40, toDS, 0, 0))
	add("beacon", nonIP(100), wireless(0x80, 0), make([]byte, 76))
	add("acknowledgment", nonIP(10), []byte{0xd4, 0, 0, 0, 2, 0, 0, 0, 0, 1})
	add("extension", nonIP(52), wireless(data|0x04, 0), make([]byte, 28))
	add("other version", nonIP(152), wireless(data|1, toDS), v4)
	first := wireless(data, toDS|moreFragments)
	add("first fragment", Counted4(120), first, v4)
	add("first fragment, of a longer packet", Counted4(120), first, snap(0, ipv4), With(IP4(t, 100), 2, 0, 200))
	add("last fragment", nonIP(152), With(wireless(data, toDS), 22, 1), v4)
	add("header only", malformed(24), wireless(data, toDS))
	add("QoS, header only", malformed(26), wireless(qosData, toDS, 0, 0))
	add("LLC only", malformed(27), wireless(data, toDS), []byte{0xaa, 0xaa, 3})
	add("SNAP only", malformed(32), wireless(data, toDS), snap(0, ipv4))
	add("frame control only", malformed(2), []byte{data, toDS})
	add("frame control of a beacon only", nonIP(2), []byte{0x80, 0})
	add("half a frame control", malformed(1), []byte{data})
	long := Concat(wireless(qosData, toDS, 0, 0), snap(0, ipv4), IP4(t, 1400))
	all.frame("cut", frame.Frame{Link: frame.Link80211, Data: long[:26+8+20], Wire: len(long)}, Counted4(1420))
	all.frame("cut in the IP header", frame.Frame{Link: frame.Link80211, Data: long[:26+8+19], Wire: len(long)}, malformed(len(long)))

	// Of aggregated packets, this is what the first counts as.
	qos := wireless(qosData, toDS, aggregate, 0)
	add("aggregated", Counted4(120), qos, msdu(v4), []byte{0, 0}, msdu(v6))
	add("aggregated, length 0", Counted4(120), qos, msdu(Concat(snap(0, ipv4), With(IP4(t, 100), 2, 0, 0))), []byte{0, 0}, msdu(v6))
	add("aggregated, ARP first", nonIP(50), qos, msdu(Concat(snap(0, layers.EthernetTypeARP), make([]byte, 28))), []byte{0, 0}, msdu(v6))
	add("aggregated, empty", malformed(14), qos, msdu(nil), []byte{0, 0}, msdu(v6))
	add("aggregated, header cut short", malformed(13), qos, msdu(v4)[:13])
	return all.cases
}

// radiotapCases are frames of 802.11 behind headers of radiotap, Prism and AVS.
func radiotapCases(t testing.TB) []Case {
	// What no header tells is the rest of the frame: an IPv4 packet of 120 bytes.
	unsized := Concat(snap(0, ipv4), With(IP4(t, 100), 2, 0, 0))
	bare, fcs := Concat(wireless(data, toDS), unsized), []byte{1, 2, 3, 4}
	all := collector{t: t, prefix: "radiotap/"}
	add := func(name string, want frame.Packet, parts ...[]byte) {
		all.add(name, frame.LinkRadiotap, Concat(parts...), want)
	}
	time := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	add("no fields", Counted4(120), radiotap(0), bare)
	add("flags", Counted4(120), radiotap(1<<1, 0), bare)
	add("flags, FCS", Counted4(120), radiotap(1<<1, withFCS), bare, fcs)
	add("time, flags, FCS", Counted4(120), radiotap(1|1<<1, append(time, withFCS)...), bare, fcs)
	add("fields without flags", Counted4(120), radiotap(1|1<<2, append(time, withFCS)...), bare)
	add("more fields", Counted4(120), radiotap(1|1<<1|1<<2|1<<3, append(time, withFCS, 2, 0x6c, 9, 0xa0, 0)...), bare, fcs)
	more := []byte{0, 0, 0, 0xa0, 0, 0, 0, 0} // two bitmaps more
	add("more bitmaps", Counted4(120), radiotap(1<<31|1<<1, append(more, withFCS)...), bare, fcs)
	aligned := slices.Concat(make([]byte, 4), make([]byte, 4), time, []byte{withFCS}) // one bitmap more, then the time at 16
	add("time is aligned", Counted4(120), radiotap(1<<31|1|1<<1, aligned...), bare, fcs)
	add("FCS that failed", Counted4(120), radiotap(1<<1, withFCS|0x40), bare, fcs)
	add("FCS too short for its frame", malformed(9+3), radiotap(1<<1, withFCS), fcs[:3])
	add("FCS only", malformed(9+4), radiotap(1<<1, withFCS), fcs)
	add("FCS is not the end of an IP header", malformed(9+32+20), radiotap(1<<1, withFCS), bare[:32+16], fcs)
	add("padded header", Counted4(120), radiotap(1<<1, withPad), wireless(qosData, toDS, 0, 0, 0, 0), unsized)
	add("padded header and FCS", Counted4(120), radiotap(1<<1, withPad|withFCS), wireless(qosData, toDS, 0, 0, 0, 0), unsized, fcs)
	add("padded header that needs none", Counted4(120), radiotap(1<<1, withPad), bare)
	add("QoS without padding", Counted4(120), radiotap(1<<1, 0), wireless(qosData, toDS, 0, 0), unsized)
	add("aggregated, padded header, FCS", Counted4(120), radiotap(1<<1, withPad|withFCS), wireless(qosData, toDS, aggregate, 0, 0, 0),
		msdu(unsized), []byte{0, 0}, msdu(unsized), fcs)
	add("beacon", nonIP(9+104), radiotap(1<<1, withFCS), wireless(0x80, 0), make([]byte, 76), fcs)
	add("encrypted", nonIP(8+152), radiotap(0), With(bare, 1, toDS|protected))
	add("header only", malformed(8), radiotap(0))
	add("length less than the header", malformed(8+152), With(radiotap(0), 2, 7, 0), bare)
	add("length over the frame", malformed(8+152), With(radiotap(0), 2, 161, 0), bare)
	add("length without the flags", malformed(8+152), radiotap(1<<1), bare)
	add("length without the time", malformed(9+152), radiotap(1|1<<1, 0), bare)
	add("bitmaps without an end", malformed(12+152), radiotap(1<<31, 0, 0, 0, 0x80), bare)
	add("other version", malformed(8+152), With(radiotap(0), 0, 1), bare)
	add("cut short", malformed(7), radiotap(0)[:7])
	long := Concat(radiotap(1<<1, withFCS), wireless(data, fromDS), snap(0, ipv6), With(IP6(t, 1400), 4, 0, 0), fcs)
	all.frame("cut", frame.Frame{Link: frame.LinkRadiotap, Data: long[:9+32+40], Wire: len(long)}, counted6(1440))
	all.frame("cut in the IP header", frame.Frame{Link: frame.LinkRadiotap, Data: long[:9+32+39], Wire: len(long)}, malformed(len(long)))

	all.prefix = "Prism/"
	prism := make([]byte, 144)
	prism[0], prism[4] = 0x44, 144
	avs := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 0x80211001), 64)
	avs = append(avs, make([]byte, 56)...)
	add = func(name string, want frame.Packet, parts ...[]byte) {
		all.add(name, frame.LinkPrism, Concat(parts...), want)
	}
	add("Prism", Counted4(120), prism, bare)
	add("AVS", Counted4(120), avs, bare)
	add("AVS, second version", Counted4(120), With(avs, 3, 2), bare)
	add("beacon", nonIP(144+100), prism, wireless(0x80, 0), make([]byte, 76))
	add("Prism, header only", malformed(144), prism)
	add("AVS, header only", malformed(64), avs)
	add("AVS, length less than the header", malformed(64+152), With(avs, 4, 0, 0, 0, 7), bare)
	add("AVS, length over the frame", malformed(64+152), With(avs, 4, 0xff, 0xff, 0xff, 0xff), bare)
	add("cut short", malformed(7), prism[:7])
	return all.cases
}

// ppiCases are frames of several link layers behind headers of PPI.
func ppiCases(t testing.TB) []Case {
	v4, v6 := IP4(t, 100), IP6(t, 100) // of 120 and 140 bytes
	unsized := With(v4, 2, 0, 0)
	bare, fcs := Concat(wireless(data, toDS), snap(0, ipv4), unsized), []byte{1, 2, 3, 4}
	all := collector{t: t, prefix: "PPI/"}
	add := func(name string, want frame.Packet, parts ...[]byte) {
		all.add(name, frame.LinkPPI, Concat(parts...), want)
	}
	add("802.11", Counted4(120), ppi(0, 105), bare)
	add("802.11, common field", Counted4(120), ppi(0, 105, ppiCommon(0)...), bare)
	add("802.11, FCS", Counted4(120), ppi(0, 105, ppiCommon(1)...), bare, fcs)
	odd := ppiField(31000, 1, 2, 3)
	add("802.11, FCS, behind another field", Counted4(120), ppi(0, 105, Concat(odd, ppiCommon(1))...), bare, fcs)
	add("802.11, FCS, behind another field, aligned", Counted4(120), ppi(1, 105, Concat(odd, []byte{0}, ppiCommon(1))...), bare, fcs)
	add("802.11, common field cut short", Counted4(120), ppi(0, 105, ppiCommon(1)[:12]...), bare)
	add("802.11, beacon", nonIP(8+100), ppi(0, 105), wireless(0x80, 0), make([]byte, 76))
	add("radiotap, FCS", Counted4(120), ppi(0, 127), radiotap(1<<1, withFCS), bare, fcs)
	add("Ethernet", in(7, Counted4(120)), ppi(0, 1), Build(t, Ethernet(dot1q), Tag(ipv4), v4))
	add("Ethernet has no flags of 802.11", Counted4(124), ppi(0, 1, ppiCommon(1)...), Build(t, Ethernet(ipv4), unsized), fcs)
	add("Ethernet, ARP", nonIP(8+60), ppi(0, 1), Build(t, Ethernet(layers.EthernetTypeARP)))
	add("raw IP", counted6(140), ppi(0, 101), v6)
	add("Linux cooked capture", Counted4(120), ppi(0, 113), SLL(ipv4), v4)
	add("unknown link layer", malformed(8+120), ppi(0, 147), v4)
	add("PPI", malformed(8+8+120), ppi(0, 192), ppi(0, 101), v4)
	add("other version", malformed(8+120), With(ppi(0, 101), 0, 1), v4)
	add("length less than the header", malformed(8+120), With(ppi(0, 101), 2, 7, 0), v4)
	add("length over the frame", malformed(8+120), With(ppi(0, 101), 2, 129, 0), v4)
	add("header only", malformed(8), ppi(0, 101))
	add("cut short", malformed(7), ppi(0, 101)[:7])
	long := Concat(ppi(0, 105, ppiCommon(1)...), wireless(data, toDS), snap(0, ipv4), With(IP4(t, 1400), 2, 0, 0), fcs)
	all.frame("cut", frame.Frame{Link: frame.LinkPPI, Data: long[:32+32+20], Wire: len(long)}, Counted4(1420))
	return all.cases
}
