package flow

import (
	"math/rand/v2"
	"testing"
	"time"
)

// seen is a datagram: its number, and its sizes in the unit of the standard and in another.
type seen struct {
	number      uint32
	size, other uint32
	after       time.Duration // since the one before
}

func TestSequence(t *testing.T) {
	in := func(size uint32, numbers ...uint32) (all []seen) {
		for _, n := range numbers {
			all = append(all, seen{number: n, size: size, other: size})
		}
		return all
	}
	for _, c := range []struct {
		name string
		all  []seen
		lost int64
	}{
		{"nothing", nil, 0},
		{"in order", in(1, 5, 6, 7, 8), 0},
		{"in order, in larger units", in(30, 0, 30, 60, 90), 0},
		{"a gap", in(1, 5, 6, 9, 10), 2},
		{"two gaps", in(10, 0, 20, 30, 60), 30},
		{"one comes late", in(1, 5, 7, 6, 8), 0},
		{"the one after a gap comes late", in(1, 5, 9, 8, 10), 2},
		{"all of a gap comes late, in any order", in(10, 0, 50, 30, 10, 40, 20, 60), 0},
		{"the numbers begin again at 0", in(1, 0xfffffffe, 0xffffffff, 0, 1), 0},
		{"a gap where the numbers begin again", in(1, 0xfffffffe, 1, 2), 2},
		{"one comes twice", in(1, 5, 6, 6, 7), 0},
		{"all come twice", in(1, 5, 5, 6, 6, 7, 7), 0},
		{"a restart", in(1, 500, 501, 0, 1, 2), 0},
		{"a restart, and then a gap", []seen{{500, 1, 1, 0}, {501, 1, 1, 0}, {0, 1, 1, grace}, {1, 1, 1, 0}, {2, 1, 1, 0}, {5, 1, 1, 0}}, 2},
		{"a gap, and then a restart", in(1, 500, 503, 0, 1, 2), 2},
		{"the first ones come late", in(1, 7, 5, 6, 8), 0},
		{"the first ones come late, in larger units", in(10, 60, 40, 50, 70, 90), 10},
		{"a restart far behind", in(1, 3_000_000_000, 3_000_000_001, 0, 1, 2), 0},
		{"a restart far behind, and then a gap", in(1, 3_000_000_000, 3_000_000_001, 0, 1, 2, 4), 1},
		{"one number that cannot be", in(1, 5, 6, 1_000_000_000, 7, 8), 0},
		{"a large gap after a silence", []seen{{5, 1, 1, 0}, {6, 1, 1, 0}, {1_000_007, 1, 1, time.Minute}, {1_000_008, 1, 1, 0}}, 1_000_000},
		{"late beyond the grace", []seen{{1, 1, 1, 0}, {3, 1, 1, 0}, {4, 1, 1, grace}, {2, 1, 1, 0}, {5, 1, 1, 0}}, 1},
		{"numbers count in the other unit", []seen{{0, 1, 28, 0}, {28, 1, 20, 0}, {48, 1, 28, 0}, {76, 1, 5, 0}, {81, 1, 1, 0}}, 0},
		{"numbers count in the other unit, with a gap", []seen{{0, 1, 28, 0}, {28, 1, 20, 0}, {48, 1, 28, 0}, {76, 1, 5, 0}, {81, 1, 3, 0}, {84, 1, 7, 0}, {100, 1, 1, 0}}, 9},
		{"numbers include the datagram, in the other unit", []seen{{28, 1, 28, 0}, {48, 1, 20, 0}, {76, 1, 28, 0}, {81, 1, 5, 0}, {84, 1, 3, 0}, {91, 1, 7, 0}}, 0},
		{"a gap that looks like the other unit once", []seen{{0, 1, 3, 0}, {3, 1, 28, 0}, {4, 1, 5, 0}, {5, 1, 5, 0}}, 2},
		{"datagrams without records", []seen{{0, 0, 1, 0}, {0, 5, 1, 0}, {5, 0, 1, 0}, {5, 3, 1, 0}, {8, 1, 1, 0}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Sequence
			now, lost := time.Unix(0, 0), int64(0)
			for _, d := range c.all {
				now = now.Add(d.after)
				lost += s.Observe(d.number, Sizes{d.size, d.other, d.other}, now)
			}
			early := lost
			if lost += s.Lost(now.Add(grace)); lost != c.lost {
				t.Errorf("%d are lost, want %d", lost, c.lost)
			}
			if again := s.End(); again != 0 {
				t.Errorf("%d more are lost in the end", again)
			}
			if early != 0 && c.name != "late beyond the grace" {
				t.Errorf("%d are lost before the grace period is over", early)
			}
		})
	}
}

// TestSequenceOfShuffledDatagrams loses some of many datagrams, and mixes the order of the others a little.
func TestSequenceOfShuffledDatagrams(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var all []seen
		number, lost := random.Uint32(), int64(0)
		for i := range 1000 {
			d := seen{number: number, size: 1 + random.Uint32N(30)}
			number += d.size
			if i > 10 && i < 990 && random.IntN(20) == 0 {
				lost += int64(d.size)
				continue
			}
			all = append(all, d)
		}
		for i := 20; i+5 < len(all)-10; i += 5 {
			random.Shuffle(5, func(a, b int) { all[i+a], all[i+b] = all[i+b], all[i+a] })
		}
		var s Sequence
		now, got := time.Unix(0, 0), int64(0)
		for _, d := range all {
			got += s.Observe(d.number, Sizes{d.size, 1, d.size}, now)
			now = now.Add(10 * time.Millisecond)
		}
		if got += s.End(); got != lost {
			t.Errorf("seed %d: %d are lost, want %d", seed, got, lost)
		}
	}
}

// TestSequenceOfFewShuffledDatagrams numbers datagrams, of which each has some records, and mixes the order of the first ones, too.
func TestSequenceOfFewShuffledDatagrams(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		var all []seen
		number := random.Uint32()
		for range 30 {
			all = append(all, seen{number: number, size: 1, other: 1 + random.Uint32N(20)})
			number++
		}
		for i := 0; i < len(all); i += 3 {
			random.Shuffle(3, func(a, b int) { all[i+a], all[i+b] = all[i+b], all[i+a] })
		}
		var s Sequence
		got := int64(0)
		for _, d := range all {
			got += s.Observe(d.number, Sizes{d.size, d.other, d.other}, time.Unix(0, 0))
		}
		if got += s.End(); got != 0 {
			t.Errorf("seed %d: %d are lost", seed, got)
		}
	}
}

// TestSequenceRemembersFewGaps has each second datagram missing: those gaps that are too many are lost at once.
func TestSequenceRemembersFewGaps(t *testing.T) {
	var s Sequence
	got := int64(0)
	for n := range uint32(1001) {
		got += s.Observe(2*n, Sizes{1, 1, 1}, time.Unix(0, 0))
		if len(s.tracks[0].gaps) > mostGaps {
			t.Fatalf("there are %d gaps", len(s.tracks[0].gaps))
		}
	}
	if got != 1000-mostGaps || s.End() != mostGaps {
		t.Errorf("%d are lost, want %d", got, 1000-mostGaps)
	}
}

// TestSequenceOfSoftflowd has numbers that include the datagram, and not the record of options that the first one of each 16 has.
func TestSequenceOfSoftflowd(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		var s Sequence
		number, lost, got, now := uint32(0), int64(0), int64(0), time.Unix(0, 0)
		for n := range 200 {
			flows, all := uint32(22), uint32(22)
			if random.IntN(4) == 0 {
				flows, all = 1+random.Uint32N(22), 0
				all = flows
			}
			if n%16 == 0 {
				all++
			}
			number += flows
			if seed >= 100 && n > 10 && n < 190 && random.IntN(20) == 0 {
				lost += int64(flows)
				continue
			}
			got += s.Observe(number, Sizes{all, 1, flows}, now)
			now = now.Add(time.Duration(random.IntN(500)) * time.Millisecond)
		}
		if got += s.End(); got != lost {
			t.Errorf("seed %d: %d are lost, want %d", seed, got, lost)
		}
	}
}
