package netflow

import (
	"encoding/binary"
	"testing"
	"time"

	"promflow/capture/flow"
	"promflow/capture/frame"
)

// FuzzDecode has an exporter send any datagrams: each is its length in two bytes, and then that many bytes.
func FuzzDecode(t *testing.F) {
	var v5, v9, ipfix exporter
	join := func(datagrams ...[]byte) (all []byte) {
		for _, d := range datagrams {
			all = append(be.AppendUint16(all, uint16(len(d))), d...)
		}
		return all
	}
	const a, b, a6, b6 = "10.0.0.1", "192.0.2.9", "fd00::1", "2001:db8::9"
	six := []f{src6, dst6, {1, 8, 0}, {2, 8, 0}, {10, 4, 0}, {61, 1, 0}, {48, 1, 0}}
	t.Add(join(v5.v5(0x4064, v5Record(a, b, 1, 2, 300, 6), v5Record(b, a, 2, 1, 40, 17))))
	t.Add(join(v9.v9(makeSet(0, makeTemplate(300, ipv4Template...), makeTemplate(301, six...))), v9.v9(makeSet(300, row(a, b, 300, 2))),
		v9.v9(makeSet(301, row(a6, b6, uint64(300), uint64(2), 1, byte(0), byte(1)))),
		v9.v9(makeSet(1, v9Options(400, []f{{1, 4, 0}}, f{48, 1, 0}, f{50, 4, 0})), makeSet(400, row(0, byte(1), 10)))))
	t.Add(join(ipfix.ipfix(1, makeSet(2, makeTemplate(300, f{82, 65535, 0}, src4, dst4, octets4, packets4, f{1, 4, reverse})), makeSet(300, row(byte(2), []byte("ab"), a, b, 300, 2, 40))),
		ipfix.ipfix(1, makeSet(2, row(uint16(300), uint16(0))), makeSet(300, row(byte(2), []byte("ab"), a, b, 300, 2, 40))),
		ipfix.ipfix(1, makeSet(3, ipfixOptions(400, []f{{302, 8, 0}}, f{305, 4, 0}, f{306, 4, 0})), makeSet(400, row(uint64(1), 1, 9)))))
	t.Fuzz(func(t *testing.T, all []byte) {
		limits := flow.NewLimits()
		d := Protocol.New(limits).(*decoder)
		s := &checked{t: t}
		now := start
		for port := uint16(0); len(all) >= 2; port ^= 1 {
			n := min(int(binary.BigEndian.Uint16(all)), len(all)-2)
			before := s.records
			d.Decode(flow.Datagram{Data: all[2 : 2+n], Port: port, At: now}, s)
			// A record takes a byte at least. What has waited may come, too.
			if s.records-before > n+mostWaiting {
				t.Errorf("%d bytes have %d records", n, s.records-before)
			}
			all = all[2+n:]
			now = now.Add(time.Second)
			d.Tick(now, s)
		}
		d.Describe()
		d.Tick(now.Add(time.Hour), s)
		if d.waiting != 0 || len(d.waits) != 0 {
			t.Errorf("%d sets wait for ever", len(d.waits))
		}
		d.Close()
		if full := flow.NewLimits(); limits.Templates.Left() != full.Templates.Left() || limits.Waiting.Left() != full.Waiting.Left() || limits.Domains.Left() != full.Domains.Left() {
			t.Error("a closed decoder has not given back what it took")
		}
	})
}

// checked is a sink that checks what it gets.
type checked struct {
	t       *testing.T
	records int
}

func (s *checked) Record(r *flow.Record) {
	s.records++
	switch {
	case r.Bytes < 0 || r.Packets < 0 || r.ReverseBytes < 0 || r.ReversePackets < 0:
		s.t.Errorf("a record has negative numbers: %+v", r)
	case r.Outcome == frame.Counted && (!r.Source.IsValid() || r.Source.Is4() != r.Destination.Is4()):
		s.t.Errorf("a record has addresses of two families: %+v", r)
	case r.Outcome != frame.Counted && r.Source.IsValid():
		s.t.Errorf("a record without addresses has some: %+v", r)
	}
}

func (s *checked) Lost(n int64) {
	if n < 0 {
		s.t.Errorf("%d are lost", n)
	}
}

func (s *checked) NoTemplate(n int64)  { s.Lost(n) }
func (s *checked) Clock(time.Duration) {}
