package capturetest

import (
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"promflow/capture/frame"
	"promflow/capture/nettest"
)

// links has what frames of IPv4 and IPv6 have between the Ethernet addresses and the IP header.
var links = []struct{ ipv4, ipv6 string }{
	{"\x08\x00", "\x86\xdd"},
	{"\x81\x00\x00\x07\x08\x00", "\x81\x00\x00\x07\x86\xdd"},                                                                 // VLAN 7
	{"\x81\x00\x20\x00\x08\x00", "\x81\x00\x20\x00\x86\xdd"},                                                                 // priority only
	{"\x88\xa8\x00\x07\x81\x00\x00\x08\x08\x00", "\x88\xa8\x00\x07\x81\x00\x00\x08\x86\xdd"},                                 // QinQ
	{"\x91\x00\x00\x07\x81\x00\x00\x08\x81\x00\x00\x09\x08\x00", "\x91\x00\x00\x07\x81\x00\x00\x08\x81\x00\x00\x09\x86\xdd"}, // three tags
	{"\x88\x64\x11\x00\x00\x01\x00\x30\x00\x21", "\x88\x64\x11\x00\x00\x01\x00\x44\x00\x57"},                                 // PPPoE
	{"\x81\x00\x00\x07\x88\x64\x11\x00\x00\x01\x00\x30\x00\x21", "\x81\x00\x00\x07\x88\x64\x11\x00\x00\x01\x00\x44\x00\x57"}, // PPPoE in a VLAN
	{"\x88\x47\x00\x01\x01\x40", "\x88\x47\x00\x01\x01\x40"},                                                                 // MPLS
	{"\x88\x47\x00\x01\x00\x40\x00\x02\x01\x40", "\x88\x48\x00\x01\x00\x40\x00\x02\x01\x40"},                                 // two labels
	{"\x00\x36\xaa\xaa\x03\x00\x00\x00\x08\x00", "\x00\x4a\xaa\xaa\x03\x00\x00\x00\x86\xdd"},                                 // LLC and SNAP
	{"\x89\x26\x80\x03\x00\x05\x81\x00\x00\x07\x08\x00", "\x89\x26\x80\x03\x00\x05\x81\x00\x00\x07\x86\xdd"},                 // VLAN 7 behind a VNTag
	{"\x88\xe7\x00\x00\x27\x0f" + customer + "\x08\x00", "\x88\xe7\x00\x00\x27\x0f" + customer + "\x86\xdd"},                 // 802.1ah
}

const customer = "\x02\x00\x00\x00\x00\x04\x02\x00\x00\x00\x00\x03" // Ethernet addresses

// Frames returns Ethernet frames with every outcome and every kind of link header, if 10.0.0.0/8 and fd00::/16 are monitored and
// 10.66.0.0/16 is excluded. The first is plain UDP over IPv4 between two monitored addresses.
func Frames() [][]byte {
	payload := gopacket.Payload("eighteen bytes, so")
	var frames [][]byte
	for _, link := range links {
		frames = append(frames,
			ethernet(link.ipv4, ipv4("10.0.0.1", "10.0.0.2", layers.IPProtocolUDP), udp(), payload),
			ethernet(link.ipv6, ipv6("fd00::1", "2001:db8::1", layers.IPProtocolUDP), udp(), payload))
	}
	fragment := ipv4("10.0.0.3", "10.0.0.4", layers.IPProtocolUDP)
	fragment.FragOffset, fragment.Flags = 185, layers.IPv4MoreFragments
	options := ipv4("10.0.0.3", "10.0.0.4", layers.IPProtocolUDP)
	options.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: make([]byte, 5)}}
	for _, ip := range [][]gopacket.SerializableLayer{
		{ipv4("192.0.2.1", "10.0.0.2", layers.IPProtocolUDP), udp(), payload},
		{ipv4("192.0.2.1", "192.0.2.2", layers.IPProtocolUDP), udp()}, // unmonitored
		{ipv4("10.0.0.1", "10.66.0.1", layers.IPProtocolUDP), udp()},  // excluded
		{ipv4("10.66.0.1", "192.0.2.1", layers.IPProtocolUDP), udp()}, // excluded
		{ipv4("10.0.0.9", "10.0.0.9", layers.IPProtocolUDP), udp()},   // to itself
		{ipv4("10.0.0.1", "10.0.0.2", layers.IPProtocolNoNextHeader)}, // a bare header, and padding
		{fragment, gopacket.Payload("not a UDP header")},
		{options, udp()},
		{ipv4("10.0.0.5", "10.0.0.6", layers.IPProtocolIPv4), ipv4("10.1.1.1", "10.1.1.2", layers.IPProtocolUDP), udp()}, // the outer one
		{ipv4("10.0.0.5", "10.0.0.6", layers.IPProtocolIPv6), ipv6("fd00::3", "fd00::4", layers.IPProtocolUDP), udp()},   // counts
	} {
		frames = append(frames, ethernet("\x08\x00", ip...))
	}
	for _, other := range []string{
		"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01",     // ARP
		"\x00\x26\x42\x42\x03",                         // a spanning tree's LLC
		"\x88\x47\x00\x01\x01\x40\x00\x00\x00\x00",     // an MPLS pseudowire
		"\x88\x64\x11\x00\x00\x01\x00\x0a\xc0\x21\x09", // PPP's own link control
		"\x08\x00\x35",             // IPv4 of version 3
		"\x08\x00\x44",             // an IPv4 header of 16 bytes
		"\x08\x00\x45\x00\x00\x13", // an IPv4 packet shorter than its header
		"\x86\xdd\x50",             // IPv6 of version 5
	} {
		frames = append(frames, ethernet(other))
	}
	return frames
}

// mergedFrames returns merged segments of each transport over each version of IP. Some payloads are a multiple of the segment size.
func mergedFrames() []nettest.Merged {
	var merged []nettest.Merged
	add := func(kind byte, size, transport int, f []byte) {
		merged = append(merged, nettest.Merged{Frame: f, Kind: kind, Size: size, Transport: transport})
	}
	for _, payload := range []int{10 * 1400, 10*1400 + 1, 1401, 30_000} {
		data := gopacket.Payload(make([]byte, payload))
		for _, tcp := range []*layers.TCP{tcp(), tcp(layers.TCPOption{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)})} {
			add(unix.VIRTIO_NET_HDR_GSO_TCPV4, 1400, 14+20, ethernet("\x08\x00", ipv4("10.0.0.1", "10.0.0.2", layers.IPProtocolTCP), tcp, data))
			add(unix.VIRTIO_NET_HDR_GSO_TCPV6, 1400, 14+40, ethernet("\x86\xdd", ipv6("fd00::1", "fd00::2", layers.IPProtocolTCP), tcp, data))
		}
		add(unix.VIRTIO_NET_HDR_GSO_UDP_L4, 1200, 14+20, ethernet("\x08\x00", ipv4("10.0.0.3", "10.0.0.4", layers.IPProtocolUDP), udp(), data))
		add(unix.VIRTIO_NET_HDR_GSO_UDP_L4, 1200, 14+40, ethernet("\x86\xdd", ipv6("fd00::3", "fd00::4", layers.IPProtocolUDP), udp(), data))
	}
	return merged
}

// asFrame is how package frame gets a merged segment.
func asFrame(m nettest.Merged) frame.Frame {
	segments := frame.Segments{Size: m.Size, Transport: m.Transport, UDP: m.Kind == unix.VIRTIO_NET_HDR_GSO_UDP_L4}
	return frame.Frame{Link: frame.LinkEthernet, Data: m.Frame, Segments: segments}
}

// ethernet builds a frame from the Ethernet addresses, a link header, layers, and padding to Ethernet's minimum of 60 bytes.
func ethernet(link string, of ...gopacket.SerializableLayer) []byte {
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, of...); err != nil {
		panic(err)
	}
	frame := append([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"+link), buffer.Bytes()...)
	return append(frame, make([]byte, max(0, 60-len(frame)))...)
}

func ipv4(src, dst string, next layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: next, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func ipv6(src, dst string, next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func udp() *layers.UDP { return &layers.UDP{SrcPort: 9, DstPort: 9} }

func tcp(options ...layers.TCPOption) *layers.TCP {
	return &layers.TCP{SrcPort: 9, DstPort: 9, ACK: true, Options: options}
}
