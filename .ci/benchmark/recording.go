package main

import (
	"encoding/binary"
	"math/rand/v2"
)

// recording is what an exporter sends, and what it adds up to.
type recording struct {
	datagrams [][]byte
	totals    *totals
}

// totals are the bytes of each host of 10.0.0.0/16, by the lower half of its address.
type totals struct{ sent, received [flowHosts]int64 }

const flowHosts = 1 << 16

// exporter is what sends flow records, or samples, of a protocol.
type exporter struct {
	port    int // where collectors expect it
	perEach int // records of a datagram, about as many as an Ethernet frame has room for
	packets int // of a record
	header  func(number, records int) []byte
	append  func(datagram []byte, record flowRecord) []byte
}

// flowRecord is a flow, or a sampled packet.
type flowRecord struct {
	source, destination uint32
	size                int // bytes of each packet, of the network layer
}

// exporters are those of the protocols, by their names in --capture.
var exporters = map[string]exporter{
	"netflow": {port: 2055, perEach: 28, packets: flowPackets, header: netflowHeader, append: appendFlow},
	"sflow":   {port: 6343, perEach: 7, packets: 1, header: sflowHeader, append: appendSample},
}

// record makes a recording of so many records. Their hosts are at random, but the same each time.
func (e exporter) record(records int) *recording {
	const hosts = 10 << 24
	r := &recording{totals: new(totals)}
	random := rand.New(rand.NewPCG(1, 2))
	for number := 0; number*e.perEach < records; number++ {
		n := min(e.perEach, records-number*e.perEach)
		d := e.header(number, n)
		for range n {
			source, destination, size := random.Uint32N(flowHosts), random.Uint32N(flowHosts), 128+random.IntN(1373)
			r.totals.sent[source] += int64(e.packets * size)
			r.totals.received[destination] += int64(e.packets * size)
			d = e.append(d, flowRecord{hosts + source, hosts + destination, size})
		}
		r.datagrams = append(r.datagrams, d)
	}
	return r
}

var be = binary.BigEndian

// flowFields are the elements of a flow, and their lengths (RFC 3954, section 8): addresses, next hop, interfaces, packets, bytes, end and
// begin; ports; flags, protocol, class, direction and masks.
var flowFields = [][2]uint16{
	{8, 4}, {12, 4}, {15, 4}, {10, 4}, {14, 4}, {2, 4}, {1, 4}, {21, 4}, {22, 4},
	{7, 2}, {11, 2},
	{6, 1}, {4, 1}, {5, 1}, {61, 1}, {9, 1}, {13, 1},
}

const (
	flowTemplate = 256
	flowLen      = 9*4 + 2*2 + 6
	flowPackets  = 3
)

// netflowHeader begins a datagram of NetFlow v9. The first one has the template.
func netflowHeader(number, records int) []byte {
	const uptime, seconds, source = 3_600_000, 1_800_000_000, 1
	var template []byte
	if number == 0 {
		template = be.AppendUint16(be.AppendUint16(template, 0), uint16(8+4*len(flowFields)))
		template = be.AppendUint16(be.AppendUint16(template, flowTemplate), uint16(len(flowFields)))
		for _, f := range flowFields {
			template = be.AppendUint16(be.AppendUint16(template, f[0]), f[1])
		}
	}
	d := be.AppendUint16(be.AppendUint16(nil, 9), uint16(records+min(1, len(template))))
	d = appendNumbers(d, uptime, seconds, uint32(number), source)
	return be.AppendUint16(be.AppendUint16(append(d, template...), flowTemplate), uint16(4+records*flowLen))
}

func appendFlow(d []byte, r flowRecord) []byte {
	const nextHop, in, out, end, begin = 10<<24 | 255<<16 | 1, 1, 2, 3_595_000, 3_590_000
	d = appendNumbers(d, r.source, r.destination, nextHop, in, out, flowPackets, uint32(flowPackets*r.size), end, begin)
	d = be.AppendUint16(be.AppendUint16(d, 443), 50000)
	return append(d, 0x1b, 6, 0, 0, 16, 16)
}

// sflowHeader begins a datagram of sFlow v5 (https://sflow.org/sflow_version_5.txt).
func sflowHeader(number, records int) []byte {
	const version, ipv4, agent, subAgent, uptime = 5, 1, 10<<24 | 255<<16 | 1, 0, 3_600_000
	return appendNumbers(nil, version, ipv4, agent, subAgent, uint32(number+1), uptime, uint32(records))
}

// appendSample adds a flow sample with the first 128 bytes of an Ethernet frame. Each packet was sampled, so that no tool multiplies it.
func appendSample(d []byte, r flowRecord) []byte {
	const (
		flowSample, sampledHeader, ethernet = 1, 1, 1
		in, out, rate                       = 1, 2, 1
		headerLen                           = 128
		recordLen                           = 4*4 + headerLen
		sampleLen                           = 8*4 + 2*4 + recordLen
	)
	d = appendNumbers(d, flowSample, sampleLen, 1, in, rate, 1, 0, in, out, 1)
	d = appendNumbers(d, sampledHeader, recordLen, ethernet, uint32(etherLen+r.size+fcsLen), fcsLen, headerLen)
	begin := len(d)
	d = append(d, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0) // an Ethernet header
	d = be.AppendUint16(append(d, 0x45, 0), uint16(r.size))
	d = append(d, 0, 0, 0x40, 0, 64, 6, 0, 0) // nobody looks at the checksum
	d = appendNumbers(d, r.source, r.destination)
	d = be.AppendUint16(be.AppendUint16(d, 443), 50000)
	return append(d, make([]byte, headerLen-(len(d)-begin))...)
}

const etherLen, fcsLen = 14, 4

func appendNumbers(d []byte, numbers ...uint32) []byte {
	for _, n := range numbers {
		d = be.AppendUint32(d, n)
	}
	return d
}
