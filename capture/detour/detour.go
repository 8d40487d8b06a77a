// Package detour finds out which interfaces do not see each packet once, because the kernel leads packets past them or by them twice.
// It asks what nftables and IPsec were told, and captures nothing.
//
// A flowtable of nftables (software flow offloading) takes packets of the connections that it knows from a port as they arrive, and
// sends them by another port. A capture on a port sees them, as it comes first. What is above a port does not: a bridge, a VLAN device,
// a VRF. The kernel does not look through others: above the slaves of a bond all is seen. Mainline looks through bridges and VLANs from
// 5.13 on, OpenWrt since its 5.10. What the hardware forwards, no capture sees.
//
// A packet that arrives by IPsec in tunnel mode is seen as it came and, decrypted, once more on the same interface, unless the tunnel has
// an interface of its own (xfrm, vti). What leaves is seen encrypted only. No field that a socket's filter or ring has tells a decrypted
// packet from others. A program with CAP_PERFMON could read the kernel's mark (the secpath) from its memory, but to leave such packets out
// would be wrong, too: with the modules esp4_offload and esp6_offload, GRO decrypts before any capture sees what came.
package detour

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"promflow/capture/subnets"
)

// Namespace is what was found in a network namespace. Its methods do not ask again.
type Namespace struct {
	FlowtablesErr, IPsecErr error // why these could not be listed

	links      []link
	flowtables []flowtable
	tunnels    []tunnel
	early      bool // what arrives by IPsec may be decrypted before it is captured
}

// link is an interface.
type link struct {
	name           string
	index          int
	kind           string // as ip -d link has it: bridge, vlan, ...
	master, parent int    // indexes; 0 is none, or one in another namespace
}

type flowtable struct {
	name     string   // as nft lists it: its family, table and own name
	devices  []string // interfaces; with * at the end, those whose names begin so
	hardware bool     // it may forward
}

func (f *flowtable) has(name string) bool {
	return slices.ContainsFunc(f.devices, func(device string) bool {
		prefix, wildcard := strings.CutSuffix(device, "*")
		return device == name || wildcard && strings.HasPrefix(name, prefix)
	})
}

// tunnel is a policy for what arrives by IPsec in tunnel mode, without an interface of its own.
type tunnel struct {
	from, to netip.Prefix // of the packets in it
	device   int          // index of the interface that leads to its other end; 0 if that is not known
}

// Bypass is what keeps packets from an interface.
type Bypass struct {
	Flowtables []string // family, table and name of each
	Ports      []string // where all of the interface's packets are seen, but for those that the hardware forwards
	Hardware   bool     // it may forward
}

// Bypass tells what keeps packets from the interface. ok is false if nothing does.
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

// maxNested is how many devices may be on top of each other (MAX_NEST_DEV in Linux' include/linux/netdevice.h).
const maxNested = 8

// ports gives the interfaces below l that see all of its packets, and notes which flowtables forward past it. Without one there are none.
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

// below gives the interfaces right below l, if it is one that flowtables look through.
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

// Decryption is about an interface where packets that arrive by IPsec are seen decrypted.
type Decryption struct {
	// Subnets are those of the packets in tunnels: once all of them are excluded, encrypted packets alone count. A tunnel for all
	// addresses, at both of its ends, has none here.
	Subnets []netip.Prefix
	// Early tells that packets may be decrypted before they are captured: then those that arrive are not seen encrypted.
	Early bool
}

// maxListed is how many subnets are listed.
const maxListed = 10

// List has the subnets with commas between them, or the first of them and how many more there are.
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

// Decryption tells what of the monitored subnets is decrypted on the interface, and not excluded yet. ok is false if nothing is.
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
		case t.from.Bits() > 0: // the other side: what else is here may be wanted
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

// overlap tells whether some addresses of p are in the set.
func overlap(s subnets.Set, p netip.Prefix) bool {
	return slices.ContainsFunc(s.Prefixes(), p.Overlaps)
}

// cover tells whether a prefix of the set has all addresses of p.
func cover(s subnets.Set, p netip.Prefix) bool {
	return slices.ContainsFunc(s.Prefixes(), func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}
