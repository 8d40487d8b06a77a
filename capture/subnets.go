package capture

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

// Subnets is a set of IP prefixes. The zero value is empty. It is immutable and safe for concurrent use.
type Subnets struct {
	prefixes []netip.Prefix
	names    []string       // of the prefixes, "" where it has none; nil if none has
	v4       []span[uint32] // what the prefixes cover: sorted, disjoint and not adjacent
	v6       []span[uint128]
}

// ParseSubnets reads prefixes in CIDR notation, or single addresses, separated by commas. Each may have a name before it, as in
// lan=192.168.0.0/24; several may have the same. Bits behind the prefix are masked off: 192.168.0.1/24 is 192.168.0.0/24. Space
// around a prefix or name is ignored; an empty list is an empty set. The error quotes what is wrong.
func ParseSubnets(list string) (Subnets, error) {
	var prefixes []netip.Prefix
	var names []string
	if strings.TrimSpace(list) == "" {
		return Subnets{}, nil
	}
	for field := range strings.SplitSeq(list, ",") {
		name, subnet, named := strings.Cut(field, "=")
		if !named {
			name, subnet = "", field
		}
		name, subnet = strings.TrimSpace(name), strings.TrimSpace(subnet)
		if named && (name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl)) {
			return Subnets{}, fmt.Errorf("%q has no name that can be read before the =, as in lan=192.168.0.0/24", strings.TrimSpace(field))
		}
		if slices.Contains(reservedNames, name) {
			return Subnets{}, fmt.Errorf("%q cannot be the name of a subnet: it has a meaning of its own", name)
		}
		prefix, err := netip.ParsePrefix(subnet)
		if err != nil {
			addr, addrErr := netip.ParseAddr(subnet)
			if addrErr != nil || addr.Zone() != "" {
				return Subnets{}, fmt.Errorf("%q is not a subnet such as 192.168.0.0/24 or fd00::/64", subnet)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		prefix = prefix.Masked()
		if at := slices.Index(prefixes, prefix); at >= 0 && names[at] != name {
			return Subnets{}, fmt.Errorf("%s comes twice, by two names", prefix)
		}
		prefixes, names = append(prefixes, prefix), append(names, name)
	}
	s := SubnetsOf(prefixes...)
	if slices.ContainsFunc(names, func(name string) bool { return name != "" }) {
		s.names = names
	}
	return s, nil
}

// reservedNames are what labels say of addresses that are in no subnet.
var reservedNames = []string{externalName, multicastName, otherName}

// Named tells whether a prefix of the set has a name.
func (s Subnets) Named() bool { return s.names != nil }

// Name gives the name of the prefix at a place in Prefixes: one without is called by its prefix.
func (s Subnets) Name(at int) string {
	if s.names != nil && s.names[at] != "" {
		return s.names[at]
	}
	return s.prefixes[at].String()
}

// SubnetsOf makes a set of valid prefixes.
func SubnetsOf(prefixes ...netip.Prefix) Subnets {
	var s Subnets
	for _, p := range prefixes {
		p = p.Masked()
		s.prefixes = append(s.prefixes, p)
		if host := p.Addr().BitLen() - p.Bits(); p.Addr().Is4() {
			first := v4Number(p.Addr())
			s.v4 = append(s.v4, span[uint32]{first, first | uint32(1<<host-1)})
		} else {
			first, ones := v6Number(p.Addr()), hostBits(host)
			s.v6 = append(s.v6, span[uint128]{first, uint128{first.hi | ones.hi, first.lo | ones.lo}})
		}
	}
	s.v4 = merge(s.v4, cmp.Compare[uint32], func(n uint32) uint32 { return n + 1 })
	s.v6 = merge(s.v6, uint128.compare, uint128.next)
	return s
}

// Prefixes gives the prefixes of the set, masked, as they were listed.
func (s Subnets) Prefixes() []netip.Prefix { return s.prefixes }

// Range is the addresses of one version from First to Last, both included.
type Range struct{ First, Last netip.Addr }

// Ranges gives what the set covers: sorted, disjoint and not adjacent, IPv4 first.
func (s Subnets) Ranges() []Range {
	var ranges []Range
	for _, r := range s.v4 {
		ranges = append(ranges, Range{v4Addr(r.first), v4Addr(r.last)})
	}
	for _, r := range s.v6 {
		ranges = append(ranges, Range{r.first.addr(), r.last.addr()})
	}
	return ranges
}

// Empty tells whether no address is in the set.
func (s Subnets) Empty() bool { return len(s.prefixes) == 0 }

func (s Subnets) String() string {
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
func (s Subnets) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Contains tells whether a prefix of the set covers addr. An IPv6 address that maps an IPv4 one is an IPv6 address.
func (s *Subnets) Contains(addr netip.Addr) bool {
	if addr.Is4() {
		return s.contains4(v4Number(addr))
	}
	return addr.IsValid() && s.contains6(v6Number(addr))
}

// contains4 and contains6 search for the last span that does not begin after n: it is one of the size spans from at on.

func (s *Subnets) contains4(n uint32) bool {
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

func (s *Subnets) contains6(n uint128) bool {
	spans, at := s.v6, 0
	if len(spans) == 0 {
		return false
	}
	for size := len(spans); size > 1; {
		half := size / 2
		if !n.less(spans[at+half].first) {
			at += half
		}
		size -= half
	}
	return !n.less(spans[at].first) && !spans[at].last.less(n)
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

type uint128 struct{ hi, lo uint64 }

func (a uint128) compare(b uint128) int {
	if a.hi != b.hi {
		return cmp.Compare(a.hi, b.hi)
	}
	return cmp.Compare(a.lo, b.lo)
}

func (a uint128) less(b uint128) bool {
	_, borrow := bits.Sub64(a.lo, b.lo, 0)
	_, borrow = bits.Sub64(a.hi, b.hi, borrow)
	return borrow != 0
}

func (a uint128) next() uint128 {
	if a.lo++; a.lo == 0 {
		a.hi++
	}
	return a
}

func (a uint128) addr() netip.Addr {
	b := binary.BigEndian.AppendUint64(nil, a.hi)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, a.lo)))
}

// hostBits has the low n bits set.
func hostBits(n int) uint128 {
	if n >= 64 {
		return uint128{1<<(n-64) - 1, ^uint64(0)}
	}
	return uint128{0, 1<<n - 1}
}

func v4Number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func v4Addr(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

func v6Number(a netip.Addr) uint128 {
	// As16 would do, but the compiler copies its array, and the processor then waits for two halves to become one.
	var b [16]byte
	_, _ = a.AppendBinary(b[:0])
	return uint128{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// number is an address of either version as a number.
func number(a netip.Addr) uint128 {
	if a.Is4() {
		return uint128{0, uint64(v4Number(a))}
	}
	return v6Number(a)
}
