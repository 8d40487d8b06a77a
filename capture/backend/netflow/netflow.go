// Package netflow decodes NetFlow v5, v9 and IPFIX.
//
// NetFlow v9 (RFC 3954) and IPFIX (RFC 7011) describe their records by templates. Those of a process of an exporter and an observation
// domain are kept apart from those of others, since all number them from 256 on. The process is known by the port that it sends from.
//
// The rules:
//
//   - Bytes and packets are those that were counted since the last record of the flow; else those that came out; else totals, of exporters
//     that report a flow once; else those of Cisco's initiator; else bytes of frames.
//   - A record with fields for both families of addresses has those that are not all 0. Addresses after translation do not count.
//   - A record without addresses is of frames without IP.
//   - A record with both directions (RFC 5103, or Cisco's fields of initiator and responder) counts in both.
//   - A record with more than 65,535 bytes for each packet is malformed.
//   - Data that come before their template, or before the rate of the sampler that they name, wait for a moment.
//   - A process that has only reported flows which came in and went out by one interface is a probe, which sees each packet once. Then the
//     direction of a record does not count: softflowd tells by it which of a connection's ends has answered.
//
// Package github.com/netsampler/goflow2/v2/decoders/netflow (v2.2.6) is not used: it makes a list of all fields of a record, with values behind
// interfaces. A record of 14 fields takes 15 allocations and more than twenty times as long as here, where it takes none.
package netflow

import (
	"encoding/binary"
	"time"

	"promflow/capture/flow"
)

// Protocol is NetFlow v5, v9 and IPFIX, over UDP.
var Protocol = flow.Protocol{
	Name: "netflow", Title: "NetFlow and IPFIX", Port: 2055, Unit: "flows of NetFlow v5, datagrams of v9, records of IPFIX",
	New: func(l *flow.Limits) flow.Decoder { return &decoder{limits: l, domains: map[domainKey]*domain{}} },
}

// Limits of one exporter.
const (
	mostDomains   = 256
	mostTemplates = 2 << 20 // bytes
	mostWaiting   = 1 << 20 // bytes; half of them for data without template
	waitFor       = 30 * time.Second
	mostWaits     = 1024
)

// decoder has what one exporter has said.
type decoder struct {
	limits    *flow.Limits
	domains   map[domainKey]*domain
	last      *domain // that sent the last datagram
	waits     []wait  // in the order of their arrival
	templates int     // bytes
	waiting   int     // bytes

	values values
	record flow.Record
}

// domainKey tells the sources of numbers of templates and sequences apart.
type domainKey struct {
	version uint16
	port    uint16
	id      uint32 // engine, source or observation domain
}

// domain is an observation domain of a process.
type domain struct {
	domainKey
	templates map[uint16]*template
	most      int     // how many templates there were at most: a map does not become smaller
	before    *domain // what the exporter said before it has started again; nil if that is long ago
	rates     rates
	sequence  flow.Sequence
	heard     time.Time
	uptime    uint32 // ms
	boot      int64  // when the exporter has started, by its clock, in Unix ms
	cost      int    // bytes of templates and rates
	news      bool   // the datagram has templates that were not known
	unknown   uint32 // bytes of the datagram whose template is not known
	told      bool   // it has told a rate since the last tick
	noRates   bool   // samplers are named, and their rates do not come
	forwards  bool   // it has reported flows that came in and went out by two interfaces
}

// wait is a set of data that waits for its template, or for a sampling rate.
type wait struct {
	of       *domain
	id       uint16
	template *template // nil: it waits for one
	data     []byte
	since    time.Time
}

const waitCost = 96 // bytes, beside the data

func (d *decoder) Decode(g flow.Datagram, to flow.Sink) bool {
	if len(g.Data) < 2 {
		return false
	}
	switch version := binary.BigEndian.Uint16(g.Data); version {
	case 5:
		return d.v5(g, to)
	case 9:
		return d.v9(g, to)
	case 10:
		return d.ipfix(g, to)
	}
	return false
}

// domain returns the domain of a datagram, or nil if there is no room. If the exporter has too many, another one goes: one without templates
// that has been silent for longest, or one of all.
func (d *decoder) domain(version, port uint16, id uint32, to flow.Sink) *domain {
	key := domainKey{version, port, id}
	if d.last != nil && d.last.domainKey == key {
		return d.last
	}
	of := d.domains[key]
	if of == nil {
		if len(d.domains) == mostDomains {
			d.forget(d.dispensable(), to)
		}
		if !d.limits.Domains.Take(1) {
			return nil
		}
		of = d.open(key)
	}
	d.last = of
	return of
}

// open returns a new domain, for which the limits have room.
func (d *decoder) open(key domainKey) *domain {
	of := &domain{domainKey: key, templates: map[uint16]*template{}}
	d.domains[key] = of
	return of
}

// Tolerances for datagrams that come late.
const (
	late    = 5000             // ms, and the resolution of a clock
	keepFor = 10 * time.Second // what an exporter said before it started again
)

// booted returns the domain for a datagram by the exporter's clocks: the ms since it has started, and Unix seconds. It is one that knows
// nothing yet if the exporter has started again, and the one from before for a datagram that comes late. The former clock begins again at 0
// after 49.7 days, and the latter may be set at any time: only both together tell of a restart.
func (d *decoder) booted(of *domain, uptime, seconds uint32, to flow.Sink) *domain {
	boot, ahead := int64(seconds)*1000-int64(uptime), int32(uptime-of.uptime)
	switch {
	case of.heard.IsZero():
	case of.before != nil && near(boot, of.before.boot) && !near(boot, of.boot):
		of.before.boot = boot
		return of.before
	case ahead < 0 && boot > of.boot+late:
		if of.before != nil {
			d.drop(of.before, to)
			of.before = nil
		}
		before := of
		if !d.limits.Domains.Take(1) { // what it said before cannot be kept
			before = nil
			d.drop(of, to)
			d.limits.Domains.Take(1)
		}
		again := d.open(of.domainKey)
		again.before, again.forwards = before, of.forwards
		again.rates.copy(d, again, &of.rates) // until it tells new ones
		of, d.last = again, again
	case ahead < 0:
		return of
	}
	of.uptime, of.boot = uptime, boot
	return of
}

func near(a, b int64) bool { return a-b <= late && b-a <= late }

// dispensable returns the domain that is missed least.
func (d *decoder) dispensable() (least *domain) {
	for _, of := range d.domains {
		switch {
		case least == nil:
			least = of
		case (len(of.templates) == 0) != (len(least.templates) == 0):
			if len(of.templates) == 0 {
				least = of
			}
		case of.heard.Before(least.heard):
			least = of
		}
	}
	return least
}

// forget gives up a domain.
func (d *decoder) forget(of *domain, to flow.Sink) {
	if of.before != nil {
		d.drop(of.before, to)
	}
	d.drop(of, to)
	delete(d.domains, of.domainKey)
	if d.last == of {
		d.last = nil
	}
}

// drop ends what depends on a domain, and gives back what it took.
func (d *decoder) drop(of *domain, to flow.Sink) {
	to.Lost(of.sequence.End())
	d.giveUp(to, func(w *wait) bool { return w.of == of })
	d.spend(of, -of.cost)
	d.limits.Domains.Give(1)
}

// spend takes memory for templates, or gives it back. It returns false if there is none.
func (d *decoder) spend(of *domain, cost int) bool {
	if cost > 0 && (d.templates+cost > mostTemplates || !d.limits.Templates.Take(cost)) {
		return false
	}
	if cost < 0 {
		d.limits.Templates.Give(-cost)
	}
	d.templates += cost
	of.cost += cost
	return true
}

// observe takes the sequence number of a datagram.
func (of *domain) observe(number uint32, has flow.Sizes, at time.Time, to flow.Sink) {
	to.Lost(of.sequence.Observe(number, has, at))
	if most := of.unknown; most > 0 { // of all units but datagrams
		of.unknown = 0
		if of.version == 10 {
			of.sequence.Skip(flow.Sizes{most, 0, most})
		} else {
			of.sequence.Skip(flow.Sizes{0, most, most})
		}
	}
	of.heard = at
}

// The sizes of NetFlow v5 (https://www.cisco.com/c/en/us/td/docs/net_mgmt/netflow_collection_engine/3-6/user/guide/format.html).
const (
	v5HeaderLen = 24
	v5RecordLen = 48
)

func (d *decoder) v5(g flow.Datagram, to flow.Sink) bool {
	if len(g.Data) < v5HeaderLen {
		return false
	}
	h := g.Data
	count := int(binary.BigEndian.Uint16(h[2:]))
	d.clock(h[8:], g.At, to)
	rate := uint32(binary.BigEndian.Uint16(h[22:]) & 0x3fff) // the upper two bits are how it samples
	data := h[v5HeaderLen:]
	have := min(count, len(data)/v5RecordLen)
	if of := d.domain(5, g.Port, uint32(h[20])<<8|uint32(h[21]), to); of != nil { // it needs none but for the sequence
		of = d.booted(of, binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:]), to)
		of.observe(binary.BigEndian.Uint32(h[16:]), flow.Sizes{uint32(have), 1, uint32(have)}, g.At, to)
	}
	for range have {
		r := data[:v5RecordLen]
		d.values = values{
			source: address{v4: [4]byte(r), has4: true}, destination: address{v4: [4]byte(r[4:]), has4: true},
		}
		n := &d.values.numbers
		n[input], n[packets], n[octets] = number(r[12:14]), number(r[16:20]), number(r[20:24])
		n[protocol] = uint64(r[38])
		d.values.record(&v5Template, &d.record)
		d.record.Rate = rate
		to.Record(&d.record)
		data = data[v5RecordLen:]
	}
	return have == count
}

// v5Template says which fields a record of NetFlow v5 has.
var v5Template = template{
	has: [numbers]bool{octets: true, packets: true, protocol: true, input: true}, octets: octetCounters[0], packets: packetCounters[0],
}

// clock takes the exporter's clock, in seconds.
func (d *decoder) clock(seconds []byte, at time.Time, to flow.Sink) {
	to.Clock(time.Unix(int64(binary.BigEndian.Uint32(seconds)), 0).Sub(at))
}

const (
	v9HeaderLen    = 20
	ipfixHeaderLen = 16
	setHeaderLen   = 4
)

func (d *decoder) v9(g flow.Datagram, to flow.Sink) bool {
	if len(g.Data) < v9HeaderLen {
		return false
	}
	h := g.Data
	of := d.domain(9, g.Port, binary.BigEndian.Uint32(h[16:]), to)
	if of == nil {
		to.NoTemplate(1)
		return true
	}
	of = d.booted(of, binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:]), to)
	d.clock(h[8:], g.At, to)
	flows, all, ok := d.sets(of, h[v9HeaderLen:], &g, to)
	of.observe(binary.BigEndian.Uint32(h[12:]), flow.Sizes{1, flows, all}, g.At, to)
	return ok
}

func (d *decoder) ipfix(g flow.Datagram, to flow.Sink) bool {
	if len(g.Data) < ipfixHeaderLen {
		return false
	}
	h := g.Data
	length := int(binary.BigEndian.Uint16(h[2:]))
	if length < ipfixHeaderLen {
		return false
	}
	of := d.domain(10, g.Port, binary.BigEndian.Uint32(h[12:]), to)
	if of == nil {
		to.NoTemplate(1)
		return true
	}
	d.clock(h[4:], g.At, to)
	flows, all, ok := d.sets(of, h[ipfixHeaderLen:min(length, len(h))], &g, to)
	of.observe(binary.BigEndian.Uint32(h[8:]), flow.Sizes{all, 1, flows}, g.At, to)
	return ok && length <= len(h)
}

// The sets that are not data.
const (
	v9Templates           = 0
	v9OptionsTemplates    = 1
	ipfixTemplates        = 2
	ipfixOptionsTemplates = 3
	firstData             = 256
)

// sets decodes the sets of a datagram. It returns how many flow records they have, how many records of data, and whether they are whole.
func (d *decoder) sets(of *domain, data []byte, g *flow.Datagram, to flow.Sink) (flows, all uint32, whole bool) {
	whole, of.news = true, false
	for len(data) >= setHeaderLen {
		id, length := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if length < setHeaderLen {
			whole = false
			break
		}
		if length > len(data) {
			whole, length = false, len(data)
		}
		body := data[setHeaderLen:length]
		switch {
		case id >= firstData:
			f, a := d.data(of, id, body, g.At, to)
			flows, all = flows+f, all+a
		case of.version == 9 && id == v9Templates, of.version == 10 && id == ipfixTemplates:
			whole = of.readTemplates(d, body, false) && whole
		case of.version == 9 && id == v9OptionsTemplates, of.version == 10 && id == ipfixOptionsTemplates:
			whole = of.readTemplates(d, body, true) && whole
		}
		data = data[length:]
	}
	if of.news && len(d.waits) > 0 {
		d.take(func(w *wait) bool { return w.of == of && w.template == nil && d.decodeNow(w, to) })
	}
	return flows, all, whole
}

// data decodes a set of data, or has it wait. It returns how many flow records and how many records there are.
func (d *decoder) data(of *domain, id uint16, body []byte, at time.Time, to flow.Sink) (flows, all uint32) {
	t := of.templates[id]
	if t == nil {
		of.unknown += uint32(len(body)) // a record has a byte at least
		if !d.wait(wait{of, id, nil, body, at}) {
			to.NoTemplate(1)
		}
		return 0, 0
	}
	if t.samples && !of.noRates && !d.limits.IgnoreRates {
		if flows, lacks := d.survey(of, t, body); lacks && d.wait(wait{of, id, t, body, at}) {
			return flows, flows
		}
	}
	return d.records(of, t, body, to)
}

// records decodes the records of a set by a template.
func (d *decoder) records(of *domain, t *template, body []byte, to flow.Sink) (flows, all uint32) {
	for len(body) > 0 {
		size := d.values.read(t, body)
		if size == 0 { // padding
			break
		}
		body = body[size:]
		all++
		if t.options {
			of.option(d)
			continue
		}
		flows++
		d.values.record(t, &d.record)
		of.forwards = of.forwards || t.has[input] && t.has[output] && d.values.numbers[input] != d.values.numbers[output]
		if !of.forwards && t.has[input] && t.has[output] {
			d.record.Direction = flow.Unknown
		}
		if d.record.Rate = d.values.rate(); d.record.Rate == 0 {
			d.record.Rate, _ = of.rate(&d.values)
		}
		to.Record(&d.record)
	}
	return flows, all
}
