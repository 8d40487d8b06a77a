package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"promflow/capture/frame"
)

// Label is something that totals of an address can be kept apart by.
type Label uint8

// The labels, in the order of --labels.
const (
	LabelNetwork   Label = iota // the monitored subnet that the address is in
	LabelPeer                   // where the other end of the packet is
	LabelProtocol               // what the IP header carries
	LabelInterface              // where the packet was seen
	LabelVLAN                   // the outermost tag's ID
	labels
)

var labelNames = [labels]string{"network", "peer", "protocol", "interface", "vlan"}

func (l Label) String() string { return labelNames[l] }

// LabelNames gives the names of all labels.
func LabelNames() []string { return labelNames[:] }

// LabelSet is a set of labels.
type LabelSet uint8

// Has tells whether l is in the set.
func (s LabelSet) Has(l Label) bool { return s>>l&1 != 0 }

// With gives the set with l.
func (s LabelSet) With(l Label) LabelSet { return s | 1<<l }

// ParseLabels reads names of labels, separated by commas. Space around one is ignored; an empty list is an empty set.
func ParseLabels(list string) (s LabelSet, err error) {
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

// Labels is a value for each label that is asked for, as a number in a field of bits; what is not asked for is 0. A Grouping has
// their texts.
type Labels uint64

// The fields, from the lowest bit on. The eBPF program has the same.
const (
	protocolAt  = 0
	vlanAt      = 3
	interfaceAt = 16
	peerAt      = 32
	networkAt   = 48

	protocolField  Labels = 7
	vlanField      Labels = 0x1fff << vlanAt
	interfaceField Labels = 0xffff << interfaceAt
	peerField      Labels = 0xffff << peerAt
	networkField   Labels = 0xffff << networkAt
)

var fields = [labels]Labels{networkField, peerField, protocolField, interfaceField, vlanField}

// The numbers of networks, peers and interfaces are those of names. These have one from the start.
const (
	external  = 0
	multicast = 1
	other     = 0xffff

	otherVLAN = 0x1000 // a VLAN ID has 12 bits
)

const externalName, multicastName, otherName = "external", "multicast", "other"

// otherwise is "other" in every field. That of protocols is 0.
const otherwise = otherVLAN<<vlanAt | other<<interfaceAt | other<<peerAt | other<<networkAt

// protocolNames are by number, of which protocols has one for each protocol of IP. "other" has 0.
var protocolNames = []string{otherName, "tcp", "udp", "icmp", "sctp", "esp", "gre"}

// protocols are by the IANA's numbers; ICMPv6 is icmp.
var protocols = [256]Labels{6: 1, 17: 2, 1: 3, 58: 3, 132: 4, 50: 5, 47: 6}

// Grouping says by what totals are kept, if not by single addresses alone: by prefixes, and apart by labels. nil is by single
// addresses alone. Its methods are safe for concurrent use.
type Grouping struct {
	labels   LabelSet
	mask     Labels // fields that are in keys
	rest     Labels // of what an address has moved that is not kept apart
	hostBits HostBits

	places4 []placeFrom[uint32]
	places6 []placeFrom[uint128]
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

// NewGrouping makes a grouping by labels and prefixes. Networks are the monitored subnets; peers are these and those of the list.
func NewGrouping(set LabelSet, monitored, peers Subnets, hostBits HostBits) *Grouping {
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
	known := newNames(other, externalName, multicastName)
	g.places = placesOf(monitored, peers, known.number)
	g.names = known.list
	for _, p := range g.places {
		if p.First.Is4() {
			g.places4 = append(g.places4, placeFrom[uint32]{v4Number(p.First), p})
		} else {
			g.places6 = append(g.places6, placeFrom[uint128]{v6Number(p.First), p})
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
	n := names{numbers: map[string]uint16{otherName: other}, limit: limit}
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

func nameOf(list []string, number Labels) string {
	if number == other {
		return otherName
	}
	return list[number]
}

// Labels gives the labels that are asked for.
func (g *Grouping) Labels() LabelSet { return g.labels }

// Mask has the bits of Labels that totals are kept apart by.
func (g *Grouping) Mask() Labels { return g.mask }

// Rest gives the labels of what an address has moved that is not kept apart: "other", but for the network where the address tells.
func (g *Grouping) Rest() Labels { return g.rest }

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

// InterfaceNumber gives the number that Labels have for an interface.
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
func (g *Grouping) Texts(addr netip.Addr, of Labels) (all []Text) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for l := range labels {
		if !g.labels.Has(l) {
			continue
		}
		t := Text{Label: l}
		switch l {
		case LabelNetwork:
			number := of & networkField >> networkAt
			if g.mask&networkField == 0 {
				number = Labels(g.networkOf(addr))
			}
			t.Value = nameOf(g.names, number)
		case LabelPeer:
			t.Value = nameOf(g.names, of&peerField>>peerAt)
		case LabelProtocol:
			t.Value = protocolNames[of&protocolField]
		case LabelInterface:
			t.Value = nameOf(g.interfaces.list, of&interfaceField>>interfaceAt)
		case LabelVLAN:
			t.Value = otherName
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
		return placeOf4(g.places4, v4Number(addr)).Network
	}
	return placeOf6(g.places6, v6Number(addr)).Network
}

// labelsOf gives the labels of a packet for one of its ends; the other end is a peer in a place.
func (g *Grouping) labelsOf(end, peer *Place, isDestination bool, p *frame.Packet, seenOn uint16) Labels {
	number := peer.Peer
	if isDestination && (peer.Broadcast || isGroup(p.Destination)) {
		number = multicast
	}
	return (Labels(end.Network)<<networkAt | Labels(number)<<peerAt | Labels(seenOn)<<interfaceAt | Labels(p.VLAN)<<vlanAt |
		protocols[p.Protocol]<<protocolAt) & g.mask
}

// coarser gives what labels become where an address has too many: of networks, peers and protocols there are only so many.
func (g *Grouping) coarser(l Labels) Labels {
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
