package replay

import (
	"bytes"
	"fmt"
	"io"
	"testing"
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
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3, 1, 0, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0}) // a single segment of 1 EiB

	f.Fuzz(func(t *testing.T, file []byte) {
		limit := uint64(16 << 20)
		if isZstd(file[:min(4, len(file))]) {
			limit += 2 * maxZstdWindow
		}
		var firstErr error
		c := counter(t)
		if got := allocated(func() { firstErr = Count(t.Context(), bytes.NewReader(file), "FILE", c) }); got > limit {
			t.Errorf("allocated %d bytes for %d", got, len(file))
		}
		first := c.Outcomes()
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
	})
}

// FuzzPieces checks that what is counted does not depend on how much is read at a time.
func FuzzPieces(f *testing.F) {
	for _, file := range written(f, [][]byte{ethernet(20), ethernet(50), ethernet(100)}) {
		f.Add(file, 3)
	}
	f.Add(join(section(big, 1, 0), iface(big, 1, 0), block(big, 5, make([]byte, 12)), simple(big, 64, ethernet(50))), 1)
	f.Fuzz(func(t *testing.T, file []byte, size int) {
		if size < 1 || isZstd(file[:min(4, len(file))]) {
			return
		}
		want, wantErr := count(t, bytes.NewReader(file))
		r := bytes.NewReader(file)
		pieces := readerFunc(func(b []byte) (int, error) { return r.Read(b[:min(size, len(b))]) })
		if got, err := count(t, pieces); got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("counted %v, %v, in pieces of %d %v, %v", want, wantErr, size, got, err)
		}
	})
}
