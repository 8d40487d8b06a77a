package bpf

import (
	"encoding/binary"
	"errors"

	"promflow/capture"
	"promflow/capture/frame"
)

// layout is how a system lays out records. A record is a header (struct bpf_hdr), padding, and the captured bytes of a frame. The header is
// a time stamp, whose size differs, and three fields without a gap in the byte order of the machine: the captured length and the frame's
// length (4 bytes each), and the length of header and padding (2 bytes).
type layout struct {
	captured  int // offset of the first of the three fields
	alignment int // of records, a power of 2 (BPF_ALIGNMENT)
}

const fieldsLen = 4 + 4 + 2

var errRecord = errors.New("the kernel's record of a packet is malformed")

// next returns of the record at the start of b the captured bytes and the length of the frame, and the rest of b. It allocates nothing.
func (l layout) next(b []byte) (data []byte, wire int, rest []byte, err error) {
	if len(b) < l.captured+fieldsLen {
		return nil, 0, nil, errRecord
	}
	fields := b[l.captured:][:fieldsLen]
	captured, header := binary.NativeEndian.Uint32(fields), int(binary.NativeEndian.Uint16(fields[8:]))
	if header < l.captured+fieldsLen || header > len(b) || uint64(captured) > uint64(len(b)-header) {
		return nil, 0, nil, errRecord
	}
	end := header + int(captured)
	aligned := (end + l.alignment - 1) &^ (l.alignment - 1)
	return b[header:end], int(binary.NativeEndian.Uint32(fields[4:])), b[min(aligned, len(b)):], nil // the last record is not padded
}

// count counts the packets of all records in b, whose frames have one link layer. It allocates only for an address that is new to the
// table.
func (l layout) count(b []byte, link frame.Link, c *capture.Counter) error {
	f, p := frame.Frame{Link: link}, frame.Packet{}
	c.Lock()
	defer c.Unlock()
	for len(b) > 0 {
		var err error
		if f.Data, f.Wire, b, err = l.next(b); err != nil {
			return err
		}
		p.Decode(&f)
		c.Count(&p)
	}
	return nil
}
