package replay

import (
	"encoding/binary"
	"fmt"

	"promflow/capture/frame"
)

const (
	pcapHeaderLen       = 24 // of a file
	pcapPacketLen       = 16 // of a packet: seconds, fraction, captured length, original length
	pcapKuznetzovLen    = 24 // the same, and then interface, protocol and packet type
	pcapMagic           = 0xa1b2c3d4
	pcapMagicNano       = 0xa1b23c4d // time stamps are in nanoseconds
	pcapMagicKuznetzov  = 0xa1b2cd34
	pcapLinkType        = 0x03ffffff // the bits above tell of frame check sequences
	pcapVersionDGUX     = 543
	pcapVersionMajor    = 2
	pcapVersionMinorMax = 4
)

// pcap reads a file of one link type.
type pcap struct {
	order     binary.ByteOrder
	headerLen int // of a packet
	linkType  uint32
	link      frame.Link

	// Before version 2.3 the original length is before the captured length. Files of version 2.3 may have either order: if the captured length
	// is greater than the original one, they are swapped (libpcap, sf-pcap.c).
	swapped, maybeSwapped bool
}

// pcapMagicOf returns the magic number at the start of h, and the byte order of the file.
func pcapMagicOf(h []byte) (magic uint32, order binary.ByteOrder, ok bool) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch magic := order.Uint32(h); magic {
		case pcapMagic, pcapMagicNano, pcapMagicKuznetzov:
			return magic, order, true
		}
	}
	return 0, nil, false
}

func isPcap(h []byte) bool {
	_, _, ok := pcapMagicOf(h)
	return ok
}

// newPcap reads a file header, which must begin with a magic number. It ignores time zone, accuracy and snap length.
func newPcap(h []byte) (*pcap, error) {
	magic, order, _ := pcapMagicOf(h)
	major, minor := order.Uint16(h[4:]), order.Uint16(h[6:])
	if !(major == pcapVersionMajor && minor <= pcapVersionMinorMax || major == pcapVersionDGUX && minor == 0) {
		return nil, fmt.Errorf("has pcap version %d.%d, which is not supported", major, minor)
	}
	linkType := order.Uint32(h[20:]) & pcapLinkType
	p := &pcap{
		order: order, headerLen: pcapPacketLen, linkType: linkType, link: frame.LinkOfType(linkType),
		swapped:      major == pcapVersionDGUX || minor < 3,
		maybeSwapped: major == pcapVersionMajor && minor == 3,
	}
	if magic == pcapMagicKuznetzov {
		p.headerLen = pcapKuznetzovLen
	}
	return p, nil
}

func (p *pcap) unit() string { return "packet" }

func (p *pcap) next(b []byte, r *record) (int64, error) {
	if len(b) < p.headerLen {
		return int64(p.headerLen), nil
	}
	captured, original := p.order.Uint32(b[8:]), p.order.Uint32(b[12:])
	if p.swapped || p.maybeSwapped && captured > original {
		captured, original = original, captured
	}
	return int64(p.headerLen) + int64(captured), r.setPacket(p.linkType, p.link, b[p.headerLen:], captured, original)
}
