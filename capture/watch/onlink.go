package watch

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// OnLink returns the on-link prefixes of interfaces, sorted: those of their addresses, without link-local ones. Interfaces that do not exist
// have none.
func OnLink(interfaces []string) (prefixes []netip.Prefix) {
	for _, name := range interfaces {
		i, err := net.InterfaceByName(name)
		if err != nil {
			continue
		}
		addresses, _ := i.Addrs() // none if it is gone
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				prefixes = append(prefixes, p.Masked())
			}
		}
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes)
}

// settle is how long changes are awaited after one: addresses often come and go together.
const settle = 50 * time.Millisecond

// lookEvery is how often OnLink is asked without a report of the kernel: an interface may have been renamed.
const lookEvery = 10 * time.Second

// FollowOnLink calls changed with the on-link prefixes of interfaces, at first and whenever they have changed, until ctx ends. captured
// returns the names of the interfaces.
func FollowOnLink(ctx context.Context, captured func() []string, changed func([]netip.Prefix)) error {
	reports, err := addressReports(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := []netip.Prefix(nil); ; {
		if now := OnLink(captured()); last == nil || !slices.Equal(now, last) {
			changed(now)
			last = append([]netip.Prefix{}, now...)
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
