// Package replay counts the packets of capture files.
//
// It reads, by what a stream begins with and as a stream, so that a pipe will do:
//
//   - pcap in the versions that libpcap reads (2.0 to 2.4, and the 543.0 of DG/UX), in both byte orders, with time stamps in
//     microseconds or nanoseconds, and in the modified format of Alexey Kuznetzov (draft-ietf-opsawg-pcap, pcap-savefile(5),
//     libpcap's sf-pcap.c);
//   - pcapng 1.0, with any number of sections, each in a byte order of its own, and of interfaces, each of a link type of
//     its own. Enhanced, simple and the old packet blocks count, all that does not hold packets is skipped
//     (draft-ietf-opsawg-pcapng);
//   - either of them compressed with gzip (RFC 1952) or zstd (RFC 8878), in any number of members or frames.
//
// Time stamps and options are not looked at.
//
// Nothing that a file says makes the reader panic, loop or allocate: packets are decoded where they lie in a buffer of 256
// KiB, what exceeds it of a longer record is read past, and a section has at most 65536 interfaces. Only zstd takes as much
// memory as the file asks for, up to windows of 128 MiB, the limit of the zstd command. A packet has at most 16 MiB; the snap
// lengths in headers are not relied on.
package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"promflow/capture"
	"promflow/capture/frame"
)

const (
	bufferSize    = 1 << 18   // of unpacked data
	inputSize     = 1 << 16   // of the buffer in front of a decompressor
	maxCaptured   = 16 << 20  // bytes of a packet; libpcap writes up to 256 KiB, Linux has packets of 512 KiB (BIG TCP)
	maxZstdWindow = 128 << 20 // bytes
	maxListed     = 8         // link types in an error
)

// supported names the link types of frame.LinkOfType.
const supported = "Ethernet, raw IP, BSD loopback, PPP, PPPoE, Linux cooked capture (SLL and SLL2)"

// Count reads the capture file r, of which name says where it is from, and counts its packets with c. It locks c for a
// batch of packets at a time, never while it reads, and allocates nothing per packet. How far it has got, c
// says at any time from another goroutine ([capture.Counter.Outcomes]): each packet of a file has exactly one outcome.
//
// The error is nil at the end of a sound file. Otherwise it begins with name and says what is wrong, and where: at which
// packet of a pcap or block of a pcapng file, and at which byte, after decompression. All packets before that are counted.
// Packets of a link type that is not supported count as malformed, and once the file is read to its end they are an
// error, too.
//
// When ctx ends, the error wraps ctx.Err() and says how many packets were counted. A read that blocks is not interrupted.
func Count(ctx context.Context, r io.Reader, name string, c *capture.Counter) error {
	in, closeInput, err := decompress(r)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer closeInput()
	f := file{r: in, buf: make([]byte, bufferSize), out: startCounting(c)}
	err = f.run(ctx)
	f.out.end()
	if len(f.unsupported) > 0 {
		if err == nil {
			err = f.unsupportedError()
		} else {
			err = fmt.Errorf("%w; %w", err, f.unsupportedError())
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// interruptedError says how far a file was counted when its context ended.
type interruptedError struct {
	packets int64
	err     error
}

func (e *interruptedError) Error() string {
	return fmt.Sprintf("interrupted after %d packets", e.packets)
}
func (e *interruptedError) Unwrap() error { return e.err }

var errNoHeader = errors.New("ends inside its header")

// decompress gives what r holds, and a function that frees what that took.
func decompress(r io.Reader) (io.Reader, func(), error) {
	in := bufio.NewReaderSize(r, inputSize)
	magic, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, nil, errNoHeader
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot be decompressed: %w", err)
		}
		return unpacked{z}, func() {}, nil
	case isZstd(magic):
		// A single decoder works in the goroutine of its reader.
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, nil, err
		}
		return unpacked{z}, z.Close, nil
	}
	return in, func() {}, nil
}

// isZstd tells whether a frame begins here, or one that is to be skipped: parallel compressors put their own first.
func isZstd(magic []byte) bool {
	if len(magic) < 4 {
		return false
	}
	m := byteOrder(false).uint32(magic)
	return m == 0xfd2fb528 || m&^0xf == 0x184d2a50
}

// unpacked says of errors that they are about compressed data.
type unpacked struct{ io.Reader }

func (u unpacked) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		err = fmt.Errorf("cannot be decompressed: %w", err)
	}
	return n, err
}

// A format reads one file format. It does no I/O and keeps nothing of what it is given.
type format interface {
	// next reads the record that b begins with into r and gives its size in the file. If b is shorter than that size, and
	// shorter than bufferSize, then r is not valid: next wants to be called again with the size it gave, or bufferSize if
	// that is less, and may then give a greater one.
	next(b []byte, r *record) (size int64, err error)

	// unit is what the format calls a record.
	unit() string
}

// record is a record of a capture file. Only those that are packets have a frame.
type record struct {
	isPacket bool
	linkType uint32 // the file's number
	frame    frame.Frame
}

// setPacket makes r a packet whose captured bytes data begins with, or as many of them as fit in the buffer: far more than
// the headers that are decoded.
func (r *record) setPacket(linkType uint32, link frame.Link, data []byte, captured, original uint32) {
	r.isPacket, r.linkType = true, linkType
	r.frame.Link = link
	r.frame.Data = data[:min(len(data), int(captured))]
	r.frame.Wire = int(min(int64(max(captured, original)), math.MaxInt)) // an int may have 32 bits
}

// byteOrder is that of a file: true for big endian.
type byteOrder bool

func (o byteOrder) uint16(b []byte) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if o {
		v = bits.ReverseBytes16(v)
	}
	return v
}

func (o byteOrder) uint32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if o {
		v = bits.ReverseBytes32(v)
	}
	return v
}

// file is a capture file that is being read.
type file struct {
	r          io.Reader
	buf        []byte
	begin, end int   // of what is in buf and not yet used
	base       int64 // where in the file buf begins

	format  format
	out     *counting
	record  record
	packet  frame.Packet // what the record counts for
	start   int64        // where in the file the record begins
	rest    int64        // bytes of the record that are still to be passed over
	records int64        // before this one
	packets int64

	unsupported map[uint32]int64 // link type to packets
}

// run counts the whole file.
func (f *file) run(ctx context.Context) error {
	if err := f.open(); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return &interruptedError{f.packets, err}
		}
		need, err := f.buffered()
		f.out.flush()
		if err != nil {
			return fmt.Errorf("%s: %w", f.where(), err)
		}
		switch err := f.fill(need); {
		case err == nil:
		case err == io.EOF && f.rest == 0:
			return nil
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return fmt.Errorf("ends inside %s", f.where())
		default:
			return fmt.Errorf("%s: %w", f.where(), err)
		}
	}
}

// open finds out the format.
func (f *file) open() error {
	err := f.fill(pcapHeaderLen) // a pcapng file is no shorter
	head := f.buf[:f.end]
	switch {
	case err == io.EOF:
		return errors.New("is empty, not a capture file")
	case err != nil && err != io.ErrUnexpectedEOF:
		return err
	case len(head) > 0 && (len(head) < 4 || !isPcap(head) && !isPcapng(head)):
		return errors.New("is not a capture file (pcap or pcapng, plain or gzip or zstd)")
	case err != nil:
		return errNoHeader
	case isPcapng(head):
		f.format = &pcapng{}
		return nil
	}
	f.begin = pcapHeaderLen
	f.format, err = newPcap(head)
	return err
}

// buffered has all packets counted that are in the buffer. It returns how many bytes it needs there to go on.
func (f *file) buffered() (need int, err error) {
	for {
		if f.rest == 0 {
			b := f.buf[f.begin:f.end]
			f.start = f.base + int64(f.begin)
			size, err := f.format.next(b, &f.record)
			if err != nil {
				return 0, err
			}
			if need := int(min(size, bufferSize)); len(b) < need {
				return need, nil
			}
			f.rest = size
			if f.record.isPacket {
				f.packet.Decode(&f.record.frame)
			}
		}
		n := min(f.rest, int64(f.end-f.begin))
		f.begin += int(n)
		f.rest -= n
		if f.rest > 0 {
			return int(min(f.rest, bufferSize)), nil
		}
		f.records++
		if f.record.isPacket {
			f.packets++
			f.out.add(&f.packet)
			if f.record.frame.Link == frame.LinkUnknown {
				f.addUnsupported()
			}
		}
	}
}

// fill reads until at least need bytes, no more than bufferSize, are in the buffer. It returns io.EOF if the file ends
// before the first of them, and io.ErrUnexpectedEOF if it ends before the last.
func (f *file) fill(need int) error {
	f.base += int64(f.begin)
	f.end = copy(f.buf, f.buf[f.begin:f.end])
	f.begin = 0
	if need <= f.end {
		return nil
	}
	n, err := io.ReadAtLeast(f.r, f.buf[f.end:], need-f.end)
	f.end += n
	if err == io.EOF && f.end > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// where says which record is being read.
func (f *file) where() string {
	return fmt.Sprintf("%s %d (byte %d)", f.format.unit(), f.records+1, f.start)
}

func (f *file) addUnsupported() {
	if f.unsupported == nil {
		f.unsupported = map[uint32]int64{}
	}
	f.unsupported[f.record.linkType]++
}

func (f *file) unsupportedError() error {
	var s strings.Builder
	for i, linkType := range slices.Sorted(maps.Keys(f.unsupported)) {
		if i == maxListed {
			fmt.Fprintf(&s, "%d more link types are not supported; ", len(f.unsupported)-i)
			break
		}
		fmt.Fprintf(&s, "link type %d is not supported (%d packets not counted); ", linkType, f.unsupported[linkType])
	}
	return errors.New(s.String() + "supported are " + supported)
}
