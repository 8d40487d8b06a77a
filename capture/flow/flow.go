// Package flow counts the flows that exporters report by UDP: routers and switches that count packets themselves.
//
// A [Collector] receives datagrams, and has the [Decoder] of its [Protocol] make [Record] values of them. It multiplies what was sampled,
// and gives each record to the counter of its exporter. So flows end up in the same table as captured packets.
//
//	datagrams ─► Collector ─► Exporter ─► Decoder ─► Record ─► capture.Counter ─► capture.Table
//
// An exporter is known by the address that its datagrams come from. Only those in [Config.Exporters] are decoded. What one may occupy is
// bounded, and so is what all may occupy together: see [Limits].
//
// There is one socket. A second one with SO_REUSEPORT was 8 % faster with two processors, and took more of them: what a record costs most is
// finding its two addresses in the table.
//
// Nothing is allocated for a datagram of a known exporter, unless it has templates.
package flow

import (
	"time"

	"promflow/capture/frame"
)

// Record is a flow, or a sampled packet, as an exporter reports it.
type Record struct {
	// Packet has the addresses, the protocol and the VLAN. Its bytes and packets are those that the exporter counted, of the network
	// layer and not multiplied by Rate. Its outcome is Counted; NonIP without addresses; or Malformed.
	frame.Packet

	ReverseBytes, ReversePackets int64 // from Destination to Source, if the record has both directions (RFC 5103)

	Rate      uint32 // the exporter sampled one packet of so many; 0 if it does not say
	Input     uint32 // the exporter's index of the interface where the packets came in, 0 if it does not say
	Direction Direction
}

// Direction says where an exporter counted a flow.
type Direction uint8

// The directions of a record.
const (
	Unknown Direction = iota // the exporter does not say
	Ingress                  // where it came in
	Egress                   // where it went out
)

// MostBytes is the size of the largest IP packet. A record with more for each packet is malformed.
const MostBytes = 65535

// Check makes a record malformed if its numbers cannot be: negative ones (beyond 63 bits) and, in a direction that has a number of packets,
// more bytes than so many packets hold. RouterOS 7.12 sent such (https://github.com/pavel-odintsov/fastnetmon/issues/1000).
func (r *Record) Check(hasPackets, hasReversePackets bool) {
	if r.Bytes < 0 || r.Packets < 0 || r.ReverseBytes < 0 || r.ReversePackets < 0 ||
		hasPackets && exceeds(r.Bytes, r.Packets) || hasReversePackets && exceeds(r.ReverseBytes, r.ReversePackets) {
		*r = Record{Packet: frame.Packet{Outcome: frame.Malformed}}
	}
}

// exceeds tells whether so many packets cannot have so many bytes.
func exceeds(bytes, packets int64) bool { return bytes > 0 && (bytes-1)/MostBytes >= packets }

// Datagram is what a decoder gets.
type Datagram struct {
	Data []byte // valid until Decode returns
	Port uint16 // that it came from: processes of one exporter have ports of their own
	At   time.Time
}

// Decoder has what an exporter has said before, such as its templates. One decoder belongs to one exporter, which calls it for one
// datagram at a time.
type Decoder interface {
	// Decode gives all records of a datagram to the sink, and says what it lacks. It returns false for a datagram that is not of the
	// protocol, or ends too early; its records until then count.
	Decode(d Datagram, to Sink) bool

	// Tick is called once in a second or so. It gives up what has waited for too long.
	Tick(now time.Time, to Sink)

	// Describe says what the exporter sends, in some words for people, such as "NetFlow v9, 3 templates".
	Describe() string

	// Close gives back what the decoder has taken of the limits.
	Close()
}

// Sink takes what a decoder finds.
type Sink interface {
	Record(*Record)      // the sink copies it
	Lost(n int64)        // so many more are missing between the sequence numbers, in the protocol's unit
	NoTemplate(n int64)  // so many more sets of data were given up, as their template did not come in time
	Clock(time.Duration) // the exporter's clock, less this machine's
}

// Protocol is a protocol of flow exporters. It is the same to the collector as a backend to a capture.
type Protocol struct {
	Name  string // as in --capture and on the metrics page
	Title string // for people
	Port  uint16 // by default
	Unit  string // what sequence numbers count, for people

	// New returns a decoder for one more exporter. All decoders share the limits.
	New func(*Limits) Decoder
}
