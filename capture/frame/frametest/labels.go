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

// VLANCases are frames with different tags: the tests see which of them counts.
func VLANCases(t testing.TB) []Case {
	var (
		v4, v6     = IP4(t, 100), IP6(t, 100) // of 120 and 140 bytes
		ppp4, ppp6 = &layers.PPP{PPPType: layers.PPPTypeIPv4}, &layers.PPP{PPPType: layers.PPPTypeIPv6}
		arp        = make(gopacket.Payload, 28)
		all        = collector{t: t, prefix: "VLAN/"}
		add, eth   = all.add, all.eth
	)

	eth("lowest", in(1, Counted4(120)), Ethernet(dot1q), TagOf(1, ipv4), v4)
	eth("highest", in(4095, counted6(140)), Ethernet(dot1q), TagOf(4095, ipv6), v6)
	eth("priority and ID", in(300, Counted4(120)), Ethernet(dot1q),
		&layers.Dot1Q{Priority: 7, DropEligible: true, VLANIdentifier: 300, Type: ipv4}, v4)
	eth("priority only", Counted4(120), Ethernet(dot1q), &layers.Dot1Q{Priority: 5, Type: ipv4}, v4)
	eth("priority only, around a tag", counted6(140), Ethernet(dot1q), TagOf(0, dot1q), TagOf(200, ipv6), v6)
	eth("priority only, inside a tag", in(100, counted6(140)), Ethernet(dot1q), TagOf(100, dot1q), TagOf(0, ipv6), v6)
	eth("802.1ad alone", in(100, Counted4(120)), Ethernet(qinq), TagOf(100, ipv4), v4)
	eth("802.1ad", in(100, Counted4(120)), Ethernet(qinq), TagOf(100, dot1q), TagOf(200, ipv4), v4)
	eth("802.1Q in 802.1Q", in(101, counted6(140)), Ethernet(dot1q), TagOf(101, dot1q), TagOf(201, ipv6), v6)
	eth("802.1ad in 802.1ad", in(102, Counted4(120)), Ethernet(qinq), TagOf(102, qinq), TagOf(202, ipv4), v4)
	eth("0x9100 alone", in(103, Counted4(120)), Ethernet(OldQinQ), TagOf(103, ipv4), v4)
	eth("0x9100", in(103, counted6(140)), Ethernet(OldQinQ), TagOf(103, dot1q), TagOf(203, ipv6), v6)
	eth("0x9100 inside 802.1ad", in(104, Counted4(120)), Ethernet(qinq), TagOf(104, OldQinQ), TagOf(204, ipv4), v4)
	tags := stack{Ethernet(dot1q)}
	for id := range frame.MaxTags - 1 {
		tags = append(tags, TagOf(uint16(50+id), dot1q))
	}
	eth("as many tags as are followed", in(50, Counted4(120)), append(tags, TagOf(60, ipv4), v4)...)

	// Other headers between a tag and the IP header, and tunnels.
	eth("PPPoE", in(105, counted6(140)), Ethernet(dot1q), TagOf(105, pppoe), Session(), ppp6, v6)
	eth("802.1ad with PPPoE", in(106, Counted4(120)), Ethernet(qinq), TagOf(106, dot1q), TagOf(206, pppoe), Session(), ppp4, v4)
	eth("MPLS", in(107, Counted4(120)), Ethernet(dot1q), TagOf(107, mpls), Label(16, false), Label(17, true), v4)
	eth("802.1ad with MPLS", in(108, counted6(140)), Ethernet(qinq), TagOf(108, dot1q), TagOf(208, mpls), Label(16, true), v6)
	bridged := Build(t, &layers.GRE{Protocol: layers.EthernetTypeTransparentEthernetBridging}, Ethernet(dot1q), TagOf(300, ipv4), v4)
	tunneled := Build(t, ip4Header(gre), bridged)
	eth("tag in a tunnel", of(gre, Counted4(len(tunneled))), Ethernet(ipv4), tunneled)
	eth("tag around a tunnel", in(109, of(gre, Counted4(len(tunneled)))), Ethernet(dot1q), TagOf(109, ipv4), tunneled)

	// Other links.
	add("SLL", frame.LinkSLL, Concat(SLL(dot1q), Build(t, TagOf(110, ipv4), v4)), in(110, Counted4(120)))
	add("SLL, 802.1ad", frame.LinkSLL, Concat(SLL(qinq), Build(t, TagOf(111, dot1q), TagOf(211, ipv6), v6)), in(111, counted6(140)))
	add("SLL2", frame.LinkSLL2, Concat(sll2(OldQinQ), Build(t, TagOf(112, ipv6), v6)), in(112, counted6(140)))
	none := Build(t, TagOf(113, dot1q), TagOf(213, ipv4), v4)
	f := frame.Frame{Link: frame.LinkNone, EtherType: uint16(qinq), Data: none, Wire: len(none)}
	all.frame("no link header", f, in(113, Counted4(120)))

	// Only what is counted has a VLAN.
	eth("ARP", nonIP(60), Ethernet(dot1q), TagOf(114, layers.EthernetTypeARP), arp)
	eth("other version of IPv4", malformed(138), Ethernet(dot1q), TagOf(115, ipv4), v6[:120])
	eth("other version of IPv6", malformed(138), Ethernet(dot1q), TagOf(116, ipv6), v4)
	add("cut short", frame.LinkEthernet, Build(t, Ethernet(dot1q), TagOf(117, ipv4), v4)[:37], malformed(37))

	// A removed tag was the outermost.
	taken := func(name string, control uint16, link frame.Link, data []byte, want frame.Packet) {
		all.frame("taken out, "+name, frame.Frame{Link: link, Data: data, Wire: len(data), Tagged: true, Tag: control}, want)
	}
	plain4, plain6 := Build(t, Ethernet(ipv4), v4), Build(t, Ethernet(ipv6), v6)
	taken("IPv4", 118, frame.LinkEthernet, plain4, in(118, Counted4(120)))
	taken("IPv6", 119, frame.LinkEthernet, plain6, in(119, counted6(140)))
	taken("priority and ID", 0xe078, frame.LinkEthernet, plain4, in(0x78, Counted4(120)))
	taken("priority and ID, IPv6", 0xffff, frame.LinkEthernet, plain6, in(0xfff, counted6(140)))
	taken("priority only", 0xa000, frame.LinkEthernet, plain4, Counted4(120))
	taken("control information 0", 0, frame.LinkEthernet, plain6, counted6(140))
	tagged := Build(t, Ethernet(dot1q), TagOf(220, ipv4), v4)
	taken("a tag left", 120, frame.LinkEthernet, tagged, in(120, Counted4(120)))
	taken("priority only, a tag left", 0xa000, frame.LinkEthernet, tagged, Counted4(120))
	taken("control information 0, a tag left", 0, frame.LinkEthernet, tagged, Counted4(120))
	taken("two tags left", 121, frame.LinkEthernet, Build(t, Ethernet(qinq), TagOf(221, dot1q), TagOf(222, ipv6), v6),
		in(121, counted6(140)))
	taken("PPPoE", 122, frame.LinkEthernet, Build(t, Ethernet(pppoe), Session(), ppp4, v4), in(122, Counted4(120)))
	taken("MPLS", 123, frame.LinkEthernet, Build(t, Ethernet(mpls), Label(16, true), v6), in(123, counted6(140)))
	taken("SLL", 124, frame.LinkSLL, Concat(SLL(ipv4), v4), in(124, Counted4(120)))
	taken("SLL, a tag left", 125, frame.LinkSLL, Concat(SLL(dot1q), Build(t, TagOf(225, ipv6), v6)), in(125, counted6(140)))
	taken("SLL2", 126, frame.LinkSLL2, Concat(sll2(ipv6), v6), in(126, counted6(140)))
	taken("raw", 127, frame.LinkRaw, v4, in(127, Counted4(120)))
	taken("ARP", 128, frame.LinkEthernet, Build(t, Ethernet(layers.EthernetTypeARP), arp), nonIP(60))
	taken("other version of IPv4", 129, frame.LinkEthernet, Build(t, Ethernet(ipv4), v6), malformed(154))
	taken("other version of IPv6", 130, frame.LinkEthernet, Build(t, Ethernet(ipv6), v4), malformed(134))
	taken("cut short", 131, frame.LinkEthernet, plain4[:33], malformed(33))
	return all.cases
}

// extension is an IPv6 extension header.
type extension struct {
	kind   layers.IPProtocol
	more   byte   // its length beyond 8 bytes, in units of 8 bytes; a reserved byte of a fragment header, which always has 8 bytes
	offset uint16 // of a fragment: the offset, and flags in the last three bits
}

// behind is an IPv6 packet with extension headers, and then 100 bytes of a protocol.
func behind(t testing.TB, protocol layers.IPProtocol, extensions ...extension) gopacket.Payload {
	t.Helper()
	var headers []byte
	next := protocol
	for _, e := range slices.Backward(extensions) {
		header := make([]byte, 8)
		if e.kind != fragment {
			header = make([]byte, 8+8*int(e.more))
		}
		header[0], header[1] = byte(next), e.more
		binary.BigEndian.PutUint16(header[2:], e.offset)
		headers, next = Concat(header, headers), e.kind
	}
	return Build(t, ip6Header(next), Concat(headers, make([]byte, 100)))
}

// ProtocolCases are frames by the protocol in their IP header.
func ProtocolCases(t testing.TB) []Case {
	all := collector{t: t, prefix: "protocol/"}
	add4 := func(name string, header *layers.IPv4) {
		all.eth("IPv4/"+name, of(header.Protocol, Counted4(120)), Ethernet(ipv4), header, make(gopacket.Payload, 100))
	}
	add6 := func(name string, want layers.IPProtocol, packet gopacket.Payload) {
		all.eth("IPv6/"+name, of(want, counted6(len(packet))), Ethernet(ipv6), packet)
	}

	for _, p := range []struct {
		name   string
		number layers.IPProtocol
	}{
		{"ICMP", 1}, {"IGMP", 2}, {"TCP", 6}, {"UDP", 17}, {"GRE", 47}, {"ESP", 50}, {"AH", 51}, {"ICMPv6", 58}, {"none", 59},
		{"OSPF", 89}, {"SCTP", 132}, {"mobility", 135}, {"experiment", 253}, {"reserved", 255},
	} {
		name, number := p.name, p.number
		add4(name, ip4Header(number))
		add6(name, number, behind(t, number))
		add6(name+" behind extension headers", number, behind(t, number, extension{kind: hopByHop}, extension{kind: destination, more: 1}))
		add6(name+" in a first fragment", number, behind(t, number, extension{kind: fragment, offset: 1}))
		add6(name+" in a last fragment", number, behind(t, number, extension{kind: fragment, offset: 185 << 3}))
	}

	// Every IPv4 fragment has the protocol, and no protocol is an extension header.
	fragment4 := func(name string, flags layers.IPv4Flag, offset uint16) {
		header := ip4Header(tcp)
		header.Flags, header.FragOffset = flags, offset
		add4(name, header)
	}
	fragment4("first fragment", layers.IPv4MoreFragments, 0)
	fragment4("middle fragment", layers.IPv4MoreFragments, 185)
	fragment4("last fragment", 0, 185)
	for _, kind := range []layers.IPProtocol{hopByHop, routing, fragment, destination} {
		add4(fmt.Sprint("extension header of IPv6, ", uint8(kind)), ip4Header(kind))
	}

	for _, c := range []struct {
		name    string
		want    layers.IPProtocol
		packet  layers.IPProtocol
		headers []extension
	}{
		{"hop-by-hop", udp, udp, []extension{{kind: hopByHop}}},
		{"routing", udp, udp, []extension{{kind: routing, more: 2}}},
		{"destination options", tcp, tcp, []extension{{kind: destination}}},
		{"long hop-by-hop", tcp, tcp, []extension{{kind: hopByHop, more: 255}, {kind: destination}}},
		{"several", tcp, tcp, []extension{
			{kind: hopByHop}, {kind: destination, more: 1}, {kind: routing, more: 2}, {kind: fragment}, {kind: destination, more: 3},
		}},
		{"one kind twice", udp, udp, []extension{{kind: destination, more: 1}, {kind: destination}}},

		// Only the first fragment is followed. The offset has 13 bits: behind it are two reserved ones and the flag that more
		// fragments follow.
		{"fragment, all there is", udp, udp, []extension{{kind: fragment}, {kind: destination}}},
		{"first fragment", tcp, tcp, []extension{{kind: fragment, offset: 1}, {kind: destination}}},
		{"first fragment, reserved bits set", tcp, tcp, []extension{{kind: fragment, offset: 7}, {kind: destination}}},
		{"first fragment, reserved byte is no length", tcp, tcp, []extension{{kind: fragment, more: 1}, {kind: destination, more: 1}}},
		// Other fragments do not begin with a header, even if they look like it.
		{"fragment at 8", destination, tcp, []extension{{kind: fragment, offset: 1<<3 | 1}, {kind: destination}}},
		{"fragment at 32768", destination, tcp, []extension{{kind: fragment, offset: 0x8001}, {kind: destination}}},
		{"last fragment", tcp, tcp, []extension{{kind: fragment, offset: 185 << 3}}},
		{"last fragment behind others", udp, udp, []extension{{kind: hopByHop}, {kind: routing, more: 2}, {kind: fragment, offset: 185 << 3}}},
		{"last fragment of destination options", destination, tcp, []extension{{kind: fragment, offset: 185 << 3}, {kind: destination}}},
		{"last fragment of a fragment", fragment, tcp, []extension{{kind: fragment, offset: 185 << 3}, {kind: fragment}}},

		{"as many as are followed", udp, udp, slices.Repeat([]extension{{kind: destination}}, 8)},
		{"one too many", frame.NoProtocol, udp, slices.Repeat([]extension{{kind: destination}}, 9)},
		{"last fragment behind seven", tcp, tcp,
			append(slices.Repeat([]extension{{kind: destination}}, 7), extension{kind: fragment, offset: 185 << 3})},
		{"last fragment behind eight", frame.NoProtocol, tcp,
			append(slices.Repeat([]extension{{kind: destination}}, 8), extension{kind: fragment, offset: 185 << 3})},
	} {
		add6(c.name, c.want, behind(t, c.packet, c.headers...))
	}

	// The first eight bytes of every extension header have to be captured.
	several := Build(t, Ethernet(ipv6),
		behind(t, tcp, extension{kind: hopByHop}, extension{kind: routing, more: 2}, extension{kind: fragment, offset: 1}))
	later := Build(t, Ethernet(ipv6), behind(t, tcp, extension{kind: destination, more: 1}, extension{kind: fragment, offset: 185 << 3}))
	long := Build(t, Ethernet(ipv6), behind(t, udp, extension{kind: hopByHop, more: 2}))
	for _, c := range []struct {
		name     string
		data     []byte
		captured int // behind the IPv6 header
		want     layers.IPProtocol
	}{
		{"no extension header captured", several, 0, frame.NoProtocol},
		{"hop-by-hop cut", several, 7, frame.NoProtocol},
		{"routing not captured", several, 8, frame.NoProtocol},
		{"routing cut", several, 8 + 23, frame.NoProtocol},
		{"fragment not captured", several, 8 + 24, frame.NoProtocol},
		{"fragment cut", several, 8 + 24 + 7, frame.NoProtocol},
		{"all extension headers captured", several, 8 + 24 + 8, tcp},
		{"last fragment cut", later, 16 + 7, frame.NoProtocol},
		{"last fragment captured", later, 16 + 8, tcp},
		{"long hop-by-hop, 7 bytes captured", long, 7, frame.NoProtocol},
		{"long hop-by-hop, 8 bytes captured", long, 8, udp},
	} {
		wire := len(c.data)
		f := frame.Frame{Link: frame.LinkEthernet, Data: c.data[:14+40+c.captured], Wire: wire}
		all.frame("IPv6/"+c.name, f, of(c.want, counted6(wire-14)))
	}

	// Behind other link headers.
	tagged := behind(t, tcp, extension{kind: routing, more: 1})
	all.eth("IPv6/behind a tag", in(9, of(tcp, counted6(156))), Ethernet(dot1q), TagOf(9, ipv6), tagged)
	return all.cases
}
