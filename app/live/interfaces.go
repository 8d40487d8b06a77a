package live

import (
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"promflow/capture/watch"
)

// checkInterface returns an error that lists this machine's interfaces if name is not one of them. from is the name's flag or variable.
func checkInterface(name, from string) error {
	if (watch.Names{Exact: []string{name}}).Exists() {
		return nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing the network interfaces: %w", err)
	}
	routed := defaultRoutes()
	var known []string
	for _, each := range all {
		hint := each.Name
		if routed[each.Index] {
			hint += " (has the default route)"
		}
		known = append(known, hint)
	}
	return fmt.Errorf("%s %q: no such network interface; this machine has %s", from, name, strings.Join(known, ", "))
}

// defaultRoutes returns the indices of the interfaces with a default route, on Linux.
func defaultRoutes() map[int]bool {
	indices := map[int]bool{}
	routes, _ := netlink.RouteList(nil, syscall.AF_UNSPEC) // none if it fails
	for _, r := range routes {
		if to := r.Dst.String(); to == "0.0.0.0/0" || to == "::/0" {
			indices[r.LinkIndex] = true
			for _, hop := range r.MultiPath {
				indices[hop.LinkIndex] = true
			}
		}
	}
	return indices
}
