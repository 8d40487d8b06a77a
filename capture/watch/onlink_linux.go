package watch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func onLink(interfaces map[int]device) (prefixes []netip.Prefix, err error) {
	for tries := 0; tries < 10; tries++ {
		if prefixes, err = listOnLink(interfaces); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return prefixes, err
}

func listOnLink(interfaces map[int]device) (prefixes []netip.Prefix, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	addresses, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if _, ok := interfaces[a.LinkIndex]; ok {
			prefixes = append(prefixes, prefixOf(a.IPNet), prefixOf(a.Peer))
		}
	}
	// A router may announce a prefix that hosts take no addresses from (RFC 4861, section 4.6.2; with DHCPv6 they get single ones). The kernel,
	// or the network manager, adds a route for it.
	if err := h.SetStrictCheck(true); errors.Is(err, unix.ENOPROTOOPT) { // before Linux 4.20
		return prefixes, nil
	} else if err != nil { // the kernel filters: a router may have a million routes
		return nil, err
	}
	announced := netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_RA}
	kernels := netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_KERNEL}
	for _, filter := range []netlink.Route{announced, kernels} {
		err := h.RouteListFilteredIter(netlink.FAMILY_V6, &filter, netlink.RT_FILTER_PROTOCOL, func(r netlink.Route) bool {
			if _, ok := interfaces[r.LinkIndex]; ok && r.Gw == nil && r.Via == nil && r.Type == unix.RTN_UNICAST {
				prefixes = append(prefixes, prefixOf(r.Dst))
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return prefixes, nil
}

// lookEvery is how often OnLink is asked without a report of the kernel.
const lookEvery = time.Minute

// addressReports returns a channel that has a value after the kernel has reported that an address, an interface or an IPv6 route has changed,
// until ctx ends.
func addressReports(ctx context.Context) (<-chan struct{}, error) {
	s, err := subscribeToAddresses()
	if err != nil {
		return nil, err
	}
	reports := make(chan struct{}, 1)
	report := func() {
		select {
		case reports <- struct{}{}:
		default: // the reader has not seen the one before
		}
	}
	context.AfterFunc(ctx, s.Close)
	go func() {
		for ctx.Err() == nil {
			messages, _, err := s.Receive()
			for _, m := range messages {
				route := m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE
				if !route || isOnLink(m.Data) {
					report()
				}
			}
			if err != nil { // ENOBUFS: the receive buffer was full
				report()
				time.Sleep(settle)
			}
		}
	}()
	return reports, nil
}

// isOnLink tells whether a message about a route may be about an on-link prefix. A router may get many others.
func isOnLink(message []byte) bool {
	if len(message) < unix.SizeofRtMsg {
		return false
	}
	r := nl.DeserializeRtMsg(message)
	return r.Table == unix.RT_TABLE_MAIN && (r.Protocol == unix.RTPROT_RA || r.Protocol == unix.RTPROT_KERNEL)
}

func subscribeToAddresses() (*nl.NetlinkSocket, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("subscribing to reports of addresses: %w", err)
	}
	if err := s.SetReceiveBufferSize(receiveBuffer, false); err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribing to reports of addresses: %w", err)
	}
	return s, nil
}
