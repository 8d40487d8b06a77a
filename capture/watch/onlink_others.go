//go:build !linux

package watch

import (
	"context"
	"net"
	"net/netip"
	"time"
)

func onLink(interfaces map[int]net.Interface) (prefixes []netip.Prefix, err error) {
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok {
				prefixes = append(prefixes, prefixOf(n))
			}
		}
	}
	return prefixes, nil
}

// lookEvery is how often OnLink is asked.
const lookEvery = 10 * time.Second

// addressReports returns no reports: OnLink is asked at intervals.
func addressReports(context.Context) (<-chan struct{}, error) { return nil, nil }
