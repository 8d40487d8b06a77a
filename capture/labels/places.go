package labels

import (
	"net/netip"
	"slices"

	"promflow/capture/subnets"
)

// Place is a range of addresses that have the same labels: from First to the next place, or to the last address of its version of IP.
type Place struct {
	First         netip.Addr
	Network, Peer uint16 // numbers of names: of the most specific monitored subnet, and of the most specific subnet with a name
	Monitored     bool
	Broadcast     bool // it is the broadcast address of an IPv4 subnet
}

var limitedBroadcast = netip.MustParseAddr("255.255.255.255") // RFC 919

// isGroup tells whether an address is a multicast or broadcast address in every subnet. An IPv4-mapped one is a unicast IPv6 address.
func isGroup(addr netip.Addr) bool {
	return addr.IsMulticast() && !addr.Is4In6() || addr == limitedBroadcast
}

// layer is a prefix, and what it changes of the places in it.
type layer struct {
	prefix netip.Prefix
	apply  func(*Place)
}

// places has the places of all addresses.
type places struct {
	all     []Place  // IPv4 first
	v4, v6  []Place  // of each version
	firsts4 []uint32 // of these places
	firsts6 []subnets.Number
}

func newPlaces(all []Place) *places {
	p := &places{all: all}
	for _, each := range all {
		if each.First.Is4() {
			p.firsts4 = append(p.firsts4, subnets.Number4(each.First))
		} else {
			p.firsts6 = append(p.firsts6, subnets.Number6(each.First))
		}
	}
	p.v4, p.v6 = all[:len(p.firsts4)], all[len(p.firsts4):]
	return p
}

// placesOf divides all addresses by subnets, IPv4 first. The last address of a subnet is its broadcast address (RFC 919, RFC 922), except
// where the subnet has one or two addresses (RFC 3021).
func placesOf(monitored, peers subnets.Set, number func(string) uint16) []Place {
	var layers []layer
	add := func(s subnets.Set, apply func(p *Place, number uint16)) {
		for i, prefix := range s.Prefixes() {
			n := number(s.Name(i))
			layers = append(layers, layer{prefix, func(p *Place) { apply(p, n) }})
			if prefix.Addr().Is4() && prefix.Bits() <= 30 {
				layers = append(layers, layer{netip.PrefixFrom(subnets.Last(prefix), 32), func(p *Place) { p.Broadcast = true }})
			}
		}
	}
	add(peers, func(p *Place, n uint16) { p.Peer = n })
	// These come after the peers: where both have a prefix, this is its name.
	add(monitored, func(p *Place, n uint16) { p.Network, p.Peer, p.Monitored = n, n, true })
	slices.SortStableFunc(layers, func(a, b layer) int { return a.prefix.Compare(b.prefix) })
	all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	return append(divide(all4, layers), divide(all6, layers)...)
}

// divide divides the addresses of one version by its layers, which are sorted: a prefix comes before those inside it.
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
	stack := []open{{subnets.Last(all), Place{}}} // prefixes inside each other
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
		stack = append(stack, open{subnets.Last(l.prefix), p})
		put(first, p)
	}
	closeBefore(netip.Addr{})
	return slices.CompactFunc(places, func(a, b Place) bool {
		b.First = a.First
		return a == b
	})
}
