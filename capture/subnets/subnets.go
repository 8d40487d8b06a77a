// Package subnets has sets of IP prefixes, and addresses as numbers.
package subnets

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Set is a set of IP prefixes. The zero value is empty. It is immutable and safe for concurrent use.
type Set struct {
	prefixes []netip.Prefix
	names    []string       // of the prefixes, "" where it has none; nil if none has
	v4       []span[uint32] // what the prefixes cover: sorted, disjoint and not adjacent
	v6       []span[Number]
}

// Parse reads prefixes in CIDR notation, or single addresses, separated by commas. Each may have a name before it, as in
// lan=192.168.0.0/24; several may have the same. Bits behind the prefix are masked off: 192.168.0.1/24 is 192.168.0.0/24. Space
// around a prefix or name is ignored; an empty list is an empty set. The error quotes what is wrong.
func Parse(list string) (Set, error) {
	var prefixes []netip.Prefix
	var names []string
	if strings.TrimSpace(list) == "" {
		return Set{}, nil
	}
	for field := range strings.SplitSeq(list, ",") {
		name, subnet, named := strings.Cut(field, "=")
		if !named {
			name, subnet = "", field
		}
		name, subnet = strings.TrimSpace(name), strings.TrimSpace(subnet)
		if named && (name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl)) {
			return Set{}, fmt.Errorf("%q has no name that can be read before the =, as in lan=192.168.0.0/24", strings.TrimSpace(field))
		}
		if slices.Contains(reservedNames, name) {
			return Set{}, fmt.Errorf("%q cannot be the name of a subnet: it has a meaning of its own", name)
		}
		prefix, err := netip.ParsePrefix(subnet)
		if err != nil {
			addr, addrErr := netip.ParseAddr(subnet)
			if addrErr != nil || addr.Zone() != "" {
				return Set{}, fmt.Errorf("%q is not a subnet such as 192.168.0.0/24 or fd00::/64", subnet)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		prefix = prefix.Masked()
		if at := slices.Index(prefixes, prefix); at >= 0 && names[at] != name {
			return Set{}, fmt.Errorf("%s comes twice, by two names", prefix)
		}
		prefixes, names = append(prefixes, prefix), append(names, name)
	}
	s := Of(prefixes...)
	if slices.ContainsFunc(names, func(name string) bool { return name != "" }) {
		s.names = names
	}
	return s, nil
}

// Names that no subnet can have: what labels say of addresses that are in none.
const External, Multicast, Other = "external", "multicast", "other"

var reservedNames = []string{External, Multicast, Other}

// Named tells whether a prefix of the set has a name.
func (s Set) Named() bool { return s.names != nil }

// Name gives the name of the prefix at a place in Prefixes: one without is called by its prefix.
func (s Set) Name(at int) string {
	if s.names != nil && s.names[at] != "" {
		return s.names[at]
	}
	return s.prefixes[at].String()
}

// Of makes a set of valid prefixes.
func Of(prefixes ...netip.Prefix) Set {
	var s Set
	for _, p := range prefixes {
		p = p.Masked()
		s.prefixes = append(s.prefixes, p)
		if host := p.Addr().BitLen() - p.Bits(); p.Addr().Is4() {
			first := Number4(p.Addr())
			s.v4 = append(s.v4, span[uint32]{first, first | uint32(1<<host-1)})
		} else {
			first, ones := Number6(p.Addr()), HostBits(host)
			s.v6 = append(s.v6, span[Number]{first, Number{first.Hi | ones.Hi, first.Lo | ones.Lo}})
		}
	}
	s.v4 = merge(s.v4, cmp.Compare[uint32], func(n uint32) uint32 { return n + 1 })
	s.v6 = merge(s.v6, Number.compare, Number.next)
	return s
}

// Prefixes gives the prefixes of the set, masked, as they were listed.
func (s Set) Prefixes() []netip.Prefix { return s.prefixes }

// Range is the addresses of one version from First to Last, both included.
type Range struct{ First, Last netip.Addr }

// Ranges gives what the set covers: sorted, disjoint and not adjacent, IPv4 first.
func (s Set) Ranges() []Range {
	var ranges []Range
	for _, r := range s.v4 {
		ranges = append(ranges, Range{Addr4(r.first), Addr4(r.last)})
	}
	for _, r := range s.v6 {
		ranges = append(ranges, Range{r.first.Addr6(), r.last.Addr6()})
	}
	return ranges
}

// Empty tells whether no address is in the set.
func (s Set) Empty() bool { return len(s.prefixes) == 0 }

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

// MarshalText is String, for logs in JSON.
func (s Set) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Contains tells whether a prefix of the set covers addr. An IPv6 address that maps an IPv4 one is an IPv6 address.
func (s *Set) Contains(addr netip.Addr) bool {
	if addr.Is4() {
		return s.Contains4(Number4(addr))
	}
	return addr.IsValid() && s.Contains6(Number6(addr))
}

// Contains4 and Contains6 search for the last span that does not begin after n: it is one of the size spans from at on.

func (s *Set) Contains4(n uint32) bool {
	spans, at := s.v4, 0
	if len(spans) == 0 {
		return false
	}
	for size := len(spans); size > 1; {
		half := size / 2
		if spans[at+half].first <= n {
			at += half
		}
		size -= half
	}
	return spans[at].first <= n && n <= spans[at].last
}

func (s *Set) Contains6(n Number) bool {
	spans, at := s.v6, 0
	if len(spans) == 0 {
		return false
	}
	for size := len(spans); size > 1; {
		half := size / 2
		if !n.Less(spans[at+half].first) {
			at += half
		}
		size -= half
	}
	return !n.Less(spans[at].first) && !spans[at].last.Less(n)
}

// span is a range of addresses, both ends included.
type span[T any] struct{ first, last T }

// merge sorts spans and joins those that overlap or touch.
func merge[T any](spans []span[T], compare func(a, b T) int, next func(T) T) []span[T] {
	slices.SortFunc(spans, func(a, b span[T]) int { return compare(a.first, b.first) })
	var out []span[T]
	for _, s := range spans {
		if n := len(out) - 1; n >= 0 && (compare(s.first, out[n].last) <= 0 || compare(s.first, next(out[n].last)) == 0) {
			if compare(s.last, out[n].last) > 0 {
				out[n].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// Number is an address as a number: that of an IPv4 address has 32 bits.
type Number struct{ Hi, Lo uint64 }

func (a Number) compare(b Number) int {
	if a.Hi != b.Hi {
		return cmp.Compare(a.Hi, b.Hi)
	}
	return cmp.Compare(a.Lo, b.Lo)
}

// Less tells whether a comes before b.
func (a Number) Less(b Number) bool {
	_, borrow := bits.Sub64(a.Lo, b.Lo, 0)
	_, borrow = bits.Sub64(a.Hi, b.Hi, borrow)
	return borrow != 0
}

func (a Number) next() Number {
	if a.Lo++; a.Lo == 0 {
		a.Hi++
	}
	return a
}

// Addr6 gives the IPv6 address.
func (a Number) Addr6() netip.Addr {
	b := binary.BigEndian.AppendUint64(nil, a.Hi)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, a.Lo)))
}

// HostBits has the low n bits set.
func HostBits(n int) Number {
	if n >= 64 {
		return Number{1<<(n-64) - 1, ^uint64(0)}
	}
	return Number{0, 1<<n - 1}
}

// Number4 gives the number of an IPv4 address.
func Number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Addr4 gives the IPv4 address of a number.
func Addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// Number6 gives the number of an IPv6 address.
func Number6(a netip.Addr) Number {
	// As16 would do, but the compiler copies its array, and the processor then waits for two halves to become one.
	var b [16]byte
	_, _ = a.AppendBinary(b[:0])
	return Number{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// NumberOf gives the number of an address of either version.
func NumberOf(a netip.Addr) Number {
	if a.Is4() {
		return Number{0, uint64(Number4(a))}
	}
	return Number6(a)
}
