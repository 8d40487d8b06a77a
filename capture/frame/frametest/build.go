package frametest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
)

var (
	src4, dst4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.2")
	src6, dst6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:ffff::2")

	mac = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

const (
	ipv4  = layers.EthernetTypeIPv4
	ipv6  = layers.EthernetTypeIPv6
	dot1q = layers.EthernetTypeDot1Q
	qinq  = layers.EthernetTypeQinQ
	mpls  = layers.EthernetTypeMPLSUnicast
	pppoe = layers.EthernetTypePPPoESession

	tcp         = layers.IPProtocolTCP
	udp         = layers.IPProtocolUDP
	gre         = layers.IPProtocolGRE
	hopByHop    = layers.IPProtocolIPv6HopByHop
	routing     = layers.IPProtocolIPv6Routing
	fragment    = layers.IPProtocolIPv6Fragment
	destination = layers.IPProtocolIPv6Destination
)

type stack = []gopacket.SerializableLayer

// Build serializes layers, outermost first, with correct lengths and checksums. Ethernet is padded to 60 bytes, as on the wire. The result
// may be the payload of other layers.
func Build(t testing.TB, layers ...gopacket.SerializableLayer) gopacket.Payload {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, layers...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// IP4 is an IPv4 packet with a header of 20 bytes.
func IP4(t testing.TB, payload int) gopacket.Payload {
	t.Helper()
	return Build(t, ip4Header(udp), make(gopacket.Payload, payload))
}

// IP6 is an IPv6 packet with a header of 40 bytes.
func IP6(t testing.TB, payload int) gopacket.Payload {
	t.Helper()
	return Build(t, ip6Header(udp), make(gopacket.Payload, payload))
}

func ip4Header(next layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: next, SrcIP: src4.AsSlice(), DstIP: dst4.AsSlice()}
}

func ip6Header(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: src6.AsSlice(), DstIP: dst6.AsSlice()}
}

// Ethernet is an Ethernet header.
func Ethernet(etherType layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: etherType}
}

// Tag is a tag of VLAN 7.
func Tag(etherType layers.EthernetType) *layers.Dot1Q { return TagOf(7, etherType) }

// TagOf is a tag of any VLAN.
func TagOf(id uint16, etherType layers.EthernetType) *layers.Dot1Q {
	return &layers.Dot1Q{VLANIdentifier: id, Type: etherType}
}

// Label is an entry of an MPLS label stack.
func Label(label uint32, bottom bool) *layers.MPLS {
	return &layers.MPLS{Label: label, StackBottom: bottom, TTL: 64}
}

// Session is the header of a PPPoE session.
func Session() *layers.PPPoE {
	return &layers.PPPoE{Version: 1, Type: 1, Code: layers.PPPoECodeSession, SessionId: 9}
}

// sll2 is the header of Linux cooked capture version 2, which gopacket cannot write.
func sll2(etherType layers.EthernetType) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, uint16(etherType))
	h[7], h[9], h[11] = 3, 1, 6 // interface, ARPHRD_ETHER, address length
	return h
}

// SLL is the header of Linux cooked capture version 1, which gopacket cannot write.
func SLL(etherType layers.EthernetType) []byte {
	h := make([]byte, 16)
	h[3], h[5] = 1, 6 // ARPHRD_ETHER, address length
	binary.BigEndian.PutUint16(h[14:], uint16(etherType))
	return h
}

// With is d with other bytes from at on.
func With(d []byte, at int, bytes ...byte) gopacket.Payload {
	d = slices.Clone(d)
	copy(d[at:], bytes)
	return d
}

// repeat is the same layer n times.
func repeat(n int, l gopacket.SerializableLayer) stack { return slices.Repeat(stack{l}, n) }

// Counted4 and counted6 are what frames with packets of IP4 and IP6 count as: UDP without a tag.
func Counted4(bytes int) frame.Packet {
	return frame.Packet{Source: src4, Destination: dst4, Bytes: int64(bytes), Packets: 1, Outcome: frame.Counted, Protocol: 17}
}

func counted6(bytes int) frame.Packet {
	return frame.Packet{Source: src6, Destination: dst6, Bytes: int64(bytes), Packets: 1, Outcome: frame.Counted, Protocol: 17}
}

// of is want with another protocol.
func of(protocol layers.IPProtocol, want frame.Packet) frame.Packet {
	want.Protocol = uint8(protocol)
	return want
}

// in is want behind a tag of a VLAN.
func in(vlan uint16, want frame.Packet) frame.Packet {
	want.VLAN = vlan
	return want
}

func nonIP(bytes int) frame.Packet {
	return frame.Packet{Bytes: int64(bytes), Packets: 1, Outcome: frame.NonIP}
}

func malformed(bytes int) frame.Packet {
	return frame.Packet{Bytes: int64(bytes), Packets: 1, Outcome: frame.Malformed}
}

// Concat joins headers and payload.
func Concat(parts ...[]byte) gopacket.Payload { return slices.Concat(parts...) }
