package detour

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// policy is an IPsec policy.
type policy struct {
	arrives     bool         // it is for packets that arrive
	from, to    netip.Prefix // of the packets
	tunnel      bool         // it has a template for tunnel mode, between the next two
	remote, own netip.Addr   // 0.0.0.0 and :: are any
	interfaceID uint32       // of an xfrm interface; 0 is none
	mark        uint32       // of the packets
}

// listTunnels lists the tunnels. (netlink.XfrmPolicyList takes IPv6 prefixes such as fd00:1::/64 for IPv4.)
func listTunnels(links []netlink.Link) ([]tunnel, error) {
	request := nl.NewNetlinkRequest(nl.XFRM_MSG_GETPOLICY, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	messages, err := request.Execute(unix.NETLINK_XFRM, nl.XFRM_MSG_NEWPOLICY)
	if err := complete(err); err != nil {
		return nil, err
	}
	var all []tunnel
	devices := map[netip.Addr]int{}
	for _, m := range messages {
		p, err := parsePolicy(m)
		if err != nil {
			return nil, err
		}
		if !p.arrives || !p.tunnel || p.interfaceID != 0 || slices.ContainsFunc(links, p.isOf) {
			continue
		}
		device, known := devices[p.remote]
		if !known {
			device = deviceTo(p.remote)
			devices[p.remote] = device
		}
		// There is a policy for packets to this machine, and one for forwarded packets.
		if t := (tunnel{p.from, p.to, device}); !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all, nil
}

// isOf tells whether the policy's packets pass a VTI: it takes packets between its ends, by policies whose mark is its key. A VTI that is
// down takes none, such as ip_vti0, which the module makes in each namespace.
func (p *policy) isOf(l netlink.Link) bool {
	vti, ok := l.(*netlink.Vti)
	if !ok || vti.Flags&net.FlagUp == 0 {
		return false
	}
	same := func(end net.IP, of netip.Addr) bool {
		a, ok := netip.AddrFromSlice(end)
		return !ok || a.IsUnspecified() || a == of
	}
	return vti.IKey == p.mark && same(vti.Remote, p.remote) && same(vti.Local, p.own)
}

// deviceTo returns the index of the interface with the route to an address, 0 if unknown.
func deviceTo(a netip.Addr) int {
	if !a.IsValid() || a.IsUnspecified() {
		return 0
	}
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 {
		return 0
	}
	return routes[0].LinkIndex
}

// parsePolicy reads a struct xfrm_userpolicy_info (linux/xfrm.h) and its attributes.
func parsePolicy(m []byte) (p policy, err error) {
	if len(m) < nl.SizeofXfrmUserpolicyInfo {
		return p, fmt.Errorf("a policy of %d bytes", len(m))
	}
	info := nl.DeserializeXfrmUserpolicyInfo(m)
	p.arrives = info.Dir == uint8(netlink.XFRM_DIR_IN) || info.Dir == uint8(netlink.XFRM_DIR_FWD)
	p.from = netip.PrefixFrom(address(info.Sel.Saddr, info.Sel.Family), int(info.Sel.PrefixlenS))
	p.to = netip.PrefixFrom(address(info.Sel.Daddr, info.Sel.Family), int(info.Sel.PrefixlenD))
	if !p.from.IsValid() || !p.to.IsValid() {
		return p, fmt.Errorf("a policy of address family %d, from a /%d to a /%d", info.Sel.Family, info.Sel.PrefixlenS, info.Sel.PrefixlenD)
	}
	err = attributes(m[nl.SizeofXfrmUserpolicyInfo:], func(kind uint16, value []byte) error {
		switch {
		case kind == nl.XFRMA_TMPL:
			for ; len(value) >= nl.SizeofXfrmUserTmpl && !p.tunnel; value = value[nl.SizeofXfrmUserTmpl:] {
				t := nl.DeserializeXfrmUserTmpl(value)
				p.tunnel = t.Mode == uint8(netlink.XFRM_MODE_TUNNEL)
				p.remote, p.own = address(t.Saddr, t.Family), address(t.XfrmId.Daddr, t.Family)
			}
		case len(value) < 4:
		case kind == nl.XFRMA_IF_ID:
			p.interfaceID = binary.NativeEndian.Uint32(value)
		case kind == nl.XFRMA_MARK: // a mask follows
			p.mark = binary.NativeEndian.Uint32(value)
		}
		return nil
	})
	return p, err
}

// address returns an IPv4 or IPv6 address, by its family.
func address(a nl.XfrmAddress, family uint16) netip.Addr {
	switch family {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(a[:4]))
	case unix.AF_INET6:
		return netip.AddrFrom16(a)
	}
	return netip.Addr{}
}
