package ebpf

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
		if first, last := r.First, r.Last; first.Is4() {
			ranges = append(ranges, countRange4{First: number4(first), Extent: number4(last) - number4(first), Index: hashed})
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

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func number6(a netip.Addr) countAddress6 {
	b := a.As16()
	return countAddress6{High: binary.BigEndian.Uint64(b[:8]), Low: binary.BigEndian.Uint64(b[8:])}
}

func address4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

func address6(n countAddress6) netip.Addr {
	b := binary.BigEndian.AppendUint64(nil, n.High)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, n.Low)))
}

// few4 and few6 return ranges as constants of the program. If there are too many ranges, they return the number alone, and tree4 and tree6
// put the ranges into a map.

func few4(ranges []countRange4) countFew4 {
	c := countFew4{Count: uint32(len(ranges))}
	if len(ranges) <= few {
		for i, r := range ranges {
			c.Ranges[i].First, c.Ranges[i].Extent, c.Ranges[i].Index = r.First, r.Extent, r.Index
		}
	}
	return c
}

func few6(ranges []countRange6) countFew6 {
	c := countFew6{Count: uint64(len(ranges))}
	if len(ranges) <= few {
		for i, r := range ranges {
			c.Ranges[i].First.High, c.Ranges[i].First.Low = r.First.High, r.First.Low
			c.Ranges[i].Last.High, c.Ranges[i].Last.Low = r.Last.High, r.Last.Low
		}
	}
	return c
}

// tree4 and tree6 fill a map with ranges, if there are too many for constants.

func tree4(m *ebpf.MapSpec, ranges []countRange4) {
	if len(ranges) > few {
		nodes := make([]countNode4, len(ranges))
		for i, next := range balance(len(ranges)) {
			nodes[i].Next.Before, nodes[i].Next.Behind = next.before, next.behind
			nodes[i].Range.First, nodes[i].Range.Extent, nodes[i].Range.Index = ranges[i].First, ranges[i].Extent, ranges[i].Index
		}
		setContents(m, nodes)
	}
}

func tree6(m *ebpf.MapSpec, ranges []countRange6) {
	if len(ranges) > few {
		nodes := make([]countNode6, len(ranges))
		for i, next := range balance(len(ranges)) {
			nodes[i].Next.Before, nodes[i].Next.Behind = next.before, next.behind
			nodes[i].Range.First, nodes[i].Range.Last = ranges[i].First, ranges[i].Last
		}
		setContents(m, nodes)
	}
}

// node has the indexes where a search goes on, or nowhere: see subnets.h.
type node struct{ before, behind uint32 }

// balance returns a balanced search tree of count sorted elements. The root is the one at count / 2.
func balance(count int) []node {
	nodes := make([]node, count)
	var root func(first, end int) uint32
	root = func(first, end int) uint32 {
		if first == end {
			return nowhere
		}
		middle := first + (end-first)/2
		nodes[middle] = node{root(first, middle), root(middle+1, end)}
		return uint32(middle)
	}
	root(0, count)
	return nodes
}

// setContents sets the values and the size of an array map.
func setContents[V any](m *ebpf.MapSpec, values []V) {
	m.MaxEntries = uint32(len(values))
	for i, v := range values {
		m.Contents = append(m.Contents, ebpf.MapKV{Key: uint32(i), Value: v})
	}
}
