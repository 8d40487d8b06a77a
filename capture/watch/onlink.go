package watch

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"
)

// OnLink returns the on-link prefixes of interfaces, sorted: those of their addresses, those of the other ends of point-to-point links, and
// on Linux also those that an IPv6 router announces without giving addresses (with a route in the main table). Link-local ones are left out.
// Interfaces that do not exist have none.
func OnLink(interfaces Names) ([]netip.Prefix, error) {
	all, err := devices()
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(all, func(_ int, d device) bool { return !interfaces.asks(d) })
	prefixes, err := onLink(all)
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

// lookAgain is the time after prefixes could not be listed.
const lookAgain = 10 * time.Second

// FollowOnLink calls changed with the on-link prefixes of interfaces, at first and whenever they have changed, until ctx ends. What cannot be
// listed is tried again; failed gets the error.
func FollowOnLink(ctx context.Context, interfaces Names, changed func([]netip.Prefix), failed func(error)) error {
	reports, err := addressReports(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var retry <-chan time.Time
	for last := []netip.Prefix(nil); ; {
		now, err := OnLink(interfaces)
		if err != nil {
			failed(err)
			retry = time.After(lookAgain)
		} else if last == nil || !slices.Equal(now, last) {
			changed(now)
			last = append([]netip.Prefix{}, now...)
			sleep(ctx, rest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-retry:
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
