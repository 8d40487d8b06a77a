package frame_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
)

func decode(f frame.Frame) frame.Packet {
	// All of it must be overwritten.
	p := frame.Packet{Bytes: 1234, Packets: 5678, Outcome: frame.Excluded, Protocol: 91, VLAN: 1234}
	p.Decode(&f)
	return p
}

func TestDecode(t *testing.T) {
	for _, c := range frametest.DecodeCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			if got := decode(c.In); got != c.Want {
				t.Errorf("\ngot  %+v\nwant %+v", got, c.Want)
			}
		})
	}
}

// A capture that ends early may turn a packet malformed or hide its protocol, but must not panic or change what it counts for
// otherwise.
func TestDecodeOfCutFrames(t *testing.T) {
	for _, c := range frametest.DecodeCases(t) {
		if n, got := countsOtherwiseWhenCut(c.In, c.Want); n >= 0 {
			t.Errorf("%s, %d bytes captured:\ngot  %+v\nwant %+v", c.Name, n, got, c.Want)
		}
	}
}

// countsOtherwiseWhenCut gives what a frame counts for once no more than n bytes of it are captured, if that is not what the
// whole frame counts for. Else n is -1. The protocol may be behind what was captured of the extension headers of IPv6.
func countsOtherwiseWhenCut(f frame.Frame, whole frame.Packet) (n int, got frame.Packet) {
	cut := f
	cut.Wire = max(f.Wire, len(f.Data))
	for n := range min(len(f.Data), 200) {
		cut.Data = f.Data[:n:n]
		got, want := decode(cut), whole
		if got.Protocol == frame.NoProtocol && whole.Source.Is6() {
			want.Protocol = frame.NoProtocol
		}
		if got.Outcome == frame.Counted && got != want {
			return n, got
		}
	}
	return -1, whole
}

// Each of the packets that a frame of 802.11 aggregates is one, and what was not captured of them is one together.
func TestAggregatedPackets(t *testing.T) {
	cases := frametest.InsideCases(t)
	for _, test := range []struct {
		name     string
		captured int // 0 for all
		want     []string
	}{
		{"802.11/aggregated", 0, []string{"counted 120", "counted 140"}},
		{"802.11/aggregated, ARP first", 0, []string{"non_ip 50", "counted 140"}},
		{"802.11/aggregated, empty", 0, []string{"malformed 14", "counted 140"}},
		{"802.11/aggregated, header cut short", 0, []string{"malformed 13"}},
		{"802.11/aggregated", 26 + 14 + 8 + 20, []string{"counted 120", "malformed 162"}},
		{"802.11/aggregated", 26 + 144 + 13, []string{"counted 120", "malformed 162"}},
		{"802.11/aggregated", 26 + 144 + 14 + 8 + 39, []string{"counted 120", "malformed 162"}},
		{"802.11/aggregated", 26 + 144 + 14 + 8 + 40, []string{"counted 120", "counted 140"}},
		{"radiotap/aggregated, padded header, FCS", 0, []string{"counted 120", "counted 120"}},
		{"802.11/QoS", 0, []string{"counted 120"}},
	} {
		i := slices.IndexFunc(cases, func(c frametest.Case) bool { return c.Name == test.name })
		f, got := cases[i].In, []string{}
		if test.captured > 0 {
			f.Data = f.Data[:test.captured]
		}
		for more := true; more; more = f.Next() {
			p := decode(f)
			got = append(got, fmt.Sprint(p.Outcome, " ", p.Bytes))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s, captured %d: got %q, want %q", test.name, test.captured, got, test.want)
		}
	}
}

func TestLinkOfTypeKnowsTheNumbersOfCaptureFiles(t *testing.T) {
	want := map[uint32]frame.Link{
		uint32(layers.LinkTypeNull): frame.LinkNull, uint32(layers.LinkTypeEthernet): frame.LinkEthernet,
		uint32(layers.LinkTypePPP): frame.LinkPPP, uint32(layers.LinkTypePPP_HDLC): frame.LinkPPP,
		uint32(layers.LinkTypePPPEthernet): frame.LinkPPPoE, uint32(layers.LinkTypeRaw): frame.LinkRaw,
		uint32(layers.LinkTypeLoop): frame.LinkLoop, uint32(layers.LinkTypeLinuxSLL): frame.LinkSLL,
		uint32(layers.LinkTypeIPv4): frame.LinkIPv4, uint32(layers.LinkTypeIPv6): frame.LinkIPv6,
		uint32(layers.LinkTypeC_HDLC): frame.LinkCHDLC, uint32(layers.LinkTypeFRelay): frame.LinkFrameRelay,
		uint32(layers.LinkTypeIEEE802_11): frame.Link80211, uint32(layers.LinkTypeIEEE80211Radio): frame.LinkRadiotap,
		uint32(layers.LinkTypePrismHeader): frame.LinkPrism, 163: frame.LinkPrism, 192: frame.LinkPPI,
		12: frame.LinkRaw, 14: frame.LinkRaw, 204: frame.LinkPPPDir, 239: frame.LinkNFLOG, 242: frame.LinkIPoIB,
		247: frame.LinkInfiniBand, 276: frame.LinkSLL2,
	}
	for number := range uint32(400) {
		if got := frame.LinkOfType(number); got != want[number] {
			t.Errorf("link type %d: got %d, want %d", number, got, want[number])
		}
	}
}

func TestOutcomeNames(t *testing.T) {
	want := []string{"counted", "unmonitored", "excluded", "non_ip", "malformed"}
	for outcome := range frame.Outcomes {
		if outcome.String() != want[outcome] {
			t.Errorf("outcome %d: got %q, want %q", outcome, outcome, want[outcome])
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	for _, c := range slices.Concat(frametest.DecodeCases(t), frametest.SegmentCases(t)) {
		var p frame.Packet
		all := func() {
			for f, more := c.In, true; more; more = f.Next() {
				p.Decode(&f)
			}
		}
		if n := testing.AllocsPerRun(10, all); n != 0 {
			t.Errorf("%s: %v allocations", c.Name, n)
		}
	}
}
