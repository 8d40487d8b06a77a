package frame

import "encoding/binary"

// Every frame of Ethernet and 802.11 ends with a frame check sequence of so many bytes. Only some captures have it.
const fcsLen = 4

// Frame control of 802.11 (IEEE 802.11, clause 9.2.4.1): version, type and subtype in the first byte, flags in the second.
const (
	wirelessKind      = 0x0f // version and type
	wirelessData      = 0x08
	wirelessNoData    = 0x40 // of the subtype
	wirelessQoS       = 0x80 // of the subtype
	wirelessDirection = 0x03 // to and from the distribution system: there are four addresses if both are set
	wirelessProtected = 0x40
	wirelessOrder     = 0x80 // with QoS: there is an HT control field

	aggregated = 0x80 // of QoS control
)

// wireless reads a header of 802.11, which may be padded to four bytes. Only data that is not encrypted can be IP, and only the first
// fragment begins with an LLC header.
func (f *Frame) wireless(padded bool) Outcome {
	d := f.Data
	if len(d) < 2 {
		return Malformed
	}
	if d[0]&wirelessKind != wirelessData || d[0]&wirelessNoData != 0 || d[1]&wirelessProtected != 0 {
		return NonIP
	}
	off := 24
	if d[1]&wirelessDirection == wirelessDirection {
		off += 6
	}
	qos := off
	if d[0]&wirelessQoS != 0 {
		off += 2
		if d[1]&wirelessOrder != 0 {
			off += 4
		}
	}
	if len(d) < off {
		return Malformed
	}
	if fragment := d[22] & 0xf; fragment != 0 {
		return NonIP
	}
	aggregated := d[0]&wirelessQoS != 0 && d[qos]&aggregated != 0
	if padded {
		off = (off + 3) &^ 3
	}
	if aggregated {
		return f.part(off, f.wire(), linkMSDUs, 0)
	}
	return f.llc(off)
}

// llc reads headers of LLC and SNAP at off.
func (f *Frame) llc(off int) Outcome {
	if outcome := llc(f.Data, off); outcome != Counted {
		return outcome
	}
	return f.snap(off + llcLen)
}

// msduHeader is the length of the header of an aggregated packet: destination, source, length (IEEE 802.11, clause 9.3.2.2).
const msduHeader = 14

// msdu reads the first of the packets that a frame of 802.11 aggregates.
func (f *Frame) msdu() Outcome {
	if outcome := f.part(msduHeader, f.msduLen(), LinkNone, 0); outcome != Counted {
		return outcome
	}
	return f.llc(0)
}

// msduLen is the length of the first aggregated packet with its header, or of all of them if that was not captured.
func (f *Frame) msduLen() int {
	if len(f.Data) < msduHeader {
		return f.wire()
	}
	return msduHeader + int(binary.BigEndian.Uint16(f.Data[msduHeader-2:]))
}

// Next makes f its next packet, and returns false if there is none: a frame of 802.11 may aggregate several (an A-MSDU). Every other frame
// is one packet.
func (f *Frame) Next() bool { return f.Link >= firstInside && f.next() }

func (f *Frame) next() bool {
	at := *f
	for at.Link != linkMSDUs {
		if at.peel() != Counted || at.Link < firstInside {
			return false
		}
	}
	size := (at.msduLen() + 3) &^ 3 // all but the last are padded to four bytes
	if at.Wire = at.wire() - size; at.Wire < msduHeader {
		return false
	}
	at.Data = at.Data[min(size, len(at.Data)):]
	*f = at
	return true
}

// radiotap reads a header that tells of the frame of 802.11 behind it whether it has its frame check sequence, and padding behind its
// header. Of the fields that a bitmap announces, the flags are the first but for the time (https://www.radiotap.org).
func (f *Frame) radiotap() Outcome {
	const (
		hasTime, hasFlags, hasMore = 1 << 0, 1 << 1, 1 << 31 // of the bitmap; another one follows
		withFCS, padded            = 0x10, 0x20              // of the flags
	)
	d := f.Data
	if len(d) < 8 || d[0] != 0 {
		return Malformed
	}
	size := int(binary.LittleEndian.Uint16(d[2:]))
	if size < 8 || size > len(d) {
		return Malformed
	}
	fields, at := binary.LittleEndian.Uint32(d[4:]), 8
	for more := fields; more&hasMore != 0; at += 4 {
		if at+4 > size {
			return Malformed
		}
		more = binary.LittleEndian.Uint32(d[at:])
	}
	var flags byte
	if fields&hasFlags != 0 {
		if fields&hasTime != 0 {
			at = (at+7)&^7 + 8
		}
		if at >= size {
			return Malformed
		}
		flags = d[at]
	}
	end := f.wire()
	if flags&withFCS != 0 {
		end -= fcsLen
	}
	if outcome := f.part(size, end, Link80211, 0); outcome != Counted {
		return outcome
	}
	return f.wireless(flags&padded != 0)
}

// prism reads a header of Prism, which is always as long, or one of AVS, which begins otherwise and has its length
// (https://www.tcpdump.org/linktypes.html).
func (f *Frame) prism() Outcome {
	const prismLen, avs = 144, 0x80211000
	d := f.Data
	if len(d) < 8 {
		return Malformed
	}
	size := prismLen
	if binary.BigEndian.Uint32(d)&^0xf == avs {
		if size = int(min(binary.BigEndian.Uint32(d[4:]), uint32(len(d)+1))); size < 8 {
			return Malformed
		}
	}
	return f.part(size, f.wire(), Link80211, 0)
}
