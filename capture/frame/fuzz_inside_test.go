package frame_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
)

// linkMSDUs is what package frame calls the packets that a frame of 802.11 aggregates.
const linkMSDUs = frame.Link80211 + 1

// referenceInside takes one header off a frame of a link layer with another one inside. It has gopacket read what that has decoders for:
// radiotap, 802.11, LLC and SNAP.
func referenceInside(f frame.Frame) (frame.Frame, frame.Outcome) {
	switch f.Link {
	case frame.LinkFrameRelay:
		return referenceFrameRelay(f)
	case frame.LinkInfiniBand:
		return referenceInfiniBand(f)
	case frame.LinkNFLOG:
		return referenceNFLOG(f)
	case frame.LinkPPI:
		return referencePPI(f)
	case frame.LinkRadiotap:
		return referenceRadiotap(f)
	case frame.LinkPrism:
		if length, d := 144, f.Data; len(d) >= 8 {
			if d[0] == 0x80 && d[1] == 0x21 && d[2] == 0x10 && d[3] < 0x10 {
				length = int(binary.BigEndian.Uint32(d[4:]))
			}
			if length >= 8 {
				return behind(f, length, all, frame.Link80211, 0)
			}
		}
		return fail(frame.Malformed)
	case frame.Link80211:
		return referenceWireless(f, false)
	}
	if len(f.Data) < 14 {
		return fail(frame.Malformed)
	}
	first, _ := behind(f, 14, int(binary.BigEndian.Uint16(f.Data[12:])), linkMSDUs, 0)
	return referenceLLC(first)
}

// aggregates tells whether f may be several packets.
func aggregates(f frame.Frame) bool {
	outcome := frame.Counted
	for outcome == frame.Counted && f.Link >= frame.LinkFrameRelay && f.Link < linkMSDUs {
		f, outcome = referenceInside(f)
	}
	return f.Link == linkMSDUs
}

func fail(outcome frame.Outcome) (frame.Frame, frame.Outcome) { return frame.Frame{}, outcome }

const all = 1 << 30

// behind gives size bytes behind the first n, or as many as there are.
func behind(f frame.Frame, n, size int, link frame.Link, etherType uint16) (frame.Frame, frame.Outcome) {
	size = min(size, max(f.Wire, len(f.Data))-n)
	if n > len(f.Data) || size < 0 {
		return fail(frame.Malformed)
	}
	f.Data = f.Data[n:]
	if len(f.Data) > size {
		f.Data = f.Data[:size]
	}
	f.Link, f.EtherType, f.Wire = link, etherType, size
	return f, frame.Counted
}

// without takes the last n bytes off.
func without(n int, f frame.Frame) (frame.Frame, frame.Outcome) {
	return behind(f, 0, max(f.Wire, len(f.Data))-n, f.Link, f.EtherType)
}

func referenceFrameRelay(f frame.Frame) (frame.Frame, frame.Outcome) {
	n := slices.IndexFunc(f.Data, func(b byte) bool { return b%2 == 1 }) + 1
	if n < 2 || n > 4 || len(f.Data) < n+2 {
		return fail(frame.Malformed)
	}
	switch d := f.Data[n:]; {
	case d[0] != 3 && n == 2 && f.Data[0] < 4 && f.Data[1] < 16:
		return fail(frame.NonIP)
	case d[0] != 3:
		return behind(f, n+2, all, frame.LinkNone, binary.BigEndian.Uint16(d))
	case d[1] == 0 && len(d) == 2:
		return fail(frame.Malformed)
	case d[1] == 0:
		n++
	}
	switch f.Data[n+1] {
	case 0xcc:
		return behind(f, n+2, all, frame.LinkIPv4, 0)
	case 0x8e:
		return behind(f, n+2, all, frame.LinkIPv6, 0)
	case 0xcf:
		return behind(f, n+2, all, frame.LinkPPP, 0)
	case 0x80:
		snap, _ := behind(f, n+2, all, frame.LinkFrameRelay, 0)
		return referenceSNAP(snap)
	}
	return fail(frame.NonIP)
}

func referenceLLC(f frame.Frame) (frame.Frame, frame.Outcome) {
	if len(f.Data) < 3 {
		return fail(frame.Malformed)
	}
	layer, _ := decodeOne(layers.LayerTypeLLC, f.Data)
	llc, ok := layer.(*layers.LLC)
	if !ok || llc.DSAP != 0xaa || llc.SSAP != 0xaa || llc.IG || llc.CR || llc.Control != 3 || len(llc.Contents) != 3 {
		return fail(frame.NonIP)
	}
	snap, _ := behind(f, len(llc.Contents), all, f.Link, 0)
	return referenceSNAP(snap)
}

func referenceSNAP(f frame.Frame) (frame.Frame, frame.Outcome) {
	layer, _ := decodeOne(layers.LayerTypeSNAP, f.Data)
	snap, ok := layer.(*layers.SNAP)
	if !ok {
		return fail(frame.Malformed)
	}
	inner, _ := behind(f, len(snap.Contents), all, frame.LinkNone, uint16(snap.Type))
	switch string(snap.OrganizationalCode) {
	case "\x00\x00\x00", "\x00\x00\xf8":
		return inner, frame.Counted
	case "\x00\x80\xc2":
		if inner.Link = frame.LinkEthernet; inner.EtherType == 7 {
			return inner, frame.Counted
		}
		if inner.EtherType == 1 {
			return without(4, inner)
		}
	}
	return fail(frame.NonIP)
}

func referenceInfiniBand(f frame.Frame) (frame.Frame, frame.Outcome) {
	d := f.Data
	if len(d) < 8 {
		return fail(frame.Malformed)
	}
	length := int(d[4]&7)<<10 | int(d[5])<<2
	n := map[byte]int{1: 8, 2: 8 + 12, 3: 8 + 40 + 12}[d[1]%4]
	switch {
	case n == 0:
		return fail(frame.NonIP)
	case n == 8:
		return behind(f, 8, length-8, frame.LinkIPv6, 0)
	case len(d) < n:
		return fail(frame.Malformed)
	}
	more, ok := map[byte]int{0x00: 0, 0x04: 0, 0x05: 4, 0x20: 0, 0x24: 0, 0x25: 4, 0x60: 8, 0x64: 8, 0x65: 12}[d[n-12]]
	if !ok {
		return fail(frame.NonIP)
	}
	padding := int(d[n-11] & 0x30 >> 4)
	if n += more + 4; len(d) < n {
		return fail(frame.Malformed)
	}
	if binary.BigEndian.Uint16(d[n-2:]) != 0 {
		return fail(frame.NonIP)
	}
	return behind(f, n, length-n-padding-4, frame.LinkNone, binary.BigEndian.Uint16(d[n-4:]))
}

func referenceNFLOG(f frame.Frame) (frame.Frame, frame.Outcome) {
	d := f.Data
	if len(d) < 4 || d[1] != 0 {
		return fail(frame.Malformed)
	}
	big := len(d) >= 8 && d[7]&0x3f != 0
	u16 := func(at int) int {
		if big {
			return int(d[at])<<8 | int(d[at+1])
		}
		return int(d[at+1])<<8 | int(d[at])
	}
	etherType := map[byte]uint16{2: 0x0800, 10: 0x86dd}[d[0]]
	for at := 4; at+4 <= len(d); {
		size, kind := u16(at), u16(at+2)&0x3fff
		if size < 4 {
			break
		}
		if kind == 9 {
			packet, outcome := behind(f, at+4, size-4, frame.LinkNone, etherType)
			if h := packet.Data; d[0] == 2 && len(h) >= 20 {
				packet.Wire = max(packet.Wire, int(h[2])<<8|int(h[3]))
			} else if d[0] == 10 && len(h) >= 40 {
				packet.Wire = max(packet.Wire, 40+(int(h[4])<<8|int(h[5])))
			}
			return packet, outcome
		}
		if kind == 1 && etherType == 0 && size >= 6 && at+6 <= len(d) {
			etherType = binary.BigEndian.Uint16(d[at+4:])
		}
		at += (size + 3) / 4 * 4
	}
	return fail(frame.Malformed)
}

func referencePPI(f frame.Frame) (frame.Frame, frame.Outcome) {
	d := f.Data
	if len(d) < 8 || d[0] != 0 {
		return fail(frame.Malformed)
	}
	size, link := int(binary.LittleEndian.Uint16(d[2:])), frame.LinkOfType(frame.PPIType(d))
	if size < 8 || link == frame.LinkPPI {
		return fail(frame.Malformed)
	}
	inner, outcome := behind(f, size, all, link, 0)
	if outcome != frame.Counted || link != frame.Link80211 {
		return inner, outcome
	}
	for fields := d[8:size]; len(fields) >= 4; {
		n := int(binary.LittleEndian.Uint16(fields[2:]))
		if binary.LittleEndian.Uint16(fields) == 2 && n >= 10 && len(fields) >= 14 && fields[12]%2 == 1 {
			return without(4, inner)
		}
		if d[1]%2 == 1 {
			n += -n & 3
		}
		fields = fields[min(4+n, len(fields)):]
	}
	return inner, outcome
}

func referenceRadiotap(f frame.Frame) (frame.Frame, frame.Outcome) {
	d := f.Data
	if len(d) < 8 || d[0] != 0 {
		return fail(frame.Malformed)
	}
	length := int(binary.LittleEndian.Uint16(d[2:]))
	if length < 8 || length > len(d) {
		return fail(frame.Malformed)
	}
	// No other field than the flags matters. gopacket removes the padding itself, and panics without a frame to do so.
	header := frametest.With(d[:length], 4, d[4]&3, 0, 0, d[7]&0x80)
	if d[4]&2 == 0 {
		header[4] = 0
	}
	var tap layers.RadioTap
	err := catch(func() error { return tap.DecodeFromBytes(slices.Clip(header), gopacket.NilDecodeFeedback) })
	if cutShort := (runtime.Error)(nil); errors.As(err, &cutShort) && !tap.Flags.Datapad() {
		return fail(frame.Malformed)
	}
	inner, outcome := behind(f, length, all, frame.Link80211, 0)
	if outcome == frame.Counted && tap.Flags.FCS() {
		inner, outcome = without(4, inner)
	}
	if outcome != frame.Counted {
		return fail(outcome)
	}
	return referenceWireless(inner, tap.Flags.Datapad())
}

func referenceWireless(f frame.Frame, padded bool) (frame.Frame, frame.Outcome) {
	if len(f.Data) < 2 {
		return fail(frame.Malformed)
	}
	// gopacket wants more bytes, and a frame check sequence.
	var header layers.Dot11
	long := append(slices.Clone(f.Data), make([]byte, 50)...)
	_ = catch(func() error { return header.DecodeFromBytes(long, gopacket.NilDecodeFeedback) })
	noData := f.Data[0]&0x40 != 0
	if header.Proto != 0 || header.Type.MainType() != layers.Dot11TypeData || noData || header.Flags.WEP() {
		return fail(frame.NonIP)
	}
	n := len(header.Contents)
	if len(f.Data) < n {
		return fail(frame.Malformed)
	}
	if header.FragmentNumber != 0 {
		return fail(frame.NonIP)
	}
	aggregated := false
	if header.QOS != nil {
		control := 24
		if header.Address4 != nil {
			control = 30
		}
		aggregated = f.Data[control] >= 0x80
	}
	if padded {
		n += -n & 3
	}
	body, outcome := behind(f, n, all, linkMSDUs, 0)
	if outcome != frame.Counted || aggregated {
		return body, outcome
	}
	return referenceLLC(body)
}
