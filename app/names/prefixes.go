package names

import (
	"net/netip"
	"slices"
)

// prefixes has values for prefixes. The zero value is empty.
type prefixes[V any] struct {
	values map[netip.Prefix]V
	v4, v6 []int // the lengths that exist, the longest first
}

// set gives a masked prefix a value.
func (p *prefixes[V]) set(prefix netip.Prefix, value V) {
	lengths := &p.v6
	if prefix.Addr().Is4() {
		lengths = &p.v4
	}
	if !slices.Contains(*lengths, prefix.Bits()) {
		*lengths = append(*lengths, prefix.Bits())
		slices.SortFunc(*lengths, func(a, b int) int { return b - a })
	}
	if p.values == nil {
		p.values = map[netip.Prefix]V{}
	}
	p.values[prefix] = value
}

// longest returns the value of the longest prefix that has addr.
func (p *prefixes[V]) longest(addr netip.Addr) (value V, ok bool) {
	lengths := p.v6
	if addr.Is4() {
		lengths = p.v4
	}
	for _, bits := range lengths {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			continue
		}
		if value, ok = p.values[prefix]; ok {
			return value, true
		}
	}
	return value, false
}
