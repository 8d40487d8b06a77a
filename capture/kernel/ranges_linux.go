package kernel

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"promflow/capture/subnets"
)

// See subnets.h.
const (
	few     = int(countRangeLimitFEW)
	nowhere = uint32(countNoSlotNOWHERE)
	hashed  = uint32(countNoSlotHASHED)
)

// ranges4 returns the IPv4 ranges of a set. It gives indexes to the smallest of them: from 0 on, one range after the other, count in all,
// which is at most maxIndexed. Addresses that differ in their hostBits low bits only are one prefix, and have the same index. If two ranges
// share a prefix, neither gets indexes.
func ranges4(set subnets.Set, maxIndexed uint32, hostBits int) (ranges []countRange4, count uint32) {
	for _, r := range set.Ranges() {
		if r.First.Is4() {
			first := subnets.Number4(r.First)
			ranges = append(ranges, countRange4{First: first, Extent: subnets.Number4(r.Last) - first, Index: hashed})
		}
	}
	bySize := make([]*countRange4, len(ranges))
	for i := range ranges {
		bySize[i] = &ranges[i]
	}
	shares := map[*countRange4]bool{}
	for i := range len(ranges) - 1 {
		if a, b := &ranges[i], &ranges[i+1]; (a.First+a.Extent)>>hostBits == b.First>>hostBits {
			shares[a], shares[b] = true, true
		}
	}
	slices.SortStableFunc(bySize, func(a, b *countRange4) int { return cmp.Compare(a.Extent, b.Extent) })
	for _, r := range bySize {
		if shares[r] {
			continue
		}
		size := prefixes4(*r, hostBits)
		if size-1 >= maxIndexed-count {
			break
		}
		r.Index = count
		count += size
	}
	return ranges, count
}

// prefixes4 returns how many prefixes a range has, where addresses that differ in their hostBits low bits only are one prefix. For all of
// IPv4 and 0 bits it returns 0, as 32 bits have no room for the number.
func prefixes4(r countRange4, hostBits int) uint32 {
	return (r.First+r.Extent)>>hostBits - r.First>>hostBits + 1
}

// ranges6 returns the IPv6 ranges of a set.
func ranges6(set subnets.Set) (ranges []countRange6) {
	for _, r := range set.Ranges() {
		if r.First.Is6() {
			ranges = append(ranges, countRange6{First: number6(r.First), Last: number6(r.Last)})
		}
	}
	return ranges
}

func number6(a netip.Addr) countAddress6 {
	n := subnets.Number6(a)
	return countAddress6{High: n.Hi, Low: n.Lo}
}

func address4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

func address6(n countAddress6) netip.Addr {
	b := binary.BigEndian.AppendUint64(nil, n.High)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, n.Low)))
}

// fewOf has up to few ranges as constants of the program, or the number of ranges alone: see subnets.h.
type fewOf[N uint32 | uint64, Range any] struct {
	Count  N
	Ranges [few]Range
}

// constants returns ranges as constants. If there are too many of them, it puts them into a map instead.
func constants[N uint32 | uint64, Range any](ranges []Range, more *ebpf.MapSpec) fewOf[N, Range] {
	c := fewOf[N, Range]{Count: N(len(ranges))}
	if len(ranges) > few {
		setTree(more, ranges)
	} else {
		copy(c.Ranges[:], ranges)
	}
	return c
}

// node is an element of a tree, and the indexes where a search goes on, or nowhere: see subnets.h.
type node[Element any] struct {
	Before, Behind uint32
	Element        Element
}

// setTree sets the contents and the size of an array map to a balanced search tree of sorted elements. The root is the one at half of
// their number.
func setTree[Element any](m *ebpf.MapSpec, sorted []Element) {
	m.MaxEntries = uint32(len(sorted))
	var root func(first, end int) uint32
	root = func(first, end int) uint32 {
		if first == end {
			return nowhere
		}
		middle := first + (end-first)/2
		n := node[Element]{root(first, middle), root(middle+1, end), sorted[middle]}
		m.Contents = append(m.Contents, ebpf.MapKV{Key: uint32(middle), Value: n})
		return uint32(middle)
	}
	root(0, len(sorted))
}
