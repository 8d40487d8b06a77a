package frame_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
)

// FuzzDecode compares with what gopacket makes of the same bytes, has captures end early, goes on to aggregated packets, takes a tag out,
// and holds merged frames to their bounds.
func FuzzDecode(f *testing.F) {
	for _, c := range slices.Concat(frametest.DecodeCases(f), frametest.SegmentCases(f)) {
		s := c.In.Segments
		f.Add(uint8(c.In.Link), c.In.EtherType, c.In.Wire, s.Size, s.UDP, s.Transport, c.In.Data[:min(len(c.In.Data), 200)])
	}
	f.Fuzz(func(t *testing.T, link uint8, etherType uint16, wire, size int, udp bool, transport int, data []byte) {
		data = data[:min(len(data), 60_000)] // gopacket keeps lengths in 16 bits
		in := frame.Frame{Link: frame.Link(link % 32), EtherType: etherType, Data: data, Wire: int(int32(wire))}
		whole := decode(in)
		if want := reference(in); whole != want {
			t.Errorf("got %+v, gopacket says %+v", whole, want)
		}
		if n, got := countsOtherwiseWhenCut(in, whole); n >= 0 {
			t.Errorf("with %d of %d bytes captured: got %+v, want %+v or malformed", n, len(data), got, whole)
		}
		// Together, packets that are aggregated have no more than their frame.
		bytes, held := whole.Bytes, int64(max(in.Wire, len(data)))
		for next := in; next.Next(); {
			got := decode(next)
			if want := reference(next); got != want {
				t.Errorf("next: got %+v, gopacket says %+v", got, want)
			}
			if bytes += got.Bytes; bytes > held {
				t.Errorf("%d bytes in a frame of %d", bytes, held)
			}
		}
		// A tag that was taken out is the outermost, and all that it changes is the VLAN.
		tagged, want := in, whole
		tagged.Tagged, tagged.Tag = true, ^uint16(size) // most seeds have no size: all bits are set
		if whole.Outcome == frame.Counted {
			want.VLAN = tagged.Tag & 0xfff
		}
		if got := decode(tagged); got != want {
			t.Errorf("with tag %#x taken out: got %+v, want %+v", tagged.Tag, got, want)
		}
		in.Segments = frame.Segments{Size: size, UDP: udp, Transport: transport}
		if why := outOfBounds(in, decode(in)); why != "" {
			t.Error(why)
		}
	})
}

// reference decodes a frame with gopacket, where that has a decoder for its link layer, or for what is inside.
func reference(f frame.Frame) frame.Packet {
	p := frame.Packet{Bytes: int64(max(f.Wire, len(f.Data))), Packets: 1}
	for f.Link >= frame.LinkFrameRelay && f.Link <= linkMSDUs {
		if f.Link == linkMSDUs { // each is a packet
			p.Bytes = int64(max(f.Wire, len(f.Data)))
			if len(f.Data) >= 14 {
				p.Bytes = min(p.Bytes, 14+int64(binary.BigEndian.Uint16(f.Data[12:])))
			}
		}
		if f, p.Outcome = referenceInside(f); p.Outcome != frame.Counted {
			return p
		}
	}
	inner := referenceOutermost(f)
	if inner.Outcome != frame.Counted {
		inner.Bytes = p.Bytes
	}
	return inner
}

// referenceOutermost decodes a frame with gopacket, one layer at a time up to the first IP header. Where gopacket follows other
// rules than the documentation of package frame, a comment says so.
func referenceOutermost(f frame.Frame) frame.Packet {
	p := frame.Packet{Bytes: int64(max(f.Wire, len(f.Data))), Packets: 1}
	end := func(outcome frame.Outcome) frame.Packet {
		p.Outcome = outcome
		return p
	}
	data, uncaptured, padding := f.Data, p.Bytes-int64(len(f.Data)), int64(0)
	next := start(f.Link, f.EtherType, &data)
	inPPPoE, headers, labels := false, 0, 0
	tagged, vlan := false, uint16(0) // of the first tag
	mayBeLength := f.Link == frame.LinkEthernet
	behindTags := func(p frame.Packet) frame.Packet {
		if p.Outcome == frame.Counted {
			p.VLAN = vlan
		}
		return p
	}
	for {
		if length, ok := next.(layers.EthernetType); ok && length <= 1500 {
			cooked := !mayBeLength && length == 4 && (f.Link == frame.LinkSLL || f.Link == frame.LinkSLL2)
			switch {
			case mayBeLength:
				padding = max(padding, int64(len(data))+uncaptured-int64(length))
				if headers++; headers > frame.MaxTags {
					return end(frame.Malformed)
				}
			case !cooked:
				return end(frame.NonIP)
			}
			inner, outcome := referenceLLC(frame.Frame{Data: data})
			if outcome == frame.Counted && (inner.Link != frame.LinkNone || inner.EtherType <= 1500) {
				outcome = frame.NonIP
			}
			if outcome != frame.Counted {
				return end(outcome)
			}
			next, data = layers.EthernetType(inner.EtherType), inner.Data
		}
		mayBeLength = true
		switch next {
		case layers.EthernetTypeIPv4, layers.PPPTypeIPv4, layers.ProtocolFamilyIPv4:
			return behindTags(referenceIPv4(p, data, uncaptured, padding))
		case layers.EthernetTypeIPv6, layers.PPPTypeIPv6, layers.ProtocolFamilyIPv6BSD, layers.ProtocolFamilyIPv6FreeBSD,
			layers.ProtocolFamilyIPv6Darwin, layers.ProtocolFamilyIPv6Linux:
			return behindTags(referenceIPv6(p, data, uncaptured, padding))
		case nil:
			return end(frame.Malformed)
		case layers.LayerTypeEthernet, layers.LayerTypeLinuxSLL, layers.LayerTypeLoopback, layers.LayerTypePPP,
			layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ, layers.EthernetTypeMPLSUnicast, layers.EthernetTypeMPLSMulticast,
			layers.PPPTypeMPLSUnicast, layers.PPPTypeMPLSMulticast, layers.PPPoECodeSession:
		case frametest.OldQinQ:
			next = layers.EthernetTypeDot1Q // gopacket does not know this number for the same tag
		case frametest.VNTag, frametest.ITag: // gopacket has neither
			size := map[gopacket.Decoder]int{frametest.VNTag: 6, frametest.ITag: 4}[next]
			if headers++; headers > frame.MaxTags || len(data) < size {
				return end(frame.Malformed)
			}
			if next == frametest.ITag {
				next = layers.LayerTypeEthernet
			} else {
				next = layers.EthernetType(binary.BigEndian.Uint16(data[4:]))
			}
			data = data[size:]
			continue
		case layers.EthernetTypePPPoESession:
			// gopacket cuts off what is behind PPPoE's own length.
			if len(data) >= 6 {
				data = slices.Clone(data)
				binary.BigEndian.PutUint16(data[4:], uint16(len(data)-6))
			}
		default:
			return end(frame.NonIP) // gopacket follows some more
		}

		layer, err := decodeOne(next, data)
		var cutShort runtime.Error
		switch l := layer.(type) {
		case *layers.Ethernet:
			if next, data = l.EthernetType, data[14:]; next == layers.EthernetTypeLLC {
				next = layers.EthernetType(l.Length)
			}
		case *layers.LinuxSLL:
			next, data, mayBeLength = l.EthernetType, l.Payload, false
		case *layers.Loopback:
			next, data = l.Family, l.Payload
		case *layers.Dot1Q:
			next, data = l.Type, l.Payload
			if headers++; headers > frame.MaxTags {
				return end(frame.Malformed)
			}
			if !tagged {
				tagged, vlan = true, l.VLANIdentifier
			}
		case *layers.MPLS:
			next, data = layers.EthernetTypeMPLSUnicast, l.Payload
			if labels++; labels > frame.MaxLabels {
				return end(frame.Malformed)
			}
			if l.StackBottom {
				// gopacket's guess looks at more than the version.
				if next = version(data); next == nil && len(data) > 0 {
					return end(frame.NonIP)
				}
			}
		case *layers.PPPoE:
			// gopacket checks the code only.
			if l.Version != 1 || l.Type != 1 || l.Code != layers.PPPoECodeSession {
				return end(frame.NonIP)
			}
			next, data, inPPPoE = l.Code, l.Payload, true
		case *layers.PPP:
			// RFC 2516 has no framing bytes in PPPoE.
			if next, data = l.PPPType, l.Payload; l.HasPPTPHeader && inPPPoE {
				return end(frame.NonIP)
			}
		case nil:
			// gopacket panics at the end of some headers, and returns an error for numbers that it takes for wrong. A lone
			// 0xff, which is no IP in either case, it takes for framing that is cut short.
			ppp := next == layers.LayerTypePPP || next == layers.PPPoECodeSession
			loopback := next == layers.LayerTypeLoopback && len(data) >= 4
			if ppp && !errors.As(err, &cutShort) || ppp && len(data) == 1 && data[0] == 0xff || loopback {
				return end(frame.NonIP)
			}
			return end(frame.Malformed)
		}
	}
}

// start gives gopacket's decoder for the beginning of data, nil if there is nothing to decode. It does what gopacket has no
// decoder for.
func start(link frame.Link, etherType uint16, data *[]byte) gopacket.Decoder {
	d := *data
	switch link {
	case frame.LinkEthernet:
		return layers.LayerTypeEthernet
	case frame.LinkNone:
		return layers.EthernetType(etherType)
	case frame.LinkRaw:
		return version(d)
	case frame.LinkIPv4:
		return layers.EthernetTypeIPv4
	case frame.LinkIPv6:
		return layers.EthernetTypeIPv6
	case frame.LinkNull, frame.LinkLoop:
		if len(d) < 4 {
			return nil
		}
		if link == frame.LinkLoop && (d[0] != 0 || d[1] != 0) {
			return gopacket.LayerTypeZero // gopacket would guess the byte order here, too
		}
		// gopacket does not know Windows' number for IPv6, nor that some wrote an EtherType.
		for number, family := range map[uint32]layers.ProtocolFamily{
			23: layers.ProtocolFamilyIPv6BSD, 0x0800: layers.ProtocolFamilyIPv4, 0x86dd: layers.ProtocolFamilyIPv6Linux,
		} {
			if number == binary.BigEndian.Uint32(d) || number == binary.LittleEndian.Uint32(d) {
				*data = d[4:]
				return family
			}
		}
		return layers.LayerTypeLoopback
	case frame.LinkPPP:
		return layers.LayerTypePPP
	case frame.LinkPPPDir:
		if len(d) == 0 {
			return nil
		}
		*data = d[1:]
		return layers.LayerTypePPP
	case frame.LinkPPPoE:
		return layers.EthernetTypePPPoESession
	case frame.LinkSLL:
		if len(d) >= 16 { // gopacket panics at a large length of the link-layer address
			*data = frametest.With(d, 4, 0, 6)
		}
		return layers.LayerTypeLinuxSLL
	case frame.LinkSLL2:
		if len(d) < 20 {
			return nil
		}
		*data = d[20:]
		return layers.EthernetType(binary.BigEndian.Uint16(d))
	case frame.LinkCHDLC:
		if len(d) < 4 {
			return nil
		}
		*data = d[4:]
		return layers.EthernetType(binary.BigEndian.Uint16(d[2:]))
	case frame.LinkIPoIB:
		if len(d) < 44 {
			return nil
		}
		*data = d[44:]
		return layers.EthernetType(binary.BigEndian.Uint16(d[40:]))
	}
	return nil
}

// version tells IPv4 from IPv6 by the first nibble. It is nil for anything else.
func version(d []byte) gopacket.Decoder {
	if len(d) > 0 && d[0]>>4 == 4 {
		return layers.EthernetTypeIPv4
	}
	if len(d) > 0 && d[0]>>4 == 6 {
		return layers.EthernetTypeIPv6
	}
	return nil
}

// referenceIPv4 applies the rules to the fields that gopacket read: its own checks also look at what follows the fixed
// header and at what was captured. The frame held uncaptured bytes more than data, and ends with padding.
func referenceIPv4(p frame.Packet, data []byte, uncaptured, padding int64) frame.Packet {
	var ip layers.IPv4
	err := catch(func() error { return ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback) })
	p.Outcome = frame.Malformed
	held := int64(len(data)) + uncaptured - padding
	if len(data) < 20 || held < 20 || ip.Version != 4 || ip.IHL < 5 {
		return p
	}
	total := int64(binary.BigEndian.Uint16(data[2:])) // gopacket replaces a total length of 0
	if total != 0 && total < int64(ip.IHL)*4 {
		return p
	}
	if err == nil && uncaptured == 0 {
		total = int64(len(ip.Contents) + len(ip.Payload)) // its own opinion, where it has one
	}
	p.Protocol = uint8(ip.Protocol)
	return referenceCounted(p, held, ip.SrcIP, ip.DstIP, total)
}

// referenceIPv6 does the same for IPv6.
func referenceIPv6(p frame.Packet, data []byte, uncaptured, padding int64) frame.Packet {
	var ip layers.IPv6
	err := catch(func() error { return ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback) })
	p.Outcome = frame.Malformed
	held := int64(len(data)) + uncaptured - padding
	if len(data) < 40 || held < 40 || ip.Version != 6 {
		return p
	}
	total := int64(0)
	if ip.Length != 0 {
		total = 40 + int64(ip.Length)
	}
	if err == nil && uncaptured == 0 && ip.HopByHop == nil { // it takes hop-by-hop headers off
		total = int64(len(ip.Contents) + len(ip.Payload))
	}
	p.Protocol = referenceProtocol(ip.NextHeader, data[40:], 8)
	return referenceCounted(p, held, ip.SrcIP, ip.DstIP, total)
}

// referenceProtocol gives the protocol of data that begins with a header of kind next, and may have up to most extension
// headers. gopacket also looks at their options, and at all of their length.
func referenceProtocol(next layers.IPProtocol, data []byte, most int) uint8 {
	switch next {
	case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Fragment,
		layers.IPProtocolIPv6Destination:
	default:
		return uint8(next)
	}
	if most == 0 || len(data) < 8 {
		return frame.NoProtocol
	}
	if next == layers.IPProtocolIPv6Fragment {
		layer, _ := decodeOne(next, data)
		header := layer.(*layers.IPv6Fragment)
		if header.FragmentOffset > 0 {
			return uint8(header.NextHeader)
		}
		return referenceProtocol(header.NextHeader, header.Payload, most-1)
	}
	length := min(len(data), 8+8*int(data[1]))
	return referenceProtocol(layers.IPProtocol(data[0]), data[length:], most-1)
}

// referenceCounted completes a packet that claims total bytes, 0 for all that there is.
func referenceCounted(p frame.Packet, held int64, source, destination []byte, total int64) frame.Packet {
	if total == 0 || total > held {
		total = held
	}
	p.Source, _ = netip.AddrFromSlice(source)
	p.Destination, _ = netip.AddrFromSlice(destination)
	p.Bytes, p.Outcome = total, frame.Counted
	return p
}

// decodeOne decodes one layer. A panic of gopacket is an error.
func decodeOne(decoder gopacket.Decoder, data []byte) (gopacket.Layer, error) {
	var b builder
	err := catch(func() error { return decoder.Decode(slices.Clip(data), &b) })
	return b.layer, err
}

func catch(do func() error) (err error) {
	defer func() {
		if e, ok := recover().(error); ok {
			err = e
		}
	}()
	return do()
}

// builder is a [gopacket.PacketBuilder] that keeps one layer and does not go on to the next.
type builder struct{ layer gopacket.Layer }

func (b *builder) AddLayer(l gopacket.Layer)                     { b.layer = l }
func (b *builder) NextDecoder(gopacket.Decoder) error            { return nil }
func (b *builder) SetTruncated()                                 {}
func (b *builder) SetLinkLayer(gopacket.LinkLayer)               {}
func (b *builder) SetNetworkLayer(gopacket.NetworkLayer)         {}
func (b *builder) SetTransportLayer(gopacket.TransportLayer)     {}
func (b *builder) SetApplicationLayer(gopacket.ApplicationLayer) {}
func (b *builder) SetErrorLayer(gopacket.ErrorLayer)             {}
func (b *builder) DumpPacketData()                               {}
func (b *builder) DecodeOptions() *gopacket.DecodeOptions        { return &gopacket.DecodeOptions{} }
