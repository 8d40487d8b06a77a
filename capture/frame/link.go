package frame

import (
	"encoding/binary"
	"math/bits"
)

// Link is a link layer: the header that a frame begins with.
type Link uint8

// The link layers that can be decoded.
const (
	LinkUnknown  Link = iota // none of the below: every frame is malformed
	LinkEthernet             // destination, source, EtherType
	LinkNone                 // no link header: Frame.EtherType is the type of the data
	LinkRaw                  // no link header: the first nibble is the version of IP
	LinkIPv4                 // no link header, IPv4 only
	LinkIPv6                 // no link header, IPv6 only
	LinkNull                 // BSD loopback: an address family in the byte order of the machine that captured
	LinkLoop                 // OpenBSD loopback: an address family in network byte order
	LinkPPP                  // PPP, with or without the address and control bytes of HDLC framing
	LinkPPPDir               // PPP behind a byte for the direction
	LinkPPPoE                // PPPoE session header without Ethernet
	LinkSLL                  // Linux cooked capture, version 1
	LinkSLL2                 // Linux cooked capture, version 2
	LinkCHDLC                // Cisco's HDLC: address, control, EtherType
	LinkIPoIB                // IP over InfiniBand: global route header, EtherType, reserved

	// Those whose headers tell where the packet ends, or which other link layer follows: see peel.
	LinkFrameRelay // Q.922 address, then NLPID, SNAP or Cisco's encapsulation
	LinkInfiniBand // local route header, then those that its transport needs
	LinkNFLOG      // attributes of Linux' netfilter
	LinkPPI        // per-packet information, then a frame of any other link layer
	LinkRadiotap   // radiotap, then 802.11
	LinkPrism      // Prism or AVS, then 802.11
	Link80211      // 802.11 without frame check sequence
	linkMSDUs      // the packets that a frame of 802.11 aggregates

	firstInside = LinkFrameRelay
)

// linkTypes has the numbers of capture files (https://www.tcpdump.org/linktypes.html). 12 and 14 are values of DLT_RAW that some systems
// write to files.
var linkTypes = map[uint32]Link{
	0: LinkNull, 1: LinkEthernet, 9: LinkPPP, 12: LinkRaw, 14: LinkRaw, 50: LinkPPP, 51: LinkPPPoE, 101: LinkRaw,
	104: LinkCHDLC, 105: Link80211, 107: LinkFrameRelay, 108: LinkLoop, 113: LinkSLL, 119: LinkPrism, 127: LinkRadiotap, 163: LinkPrism,
	192: LinkPPI, 204: LinkPPPDir, 228: LinkIPv4, 229: LinkIPv6, 239: LinkNFLOG, 242: LinkIPoIB, 247: LinkInfiniBand,
	276: LinkSLL2,
}

// InFilesOnly tells whether no interface has the link layer, but its monitor mode or a capture file may: a frame may hold several packets.
func (l Link) InFilesOnly() bool { return l >= firstInside }

// LinkOfType returns the link layer of a capture file's LINKTYPE_ number, LinkUnknown if it is not supported.
func LinkOfType(linkType uint32) Link { return linkTypes[linkType] }

// open reads the link header of a frame. If the outcome is Counted, it returns the offset and EtherType of what follows; for LinkNone that
// is etherType.
func (l Link) open(d []byte, etherType uint16) (int, uint16, Outcome) {
	switch l {
	case LinkEthernet:
		return typed(d, 12, 14)
	case LinkNone:
		return 0, etherType, Counted
	case LinkRaw:
		return byVersion(d, 0, Malformed)
	case LinkIPv4:
		return 0, etherTypeIPv4, Counted
	case LinkIPv6:
		return 0, etherTypeIPv6, Counted
	case LinkNull, LinkLoop:
		return loopback(d, l == LinkNull)
	case LinkPPP:
		return framed(d, 0)
	case LinkPPPDir:
		return framed(d, 1)
	case LinkPPPoE:
		return 0, etherTypePPPoE, Counted
	case LinkSLL:
		return cooked(d, 14, 16)
	case LinkSLL2:
		return cooked(d, 0, 20)
	case LinkCHDLC:
		return typed(d, 2, 4)
	case LinkIPoIB:
		return typed(d, 40, 44)
	}
	return 0, 0, Malformed
}

// typed reads a header of n bytes with an EtherType at offset at.
func typed(d []byte, at, n int) (int, uint16, Outcome) {
	if len(d) < n {
		return 0, 0, Malformed
	}
	return n, binary.BigEndian.Uint16(d[at:]), Counted
}

// cooked is typed for headers of Linux, which have a number for frames that begin with LLC.
func cooked(d []byte, at, n int) (int, uint16, Outcome) {
	const llc = 4 // ETH_P_802_2 (linux/if_ether.h)
	off, etherType, outcome := typed(d, at, n)
	if outcome == Counted && etherType == llc {
		return encapsulated(d, off)
	}
	return off, etherType, outcome
}

// framed reads PPP at off, behind the address and control bytes 0xff 0x03 of HDLC framing, if any (RFC 1662).
func framed(d []byte, off int) (int, uint16, Outcome) {
	if len(d) >= off+2 && d[off] == 0xff && d[off+1] == 0x03 {
		off += 2
	}
	return ppp(d, off)
}

// loopback reads an address family of four bytes. AF_INET is 2 on every system; AF_INET6 is 10 on Linux, 23 on Windows,
// 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS (https://www.tcpdump.org/linktypes.html). No family is over 65535, which
// tells the byte order of the machine that captured. Some systems write an EtherType instead.
func loopback(d []byte, anyOrder bool) (int, uint16, Outcome) {
	if len(d) < 4 {
		return 0, 0, Malformed
	}
	family := binary.BigEndian.Uint32(d)
	if anyOrder && family > 0xffff {
		family = bits.ReverseBytes32(family)
	}
	switch family {
	case 2, etherTypeIPv4:
		return 4, etherTypeIPv4, Counted
	case 10, 23, 24, 28, 30, etherTypeIPv6:
		return 4, etherTypeIPv6, Counted
	}
	return 0, 0, NonIP
}
