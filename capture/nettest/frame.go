package nettest

import (
	"encoding/binary"
	"net/netip"
)

// HeaderSize is that of Ethernet: bytes of a frame that are not counted.
const HeaderSize = 14

// Offsets in frames of UDP.
const (
	checksumOffset = HeaderSize + 10
	sourceOffset4  = HeaderSize + 12
	udpOffset4     = HeaderSize + 20
	sourceOffset6  = HeaderSize + 8
	udpOffset6     = HeaderSize + 40
)

// UDP is an Ethernet frame with a UDP packet of size network-layer bytes. Both addresses are of one version of IP.
func UDP(src, dst netip.Addr, size int) []byte { return AppendUDP(nil, src, dst, size) }

// AppendUDP appends the frame of UDP. It goes to a MAC address that nobody has: as on a mirror port, the machine has no use for it after
// capture. The UDP packet, between the ports of discard, has no checksum.
func AppendUDP(b []byte, src, dst netip.Addr, size int) []byte {
	at := len(b)
	b = append(b, make([]byte, max(60, HeaderSize+size))...) // 60 is Ethernet's minimum
	frame := b[at:]
	copy(frame, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01")
	udp := frame[udpOffset6:]
	if src.Is4() {
		udp = frame[udpOffset4:]
		copy(frame[12:], "\x08\x00\x45\x00\x00\x00\x00\x00\x00\x00\x40\x11")
		binary.BigEndian.PutUint16(frame[HeaderSize+2:], uint16(size))
		src, dst := src.As4(), dst.As4()
		copy(frame[sourceOffset4:], src[:])
		copy(frame[sourceOffset4+4:], dst[:])
		var sum uint32
		for at := HeaderSize; at < udpOffset4; at += 2 {
			sum += uint32(binary.BigEndian.Uint16(frame[at:]))
		}
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(frame[checksumOffset:], ^uint16(sum>>16+sum))
		size -= 20
	} else {
		size -= 40
		copy(frame[12:], "\x86\xdd\x60\x00\x00\x00\x00\x00\x11\x40")
		binary.BigEndian.PutUint16(frame[HeaderSize+4:], uint16(size))
		src, dst := src.As16(), dst.As16()
		copy(frame[sourceOffset6:], src[:])
		copy(frame[sourceOffset6+16:], dst[:])
	}
	copy(udp, "\x00\x09\x00\x09")
	binary.BigEndian.PutUint16(udp[4:], uint16(size))
	return b
}
