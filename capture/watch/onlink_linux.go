package watch

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
)

// addressReports returns a channel that has a value after the kernel has reported that an address came or went, until ctx ends.
func addressReports(ctx context.Context) (<-chan struct{}, error) {
	updates, err := subscribeToAddresses(ctx)
	if err != nil {
		return nil, err
	}
	reports := make(chan struct{}, 1)
	report := func() {
		select {
		case reports <- struct{}{}:
		default: // the reader has not seen the one before
		}
	}
	go func() {
		for updates != nil {
			for range updates {
				report()
			}
			if ctx.Err() != nil {
				return
			}
			updates, _ = subscribeToAddresses(ctx) // the receive buffer was full
			report()
		}
	}()
	return reports, nil
}

func subscribeToAddresses(ctx context.Context) (<-chan netlink.AddrUpdate, error) {
	updates := make(chan netlink.AddrUpdate)
	err := netlink.AddrSubscribeWithOptions(updates, ctx.Done(), netlink.AddrSubscribeOptions{ReceiveBufferSize: receiveBuffer})
	if err != nil {
		return nil, fmt.Errorf("subscribing to reports of addresses: %w", err)
	}
	return updates, nil
}
