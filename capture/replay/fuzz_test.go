package replay

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"promflow/capture"
	"promflow/capture/frame"
)

func FuzzCount(f *testing.F) {
	packets := [][]byte{ethernet(20), ethernet(50), ethernet(100)}
	for _, file := range written(f, packets) {
		f.Add(file)
		f.Add(file[:len(file)-1])
		f.Add(gzipped(file))
		f.Add(zstded(file))
	}
	for _, o := range []endian{little, big} {
		for minor := range uint16(5) {
			f.Add(join(pcapHeader(o, pcapMagic, 2, minor, 1), pcapPacket(o, 16, 64, 64, ethernet(50))))
		}
		f.Add(join(pcapHeader(o, pcapMagicKuznetzov, 2, 4, 1), pcapPacket(o, 24, 64, 64, ethernet(50))))
		f.Add(join(pcapHeader(o, pcapMagicNano, 2, 4, 101), pcapPacket(o, 16, -1, 50, ipv4(50))))
		f.Add(join(section(o, 1, 0), iface(o, 1, 0), iface(o, 105, 34), enhanced(o, 1, 64, ethernet(50)),
			block(o, 5, make([]byte, 12)), oldPacket(o, 0, 64, ethernet(50)),
			section(big, 1, 2), iface(big, 101, 34), simple(big, 50, ipv4(50))))
		f.Add(join(section(o, 1, 0), words(o, 0x0bad, 0xfffffffc)))
		f.Add(join(pcapHeader(o, pcapMagic, 2, 4, 1), pcapPacket(o, 16, 20, -1, make([]byte, 20)))) // not IP, of 4 GiB
	}
	for _, of := range capturesOfLinks(f) {
		f.Add(of.plain())
	}
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3, 1, 0, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0}) // a single segment of 1 EiB

	f.Fuzz(func(t *testing.T, file []byte) {
		limit := uint64(16 << 20)
		if isZstd(file[:min(4, len(file))]) {
			limit += 2 * maxZstdWindow
		}
		var firstErr error
		table := capture.NewTable(100, 0)
		c := counterOf(t, table)
		if got := allocated(func() { firstErr = countAll(t.Context(), bytes.NewReader(file), c) }); got > limit {
			t.Errorf("allocated %d bytes for %d", got, len(file))
		}
		first := c.Outcomes()
		if why := lost(table, first[frame.Counted]); why != "" {
			t.Error(why)
		}
		if again, err := count(t, bytes.NewReader(file)); again != first || fmt.Sprint(err) != fmt.Sprint(firstErr) {
			t.Errorf("counted %v, %v and again %v, %v", first, firstErr, again, err)
		}
		if firstErr != nil || !isPcap(file) {
			return
		}
		format, err := newPcap(file)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := readWithPcapgo(t, file, format.link); err == io.EOF && first != want {
			t.Errorf("counted %v, pcapgo %v", first, want)
		}
		for name, other := range converted(t, format, file) {
			if got, err := count(t, bytes.NewReader(other)); err != nil || got != first {
				t.Errorf("counted %v, and of the same packets as %s %v, %v", first, name, got, err)
			}
		}
	})
}

// lost says what is wrong if the table does not have one end or both of each packet that was counted.
func lost(table *capture.Table, counted capture.OutcomeSize) string {
	var ends capture.OutcomeSize
	for _, host := range table.Snapshot().Hosts {
		ends.Bytes += host.ReceiveBytes + host.TransmitBytes
		ends.Packets += host.ReceivePackets + host.TransmitPackets
	}
	if ends.Bytes < counted.Bytes || ends.Bytes > 2*counted.Bytes || ends.Packets < counted.Packets || ends.Packets > 2*counted.Packets {
		return fmt.Sprintf("counted %v, but the table has %v", counted, ends)
	}
	return ""
}

// converted gives the packets of a sound pcap file in other formats and byte orders.
func converted(t *testing.T, from *pcap, file []byte) map[string][]byte {
	pcaps, pcapngs := map[endian][]byte{}, map[endian][]byte{}
	for _, o := range []endian{little, big} {
		pcaps[o] = pcapHeader(o, pcapMagicNano, 2, 4, from.linkType)
		pcapngs[o] = join(section(o, 1, 0), iface(o, 0xffff, 0), iface(o, uint16(from.linkType), 0))
	}
	for rest := file[pcapHeaderLen:]; len(rest) > 0; {
		var r record
		size, err := from.next(rest, &r)
		if err != nil || size > int64(len(rest)) {
			t.Fatalf("%v at the last %d bytes of a sound file", err, len(rest))
		}
		data := r.frame.Data
		for _, o := range []endian{little, big} {
			pcaps[o] = append(pcaps[o], pcapPacket(o, pcapPacketLen, len(data), r.frame.Wire, data)...)
			pcapngs[o] = append(pcapngs[o], enhanced(o, 1, r.frame.Wire, data)...)
		}
		rest = rest[size:]
	}
	all := map[string][]byte{}
	for _, o := range []endian{little, big} {
		all[fmt.Sprint("pcap, ", o)] = pcaps[o]
		if from.linkType <= 0xffff {
			all[fmt.Sprint("pcapng, ", o)] = pcapngs[o]
		}
	}
	return all
}

// FuzzPieces checks that what is counted depends neither on how much is read at a time nor on compression.
func FuzzPieces(f *testing.F) {
	for _, file := range written(f, [][]byte{ethernet(20), ethernet(50), ethernet(100)}) {
		f.Add(file, 3)
	}
	f.Add(join(section(big, 1, 0), iface(big, 1, 0), block(big, 5, make([]byte, 12)), simple(big, 64, ethernet(50))), 1)
	compressor, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, file []byte, size int) {
		if size < 1 || isZstd(file[:min(4, len(file))]) {
			return
		}
		want, wantErr := count(t, bytes.NewReader(file))
		check := func(how string, file []byte) {
			r := bytes.NewReader(file)
			pieces := readerFunc(func(b []byte) (int, error) { return r.Read(b[:min(size, len(b))]) })
			if got, err := count(t, pieces); got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("counted %v, %v, %s in pieces of %d %v, %v", want, wantErr, how, size, got, err)
			}
		}
		check("plain", file)
		if len(file) > 0 && !bytes.HasPrefix(file, []byte{0x1f, 0x8b}) {
			check("by gzip", gzipped(file))
			check("by zstd", compressor.EncodeAll(file, nil))
		}
	})
}
