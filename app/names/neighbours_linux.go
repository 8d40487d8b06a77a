package names

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// listNeighbours reads the kernel's table, for which no privilege is needed.
func listNeighbours() (all []neighbour, err error) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		entries, err := netlink.NeighList(0, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // of which most is there, and all is next time
			return all, fmt.Errorf("listing neighbours: %w", err)
		}
		for i := range entries {
			if n, ok := neighbourOf(&entries[i]); ok {
				all = append(all, n)
			}
		}
	}
	return all, nil
}

// believable has the states in which the kernel knows, or knew, a MAC by the neighbour's own word or the administrator's, the surest
// first (include/uapi/linux/neighbour.h). In others there is none, or it is made up from the address, as for groups (NUD_NOARP).
var believable = []int{unix.NUD_PERMANENT, unix.NUD_REACHABLE, unix.NUD_DELAY, unix.NUD_PROBE, unix.NUD_STALE}

func neighbourOf(n *netlink.Neigh) (neighbour, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	mac := macOf(n.HardwareAddr)
	if !ok || mac == "" || addr.IsMulticast() {
		return neighbour{}, false
	}
	for rank, state := range believable {
		if n.State&state != 0 {
			// One address may be on several links, as link-local ones are: of two that are alike, let it not be chance.
			return neighbour{addr.Unmap(), mac, int64(rank)<<32 | int64(n.LinkIndex)}, true
		}
	}
	return neighbour{}, false
}
