package netflow

import (
	"encoding/binary"
	"net/netip"
	"time"

	"promflow/capture/flow"
	"promflow/capture/frame"
)

var be = binary.BigEndian

// start is when exporters of tests start, and the time of datagrams that have no other.
var start = time.Unix(1_800_000_000, 0)

// f is a field of a template; an enterprise makes it one of IPFIX with an enterprise number.
type f struct {
	element, length uint16
	enterprise      uint32
}

// Fields of most tests.
var (
	src4, dst4   = f{8, 4, 0}, f{12, 4, 0}
	src6, dst6   = f{27, 16, 0}, f{28, 16, 0}
	octets4      = f{1, 4, 0}
	packets4     = f{2, 4, 0}
	ipv4Template = []f{src4, dst4, octets4, packets4}
)

// set returns a set.
func makeSet(id uint16, bodies ...[]byte) []byte {
	set := be.AppendUint16(be.AppendUint16(nil, id), 0)
	for _, b := range bodies {
		set = append(set, b...)
	}
	be.PutUint16(set[2:], uint16(len(set)))
	return set
}

func makeFields(fields []f) (all []byte) {
	for _, f := range fields {
		if f.enterprise != 0 {
			all = be.AppendUint16(be.AppendUint16(all, f.element|0x8000), f.length)
			all = be.AppendUint32(all, f.enterprise)
		} else {
			all = be.AppendUint16(be.AppendUint16(all, f.element), f.length)
		}
	}
	return all
}

// makeTemplate returns a template record.
func makeTemplate(id uint16, fields ...f) []byte {
	return append(be.AppendUint16(be.AppendUint16(nil, id), uint16(len(fields))), makeFields(fields)...)
}

// v9Options and ipfixOptions return a record of an options template.
func v9Options(id uint16, scopes []f, fields ...f) []byte {
	t := be.AppendUint16(be.AppendUint16(nil, id), uint16(4*len(scopes)))
	return append(be.AppendUint16(t, uint16(4*len(fields))), makeFields(append(scopes, fields...))...)
}

func ipfixOptions(id uint16, scopes []f, fields ...f) []byte {
	t := be.AppendUint16(be.AppendUint16(nil, id), uint16(len(scopes)+len(fields)))
	return append(be.AppendUint16(t, uint16(len(scopes))), makeFields(append(scopes, fields...))...)
}

// values4 returns fields of a record: addresses as text, numbers of 4 bytes, or bytes as they are.
func row(values ...any) (all []byte) {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			all = append(all, netip.MustParseAddr(v).AsSlice()...)
		case int:
			all = be.AppendUint32(all, uint32(v))
		case uint64:
			all = be.AppendUint64(all, v)
		case uint16:
			all = be.AppendUint16(all, v)
		case byte:
			all = append(all, v)
		case []byte:
			all = append(all, v...)
		}
	}
	return all
}

// exporter makes datagrams of one process and one domain.
type exporter struct {
	id       uint32
	sequence uint32
	uptime   time.Duration
}

// v9 returns the next datagram of NetFlow v9.
func (e *exporter) v9(sets ...[]byte) []byte {
	d := be.AppendUint16(be.AppendUint16(nil, 9), uint16(len(sets)))
	d = be.AppendUint32(be.AppendUint32(d, uint32(e.uptime.Milliseconds())), uint32(start.Add(e.uptime).Unix()))
	d = be.AppendUint32(be.AppendUint32(d, e.sequence), e.id)
	e.sequence++
	for _, s := range sets {
		d = append(d, s...)
	}
	return d
}

// ipfix returns a datagram of IPFIX. The next one has a sequence number that is larger by so many records.
func (e *exporter) ipfix(records int, sets ...[]byte) []byte {
	d := be.AppendUint16(be.AppendUint16(nil, 10), 0)
	d = be.AppendUint32(be.AppendUint32(d, uint32(start.Add(e.uptime).Unix())), e.sequence)
	d = be.AppendUint32(d, e.id)
	e.sequence += uint32(records)
	for _, s := range sets {
		d = append(d, s...)
	}
	be.PutUint16(d[2:], uint16(len(d)))
	return d
}

// v5 returns the next datagram of NetFlow v5.
func (e *exporter) v5(sampling uint16, records ...[]byte) []byte {
	d := be.AppendUint16(be.AppendUint16(nil, 5), uint16(len(records)))
	d = be.AppendUint32(be.AppendUint32(d, uint32(e.uptime.Milliseconds())), uint32(start.Add(e.uptime).Unix()))
	d = be.AppendUint32(be.AppendUint32(d, 0), e.sequence)
	d = be.AppendUint16(append(d, byte(e.id>>8), byte(e.id)), sampling)
	e.sequence += uint32(len(records))
	for _, r := range records {
		d = append(d, r...)
	}
	return d
}

// v5Record returns a record of NetFlow v5.
func v5Record(source, destination string, in uint16, packets, bytes int, protocol byte) []byte {
	r := row(source, destination, 0, in, uint16(0), packets, bytes, 0, 0, uint16(1), uint16(2), byte(0), byte(0), protocol)
	return append(r, make([]byte, 48-len(r))...)
}

// found is a sink that keeps what it gets.
type found struct {
	records          []flow.Record
	lost, noTemplate int64
	clock            time.Duration
}

func (s *found) Record(r *flow.Record)     { s.records = append(s.records, *r) }
func (s *found) Lost(n int64)              { s.lost += n }
func (s *found) NoTemplate(n int64)        { s.noTemplate += n }
func (s *found) Clock(ahead time.Duration) { s.clock = ahead }

// sums returns the bytes of each address, those transmitted and those received, as a collector would count them.
func (s *found) sums() map[string][2]int64 {
	all := map[string][2]int64{}
	add := func(transmits, receives netip.Addr, bytes, rate int64) {
		t := all[transmits.String()]
		t[0] += bytes * rate
		all[transmits.String()] = t
		r := all[receives.String()]
		r[1] += bytes * rate
		all[receives.String()] = r
	}
	for _, r := range s.records {
		if r.Outcome != frame.Counted {
			continue
		}
		rate := int64(max(r.Rate, 1))
		add(r.Source, r.Destination, r.Bytes, rate)
		if r.ReverseBytes > 0 {
			add(r.Destination, r.Source, r.ReverseBytes, rate)
		}
	}
	return all
}

func newDecoder() *decoder { return Protocol.New(flow.NewLimits()).(*decoder) }
