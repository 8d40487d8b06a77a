package names

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// listLinks lists the prefixes that are on-link on interfaces with multicast. It needs no privilege.
func listLinks() (all []link, err error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	byIndex := map[int]net.Interface{}
	for _, d := range devices {
		byIndex[d.Index] = d
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL) // net.Interface.Addrs would list all of them for each interface
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	for _, a := range addresses {
		if a.IPNet != nil {
			all = appendLink(all, byIndex[a.LinkIndex], a.IPNet)
		}
	}
	return all, nil
}
