package labels

import (
	"cmp"
	"net/netip"
	"slices"

	"promflow/capture/subnets"
)

// Place is where addresses are from First on, as far as labels are concerned.
type Place struct {
	First         netip.Addr
	Network, Peer uint16 // numbers of names: of the most specific monitored subnet, and of the most specific one that is known
	Monitored     bool
	Broadcast     bool // it is the broadcast address of an IPv4 subnet
}

// placeFrom is a place by the number of its first address.
type placeFrom[T any] struct {
	first T
	Place
}

var limitedBroadcast = netip.MustParseAddr("255.255.255.255") // RFC 919

// isGroup tells whether packets to an address go to several, wherever it is. One of IPv6 that maps an IPv4 one is of IPv6.
func isGroup(addr netip.Addr) bool {
	return addr.IsMulticast() && !addr.Is4In6() || addr == limitedBroadcast
}

// layer is a prefix that says something of the place of its addresses.
type layer struct {
	prefix netip.Prefix
	apply  func(*Place)
}

// placesOf divides all addresses by subnets: first those of IPv4, then those of IPv6. The last address of a subnet is its broadcast
// address (RFC 919, RFC 922), but where it has only two (RFC 3021).
func placesOf(monitored, peers subnets.Set, number func(string) uint16) []Place {
	var layers []layer
	add := func(p netip.Prefix, apply func(*Place)) { layers = append(layers, layer{p, apply}) }
	each := func(s subnets.Set, apply func(number uint16) func(*Place)) {
		for i, prefix := range s.Prefixes() {
			add(prefix, apply(number(s.Name(i))))
			if addr := prefix.Addr(); addr.Is4() && prefix.Bits() <= 30 {
				add(netip.PrefixFrom(lastOf(prefix), 32), func(p *Place) { p.Broadcast = true })
			}
		}
	}
	each(peers, func(n uint16) func(*Place) { return func(p *Place) { p.Peer = n } })
	each(monitored, func(n uint16) func(*Place) { // after peers: of the same prefix, this is the name
		return func(p *Place) { p.Network, p.Peer, p.Monitored = n, n, true }
	})
	slices.SortStableFunc(layers, func(a, b layer) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})

	var places []Place
	for _, all := range []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")} {
		places = append(places, divide(all, layers)...)
	}
	return places
}

// divide goes through the layers of a version, of which those that are less specific come first.
func divide(all netip.Prefix, layers []layer) (places []Place) {
	put := func(first netip.Addr, p Place) {
		p.First = first
		if n := len(places); n > 0 && places[n-1].First == first {
			places[n-1] = p
		} else {
			places = append(places, p)
		}
	}
	type open struct {
		last  netip.Addr
		place Place
	}
	stack := []open{{lastOf(all), Place{}}} // within each other
	put(all.Addr(), Place{})
	closeBefore := func(addr netip.Addr) {
		for len(stack) > 1 && (!addr.IsValid() || stack[len(stack)-1].last.Less(addr)) {
			next := stack[len(stack)-1].last.Next()
			stack = stack[:len(stack)-1]
			if next.IsValid() {
				put(next, stack[len(stack)-1].place)
			}
		}
	}
	for _, l := range layers {
		if l.prefix.Addr().Is4() != all.Addr().Is4() {
			continue
		}
		first := l.prefix.Addr()
		closeBefore(first)
		p := stack[len(stack)-1].place
		l.apply(&p)
		stack = append(stack, open{lastOf(l.prefix), p})
		put(first, p)
	}
	closeBefore(netip.Addr{})
	return slices.CompactFunc(places, func(a, b Place) bool {
		b.First = a.First
		return a == b
	})
}

// lastOf gives the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	host := p.Addr().BitLen() - p.Bits()
	if p.Addr().Is4() {
		return subnets.Addr4(subnets.Number4(p.Addr()) | uint32(1<<host-1))
	}
	n, ones := subnets.Number6(p.Addr()), subnets.HostBits(host)
	return subnets.Number{Hi: n.Hi | ones.Hi, Lo: n.Lo | ones.Lo}.Addr6()
}

// Place4 and Place6 search for the last place that does not begin after n: it is one of the size places from at on.

// Place4 gives the place of an IPv4 address.
func (g *Grouping) Place4(n uint32) *Place {
	places, at := g.places4, 0
	for size := len(places); size > 1; {
		half := size / 2
		if places[at+half].first <= n {
			at += half
		}
		size -= half
	}
	return &places[at].Place
}

// Place6 gives the place of an IPv6 address.
func (g *Grouping) Place6(n subnets.Number) *Place {
	places, at := g.places6, 0
	for size := len(places); size > 1; {
		half := size / 2
		if !n.Less(places[at+half].first) {
			at += half
		}
		size -= half
	}
	return &places[at].Place
}
