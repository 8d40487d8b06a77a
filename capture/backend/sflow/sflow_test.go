package sflow

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/flow"
	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
)

var (
	agent4, agent6 = netip.MustParseAddr("192.0.2.251"), netip.MustParseAddr("2001:db8::251")

	start = time.Unix(1_700_000_000, 0)
)

// words are numbers as they are sent.
func words(numbers ...uint32) (b []byte) {
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// opaque is data with its length and what fills its last word.
func opaque(data ...[]byte) []byte {
	d := slices.Concat(data...)
	return slices.Concat(words(uint32(len(d))), d, make([]byte, -len(d)&3))
}

// tagged is a sample or a record.
func tagged(format uint32, data ...[]byte) []byte {
	return slices.Concat(words(format), opaque(data...))
}

// header is the record of a sampled header. Its frame had so many bytes more than were sampled, and an FCS that was stripped.
func header(protocol uint32, data []byte, more int) []byte {
	return tagged(sampledHeader, words(protocol, uint32(len(data)+more+4), 4), opaque(data))
}

// ipRecord is a record of sampled IPv4 or IPv6 data.
func ipRecord(format, length, protocol uint32, source, destination string) []byte {
	return tagged(format, words(length, protocol), netip.MustParseAddr(source).AsSlice(), netip.MustParseAddr(destination).AsSlice(),
		words(443, 50000, 0x10, 0))
}

func ethernetRecord(length, etherType uint32) []byte {
	return tagged(sampledEthernet, words(length), make([]byte, 16), words(etherType))
}

func switched(incoming, outgoing uint32) []byte {
	return tagged(extendedSwitch, words(incoming, 0, outgoing, 0))
}

// sampled is a flow sample of a packet from interface 1 to 2, at the first. One of 1,000 packets was sampled.
func sampled(records ...[]byte) []byte { return sampledAt(1, 1, 2, records...) }

func sampledAt(source, input, output uint32, records ...[]byte) []byte {
	return tagged(flowSample, words(7, source, 1000, 7000, 0, input, output, uint32(len(records))), slices.Concat(records...))
}

func expandedAt(class, source uint32, input, output port, records ...[]byte) []byte {
	return tagged(expandedFlowSample, words(7, class, source, 1000, 7000, 0, input.format, input.value, output.format, output.value,
		uint32(len(records))), slices.Concat(records...))
}

// sent is a datagram's header.
type sent struct {
	agent              netip.Addr
	id, number, uptime uint32
}

func (s sent) with(samples ...[]byte) []byte {
	family := uint32(addressIPv4)
	if s.agent.Is6() {
		family = addressIPv6
	}
	return slices.Concat(words(version, family), s.agent.AsSlice(), words(s.id, s.number, s.uptime, uint32(len(samples))),
		slices.Concat(samples...))
}

func datagram(samples ...[]byte) []byte {
	return sent{agent: agent4, number: 1, uptime: 1000}.with(samples...)
}

// sink keeps what a decoder finds.
type sink struct {
	t       testing.TB
	records []flow.Record
	lost    int64
}

func (s *sink) Record(r *flow.Record) { s.records = append(s.records, *r) }
func (s *sink) Clock(time.Duration)   { s.t.Error("sFlow has no clock") }
func (s *sink) NoTemplate(int64)      { s.t.Error("sFlow has no templates") }
func (s *sink) Lost(n int64) {
	if n <= 0 {
		s.t.Errorf("%d datagrams lost", n)
	}
	s.lost += n
}

func decode(t testing.TB, data []byte) ([]flow.Record, bool) {
	t.Helper()
	to := &sink{t: t}
	ok := newDecoder(flow.NewLimits()).Decode(flow.Datagram{Data: data, Port: 5000, At: start}, to)
	return to.records, ok
}

// of is the record of a packet from interface 1, at which it was sampled.
func of(p frame.Packet) flow.Record {
	return flow.Record{Packet: p, Rate: 1000, Input: 1}
}

func counted(source, destination string, bytes int64, protocol uint8) frame.Packet {
	return frame.Packet{Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr(destination), Bytes: bytes, Packets: 1,
		Outcome: frame.Counted, Protocol: protocol}
}

func in(vlan uint16, p frame.Packet) frame.Packet {
	p.VLAN = vlan
	return p
}

func uncounted(outcome frame.Outcome, bytes int64) frame.Packet {
	return frame.Packet{Bytes: bytes, Packets: 1, Outcome: outcome}
}

const (
	src4, dst4 = "192.0.2.1", "198.51.100.2" // of frametest's packets
	src6, dst6 = "2001:db8::1", "2001:db8:ffff::2"
)

// frames are some of Ethernet.
type frames struct{ ipv4, ipv6, tagged, qinq, arp []byte }

func newFrames(t testing.TB) frames {
	v4, v6 := frametest.IP4(t, 100), frametest.IP6(t, 100) // of 120 and 140 bytes
	return frames{
		ipv4:   frametest.Build(t, frametest.Ethernet(layers.EthernetTypeIPv4), v4),
		ipv6:   frametest.Build(t, frametest.Ethernet(layers.EthernetTypeIPv6), v6),
		tagged: frametest.Build(t, frametest.Ethernet(layers.EthernetTypeDot1Q), frametest.TagOf(20, layers.EthernetTypeIPv4), v4),
		qinq: frametest.Build(t, frametest.Ethernet(layers.EthernetTypeQinQ), frametest.TagOf(30, layers.EthernetTypeDot1Q),
			frametest.TagOf(40, layers.EthernetTypeIPv6), v6),
		arp: frametest.Build(t, frametest.Ethernet(layers.EthernetTypeARP), gopacket.Payload(make([]byte, 28))),
	}
}

func TestSampleCountsAsItsPacket(t *testing.T) {
	f := newFrames(t)
	v4, v6 := counted(src4, dst4, 120, 17), counted(src6, dst6, 140, 17)
	large := frametest.With(f.ipv4, 16, 0xff, 0xff) // an IPv4 packet that says it has 65,535 bytes
	unsized := frametest.With(f.ipv4, 16, 0, 0)     // one that does not say how many
	headerOf := func(protocol, length, stripped uint32, data []byte) []byte {
		return tagged(sampledHeader, words(protocol, length, stripped), opaque(data))
	}
	for _, c := range []struct {
		name    string
		records [][]byte
		want    frame.Packet
	}{
		{"Ethernet, IPv4", [][]byte{header(headerEthernet, f.ipv4, 0)}, v4},
		{"Ethernet, IPv6", [][]byte{header(headerEthernet, f.ipv6, 0)}, v6},
		{"Ethernet, VLAN", [][]byte{header(headerEthernet, f.tagged, 0)}, in(20, v4)},
		{"Ethernet, QinQ", [][]byte{header(headerEthernet, f.qinq, 0)}, in(30, v6)},
		{"Ethernet, cut after the IP header", [][]byte{header(headerEthernet, f.ipv4[:34], 100)}, v4},
		{"Ethernet, cut in the IP header", [][]byte{header(headerEthernet, f.ipv4[:33], 101)}, uncounted(frame.Malformed, 134)},
		{"Ethernet, ARP", [][]byte{header(headerEthernet, f.arp, 0)}, uncounted(frame.NonIP, 60)},
		{"Ethernet, empty", [][]byte{header(headerEthernet, nil, 60)}, uncounted(frame.Malformed, 60)},
		{"IPv4", [][]byte{header(headerIPv4, f.ipv4[14:], 0)}, v4},
		{"IPv6", [][]byte{header(headerIPv6, f.ipv6[14:], 0)}, v6},
		{"IPv6 that is said to be IPv4", [][]byte{header(headerIPv4, f.ipv6[14:], 0)}, uncounted(frame.Malformed, 140)},
		{"PPP", [][]byte{header(headerPPP, frametest.Concat([]byte{0, 0x21}, f.ipv4[14:]), 0)}, v4},
		{"packet over SONET", [][]byte{header(headerPOS, frametest.Concat([]byte{0xff, 3, 0, 0x57}, f.ipv6[14:]), 0)}, v6},
		{"MPLS", [][]byte{header(headerMPLS, frametest.Concat([]byte{0, 1, 0, 64, 0, 2, 1, 64}, f.ipv4[14:]), 0)}, v4},
		{"token ring", [][]byte{header(3, f.ipv4, 0)}, uncounted(frame.Malformed, 134)},
		{"protocol that nobody knows", [][]byte{header(1000, f.ipv4, 0)}, uncounted(frame.Malformed, 134)},

		{"larger than its frame", [][]byte{headerOf(headerEthernet, 1018, 4, large)}, counted(src4, dst4, 1000, 17)},
		{"frame without FCS", [][]byte{headerOf(headerEthernet, 1014, 0, large)}, counted(src4, dst4, 1000, 17)},
		{"frame whose tag was stripped", [][]byte{headerOf(headerEthernet, 1022, 8, large)}, counted(src4, dst4, 1000, 17)},
		{"frame that is said to be shorter than its header", [][]byte{headerOf(headerEthernet, 64, 4, large)}, v4},
		{"more stripped than there was", [][]byte{headerOf(headerEthernet, 64, 1<<32-1, f.ipv4)}, v4},
		{"size only of the frame", [][]byte{headerOf(headerEthernet, 1018, 4, unsized)}, counted(src4, dst4, 1000, 17)},

		{"sampled IPv4", [][]byte{ipRecord(sampledIPv4, 1500, 6, src4, dst4)}, counted(src4, dst4, 1500, 6)},
		{"sampled IPv6", [][]byte{ipRecord(sampledIPv6, 1500, 6, src6, dst6)}, counted(src6, dst6, 1500, 6)},
		{"sampled IPv6 with a next header that is none", [][]byte{ipRecord(sampledIPv6, 1500, 44, src6, dst6)},
			counted(src6, dst6, 1500, frame.NoProtocol)},
		{"protocol that cannot be", [][]byte{ipRecord(sampledIPv4, 1500, 256, src4, dst4)}, counted(src4, dst4, 1500, frame.NoProtocol)},
		{"smaller than an IPv4 header", [][]byte{ipRecord(sampledIPv4, 19, 6, src4, dst4)}, uncounted(frame.Malformed, 0)},
		{"smaller than an IPv6 header", [][]byte{ipRecord(sampledIPv6, 39, 6, src6, dst6)}, uncounted(frame.Malformed, 0)},
		{"sampled Ethernet, ARP", [][]byte{ethernetRecord(64, 0x0806)}, uncounted(frame.NonIP, 60)},
		{"sampled Ethernet, IPv4", [][]byte{ethernetRecord(64, 0x0800)}, uncounted(frame.Malformed, 60)},
		{"sampled Ethernet, type that cannot be", [][]byte{ethernetRecord(64, 0x10800)}, uncounted(frame.NonIP, 60)},
		{"sampled Ethernet, length that cannot be", [][]byte{ethernetRecord(0, 0x0806)}, uncounted(frame.NonIP, 0)},

		{"all kinds of records", [][]byte{ethernetRecord(138, 0x0800), ipRecord(sampledIPv4, 119, 6, dst4, src4),
			header(headerEthernet, f.ipv4, 0), tagged(1002, words(1, 0, 24, 24))}, v4},
		{"sampled IPv4 beside sampled Ethernet", [][]byte{ethernetRecord(138, 0x0800), ipRecord(sampledIPv4, 119, 6, dst4, src4)},
			counted(dst4, src4, 119, 6)},
		{"sampled IPv4 beside a header that leads nowhere", [][]byte{header(15, f.ipv4, 0), ipRecord(sampledIPv4, 119, 6, dst4, src4)},
			counted(dst4, src4, 119, 6)},
		{"two headers", [][]byte{header(headerEthernet, f.ipv4, 0), header(headerEthernet, f.ipv6, 0)}, v4},
		{"ARP with sampled Ethernet", [][]byte{header(headerEthernet, f.arp, 0), ethernetRecord(1000, 0x0800)}, uncounted(frame.NonIP, 60)},

		{"VLAN of the switch", [][]byte{switched(10, 11), header(headerEthernet, f.ipv4, 0)}, in(10, v4)},
		{"VLAN of the switch behind the header", [][]byte{header(headerEthernet, f.ipv4, 0), switched(10, 11)}, in(10, v4)},
		{"VLAN of the switch and a tag", [][]byte{switched(10, 11), header(headerEthernet, f.tagged, 0)}, in(20, v4)},
		{"VLAN of the switch for sampled IPv4", [][]byte{switched(10, 11), ipRecord(sampledIPv4, 1500, 6, src4, dst4)},
			in(10, counted(src4, dst4, 1500, 6))},
		{"VLAN of the switch for ARP", [][]byte{switched(10, 11), header(headerEthernet, f.arp, 0)}, uncounted(frame.NonIP, 60)},
		{"no VLAN", [][]byte{switched(0, 11), header(headerEthernet, f.ipv4, 0)}, v4},
		{"VLAN that is reserved", [][]byte{switched(4095, 11), header(headerEthernet, f.ipv4, 0)}, v4},
		{"VLAN that is unknown", [][]byte{switched(1<<32-1, 11), header(headerEthernet, f.ipv4, 0)}, v4},

		{"records of others", [][]byte{tagged(4413<<12|1, words(1, 2, 3)), header(headerEthernet, f.ipv4, 0), tagged(2100, nil)}, v4},
		{"structures that became longer", [][]byte{tagged(sampledHeader, header(headerEthernet, f.ipv4, 0)[8:], words(1, 2)),
			tagged(extendedSwitch, words(10, 0, 11, 0, 1, 2))}, in(10, v4)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := decode(t, datagram(sampled(c.records...)))
			if want := []flow.Record{of(c.want)}; !ok || !slices.Equal(got, want) {
				t.Errorf("\ngot  %+v, %v\nwant %+v", got, ok, want)
			}
		})
	}
}

// What package frame makes of a frame is also what a sample of it counts as.
func TestSampledFramesCountAsFrames(t *testing.T) {
	protocols := map[frame.Link]uint32{
		frame.LinkEthernet: headerEthernet, frame.LinkPPP: headerPPP, frame.LinkIPv4: headerIPv4, frame.LinkIPv6: headerIPv6,
	}
	n := 0
	for _, c := range frametest.DecodeCases(t) {
		protocol, ok := protocols[c.In.Link]
		if !ok || c.In.Tagged || c.In.Wire > 60_000 {
			continue
		}
		n++
		more := max(c.In.Wire-len(c.In.Data), 0)
		got, ok := decode(t, datagram(sampled(header(protocol, c.In.Data, more))))
		if want := []flow.Record{of(c.Want)}; !ok || !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", c.Name, got, ok, want)
		}
	}
	if n < 50 {
		t.Errorf("only %d frames", n)
	}
}

// No packet is larger than 65,535 bytes: a length beyond is wrong, and would count for as many packets as the rate says.
func TestSizeThatCannotBeIsMalformed(t *testing.T) {
	unsized := frametest.With(newFrames(t).ipv4, 16, 0, 0)
	for name, record := range map[string][]byte{
		"sampled header": tagged(sampledHeader, words(headerEthernet, 1<<32-1, 4), opaque(unsized)),
		"sampled IPv4":   ipRecord(sampledIPv4, flow.MostBytes+1, 6, src4, dst4),
		"sampled IPv6":   ipRecord(sampledIPv6, 1<<32-1, 6, src6, dst6),
		"not IP":         ethernetRecord(1<<32-1, 0x0806),
	} {
		got, ok := decode(t, datagram(sampled(record)))
		if !ok || len(got) != 1 || got[0].Outcome != frame.Malformed || got[0].Bytes != 0 {
			t.Errorf("%s: got %+v, %v", name, got, ok)
		}
	}
}

// The interfaces 1, 2 and 1<<28 have sampled what came in and what went out before, 3 what came in, and 4 what went out.
func TestDirectionOfWhatMayBeSampledTwice(t *testing.T) {
	f := newFrames(t)
	type want struct {
		input     uint32
		direction flow.Direction
		vlan      uint16
	}
	const (
		discarded = 1 << 30
		several   = 2 << 30
	)
	p := func(value uint32) port { return port{single, value} }
	records := [][]byte{header(headerEthernet, f.ipv4, 0), switched(10, 11)}
	for _, c := range []struct {
		name   string
		sample []byte
		want   want
	}{
		{"input", sampledAt(1, 1, 2, records...), want{1, flow.Ingress, 10}},
		{"output", sampledAt(2, 1, 2, records...), want{1, flow.Egress, 11}},
		{"neither", sampledAt(3, 1, 2, records...), want{1, flow.Unknown, 10}},
		{"both", sampledAt(1, 1, 1, records...), want{1, flow.Unknown, 10}},
		{"discarded", sampledAt(1, 1, discarded|258, records...), want{1, flow.Unknown, 10}},
		{"discarded, with the source's number as a reason", sampledAt(2, 1, discarded|2, records...), want{1, flow.Unknown, 10}},
		{"to several interfaces", sampledAt(1, 1, several, records...), want{1, flow.Unknown, 10}},
		{"to as many interfaces as the source's number", sampledAt(2, 1, several|2, records...), want{1, flow.Unknown, 10}},
		{"input is unknown", sampledAt(2, 0, 2, records...), want{0, flow.Unknown, 11}},
		{"output is unknown", sampledAt(1, 1, 0, records...), want{1, flow.Unknown, 10}},
		{"from the device itself", sampledAt(2, internal, 2, records...), want{0, flow.Unknown, 11}},
		{"to the device itself", sampledAt(1, 1, internal, records...), want{1, flow.Unknown, 10}},
		{"the other end has not sampled", sampledAt(1, 1, 9, records...), want{1, flow.Unknown, 10}},
		{"the other end has not sampled, output", sampledAt(1, 9, 1, records...), want{9, flow.Unknown, 11}},
		{"the other end samples the same way only", sampledAt(1, 1, 3, records...), want{1, flow.Unknown, 10}},
		{"the other end samples the same way only, output", sampledAt(1, 4, 1, records...), want{4, flow.Unknown, 11}},
		{"the whole device is the source", sampledAt(0, 1, 2, records...), want{1, flow.Unknown, 10}},
		{"the whole device is the source, and no interface is known", sampledAt(0, 0, 0, records...), want{0, flow.Unknown, 10}},
		{"a VLAN is the source", sampledAt(1<<24|1, 1, 2, records...), want{1, flow.Unknown, 10}},
		{"expanded, input", expandedAt(0, 1<<28, p(1<<28), p(2), records...), want{1 << 28, flow.Ingress, 10}},
		{"expanded, output", expandedAt(0, 2, p(1<<28), p(2), records...), want{1 << 28, flow.Egress, 11}},
		{"expanded, neither", expandedAt(0, 3, p(1<<28), p(2), records...), want{1 << 28, flow.Unknown, 10}},
		{"expanded, a VLAN is the source", expandedAt(1, 1, p(1), p(2), records...), want{1, flow.Unknown, 10}},
		{"expanded, discarded", expandedAt(0, 2, p(1), port{1, 2}, records...), want{1, flow.Unknown, 10}},
		{"expanded, from the device itself", expandedAt(0, internal, p(internal), p(2), records...), want{0, flow.Unknown, 10}},
		{"expanded, input that cannot be", expandedAt(0, 1<<31, p(1<<31), p(2), records...), want{0, flow.Unknown, 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := decode(t, datagram(sampledAt(1, 1, 0, records...), sampledAt(1, 0, 1, records...), sampledAt(2, 2, 0, records...), sampledAt(2, 0, 2, records...),
				expandedAt(0, 1<<28, p(1<<28), p(0), records...), sampledAt(3, 3, 0, records...), sampledAt(4, 0, 4, records...), c.sample))
			got = got[min(7, len(got)):]
			want := flow.Record{Packet: in(c.want.vlan, counted(src4, dst4, 120, 17)), Rate: 1000, Input: c.want.input,
				Direction: c.want.direction}
			if !ok || !slices.Equal(got, []flow.Record{want}) {
				t.Errorf("\ngot  %+v, %v\nwant %+v", got, ok, want)
			}
		})
	}
}

func TestOtherSamplesAreSkipped(t *testing.T) {
	f := newFrames(t)
	packet := sampled(header(headerEthernet, f.ipv4, 0))
	for name, other := range map[string][]byte{
		"counters":                    tagged(2, words(1, 1, 1), tagged(1, make([]byte, 88))),
		"expanded counters":           tagged(4, words(1, 0, 1, 1), tagged(1, make([]byte, 88))),
		"discarded packets":           tagged(5, words(1, 0, 1, 0, 1, 0, 258, 1), header(headerEthernet, f.ipv4, 0)),
		"another enterprise":          tagged(4413<<12|1, words(1, 2, 3)),
		"another enterprise, empty":   tagged(4413<<12|1, nil),
		"odd number of bytes":         tagged(4413<<12|1, []byte{1, 2, 3, 4, 5}),
		"flow sample without records": sampled(),
		"flow sample of no packet":    sampled(tagged(2206, make([]byte, 40))),
	} {
		got, ok := decode(t, datagram(packet, other, packet))
		if want := of(counted(src4, dst4, 120, 17)); !ok || !slices.Equal(got, []flow.Record{want, want}) {
			t.Errorf("%s: got %+v, %v", name, got, ok)
		}
	}
}

func TestAgentsAddressIsOfEitherFamily(t *testing.T) {
	packet := sampled(header(headerEthernet, newFrames(t).ipv4, 0))
	for _, agent := range []netip.Addr{agent4, agent6} {
		if got, ok := decode(t, sent{agent: agent}.with(packet)); !ok || len(got) != 1 {
			t.Errorf("%v: got %+v, %v", agent, got, ok)
		}
	}
}

// every is a datagram with all kinds of samples and records, and the offsets where its flow samples end.
func every(t testing.TB) (data []byte, ends []int) {
	f := newFrames(t)
	p := func(value uint32) port { return port{single, value} }
	samples := [][]byte{
		tagged(2, words(1, 1, 1), tagged(1, make([]byte, 88))),
		sampled(switched(10, 11), header(headerEthernet, f.ipv4[:51], 0), tagged(1002, words(1, 0, 24, 24))),
		expandedAt(0, 2, p(1), p(2), ethernetRecord(64, 0x0800), ipRecord(sampledIPv4, 1500, 6, src4, dst4)),
		tagged(4413<<12|1, words(1, 2, 3)),
		sampled(ipRecord(sampledIPv6, 1500, 6, src6, dst6)),
		sampled(ethernetRecord(64, 0x0806)),
	}
	data = datagram()
	for i, s := range samples {
		data = append(data, s...)
		if format := binary.BigEndian.Uint32(s); i > 0 && format < 4 {
			ends = append(ends, len(data))
		}
	}
	binary.BigEndian.PutUint32(data[24:], uint32(len(samples)))
	return data, ends
}

func TestDatagramThatEndsEarlyCountsUntilThere(t *testing.T) {
	data, ends := every(t)
	whole, ok := decode(t, data)
	if !ok || len(whole) != len(ends) {
		t.Fatalf("got %+v, %v", whole, ok)
	}
	for n := range len(data) {
		got, ok := decode(t, data[:n:n])
		want := 0
		for _, end := range ends {
			if end <= n {
				want++
			}
		}
		if ok || !slices.Equal(got, whole[:want]) {
			t.Errorf("with %d of %d bytes: got %+v, %v", n, len(data), got, ok)
		}
	}
}

func TestWhatFollowsTheSamplesIsIgnored(t *testing.T) {
	data, ends := every(t)
	if got, ok := decode(t, append(data, 1, 2, 3)); !ok || len(got) != len(ends) {
		t.Errorf("got %+v, %v", got, ok)
	}
}

// Each number of a datagram in turn is made wrong. That must neither panic nor make up records.
func TestWrongNumbersMakeNoRecords(t *testing.T) {
	data, ends := every(t)
	for at := 0; at+4 <= len(data); at += 4 {
		was := binary.BigEndian.Uint32(data[at:])
		for _, n := range []uint32{0, 1, was - 4, was - 1, was + 1, was + 4, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 4, 1<<32 - 1} {
			binary.BigEndian.PutUint32(data[at:], n)
			if got, _ := decode(t, data); len(got) > len(ends) {
				t.Errorf("%#x at %d: %d records", n, at, len(got))
			}
		}
		binary.BigEndian.PutUint32(data[at:], was)
	}
}

func TestNotADatagramOfVersion5(t *testing.T) {
	f := newFrames(t)
	packet := sampled(header(headerEthernet, f.ipv4, 0))
	good := datagram(packet)
	long := sampled(header(headerEthernet, f.ipv4, 0)) // its record is longer than it
	binary.BigEndian.PutUint32(long[44:], binary.BigEndian.Uint32(long[44:])+4)
	for name, c := range map[string]struct {
		data []byte
		want int
	}{
		"nothing":                                     {nil, 0},
		"version 4":                                   {frametest.With(good, 3, 4), 0},
		"NetFlow":                                     {frametest.With(good, 0, 0, 5, 0, 1), 0},
		"agent's address of an unknown family":        {frametest.With(good, 7, 0), 0},
		"more samples than there are":                 {frametest.With(good, 24, 0xff, 0xff, 0xff, 0xff), 1},
		"more records than there are":                 {datagram(packet, tagged(flowSample, words(7, 1, 1000, 7000, 0, 1, 2, 1<<32-1))), 1},
		"sample that is longer than the datagram":     {datagram(packet, words(2, 12, 1, 1)), 1},
		"record that is longer than its sample":       {datagram(packet, long, packet), 1},
		"header that is longer than its record":       {datagram(packet, sampled(tagged(sampledHeader, words(1, 64, 4, 1<<32-1, 0)))), 1},
		"sampled header that is too short":            {datagram(packet, sampled(tagged(sampledHeader, words(1, 64, 4)))), 1},
		"sampled Ethernet data that is too short":     {datagram(packet, sampled(tagged(sampledEthernet, words(64, 0, 0, 0, 0)))), 1},
		"sampled IPv4 data that is too short":         {datagram(packet, sampled(tagged(sampledIPv4, words(64, 6, 0)))), 1},
		"sampled IPv6 data that is too short":         {datagram(packet, sampled(tagged(sampledIPv6, words(64, 6, 0, 0, 0, 0, 0, 0, 0)))), 1},
		"extended switch data that is too short":      {datagram(packet, sampled(tagged(extendedSwitch, words(1, 0, 1)), header(1, f.ipv4, 0))), 1},
		"flow sample that is too short":               {datagram(packet, tagged(flowSample, words(7, 1, 1000, 7000, 0, 1, 2))), 1},
		"expanded flow sample that is too short":      {datagram(packet, tagged(expandedFlowSample, words(7, 0, 1, 1000, 7000, 0, 0, 1, 0, 2))), 1},
		"flow sample without anything":                {datagram(packet, tagged(flowSample, nil)), 1},
		"sample that is said to be 4 GiB long":        {datagram(packet, words(2, 1<<32-1)), 1},
		"sample that is said to be nearly 4 GiB long": {datagram(packet, words(2, 1<<32-3)), 1},
	} {
		if got, ok := decode(t, c.data); ok || len(got) != c.want {
			t.Errorf("%s: got %+v, %v", name, got, ok)
		}
	}
}

// Some agents leave out what fills the last word of a header when nothing follows it.
func TestLastRecordMayLackItsFilling(t *testing.T) {
	h := newFrames(t).ipv4[:51]
	record := slices.Concat(words(sampledHeader, 16+51, headerEthernet, 138, 4, 51), h)
	data := slices.Concat(datagram(), words(flowSample, uint32(32+len(record)), 7, 1, 1000, 7000, 0, 1, 2, 1), record)
	data[27] = 1
	if got, ok := decode(t, data); !ok || !slices.Equal(got, []flow.Record{of(counted(src4, dst4, 120, 17))}) {
		t.Errorf("got %+v, %v", got, ok)
	}
}

// observing is a decoder and its sink, with a clock.
type observing struct {
	sink
	flow.Decoder
	now time.Time
}

func observe(t testing.TB) *observing {
	return &observing{sink{t: t}, newDecoder(flow.NewLimits()), start}
}

func (o *observing) receive(port uint16, s sent) {
	o.t.Helper()
	if !o.Decode(flow.Datagram{Data: s.with(), Port: port, At: o.now}, &o.sink) {
		o.t.Errorf("not a datagram: %+v", s)
	}
}

// after has time pass, and returns what was lost since it was called last.
func (o *observing) after(d time.Duration) int64 {
	o.now = o.now.Add(d)
	o.Tick(o.now, &o.sink)
	lost := o.sink.lost
	o.sink.lost = 0
	return lost
}

func TestMissingDatagramsAreLost(t *testing.T) {
	type arrival struct {
		from           sent
		port           uint16
		number, uptime uint32
	}
	a, b := sent{agent: agent4}, sent{agent: agent6}
	sub := sent{agent: agent4, id: 1}
	for _, c := range []struct {
		name     string
		arrivals []arrival
		want     int64
	}{
		{"none", []arrival{{a, 1, 10, 1000}, {a, 1, 11, 2000}, {a, 1, 12, 2000}}, 0},
		{"a gap", []arrival{{a, 1, 10, 1000}, {a, 1, 14, 2000}}, 3},
		{"late", []arrival{{a, 1, 10, 10_000}, {a, 1, 12, 12_000}, {a, 1, 11, 7_001}, {a, 1, 13, 12_000}}, 0},
		{"twice", []arrival{{a, 1, 10, 1000}, {a, 1, 10, 1000}, {a, 1, 11, 1000}}, 0},
		{"numbers that begin anew", []arrival{{a, 1, 1<<32 - 1, 1000}, {a, 1, 0, 1000}, {a, 1, 2, 1000}}, 1},
		{"restarted", []arrival{{a, 1, 10, 60_000}, {a, 1, 1000, 1000}, {a, 1, 1001, 1000}}, 0},
		{"restarted after a gap", []arrival{{a, 1, 10, 60_000}, {a, 1, 13, 60_000}, {a, 1, 1, 0}, {a, 1, 2, 0}}, 2},
		{"a gap after it restarted", []arrival{{a, 1, 10, 60_000}, {a, 1, 1000, 1000}, {a, 1, 1001, 1000}, {a, 1, 1004, 1000}}, 2},
		{"restarted after a late one", []arrival{{a, 1, 10, 10_000}, {a, 1, 13, 10_000}, {a, 1, 12, 5500}, {a, 1, 1, 1000}, {a, 1, 4, 1000}}, 3},
		{"restarted with another port", []arrival{{a, 1, 10, 60_000}, {a, 2, 1000, 60_000}, {a, 2, 1001, 60_000}}, 0},
		{"uptime that begins anew", []arrival{{a, 1, 10, 1<<32 - 1000}, {a, 1, 13, 1000}}, 2},
		{"uptime that is always 0", []arrival{{a, 1, 10, 0}, {a, 1, 13, 0}}, 2},
		{"two agents", []arrival{{a, 1, 10, 1000}, {b, 1, 500, 90_000}, {a, 1, 11, 1000}, {b, 1, 501, 90_000}}, 0},
		{"two agents, a gap in each", []arrival{{a, 1, 10, 1000}, {b, 1, 500, 90_000}, {a, 1, 12, 1000}, {b, 1, 503, 90_000}}, 3},
		{"two sub-agents", []arrival{{a, 1, 10, 1000}, {sub, 1, 500, 90_000}, {a, 1, 11, 1000}, {sub, 1, 501, 90_000}}, 0},
		{"two processes", []arrival{{a, 1, 10, 1000}, {a, 2, 500, 90_000}, {a, 1, 11, 1000}, {a, 2, 501, 90_000}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := observe(t)
			for _, arrival := range c.arrivals {
				s := arrival.from
				s.number, s.uptime = arrival.number, arrival.uptime
				o.receive(arrival.port, s)
			}
			if got := o.after(10 * time.Second); got != c.want {
				t.Errorf("%d lost, want %d", got, c.want)
			}
			if got := o.after(10 * time.Second); got != 0 {
				t.Errorf("%d lost again", got)
			}
		})
	}
}

func TestDatagramThatEndsEarlyIsNotLost(t *testing.T) {
	o := observe(t)
	s := sent{agent: agent4, uptime: 1000}
	for s.number = range uint32(3) {
		data := s.with(sampled())
		if s.number == 1 {
			data = data[:len(data)-1]
		}
		o.Decode(flow.Datagram{Data: data, At: o.now}, &o.sink)
	}
	if got := o.after(10 * time.Second); got != 0 {
		t.Errorf("%d lost", got)
	}
}

func TestSilentAgentsAreForgotten(t *testing.T) {
	o := observe(t)
	o.receive(1, sent{agent: agent4, number: 10})
	o.receive(1, sent{agent: agent6, number: 10})
	o.receive(1, sent{agent: agent4, number: 12})
	if got, want := o.Describe(), "sFlow v5, 2 agents or sub-agents"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	if got := o.after(30 * time.Minute); got != 1 {
		t.Errorf("%d lost", got)
	}
	o.receive(1, sent{agent: agent6, number: 12})
	if got := o.after(30 * time.Minute); got != 1 {
		t.Errorf("%d lost", got)
	}
	if got, want := o.Describe(), "sFlow v5, 1 agent"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	o.receive(1, sent{agent: agent4, number: 1000}) // its numbers begin anew
	if got := o.after(time.Minute); got != 0 {
		t.Errorf("%d lost", got)
	}
	o.receive(1, sent{agent: agent4, number: 1002})
	if got := o.after(time.Hour); got != 1 {
		t.Errorf("%d lost with the last agent", got)
	}
	if got, want := o.Describe(), "sFlow"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

func TestNumbersOfTooManyAgentsAreNotChecked(t *testing.T) {
	o := observe(t)
	s := sent{agent: agent4}
	for _, s.number = range []uint32{10, 12} {
		for s.id = range uint32(2 * mostAgents) {
			o.receive(1, s)
		}
	}
	if got := o.after(10 * time.Second); got != mostAgents {
		t.Errorf("%d lost, want %d", got, mostAgents)
	}
	if got := o.Describe(); !strings.Contains(got, fmt.Sprint(mostAgents)) {
		t.Errorf("it is %q", got)
	}
}

func TestDecodersShareTheirLimits(t *testing.T) {
	limits := flow.NewLimits()
	for limits.Domains.Take(1) {
	}
	limits.Domains.Give(3)
	a, b := newDecoder(limits).(*decoder), newDecoder(limits).(*decoder)
	receive := func(d *decoder, ids uint32) int {
		for id := range ids {
			d.Decode(flow.Datagram{Data: sent{agent: agent4, id: id}.with(), At: start}, &sink{t: t})
		}
		return len(d.agents)
	}
	if got := receive(a, 2); got != 2 {
		t.Errorf("%d agents of the first, want 2", got)
	}
	if got := receive(b, 2); got != 1 {
		t.Errorf("%d agents of the second, want 1", got)
	}
	a.Close()
	a.Close()
	if got := receive(b, 2); got != 2 {
		t.Errorf("%d agents of the second, want 2", got)
	}
	b.Tick(start.Add(2*time.Hour), &sink{t: t})
	for range 3 {
		if !limits.Domains.Take(1) {
			t.Error("not all was given back")
		}
	}
	if limits.Domains.Take(1) {
		t.Error("more was given back than taken")
	}
}

// discard is a sink that does not allocate.
type discard struct{ records int }

func (d *discard) Record(*flow.Record) { d.records++ }
func (*discard) Lost(int64)            {}
func (*discard) NoTemplate(int64)      {}
func (*discard) Clock(time.Duration)   {}

func TestNothingIsAllocated(t *testing.T) {
	data, ends := every(t)
	d, to := newDecoder(flow.NewLimits()), new(discard)
	at, number := start, uint32(0)
	if got := testing.AllocsPerRun(100, func() {
		binary.BigEndian.PutUint32(data[16:], number)
		number++
		at = at.Add(time.Second)
		if !d.Decode(flow.Datagram{Data: data, Port: 5000, At: at}, to) {
			t.Error("not a datagram")
		}
		d.Tick(at, to)
	}); got != 0 {
		t.Errorf("%v allocations for a datagram", got)
	}
	if want := 101 * len(ends); to.records != want {
		t.Errorf("%d records, want %d", to.records, want)
	}
}

// BenchmarkDecode decodes a datagram of seven samples, about as many as fit into one, with headers of 128 bytes.
func BenchmarkDecode(b *testing.B) {
	large := frametest.Build(b, frametest.Ethernet(layers.EthernetTypeIPv4), frametest.IP4(b, 1480))
	samples := slices.Repeat([][]byte{sampled(header(headerEthernet, large[:128], len(large)-128))}, 7)
	data := datagram(samples...)
	d, to := newDecoder(flow.NewLimits()), new(discard)
	b.ReportAllocs()
	for b.Loop() {
		if !d.Decode(flow.Datagram{Data: data, Port: 5000, At: start}, to) {
			b.Fatal("not a datagram")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(to.records), "ns/sample")
}

// A port that sampled what came in may be set up anew, or its agent start again: then what goes out elsewhere counts.
func TestRolesEnd(t *testing.T) {
	record := header(headerEthernet, newFrames(t).ipv4, 0)
	for _, c := range []struct {
		name   string
		after  time.Duration
		uptime uint32
		want   flow.Direction
	}{
		{"a moment later", time.Minute, 200_000, flow.Egress},
		{"an hour later", roleFor, 200_000, flow.Unknown},
		{"after a restart", time.Minute, 1000, flow.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, to := newDecoder(flow.NewLimits()), &sink{t: t}
			before := sent{agent: agent4, number: 1, uptime: 100_000}.with(sampledAt(1, 1, 2, record))
			d.Decode(flow.Datagram{Data: before, At: start}, to)
			now := sent{agent: agent4, number: 2, uptime: c.uptime}.with(sampledAt(2, 1, 2, record))
			d.Decode(flow.Datagram{Data: now, At: start.Add(c.after)}, to)
			if len(to.records) != 2 || to.records[1].Direction != c.want {
				t.Errorf("the records are %+v, want the direction %d in the end", to.records, c.want)
			}
		})
	}
}

// An agent that has more interfaces than there is room for takes no more.
func TestDataSourcesAreBounded(t *testing.T) {
	record := header(headerEthernet, newFrames(t).ipv4, 0)
	limits := flow.NewLimits()
	d, to := newDecoder(limits).(*decoder), new(discard)
	for index := range uint32(2 * mostSources) {
		d.Decode(flow.Datagram{Data: sent{agent: agent4, number: index, uptime: 1000}.with(sampledAt(index+1, index+1, 0, record)), At: start}, to)
	}
	if len(d.sources) != mostSources {
		t.Errorf("there are %d sources, want %d", len(d.sources), mostSources)
	}
	d.Close()
	if full := flow.NewLimits(); limits.Templates.Left() != full.Templates.Left() || limits.Domains.Left() != full.Domains.Left() {
		t.Error("not all was given back")
	}
}
