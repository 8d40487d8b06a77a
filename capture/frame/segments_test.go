package frame_test

import (
	"fmt"
	"math"
	"testing"

	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
)

func TestMergedSegmentsCountAsThePacketsOnTheWire(t *testing.T) {
	for _, c := range frametest.SegmentCases(t) {
		if got := decode(c.In); got != c.Want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.Name, got, c.Want)
		}
		// Headers are all that has to be captured.
		if len(c.In.Data) > 180 {
			c.In.Data = c.In.Data[:180]
			if got := decode(c.In); got != c.Want {
				t.Errorf("%s, snapped:\ngot  %+v\nwant %+v", c.Name, got, c.Want)
			}
		}
	}
}

func TestMergedSegmentsWithoutTheirTransportHeader(t *testing.T) {
	for _, s := range frametest.Shapes()[:1] {
		packet := s.Merged(t, 14_600)
		want := s.OnTheWire(t, 14_600, 1460)
		for captured := 20; captured <= 40; captured++ {
			// Where the capture does not say how long TCP's header is, it has no options.
			f := frame.Frame{Link: frame.LinkRaw, Data: packet[:captured], Wire: len(packet), Segments: frame.Segments{Size: 1460}}
			if got := decode(f); got != want {
				t.Errorf("%d bytes captured:\ngot  %+v\nwant %+v", captured, got, want)
			}
		}
	}
}

func TestSegmentsOfAFrameThatIsNotIPAreIgnored(t *testing.T) {
	for _, c := range frametest.LinkCases(t) {
		if c.Want.Outcome != frame.Counted {
			c.In.Segments = frame.Segments{Size: 10}
			if got := decode(c.In); got != c.Want {
				t.Errorf("%s:\ngot  %+v\nwant %+v", c.Name, got, c.Want)
			}
		}
	}
}

func TestEveryTCPDataOffset(t *testing.T) {
	s := frametest.Shapes()[0]
	for offset := range 16 {
		packet := frametest.With(s.Merged(t, 5_000), 20+12, byte(offset)<<4)
		header := int64(20 + 4*max(offset, 5)) // TCP has no shorter one
		payload := int64(len(packet)) - header
		want := s.OnTheWire(t, 0, 1000)
		want.Packets = (payload + 999) / 1000
		want.Bytes = payload + want.Packets*header
		f := frame.Frame{Link: frame.LinkRaw, Data: packet, Wire: len(packet), Segments: frame.Segments{Size: 1000}}
		if got := decode(f); got != want {
			t.Errorf("data offset %d:\ngot  %+v\nwant %+v", offset, got, want)
		}
	}
}

func TestHostileSegmentsStayInBounds(t *testing.T) {
	extreme := []int{math.MinInt, -1, 0, 1, 2, 8, 13, 14, 15, 33, 34, 35, 54, 100, 1448, 65535, 65536, math.MaxInt32, math.MaxInt - 20, math.MaxInt}
	for _, c := range frametest.HeaderCases(t) {
		for _, size := range extreme {
			for _, transport := range extreme {
				for _, udp := range []bool{false, true} {
					for _, wire := range []int{0, len(c.In.Data), 1 << 20, math.MaxInt32} {
						f := c.In
						f.Wire, f.Segments = wire, frame.Segments{Size: size, UDP: udp, Transport: transport}
						if why := outOfBounds(f, decode(f)); why != "" {
							t.Fatalf("%s, wire %d, %+v: %s", c.Name, wire, f.Segments, why)
						}
					}
				}
			}
		}
	}
}

// outOfBounds says what is wrong with what a frame counts for, whatever is in the frame.
func outOfBounds(f frame.Frame, got frame.Packet) string {
	wire := int64(max(f.Wire, len(f.Data)))
	counted := got.Outcome == frame.Counted
	if got.Source.IsValid() != counted || got.Destination.IsValid() != counted {
		return fmt.Sprintf("addresses must be valid if it is counted, and only then: %+v", got)
	}
	if got.VLAN > 4095 || !counted && (got.Protocol != 0 || got.VLAN != 0) {
		return fmt.Sprintf("a protocol or VLAN that it cannot have: %+v", got)
	}
	switch got.Outcome {
	case frame.Counted:
	case frame.NonIP, frame.Malformed:
		if got.Bytes != wire && !(got.Bytes < wire && aggregates(f)) {
			return fmt.Sprintf("a frame of %d bytes without IP counts for %d", wire, got.Bytes)
		}
	default:
		return fmt.Sprint("not an outcome of decoding: ", got.Outcome)
	}

	f.Segments = frame.Segments{}
	whole := decode(f)
	if f.Link == frame.LinkNFLOG || f.Link == frame.LinkPPI {
		wire = max(wire, 40+65535) // the header tells
	}
	if whole.Packets != 1 || whole.Bytes < 0 || whole.Bytes > wire {
		return fmt.Sprintf("a frame of %d bytes counts for %+v", wire, whole)
	}
	// Every segment has at least a byte of the payload, and at most all of the headers, which are less than the whole. A
	// jumbo payload option of 8 bytes may have been taken out.
	if got.Outcome != whole.Outcome || got.Source != whole.Source || got.Destination != whole.Destination ||
		got.Protocol != whole.Protocol || got.VLAN != whole.VLAN ||
		got.Packets < 1 || got.Packets > max(whole.Bytes, 1) || got.Bytes < whole.Bytes-8 || got.Bytes > whole.Bytes*got.Packets {
		return fmt.Sprintf("got %+v, unmerged %+v", got, whole)
	}
	return ""
}
