package sflow

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"promflow/capture/flow"
	"promflow/capture/frame"
)

// FuzzDecode holds what comes out of a datagram to its bounds, and has the datagram end early.
func FuzzDecode(f *testing.F) {
	data, ends := every(f)
	f.Add(data, uint16(100))
	f.Add(data, uint16(ends[1]))
	some := newFrames(f)
	for _, record := range [][]byte{
		header(headerEthernet, some.qinq, 0), header(headerPPP, some.ipv4, 0), header(headerIPv4, some.ipv4[14:], 0),
		header(headerIPv6, some.ipv6[14:], 10), header(headerMPLS, some.ipv6[10:], 0), ethernetRecord(64, 0x0800),
		ipRecord(sampledIPv4, 1500, 6, src4, dst4), ipRecord(sampledIPv6, 1500, 6, src6, dst6), switched(1, 2),
	} {
		f.Add(datagram(sampled(record)), uint16(60))
		f.Add(sent{agent: agent6, number: 5}.with(expandedAt(0, 2, port{0, 1}, port{0, 2}, switched(1, 2), record)), uint16(90))
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		d := newDecoder(flow.NewLimits())
		run := func(data []byte, at time.Time) ([]flow.Record, bool) {
			to := &sink{t: t}
			ok := d.Decode(flow.Datagram{Data: data, Port: 1, At: at}, to)
			d.Tick(at, to)
			if to.lost != 0 {
				t.Errorf("%d datagrams lost of one", to.lost)
			}
			return to.records, ok
		}
		run(data, start) // directions depend on who has sampled before
		whole, wholeOK := run(data, start)
		for _, r := range whole {
			if why := outOfBounds(r); why != "" {
				t.Errorf("%s: %+v", why, r)
			}
		}
		// A datagram has a header of 28 bytes or more; a flow sample has one of 40, and a record of 24.
		if most := max(len(data)-28, 0) / 64; len(whole) > most {
			t.Errorf("%d records in %d bytes, more than %d", len(whole), len(data), most)
		}
		if again, ok := run(data, start.Add(time.Second)); ok != wholeOK || !slices.Equal(again, whole) {
			t.Errorf("got %+v, %v and again %+v, %v", whole, wholeOK, again, ok)
		}
		n := min(int(cut), len(data))
		got, ok := run(data[:n:n], start.Add(2*time.Second))
		if len(got) > len(whole) || !slices.Equal(got, whole[:len(got)]) {
			t.Errorf("with %d of %d bytes: got %+v, of the whole %+v", n, len(data), got, whole)
		}
		if ok && !(wholeOK && len(got) == len(whole)) {
			t.Errorf("with %d of %d bytes: got %d records, and the datagram is whole; else %d, %v", n, len(data), len(got), len(whole), wholeOK)
		}
	})
}

// outOfBounds says what is wrong with a record.
func outOfBounds(r flow.Record) string {
	switch {
	case r.Outcome != frame.Counted && r.Outcome != frame.NonIP && r.Outcome != frame.Malformed:
		return fmt.Sprintf("outcome %v", r.Outcome)
	case r.Bytes < 0 || r.Bytes > flow.MostBytes || r.Packets < 0 || r.Packets > 1 || r.ReverseBytes != 0 || r.ReversePackets != 0:
		return "more than a packet, or less"
	case r.Outcome != frame.Counted && (r.Source.IsValid() || r.Destination.IsValid() || r.VLAN != 0):
		return "addresses of a packet that has none"
	case r.Outcome != frame.Counted:
		return ""
	case !r.Source.IsValid() || r.Source.BitLen() != r.Destination.BitLen():
		return "addresses are missing, or of two families"
	case r.Bytes < 20 || r.Source.Is6() && r.Bytes < 40 || r.Packets != 1:
		return "less than a packet"
	case r.VLAN > 0xfff || r.Input > mostPort || r.Direction > flow.Egress:
		return "VLAN, interface or direction cannot be"
	}
	return ""
}
