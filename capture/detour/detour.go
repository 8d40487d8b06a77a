// Package detour finds interfaces that packets bypass, or pass twice, or pass with tags of a switch that hide their IP headers. It reads the
// configuration of nftables, IPsec and DSA, and captures nothing.
//
// A flowtable of nftables (software flow offloading) forwards packets of known connections from port to port as they arrive. A capture on
// a port sees them before that. A capture on a bridge, VLAN device or VRF above the port does not. The kernel does not look through other
// devices: a bond sees all packets of its ports. It looks through bridges and VLANs from 5.13 on, and OpenWrt's kernel from 5.10 on. No
// capture sees packets that the hardware forwards.
//
// A packet that arrives by IPsec in tunnel mode passes its interface twice, encrypted and decrypted, unless the tunnel has an interface of
// its own (xfrm, vti). A packet that leaves passes it encrypted only. No field of a socket's filter or ring marks decrypted packets. A
// program with CAP_PERFMON could read the kernel's mark (the secpath) from its memory. But to leave out marked packets would be wrong,
// too: with the modules esp4_offload and esp6_offload, GRO decrypts packets before any capture sees them.
//
// Most tags of DSA stand behind the Ethernet addresses, and few of them begin with an EtherType: a frame does not tell that it has one. The
// ports of the switch are interfaces of their own, which have the same packets without tags. A capture on these says more, too: which port.
package detour

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"promflow/capture/subnets"
)

// Namespace is the configuration of a network namespace at one instant.
type Namespace struct {
	FlowtablesErr, IPsecErr error // errors of listing these

	links      []link
	flowtables []flowtable
	tunnels    []tunnel
	early      bool // packets that arrive by IPsec may be decrypted before they are captured
}

// link is an interface.
type link struct {
	name           string
	index          int
	kind           string // as in ip -d link: bridge, vlan, ...
	master, parent int    // indexes; 0 for none, or for one in another namespace
	tags           string // the kind of tags that a switch puts into its frames; empty without a switch
}

type flowtable struct {
	name     string   // family, table and name, as nft lists it
	devices  []string // names of interfaces; a * at the end stands for any further characters
	hardware bool     // the hardware may forward packets
}

func (f *flowtable) has(name string) bool {
	return slices.ContainsFunc(f.devices, func(device string) bool {
		prefix, wildcard := strings.CutSuffix(device, "*")
		return device == name || wildcard && strings.HasPrefix(name, prefix)
	})
}

// tunnel is a policy for packets that arrive by IPsec in tunnel mode, without an interface of its own.
type tunnel struct {
	from, to netip.Prefix // of the packets inside
	device   int          // index of the interface with the route to its other end; 0 if unknown
}

// Bypass is why packets bypass an interface.
type Bypass struct {
	Flowtables []string // family, table and name of each
	Ports      []string // interfaces that all of its packets pass, except those that the hardware forwards
	Hardware   bool     // the hardware may forward packets
}

// Bypass returns why packets bypass the interface. ok is false if none do.
func (n *Namespace) Bypass(name string) (b Bypass, ok bool) {
	at := slices.IndexFunc(n.links, func(l link) bool { return l.name == name })
	if at < 0 {
		return b, false
	}
	past := map[string]bool{}
	b.Ports = n.ports(n.links[at], past, maxNested)
	slices.Sort(b.Ports)
	for _, f := range n.flowtables {
		if own := f.hardware && f.has(name); own || past[f.name] {
			b.Flowtables = append(b.Flowtables, f.name)
			b.Hardware = b.Hardware || f.hardware
		}
	}
	return b, b.Flowtables != nil
}

// maxNested is how many devices can be stacked (MAX_NEST_DEV in Linux' include/linux/netdevice.h).
const maxNested = 8

// ports returns the interfaces below l that see all of its packets, and adds the flowtables that forward past l. It returns none if there
// is no such flowtable.
func (n *Namespace) ports(l link, past map[string]bool, nested int) (ports []string) {
	if nested == 0 {
		return nil
	}
	found := false
	for _, lower := range n.below(l) {
		for _, f := range n.flowtables {
			if f.has(lower.name) {
				past[f.name], found = true, true
			}
		}
		if deeper := n.ports(lower, past, nested-1); deeper != nil {
			ports, found = append(ports, deeper...), true
		} else {
			ports = append(ports, lower.name)
		}
	}
	if !found {
		return nil
	}
	return ports
}

// below returns the interfaces directly below l, if flowtables look through l.
func (n *Namespace) below(l link) (all []link) {
	for _, other := range n.links {
		switch l.kind {
		case "bridge", "vrf":
			if other.master == l.index {
				all = append(all, other)
			}
		case "vlan":
			if other.index == l.parent {
				all = append(all, other)
			}
		}
	}
	return all
}

// Decryption is about an interface that decrypted packets of IPsec pass.
type Decryption struct {
	// Subnets are those of the packets in tunnels: if all of them are excluded, only encrypted packets count. A tunnel for all addresses at
	// both ends has none.
	Subnets []netip.Prefix
	// Early tells that packets may be decrypted before they are captured. Then no capture sees them encrypted.
	Early bool
}

// maxListed is how many subnets List has.
const maxListed = 10

// List returns the subnets, separated by commas. Of many it has the first ones and the number of the others.
func (d Decryption) List() string {
	var list []string
	for i, p := range d.Subnets {
		if i == maxListed {
			list = append(list, fmt.Sprintf("and %d more", len(d.Subnets)-i))
			break
		}
		list = append(list, p.String())
	}
	return strings.Join(list, ",")
}

// Decryption returns which packets of the monitored subnets pass the interface decrypted and are not excluded. ok is false if none do.
func (n *Namespace) Decryption(name string, monitored, excluded subnets.Set) (d Decryption, ok bool) {
	at := slices.IndexFunc(n.links, func(l link) bool { return l.name == name })
	for _, t := range n.tunnels {
		switch {
		case at < 0, t.device != 0 && t.device != n.links[at].index:
			continue
		case !overlap(monitored, t.from) && !overlap(monitored, t.to), cover(excluded, t.from), cover(excluded, t.to):
			continue
		}
		ok = true
		switch {
		case t.from.Bits() > 0: // the subnets at the other end: those at this end may have other traffic
			d.Subnets = append(d.Subnets, t.from)
		case t.to.Bits() > 0:
			d.Subnets = append(d.Subnets, t.to)
		}
	}
	slices.SortFunc(d.Subnets, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	d.Subnets = slices.Compact(d.Subnets)
	d.Early = ok && n.early
	return d, ok
}

// overlap tells whether any address of p is in the set.
func overlap(s subnets.Set, p netip.Prefix) bool {
	return slices.ContainsFunc(s.Prefixes(), p.Overlaps)
}

// cover tells whether a prefix of the set has all addresses of p.
func cover(s subnets.Set, p netip.Prefix) bool {
	return slices.ContainsFunc(s.Prefixes(), func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}
