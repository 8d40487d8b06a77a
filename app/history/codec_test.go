package history

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"promflow/capture"
	"promflow/capture/labels"
)

// codecs has each format with an example.
func examples() map[string][]byte {
	r := record{own: capture.Totals{ReceiveBytes: 1, TransmitBytes: math.MaxInt64, ReceivePackets: 3, TransmitPackets: 4}, seen: -5, began: [2]int64{6, 0}}
	r.in[Hour], r.moved[Hour] = 7, volume{8, 9}
	r.series = []recordSeries{{labels: []labels.Text{{Label: labels.VLAN, Value: "12"}, {Label: labels.Peer, Value: "ä"}}, Totals: capture.Totals{ReceiveBytes: 10}, began: [2]int64{0, 11}}}
	w := who{netip.MustParseAddr("fd00::1"), 64, Info{"laptop", "02:00:00:00:00:02", "lan"}}
	r.Info = Info{"ä", "", "10.0.0.0/8"}
	v := volumes{300, volume{1, 2}, []entry{{3, volume{4, 5}}, {1 << 31, volume{math.MaxInt64, 0}}}}
	s := state{saved: 1, sum: r.own, records: 2, numbers: 3, lastWho: 4, liveWhos: 5}
	s.open[Day], s.dropped[Day], s.kept[Day] = openPeriod{6, 7, 8}, 9, 10
	return map[string][]byte{"record": r.append(nil), "who": w.append(nil), "volumes": v.append(nil), "state": s.append(nil)}
}

// again reads bytes of a format, and writes them.
func again(format string, b []byte) (value any, written []byte, err error) {
	switch format {
	case "record":
		r, err := parseRecord(b)
		for i := range r.series { // those of a label of another version are not written again
			if slices.ContainsFunc(r.series[i].labels, func(l labels.Text) bool { return int(l.Label) >= len(labels.Names()) }) {
				r.series[i].labels = nil
			}
		}
		return r, r.append(nil), err
	case "who":
		w, err := parseWho(b)
		return w, w.append(nil), err
	case "volumes":
		v, err := parseVolumes(b)
		return v, v.append(nil), err
	}
	s, err := parseState(b)
	return s, s.append(nil), err
}

func TestFormatsAreReadAsTheyAreWritten(t *testing.T) {
	for format, b := range examples() {
		if _, written, err := again(format, b); err != nil || string(written) != string(b) {
			t.Errorf("%s: %x is written again as %x, %v", format, b, written, err)
		}
		for length := range len(b) {
			if _, _, err := again(format, b[:length]); !errors.Is(err, errDamaged) {
				t.Errorf("%s: %d of %d bytes: %v", format, length, len(b), err)
			}
		}
		if _, _, err := again(format, append(b, 0)); !errors.Is(err, errDamaged) {
			t.Errorf("%s: a byte more: %v", format, err)
		}
	}
}

// FuzzFormats reads any bytes: what is read can be written and read again, to the same value.
func FuzzFormats(f *testing.F) {
	for format, b := range examples() {
		f.Add(format, b)
	}
	f.Fuzz(func(t *testing.T, format string, b []byte) {
		value, written, err := again(format, b)
		if err != nil {
			return
		}
		value2, _, err := again(format, written)
		if err != nil || !reflect.DeepEqual(value, value2) {
			t.Errorf("%s: %+v is read again as %+v, %v", format, value, value2, err)
		}
	})
}

func TestSealShowsEachFlippedBit(t *testing.T) {
	key := []byte("key")
	sealed := seal(key, 3, func(b []byte) []byte { return append(b, "some value"...) })
	if got, err := unseal(key, sealed); err != nil || string(got) != "some value" {
		t.Fatalf("%q, %v", got, err)
	}
	for bit := range 8 * len(sealed) {
		sealed[bit/8] ^= 1 << (bit % 8)
		if _, err := unseal(key, sealed); !errors.Is(err, errDamaged) {
			t.Errorf("bit %d: %v", bit, err)
		}
		sealed[bit/8] ^= 1 << (bit % 8)
	}
	if _, err := unseal([]byte("other"), sealed); !errors.Is(err, errDamaged) {
		t.Errorf("another key: %v", err)
	}
}

func TestMergedPeriodsKeepTheLargestAndTheSum(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var want volume
		var all volumes
		for range 4 {
			more := volumes{length: 300, other: volume{random.Int64N(100), 1}}
			want.add(more.other)
			id := uint32(0)
			for range random.IntN(maxAddresses) {
				id += 1 + random.Uint32N(3)
				e := entry{id, volume{random.Int64N(1 << 40), random.Int64N(100)}}
				want.add(e.volume)
				more.of = append(more.of, e)
			}
			all.merge(more)
		}
		got, smallest := all.other, int64(math.MaxInt64)
		for i, e := range all.of {
			got.add(e.volume)
			smallest = min(smallest, e.receive+e.transmit)
			if i > 0 && e.who <= all.of[i-1].who {
				t.Fatal("they are not in order")
			}
		}
		if got != want || len(all.of) > maxAddresses {
			t.Errorf("%d addresses moved %+v, want %+v", len(all.of), got, want)
		}
		if _, err := parseVolumes(all.append(nil)); err != nil {
			t.Error(err)
		}
	}
}
