package frametest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

// EtherTypes that gopacket does not know: I-tags of IEEE 802.1ah, and Cisco's VNTag.
const (
	ITag  layers.EthernetType = 0x88e7
	VNTag layers.EthernetType = 0x8926
)

// length is what stands in place of the EtherType of a frame of 802.3.
func length(parts ...[]byte) layers.EthernetType { return layers.EthernetType(len(Concat(parts...))) }

// vnTagOf is a VNTag without its own EtherType: interfaces, then the type of what follows. gopacket has none.
func vnTagOf(next layers.EthernetType) gopacket.Payload {
	return gopacket.Payload{0x80, 3, 0, 5, byte(next >> 8), byte(next)}
}

// iTag is an I-tag of 802.1ah without its own EtherType, and the Ethernet header behind it. gopacket has none.
func iTag(t testing.TB, next layers.EthernetType) gopacket.Payload {
	return Concat([]byte{0x60, 0, 0x27, 0x0f}, mac, mac, []byte{byte(next >> 8), byte(next)})
}

// EthernetCases are Ethernet frames with other headers than VLAN tags, labels and sessions: LLC, VNTag and 802.1ah.
func EthernetCases(t testing.TB) []Case {
	var (
		v4, v6   = IP4(t, 100), IP6(t, 100) // of 120 and 140 bytes
		sap, arp = snap(0, ipv4), make(gopacket.Payload, 28)
		all      = collector{t: t, prefix: "802.3/"}
		eth      = all.eth
		ppp4     = &layers.PPP{PPPType: layers.PPPTypeIPv4}
		bytes    = func(b ...byte) gopacket.Payload { return b }
		raw      = func(name string, want frame.Packet, parts ...[]byte) {
			all.add(name, frame.LinkEthernet, Concat(parts...), want)
		}
	)

	framed := func(parts ...[]byte) stack { return stack{Ethernet(length(parts...)), Concat(parts...)} }
	eth("IPv4", Counted4(120), framed(sap, v4)...)
	eth("IPv6", counted6(140), framed(snap(0, ipv6), v6)...)
	eth("802.1H", Counted4(120), framed(snap(0xf8, ipv4), v4)...)
	eth("as long as can be", Counted4(1492), framed(sap, IP4(t, 1472))...)
	eth("tag", in(7, Counted4(120)), Ethernet(dot1q), Tag(length(sap, v4)), Concat(sap, v4))
	eth("802.1ad", in(7, counted6(140)), Ethernet(qinq), Tag(dot1q), TagOf(9, length(sap, v6)), Concat(snap(0, ipv6), v6))
	eth("tag inside", in(8, Counted4(120)), framed(snap(0, dot1q), Build(t, TagOf(8, ipv4), v4))...)
	eth("MPLS", Counted4(120), framed(snap(0, mpls), Build(t, Label(16, true), v4))...)
	eth("PPPoE", Counted4(120), framed(snap(0, pppoe), Build(t, Session(), ppp4, v4))...)
	eth("padding does not count", Counted4(21), framed(sap, IP4(t, 1))...)
	// Behind its length, a frame has only padding.
	eth("total length 0 with padding", Counted4(21), framed(sap, With(IP4(t, 1), 2, 0, 0))...)
	eth("total length over the length", Counted4(100), Ethernet(108), Concat(sap, v4))
	eth("IPv6, length over the length", counted6(100), Ethernet(108), Concat(snap(0, ipv6), v6))
	eth("length over the frame", Counted4(120), Ethernet(1500), Concat(sap, v4))
	eth("length of the fixed header", Counted4(20), Ethernet(28), Concat(sap, v4))
	eth("length less than the fixed header", malformed(142), Ethernet(27), Concat(sap, v4))
	eth("IPv6, length less than the header", malformed(162), Ethernet(47), Concat(snap(0, ipv6), v6))
	eth("length of the headers of LLC", malformed(142), Ethernet(8), Concat(sap, v4))
	raw("length 0", malformed(142), With(Build(t, framed(sap, v4)...), 12, 0, 0))
	eth("length in a tag", in(7, Counted4(100)), Ethernet(dot1q), Tag(108), Concat(sap, v4))
	eth("neither length nor type", nonIP(142), Ethernet(1501), Concat(sap, v4))
	eth("ARP", nonIP(60), framed(snap(0, layers.EthernetTypeARP), arp)...)
	eth("SNAP of another organization", nonIP(142), framed(snap(0xc, ipv4), v4)...)
	eth("SNAP of a Cisco protocol", nonIP(142), framed(snap(0xc, 0x2000), v4)...)
	eth("SNAP of bridged Ethernet", nonIP(156), framed(snap(0x80c2, 7), Build(t, Ethernet(ipv4), v4))...)
	eth("SNAP with a length", nonIP(150), framed(snap(0, 128), sap, v4)...)
	eth("spanning tree", nonIP(60), framed(bytes(0x42, 0x42, 3), make([]byte, 35))...)
	eth("Novell", nonIP(60), framed(bytes(0xff, 0xff), make([]byte, 28))...)
	eth("other destination", nonIP(142), framed(With(Concat(sap, v4), 0, 0xab))...)
	eth("other source", nonIP(142), framed(With(Concat(sap, v4), 1, 0xab))...)
	eth("other control", nonIP(142), framed(With(Concat(sap, v4), 2, 0x13))...)
	eth("other version of IPv4", malformed(162), framed(sap, v6)...)
	whole := Build(t, framed(sap, IP4(t, 1400))...)
	cut := func(name string, f []byte, captured int, want frame.Packet) {
		all.frame(name, frame.Frame{Link: frame.LinkEthernet, Data: f[:captured], Wire: len(f)}, want)
	}
	for n := 14; n < 22+20; n++ {
		cut(fmt.Sprint("captured ", n), whole, n, malformed(1442))
	}
	cut("20 bytes of the header captured", whole, 22+20, Counted4(1420))
	cut("spanning tree, 2 bytes captured", Build(t, framed(bytes(0x42, 0x42, 3), make([]byte, 35))...), 16, malformed(60))
	cut("spanning tree, 3 bytes captured", Build(t, framed(bytes(0x42, 0x42, 3), make([]byte, 35))...), 17, nonIP(60))

	all.prefix = "VNTag/"
	eth("IPv4", Counted4(120), Ethernet(VNTag), vnTagOf(ipv4), v4)
	eth("IPv6", counted6(140), Ethernet(VNTag), vnTagOf(ipv6), v6)
	eth("tag", in(7, Counted4(120)), Ethernet(VNTag), vnTagOf(dot1q), Tag(ipv4), v4)
	eth("priority only, around a tag", Counted4(120), Ethernet(VNTag), vnTagOf(dot1q), TagOf(0, dot1q), Tag(ipv4), v4)
	eth("behind a tag", in(9, counted6(140)), Ethernet(dot1q), TagOf(9, VNTag), vnTagOf(dot1q), Tag(ipv6), v6)
	eth("802.3", Counted4(120), Ethernet(VNTag), vnTagOf(length(sap, v4)), Concat(sap, v4))
	eth("padding does not count", Counted4(21), Ethernet(VNTag), vnTagOf(ipv4), IP4(t, 1))
	eth("ARP", nonIP(60), Ethernet(VNTag), vnTagOf(layers.EthernetTypeARP), arp)
	raw("cut short", malformed(19), Build(t, Ethernet(VNTag), vnTagOf(ipv4), v4)[:19])
	raw("only", malformed(20), Build(t, Ethernet(VNTag), vnTagOf(ipv4), v4)[:20])

	all.prefix = "802.1ah/"
	eth("IPv4", Counted4(120), Ethernet(ITag), iTag(t, ipv4), v4)
	eth("IPv6", counted6(140), Ethernet(ITag), iTag(t, ipv6), v6)
	eth("B-tag", in(7, Counted4(120)), Ethernet(qinq), Tag(ITag), iTag(t, ipv4), v4)
	eth("tag of the customer", in(9, counted6(140)), Ethernet(ITag), iTag(t, dot1q), TagOf(9, ipv6), v6)
	eth("B-tag and tags of the customer", in(7, Counted4(120)), Ethernet(qinq), Tag(ITag), iTag(t, qinq), TagOf(8, dot1q), TagOf(9, ipv4), v4)
	eth("802.3", Counted4(120), Ethernet(ITag), iTag(t, length(sap, v4)), Concat(sap, v4))
	eth("MPLS", counted6(140), Ethernet(ITag), iTag(t, mpls), Label(16, true), v6)
	eth("padding does not count", Counted4(21), Ethernet(ITag), iTag(t, ipv4), IP4(t, 1))
	eth("ARP", nonIP(60), Ethernet(ITag), iTag(t, layers.EthernetTypeARP), arp)
	raw("cut short", malformed(31), Build(t, Ethernet(ITag), iTag(t, ipv4), v4)[:31])
	raw("only", malformed(32), Build(t, Ethernet(ITag), iTag(t, ipv4), v4)[:32])

	all.prefix = "several headers/"
	several := func(n int, last layers.EthernetType, behind []byte) stack {
		next := func(i int) layers.EthernetType {
			return append(slices.Repeat([]layers.EthernetType{VNTag, ITag}, n)[:n], last)[i]
		}
		s := stack{Ethernet(next(0))}
		for i := range n {
			if i%2 == 0 {
				s = append(s, vnTagOf(next(i+1)))
			} else {
				s = append(s, iTag(t, next(i+1)))
			}
		}
		return append(s, gopacket.Payload(behind))
	}
	eth("as many as are followed", Counted4(120), several(frame.MaxTags, ipv4, v4)...)
	eth("one too many", malformed(14+5*6+4*18+120), several(frame.MaxTags+1, ipv4, v4)...)
	eth("LLC is one of them", Counted4(120), several(frame.MaxTags-1, length(sap, v4), Concat(sap, v4))...)
	eth("LLC is one too many", malformed(14+4*6+4*18+8+120), several(frame.MaxTags, length(sap, v4), Concat(sap, v4))...)
	return all.cases
}
