// Package replay counts the packets of capture files.
//
// It detects the format by the first bytes, and reads files as streams, so that they may be pipes:
//
//   - pcap in the versions that libpcap reads (2.0 to 2.4, and the 543.0 of DG/UX), in both byte orders, with time stamps in
//     microseconds or nanoseconds, and in the modified format of Alexey Kuznetzov (draft-ietf-opsawg-pcap, pcap-savefile(5),
//     libpcap's sf-pcap.c);
//   - pcapng 1.0, with any number of sections and interfaces. Each section has its byte order, and each interface its link type. Enhanced,
//     simple and old packet blocks count, other blocks are skipped (draft-ietf-opsawg-pcapng);
//   - both compressed with gzip (RFC 1952) or zstd (RFC 8878), in any number of members or frames.
//
// Time stamps and options are ignored.
//
// No file makes the reader panic, loop or take memory without limit. Packets are decoded in a buffer of 256 KiB, and what a longer record
// has beyond that is skipped. A section has up to 65536 interfaces, and a packet up to 16 MiB, whatever the snap lengths in headers. Only
// zstd takes as much memory as a file asks for, with windows of up to 128 MiB, the limit of the zstd command.
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
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"promflow/capture"
	"promflow/capture/frame"
)

const (
	bufferSize    = 1 << 18   // of unpacked data
	inputSize     = 1 << 16   // of the buffer in front of a decompressor
	maxCaptured   = 16 << 20  // bytes of a packet; libpcap writes up to 256 KiB, and BIG TCP packets of Linux have up to 512 KiB
	maxZstdWindow = 128 << 20 // bytes
	maxListed     = 8         // link types in an error
)

// supported lists the link types that package frame supports.
const supported = "Ethernet, raw IP, BSD loopback, PPP, PPPoE, Linux cooked capture (SLL and SLL2), " +
	"802.11 (plain, radiotap, Prism and AVS), PPI, Cisco HDLC, Frame Relay, InfiniBand, IPoIB, NFLOG"

// Count counts the packets of the capture file r with c. It locks c for each batch of packets, not while it reads, and allocates nothing
// per packet. Meanwhile [capture.Counter.Outcomes] tells how many packets were counted: each packet has exactly one outcome, also each of
// those that a frame of 802.11 aggregates.
//
// The error is nil at the end of a valid file. Otherwise it begins with name, and has what is wrong and where: the packet of a pcap file or
// block of a pcapng file, and the byte after decompression. All packets before this place are counted. Packets of a link type that is not
// supported count as malformed, and are an error at the end of the file, too.
//
// When ctx ends, the error wraps ctx.Err() and has the number of packets that were counted. A read that blocks is not interrupted.
//
// If only is not empty, packets of other interfaces are skipped: it is a name or an index, as the file has them.
func Count(ctx context.Context, r io.Reader, name string, c *capture.Counter, only string) (Interfaces, error) {
	in, closeInput, err := decompress(r)
	if err != nil {
		return Interfaces{}, fmt.Errorf("%s: %w", name, err)
	}
	defer closeInput()
	f := file{r: in, buf: make([]byte, bufferSize), out: startCounting(c), unsupported: map[uint32]int64{}, only: only, taken: only == "", cooked: map[int]*Interface{}}
	err = f.run(ctx)
	f.out.end()
	if err == nil && only != "" && f.packets == 0 {
		err = f.interfaces.missing(only)
	}
	if len(f.unsupported) > 0 {
		if err == nil {
			err = f.unsupportedError()
		} else {
			err = fmt.Errorf("%w; %w", err, f.unsupportedError())
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return f.interfaces, err
}

// interruptedError has how many packets were counted when the context ended.
type interruptedError struct {
	packets int64
	err     error
}

func (e *interruptedError) Error() string {
	return fmt.Sprintf("interrupted after %d packets", e.packets)
}
func (e *interruptedError) Unwrap() error { return e.err }

var errNoHeader = errors.New("ends inside its header")

// decompress returns the decompressed data of r, and a function that releases the decompressor.
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

// isZstd tells whether a zstd frame begins here, or a skippable frame: parallel compressors begin with one.
func isZstd(magic []byte) bool {
	if len(magic) < 4 {
		return false
	}
	m := binary.LittleEndian.Uint32(magic)
	return m == 0xfd2fb528 || m&^0xf == 0x184d2a50
}

// unpacked adds to errors that the data is compressed.
type unpacked struct{ io.Reader }

func (u unpacked) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		err = fmt.Errorf("cannot be decompressed: %w", err)
	}
	return n, err
}

// A format reads one file format. It does no I/O, and does not keep the bytes that it reads.
type format interface {
	// next reads the record at the start of b into r, and returns its size in the file. If b is shorter than this size and shorter than
	// bufferSize, r is not valid: then next must be called again with so many bytes, or with bufferSize bytes if that is less. It may then
	// return a greater size.
	next(b []byte, r *record) (size int64, err error)

	// unit is what the format calls a record.
	unit() string
}

// record is a record of a capture file. Only a packet has a frame.
type record struct {
	isPacket  bool
	linkType  uint32     // the number in the file, or in the header of PPI
	supported bool       // whether package frame supports that
	on        *Interface // nil if the file does not tell
	frame     frame.Frame
}

// setPacket makes r a packet. Its captured bytes are the first of data, as far as the buffer has them: far more than the headers.
func (r *record) setPacket(linkType uint32, link frame.Link, data []byte, captured, original uint32) error {
	if captured > maxCaptured {
		return fmt.Errorf("claims %d captured bytes, more than the limit of %d", captured, maxCaptured)
	}
	r.isPacket, r.linkType, r.supported, r.on = true, linkType, link != frame.LinkUnknown, nil
	r.frame.Link = link
	r.frame.Data = data[:min(len(data), int(captured))]
	r.frame.Wire = int(min(int64(max(captured, original)), math.MaxInt)) // an int may have 32 bits
	if link == frame.LinkPPI {
		r.linkType = frame.PPIType(r.frame.Data)
		r.supported = frame.LinkOfType(r.linkType) != frame.LinkUnknown
	}
	return nil
}

// file is a capture file that is being read.
type file struct {
	r          io.Reader
	buf        []byte
	begin, end int   // of the bytes in buf that are not used yet
	base       int64 // offset of buf in the file

	format  format
	out     *counting
	record  record
	packet  frame.Packet // what the record counts as
	start   int64        // offset of the record in the file
	rest    int64        // bytes of the record that are not skipped yet
	records int64        // before this one
	packets int64

	unsupported map[uint32]int64 // packets by link type
	unlisted    int64            // packets of further link types

	only       string // the interface that counts; empty for all
	interfaces Interfaces
	on         *Interface         // of the packet before
	taken      bool               // whether packets of that count
	cooked     map[int]*Interface // of Linux cooked capture, version 2
	onCooked   *Interface         // of the last packet of that
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

// open detects the format.
func (f *file) open() error {
	err := f.fill(pcapHeaderLen) // a pcapng file has at least as many bytes
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
		f.format = &pcapng{order: binary.LittleEndian}
		return nil
	}
	f.begin = pcapHeaderLen
	f.format, err = newPcap(head)
	return err
}

// buffered counts all packets in the buffer. It returns how many bytes it needs there for the next one.
func (f *file) buffered() (need int, err error) {
	for {
		whole := f.rest == 0
		if whole {
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
			if f.record.isPacket = f.record.isPacket && f.takes(&f.record); f.record.isPacket {
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
			f.count()
			if !f.record.supported {
				f.unsupport(f.record.linkType)
			}
			for whole && f.record.frame.Next() {
				f.packet.Decode(&f.record.frame)
				f.count()
			}
		}
	}
}

// unsupport counts a packet of a link type that is not supported. A file can have as many types as packets: not all are told apart.
func (f *file) unsupport(linkType uint32) {
	if _, known := f.unsupported[linkType]; known || len(f.unsupported) < maxUnsupported {
		f.unsupported[linkType]++
	} else {
		f.unlisted++
	}
}

const maxUnsupported = 1 << 10

// count counts the packet that was decoded.
func (f *file) count() {
	f.packets++
	f.out.add(&f.packet)
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

// where is the place of the record in the file.
func (f *file) where() string {
	return fmt.Sprintf("%s %d (byte %d)", f.format.unit(), f.records+1, f.start)
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
	if f.unlisted > 0 {
		fmt.Fprintf(&s, "%d packets of further link types are not counted; ", f.unlisted)
	}
	return errors.New(s.String() + "supported are " + supported)
}
