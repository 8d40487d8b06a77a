package watch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// OnLink returns the on-link prefixes of interfaces, sorted: those of their addresses, those of the other ends of point-to-point links, and
// on Linux also those that an IPv6 router announces without giving addresses. Link-local ones are left out. Interfaces that do not exist
// have none.
func OnLink(interfaces []string) ([]netip.Prefix, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing the network interfaces: %w", err)
	}
	wanted := map[int]net.Interface{}
	for _, i := range all {
		if slices.Contains(interfaces, i.Name) {
			wanted[i.Index] = i
		}
	}
	prefixes, err := onLink(wanted)
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of network interfaces: %w", err)
	}
	for i, p := range prefixes {
		prefixes[i] = p.Masked()
	}
	prefixes = slices.DeleteFunc(prefixes, func(p netip.Prefix) bool { return !p.IsValid() || p.Bits() == 0 || p.Addr().IsLinkLocalUnicast() })
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes), nil
}

// settle is how long changes are awaited after one: addresses often come and go together.
const settle = 50 * time.Millisecond

// rest is how long further changes wait after one: that may have loaded a program.
const rest = 300 * time.Millisecond

// FollowOnLink calls changed with the on-link prefixes of interfaces, at first and whenever they have changed, until ctx ends. captured
// returns the names of the interfaces. What cannot be listed is tried again; failed gets the error.
func FollowOnLink(ctx context.Context, captured func() []string, changed func([]netip.Prefix), failed func(error)) error {
	reports, err := addressReports(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := []netip.Prefix(nil); ; {
		now, err := OnLink(captured())
		if err != nil {
			failed(err)
		} else if last == nil || !slices.Equal(now, last) {
			changed(now)
			last = append([]netip.Prefix{}, now...)
			sleep(ctx, rest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-reports:
			for wait := time.After(settle); wait != nil; {
				select {
				case <-reports:
				case <-wait:
					wait = nil
				}
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// prefixOf returns a network as a prefix, which is invalid for nil.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
