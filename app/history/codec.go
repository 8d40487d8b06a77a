package history

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net/netip"
	"slices"

	"promflow/capture"
	"promflow/capture/labels"
)

// errDamaged is what reading returns for bytes that were not written so.
var errDamaged = errors.New("the file is damaged")

// errNewer is what reading returns for a file of another version.
var errNewer = errors.New("the file is of another version of promflow")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum of a key and its value before the value, which has about that length.
func seal(key []byte, length int, value func([]byte) []byte) []byte {
	sealed := value(make([]byte, 4, 4+length))
	binary.LittleEndian.PutUint32(sealed, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, sealed[4:]))
	return sealed
}

// unseal returns the value that was sealed with a key.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.LittleEndian.Uint32(sealed) != crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, sealed[4:]) {
		return nil, fmt.Errorf("%w: the checksum of %x is wrong", errDamaged, key)
	}
	return sealed[4:], nil
}

// decoder reads what was appended to bytes. After the first failure it returns zeros.
type decoder struct {
	left   []byte
	failed bool
}

func (d *decoder) unsigned() uint64 {
	n, length := binary.Uvarint(d.left)
	if length <= 0 {
		d.failed, d.left = true, nil
		return 0
	}
	d.left = d.left[length:]
	return n
}

// count returns a number that is not negative.
func (d *decoder) count() int64 {
	n := d.unsigned()
	if int64(n) < 0 {
		d.failed = true
		return 0
	}
	return int64(n)
}

// number returns a number that has 32 bits.
func (d *decoder) number() uint32 {
	n := d.unsigned()
	if n > math.MaxUint32 {
		d.failed = true
		return 0
	}
	return uint32(n)
}

func (d *decoder) signed() int64 {
	n, length := binary.Varint(d.left)
	if length <= 0 {
		d.failed, d.left = true, nil
		return 0
	}
	d.left = d.left[length:]
	return n
}

func (d *decoder) text() string {
	n := d.unsigned()
	if n > uint64(len(d.left)) {
		d.failed, d.left = true, nil
		return ""
	}
	s := string(d.left[:n])
	d.left = d.left[n:]
	return s
}

// end returns an error unless all bytes were read, and none was missing.
func (d *decoder) end(what string) error {
	if d.failed || len(d.left) > 0 {
		return fmt.Errorf("%w: this is no %s", errDamaged, what)
	}
	return nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendCounts(b []byte, counts ...int64) []byte {
	for _, n := range counts {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func appendTotals(b []byte, t *capture.Totals) []byte {
	return appendCounts(b, t.ReceiveBytes, t.TransmitBytes, t.ReceivePackets, t.TransmitPackets)
}

func (d *decoder) totals() (t capture.Totals) {
	t.ReceiveBytes, t.TransmitBytes, t.ReceivePackets, t.TransmitPackets = d.count(), d.count(), d.count(), d.count()
	return t
}

// volume is bytes that were received and transmitted.
type volume struct{ receive, transmit int64 }

func (v volume) isZero() bool { return v == volume{} }

func (v *volume) add(more volume) {
	v.receive += more.receive
	v.transmit += more.transmit
}

func (d *decoder) volume() volume { return volume{d.count(), d.count()} }

// addressKey returns the key of an address and the length of the prefix that it stands for, 0 for a single one. It has one byte for the
// invalid address.
func addressKey(addr netip.Addr, bits int) []byte { return append(addr.AsSlice(), byte(bits)) }

// parseAddress is the inverse of addressKey.
func parseAddress(key []byte) (addr netip.Addr, bits int, err error) {
	n := len(key) - 1
	if n != 0 && n != 4 && n != 16 || int(key[n]) > 8*n {
		return addr, 0, fmt.Errorf("%w: %x is no address", errDamaged, key)
	}
	addr, _ = netip.AddrFromSlice(key[:n])
	return addr, int(key[n]), nil
}

func appendInfo(b []byte, i *Info) []byte {
	return appendText(appendText(appendText(b, i.MAC), i.Hostname), i.Network)
}

func (d *decoder) info() (i Info) {
	i.MAC, i.Hostname, i.Network = d.text(), d.text(), d.text()
	return i
}

// record is what is kept of an address, or of other.
type record struct {
	own    capture.Totals // without those of series
	seen   int64          // when it last moved something, in seconds since 1970
	began  [2]int64       // when it began to receive and to transmit, in milliseconds since 1970; 0 if it has not
	series []recordSeries
	Info   // as it was last known

	moved [resolutions]volume // in the open periods
	in    [resolutions]uint32 // the number of the open period that moved is of
}

// recordSeries is what is kept of a series.
type recordSeries struct {
	labels []labels.Text
	capture.Totals
	began [2]int64
}

// sum returns the totals with those of series.
func (r *record) sum() capture.Totals {
	sum := r.own
	for i := range r.series {
		sum.Add(r.series[i].Totals)
	}
	return sum
}

// earliest returns when the totals began with those of series.
func (r *record) earliest() [2]int64 {
	began := r.began
	for i := range r.series {
		began = earlier(began, r.series[i].began)
	}
	return began
}

func (r *record) append(b []byte) []byte {
	b = appendTotals(b, &r.own)
	for _, n := range []int64{r.seen, r.began[0], r.began[1]} {
		b = binary.AppendVarint(b, n)
	}
	for i, n := range r.in {
		if b = binary.AppendUvarint(b, uint64(n)); n > 0 {
			b = appendCounts(b, r.moved[i].receive, r.moved[i].transmit)
		}
	}
	b = appendInfo(b, &r.Info)
	b = binary.AppendUvarint(b, uint64(len(r.series)))
	for i := range r.series {
		s := &r.series[i]
		b = binary.AppendUvarint(b, uint64(len(s.labels)))
		for _, l := range s.labels {
			b = appendText(appendText(b, l.Label.String()), l.Value)
		}
		b = appendTotals(b, &s.Totals)
		b = binary.AppendVarint(binary.AppendVarint(b, s.began[0]), s.began[1])
	}
	return b
}

func parseRecord(b []byte) (r record, err error) {
	d := decoder{left: b}
	r.own = d.totals()
	r.seen, r.began[0], r.began[1] = d.signed(), d.signed(), d.signed()
	for i := range r.in {
		if r.in[i] = d.number(); r.in[i] > 0 {
			r.moved[i] = d.volume()
		}
	}
	r.Info = d.info()
	for range d.unsigned() {
		var s recordSeries
		for range d.unsigned() {
			name := d.text()
			// A label of another version has a number that no label has: the series is folded.
			l := labels.Text{Label: ^labels.Label(0), Value: d.text()}
			if known := slices.Index(labels.Names(), name); known >= 0 {
				l.Label = labels.Label(known)
			}
			if d.failed {
				break
			}
			s.labels = append(s.labels, l)
		}
		s.Totals = d.totals()
		s.began[0], s.began[1] = d.signed(), d.signed()
		if d.failed {
			break
		}
		r.series = append(r.series, s)
	}
	return r, d.end("record of an address")
}

// who is what an address was known as.
type who struct {
	addr netip.Addr
	bits int // as in addressKey
	Info
}

func (w *who) append(b []byte) []byte {
	b = appendText(b, string(addressKey(w.addr, w.bits)))
	return appendInfo(b, &w.Info)
}

func parseWho(b []byte) (w who, err error) {
	d := decoder{left: b}
	key := d.text()
	w.Info = d.info()
	if err := d.end("name"); err != nil {
		return w, err
	}
	if key == "" {
		return w, fmt.Errorf("%w: this is no name", errDamaged)
	}
	w.addr, w.bits, err = parseAddress([]byte(key))
	return w, err
}

// volumes is what addresses moved in a period.
type volumes struct {
	length int64   // of the period, in seconds
	other  volume  // of other, and of addresses beyond maxAddresses
	of     []entry // in the order of who
}

// entry is what an address moved.
type entry struct {
	who uint32
	volume
}

// maxAddresses is how many addresses of a period have volumes of their own: those that moved most.
const maxAddresses = 4096

func (v *volumes) append(b []byte) []byte {
	b = appendCounts(b, v.length, v.other.receive, v.other.transmit, int64(len(v.of)))
	last := uint32(0)
	for _, e := range v.of {
		b = appendCounts(b, int64(e.who-last), e.receive, e.transmit)
		last = e.who
	}
	return b
}

func parseVolumes(b []byte) (v volumes, err error) {
	d := decoder{left: b}
	v.length = d.count()
	v.other = d.volume()
	n := d.unsigned()
	if n > maxAddresses {
		return v, fmt.Errorf("%w: %d addresses in a period", errDamaged, n)
	}
	v.of = make([]entry, 0, min(n, uint64(len(b))/3))
	last := uint64(0)
	for range n {
		more := d.unsigned()
		last += more
		e := entry{uint32(last), d.volume()}
		if d.failed || more == 0 || more > 1<<32-1 || last > 1<<32-1 {
			d.failed = true
			break
		}
		v.of = append(v.of, e)
	}
	return v, d.end("period")
}

// readLength reads how long a period is.
func readLength(key, sealed []byte) (int64, error) {
	if len(sealed) < 4 {
		return 0, fmt.Errorf("%w: %x is no period", errDamaged, key)
	}
	d := decoder{left: sealed[4:]} // readVolumes checks the rest
	return d.count(), nil
}

// merge adds volumes of the same period.
func (v *volumes) merge(more volumes) {
	v.length = max(v.length, more.length)
	v.other.add(more.other)
	all := append(v.of, more.of...)
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.who, b.who) })
	v.of = all[:0]
	for _, e := range all {
		if n := len(v.of); n > 0 && v.of[n-1].who == e.who {
			v.of[n-1].add(e.volume)
		} else {
			v.of = append(v.of, e)
		}
	}
	v.other.add(fold(&v.of, func(e entry) volume { return e.volume }))
	slices.SortFunc(v.of, func(a, b entry) int { return cmp.Compare(a.who, b.who) })
}

// fold keeps the maxAddresses largest of a list, and returns the sum of the others.
func fold[E any](list *[]E, size func(E) volume) (rest volume) {
	all := *list
	if len(all) <= maxAddresses {
		return volume{}
	}
	slices.SortFunc(all, func(a, b E) int {
		va, vb := size(a), size(b)
		return cmp.Compare(vb.receive+vb.transmit, va.receive+va.transmit)
	})
	for _, e := range all[maxAddresses:] {
		rest.add(size(e))
	}
	*list = all[:maxAddresses]
	return rest
}

// version is that of the file. A file of a later one is put aside.
const version = 1

// state is what is kept of the whole.
type state struct {
	saved   int64          // when, in seconds since 1970
	sum     capture.Totals // over all records
	records int64

	numbers uint32 // of open periods so far
	open    [resolutions]openPeriod
	kept    [resolutions]int64 // how many periods
	dropped [resolutions]int64 // when the last period ended that is no longer kept; 0 if all are

	lastWho, liveWhos int64
}

// openPeriod is a period that has not ended. Its volumes are in the records, and, of what was handed over, in the file already.
type openPeriod struct {
	start, end int64 // seconds since 1970
	number     uint32
}

func (o openPeriod) middle() int64 { return o.start + max(o.end-o.start, 0)/2 }

func (s *state) append(b []byte) []byte {
	b = binary.AppendUvarint(b, version)
	b = binary.AppendVarint(b, s.saved)
	b = appendTotals(b, &s.sum)
	b = appendCounts(b, s.records, s.lastWho, s.liveWhos)
	b = binary.AppendUvarint(b, uint64(s.numbers))
	for r, o := range s.open {
		for _, n := range []int64{o.start, o.end, s.dropped[r]} {
			b = binary.AppendVarint(b, n)
		}
		b = binary.AppendUvarint(appendCounts(b, s.kept[r]), uint64(o.number))
	}
	return b
}

func parseState(b []byte) (s state, err error) {
	d := decoder{left: b}
	if v := d.unsigned(); !d.failed && v != version {
		return s, fmt.Errorf("%w: version %d, and this promflow knows version %d", errNewer, v, version)
	}
	s.saved, s.sum = d.signed(), d.totals()
	s.records, s.lastWho, s.liveWhos = d.count(), d.count(), d.count()
	s.numbers = d.number()
	for r := range s.open {
		s.open[r].start, s.open[r].end, s.dropped[r] = d.signed(), d.signed(), d.signed()
		s.kept[r], s.open[r].number = d.count(), d.number()
	}
	return s, d.end("state")
}
