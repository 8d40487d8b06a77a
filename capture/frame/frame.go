// Package frame decodes captured frames: it returns the addresses of a packet, and how many network-layer bytes it has.
//
// It is pure: it has no I/O and no state, does not allocate, and does not panic on any input.
//
// It follows a frame through its link headers (Ethernet with up to [MaxTags] VLAN tags and others, MPLS with up to [MaxLabels] labels, PPPoE
// sessions, PPP, 802.11, Frame Relay and others: see [Link]) to the first IP header. This outermost header counts. What is behind it does not matter,
// except the transport header of merged segments (see [Segments]) and the extension headers before the protocol.
//
// The rules:
//
//   - Bytes are those of the network layer on the wire: the total length of an IPv4 header, or 40 plus the payload length of an IPv6
//     header. They are never more than the frame had on the wire after its link headers, and before its frame check sequence or what its
//     802.3 length calls padding. A length of 0 (IPv4 BIG TCP, an IPv6 jumbogram) stands for all of that.
//   - An IP header is valid if its version fits, an IPv4 header's IHL is at least 5 and its total length at least the header's or 0, and
//     its fixed part (20 or 40 bytes) was captured and is not padding. Otherwise, and if the capture ends inside a link header, the frame
//     is [Malformed].
//   - A frame that carries something else than IP is [NonIP].
//   - The protocol and the VLAN of a packet are those of the outermost header, too.
package frame

import (
	"encoding/binary"
	"net/netip"
)

// Limits for headers of Ethernet (VLAN tags, VNTags, I-tags of 802.1ah, LLC) and MPLS labels. A frame with more is malformed.
const (
	MaxTags   = 8
	MaxLabels = 16
)

// Outcome says how a frame was counted. Every frame has exactly one.
type Outcome uint8

// Decode returns Counted, NonIP or Malformed. A counter changes Counted to Unmonitored or Excluded.
const (
	Counted     Outcome = iota // at least one of its addresses was counted
	Unmonitored                // neither of its addresses is monitored
	Excluded                   // one of its addresses is excluded
	NonIP                      // carries no IP packet
	Malformed                  // its headers are invalid, or the capture ends inside them
	Outcomes                   // how many outcomes there are
)

var outcomeNames = [Outcomes]string{"counted", "unmonitored", "excluded", "non_ip", "malformed"}

func (o Outcome) String() string { return outcomeNames[o] }

// Frame is a captured frame.
type Frame struct {
	Link      Link
	EtherType uint16   // of Data, if Link is LinkNone
	Data      []byte   // the captured bytes, from the link header on
	Wire      int      // length on the wire from the link header on; less than len(Data) counts as len(Data)
	Segments  Segments // how the frame was merged from several packets, zero if it was not
	Tagged    bool     // the outermost VLAN tag was removed from Data, as Linux does
	Tag       uint16   // the control information of the removed tag, else 0
}

// Packet is what a frame counts as.
type Packet struct {
	Source, Destination netip.Addr // of the outermost IP header, so of one version; invalid unless the outcome is Counted
	Bytes               int64      // network-layer bytes on the wire; the frame's (or aggregated packet's) length if there is no valid IP header
	Packets             int64      // packets on the wire: 1, or more for merged segments
	Outcome             Outcome    // Counted, NonIP or Malformed
	Protocol            uint8      // of the outermost IP header, behind IPv6 extension headers ([NoProtocol] if they were not all captured)
	VLAN                uint16     // VLAN ID of the outermost tag before the IP header, 0 without a tag or for a tag with only a priority
}

// NoProtocol is reserved by IANA: no packet has it.
const NoProtocol = 255

// EtherTypes and PPP protocol numbers that are followed (IEEE 802 numbers; IANA PPP numbers).
const (
	etherTypeIPv4  = 0x0800
	etherTypeIPv6  = 0x86dd
	etherTypeVLAN  = 0x8100 // IEEE 802.1Q customer tag
	etherTypeQinQ  = 0x88a8 // IEEE 802.1Q service tag
	etherTypeQinQ1 = 0x9100 // service tag of older equipment
	etherTypeMPLS  = 0x8847
	etherTypeMPLSM = 0x8848 // MPLS with an upstream-assigned label
	etherTypePPPoE = 0x8864 // PPPoE session stage
	etherTypePBB   = 0x88e7 // I-tag of IEEE 802.1ah, with an Ethernet frame behind it
	etherTypeVNTag = 0x8926 // Cisco's VNTag

	// Up to here, what stands in place of an EtherType is the length of a frame that begins with LLC (IEEE 802.3, clause 3.2.6).
	maxLength = 1500

	pppIPv4  = 0x0021
	pppIPv6  = 0x0057
	pppMPLS  = 0x0281
	pppMPLSM = 0x0283
)

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40

	llcLen  = 3
	snapLen = 5
	llcUI   = 0x03 // control field of unnumbered information (ISO 8802-2)
)

// Decode fills p from f, or from the first packet of it (see [Frame.Next]). It is safe for concurrent use on distinct values.
func (p *Packet) Decode(f *Frame) {
	d := f.Data
	wire := max(f.Wire, len(d))
	*p = Packet{Bytes: int64(wire), Packets: 1, Outcome: Malformed}

	// Nearly every frame is IPv4 in Ethernet: this takes one bounds check and no call.
	if f.Link == LinkEthernet && len(d) >= 14+ipv4HeaderLen && d[12] == 0x08 && d[13] == 0x00 {
		p.ipv4(f, 14, wire)
		if f.Tagged && p.Outcome == Counted {
			p.VLAN = f.Tag & vlanID
		}
		return
	}
	if f.Link >= firstInside {
		p.inside(f)
		return
	}
	off, etherType, outcome := f.Link.open(d, f.EtherType)
	if outcome == Counted && etherType <= maxLength && f.Link != LinkEthernet {
		outcome = NonIP
	}
	w := way{off: off, end: wire, etherType: etherType}
	if outcome == Counted && etherType != etherTypeIPv6 {
		w, outcome = w.unwrap(d)
	}
	switch {
	case outcome != Counted:
		p.Outcome = outcome
	case w.etherType == etherTypeIPv4 && w.end >= w.off+ipv4HeaderLen:
		p.ipv4(f, w.off, w.end)
	case w.etherType == etherTypeIPv6 && w.end >= w.off+ipv6HeaderLen:
		p.ipv6(f, w.off, w.end)
	}
	if p.Outcome == Counted {
		if p.VLAN = uint16(w.tag & vlanID); f.Tagged {
			p.VLAN = f.Tag & vlanID
		}
	}
}

const (
	vlanID     = 0xfff   // of tag control information; the rest is priority (IEEE 802.1Q, clause 9.6)
	tagPresent = 1 << 16 // with tag control information
)

// way is a way through the link headers of a frame to its IP header. It fits into registers.
type way struct {
	off       int    // of what comes next
	end       int    // of the frame on the wire, without padding if an 802.3 length tells
	etherType uint16 // of what comes next
	tag       uint32 // the control information of the outermost VLAN tag, with tagPresent; 0 without a tag
}

// unwrap follows tags, LLC, labels and sessions. If the outcome is Counted, the way that it returns leads to an IP header.
func (w way) unwrap(d []byte) (_ way, outcome Outcome) {
	for headers := 0; ; headers++ {
		var skip int // bytes from an EtherType to the next one
		switch w.etherType {
		case etherTypeIPv4, etherTypeIPv6:
			return w, Counted
		case etherTypeVLAN, etherTypeQinQ, etherTypeQinQ1:
			skip = 2 // tag control information (IEEE 802.1Q, clause 9)
		case etherTypeVNTag:
			skip = 4 // flags, destination and source interface
		case etherTypePBB:
			skip = 16 // I-tag control information, then addresses (IEEE 802.1Q, clause 9.7)
		case etherTypeMPLS, etherTypeMPLSM:
			w.off, w.etherType, outcome = labels(d, w.off)
			return w, outcome
		case etherTypePPPoE:
			w.off, w.etherType, outcome = session(d, w.off)
			return w, outcome
		default:
			if w.etherType > maxLength {
				return w, NonIP
			}
		}
		if headers == MaxTags {
			return w, Malformed
		}
		if w.etherType <= maxLength {
			w.end = min(w.end, w.off+int(w.etherType))
			if w.off, w.etherType, outcome = encapsulated(d, w.off); outcome != Counted {
				return w, outcome
			}
			continue
		}
		next := w.off + skip
		if len(d) < next+2 {
			return w, Malformed
		}
		if skip == 2 && w.tag == 0 {
			w.tag = tagPresent | uint32(binary.BigEndian.Uint16(d[w.off:]))
		}
		w.off, w.etherType = next+2, binary.BigEndian.Uint16(d[next:])
	}
}

// encapsulated reads LLC and SNAP at off. If the outcome is Counted, it returns the offset and EtherType of what follows.
func encapsulated(d []byte, off int) (int, uint16, Outcome) {
	if outcome := llc(d, off); outcome != Counted {
		return 0, 0, outcome
	}
	off += llcLen
	organization, protocol, outcome := snap(d, off)
	if outcome == Counted && (!hasEtherTypes(organization) || protocol <= maxLength) {
		outcome = NonIP
	}
	return off + snapLen, protocol, outcome
}

// llc reads a header of LLC at off. The outcome is Counted if SNAP follows, which carries IP (RFC 1042). SAP 06, which once did so directly, is
// obsolete, and not followed.
func llc(d []byte, off int) Outcome {
	const sap = 0xaa // of SNAP
	if len(d) < off+llcLen {
		return Malformed
	}
	if d[off] != sap || d[off+1] != sap || d[off+2] != llcUI {
		return NonIP
	}
	return Counted
}

// snap reads an organization and its protocol number at off (IEEE 802).
func snap(d []byte, off int) (organization uint32, protocol uint16, outcome Outcome) {
	if len(d) < off+snapLen {
		return 0, 0, Malformed
	}
	return binary.BigEndian.Uint32(d[off:]) >> 8, binary.BigEndian.Uint16(d[off+3:]), Counted
}

// hasEtherTypes tells whether an organization's protocol numbers are EtherTypes: those of RFC 1042 and IEEE 802.1H are.
func hasEtherTypes(organization uint32) bool {
	return organization == 0x000000 || organization == 0x0000f8
}

// session reads a PPPoE header at off (RFC 2516): version and type (both 1), code (0 in a session), session, length. A PPP protocol number
// follows.
func session(d []byte, off int) (int, uint16, Outcome) {
	if len(d) < off+6 {
		return 0, 0, Malformed
	}
	if d[off] != 0x11 || d[off+1] != 0 {
		return 0, 0, NonIP
	}
	return ppp(d, off+6)
}

// labels follows an MPLS label stack at off to its bottom. There is no type for what follows: by common practice (RFC 4928) a first nibble
// of 4 or 6 is that of an IP header, and any other is not, such as that of a pseudowire's control word.
func labels(d []byte, off int) (int, uint16, Outcome) {
	for range MaxLabels {
		if len(d) < off+4 {
			return 0, 0, Malformed
		}
		bottom := d[off+2]&1 != 0
		off += 4
		if bottom {
			return byVersion(d, off, NonIP)
		}
	}
	return 0, 0, Malformed
}

// ppp reads a PPP protocol number of one or two bytes at off (RFC 1661, section 2: the last byte is the odd one).
func ppp(d []byte, off int) (int, uint16, Outcome) {
	if len(d) <= off {
		return 0, 0, Malformed
	}
	proto := uint16(d[off])
	if off++; proto&1 == 0 {
		if len(d) <= off {
			return 0, 0, Malformed
		}
		proto = proto<<8 | uint16(d[off])
		off++
	}
	switch proto {
	case pppIPv4:
		return off, etherTypeIPv4, Counted
	case pppIPv6:
		return off, etherTypeIPv6, Counted
	case pppMPLS, pppMPLSM:
		return labels(d, off)
	}
	return 0, 0, NonIP
}

// byVersion reads the version of IP in the first nibble at off. The outcome of any other version is otherwise.
func byVersion(d []byte, off int, otherwise Outcome) (int, uint16, Outcome) {
	if len(d) <= off {
		return 0, 0, Malformed
	}
	switch d[off] >> 4 {
	case 4:
		return off, etherTypeIPv4, Counted
	case 6:
		return off, etherTypeIPv6, Counted
	}
	return 0, 0, otherwise
}

// ipv4 reads the IPv4 header (RFC 791) at off, of a frame with wire bytes.
func (p *Packet) ipv4(f *Frame, off, wire int) {
	h := f.Data[off:]
	if len(h) < ipv4HeaderLen || h[0]>>4 != 4 {
		return
	}
	headerLen := int(h[0]&15) * 4
	total := int(binary.BigEndian.Uint16(h[2:]))
	if headerLen < ipv4HeaderLen || total != 0 && total < headerLen {
		return
	}
	held := wire - off
	if total == 0 || total > held {
		total = held
	}
	p.Source, p.Destination = netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20]))
	p.Bytes, p.Outcome, p.Protocol = int64(total), Counted, h[9]
	if f.Segments.Size > 0 {
		p.split(f, off, off+headerLen)
	}
}

// ipv6 reads the IPv6 header (RFC 8200) at off, of a frame with wire bytes.
func (p *Packet) ipv6(f *Frame, off, wire int) {
	h := f.Data[off:]
	if len(h) < ipv6HeaderLen || h[0]>>4 != 6 {
		return
	}
	payload := int(binary.BigEndian.Uint16(h[4:]))
	total, held := ipv6HeaderLen+payload, wire-off
	if payload == 0 || total > held {
		total = held
	}
	p.Source, p.Destination = netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[24:40]))
	end, jumbo := ipv6HeaderLen, false
	p.Bytes, p.Outcome, p.Protocol = int64(total), Counted, h[6]
	if isExtension(h[6]) {
		p.Protocol, end, jumbo = extensions(h)
	}
	if f.Segments.Size > 0 {
		transport := off + end
		if jumbo {
			// Linux may add this option to IPv6 BIG TCP. No packet on the wire has it (include/net/ipv6.h, ipv6_has_hopopt_jumbo).
			p.Bytes -= jumboLen
			off += jumboLen
		}
		p.split(f, off, transport)
	}
}

// IPv6 extension headers that are followed (IANA, IPv6 Extension Header Types).
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	destination = 60

	maxExtensions = 8
)

func isExtension(protocol byte) bool {
	const all uint64 = 1<<hopByHop | 1<<routing | 1<<fragment | 1<<destination
	return all>>protocol&1 != 0 // 0 from 64 on
}

// extensions follows the extension headers of an IPv6 packet. It returns the protocol behind them ([NoProtocol] if they were not all
// captured or are too many), the offset where they end, as far as they were followed, and whether one is the jumbo option of a merged
// segment.
func extensions(h []byte) (protocol uint8, end int, jumbo bool) {
	next, end := h[6], ipv6HeaderLen
	known := false
	for n := 0; isExtension(next); n++ {
		if n == maxExtensions || len(h) < end+8 {
			next = NoProtocol
			break
		}
		length := 8
		if next != fragment {
			length += int(h[end+1]) * 8
		} else if !known && binary.BigEndian.Uint16(h[end+2:])&^7 != 0 {
			// This is not the first fragment. Its header tells how the packet goes on in the first one (RFC 8200, section 4.5).
			protocol, known = h[end], true
		}
		if next == hopByHop && length == jumboLen && h[end+2] == 0xc2 && binary.BigEndian.Uint16(h[4:]) == 0 {
			jumbo = true
		}
		next, end = h[end], end+length
	}
	if !known {
		protocol = next
	}
	return protocol, end, jumbo
}
