package frame

import "encoding/binary"

// inside decodes the frame that is inside another one.
func (p *Packet) inside(outer *Frame) {
	f, bytes := *outer, p.Bytes
	for f.Link >= firstInside {
		if f.Link == linkMSDUs {
			bytes = int64(min(f.wire(), f.msduLen()))
		}
		if p.Outcome = f.peel(); p.Outcome != Counted {
			p.Bytes = bytes
			return
		}
	}
	if p.Decode(&f); p.Outcome != Counted {
		p.Bytes = bytes
	}
}

// peel takes off the headers of a link layer from firstInside on, and what follows the packet: if the outcome is Counted, f is then of
// another link layer.
func (f *Frame) peel() Outcome {
	switch f.Link {
	case LinkFrameRelay:
		return f.frameRelay()
	case LinkInfiniBand:
		return f.infiniBand()
	case LinkNFLOG:
		return f.nflog()
	case LinkPPI:
		return f.ppi()
	case LinkRadiotap:
		return f.radiotap()
	case LinkPrism:
		return f.prism()
	case Link80211:
		return f.wireless(false)
	case linkMSDUs:
		return f.msdu()
	}
	return Malformed
}

// part makes f its bytes from off to end, of another link layer, for LinkNone of etherType. The frame may end before end, and may be
// captured in part.
func (f *Frame) part(off, end int, link Link, etherType uint16) Outcome {
	end = min(end, f.wire())
	if off > len(f.Data) || off > end {
		return Malformed
	}
	f.Link, f.EtherType, f.Data, f.Wire = link, etherType, f.Data[off:min(len(f.Data), end)], end-off
	f.Segments.Transport -= off
	return Counted
}

func (f *Frame) wire() int { return max(f.Wire, len(f.Data)) }

// Values of frames that carry several protocols.
const (
	// Network layer protocol identifiers (ISO/IEC TR 9577).
	nlpidIPv4 = 0xcc
	nlpidIPv6 = 0x8e
	nlpidPPP  = 0xcf
	nlpidSNAP = 0x80
)

// frameRelay reads an address of two to four bytes, the last of which is the odd one (ITU-T Q.922, annex A). Multiprotocol encapsulation has
// a control field, up to one byte of padding and an NLPID (RFC 2427). Cisco's has an EtherType instead.
func (f *Frame) frameRelay() Outcome {
	d, at := f.Data, 0
	for at < min(len(d), 4) && d[at]&1 == 0 {
		at++
	}
	if at++; at < 2 || at > 4 || len(d) < at+2 {
		return Malformed
	}
	if d[at] != llcUI {
		if signaling := at == 2 && d[0]>>2 == 0 && d[1]>>4 == 0; signaling {
			return NonIP
		}
		return f.part(at+2, f.wire(), LinkNone, binary.BigEndian.Uint16(d[at:]))
	}
	if at++; d[at] == 0 {
		at++
	}
	if len(d) <= at {
		return Malformed
	}
	switch d[at] {
	case nlpidIPv4:
		return f.part(at+1, f.wire(), LinkIPv4, 0)
	case nlpidIPv6:
		return f.part(at+1, f.wire(), LinkIPv6, 0)
	case nlpidPPP: // RFC 1973
		return f.part(at+1, f.wire(), LinkPPP, 0)
	case nlpidSNAP:
		return f.snap(at + 1)
	}
	return NonIP
}

// snap reads a header of SNAP at off: EtherTypes, and bridged Ethernet of RFC 2427, with or without its frame check sequence.
func (f *Frame) snap(off int) Outcome {
	const bridged = 0x0080c2
	organization, protocol, outcome := snap(f.Data, off)
	off += snapLen
	switch {
	case outcome != Counted:
		return outcome
	case hasEtherTypes(organization):
		return f.part(off, f.wire(), LinkNone, protocol)
	case organization == bridged && protocol == 1:
		return f.part(off, f.wire()-fcsLen, LinkEthernet, 0)
	case organization == bridged && protocol == 7:
		return f.part(off, f.wire(), LinkEthernet, 0)
	}
	return NonIP
}

// infiniBand reads a local route header, a global one if there is one, and a base transport header. Behind those, a message may begin with
// an EtherType and two reserved bytes (RFC 4391, RFC 4755). Padding and checksums follow the packet (InfiniBand Architecture Specification,
// volume 1, chapters 7 to 9).
func (f *Frame) infiniBand() Outcome {
	const (
		localLen, globalLen, baseLen, datagramLen, immediateLen, checksumLen = 8, 40, 12, 8, 4, 4 // bytes

		nextIPv6, nextBase, nextGlobal         = 1, 2, 3 // of the local route header
		reliable, unreliable, datagram         = 0, 1, 3 // the upper three bits of an opcode
		sendFirst, sendOnly, sendOnlyImmediate = 0, 4, 5 // the other bits
	)
	d := f.Data
	if len(d) < localLen {
		return Malformed
	}
	off, end := localLen, int(binary.BigEndian.Uint16(d[4:])&0x7ff)*4
	switch d[1] & 3 {
	case nextIPv6:
		return f.part(off, end, LinkIPv6, 0)
	case nextBase:
	case nextGlobal:
		off += globalLen
	default:
		return NonIP
	}
	if len(d) < off+baseLen {
		return Malformed
	}
	opcode, padding := d[off], int(d[off+1]>>4&3)
	off, end = off+baseLen, end-checksumLen-padding
	switch opcode >> 5 {
	case reliable, unreliable:
	case datagram:
		off += datagramLen
	default:
		return NonIP
	}
	switch opcode & 0x1f {
	case sendFirst, sendOnly:
	case sendOnlyImmediate:
		off += immediateLen
	default:
		return NonIP
	}
	if len(d) < off+4 {
		return Malformed
	}
	if d[off+2] != 0 || d[off+3] != 0 {
		return NonIP
	}
	return f.part(off+4, end, LinkNone, binary.BigEndian.Uint16(d[off:]))
}

// nflog reads an address family, a version, a resource ID, and then attributes until that of the packet. Each has its length and type in the
// byte order of the machine that captured, and is padded to four bytes (https://www.tcpdump.org/linktypes/LINKTYPE_NFLOG.html). No type is
// over 255, which tells the byte order. Families are those of Linux: others than IP leave it to an attribute what the packet is.
//
// A rule of netfilter may copy only the start of a packet, and nothing tells how long it was but its header. Linux has checked that
// (net/ipv4/ip_input.c, net/ipv6/ip6_input.c), unless it comes from a bridge.
func (f *Frame) nflog() Outcome {
	const (
		inet, inet6 = 2, 10  // AF_INET, AF_INET6
		header      = 1      // NFULA_PACKET_HDR (linux/netfilter/nfnetlink_log.h), begins with an EtherType
		payload     = 9      // NFULA_PAYLOAD
		flags       = 0xc000 // NLA_F_NESTED, NLA_F_NET_BYTEORDER (linux/netlink.h)
	)
	d := f.Data
	if len(d) < 4 || d[1] != 0 {
		return Malformed
	}
	var order binary.ByteOrder = binary.LittleEndian
	if len(d) >= 8 && order.Uint16(d[6:])&^flags > 0xff {
		order = binary.BigEndian
	}
	var etherType uint16
	switch d[0] {
	case inet:
		etherType = etherTypeIPv4
	case inet6:
		etherType = etherTypeIPv6
	}
	for at := 4; len(d) >= at+4; {
		size := int(order.Uint16(d[at:]))
		switch kind := order.Uint16(d[at+2:]) &^ flags; {
		case size < 4:
			return Malformed
		case kind == payload:
			outcome := f.part(at+4, at+size, LinkNone, etherType)
			switch h := f.Data; {
			case outcome != Counted:
			case d[0] == inet && len(h) >= ipv4HeaderLen:
				f.Wire = max(f.Wire, int(binary.BigEndian.Uint16(h[2:])))
			case d[0] == inet6 && len(h) >= ipv6HeaderLen:
				f.Wire = max(f.Wire, ipv6HeaderLen+int(binary.BigEndian.Uint16(h[4:])))
			}
			return outcome
		case kind == header && etherType == 0 && size >= 6 && len(d) >= at+6:
			etherType = binary.BigEndian.Uint16(d[at+4:])
		}
		at += (size + 3) &^ 3
	}
	return Malformed
}

// ppi reads a header with the number of the link layer inside, then fields. One field tells that a frame of 802.11 has its frame check
// sequence (CACE Technologies, Per-Packet Information Header Specification).
func (f *Frame) ppi() Outcome {
	const (
		aligned = 1 // a flag: fields are padded to four bytes
		common  = 2 // type of the field of 802.11: eight bytes of time, then flags
	)
	d := f.Data
	if len(d) < 8 || d[0] != 0 {
		return Malformed
	}
	size, link, end := int(binary.LittleEndian.Uint16(d[2:])), LinkOfType(binary.LittleEndian.Uint32(d[4:])), f.wire()
	if size < 8 || size > len(d) || link == LinkPPI {
		return Malformed
	}
	for at := 8; at+4 <= size && link == Link80211; {
		kind, n := binary.LittleEndian.Uint16(d[at:]), int(binary.LittleEndian.Uint16(d[at+2:]))
		if at += 4; kind == common && n >= 10 && at+10 <= size && d[at+8]&1 != 0 {
			end -= fcsLen
			break
		}
		if at += n; d[1]&aligned != 0 {
			at = (at + 3) &^ 3
		}
	}
	return f.part(size, end, link, 0)
}

// PPIType returns the number of the link layer inside a frame of LinkPPI, LINKTYPE_PPI if it is cut short.
func PPIType(data []byte) uint32 {
	if len(data) < 8 {
		return 192
	}
	return binary.LittleEndian.Uint32(data[4:])
}
