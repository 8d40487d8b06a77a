// Package labels says by what else totals of an address are kept apart, and what such labels are called.
package labels

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// Label is something that totals of an address can be kept apart by.
type Label uint8

// The labels, in the order of --labels.
const (
	Network   Label = iota // the monitored subnet that the address is in
	Peer                   // where the other end of the packet is
	Protocol               // what the IP header carries
	Interface              // where the packet was seen
	VLAN                   // the outermost tag's ID
	labels
)

var labelNames = [labels]string{"network", "peer", "protocol", "interface", "vlan"}

func (l Label) String() string { return labelNames[l] }

// Names gives the names of all labels.
func Names() []string { return labelNames[:] }

// Set is a set of labels.
type Set uint8

// Has tells whether l is in the set.
func (s Set) Has(l Label) bool { return s>>l&1 != 0 }

// With gives the set with l.
func (s Set) With(l Label) Set { return s | 1<<l }

// Parse reads names of labels, separated by commas. Space around one is ignored; an empty list is an empty set.
func Parse(list string) (s Set, err error) {
	if strings.TrimSpace(list) == "" {
		return 0, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		l := slices.Index(labelNames[:], strings.TrimSpace(name))
		if l < 0 {
			return 0, fmt.Errorf("%q is no label: expected some of %s, separated by commas", strings.TrimSpace(name), strings.Join(labelNames[:], ", "))
		}
		s = s.With(Label(l))
	}
	return s, nil
}

// Values is a value for each label that is asked for, as a number in a field of bits; what is not asked for is 0. A Grouping has
// their texts.
type Values uint64

// The fields, from the lowest bit on. The eBPF program has the same.
const (
	protocolAt  = 0
	vlanAt      = 3
	interfaceAt = 16
	peerAt      = 32
	networkAt   = 48

	protocolField  Values = 7
	vlanField      Values = 0x1fff << vlanAt
	interfaceField Values = 0xffff << interfaceAt
	peerField      Values = 0xffff << peerAt
	networkField   Values = 0xffff << networkAt
)

var fields = [labels]Values{networkField, peerField, protocolField, interfaceField, vlanField}

// The numbers of networks, peers and interfaces are those of names. These have one from the start.
const (
	external  = 0
	multicast = 1
	other     = 0xffff

	otherVLAN = 0x1000 // a VLAN ID has 12 bits
)

// otherwise is "other" in every field. That of protocols is 0.
const otherwise = otherVLAN<<vlanAt | other<<interfaceAt | other<<peerAt | other<<networkAt

// protocolNames are by number, of which protocols has one for each protocol of IP. "other" has 0.
var protocolNames = []string{subnets.Other, "tcp", "udp", "icmp", "sctp", "esp", "gre"}

// protocols are by the IANA's numbers; ICMPv6 is icmp.
var protocols = [256]Values{6: 1, 17: 2, 1: 3, 58: 3, 132: 4, 50: 5, 47: 6}

// Grouping says by what totals are kept, if not by single addresses alone: by prefixes, and apart by labels. nil is by single
// addresses alone. Its methods are safe for concurrent use.
type Grouping struct {
	labels   Set
	mask     Values // fields that are in keys
	rest     Values // of what an address has moved that is not kept apart
	hostBits HostBits

	places4 []placeFrom[uint32]
	places6 []placeFrom[subnets.Number]
	places  []Place

	mu         sync.Mutex
	names      []string // of networks and peers, by number
	interfaces names
}

// HostBits is how many low bits of an IPv4 and of an IPv6 address do not matter: addresses that differ in these only are counted as
// one, which has 0 there.
type HostBits struct{ V4, V6 int }

// maxInterfaces is how many interfaces have a number of their own, ever: further ones are "other". 0 is none.
const maxInterfaces = 4096

// New makes a grouping by labels and prefixes. Networks are the monitored subnets; peers are these and those of the list.
func New(set Set, monitored, peers subnets.Set, hostBits HostBits) *Grouping {
	g := &Grouping{labels: set, hostBits: hostBits, interfaces: newNames(maxInterfaces, "")}
	for l, field := range fields {
		if set.Has(Label(l)) {
			g.mask |= field
		}
	}
	if hostBits == (HostBits{}) {
		g.mask &^= networkField // the address tells
	}
	g.rest = otherwise & g.mask
	known := newNames(other, subnets.External, subnets.Multicast)
	g.places = placesOf(monitored, peers, known.number)
	g.names = known.list
	for _, p := range g.places {
		if p.First.Is4() {
			g.places4 = append(g.places4, placeFrom[uint32]{subnets.Number4(p.First), p})
		} else {
			g.places6 = append(g.places6, placeFrom[subnets.Number]{subnets.Number6(p.First), p})
		}
	}
	return g
}

// names gives numbers to names.
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

// number gives that of a name, which is other's once there are too many.
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

func nameOf(list []string, number Values) string {
	if number == other {
		return subnets.Other
	}
	return list[number]
}

// Labels gives the labels that are asked for.
func (g *Grouping) Labels() Set { return g.labels }

// Mask has the bits of Values that totals are kept apart by.
func (g *Grouping) Mask() Values { return g.mask }

// Rest gives the labels of what an address has moved that is not kept apart: "other", but for the network where the address tells.
func (g *Grouping) Rest() Values { return g.rest }

// HostBits gives the bits of addresses that do not matter.
func (g *Grouping) HostBits() HostBits { return g.hostBits }

// Bits gives the length of the prefix that an address stands for, 0 if it is a single address.
func (g *Grouping) Bits(addr netip.Addr) int {
	host := g.hostBits.V6
	if addr.Is4() {
		host = g.hostBits.V4
	}
	if host == 0 {
		return 0
	}
	return addr.BitLen() - host
}

// Places gives where addresses are: each from its first address to the next one's, or the end of the version. IPv4 comes first.
func (g *Grouping) Places() []Place { return g.places }

// InterfaceNumber gives the number that Values have for an interface.
func (g *Grouping) InterfaceNumber(name string) uint16 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.interfaces.number(strings.ToValidUTF8(name, "\uFFFD")) // so that what looks the same is the same
}

// Text is a label and its value.
type Text struct {
	Label Label
	Value string
}

// Texts gives what of an address has, for each label that is asked for.
func (g *Grouping) Texts(addr netip.Addr, of Values) (all []Text) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for l := range labels {
		if !g.labels.Has(l) {
			continue
		}
		t := Text{Label: l}
		switch l {
		case Network:
			number := of & networkField >> networkAt
			if g.mask&networkField == 0 {
				number = Values(g.networkOf(addr))
			}
			t.Value = nameOf(g.names, number)
		case Peer:
			t.Value = nameOf(g.names, of&peerField>>peerAt)
		case Protocol:
			t.Value = protocolNames[of&protocolField]
		case Interface:
			t.Value = nameOf(g.interfaces.list, of&interfaceField>>interfaceAt)
		case VLAN:
			t.Value = subnets.Other
			if id := of & vlanField >> vlanAt; id != otherVLAN {
				t.Value = strconv.Itoa(int(id))
			}
		}
		all = append(all, t)
	}
	return all
}

// networkOf gives the network of a single address; that of all addresses without room is other.
func (g *Grouping) networkOf(addr netip.Addr) uint16 {
	switch {
	case !addr.IsValid():
		return other
	case addr.Is4():
		return g.Place4(subnets.Number4(addr)).Network
	}
	return g.Place6(subnets.Number6(addr)).Network
}

// Of gives the labels of a packet for one of its ends; the other end is a peer in a place.
func (g *Grouping) Of(end, peer *Place, isDestination bool, p *frame.Packet, seenOn uint16) Values {
	number := peer.Peer
	if isDestination && (peer.Broadcast || isGroup(p.Destination)) {
		number = multicast
	}
	return (Values(end.Network)<<networkAt | Values(number)<<peerAt | Values(seenOn)<<interfaceAt | Values(p.VLAN)<<vlanAt |
		protocols[p.Protocol]<<protocolAt) & g.mask
}

// Coarser gives what labels become where an address has too many: of networks, peers and protocols there are only so many.
func (g *Grouping) Coarser(l Values) Values {
	return l&^(vlanField|interfaceField) | g.rest&(vlanField|interfaceField)
}

// ParseHostBits reads a prefix length such as /24, of addresses of so many bits. An empty text keeps each address apart.
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

// Mask clears the bits of an address, and of its number, that do not matter.
func (b HostBits) Mask(addr netip.Addr, n subnets.Number) (netip.Addr, subnets.Number) {
	if addr.Is4() {
		if b.V4 == 0 {
			return addr, n
		}
		n.Lo = n.Lo >> b.V4 << b.V4
		return subnets.Addr4(uint32(n.Lo)), n
	}
	if b.V6 == 0 {
		return addr, n
	}
	ones := subnets.HostBits(b.V6)
	n.Hi &^= ones.Hi
	n.Lo &^= ones.Lo
	return n.Addr6(), n
}
