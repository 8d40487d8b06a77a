// Package labels has the labels that split the totals of an address, and the values that a packet has for them.
package labels

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// Label is a label that can split the totals of an address.
type Label uint8

// The labels, in the order of --labels.
const (
	Network   Label = iota // the monitored subnet that the address is in
	Peer                   // the subnet of the packet's other address
	Protocol               // of the IP header
	Interface              // that captured the packet
	VLAN                   // the ID of the outermost tag
	labels
)

var labelNames = [labels]string{"network", "peer", "protocol", "interface", "vlan"}

func (l Label) String() string { return labelNames[l] }

// Names returns the names of all labels.
func Names() []string { return labelNames[:] }

// Set is a set of labels.
type Set uint8

// Has tells whether l is in the set.
func (s Set) Has(l Label) bool { return s>>l&1 != 0 }

// With returns the set with l added.
func (s Set) With(l Label) Set { return s | 1<<l }

// Parse reads names of labels, separated by commas. Space around a name is ignored. An empty list is an empty set.
func Parse(list string) (s Set, err error) {
	if strings.TrimSpace(list) == "" {
		return 0, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		l := slices.Index(labelNames[:], name)
		if l < 0 {
			return 0, fmt.Errorf("%q is no label: expected some of %s, separated by commas", name, strings.Join(labelNames[:], ", "))
		}
		s = s.With(Label(l))
	}
	return s, nil
}

// Values has a value of each label, as a number in a bit field. The fields of labels that are not asked for are 0.
// [Grouping.Texts] returns the values as text.
type Values uint64

// The bit fields, from the lowest bit on. The eBPF program has the same.
const (
	protocolAt  = 0
	vlanAt      = 3
	interfaceAt = 16
	peerAt      = 32
	networkAt   = 48

	vlanField      Values = 0x1fff << vlanAt
	interfaceField Values = 0xffff << interfaceAt
	networkField   Values = 0xffff << networkAt
)

var fields = [labels]Values{networkField, 0xffff << peerAt, 7 << protocolAt, interfaceField, vlanField}

// Networks, peers and interfaces are numbers of names. These names have fixed numbers.
const (
	external  = 0
	multicast = 1
	other     = 0xffff

	otherVLAN = 0x1000 // a VLAN ID has 12 bits
)

// otherwise is "other" in every field. The number of protocol "other" is 0.
const otherwise = otherVLAN<<vlanAt | other<<interfaceAt | other<<peerAt | other<<networkAt

// protocolNames are the values of the label protocol, by their numbers in Values.
var protocolNames = []string{subnets.Other, "tcp", "udp", "icmp", "sctp", "esp", "gre"}

// protocols has the number in Values of each IANA protocol number. ICMP and ICMPv6 have the same.
var protocols = [256]Values{6: 1, 17: 2, 1: 3, 58: 3, 132: 4, 50: 5, 47: 6}

// Grouping says how a table groups packets: by prefix instead of by address, and by labels. Without a Grouping (nil) a table has one total
// for each address. Its methods are safe for concurrent use.
type Grouping struct {
	labels   Set
	mask     Values // the fields that split totals
	rest     Values // the labels of an address's own totals
	hostBits HostBits

	places atomic.Pointer[places]

	mu         sync.Mutex
	names      names // of networks and peers
	interfaces names
}

// HostBits is how many low bits of an IPv4 and of an IPv6 address are ignored: addresses that differ in these bits only are counted as the
// one where they are 0.
type HostBits struct{ V4, V6 int }

// maxInterfaces is how many names of interfaces get a number before the program ends. Later ones are "other".
const maxInterfaces = 1 << 15

// New returns a grouping by labels and prefixes. No address is in a subnet until Divide is called. changes tells that it may be called again:
// then what an address moves in one network is kept apart from what it moves in the next.
func New(set Set, hostBits HostBits, changes bool) *Grouping {
	g := &Grouping{
		labels: set, hostBits: hostBits,
		names: newNames(other, subnets.External, subnets.Multicast), interfaces: newNames(maxInterfaces, ""),
	}
	for l, field := range fields {
		if set.Has(Label(l)) {
			g.mask |= field
		}
	}
	if hostBits == (HostBits{}) && !changes {
		g.mask &^= networkField // each address is in one network
	}
	g.rest = otherwise & g.mask
	g.Divide(subnets.Set{}, subnets.Set{})
	return g
}

// Divide sets the subnets. Networks are the monitored subnets; peers are the monitored subnets and further ones.
func (g *Grouping) Divide(monitored, peers subnets.Set) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places.Store(newPlaces(placesOf(monitored, peers, g.names.number)))
}

// names numbers names.
type names struct {
	list    []string
	numbers map[string]uint16
	limit   int
}

func newNames(limit int, list ...string) names {
	n := names{numbers: map[string]uint16{subnets.Other: other}, limit: limit}
	for _, name := range list {
		n.number(name)
	}
	return n
}

// number returns the number of a name. A new name gets the next number, or that of "other" once limit names have one.
func (n *names) number(name string) uint16 {
	number, known := n.numbers[name]
	if known {
		return number
	}
	if len(n.list) == n.limit {
		return other
	}
	number = uint16(len(n.list))
	n.list, n.numbers[name] = append(n.list, name), number
	return number
}

// Labels returns the labels that are asked for.
func (g *Grouping) Labels() Set { return g.labels }

// Mask has the bits of Values that split totals.
func (g *Grouping) Mask() Values { return g.mask }

// Rest returns the labels of an address's own totals, which no series has: all of them are "other", except the network where Mask has none.
func (g *Grouping) Rest() Values { return g.rest }

// HostBits returns how many bits of addresses are ignored.
func (g *Grouping) HostBits() HostBits { return g.hostBits }

// Bits returns the length of the prefix that an address stands for, 0 for a single address.
func (g *Grouping) Bits(addr netip.Addr) int {
	if host := g.hostBits.Of(addr); host > 0 {
		return addr.BitLen() - host
	}
	return 0
}

// Places returns the places of all addresses in their order, IPv4 first.
func (g *Grouping) Places() []Place { return g.places.Load().all }

// Place4 returns the place of the IPv4 address with this number.
func (g *Grouping) Place4(n uint32) *Place {
	p := g.places.Load()
	return &p.v4[subnets.Search4(p.firsts4, n)]
}

// Place6 returns the place of the IPv6 address with this number.
func (g *Grouping) Place6(n subnets.Number) *Place {
	p := g.places.Load()
	return &p.v6[subnets.Search6(p.firsts6, n)]
}

// InterfaceNumber returns the number that Values have for an interface.
func (g *Grouping) InterfaceNumber(name string) uint16 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.interfaces.number(strings.ToValidUTF8(name, "\uFFFD")) // names that look the same have the same number
}

// Text is a label and its value as text.
type Text struct {
	Label Label
	Value string
}

// Texts returns the values of an address for each label that is asked for. The invalid address is that of totals without room.
func (g *Grouping) Texts(addr netip.Addr, of Values) (all []Text) {
	if g.labels.Has(Network) && g.mask&networkField == 0 {
		of |= Values(g.networkOf(addr)) << networkAt
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	lists := [labels][]string{Network: g.names.list, Peer: g.names.list, Protocol: protocolNames, Interface: g.interfaces.list}
	for l, field := range fields {
		if !g.labels.Has(Label(l)) {
			continue
		}
		number := int(of & field >> bits.TrailingZeros64(uint64(field)))
		value := subnets.Other
		if Label(l) == VLAN && number != otherVLAN {
			value = strconv.Itoa(number)
		} else if number < len(lists[l]) {
			value = lists[l][number]
		}
		all = append(all, Text{Label(l), value})
	}
	return all
}

// Values returns the labels that [Grouping.Texts] returns as these texts. It is false if they are not those that are asked for, each
// once, or one has no such value. Names of networks, peers and interfaces that are new get a number.
func (g *Grouping) Values(texts []Text) (of Values, ok bool) {
	var has Set
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range texts {
		if t.Label >= labels || has.Has(t.Label) {
			return 0, false
		}
		has = has.With(t.Label)
		var number int
		switch t.Label {
		case Network, Peer:
			number = int(g.names.number(t.Value))
		case Interface:
			number = int(g.interfaces.number(t.Value))
		case Protocol:
			if number = slices.Index(protocolNames, t.Value); number < 0 {
				return 0, false
			}
		case VLAN:
			if number = otherVLAN; t.Value != subnets.Other {
				n, err := strconv.ParseUint(t.Value, 10, 16)
				if err != nil || n >= otherVLAN {
					return 0, false
				}
				number = int(n)
			}
		}
		field := fields[t.Label]
		of |= Values(number) << bits.TrailingZeros64(uint64(field)) & field
	}
	return of & g.mask, has == g.labels
}

// networkOf returns the network of an address. That of the invalid address is other.
func (g *Grouping) networkOf(addr netip.Addr) uint16 {
	switch {
	case !addr.IsValid():
		return other
	case addr.Is4():
		return g.Place4(subnets.Number4(addr)).Network
	}
	return g.Place6(subnets.Number6(addr)).Network
}

// Of returns the labels that a packet has for one of its addresses, by the places of both. peerReceives tells that the other address, the
// peer, is the destination.
func (g *Grouping) Of(own, peer *Place, peerReceives bool, p *frame.Packet, seenOn uint16) Values {
	number := peer.Peer
	if peerReceives && (peer.Broadcast || isGroup(p.Destination)) {
		number = multicast
	}
	return (Values(own.Network)<<networkAt | Values(number)<<peerAt | Values(seenOn)<<interfaceAt | Values(p.VLAN)<<vlanAt |
		protocols[p.Protocol]<<protocolAt) & g.mask
}

// Coarser returns labels with VLAN and interface "other", for addresses with too many combinations: the other labels have few values.
func (g *Grouping) Coarser(l Values) Values {
	return l&^(vlanField|interfaceField) | g.rest&(vlanField|interfaceField)
}

// ParseHostBits reads a prefix length such as /24, of addresses with so many bits, and returns how many are left. It is 0 for an empty
// text.
func ParseHostBits(s string, bits int) (int, error) {
	if s = strings.TrimSpace(s); s == "" {
		return 0, nil
	}
	length, err := strconv.Atoi(strings.TrimPrefix(s, "/"))
	if err != nil || length < 1 || length > bits {
		return 0, errors.New("expected a prefix length from /1 to /" + strconv.Itoa(bits))
	}
	return bits - length, nil
}

// Of returns how many low bits of an address are ignored.
func (b HostBits) Of(addr netip.Addr) int {
	if addr.Is4() {
		return b.V4
	}
	return b.V6
}

// Mask clears the bits of an address, and of its number, that are ignored.
func (b HostBits) Mask(addr netip.Addr, n subnets.Number) (netip.Addr, subnets.Number) {
	if b == (HostBits{}) {
		return addr, n
	}
	prefix, _ := addr.Prefix(addr.BitLen() - b.Of(addr))
	return prefix.Addr(), subnets.NumberOf(prefix.Addr())
}
