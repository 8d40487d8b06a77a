package subnets

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// Longest has values for prefixes. The zero value is empty.
type Longest[V any] struct {
	values map[netip.Prefix]V
	v4, v6 []int // the lengths that exist, the longest first
}

// Add gives a masked prefix a value. It is false if the prefix has one, which stays.
func (l *Longest[V]) Add(prefix netip.Prefix, value V) bool {
	if _, twice := l.values[prefix]; twice {
		return false
	}
	lengths := &l.v6
	if prefix.Addr().Is4() {
		lengths = &l.v4
	}
	if !slices.Contains(*lengths, prefix.Bits()) {
		*lengths = append(*lengths, prefix.Bits())
		slices.SortFunc(*lengths, func(a, b int) int { return b - a })
	}
	if l.values == nil {
		l.values = map[netip.Prefix]V{}
	}
	l.values[prefix] = value
	return true
}

// Of returns the value of the longest prefix that has addr.
func (l *Longest[V]) Of(addr netip.Addr) (value V, ok bool) {
	lengths := l.v6
	if addr.Is4() {
		lengths = l.v4
	}
	for _, bits := range lengths {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			continue
		}
		if value, ok = l.values[prefix]; ok {
			return value, true
		}
	}
	return value, false
}

// All yields the prefixes and their values.
func (l *Longest[V]) All() iter.Seq2[netip.Prefix, V] { return maps.All(l.values) }
