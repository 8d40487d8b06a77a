package sflow

import (
	"math"

	"promflow/capture/flow"
	"promflow/capture/frame"
)

// Data formats of flow records.
const (
	sampledHeader   = 1
	sampledEthernet = 2
	sampledIPv4     = 3
	sampledIPv6     = 4
	extendedSwitch  = 1001
)

// sample is a flow sample. Of its records it has the first one of each kind, nil if there is none.
type sample struct {
	class, source uint32 // of the data source
	input, output port
	rate          uint32

	header, ethernet, ipv4, ipv6, vlans []byte
}

// readSample reads a flow sample. It returns false for one that ends too early.
func readSample(data []byte, expanded bool) (s sample, ok bool) {
	x := xdr{rest: data}
	x.number() // of the sample: its datagram has one, too
	if expanded {
		s.class, s.source = x.number(), x.number()
	} else {
		id := x.number()
		s.class, s.source = id>>24, id&0xffffff
	}
	s.rate = x.number()
	x.bytes(8) // the sample pool, and the drops
	if expanded {
		s.input = port{x.number(), x.number()}
		s.output = port{x.number(), x.number()}
	} else {
		s.input, s.output = compact(x.number()), compact(x.number())
	}
	for range x.number() {
		format, record := x.number(), x.opaque()
		if x.short {
			return s, false
		}
		switch format {
		case sampledHeader:
			keep(&s.header, record)
		case sampledEthernet:
			keep(&s.ethernet, record)
		case sampledIPv4:
			keep(&s.ipv4, record)
		case sampledIPv6:
			keep(&s.ipv6, record)
		case extendedSwitch:
			keep(&s.vlans, record)
		}
	}
	return s, !x.short
}

// keep has the first record of a kind stay.
func keep(kind *[]byte, record []byte) {
	if *kind == nil {
		*kind = record
	}
}

// isPacket tells whether the sample is that of a packet.
func (s *sample) isPacket() bool {
	return s.header != nil || s.ethernet != nil || s.ipv4 != nil || s.ipv6 != nil
}

// decode fills r from the sample of a packet. It returns false if a record ends too early.
func (s *sample) decode(r *flow.Record) bool {
	*r = flow.Record{Rate: s.rate}
	r.Input, _ = s.input.index()
	if s.header != nil && !decodeHeader(&r.Packet, s.header) {
		return false
	}
	if s.header == nil || r.Outcome != frame.Counted {
		ok := true
		switch {
		case s.ipv4 != nil:
			ok = decodeIP(&r.Packet, s.ipv4, false)
		case s.ipv6 != nil:
			ok = decodeIP(&r.Packet, s.ipv6, true)
		case s.header == nil:
			ok = decodeEthernet(&r.Packet, s.ethernet)
		}
		if !ok {
			return false
		}
	}
	if s.vlans != nil && r.Outcome == frame.Counted && r.VLAN == 0 && !s.decodeVLAN(r) {
		return false
	}
	r.Check(true, true)
	return true
}

// Protocols of sampled headers: what the header begins with.
const (
	headerEthernet = 1
	headerPPP      = 7
	headerIPv4     = 11
	headerIPv6     = 12
	headerMPLS     = 13
	headerPOS      = 14 // PPP in the framing of HDLC (RFC 2615)
)

// decodeHeader decodes a sampled header: the beginning of a frame, or of what is left after the agent took outer headers off. One that
// begins with a protocol that is not followed is malformed.
func decodeHeader(p *frame.Packet, record []byte) bool {
	x := xdr{rest: record}
	var f frame.Frame
	switch x.number() {
	case headerEthernet:
		f.Link = frame.LinkEthernet
	case headerPPP, headerPOS:
		f.Link = frame.LinkPPP
	case headerIPv4:
		f.Link = frame.LinkIPv4
	case headerIPv6:
		f.Link = frame.LinkIPv6
	case headerMPLS:
		f.Link, f.EtherType = frame.LinkNone, etherTypeMPLS
	}
	// The length includes what was taken off: the FCS, and any outer headers with their trailers.
	length, stripped := x.number(), x.number()
	f.Wire = wire(length, stripped)
	f.Data = x.opaque()
	if x.short {
		return false
	}
	p.Decode(&f)
	return true
}

const (
	etherTypeMPLS = 0x8847
	lenFCS        = 4
)

// wire returns the length of a frame without what was taken off.
func wire(length, stripped uint32) int {
	return int(min(max(int64(length)-int64(stripped), 0), math.MaxInt32))
}

// decodeEthernet decodes sampled Ethernet data: a frame's length with the FCS, two MAC addresses that fill two words each, and an
// EtherType. Without an IP header, that of an IP packet is malformed.
func decodeEthernet(p *frame.Packet, record []byte) bool {
	x := xdr{rest: record}
	length := x.number()
	x.bytes(2 * 8)
	etherType := x.number()
	if x.short {
		return false
	}
	p.Decode(&frame.Frame{Link: frame.LinkNone, EtherType: uint16(min(etherType, math.MaxUint16)), Wire: wire(length, lenFCS)})
	return true
}

// decodeIP decodes sampled IPv4 or IPv6 data: the length of the packet, its protocol and its addresses. The rest, such as ports, is not
// needed.
func decodeIP(p *frame.Packet, record []byte, v6 bool) bool {
	x := xdr{rest: record}
	length, protocol := x.number(), x.number()
	least := uint32(20)
	*p = frame.Packet{Bytes: int64(length), Packets: 1, Outcome: frame.Counted, Protocol: uint8(min(protocol, frame.NoProtocol))}
	if v6 {
		least = 40
		p.Source, p.Destination = x.ipv6(), x.ipv6()
		switch protocol {
		case 0, 43, 44, 60: // of an extension header: the protocol is behind it
			p.Protocol = frame.NoProtocol
		}
	} else {
		p.Source, p.Destination = x.ipv4(), x.ipv4()
	}
	if length < least { // 0 stands for an unknown one
		*p = frame.Packet{Packets: 1, Outcome: frame.Malformed}
	}
	return !x.short
}

// decodeVLAN takes the VLAN from extended switch data: VLAN and priority of the incoming, then of the outgoing frame.
func (s *sample) decodeVLAN(r *flow.Record) bool {
	x := xdr{rest: s.vlans}
	incoming, _ := x.number(), x.number()
	outgoing, _ := x.number(), x.number()
	vlan := incoming
	in, _ := s.input.index()
	out, _ := s.output.index()
	if s.class == isInterface && s.source != in && s.source == out { // it was sampled where it went out
		vlan = outgoing
	}
	if vlan < 0xfff { // which is reserved; agents send 2^32-1 for a port without VLANs
		r.VLAN = uint16(vlan)
	}
	return !x.short
}

// port is an interface of a device, or what stands in for one.
type port struct{ format, value uint32 }

// compact reads a port whose format is in the upper two bits.
func compact(n uint32) port { return port{n >> 30, n & (1<<30 - 1)} }

const (
	isInterface = 0 // the class of a data source

	single   = 0         // the value is an index; the other formats are for packets that were discarded, or sent to several interfaces
	internal = 1<<30 - 1 // the device itself sent or received the packet
	mostPort = 1<<31 - 1 // RFC 2863, InterfaceIndex
)

// index returns the index of an interface. It returns false, and 0, for anything else.
func (p port) index() (uint32, bool) {
	if p.format != single || p.value == 0 || p.value == internal || p.value > mostPort {
		return 0, false
	}
	return p.value, true
}
