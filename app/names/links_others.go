//go:build !linux

package names

import (
	"fmt"
	"net"
)

// listLinks lists the prefixes that are on-link on interfaces with multicast.
func listLinks() (all []link, err error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	for _, d := range devices {
		addresses, err := d.Addrs()
		if err != nil {
			return nil, fmt.Errorf("listing addresses of %s: %w", d.Name, err)
		}
		for _, a := range addresses {
			if subnet, ok := a.(*net.IPNet); ok {
				all = appendLink(all, d, subnet)
			}
		}
	}
	return all, nil
}
