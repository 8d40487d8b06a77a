package netflow

import (
	"encoding/binary"
	"math"
	"net/netip"

	"promflow/capture/flow"
	"promflow/capture/frame"
)

// values are the fields of a record that are read.
type values struct {
	numbers             [numbers]uint64
	source, destination address
}

// address is an address in a record, which may have fields for both families.
type address struct {
	v4         [4]byte
	v6         [16]byte
	has4, has6 bool
}

// read reads the record at the begin of data. It returns its size, or 0 if data end before the record does.
func (v *values) read(t *template, data []byte) int {
	if len(data) < t.size {
		return 0
	}
	*v = values{}
	if !t.varying {
		for _, f := range t.fields {
			v.set(f.kind, data[f.offset:int(f.offset)+int(f.length)])
		}
		return t.size
	}
	at := 0
	for _, f := range t.fields {
		length := int(f.length)
		if f.length == variableLength {
			if len(data) < at+1 {
				return 0
			}
			length = int(data[at])
			at++
			if length == 255 {
				if len(data) < at+2 {
					return 0
				}
				length = int(binary.BigEndian.Uint16(data[at:]))
				at += 2
			}
			if len(data) < at+length {
				return 0
			}
			if f.kind != ignored && fitsKind(f.kind, uint16(length)) {
				v.set(f.kind, data[at:at+length])
			}
		} else {
			if len(data) < at+length {
				return 0
			}
			v.set(f.kind, data[at:at+length])
		}
		at += length
	}
	return at
}

// set sets a field. A field that comes twice has the first value that is not 0.
func (v *values) set(k kind, data []byte) {
	switch k {
	case ignored:
	case source4:
		v.source.v4, v.source.has4 = [4]byte(data), true
	case destination4:
		v.destination.v4, v.destination.has4 = [4]byte(data), true
	case source6:
		v.source.v6, v.source.has6 = [16]byte(data), true
	case destination6:
		v.destination.v6, v.destination.has6 = [16]byte(data), true
	default:
		if n := number(data); v.numbers[k] == 0 {
			v.numbers[k] = n
		}
	}
}

// number reads a number of up to 8 bytes.
func number(data []byte) (n uint64) {
	switch len(data) {
	case 4:
		return uint64(binary.BigEndian.Uint32(data))
	case 8:
		return binary.BigEndian.Uint64(data)
	case 2:
		return uint64(binary.BigEndian.Uint16(data))
	}
	for _, b := range data {
		n = n<<8 | uint64(b)
	}
	return n
}

// counters are where a number of bytes or packets may be, the best first. FreeBSD's ng_netflow sends bytes going out as 0 beside those coming
// in (https://github.com/netsampler/goflow2/issues/524); others send both, and mean the same packets. Totals since the flow, or the exporter,
// began do not stand in for what was added if that was 0.
var (
	octetCounters         = [][]kind{{octets, postOctets}, {totalOctets}, {initiatorOctets}, {frameOctets}}
	packetCounters        = [][]kind{{packets, postPackets}, {totalPackets}, {initiatorPackets}}
	reverseOctetCounters  = [][]kind{{reverseOctets}, {reverseTotalOctets}, {responderOctets}}
	reversePacketCounters = [][]kind{{reversePackets}, {reverseTotalPackets}, {responderPackets}}
)

// choose returns the best counters that a template has. Those of initiator and responder belong together.
func (t *template) choose(counters [][]kind) []kind {
	for _, some := range counters {
		for _, k := range some {
			if t.has[k] {
				return some
			}
		}
	}
	return nil
}

// first returns the first of some numbers that is not 0.
func (v *values) first(kinds ...kind) int64 {
	for _, k := range kinds {
		if n := v.numbers[k]; n != 0 {
			return int64(n)
		}
	}
	return 0
}

// record makes a record of the values, without its sampling rate.
func (v *values) record(t *template, r *flow.Record) {
	*r = flow.Record{
		Packet: frame.Packet{
			Bytes: v.first(t.octets...), Packets: v.first(t.packets...),
			Outcome: frame.Counted, Protocol: frame.NoProtocol, VLAN: uint16(v.first(tagVLAN, vlan) & 0xfff),
		},
		ReverseBytes:   v.first(t.reverseOctets...),
		ReversePackets: v.first(t.reversePackets...),
		Input:          uint32(v.first(input, physicalInput)),
	}
	if t.has[protocol] {
		r.Protocol = uint8(v.numbers[protocol])
	}
	if d := v.numbers[direction]; t.has[direction] && d < uint64(len(directions)) {
		r.Direction = directions[d]
	}
	s, d := &v.source, &v.destination
	has4, has6 := s.has4 || d.has4, s.has6 || d.has6
	switch {
	case !has4 && !has6: // an Ethernet frame without IP
		r.Outcome = frame.NonIP
	case has4 && (!has6 || s.v6 == [16]byte{} && d.v6 == [16]byte{}): // Cisco has fields for both families, and zeros in one
		r.Source, r.Destination = netip.AddrFrom4(s.v4), netip.AddrFrom4(d.v4)
	case has6 && (!has4 || s.v4 == [4]byte{} && d.v4 == [4]byte{}):
		r.Source, r.Destination = netip.AddrFrom16(s.v6), netip.AddrFrom16(d.v6)
	default:
		*r = flow.Record{Packet: frame.Packet{Outcome: frame.Malformed}}
	}
	r.Check(t.packets != nil, t.reversePackets != nil)
}

// rate returns the sampling rate that a record says itself: one packet of so many was sampled. It is 0 if it says none.
func (v *values) rate() uint32 {
	of := func(n float64) uint32 {
		if n >= 1 && n <= math.MaxUint32 {
			return uint32(math.Round(n))
		}
		return 0
	}
	n := &v.numbers
	switch {
	case n[packetInterval] != 0:
		return of(float64(n[packetInterval]+n[packetSpace]) / float64(n[packetInterval]))
	case n[interval] != 0:
		return of(float64(n[interval]))
	case n[randomInterval] != 0:
		return of(float64(n[randomInterval]))
	case n[sampleSize] != 0:
		return of(float64(n[samplePopulation]) / float64(n[sampleSize]))
	case n[probability] != 0:
		p := math.Float64frombits(n[probability])
		if n[probability]>>32 == 0 {
			p = float64(math.Float32frombits(uint32(n[probability])))
		}
		return of(1 / p)
	}
	return 0
}
