package netflow

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"promflow/capture/flow"
	"promflow/capture/frame"
)

// step is a datagram, or a pause with a tick at its end.
type step struct {
	data  []byte
	port  uint16
	pause time.Duration
	bad   bool // it is not whole
	full  bool // from now on there is no room for another domain
}

// play gives steps to a decoder.
func play(t *testing.T, steps ...step) *found {
	t.Helper()
	d, got, now := newDecoder(), &found{}, start
	for i, s := range steps {
		if s.full {
			for d.limits.Domains.Take(1) {
			}
			continue
		}
		if s.data == nil {
			now = now.Add(s.pause)
			d.Tick(now, got)
			continue
		}
		if ok := d.Decode(flow.Datagram{Data: s.data, Port: s.port, At: now}, got); ok == s.bad {
			t.Errorf("datagram %d is whole: %t, want %t", i, ok, !s.bad)
		}
	}
	d.Close()
	if d.templates != 0 || d.waiting != 0 {
		t.Errorf("a closed decoder has %d bytes of templates and %d of data", d.templates, d.waiting)
	}
	return got
}

// TestRecords has one record by a template, in NetFlow v9 and in IPFIX, and what it is read as.
func TestRecords(t *testing.T) {
	const a, b, a6, b6, none, none6 = "10.0.0.1", "192.0.2.9", "fd00::1", "2001:db8::9", "0.0.0.0", "::"
	type want struct {
		source, destination                   string
		bytes, packets, backBytes, backPacket int64
		outcome                               frame.Outcome
	}
	pen := func(element, length uint16) f { return f{element, length, reverse} }
	for _, c := range []struct {
		name      string
		fields    []f
		record    []byte
		want      want
		ipfixOnly bool
	}{
		{"IPv4", ipv4Template, row(a, b, 1500, 3), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"IPv6", []f{src6, dst6, octets4, packets4}, row(a6, b6, 1500, 3), want{a6, b6, 1500, 3, 0, 0, frame.Counted}, false},
		{"counters of 8 bytes", []f{src4, dst4, {1, 8, 0}, {2, 8, 0}}, row(a, b, uint64(1<<40), uint64(1<<30)), want{a, b, 1 << 40, 1 << 30, 0, 0, frame.Counted}, false},
		{"counters of 3 and 1 bytes", []f{src4, dst4, {1, 3, 0}, {2, 1, 0}}, row(a, b, []byte{1, 2, 3}, byte(9)), want{a, b, 66051, 9, 0, 0, frame.Counted}, false},
		{"counters of 5, 6 and 7 bytes", []f{src4, dst4, {1, 5, 0}, {2, 6, 0}, {99, 7, 0}}, row(a, b, []byte{1, 0, 0, 0, 0}, []byte{0, 0, 1, 0, 0, 0}, make([]byte, 7)),
			want{a, b, 1 << 32, 1 << 24, 0, 0, frame.Counted}, false},
		{"outgoing bytes are 0 after incoming ones", []f{src4, dst4, octets4, packets4, {23, 4, 0}, {24, 4, 0}}, row(a, b, 1500, 3, 0, 0), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"outgoing bytes are 0 before incoming ones", []f{src4, dst4, {23, 4, 0}, {24, 4, 0}, octets4, packets4}, row(a, b, 0, 0, 1500, 3), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"outgoing bytes only", []f{src4, dst4, {23, 4, 0}, {24, 4, 0}}, row(a, b, 1500, 3), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"incoming and outgoing bytes", []f{src4, dst4, octets4, packets4, {23, 4, 0}, {24, 4, 0}}, row(a, b, 1500, 3, 1400, 2), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"totals", []f{src4, dst4, {85, 8, 0}, {86, 8, 0}}, row(a, b, uint64(1500), uint64(3)), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"totals beside what was added", []f{src4, dst4, {85, 8, 0}, {86, 8, 0}, octets4, packets4}, row(a, b, uint64(9000), uint64(30), 1500, 3), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"totals of a flow to which nothing was added", []f{src4, dst4, octets4, packets4, {85, 8, 0}, {86, 8, 0}}, row(a, b, 0, 0, uint64(9000), uint64(30)), want{a, b, 0, 0, 0, 0, frame.Counted}, false},
		{"initiator and responder beside bytes of both", []f{src4, dst4, octets4, packets4, {231, 4, 0}, {232, 4, 0}}, row(a, b, 1500, 3, 1000, 500), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"no IP, bytes of frames", []f{{56, 6, 0}, {352, 4, 0}, packets4}, row(make([]byte, 6), 64, 1), want{bytes: 64, packets: 1, outcome: frame.NonIP}, false},
		{"no packets", []f{src4, dst4, octets4}, row(a, b, 1500), want{a, b, 1500, 0, 0, 0, frame.Counted}, false},
		{"both directions", []f{src4, dst4, octets4, packets4, pen(1, 4), pen(2, 4)}, row(a, b, 1500, 3, 99, 2), want{a, b, 1500, 3, 99, 2, frame.Counted}, true},
		{"both directions, totals", []f{src4, dst4, {85, 4, 0}, {86, 4, 0}, pen(85, 4), pen(86, 4)}, row(a, b, 1500, 3, 99, 2), want{a, b, 1500, 3, 99, 2, frame.Counted}, true},
		{"initiator and responder", []f{src4, dst4, {231, 4, 0}, {232, 4, 0}, {298, 4, 0}, {299, 4, 0}}, row(a, b, 1500, 99, 3, 2), want{a, b, 1500, 3, 99, 2, frame.Counted}, false},
		{"a responder without packets", []f{src4, dst4, {231, 4, 0}, {232, 4, 0}, {298, 4, 0}}, row(a, b, 1500, 99, 3), want{a, b, 1500, 3, 99, 0, frame.Counted}, false},
		{"another enterprise's element 1", []f{src4, dst4, {1, 4, 9}, octets4, packets4}, row(a, b, 7777, 1500, 3), want{a, b, 1500, 3, 0, 0, frame.Counted}, true},
		{"both families, IPv6 is zero", []f{src4, dst4, src6, dst6, octets4, packets4}, row(a, b, none6, none6, 1500, 3), want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"both families, IPv4 is zero", []f{src6, dst6, src4, dst4, octets4, packets4}, row(a6, b6, none, none, 1500, 3), want{a6, b6, 1500, 3, 0, 0, frame.Counted}, false},
		{"both families, neither is zero", []f{src4, dst4, src6, dst6, octets4, packets4}, row(a, b, a6, b6, 1500, 3), want{outcome: frame.Malformed}, false},
		{"addresses after translation", []f{{225, 4, 0}, {226, 4, 0}, src4, dst4, octets4, packets4, {281, 16, 0}}, row("203.0.113.1", "203.0.113.2", a, b, 1500, 3, a6),
			want{a, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"no IP", []f{{56, 6, 0}, {80, 6, 0}, octets4, packets4}, row(make([]byte, 12), 1500, 3), want{bytes: 1500, packets: 3, outcome: frame.NonIP}, false},
		{"source only", []f{src4, octets4, packets4}, row(a, 1500, 3), want{a, none, 1500, 3, 0, 0, frame.Counted}, false},
		{"as many bytes as packets can have", ipv4Template, row(a, b, 3*65535, 3), want{a, b, 3 * 65535, 3, 0, 0, frame.Counted}, false},
		{"more bytes than packets can have", ipv4Template, row(a, b, 3*65535+1, 3), want{outcome: frame.Malformed}, false},
		{"bytes without packets", ipv4Template, row(a, b, 1500, 0), want{outcome: frame.Malformed}, false},
		{"more bytes than packets of the other direction can have", []f{src4, dst4, octets4, packets4, pen(1, 4), pen(2, 4)}, row(a, b, 1500, 3, 65536, 1), want{outcome: frame.Malformed}, true},
		{"more bytes than 63 bits", []f{src4, dst4, {1, 8, 0}}, row(a, b, uint64(1<<63)), want{outcome: frame.Malformed}, false},
		{"an address of another length", []f{{8, 3, 0}, dst4, octets4, packets4}, row([]byte{1, 2, 3}, b, 1500, 3), want{none, b, 1500, 3, 0, 0, frame.Counted}, false},
		{"a counter of 9 bytes", []f{src4, dst4, {1, 9, 0}, packets4}, row(a, b, make([]byte, 9), 3), want{a, b, 0, 3, 0, 0, frame.Counted}, false},
		{"variable lengths", []f{{82, 65535, 0}, src4, {83, 65535, 0}, dst4, octets4, packets4}, row(byte(3), []byte("eth"), a, byte(255), uint16(300), make([]byte, 300), b, 1500, 3),
			want{a, b, 1500, 3, 0, 0, frame.Counted}, true},
		{"counters of variable length", []f{src4, dst4, {1, 65535, 0}, {2, 65535, 0}}, row(a, b, byte(2), uint16(1500), byte(1), byte(3)), want{a, b, 1500, 3, 0, 0, frame.Counted}, true},
	} {
		for _, version := range []int{9, 10} {
			if c.ipfixOnly && version == 9 {
				continue
			}
			t.Run(fmt.Sprintf("%s, version %d", c.name, version), func(t *testing.T) {
				var e exporter
				data := e.v9(makeSet(0, makeTemplate(300, c.fields...)), makeSet(300, c.record))
				if version == 10 {
					data = e.ipfix(1, makeSet(2, makeTemplate(300, c.fields...)), makeSet(300, c.record))
				}
				got := play(t, step{data: data})
				if len(got.records) != 1 {
					t.Fatalf("there are %d records, want 1", len(got.records))
				}
				r := got.records[0]
				has := want{bytes: r.Bytes, packets: r.Packets, backBytes: r.ReverseBytes, backPacket: r.ReversePackets, outcome: r.Outcome}
				if r.Source.IsValid() {
					has.source, has.destination = r.Source.String(), r.Destination.String()
				}
				if has != c.want {
					t.Errorf("the record is %+v, want %+v", has, c.want)
				}
			})
		}
	}
}

// TestLabels has the fields that become labels.
func TestLabels(t *testing.T) {
	for _, c := range []struct {
		name      string
		fields    []f
		record    []byte
		protocol  uint8
		vlan      uint16
		input     uint32
		direction flow.Direction
	}{
		{"none", nil, nil, frame.NoProtocol, 0, 0, flow.Unknown},
		{"all", []f{{4, 1, 0}, {58, 2, 0}, {10, 4, 0}, {61, 1, 0}}, row(byte(17), uint16(0xf007), 70000, byte(0)), 17, 7, 70000, flow.Ingress},
		{"egress", []f{{61, 1, 0}}, row(byte(1)), frame.NoProtocol, 0, 0, flow.Egress},
		{"a direction that is none", []f{{61, 1, 0}}, row(byte(255)), frame.NoProtocol, 0, 0, flow.Unknown},
		{"tag of 802.1Q", []f{{58, 2, 0}, {243, 2, 0}}, row(uint16(7), uint16(9)), frame.NoProtocol, 9, 0, flow.Unknown},
		{"physical interface", []f{{252, 4, 0}}, row(5), frame.NoProtocol, 0, 5, flow.Unknown},
		{"logical and physical interface", []f{{252, 4, 0}, {10, 2, 0}}, row(5, uint16(6)), frame.NoProtocol, 0, 6, flow.Unknown},
		{"other interfaces in and out", []f{{10, 4, 0}, {14, 4, 0}, {61, 1, 0}}, row(1, 2, byte(1)), frame.NoProtocol, 0, 1, flow.Egress},
		{"a probe's one interface, in and out", []f{{10, 4, 0}, {14, 4, 0}, {61, 1, 0}}, row(3, 3, byte(1)), frame.NoProtocol, 0, 3, flow.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e exporter
			got := play(t, step{data: e.v9(makeSet(0, makeTemplate(300, append(c.fields, ipv4Template...)...)), makeSet(300, c.record, row("10.0.0.1", "10.0.0.2", 100, 1)))})
			if len(got.records) != 1 {
				t.Fatalf("there are %d records, want 1", len(got.records))
			}
			if r := got.records[0]; r.Protocol != c.protocol || r.VLAN != c.vlan || r.Input != c.input || r.Direction != c.direction {
				t.Errorf("the record has protocol %d, VLAN %d, interface %d, direction %d", r.Protocol, r.VLAN, r.Input, r.Direction)
			}
		})
	}
}

// TestDirectionOfARouter has a flow that comes in and goes out by one interface, before and after another one that does not.
func TestDirectionOfARouter(t *testing.T) {
	var e exporter
	same, other := row(3, 3, byte(1), "10.0.0.1", "10.0.0.2", 100, 1), row(3, 4, byte(1), "10.0.0.1", "10.0.0.2", 100, 1)
	got := play(t, step{data: e.v9(makeSet(0, makeTemplate(300, append([]f{{10, 4, 0}, {14, 4, 0}, {61, 1, 0}}, ipv4Template...)...)), makeSet(300, same, other, same))})
	var directions []flow.Direction
	for _, r := range got.records {
		directions = append(directions, r.Direction)
	}
	if want := []flow.Direction{flow.Unknown, flow.Egress, flow.Egress}; !slices.Equal(directions, want) {
		t.Errorf("the directions are %v, want %v", directions, want)
	}
}

// TestTemplates has templates that collide, change, go and come late. Each datagram has one record more than known before.
func TestTemplates(t *testing.T) {
	swapped := []f{dst4, src4, packets4, octets4}
	const a, b, c = "10.0.0.1", "10.0.0.2", "10.0.0.3"
	template := func(id uint16, fields ...f) []byte { return makeSet(0, makeTemplate(id, fields...)) }
	ipfixTemplate := func(id uint16, fields ...f) []byte { return makeSet(2, makeTemplate(id, fields...)) }
	ab := makeSet(300, row(a, b, 100, 1))
	ba := makeSet(300, row(b, a, 1, 100)) // the same by the swapped template
	one := map[string][2]int64{a: {100, 0}, b: {0, 100}}
	two := map[string][2]int64{a: {200, 0}, b: {0, 200}}
	var v9, again, other, ipfix exporter
	other.id = 7
	reset := func() { v9, again, other, ipfix = exporter{}, exporter{}, exporter{id: 7}, exporter{} }
	for _, test := range []struct {
		name             string
		steps            func() []step
		want             map[string][2]int64
		lost, noTemplate int64
	}{
		{"two domains, one number", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...))}, {data: other.v9(template(300, swapped...))}, {data: v9.v9(ab)}, {data: other.v9(ba)}}
		}, two, 0, 0},
		{"two ports, one number", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...)), port: 1}, {data: again.v9(template(300, swapped...)), port: 2}, {data: v9.v9(ab), port: 1}, {data: again.v9(ba), port: 2}}
		}, two, 0, 0},
		{"v9 and IPFIX, one number", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...))}, {data: ipfix.ipfix(0, ipfixTemplate(300, swapped...))}, {data: v9.v9(ab)}, {data: ipfix.ipfix(1, ba)}}
		}, two, 0, 0},
		{"a template changes", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...), ab, template(300, swapped...), ba)}}
		}, two, 0, 0},
		{"a template grows", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...), ab)}, {data: v9.v9(template(300, append(ipv4Template, f{10, 4, 0})...), makeSet(300, row(a, b, 100, 1, 5)))}}
		}, two, 0, 0},
		{"two templates in a set, and padding", func() []step {
			return []step{{data: v9.v9(makeSet(0, makeTemplate(300, ipv4Template...), makeTemplate(301, swapped...), make([]byte, 4)), ab, makeSet(301, row(b, a, 1, 100), []byte{0, 0, 0}))}}
		}, two, 0, 0},
		{"data before their template, in a datagram", func() []step {
			return []step{{data: v9.v9(ab, template(300, ipv4Template...), ab)}}
		}, two, 0, 0},
		{"data before their template", func() []step {
			return []step{{data: v9.v9(ab)}, {data: v9.v9(ab)}, {pause: time.Second}, {data: v9.v9(template(300, ipv4Template...))}}
		}, two, 0, 0},
		{"data before their template, IPFIX", func() []step {
			return []step{{data: ipfix.ipfix(1, ab)}, {data: ipfix.ipfix(1, ab)}, {pause: 5 * time.Second}, {data: ipfix.ipfix(0, ipfixTemplate(300, ipv4Template...))}, {pause: time.Hour}}
		}, two, 0, 0},
		{"no template", func() []step {
			return []step{{data: v9.v9(ab)}, {data: v9.v9(ab, ab)}, {pause: waitFor}, {data: v9.v9(template(300, ipv4Template...), ab)}}
		}, one, 0, 3},
		{"a withdrawal", func() []step {
			return []step{{data: ipfix.ipfix(1, ipfixTemplate(300, ipv4Template...), ab)}, {data: ipfix.ipfix(1, makeSet(2, row(uint16(300), uint16(0))), ab)}, {pause: waitFor}}
		}, one, 0, 1},
		{"a withdrawal of all", func() []step {
			return []step{{data: ipfix.ipfix(1, ipfixTemplate(300, ipv4Template...), ab)}, {data: ipfix.ipfix(1, makeSet(2, row(uint16(2), uint16(0))), ab)}, {pause: waitFor}}
		}, one, 0, 1},
		{"a withdrawal of all options", func() []step {
			return []step{{data: ipfix.ipfix(1, ipfixTemplate(300, ipv4Template...), ab)}, {data: ipfix.ipfix(1, makeSet(3, row(uint16(3), uint16(0))), ab)}}
		}, two, 0, 0},
		{"a withdrawal and another template", func() []step {
			return []step{{data: ipfix.ipfix(1, ipfixTemplate(300, ipv4Template...), ab)}, {data: ipfix.ipfix(1, makeSet(2, row(uint16(300), uint16(0)), makeTemplate(300, swapped...)), ba)}}
		}, two, 0, 0},
		{"another process has a template", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...), ab), port: 1}, {data: again.v9(ab), port: 2}, {pause: waitFor}, {data: again.v9(ab), port: 2}, {pause: waitFor}}
		}, one, 0, 2},
		{"another process' own template comes in time", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...), ab), port: 1}, {data: again.v9(ba), port: 2}, {pause: time.Second}, {data: again.v9(template(300, swapped...)), port: 2}}
		}, two, 0, 0},
		{"the exporter starts again with another template, and data come first", func() []step {
			v9.uptime = time.Hour
			first := v9.v9(template(300, ipv4Template...), ab)
			again.uptime = 10 * time.Second
			// Its clock goes on: it has started later.
			data, late := again.v9(ba), again.v9(template(300, swapped...))
			for _, d := range [][]byte{data, late} {
				be.PutUint32(d[8:], uint32(start.Add(2*time.Hour).Unix()))
			}
			return []step{{data: first}, {data: data}, {data: late}}
		}, two, 0, 0},
		{"data from before the exporter has started again come late", func() []step {
			v9.uptime = time.Hour
			first, late := v9.v9(template(300, ipv4Template...)), v9.v9(ab)
			data := again.v9(template(300, swapped...), ba)
			be.PutUint32(data[8:], uint32(start.Add(2*time.Hour).Unix()))
			return []step{{data: first}, {data: data}, {data: late}}
		}, two, 0, 0},
		{"recorded datagrams whose order is another", func() []step {
			v9.uptime = time.Hour
			first := v9.v9(template(300, ipv4Template...))
			v9.uptime = time.Minute
			return []step{{data: first}, {data: v9.v9(ab)}, {data: v9.v9(ab)}}
		}, two, 0, 0},
		{"a template is too short", func() []step {
			return []step{{data: v9.v9(makeSet(0, makeTemplate(300, ipv4Template...)[:12])), bad: true}, {data: v9.v9(template(300, ipv4Template...), ab)}}
		}, one, 0, 0},
		{"a template without size", func() []step {
			return []step{{data: v9.v9(template(300, f{1, 0, 0}), ab), bad: true}, {pause: waitFor}}
		}, map[string][2]int64{}, 0, 1},
		{"a template becomes one that is too large", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...), ab)}, {data: v9.v9(template(300, f{99, 40000, 0}, f{99, 40000, 0}), ab), bad: true}, {pause: waitFor}}
		}, one, 0, 1},
		{"the exporter starts again without room for what it said before", func() []step {
			v9.uptime = time.Hour
			first := v9.v9(template(300, ipv4Template...), ab)
			data, late := again.v9(ba), again.v9(template(300, swapped...))
			for _, d := range [][]byte{data, late} {
				be.PutUint32(d[8:], uint32(start.Add(2*time.Hour).Unix()))
			}
			return []step{{data: first}, {full: true}, {data: data}, {data: late}}
		}, two, 0, 0},
		{"two processes with one number, one address and one port", func() (all []step) {
			v9.uptime = time.Hour
			all = []step{{data: v9.v9(template(300, ipv4Template...))}}
			for n := range 60 {
				now := uint32(start.Add(2*time.Hour + time.Duration(n)*time.Second).Unix())
				v9.uptime, again.uptime = time.Hour+time.Duration(n)*time.Second, time.Duration(n+1)*time.Second
				one, other := v9.v9(ab), again.v9(ba)
				if n == 0 {
					other = again.v9(template(300, swapped...), ba)
				}
				be.PutUint32(other[8:], now)
				all = append(all, step{data: other}, step{data: one}, step{pause: time.Second})
			}
			return all
		}, map[string][2]int64{a: {12000, 0}, b: {0, 12000}}, 0, 0},
		{"a template with a number of a set", func() []step {
			return []step{{data: v9.v9(template(255, ipv4Template...)), bad: true}}
		}, map[string][2]int64{}, 0, 0},
		{"sets that nobody knows", func() []step {
			return []step{{data: v9.v9(makeSet(99, row(1, 2)), template(300, ipv4Template...), ab)}}
		}, one, 0, 0},
		{"a record ends too early", func() []step {
			return []step{{data: v9.v9(template(300, ipv4Template...), makeSet(300, row(a, b, 100, 1), row(a, b, 100)))}}
		}, one, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			reset()
			got := play(t, test.steps()...)
			if sums := got.sums(); !maps.Equal(sums, test.want) {
				t.Errorf("counted are %v, want %v", sums, test.want)
			}
			if got.lost != test.lost || got.noTemplate != test.noTemplate {
				t.Errorf("%d are lost and %d sets have no template, want %d and %d", got.lost, got.noTemplate, test.lost, test.noTemplate)
			}
		})
	}
}

// TestSampling has the rates that exporters tell, in each way.
func TestSampling(t *testing.T) {
	const a, b = "10.0.0.1", "10.0.0.2"
	with := func(fields ...f) []byte { return makeSet(0, makeTemplate(300, append(fields, ipv4Template...)...)) }
	data := func(values ...any) []byte { return makeSet(300, row(append(values, a, b, 100, 1)...)) }
	system := []f{{1, 4, 0}}
	for _, c := range []struct {
		name  string
		steps func(*exporter) []step
		rates []uint32
	}{
		{"none", func(e *exporter) []step { return []step{{data: e.v9(with(), data())}} }, []uint32{0}},
		{"v5", func(e *exporter) []step { return []step{{data: e.v5(0x4000|100, v5Record(a, b, 1, 1, 100, 6))}} }, []uint32{100}},
		{"v5 without", func(e *exporter) []step { return []step{{data: e.v5(0, v5Record(a, b, 1, 1, 100, 6))}} }, []uint32{0}},
		{"in the record", func(e *exporter) []step { return []step{{data: e.v9(with(f{34, 4, 0}), data(7))}} }, []uint32{7}},
		{"of all interfaces", func(e *exporter) []step {
			return []step{{data: e.v9(makeSet(1, v9Options(400, system, f{34, 4, 0}, f{35, 1, 0})), makeSet(400, row(0, 512, byte(1))), with(), data())}}
		}, []uint32{512}},
		{"by interface", func(e *exporter) []step {
			return []step{{data: e.v9(makeSet(1, v9Options(400, []f{{2, 4, 0}}, f{34, 4, 0})), makeSet(400, row(5, 50), row(6, 60)), with(f{10, 4, 0}), data(5), data(6), data(7))}}
		}, []uint32{50, 60, 0}},
		{"by sampler", func(e *exporter) []step {
			return []step{{data: e.v9(makeSet(1, v9Options(400, system, f{48, 2, 0}, f{50, 4, 0})), makeSet(400, row(0, uint16(1), 10), row(0, uint16(2), 20)),
				with(f{48, 1, 0}), data(byte(1)), data(byte(2)), data(byte(0)))}}
		}, []uint32{10, 20, 0}},
		{"one sampler, which records do not name", func(e *exporter) []step {
			return []step{{data: e.v9(makeSet(1, v9Options(400, system, f{48, 2, 0}, f{50, 4, 0})), makeSet(400, row(0, uint16(1), 10)), with(), data())}}
		}, []uint32{10}},
		{"the sampler's rate comes later", func(e *exporter) []step {
			return []step{{data: e.v9(with(f{48, 1, 0}), data(byte(1)))}, {pause: time.Second},
				{data: e.v9(makeSet(1, v9Options(400, system, f{48, 2, 0}, f{50, 4, 0})), makeSet(400, row(0, uint16(1), 10)))}, {pause: time.Second}}
		}, []uint32{10}},
		{"the sampler's rate comes before its template", func(e *exporter) []step {
			return []step{{data: e.v9(with(f{48, 1, 0}), data(byte(1)))}, {data: e.v9(makeSet(400, row(0, uint16(1), 10)))},
				{data: e.v9(makeSet(1, v9Options(400, system, f{48, 2, 0}, f{50, 4, 0})))}, {pause: time.Second}}
		}, []uint32{10}},
		{"the sampler's rate does not come", func(e *exporter) []step {
			return []step{{data: e.v9(with(f{48, 1, 0}), data(byte(1)))}, {pause: waitFor}, {data: e.v9(data(byte(1)))}}
		}, []uint32{0, 0}},
		{"a rate changes", func(e *exporter) []step {
			return []step{{data: e.v9(makeSet(1, v9Options(400, system, f{34, 4, 0})), makeSet(400, row(0, 10)), with(), data(), makeSet(400, row(0, 20)), data())}}
		}, []uint32{10, 20}},
		{"selector of IPFIX, one packet of interval and space", func(e *exporter) []step {
			return []step{{data: e.ipfix(2, makeSet(3, ipfixOptions(400, []f{{302, 8, 0}}, f{304, 2, 0}, f{305, 4, 0}, f{306, 4, 0})), makeSet(400, row(uint64(3), uint16(1), 1, 99)),
				makeSet(2, makeTemplate(300, append([]f{{302, 8, 0}}, ipv4Template...)...)), data(uint64(3)))}}
		}, []uint32{100}},
		{"size and population", func(e *exporter) []step { return []step{{data: e.v9(with(f{309, 4, 0}, f{310, 4, 0}), data(2, 256))}} }, []uint32{128}},
		{"probability", func(e *exporter) []step {
			return []step{{data: e.v9(with(f{311, 8, 0}), data(math.Float64bits(0.001)))}}
		}, []uint32{1000}},
		{"probability of 4 bytes", func(e *exporter) []step {
			return []step{{data: e.v9(with(f{311, 4, 0}), data(int(math.Float32bits(0.01))))}}
		}, []uint32{100}},
		{"a probability that is none", func(e *exporter) []step {
			return []step{{data: e.v9(with(f{311, 8, 0}), data(math.Float64bits(math.NaN())), data(math.Float64bits(-1)), data(math.Float64bits(1e-300)))}}
		}, []uint32{0, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := play(t, c.steps(new(exporter))...)
			var rates []uint32
			for _, r := range got.records {
				rates = append(rates, r.Rate)
			}
			if fmt.Sprint(rates) != fmt.Sprint(c.rates) {
				t.Errorf("the rates are %d, want %d", rates, c.rates)
			}
		})
	}
}

func TestV5(t *testing.T) {
	var e exporter
	e.id = 0x0102
	whole := e.v5(0, v5Record("10.0.0.1", "10.0.0.2", 9, 3, 1500, 6), v5Record("10.0.0.2", "10.0.0.1", 8, 1, 65535, 17))
	got := play(t, step{data: whole}, step{data: whole[:len(whole)-1], port: 1, bad: true}, step{data: whole[:23], port: 2, bad: true})
	if len(got.records) != 3 {
		t.Fatalf("there are %d records, want 3", len(got.records))
	}
	for i, want := range []flow.Record{
		{Packet: frame.Packet{Bytes: 1500, Packets: 3, Protocol: 6}, Input: 9}, {Packet: frame.Packet{Bytes: 65535, Packets: 1, Protocol: 17}, Input: 8},
	} {
		r := got.records[i]
		if r.Bytes != want.Bytes || r.Packets != want.Packets || r.Protocol != want.Protocol || r.Input != want.Input || r.Outcome != frame.Counted {
			t.Errorf("record %d is %+v, want %+v", i, r, want)
		}
	}
}

// TestOthersAreNotDecoded has datagrams of other protocols and versions, and each begin of one that is whole.
func TestOthersAreNotDecoded(t *testing.T) {
	var e exporter
	whole := e.v9(makeSet(0, makeTemplate(300, ipv4Template...)), makeSet(300, row("10.0.0.1", "10.0.0.2", 100, 1)))
	for _, data := range [][]byte{nil, {9}, {0, 9}, {0, 5}, {0, 10}, {0, 1, 0, 1}, {0, 7}, []byte("GET / HTTP/1.1\r\n")} {
		got := &found{}
		if newDecoder().Decode(flow.Datagram{Data: data, At: start}, got) || len(got.records) > 0 {
			t.Errorf("%x is decoded", data)
		}
	}
	for n := range whole {
		got := &found{}
		d := newDecoder()
		d.Decode(flow.Datagram{Data: whole[:n], At: start}, got)
		if len(got.records) > 0 {
			t.Errorf("%d of %d bytes have a record", n, len(whole))
		}
	}
	zero := e.v9(makeSet(300))
	be.PutUint16(zero[22:], 0) // a set without length
	if newDecoder().Decode(flow.Datagram{Data: zero, At: start}, &found{}) {
		t.Error("a set without length is whole")
	}
}

// TestLost has gaps in the sequences of all versions, in their units.
func TestLost(t *testing.T) {
	const a, b = "10.0.0.1", "10.0.0.2"
	template9, template10 := makeSet(0, makeTemplate(300, ipv4Template...)), makeSet(2, makeTemplate(300, ipv4Template...))
	two := makeSet(300, row(a, b, 100, 1), row(a, b, 100, 1))
	r := v5Record(a, b, 1, 1, 100, 6)
	for _, c := range []struct {
		name string
		make func(*exporter) []byte
		lost int64
	}{
		{"v5: flows", func(e *exporter) []byte { return e.v5(0, r, r, r) }, 3},
		{"v9: datagrams", func(e *exporter) []byte { return e.v9(template9, two) }, 1},
		{"IPFIX: records", func(e *exporter) []byte { return e.ipfix(2, template10, two) }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e exporter
			next := func() step { return step{data: c.make(&e)} }
			all := []step{next(), next(), next(), next(), next(), next()}
			if got := play(t, append(all, step{pause: time.Minute})...); got.lost != 0 {
				t.Errorf("%d are lost, want none", got.lost)
			}
			if got := play(t, all[0], all[1], all[3], all[4], step{pause: time.Minute}); got.lost != c.lost {
				t.Errorf("%d are lost, want %d", got.lost, c.lost)
			}
			if got := play(t, all[0], all[1], all[3], all[2], all[5], all[4], step{pause: time.Minute}); got.lost != 0 {
				t.Errorf("%d are lost although they came late", got.lost)
			}
			e = exporter{}
			if got := play(t, append(all, next(), next(), next(), step{pause: time.Minute})...); got.lost != 0 {
				t.Errorf("%d are lost after a restart, want none", got.lost)
			}
		})
	}
}

// TestBounds has an exporter that sends as many domains, templates, rates and data without template as it can.
func TestBounds(t *testing.T) {
	limits := flow.NewLimits()
	d, got := Protocol.New(limits).(*decoder), &found{}
	decode := func(data []byte, port uint16) { d.Decode(flow.Datagram{Data: data, Port: port, At: start}, got) }
	for id := range uint32(2 * mostDomains) {
		e := exporter{id: id}
		decode(e.v9(makeSet(0, makeTemplate(300, ipv4Template...)), makeSet(299, make([]byte, 1000))), 0)
	}
	if len(d.domains) > mostDomains {
		t.Errorf("there are %d domains", len(d.domains))
	}
	var e exporter
	many := make([]f, 300)
	for i := range many {
		many[i] = f{1, 4, 0}
	}
	for id := firstData; id < 0x10000; id++ {
		decode(e.v9(makeSet(0, makeTemplate(uint16(id), many...))), 1)
	}
	for n := range 5000 {
		decode(e.v9(makeSet(uint16(300), make([]byte, 1000)), makeSet(1, v9Options(400, []f{{1, 4, 0}}, f{48, 4, 0}, f{50, 4, 0})), makeSet(400, row(0, n, 10))), 2)
	}
	if d.templates > mostTemplates || d.waiting > mostWaiting {
		t.Errorf("there are %d bytes of templates and %d of data", d.templates, d.waiting)
	}
	if got.noTemplate == 0 {
		t.Error("data without room are not counted as lost")
	}
	d.Close()
	if limits.Templates.Left() != flow.NewLimits().Templates.Left() {
		t.Error("a closed decoder has not given back what it took")
	}
}

// TestDecodeAllocatesNothing has the same templates again, and data: nothing is allocated for them.
func TestDecodeAllocatesNothing(t *testing.T) {
	var e exporter
	template := makeSet(0, makeTemplate(300, ipv4Template...))
	data := e.v9(template, makeSet(300, row("10.0.0.1", "10.0.0.2", 100, 1), row("10.0.0.1", "10.0.0.2", 100, 1)))
	d := newDecoder()
	var sink discard
	decode := func() {
		be.PutUint32(data[12:], e.sequence)
		e.sequence++
		d.Decode(flow.Datagram{Data: data, At: start}, &sink)
	}
	if n := testing.AllocsPerRun(1000, decode); n != 0 {
		t.Errorf("a datagram allocates %v times", n)
	}
}

// discard is a sink.
type discard struct{ records int }

func (d *discard) Record(*flow.Record) { d.records++ }
func (*discard) Lost(int64)            {}
func (*discard) NoTemplate(int64)      {}
func (*discard) Clock(time.Duration)   {}

// TestDatagramIsNotKept gives all datagrams in one buffer: what waits must be a copy.
func TestDatagramIsNotKept(t *testing.T) {
	var e exporter
	d, got := newDecoder(), &found{}
	buffer := make([]byte, 1000)
	for _, data := range [][]byte{
		e.v9(makeSet(300, row("10.0.0.1", "10.0.0.2", 100, 1))), e.v9(makeSet(300, row("10.0.0.3", "10.0.0.4", 200, 2))), e.v9(makeSet(0, makeTemplate(300, ipv4Template...))),
	} {
		n := copy(buffer, data)
		if !d.Decode(flow.Datagram{Data: buffer[:n], At: start}, got) {
			t.Fatal("a datagram is not whole")
		}
		clear(buffer)
	}
	if want := map[string][2]int64{"10.0.0.1": {100, 0}, "10.0.0.2": {0, 100}, "10.0.0.3": {200, 0}, "10.0.0.4": {0, 200}}; !maps.Equal(got.sums(), want) {
		t.Errorf("counted are %v, want %v", got.sums(), want)
	}
}

// TestFieldsWithoutLength has a template of nothing else but one byte. A record of a byte must not cost thousands of fields.
func TestFieldsWithoutLength(t *testing.T) {
	fields := []f{{82, 65535, 0}}
	for range 10000 {
		fields = append(fields, f{1, 0, 0})
	}
	fields = append(fields, f{99, 4, 0}, f{99, 4, 0}, f{99, 4, 0})
	tm, _ := newTemplate(makeFields(fields), len(fields), 0, false, true)
	if tm == nil || len(tm.fields) != 2 {
		t.Fatalf("the template is %+v, want two fields", tm)
	}
	var v values
	if size := v.read(tm, make([]byte, 13)); size != 13 {
		t.Errorf("a record has %d bytes, want 13", size)
	}
}

// TestPaddingOfTemplates has zeros at the end of a set of templates, which are no withdrawal.
func TestPaddingOfTemplates(t *testing.T) {
	var e exporter
	got := play(t, step{data: e.ipfix(1, makeSet(2, makeTemplate(300, ipv4Template...), make([]byte, 4)), makeSet(300, row("10.0.0.1", "10.0.0.2", 100, 1)))})
	if len(got.records) != 1 || got.noTemplate != 0 {
		t.Errorf("there are %d records, and %d sets have no template", len(got.records), got.noTemplate)
	}
}

// TestRatesOutliveARestart has a sampled exporter start again, and tell its rate later.
func TestRatesOutliveARestart(t *testing.T) {
	e := exporter{uptime: time.Hour}
	template := makeSet(0, makeTemplate(300, ipv4Template...))
	data := makeSet(300, row("10.0.0.1", "10.0.0.2", 100, 1))
	first := e.v9(makeSet(1, v9Options(400, []f{{1, 4, 0}}, f{34, 4, 0})), makeSet(400, row(0, 100)), template, data)
	again := exporter{uptime: time.Second}
	second := again.v9(template, data)
	be.PutUint32(second[8:], uint32(start.Add(2*time.Hour).Unix()))
	got := play(t, step{data: first}, step{data: second})
	if len(got.records) != 2 || got.records[0].Rate != 100 || got.records[1].Rate != 100 {
		t.Errorf("the records are %+v, want two with the rate 100", got.records)
	}
}

// TestRatesDoNotMatter has data that name a sampler count at once if all are multiplied by the same.
func TestRatesDoNotMatter(t *testing.T) {
	limits := flow.NewLimits()
	limits.IgnoreRates = true
	var e exporter
	got := &found{}
	Protocol.New(limits).Decode(flow.Datagram{Data: e.v9(makeSet(0, makeTemplate(300, append(ipv4Template, f{48, 1, 0})...)), makeSet(300, row("10.0.0.1", "10.0.0.2", 100, 1, byte(7)))), At: start}, got)
	if len(got.records) != 1 {
		t.Errorf("there are %d records, want 1", len(got.records))
	}
}

// TestDomainsWithTemplatesStay has an exporter send from another port each time, beside one port that has told a template.
func TestDomainsWithTemplatesStay(t *testing.T) {
	var e exporter
	d, got := newDecoder(), &found{}
	data := makeSet(300, row("10.0.0.1", "10.0.0.2", 100, 1))
	d.Decode(flow.Datagram{Data: e.v9(makeSet(0, makeTemplate(300, ipv4Template...))), Port: 1, At: start}, got)
	for port := range uint16(3 * mostDomains) {
		other := exporter{}
		d.Decode(flow.Datagram{Data: other.v9(data), Port: 1000 + port, At: start.Add(time.Duration(port+1) * time.Second)}, got)
	}
	d.Decode(flow.Datagram{Data: e.v9(data), Port: 1, At: start.Add(time.Hour)}, got)
	if len(got.records) != 1 || len(d.domains) != mostDomains {
		t.Errorf("there are %d records and %d domains, want 1 and %d", len(got.records), len(d.domains), mostDomains)
	}
}

// TestSharedLimits has exporters take all that there is. One that is closed makes room for others.
func TestSharedLimits(t *testing.T) {
	limits := flow.NewLimits()
	var all []*decoder
	known := func(d *decoder, id uint32) bool {
		e := exporter{id: id}
		got := &found{}
		d.Decode(flow.Datagram{Data: e.v9(makeSet(0, makeTemplate(300, ipv4Template...)), makeSet(300, row("10.0.0.1", "10.0.0.2", 100, 1))), At: start}, got)
		return len(got.records) == 1
	}
	for n := 0; ; n++ {
		d := Protocol.New(limits).(*decoder)
		all = append(all, d)
		full := false
		for id := range uint32(mostDomains) {
			full = full || !known(d, id)
		}
		if full {
			break
		}
		if n > 100 {
			t.Fatal("there is no limit")
		}
	}
	late := Protocol.New(limits).(*decoder)
	if known(late, 0) {
		t.Error("there is room for one more domain")
	}
	all[0].Close()
	if !known(late, 0) || !known(all[0], 0) {
		t.Error("a closed decoder has not made room, or cannot be used again")
	}
	for _, d := range append(all, late) {
		d.Close()
	}
	if full := flow.NewLimits(); limits.Templates.Left() != full.Templates.Left() || limits.Waiting.Left() != full.Waiting.Left() || limits.Domains.Left() != full.Domains.Left() {
		t.Error("not all was given back")
	}
}

// TestBudgetsAreWhole has exporters send what they like, in limits that are nearly full: domains, restarts, templates that change and go,
// data that wait. In the end all is given back.
func TestBudgetsAreWhole(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		limits := flow.NewLimits()
		limits.Domains.Take(4096 - 20)
		limits.Templates.Take(32<<20 - 6000)
		limits.Waiting.Take(16<<20 - 3000)
		want := [...]int64{limits.Domains.Left(), limits.Templates.Left(), limits.Waiting.Left()}
		got, now := &found{}, start
		all := []*decoder{Protocol.New(limits).(*decoder), Protocol.New(limits).(*decoder), Protocol.New(limits).(*decoder)}
		for range 3000 {
			now = now.Add(time.Duration(random.IntN(2000)) * time.Millisecond)
			d := all[random.IntN(len(all))]
			e := exporter{id: random.Uint32N(8), sequence: random.Uint32N(100), uptime: time.Duration(random.IntN(100)) * time.Second}
			id := uint16(300 + random.IntN(5))
			fields := append(slices.Clone(ipv4Template), make([]f, random.IntN(10))...)
			for i := range fields {
				if fields[i].length == 0 {
					fields[i] = f{99, 1, 0}
				}
			}
			var data []byte
			switch random.IntN(8) {
			case 0:
				data = e.v9(makeSet(0, makeTemplate(id, fields...)))
			case 1:
				data = e.ipfix(0, makeSet(2, makeTemplate(id, fields...)))
			case 2:
				data = e.ipfix(0, makeSet(2, row([]uint16{2, id}[random.IntN(2)], uint16(0))))
			case 3:
				data = e.v9(makeSet(1, v9Options(400, []f{{1, 4, 0}}, f{48, 2, 0}, f{50, 4, 0})), makeSet(400, row(0, uint16(random.IntN(9)), 10)))
			case 4:
				data = e.v9(makeSet(0, makeTemplate(id, append(fields, f{48, 1, 0})...)), makeSet(id, make([]byte, 40)))
			case 5:
				data = e.ipfix(1, makeSet(id, make([]byte, random.IntN(200))))
			case 6:
				data = e.v9(makeSet(id, make([]byte, random.IntN(200))))
			case 7:
				data = e.v5(0, v5Record("10.0.0.1", "10.0.0.2", 1, 1, 100, 6))
			}
			if version := be.Uint16(data); version != 10 { // a clock that goes on tells of restarts
				be.PutUint32(data[8:], uint32(now.Unix()))
			}
			d.Decode(flow.Datagram{Data: data, Port: uint16(random.IntN(3)), At: now}, got)
			switch random.IntN(100) {
			case 0:
				d.Close()
			case 1, 2, 3:
				d.Tick(now, got)
			case 4:
				if len(d.domains) > 0 {
					d.forget(d.dispensable(), got)
				}
			}
			if limits.Domains.Left() < 0 || limits.Templates.Left() < 0 || limits.Waiting.Left() < 0 {
				t.Fatalf("seed %d: more was taken than there is", seed)
			}
		}
		for _, d := range all {
			d.Close()
			d.Close()
		}
		if left := [...]int64{limits.Domains.Left(), limits.Templates.Left(), limits.Waiting.Left()}; left != want {
			t.Errorf("seed %d: %d are left, want %d", seed, left, want)
		}
		if len(got.records) == 0 || got.noTemplate == 0 {
			t.Errorf("seed %d: %d records, and %d sets without template", seed, len(got.records), got.noTemplate)
		}
	}
}

// TestLossBesideUnknownSets has each datagram of IPFIX have a record whose template never comes, and each second one be lost.
func TestLossBesideUnknownSets(t *testing.T) {
	var e exporter
	known, unknown := make([][]byte, 50), row("10.0.0.1", "10.0.0.2", 100, 1)
	for i := range known {
		known[i] = unknown
	}
	next := func() step { return step{data: e.ipfix(51, makeSet(300, known...), makeSet(301, unknown))} }
	steps := []step{{data: e.ipfix(0, makeSet(2, makeTemplate(300, ipv4Template...)))}}
	const lost = 100
	for range lost {
		next()
		steps = append(steps, next())
	}
	got := play(t, append(steps, step{pause: time.Minute})...)
	// 16 bytes may be so many records that are not missing.
	if want := int64(lost-1) * (51 + 1 - 16); got.lost < want || got.lost > lost*51 {
		t.Errorf("%d are lost, want %d at least", got.lost, want)
	}
}

// TestDomainsForgetTemplates has an exporter tell many templates, and withdraw them: they take no memory any longer.
func TestDomainsForgetTemplates(t *testing.T) {
	d, got := newDecoder(), &found{}
	var e exporter
	for id := range uint16(5000) {
		d.Decode(flow.Datagram{Data: e.ipfix(0, makeSet(2, makeTemplate(300+id, f{1, 4, 0}))), At: start}, got)
	}
	of := d.domains[domainKey{version: 10}]
	if len(of.templates) != 5000 || of.most != 5000 {
		t.Fatalf("there are %d templates, %d at most", len(of.templates), of.most)
	}
	d.Decode(flow.Datagram{Data: e.ipfix(0, makeSet(2, row(uint16(2), uint16(0)))), At: start}, got)
	if len(of.templates) != 0 || of.most > 3 || d.templates != 0 {
		t.Errorf("there are %d templates, room for %d, and %d bytes", len(of.templates), of.most, d.templates)
	}
}
