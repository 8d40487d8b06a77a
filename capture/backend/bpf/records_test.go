package bpf

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
	"promflow/capture/subnets"
)

// layouts are those of 64-bit systems: struct timeval has 8 bytes in records of macOS and OpenBSD, and 16 in FreeBSD's, which has
// them begin at multiples of 8.
var layouts = map[string]layout{
	"macOS":   {captured: 8, alignment: 4},
	"FreeBSD": {captured: 16, alignment: 8},
	"OpenBSD": {captured: 8, alignment: 4},
}

// appendRecord adds the record of a frame of so many bytes, of which the first are data, behind a link header of 14 bytes: kernels pad
// so that what follows that is aligned, and pad between records.
func (l layout) appendRecord(b, data []byte, wire int) []byte {
	pad := func(to int) {
		for len(b)%to != 0 {
			b = append(b, 0xee)
		}
	}
	pad(l.alignment)
	start := len(b)
	b = append(b, make([]byte, l.captured)...)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(data)))
	b = binary.NativeEndian.AppendUint32(b, uint32(wire))
	b = binary.NativeEndian.AppendUint16(b, 0)
	for (len(b)-start+14)%l.alignment != 0 {
		b = append(b, 0xee)
	}
	binary.NativeEndian.PutUint16(b[start+l.captured+8:], uint16(len(b)-start))
	return append(b, data...)
}

func TestNext(t *testing.T) {
	type record struct {
		data []byte
		wire int
	}
	for system, l := range layouts {
		for _, c := range []struct {
			name    string
			records []record
			spoil   func(b []byte) []byte
			err     error
		}{
			{name: "none"},
			{name: "one", records: []record{{[]byte("a frame of 21 bytes"), 21}}},
			{name: "of all sizes", records: []record{
				{nil, 0}, {[]byte("1"), 1}, {[]byte("12"), 2}, {[]byte("123"), 3}, {[]byte("1234"), 4}, {bytes.Repeat([]byte("5"), SnapLen), 9000}}},
			{name: "ends in a header", records: []record{{nil, 0}}, err: errRecord, spoil: func(b []byte) []byte { return b[:l.captured+fieldsLen-1] }},
			{name: "ends in a frame", records: []record{{[]byte("123"), 3}}, err: errRecord, spoil: func(b []byte) []byte { return b[:len(b)-1] }},
			{name: "a header shorter than its fields", records: []record{{[]byte("123"), 3}}, err: errRecord, spoil: func(b []byte) []byte {
				binary.NativeEndian.PutUint16(b[l.captured+8:], uint16(l.captured+fieldsLen-1))
				return b
			}},
			{name: "a header longer than all there is", records: []record{{nil, 0}}, err: errRecord, spoil: func(b []byte) []byte {
				binary.NativeEndian.PutUint16(b[l.captured+8:], uint16(len(b)+1))
				return b
			}},
			{name: "4 GiB", records: []record{{[]byte("123"), 3}}, err: errRecord, spoil: func(b []byte) []byte {
				binary.NativeEndian.PutUint32(b[l.captured:], 1<<32-1)
				return b
			}},
		} {
			t.Run(system+", "+c.name, func(t *testing.T) {
				var b []byte
				for _, r := range c.records {
					b = l.appendRecord(b, r.data, r.wire)
				}
				if c.spoil != nil {
					b = c.spoil(b)
				}
				var (
					got []record
					err error
				)
				for len(b) > 0 && err == nil {
					var r record
					if r.data, r.wire, b, err = l.next(b); err == nil {
						got = append(got, r)
					}
				}
				if err != c.err {
					t.Fatalf("the error is %v, want %v", err, c.err)
				}
				if err == nil && !slices.EqualFunc(got, c.records, func(a, b record) bool { return a.wire == b.wire && bytes.Equal(a.data, b.data) }) {
					t.Errorf("got %v, want %v", got, c.records)
				}
			})
		}
	}
}

func parse(t testing.TB, list string) subnets.Set {
	t.Helper()
	s, err := subnets.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCount counts a read's frames as they would count one by one, without allocating.
func TestCount(t *testing.T) {
	for system, l := range layouts {
		t.Run(system, func(t *testing.T) {
			var (
				b    []byte
				want [frame.Outcomes]capture.OutcomeSize
			)
			for _, c := range frametest.DecodeCases(t) {
				if c.In.Link != frame.LinkEthernet {
					continue
				}
				b = l.appendRecord(b, c.In.Data, max(c.In.Wire, len(c.In.Data)))
				want[c.Want.Outcome].Packets++
				want[c.Want.Outcome].Bytes += c.Want.Bytes
			}
			table := capture.NewTable(100, 0)
			counter := capture.NewCounter(table.Monitor(capture.Subnets{Monitored: parse(t, "0.0.0.0/0,::/0")}))
			if err := l.count(b, frame.LinkEthernet, counter); err != nil {
				t.Fatal(err)
			}
			if got := counter.Outcomes(); got != want || got[frame.Counted].Packets < 5 {
				t.Errorf("got %v, want %v", got, want)
			}
			if n := testing.AllocsPerRun(10, func() { _ = l.count(b, frame.LinkEthernet, counter) }); n > 0 {
				t.Errorf("it allocates %v times", n)
			}
		})
	}
}

// TestCountKeepsWhatCameBefore has the last of two records make no sense.
func TestCountKeepsWhatCameBefore(t *testing.T) {
	l := layouts["FreeBSD"]
	b := l.appendRecord(nil, frametest.IP4(t, 100), 120)
	b = append(b, make([]byte, l.alignment)...)
	table := capture.NewTable(100, 0)
	counter := capture.NewCounter(table.Monitor(capture.Subnets{Monitored: parse(t, "0.0.0.0/0")}))
	if err := l.count(b, frame.LinkRaw, counter); err != errRecord {
		t.Errorf("the error is %v, want %v", err, errRecord)
	}
	if n := counter.Outcomes()[frame.Counted]; n != (capture.OutcomeSize{Packets: 1, Bytes: 120}) {
		t.Errorf("%+v are counted", n)
	}
	for _, h := range table.Snapshot().Hosts {
		if h.Addr == (netip.Addr{}) {
			t.Errorf("%+v has no address", h)
		}
	}
}

// FuzzNext has no input panic or go on for ever, and frames lie in the buffer one behind the other.
func FuzzNext(f *testing.F) {
	for _, l := range layouts {
		b := l.appendRecord(nil, []byte("a frame"), 1500)
		f.Add(uint8(l.captured), l.alignment == 8, l.appendRecord(b, nil, 60))
	}
	f.Fuzz(func(t *testing.T, captured uint8, wide bool, b []byte) {
		l := layout{captured: int(captured), alignment: 4}
		if wide {
			l.alignment = 8
		}
		for len(b) > 0 {
			data, _, rest, err := l.next(b)
			if err != nil {
				return
			}
			if len(data)+len(rest)+l.captured+fieldsLen > len(b) {
				t.Fatalf("of %d bytes, %d are captured and %d are left", len(b), len(data), len(rest))
			}
			if at := len(b) - len(rest); len(rest) > 0 && at%l.alignment != 0 {
				t.Fatalf("the next record begins at %d", at)
			}
			b = rest
		}
	})
}
