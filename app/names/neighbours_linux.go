package names

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// listNeighbours reads the kernel's neighbour table. It needs no privilege.
func listNeighbours() (all []neighbour, err error) {
	entries, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // most entries are there; the next dump has the others
		return nil, fmt.Errorf("listing neighbours: %w", err)
	}
	for i := range entries {
		if n, ok := neighbourOf(&entries[i]); ok {
			all = append(all, n)
		}
	}
	return all, nil
}

// reliable lists the states in which the neighbour itself or the administrator has told the kernel its MAC, the surest first
// (include/uapi/linux/neighbour.h). In other states there is no MAC, or it is derived from the address, as for multicast (NUD_NOARP).
var reliable = []int{unix.NUD_PERMANENT, unix.NUD_REACHABLE, unix.NUD_DELAY, unix.NUD_PROBE, unix.NUD_STALE}

func neighbourOf(n *netlink.Neigh) (neighbour, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	mac := macOf(n.HardwareAddr)
	if !ok || mac == "" || addr.IsMulticast() {
		return neighbour{}, false
	}
	for rank, state := range reliable {
		if n.State&state != 0 {
			// An address may be on several links, as link-local ones are. The index makes the choice between equal states stable.
			return neighbour{addr.Unmap(), mac, int64(rank)<<32 | int64(n.LinkIndex)}, true
		}
	}
	return neighbour{}, false
}
