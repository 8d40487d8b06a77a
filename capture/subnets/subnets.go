// Package subnets has sets of IP prefixes, and IP addresses as numbers.
package subnets

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// Set is a set of IP prefixes. The zero value is empty. It is immutable and safe for concurrent use.
type Set struct {
	prefixes []netip.Prefix
	names    []string // of the prefixes, "" for one without; nil if none has a name
	ranges   []Range
	v4       struct{ firsts, lasts []uint32 } // the ranges of each version
	v6       struct{ firsts, lasts []Number }
}

// Parse reads a list of prefixes: see [ParseList]. It takes neither files nor Auto.
func Parse(text string) (Set, error) {
	l, err := ParseList(text)
	if err != nil {
		return Set{}, err
	}
	for _, e := range l.entries {
		if !e.prefix.IsValid() {
			return Set{}, fmt.Errorf("%q is not a subnet such as 192.168.0.0/24 or fd00::/64", e.text)
		}
	}
	s, _, err := l.Read()
	return s, err
}

// named returns the set of some masked prefixes, with their names.
func named(prefixes []netip.Prefix, names []string) Set {
	s := Of(prefixes...)
	if slices.ContainsFunc(names, func(name string) bool { return name != "" }) {
		s.names = names
	}
	return s
}

// With returns the set with further prefixes, all of which have a name, or none if it is empty. Prefixes that the set has keep their names.
func (s Set) With(name string, prefixes ...netip.Prefix) Set {
	all, names := slices.Clone(s.prefixes), slices.Clone(s.names)
	if names == nil {
		names = make([]string, len(all))
	}
	for _, p := range prefixes {
		if p = p.Masked(); !slices.Contains(all, p) {
			all, names = append(all, p), append(names, name)
		}
	}
	return named(all, names)
}

// Values of labels that are not names of subnets. No subnet can have such a name.
const External, Multicast, Other = "external", "multicast", "other"

// Named tells whether a prefix of the set has a name.
func (s Set) Named() bool { return s.names != nil }

// Name returns the name of the prefix at a position in Prefixes, or the prefix itself if it has none.
func (s Set) Name(at int) string {
	if s.names != nil && s.names[at] != "" {
		return s.names[at]
	}
	return s.prefixes[at].String()
}

// Of returns the set of some valid prefixes.
func Of(prefixes ...netip.Prefix) Set {
	var s Set
	for _, p := range prefixes {
		p = p.Masked()
		s.prefixes = append(s.prefixes, p)
		s.ranges = append(s.ranges, Range{p.Addr(), Last(p)})
	}
	slices.SortFunc(s.ranges, func(a, b Range) int { return a.First.Compare(b.First) })
	merged := s.ranges[:0]
	for _, r := range s.ranges {
		n := len(merged) - 1
		if n < 0 || merged[n].Last.Less(r.First) && merged[n].Last.Next() != r.First {
			merged = append(merged, r)
		} else if merged[n].Last.Less(r.Last) {
			merged[n].Last = r.Last
		}
	}
	s.ranges = merged
	for _, r := range s.ranges {
		if r.First.Is4() {
			s.v4.firsts, s.v4.lasts = append(s.v4.firsts, Number4(r.First)), append(s.v4.lasts, Number4(r.Last))
		} else {
			s.v6.firsts, s.v6.lasts = append(s.v6.firsts, Number6(r.First)), append(s.v6.lasts, Number6(r.Last))
		}
	}
	return s
}

// Last returns the last address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// Prefixes returns the prefixes of the set, masked, in the order of the list.
func (s Set) Prefixes() []netip.Prefix { return s.prefixes }

// Range is the addresses from First to Last, both included, of one version of IP.
type Range struct{ First, Last netip.Addr }

// Ranges returns the addresses of the set as sorted ranges with gaps between them, IPv4 first.
func (s Set) Ranges() []Range { return s.ranges }

// Empty tells whether the set has no addresses.
func (s Set) Empty() bool { return len(s.prefixes) == 0 }

// Equal tells whether both sets have the same prefixes with the same names, in any order.
func (s Set) Equal(other Set) bool {
	return slices.Equal(s.sorted(), other.sorted())
}

func (s Set) sorted() (all []string) {
	for i, p := range s.prefixes {
		all = append(all, p.String()+" "+s.Name(i))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Covers tells whether all addresses of a prefix are in the set.
func (s Set) Covers(p netip.Prefix) bool {
	first, last := p.Masked().Addr(), Last(p.Masked())
	return slices.ContainsFunc(s.ranges, func(r Range) bool {
		return r.First.Is4() == first.Is4() && !first.Less(r.First) && !r.Last.Less(last)
	})
}

func (s Set) String() string {
	list := make([]string, len(s.prefixes))
	for i, p := range s.prefixes {
		list[i] = p.String()
		if name := s.Name(i); name != list[i] {
			list[i] = name + "=" + list[i]
		}
	}
	return strings.Join(list, ",")
}

// MarshalText returns what String does: logs in JSON need it.
func (s Set) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Contains tells whether an address is in the set. An IPv4-mapped IPv6 address is an IPv6 address.
func (s *Set) Contains(addr netip.Addr) bool {
	if addr.Is4() {
		return s.Contains4(Number4(addr))
	}
	return addr.IsValid() && s.Contains6(Number6(addr))
}

// Contains4 is Contains for the number of an IPv4 address.
func (s *Set) Contains4(n uint32) bool {
	if len(s.v4.firsts) == 0 {
		return false
	}
	at := Search4(s.v4.firsts, n)
	return s.v4.firsts[at] <= n && n <= s.v4.lasts[at]
}

// Contains6 is Contains for the number of an IPv6 address.
func (s *Set) Contains6(n Number) bool {
	if len(s.v6.firsts) == 0 {
		return false
	}
	at := Search6(s.v6.firsts, n)
	return !n.Less(s.v6.firsts[at]) && !s.v6.lasts[at].Less(n)
}

// Search4 returns the position of the last of some sorted numbers that is not greater than n, or 0 if all are greater. There must be one.
func Search4(sorted []uint32, n uint32) int {
	at := 0 // the result is one of the size positions from here on
	for size := len(sorted); size > 1; {
		half := size / 2
		if sorted[at+half] <= n {
			at += half
		}
		size -= half
	}
	return at
}

// Search6 is Search4 for IPv6 addresses.
func Search6(sorted []Number, n Number) int {
	at := 0
	for size := len(sorted); size > 1; {
		half := size / 2
		if !n.Less(sorted[at+half]) {
			at += half
		}
		size -= half
	}
	return at
}

// Number is an address as a number: that of an IPv4 address has 32 bits.
type Number struct{ Hi, Lo uint64 }

// NumberOf returns the number of a valid address.
func NumberOf(a netip.Addr) Number {
	if a.Is4() {
		return Number{0, uint64(Number4(a))}
	}
	return Number6(a)
}

// Number4 returns the number of an IPv4 address.
func Number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Number6 returns the number of an IPv6 address.
func Number6(a netip.Addr) Number {
	// As16 would do, but the compiler copies its array, and the processor then waits for two halves to become one.
	var b [16]byte
	_, _ = a.AppendBinary(b[:0])
	return Number{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// Less tells whether a is less than b.
func (a Number) Less(b Number) bool {
	_, borrow := bits.Sub64(a.Lo, b.Lo, 0)
	_, borrow = bits.Sub64(a.Hi, b.Hi, borrow)
	return borrow != 0
}
