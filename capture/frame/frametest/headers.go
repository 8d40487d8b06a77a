package frametest

import (
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

// HeaderCases are Ethernet frames by their IP header.
func HeaderCases(t testing.TB) []Case {
	all := collector{t: t}
	v4 := func(name string, packet gopacket.Payload, want frame.Packet) {
		all.eth("IPv4/"+name, want, Ethernet(ipv4), packet)
	}
	v6 := func(name string, packet gopacket.Payload, want frame.Packet) {
		all.eth("IPv6/"+name, want, Ethernet(ipv6), packet)
	}

	options := ip4Header(udp)
	options.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 39, OptionData: make([]byte, 37)}, {OptionType: 0, OptionLength: 1}}
	withOptions := Build(t, options, make(gopacket.Payload, 100))
	v4("all of its options", withOptions, Counted4(160))
	v4("padding does not count", IP4(t, 1), Counted4(21))
	v4("header only", IP4(t, 0), Counted4(20))
	v4("version 5", With(IP4(t, 100), 0, 0x55), malformed(134))
	v4("version 6", With(IP4(t, 100), 0, 0x65), malformed(134))
	for ihl := range byte(5) {
		v4(fmt.Sprint("IHL ", ihl), With(IP4(t, 100), 0, 0x40|ihl), malformed(134))
	}
	v4("IHL beyond the total length", With(IP4(t, 19), 0, 0x4a), malformed(60))
	v4("IHL equal to the total length", With(IP4(t, 20), 0, 0x4a), Counted4(40))
	v4("total length 19", With(IP4(t, 100), 2, 0, 19), malformed(134))
	v4("total length 1", With(IP4(t, 100), 2, 0, 1), malformed(134))
	v4("total length less than the header with options", With(withOptions, 2, 0, 59), malformed(174))
	v4("total length 0 is all the frame held", With(IP4(t, 100), 2, 0, 0), Counted4(120))
	v4("total length 0 with padding", With(IP4(t, 1), 2, 0, 0), Counted4(46))
	v4("total length over the frame", With(IP4(t, 100), 2, 0xff, 0xff), Counted4(120))
	v4("total length one over the frame", With(IP4(t, 100), 2, 0, 121), Counted4(120))
	v4("total length less than the frame", With(IP4(t, 100), 2, 0, 99), Counted4(99))
	v4("broken checksum", With(IP4(t, 100), 10, 0xde, 0xad), Counted4(120))
	v4("broken options", With(withOptions, 20, 7, 255), Counted4(160))
	first := ip4Header(tcp)
	first.Flags = layers.IPv4MoreFragments
	v4("first fragment", Build(t, first, make(gopacket.Payload, 1480)), of(tcp, Counted4(1500)))
	last := ip4Header(tcp)
	last.FragOffset = 185
	v4("last fragment", Build(t, last, make(gopacket.Payload, 3)), of(tcp, Counted4(23)))
	v4("broken transport header", Build(t, ip4Header(tcp), gopacket.Payload{0xff}), of(tcp, Counted4(21)))

	v6("header only, length 0, padding", IP6(t, 0), counted6(46)) // a length of 0 is all of the frame
	v6("length 0 without padding", With(IP6(t, 100), 4, 0, 0), counted6(140))
	v6("length over the frame", With(IP6(t, 100), 4, 0xff, 0xff), counted6(140))
	v6("length one over the frame", With(IP6(t, 100), 4, 0, 101), counted6(140))
	v6("length less than the frame", With(IP6(t, 100), 4, 0, 1), counted6(41))
	v6("padding does not count", IP6(t, 1), counted6(41))
	v6("version 4", With(IP6(t, 100), 0, 0x45), malformed(154))
	v6("version 7", With(IP6(t, 100), 0, 0x70), malformed(154))
	hop := &layers.IPv6HopByHop{}
	hop.NextHeader, hop.Options = udp, []*layers.IPv6HopByHopOption{{OptionType: 1, OptionData: make([]byte, 4)}}
	ext := ip6Header(hopByHop)
	v6("extension headers count", Build(t, ext, hop, make(gopacket.Payload, 100)), counted6(148))
	jumbo := Concat(With(IP6(t, 0), 4, 0, 0, 0), []byte{17, 0, 0xc2, 4, 0, 1, 0, 1}, make([]byte, 65537))
	v6("jumbogram", jumbo, counted6(len(jumbo)))

	// The outermost header counts, whatever it carries.
	v4("IPv4 in IPv4", Build(t, ip4Header(layers.IPProtocolIPv4), IP4(t, 100)), of(layers.IPProtocolIPv4, Counted4(140)))
	v4("IPv6 in IPv4", Build(t, ip4Header(layers.IPProtocolIPv6), IP6(t, 100)), of(layers.IPProtocolIPv6, Counted4(160)))
	v6("IPv4 in IPv6", Build(t, ip6Header(layers.IPProtocolIPv4), IP4(t, 100)), of(layers.IPProtocolIPv4, counted6(160)))
	v4("GRE", Build(t, ip4Header(gre), &layers.GRE{Protocol: ipv6}, IP6(t, 100)), of(gre, Counted4(164)))
	outer := over(ip4Header(udp), &layers.UDP{SrcPort: 1, DstPort: 4789})
	vxlan := append(outer, &layers.VXLAN{ValidIDFlag: true, VNI: 3}, Ethernet(ipv6), IP6(t, 100))
	v4("VXLAN", Build(t, vxlan...), Counted4(20+8+8+14+140))
	segment := append(over(ip4Header(tcp), &layers.TCP{SrcPort: 1, DstPort: 2, ACK: true}), make(gopacket.Payload, 1460))
	v4("TCP with a payload", Build(t, segment...), of(tcp, Counted4(1500)))

	// Frames captured in part.
	cut := func(name string, f []byte, captured int, want frame.Packet) {
		all.frame(name, frame.Frame{Link: frame.LinkEthernet, Data: f[:captured], Wire: len(f)}, want)
	}
	long4 := Build(t, Ethernet(ipv4), IP4(t, 1400))
	long6 := Build(t, Ethernet(ipv6), IP6(t, 1400))
	cut("IPv4/20 bytes of the header captured", long4, 14+20, Counted4(1420))
	cut("IPv4/19 bytes of the header captured", long4, 14+19, malformed(1434))
	cut("IPv4/options not captured", Build(t, Ethernet(ipv4), withOptions), 14+20, Counted4(160))
	cut("IPv4/snapped, total length 0", With(long4, 16, 0, 0), 96, Counted4(1420))
	cut("IPv4/snapped, total length over the wire", With(long4, 16, 0xff, 0xff), 96, Counted4(1420))
	cut("IPv6/40 bytes of the header captured", long6, 14+40, counted6(1440))
	cut("IPv6/39 bytes of the header captured", long6, 14+39, malformed(1454))
	cut("IPv6/snapped, length 0", With(long6, 18, 0, 0), 96, counted6(1440))
	cut("Ethernet header cut short", long4, 13, malformed(1434))
	cut("Ethernet header only", long4, 14, malformed(1434))
	tagged := Build(t, Ethernet(dot1q), Tag(ipv4), IP4(t, 1400))
	cut("tag cut short", tagged, 17, malformed(1438))
	cut("tag only", tagged, 18, malformed(1438))
	cut("tag and 20 bytes", tagged, 38, in(7, Counted4(1420)))
	pppoe := Build(t, Ethernet(pppoe), Session(), &layers.PPP{PPPType: layers.PPPTypeIPv4}, IP4(t, 1400))
	for n := 14; n < 22+20; n++ {
		cut(fmt.Sprint("PPPoE, captured ", n), pppoe, n, malformed(1442))
	}
	cut("PPPoE and 20 bytes", pppoe, 22+20, Counted4(1420))
	mpls := Build(t, Ethernet(mpls), Label(5, false), Label(6, true), IP6(t, 1400))
	for n := 14; n < 22+40; n++ {
		cut(fmt.Sprint("MPLS, captured ", n), mpls, n, malformed(1462))
	}
	cut("MPLS and 40 bytes", mpls, 22+40, counted6(1440))

	// A capture may not know the length on the wire.
	all.frame("wire length 0", frame.Frame{Link: frame.LinkEthernet, Data: long4}, Counted4(1420))
	all.frame("negative wire length", frame.Frame{Link: frame.LinkEthernet, Data: long4, Wire: -1}, Counted4(1420))
	all.frame("wire length less than captured", frame.Frame{Link: frame.LinkEthernet, Data: long4, Wire: 60}, Counted4(1420))
	return all.cases
}
