// Package sflow decodes sFlow version 5 (https://sflow.org/sflow_version_5.txt): the packets that agents in switches, routers and hosts
// have sampled.
//
// It follows a datagram to its flow samples, and a flow sample to what it has of the sampled packet: the beginning of the frame, which
// package [promflow/capture/frame] decodes, or the fields of an IP header. It does not panic on any input, and allocates nothing for a
// datagram of a known sub-agent.
//
// The rules:
//
//   - A flow sample is one packet with the bytes of its outermost IP header, however many records it has. The header of the frame is
//     preferred. If it leads to no IP header, or there is none, sampled IPv4 or IPv6 data counts; then sampled Ethernet data, which has no
//     addresses. A flow sample without any of these, such as that of an HTTP request, is no packet.
//   - A frame had so many bytes on the wire from its sampled header on: frame_length less stripped, which is at least the FCS of Ethernet.
//     A packet is never larger, whatever its header claims. So it is too small if an agent reports only what it sampled, as some releases
//     of Junos do (https://github.com/pavel-odintsov/fastnetmon/issues/893).
//   - A packet was sampled where its data source is. If that is its input interface, and its output interface has sampled what goes out, the
//     packet may be sampled at both: it is ingress here, and egress there. Otherwise it has no direction, and always counts.
//   - A packet that the agent received and then discarded counts: promflow counts what was on the wire.
//   - The VLAN is that of the outermost tag. A header without one has that of the extended switch data: of the incoming frame, or of the
//     outgoing one for a packet that was sampled where it went out.
//   - Counter samples, samples of discarded packets (https://sflow.org/sflow_drops.txt: they come beside the flow samples) and unknown
//     samples and records are skipped by their lengths.
//   - All lengths are checked, and numbers of samples and records are claims that end with the data. Structures may have become longer, as
//     the specification allows.
//   - What is missing between the numbers of a sub-agent's datagrams is lost. The drops that a flow sample tells of are something else:
//     packets that the agent had chosen to sample, and then lacked the resources for. No datagram is lost by that, and they are not
//     reported.
//
// Package github.com/netsampler/goflow2/v2/decoders/sflow (v2.2.6) is not used: it makes a value behind an interface of each sample and
// record. A flow sample with an Ethernet header takes more than five allocations and more than four times as long as here, where it takes
// none and its header is decoded, too.
package sflow

import (
	"fmt"
	"net/netip"
	"time"

	"promflow/capture/flow"
)

// Protocol is sFlow for a collector.
var Protocol = flow.Protocol{Name: "sflow", Title: "sFlow", Port: 6343, Unit: "datagrams", New: newDecoder}

const version = 5

// Data formats of samples: an enterprise in the upper 20 bits, 0 for the standard's own ones.
const (
	flowSample         = 1
	expandedFlowSample = 3
)

// Types of addresses.
const (
	addressIPv4 = 1
	addressIPv6 = 2
)

// decoder is that of one exporter.
type decoder struct {
	limits  *flow.Limits
	agents  map[subAgent]*numbers
	sources map[dataSource]roles // interfaces that have sampled
	record  flow.Record          // of the present sample: one that escaped to a sink would be allocated each time
}

func newDecoder(limits *flow.Limits) flow.Decoder {
	return &decoder{limits: limits, agents: make(map[subAgent]*numbers), sources: make(map[dataSource]roles)}
}

func (d *decoder) Decode(datagram flow.Datagram, to flow.Sink) bool {
	x := xdr{rest: datagram.Data}
	if x.number() != version {
		return false
	}
	from := subAgent{agent: x.address(), port: datagram.Port}
	from.id = x.number()
	number, uptime, samples := x.number(), x.number(), x.number()
	if x.short {
		return false
	}
	if lost := d.observe(from, number, uptime, datagram.At); lost > 0 {
		to.Lost(lost)
	}
	for range samples {
		format, data := x.number(), x.opaque()
		if x.short {
			return false
		}
		if format != flowSample && format != expandedFlowSample {
			continue
		}
		s, ok := readSample(data, format == expandedFlowSample)
		if !ok {
			return false
		}
		if !s.isPacket() {
			continue
		}
		if !s.decode(&d.record) {
			return false
		}
		d.record.Direction = d.direction(from.agent, &s, datagram.At)
		to.Record(&d.record)
	}
	return true
}

func (d *decoder) Tick(now time.Time, to flow.Sink) {
	var lost int64
	for from, n := range d.agents {
		if now.Sub(n.last) < silence {
			lost += n.sequence.Lost(now)
			continue
		}
		lost += n.sequence.End()
		d.forget(from)
	}
	if lost > 0 {
		to.Lost(lost)
	}
}

func (d *decoder) Describe() string {
	switch n := len(d.agents); n {
	case 0:
		return "sFlow"
	case 1:
		return "sFlow v5, 1 agent"
	default:
		return fmt.Sprintf("sFlow v5, %d agents or sub-agents", n)
	}
}

func (d *decoder) Close() {
	for from := range d.agents {
		d.forget(from)
	}
	d.limits.Templates.Give(len(d.sources) * sourceBytes)
	d.sources = make(map[dataSource]roles)
}

// dataSource is an interface of an agent.
type dataSource struct {
	agent netip.Addr
	index uint32
}

// roles are when an interface has last sampled packets that came in, and that went out.
type roles struct{ in, out time.Time }

// roleFor is how long an interface has a role. It may be set up anew.
const roleFor = time.Hour

const (
	mostSources = 4096 // of one exporter
	sourceBytes = 200
)

// forgetRoles forgets what the data sources of an agent sample: it may be set up anew.
func (d *decoder) forgetRoles(agent netip.Addr) {
	kept := make(map[dataSource]roles) // a map does not become smaller
	for of, r := range d.sources {
		if of.agent != agent {
			kept[of] = r
		}
	}
	d.limits.Templates.Give((len(d.sources) - len(kept)) * sourceBytes)
	d.sources = kept
}

// role keeps what a data source samples, if there is room.
func (d *decoder) role(of dataSource, in bool, now time.Time) {
	r, known := d.sources[of]
	if !known && (len(d.sources) == mostSources || !d.limits.Templates.Take(sourceBytes)) {
		return
	}
	if in {
		r.in = now
	} else {
		r.out = now
	}
	d.sources[of] = r
}

// direction tells whether a packet is sampled where it came in or where it went out, if it may be sampled at both.
//
// A data source that is an interface samples the packets that come in there and those that go out, or one of them if the device cannot do
// more. It considers each packet once, but a packet may pass two data sources and be sampled by both (textual convention SFlowDataSource in
// the specification). A packet that goes out where it came in was considered once.
//
// If the data source is the whole device (index 0), a VLAN or a physical entity, it considers a packet once. If it is a port while input and
// output are the aggregate of ports or the VLAN interface that it belongs to, the agent does not tell: then a packet may count twice.
func (d *decoder) direction(agent netip.Addr, s *sample, now time.Time) flow.Direction {
	source, ok := port{single, s.source}.index()
	if s.class != isInterface || !ok {
		return flow.Unknown
	}
	in, _ := s.input.index()
	out, _ := s.output.index()
	switch { // 0, which stands for none, is no source
	case in == source && out == source:
	case in == source:
		d.role(dataSource{agent, source}, true, now)
		if now.Sub(d.sources[dataSource{agent, out}].out) < roleFor {
			return flow.Ingress
		}
	case out == source:
		d.role(dataSource{agent, source}, false, now)
		if now.Sub(d.sources[dataSource{agent, in}].in) < roleFor {
			return flow.Egress
		}
	}
	return flow.Unknown
}

// subAgent is a source of datagrams with numbers of their own. Several may send from one address: the sub-agents of a device, and agents
// behind a relay. By the specification the agent's address and the sub-agent tell them apart. The port is for processes that share both,
// such as two probes with the same settings; and as a process that starts again has another one, its new numbers are no gap.
type subAgent struct {
	agent netip.Addr
	id    uint32
	port  uint16
}

// numbers are those of a sub-agent.
type numbers struct {
	sequence flow.Sequence
	uptime   uint32 // the highest, in milliseconds
	last     time.Time
}

const (
	mostAgents = 256       // of one exporter; the numbers of others are not checked
	silence    = time.Hour // after which a sub-agent is forgotten
	late       = 5_000     // milliseconds by which datagrams may overtake each other
)

// observe returns how many more datagrams of all that a sub-agent numbers are lost.
func (d *decoder) observe(from subAgent, number, uptime uint32, now time.Time) int64 {
	n := d.agents[from]
	if n == nil {
		if len(d.agents) == mostAgents || !d.limits.Domains.Take(1) {
			return 0
		}
		n = &numbers{uptime: uptime}
		d.agents[from] = n
	}
	n.last = now
	// The uptime begins anew after 49.7 days, too. That is no step back.
	ahead := int32(uptime - n.uptime)
	restarted := ahead < -late
	if ahead > 0 || restarted {
		n.uptime = uptime
	}
	var lost int64
	if restarted {
		lost = n.sequence.End()
		n.sequence = flow.Sequence{}
		d.forgetRoles(from.agent)
	}
	return lost + n.sequence.Observe(number, flow.Sizes{1, 1, 1}, now)
}

func (d *decoder) forget(from subAgent) {
	delete(d.agents, from)
	d.forgetRoles(from.agent)
	d.limits.Domains.Give(1)
}
