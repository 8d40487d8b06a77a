package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"promflow/capture/frame"
)

// Types of blocks (draft-ietf-opsawg-pcapng, section 4).
const (
	blockSection   = 0x0a0d0d0a // reads the same in both byte orders
	blockInterface = 1
	blockOldPacket = 2
	blockSimple    = 3
	blockEnhanced  = 6

	optionEnd           = 0
	optionInterfaceName = 2
)

const (
	blockHeaderLen  = 8          // type and length of the block
	blockTrailerLen = 4          // the length again
	pcapngByteOrder = 0x1a2b3c4d // in the byte order of its section
	pcapngMajor     = 1
	maxInterfaces   = 1 << 16 // of a section
	sectionLen      = 16      // byte order, version, section length
	interfaceLen    = 8       // link type, reserved, snap length
	packetHeaderLen = 20      // interface, time, captured length, original length
	simpleHeaderLen = 4       // original length
)

// pcapng reads a file of sections.
type pcapng struct {
	order      binary.ByteOrder
	interfaces []pcapngInterface // of the section
	told       []*Interface      // the first ones
}

type pcapngInterface struct {
	linkType uint32
	link     frame.Link
	snapLen  uint32 // 0 for none
}

// Interfaces that packets are told by: a file may have any number of them, and names of any length.
const (
	maxTold          = 1024
	maxInterfaceName = 127 // bytes, as on Linux
)

func isPcapng(h []byte) bool { return binary.LittleEndian.Uint32(h) == blockSection }

func (p *pcapng) unit() string { return "block" }

func (p *pcapng) next(b []byte, r *record) (int64, error) {
	if len(b) < blockHeaderLen+blockTrailerLen { // the shortest block, or a section up to its byte order
		return blockHeaderLen + blockTrailerLen, nil
	}
	kind := p.order.Uint32(b)
	if kind == blockSection {
		p.order = binary.LittleEndian
		if binary.BigEndian.Uint32(b[8:]) == pcapngByteOrder {
			p.order = binary.BigEndian
		}
		if p.order.Uint32(b[8:]) != pcapngByteOrder {
			return 0, errors.New("has no valid byte order")
		}
	}
	size := p.order.Uint32(b[4:])
	if size < blockHeaderLen+blockTrailerLen || size%4 != 0 {
		return 0, fmt.Errorf("claims a length of %d bytes; blocks have 12 or more, in multiples of 4", size)
	}
	if len(b) < int(min(size, bufferSize)) {
		return int64(size), nil
	}
	// The end of a block that is longer than the buffer is not checked. If its length is wrong, no valid block follows.
	body := b[blockHeaderLen:]
	if int64(size) <= int64(len(b)) {
		body = b[blockHeaderLen : size-blockTrailerLen]
		if again := p.order.Uint32(b[size-blockTrailerLen:]); again != size {
			return 0, fmt.Errorf("claims a length of %d at its start and of %d at its end", size, again)
		}
	}
	r.isPacket = false
	return int64(size), p.block(kind, body, size-blockHeaderLen-blockTrailerLen, r)
}

// block reads a block. Its body has size bytes, of which b has those that fit in the buffer.
func (p *pcapng) block(kind uint32, b []byte, size uint32, r *record) error {
	switch kind {
	case blockSection:
		if len(b) < sectionLen {
			return errTooShort
		}
		// Some tools write 1.2, which the draft wants readers to take as 1.0.
		if major, minor := p.order.Uint16(b[4:]), p.order.Uint16(b[6:]); major != pcapngMajor || minor != 0 && minor != 2 {
			return fmt.Errorf("has pcapng version %d.%d, which is not supported", major, minor)
		}
		p.interfaces, p.told = p.interfaces[:0], nil
	case blockInterface:
		if len(b) < interfaceLen {
			return errTooShort
		}
		if len(p.interfaces) == maxInterfaces {
			return fmt.Errorf("describes more than %d interfaces, which is not supported", maxInterfaces)
		}
		linkType := uint32(p.order.Uint16(b))
		p.interfaces = append(p.interfaces, pcapngInterface{linkType, frame.LinkOfType(linkType), p.order.Uint32(b[4:])})
		if at := len(p.told); at < maxTold {
			p.told = append(p.told, &Interface{at, p.nameIn(b[interfaceLen:])})
		}
	case blockEnhanced, blockOldPacket:
		if len(b) < packetHeaderLen {
			return errTooShort
		}
		id := p.order.Uint32(b)
		if kind == blockOldPacket { // a count of drops follows
			id = uint32(p.order.Uint16(b))
		}
		captured, original := p.order.Uint32(b[12:]), p.order.Uint32(b[16:])
		if captured > size-packetHeaderLen {
			return fmt.Errorf("claims %d captured bytes, but has %d", captured, size-packetHeaderLen)
		}
		return p.packet(id, b[packetHeaderLen:], captured, original, r)
	case blockSimple:
		if len(b) < simpleHeaderLen {
			return errTooShort
		}
		original := p.order.Uint32(b)
		captured := min(original, size-simpleHeaderLen)
		if len(p.interfaces) > 0 && p.interfaces[0].snapLen > 0 {
			captured = min(captured, p.interfaces[0].snapLen)
		}
		return p.packet(0, b[simpleHeaderLen:], captured, original, r)
	}
	return nil
}

func (p *pcapng) packet(id uint32, data []byte, captured, original uint32, r *record) error {
	if int64(id) >= int64(len(p.interfaces)) {
		return fmt.Errorf("names interface %d, which its section has not described", id)
	}
	in := &p.interfaces[id]
	err := r.setPacket(in.linkType, in.link, data, captured, original)
	if int(id) < len(p.told) {
		r.on = p.told[id]
	}
	return err
}

// nameIn returns the name of an interface from its options, empty if there is none (draft-ietf-opsawg-pcapng, sections 3.5 and 4.2).
func (p *pcapng) nameIn(options []byte) string {
	for len(options) >= 4 {
		code, size := p.order.Uint16(options), int(p.order.Uint16(options[2:]))
		options = options[4:]
		if code == optionEnd || size > len(options) {
			return ""
		}
		if code == optionInterfaceName && size <= maxInterfaceName {
			return string(bytes.TrimRight(options[:size], "\x00"))
		}
		options = options[min(len(options), (size+3)&^3):]
	}
	return ""
}

var errTooShort = errors.New("is too short for its type")
