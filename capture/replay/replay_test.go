package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/klauspost/compress/zstd"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// endian is a byte order to write in.
type endian interface {
	binary.AppendByteOrder
	PutUint32([]byte, uint32)
}

var (
	little endian = binary.LittleEndian
	big    endian = binary.BigEndian
)

// ipv4 is a packet of n bytes from 10.0.0.1 to 10.0.0.2.
func ipv4(n int) []byte {
	b := make([]byte, n)
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	return b
}

// ethernet is a frame with such a packet.
func ethernet(n int) []byte {
	return append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}, ipv4(n)...)
}

// pcapHeader is that of a file, with a snap length that is too short for every packet.
func pcapHeader(o endian, magic uint32, major, minor uint16, linkType uint32) []byte {
	b := o.AppendUint32(nil, magic)
	b = o.AppendUint16(o.AppendUint16(b, major), minor)
	b = append(b, 1, 2, 3, 4, 5, 6, 7, 8)
	return o.AppendUint32(o.AppendUint32(b, 1), linkType)
}

// pcapPacket is a packet with a header of n bytes that has the two lengths in the order given; -1 is 4294967295.
func pcapPacket(o endian, n int, length1, length2 int, data []byte) []byte {
	b := append([]byte{1, 2, 3, 4, 5, 6, 7, 8}, make([]byte, n-8)...)
	o.AppendUint32(o.AppendUint32(b[:8], uint32(length1)), uint32(length2))
	return append(b, data...)
}

// pcapFile is a plain file of the packets.
func pcapFile(linkType uint32, packets ...[]byte) []byte {
	b := pcapHeader(little, pcapMagic, 2, 4, linkType)
	for _, p := range packets {
		b = append(b, pcapPacket(little, pcapPacketLen, len(p), len(p), p)...)
	}
	return b
}

// block is a pcapng block with a body that is padded.
func block(o endian, kind uint32, body ...[]byte) []byte {
	b := bytes.Join(body, nil)
	b = append(b, make([]byte, -len(b)&3)...)
	size := uint32(len(b) + 12)
	return o.AppendUint32(append(o.AppendUint32(o.AppendUint32(nil, kind), size), b...), size)
}

func words(o endian, words ...uint32) []byte {
	var b []byte
	for _, w := range words {
		b = o.AppendUint32(b, w)
	}
	return b
}

func section(o endian, major, minor uint16) []byte {
	version := o.AppendUint16(o.AppendUint16(nil, major), minor)
	return block(o, blockSection, words(o, pcapngByteOrder), version, words(o, 0xffffffff, 0xffffffff))
}

func iface(o endian, linkType uint16, snapLen uint32) []byte {
	return block(o, blockInterface, o.AppendUint16(nil, linkType), []byte{0, 0}, words(o, snapLen))
}

func enhanced(o endian, id uint32, original int, data []byte) []byte {
	options := words(o, 0x00020004, 1, 0)
	pad := make([]byte, -len(data)&3)
	return block(o, blockEnhanced, words(o, id, 1, 2, uint32(len(data)), uint32(original)), data, pad, options)
}

func oldPacket(o endian, id uint16, original int, data []byte) []byte {
	ids := o.AppendUint16(o.AppendUint16(nil, id), 0xffff)
	return block(o, blockOldPacket, ids, words(o, 1, 2, uint32(len(data)), uint32(original)), data)
}

func simple(o endian, original int, data []byte) []byte {
	return block(o, blockSimple, words(o, uint32(original)), data)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

type outcomes = [frame.Outcomes]capture.OutcomeSize

func counter(t testing.TB) *capture.Counter {
	t.Helper()
	return counterOf(t, capture.NewTable(100, 0))
}

// counterOf monitors 10.0.0.0/8.
func counterOf(t testing.TB, table *capture.Table) *capture.Counter {
	t.Helper()
	monitored, err := subnets.Parse("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	return capture.NewCounter(table.Monitor(capture.Subnets{Monitored: monitored}))
}

// count reads a file and gives what was counted and the error.
func count(t testing.TB, r io.Reader) (outcomes, error) {
	t.Helper()
	c := counter(t)
	err := countAll(t.Context(), r, c)
	return c.Outcomes(), err
}

func counted(packets, bytes int64) (o outcomes) {
	o[frame.Counted] = capture.OutcomeSize{Packets: packets, Bytes: bytes}
	return o
}

// checkCount reads a file, at once and in small pieces, and compares what was counted and the error.
func checkCount(t *testing.T, file []byte, want outcomes, wantErr string) {
	t.Helper()
	readers := map[string]io.Reader{
		"at once": bytes.NewReader(file),
		"halves":  iotest.HalfReader(bytes.NewReader(file)),
		"EOF":     iotest.DataErrReader(bytes.NewReader(file)),
	}
	if len(file) < 2*bufferSize {
		readers["bytes"] = iotest.OneByteReader(bytes.NewReader(file))
	}
	for name, r := range readers {
		got, err := count(t, r)
		if gotErr := fmt.Sprint(err); wantErr == "" && err != nil || wantErr != "" && gotErr != "FILE: "+wantErr {
			t.Errorf("read %s: error\n%v, want\nFILE: %s", name, err, wantErr)
		}
		if got != want {
			t.Errorf("read %s: counted %v, want %v", name, got, want)
		}
	}
}

func TestPcapOfEveryVersionAndByteOrder(t *testing.T) {
	type version struct {
		major, minor uint16
		swapped      bool
	}
	for _, v := range []version{
		{2, 0, true}, {2, 1, true}, {2, 2, true}, {2, 3, true}, {2, 3, false}, {2, 4, false}, {543, 0, true},
	} {
		for _, magic := range []uint32{pcapMagic, pcapMagicNano, pcapMagicKuznetzov} {
			for _, o := range []endian{little, big} {
				t.Run(fmt.Sprintf("%d.%d/swapped=%t/%x/%v", v.major, v.minor, v.swapped, magic, o), func(t *testing.T) {
					headerLen := pcapPacketLen
					if magic == pcapMagicKuznetzov {
						headerLen = pcapKuznetzovLen
					}
					whole, cut := ethernet(100), ethernet(1000)[:60]
					length1, length2 := len(cut), 1014
					if v.swapped {
						length1, length2 = length2, length1
					}
					checkCount(t, join(
						pcapHeader(o, magic, v.major, v.minor, 1|0x14000000), // and frame check sequences
						pcapPacket(o, headerLen, length1, length2, cut),
						pcapPacket(o, headerLen, len(whole), len(whole), whole),
					), counted(2, 1100), "")
				})
			}
		}
	}
}

func TestPcap(t *testing.T) {
	// A length of 0 in the IP header stands for what was on the wire.
	long := func(n int) []byte {
		b := ethernet(n)
		b[16], b[17] = 0, 0
		return b
	}
	header := pcapHeader(little, pcapMagic, 2, 4, 1)
	for _, test := range []struct {
		name string
		file []byte
		want outcomes
	}{
		{"no packet", header, outcomes{}},
		{"raw IP", pcapFile(101, ipv4(50)), counted(1, 50)},
		{"original length less than captured", join(header, pcapPacket(little, 16, 64, 3, ethernet(50))), counted(1, 50)},
		{"original length of 4 GiB", join(header, pcapPacket(little, 16, 64, -1, ethernet(50))), counted(1, 50)},
		{"longer than the buffer", pcapFile(1, ethernet(20), long(bufferSize), ethernet(20)), counted(3, 40+bufferSize)},
		{"longest", pcapFile(1, long(maxCaptured-14), ethernet(20)), counted(2, 20+maxCaptured-14)},
		{"fills the buffer", pcapFile(1, long(bufferSize-30), ethernet(20)), counted(2, bufferSize-10)},
		{"a byte more than the buffer", pcapFile(1, long(bufferSize-29), ethernet(20)), counted(2, bufferSize-9)},
	} {
		t.Run(test.name, func(t *testing.T) { checkCount(t, test.file, test.want, "") })
	}
}

func TestPcapng(t *testing.T) {
	for _, o := range []endian{little, big} {
		other := map[endian]endian{little: big, big: little}[o]
		start := join(section(o, 1, 0), iface(o, 1, 0))
		long := make([]byte, 3*bufferSize)
		for _, test := range []struct {
			name string
			file []byte
			want outcomes
		}{
			{"no packet", section(o, 1, 0), outcomes{}},
			{"version 1.2", join(section(o, 1, 2), iface(o, 1, 0), enhanced(o, 0, 64, ethernet(50))), counted(1, 50)},
			{"enhanced", join(start, enhanced(o, 0, 64, ethernet(50)), enhanced(o, 0, 1014, ethernet(1000)[:63])),
				counted(2, 1050)},
			{"old", join(start, oldPacket(o, 0, 64, ethernet(50)), oldPacket(o, 0, 1014, ethernet(1000)[:63])),
				counted(2, 1050)},
			{"simple", join(start, simple(o, 64, ethernet(50)), simple(o, 1014, ethernet(1000)[:63])), counted(2, 1050)},
			{"simple, cut at the snap length", join(section(o, 1, 0), iface(o, 1, 34), iface(o, 1, 20),
				simple(o, 1014, ethernet(1000)[:34]), simple(o, 34, ethernet(20))), counted(2, 1020)},
			{"simple, cut inside the IP header", join(section(o, 1, 0), iface(o, 1, 33), simple(o, 1014, ethernet(1000)[:33])),
				outcomes{frame.Malformed: {Packets: 1, Bytes: 1014}}},
			{"interfaces of several link types", join(start, iface(o, 101, 0), iface(o, 228, 0),
				enhanced(o, 1, 50, ipv4(50)), enhanced(o, 0, 64, ethernet(50)), oldPacket(o, 2, 70, ipv4(70))), counted(3, 170)},
			{"interface of an unknown link type, unused", join(start, iface(o, 147, 0), enhanced(o, 0, 64, ethernet(50))),
				counted(1, 50)},
			{"sections of both byte orders", join(start, iface(o, 1, 0), enhanced(o, 1, 64, ethernet(50)),
				section(other, 1, 0), iface(other, 101, 0), enhanced(other, 0, 50, ipv4(50)), section(o, 1, 0)), counted(2, 100)},
			{"other blocks", join(start, block(o, 5, long[:20]), block(o, 0x0bad, long), enhanced(o, 0, 64, ethernet(50)),
				block(o, 4)), counted(1, 50)},
			{"interface with options that do not fit the buffer", join(section(o, 1, 0),
				block(o, blockInterface, o.AppendUint16(nil, 101), []byte{0, 0}, words(o, 0), long),
				enhanced(o, 0, 50, ipv4(50))), counted(1, 50)},
			{"packets longer than the buffer", join(start, enhanced(o, 0, 64, join(ethernet(50), long)),
				oldPacket(o, 0, 64, join(ethernet(50), long)), simple(o, len(long)+64, join(ethernet(50), long)),
				enhanced(o, 0, 64, ethernet(50))), counted(4, 200)},
		} {
			t.Run(fmt.Sprintf("%v/%s", o, test.name), func(t *testing.T) { checkCount(t, test.file, test.want, "") })
		}
	}
}

func TestCompressedFiles(t *testing.T) {
	pcap := pcapFile(1, ethernet(50), ethernet(60))
	pcapng := join(section(big, 1, 0), iface(big, 1, 0), enhanced(big, 0, 64, ethernet(50)), simple(big, 74, ethernet(60)))
	skip := []byte{0x5c, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}
	for name, file := range map[string][]byte{"pcap": pcap, "pcapng": pcapng} {
		for compression, file := range map[string][]byte{
			"gzip":                  gzipped(file),
			"gzip, several members": join(gzipped(file[:10]), gzipped(nil), gzipped(file[10:50]), gzipped(file[50:])),
			"zstd":                  zstded(file),
			"zstd, several frames":  join(zstded(file[:10]), skip, zstded(file[10:50]), zstded(file[50:])),
			"zstd, skips first":     join(skip, zstded(file)),
		} {
			t.Run(name+"/"+compression, func(t *testing.T) { checkCount(t, file, counted(2, 110), "") })
		}
	}
}

func TestDamagedFile(t *testing.T) {
	header := pcapHeader(little, pcapMagic, 2, 4, 1)
	// Two packets, of which the first is at byte 24, and three blocks, 156 bytes long.
	two := pcapFile(1, ethernet(50), ethernet(60))
	start := join(section(little, 1, 0), iface(little, 1, 0), enhanced(little, 0, 64, ethernet(50)))
	setSize := func(b []byte, size uint32) []byte {
		little.PutUint32(b[4:], size)
		return b
	}
	wrongEnd := enhanced(little, 0, 64, ethernet(50))
	little.PutUint32(wrongEnd[len(wrongEnd)-4:], 7)
	noOrder := section(little, 1, 0)
	clear(noOrder[8:12])

	const noCapture = "is not a capture file (pcap or pcapng, plain or gzip or zstd)"
	for _, test := range []struct {
		name    string
		file    []byte
		packets int64
		err     string
	}{
		{"empty", nil, 0, "is empty, not a capture file"},
		{"one byte", []byte{0xd4}, 0, noCapture},
		{"text", []byte("a shopping list, and quite a long one"), 0, noCapture},
		{"only a magic number", header[:4], 0, "ends inside its header"},
		{"ends in the pcap header", header[:23], 0, "ends inside its header"},
		{"ends in the pcapng header", section(little, 1, 0)[:20], 0, "ends inside its header"},
		{"ends in the first section", section(little, 1, 0)[:25], 0, "ends inside block 1 (byte 0)"},
		{"pcap of a later version", pcapHeader(big, pcapMagic, 2, 5, 1), 0, "has pcap version 2.5, which is not supported"},
		{"pcap of an earlier version", pcapHeader(big, pcapMagic, 1, 2, 1), 0, "has pcap version 1.2, which is not supported"},
		{"pcapng of a later version", section(big, 2, 0), 0,
			"block 1 (byte 0): has pcapng version 2.0, which is not supported"},
		{"pcapng of no byte order", noOrder, 0, "block 1 (byte 0): has no valid byte order"},

		{"ends in a packet header", two[:119], 1, "ends inside packet 2 (byte 104)"},
		{"ends in a packet", two[:len(two)-1], 1, "ends inside packet 2 (byte 104)"},
		{"ends in a packet longer than the buffer", pcapFile(1, ethernet(50), make([]byte, 2*bufferSize))[:bufferSize+500], 1,
			"ends inside packet 2 (byte 104)"},
		{"absurd length", join(two, pcapPacket(little, 16, -1, 60, nil)), 2,
			"packet 3 (byte 194): claims 4294967295 captured bytes, more than the limit of 16777216"},
		{"absurd length of version 2.3", join(pcapHeader(big, pcapMagic, 2, 3, 1),
			pcapPacket(big, 16, maxCaptured+1, maxCaptured+2, nil)), 0,
			"packet 1 (byte 24): claims 16777217 captured bytes, more than the limit of 16777216"},

		{"ends in a block header", join(start, block(little, 5)[:11]), 1, "ends inside block 4 (byte 156)"},
		{"ends in a block", join(start, start[:27]), 1, "ends inside block 4 (byte 156)"},
		{"ends in a block that is skipped", join(start, block(little, 5, make([]byte, bufferSize))[:bufferSize]), 1,
			"ends inside block 4 (byte 156)"},
		{"block of 4 GiB", join(start, setSize(block(little, 5), 0xfffffffc)), 1, "ends inside block 4 (byte 156)"},
		{"block of no length", join(start, setSize(block(little, 5), 0)), 1,
			"block 4 (byte 156): claims a length of 0 bytes; blocks have 12 or more, in multiples of 4"},
		{"block of an odd length", join(start, setSize(block(little, 5), 13), make([]byte, 20)), 1,
			"block 4 (byte 156): claims a length of 13 bytes; blocks have 12 or more, in multiples of 4"},
		{"lengths of a block differ", join(start, wrongEnd), 1,
			"block 4 (byte 156): claims a length of 108 at its start and of 7 at its end"},
		{"enhanced packet without its header", join(start, block(little, blockEnhanced, make([]byte, 16))), 1,
			"block 4 (byte 156): is too short for its type"},
		{"simple packet without its header", join(start, block(little, blockSimple)), 1,
			"block 4 (byte 156): is too short for its type"},
		{"interface without its header", join(start, block(little, blockInterface, make([]byte, 4))), 1,
			"block 4 (byte 156): is too short for its type"},
		{"section without its header", join(start, block(little, blockSection, words(little, pcapngByteOrder))), 1,
			"block 4 (byte 156): is too short for its type"},
		{"packet longer than its block", join(start, block(little, blockEnhanced, words(little, 0, 0, 0, 65, 64), ethernet(46))),
			1, "block 4 (byte 156): claims 65 captured bytes, but has 60"},
		{"packet of no interface", join(start, enhanced(little, 1, 64, ethernet(50))), 1,
			"block 4 (byte 156): names interface 1, which its section has not described"},
		{"packet of an interface of the section before", join(start, section(little, 1, 0), simple(little, 64, ethernet(50))),
			1, "block 5 (byte 184): names interface 0, which its section has not described"},
		{"pcapng packet of an absurd length", join(start, simple(little, maxCaptured+4, make([]byte, maxCaptured+4))), 1,
			"block 4 (byte 156): claims 16777220 captured bytes, more than the limit of 16777216"},
		{"too many interfaces", join(start, bytes.Repeat(iface(little, 1, 0), maxInterfaces)), 1,
			"block 65539 (byte 1310856): describes more than 65536 interfaces, which is not supported"},

		{"gzip of nothing", gzipped(nil), 0, "is empty, not a capture file"},
		{"gzip of text", gzipped([]byte("a shopping list, and quite a long one")), 0, noCapture},
		{"gzip ends in its header", gzipped(two)[:9], 0, "ends inside its header"},
		{"gzip of another method", []byte{0x1f, 0x8b, 9, 0, 0, 0, 0, 0, 0, 0}, 0, "cannot be decompressed: gzip: invalid header"},
		{"gzip ends in a packet", join(gzipped(two[:150]), gzipped(two[150:])[:14]), 1, "ends inside packet 2 (byte 104)"},
		{"gzip followed by something else", join(gzipped(two), []byte("something else")), 2,
			"packet 3 (byte 194): cannot be decompressed: gzip: invalid header"},
		{"zstd of nothing", zstded(nil), 0, "is empty, not a capture file"},
		{"zstd ends in its header", zstded(two)[:5], 0, "ends inside its header"},
		{"zstd ends in a packet", join(zstded(two[:150]), zstded(two[150:])[:14]), 1, "ends inside packet 2 (byte 104)"},
		{"zstd with a window of 256 MiB", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (28 - 10) << 3, 1, 0, 0}, 0,
			"cannot be decompressed: window size exceeded"},
		{"zstd followed by something else", join(zstded(two), []byte("something else")), 2,
			"packet 3 (byte 194): cannot be decompressed: invalid input: magic number mismatch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := counted(test.packets, test.packets*50+max(0, test.packets-1)*10)
			checkCount(t, test.file, want, test.err)
		})
	}
}

// ppi is a frame of 30 bytes with a header of PPI, and nothing inside.
func ppi(linkType byte) []byte { return append([]byte{0, 0, 8, 0, linkType}, make([]byte, 25)...) }

func TestUnsupportedLinkTypes(t *testing.T) {
	const supported = "supported are Ethernet, raw IP, BSD loopback, PPP, PPPoE, Linux cooked capture (SLL and SLL2), " +
		"802.11 (plain, radiotap, Prism and AVS), PPI, Cisco HDLC, Frame Relay, InfiniBand, IPoIB, NFLOG"
	many := section(little, 1, 0)
	for i := range 10 {
		many = append(many, iface(little, uint16(147+i), 0)...)
		many = append(many, enhanced(little, uint32(i), 30, make([]byte, 30))...)
	}
	mixed := join(section(little, 1, 0),
		iface(little, 1, 0), iface(little, 147, 0), iface(little, 148, 0), iface(little, 149, 0),
		enhanced(little, 2, 30, make([]byte, 30)), enhanced(little, 1, 30, make([]byte, 30)), enhanced(little, 0, 64, ethernet(50)),
		enhanced(little, 1, 30, make([]byte, 30)))
	for _, test := range []struct {
		name               string
		file               []byte
		counted, malformed int64
		err                string
	}{
		{"pcap", pcapFile(147, make([]byte, 30), make([]byte, 30)), 0, 2,
			"link type 147 is not supported (2 packets not counted); " + supported},
		{"pcap without packets", pcapFile(147), 0, 0, ""},
		{"inside PPI", pcapFile(192, ppi(147), ppi(148), ppi(101)), 0, 3, "link type 147 is not supported (1 packets not counted); " +
			"link type 148 is not supported (1 packets not counted); " + supported},
		{"pcapng", mixed, 1, 3, "link type 147 is not supported (2 packets not counted); " +
			"link type 148 is not supported (1 packets not counted); " + supported},
		{"damaged, too", mixed[:len(mixed)-1], 1, 2, "ends inside block 9 (byte 368); " +
			"link type 147 is not supported (1 packets not counted); " +
			"link type 148 is not supported (1 packets not counted); " + supported},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := counted(test.counted, test.counted*50)
			want[frame.Malformed] = capture.OutcomeSize{Packets: test.malformed, Bytes: 30 * test.malformed}
			checkCount(t, test.file, want, test.err)
		})
	}
	t.Run("many", func(t *testing.T) {
		_, err := count(t, bytes.NewReader(many))
		if err == nil || !strings.Contains(err.Error(), "link type 154 is") || strings.Contains(err.Error(), "link type 155 is") ||
			!strings.Contains(err.Error(), "; 2 more link types are not supported; ") {
			t.Error(err)
		}
	})
}

func TestReadErrorIsWrapped(t *testing.T) {
	failure := errors.New("the disk is gone")
	file := pcapFile(1, ethernet(50), ethernet(60))
	for n := range file {
		_, err := count(t, io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(failure)))
		if !errors.Is(err, failure) {
			t.Errorf("error after %d bytes: %v", n, err)
		}
	}
	_, err := count(t, io.MultiReader(bytes.NewReader(gzipped(file)[:30]), iotest.ErrReader(failure)))
	if !errors.Is(err, failure) {
		t.Errorf("error inside gzip: %v", err)
	}
}

func TestEndOfContextInterrupts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := counter(t)
	var packets io.Reader = bytes.NewReader(bytes.Repeat(pcapFile(1, ethernet(50))[pcapHeaderLen:], 10000))
	packets = io.MultiReader(bytes.NewReader(pcapFile(1)), packets, readerFunc(func(b []byte) (int, error) {
		cancel()
		clear(b)
		return len(b), nil // packets of no bytes, without end
	}))
	err := countAll(ctx, packets, c)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	o := c.Outcomes()
	packetsRead := o[frame.Counted].Packets + o[frame.Malformed].Packets
	want := fmt.Sprintf("FILE: interrupted after %d packets", packetsRead)
	if err.Error() != want || o[frame.Counted].Packets != 10000 {
		t.Errorf("%q, want %q; counted %v", err, want, o)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestPacketsOfAPipeCountWithoutMoreOfIt(t *testing.T) {
	r, w := io.Pipe()
	c := counter(t)
	done := make(chan error)
	go func() { done <- countAll(t.Context(), r, c) }()
	eventually := func(want outcomes) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); c.Outcomes() != want; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("counted %v, want %v", c.Outcomes(), want)
			}
		}
	}
	file := pcapFile(1, ethernet(50), ethernet(60), ethernet(70)) // packets begin at 24, 104 and 194
	w.Write(file[:110])
	eventually(counted(1, 50))
	w.Write(file[110:200])
	eventually(counted(2, 110))
	w.Write(file[200:])
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := c.Outcomes(); got != counted(3, 180) {
		t.Errorf("at the end: %v", got)
	}
}

// allocated gives the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHostileSizesDoNotAllocate(t *testing.T) {
	header := pcapHeader(little, pcapMagic, 2, 4, 1)
	little.PutUint32(header[16:], 0xffffffff) // snap length
	start := join(section(little, 1, 0), iface(little, 1, 0xffffffff))
	huge := func(kind uint32, body ...uint32) []byte {
		return words(little, append([]uint32{kind, 0xfffffffc}, body...)...)
	}
	for _, test := range []struct {
		name  string
		file  []byte
		limit uint64 // bytes beyond the buffers
	}{
		{"pcap packet", join(header, pcapPacket(little, 16, maxCaptured, maxCaptured, nil)), 0},
		{"pcap packet of 4 GiB", join(header, pcapPacket(little, 16, -1, -1, nil)), 0},
		{"enhanced packet", join(start, huge(blockEnhanced, 0, 0, 0, maxCaptured, maxCaptured)), 0},
		{"enhanced packet of 4 GiB", join(start, huge(blockEnhanced, 0, 0, 0, 0xffffff00, 0xffffff00)), 0},
		{"simple packet", join(start, huge(blockSimple, 0xffffffff)), 0},
		{"interface options", join(start, huge(blockInterface, 1, 0xffffffff, 0xffff0002)), 0},
		{"section options", join(start, huge(blockSection, pcapngByteOrder, 1, 0, 0, 0xffff0002)), 0},
		{"unknown block", join(start, huge(0x80000000)), 0},
		{"interfaces", join(start, bytes.Repeat(iface(little, 1, 0), maxInterfaces+1)), 8 << 20},
		{"gzip", gzipped(join(start, huge(0x80000000), make([]byte, 16<<20))), 1 << 18},
		{"zstd window of 128 MiB", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3, 1, 0, 0}, 160 << 20},
		{"zstd window of 256 MiB", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (28 - 10) << 3, 1, 0, 0}, 2 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := counter(t)
			got := allocated(func() {
				if err := countAll(t.Context(), bytes.NewReader(test.file), c); err == nil {
					t.Error("no error")
				}
			})
			buffers := bufferSize + inputSize + batches*batchSize*uint64(unsafe.Sizeof(frame.Packet{}))
			if limit := test.limit + buffers + 64<<10; got > limit {
				t.Errorf("allocated %d bytes, want at most %d", got, limit)
			}
		})
	}
}

func TestPacketsDoNotAllocate(t *testing.T) {
	pcap := pcapFile(1, ethernet(50), ethernet(60))
	pcapng := join(section(little, 1, 0), iface(little, 1, 0), enhanced(little, 0, 64, ethernet(50)))
	for name, file := range map[string]struct{ start, packets []byte }{
		"pcap":   {pcap[:pcapHeaderLen], pcap[pcapHeaderLen:]},
		"pcapng": {pcapng[:48], pcapng[48:]},
	} {
		t.Run(name, func(t *testing.T) {
			allocations := func(n int) float64 {
				data := join(file.start, bytes.Repeat(file.packets, n))
				c := counter(t)
				return testing.AllocsPerRun(5, func() {
					if err := countAll(t.Context(), bytes.NewReader(data), c); err != nil {
						t.Error(err)
					}
				})
			}
			if few, many := allocations(10), allocations(20000); few != many {
				t.Errorf("%v allocations for few packets, %v for many", few, many)
			}
		})
	}
}

// written gives captures of the same packets as pcapgo writes them.
func written(t testing.TB, packets [][]byte) map[string][]byte {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var micro, nano, ng bytes.Buffer
	w, wn := pcapgo.NewWriter(&micro), pcapgo.NewWriterNanos(&nano)
	must(w.WriteFileHeader(65536, layers.LinkTypeEthernet))
	must(wn.WriteFileHeader(65536, layers.LinkTypeEthernet))
	wng, err := pcapgo.NewNgWriter(&ng, layers.LinkTypeEthernet)
	must(err)
	second, err := wng.AddInterface(pcapgo.NgInterface{Name: "second", LinkType: layers.LinkTypeEthernet, SnapLength: 96})
	must(err)
	for i, p := range packets {
		cut := p[:min(len(p), 30+i%60)]
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 7), CaptureLength: len(cut), Length: len(p)}
		must(w.WritePacket(info, cut))
		must(wn.WritePacket(info, cut))
		info.InterfaceIndex = i % 2 * second
		must(wng.WritePacket(info, cut))
		if i%100 == 0 {
			must(wng.WriteInterfaceStats(second, pcapgo.NgInterfaceStatistics{LastUpdate: time.Unix(1, 0), PacketsReceived: 1}))
		}
	}
	must(wng.Flush())
	return map[string][]byte{"pcap": micro.Bytes(), "pcap with nanoseconds": nano.Bytes(), "pcapng": ng.Bytes()}
}

// readWithPcapgo counts a capture of one link layer with pcapgo's readers, up to an error.
func readWithPcapgo(t testing.TB, file []byte, link frame.Link) (outcomes, error) {
	t.Helper()
	var source gopacket.PacketDataSource
	var err error
	if isPcapng(file) {
		source, err = pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	} else {
		source, err = pcapgo.NewReader(bytes.NewReader(file))
	}
	if err != nil {
		return outcomes{}, err
	}
	c := counter(t)
	c.Lock()
	for {
		data, info, err := source.ReadPacketData()
		if err != nil {
			c.Unlock()
			return c.Outcomes(), err
		}
		in := frame.Frame{Link: link, Data: data, Wire: info.Length}
		for more := true; more; more = in.Next() {
			var p frame.Packet
			p.Decode(&in)
			c.Count(&p)
		}
	}
}

func TestFilesOfPcapgoAreReadAsPcapgoReadsThem(t *testing.T) {
	var packets [][]byte
	for i := range 5000 {
		p := ethernet(20 + i%1480)
		p[26] = byte(i) // some are from elsewhere
		packets = append(packets, p)
	}
	for name, file := range written(t, packets) {
		t.Run(name, func(t *testing.T) {
			want, err := readWithPcapgo(t, file, frame.LinkEthernet)
			if err != io.EOF {
				t.Fatal(err)
			}
			checkCount(t, file, want, "")
			if want[frame.Counted].Packets < 2000 || want[frame.Malformed].Packets == 0 {
				t.Errorf("counted %v: not much of a test", want)
			}
		})
	}
}

func BenchmarkCount(b *testing.B) {
	const packets = 1 << 17
	pcap := pcapFile(1)
	pcapng := join(section(little, 1, 0), iface(little, 1, 0))
	for i := range packets {
		p := ethernet(46 + i%41)
		p[28], p[29] = byte(i>>8), byte(i) // from 65536 hosts
		pcap = append(pcap, pcapPacket(little, 16, len(p), len(p), p)...)
		pcapng = append(pcapng, block(little, blockEnhanced, words(little, 0, 0, 0, uint32(len(p)), uint32(len(p))), p)...)
	}
	for _, file := range []struct {
		name string
		data []byte
	}{{"pcap", pcap}, {"pcapng", pcapng}} {
		for _, monitored := range []string{"10.0.0.0/16", "192.168.0.0/16"} {
			b.Run(file.name+"/"+monitored, func(b *testing.B) {
				within, err := subnets.Parse(monitored)
				if err != nil {
					b.Fatal(err)
				}
				c := capture.NewCounter(capture.NewTable(capture.DefaultLimit, 0).Monitor(capture.Subnets{Monitored: within}))
				b.SetBytes(int64(len(file.data)))
				b.ReportAllocs()
				for b.Loop() {
					if err := countAll(b.Context(), bytes.NewReader(file.data), c); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packets, "ns/packet")
			})
		}
	}
}

// countAll counts all packets of a file.
func countAll(ctx context.Context, r io.Reader, c *capture.Counter) error {
	_, err := Count(ctx, r, "FILE", c, "")
	return err
}
