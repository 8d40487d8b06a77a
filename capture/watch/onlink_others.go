//go:build !linux

package watch

import (
	"context"
	"net"
	"net/netip"
	"time"
)

func onLink(interfaces map[int]device) (prefixes []netip.Prefix, err error) {
	for index := range interfaces {
		addresses, err := (&net.Interface{Index: index}).Addrs()
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
