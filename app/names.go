package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"promflow/app/names"
	"promflow/telemetry"
)

// hostNames names hosts.
type hostNames struct {
	info   func(netip.Addr) telemetry.HostInfo // what an address is called; nil without --host-info
	update job                                 // keeps names up to date
	reload func() error                        // reads the files now
}

// openNames looks up names for the first time, with the privileges that later look-ups have.
func openNames(c *config, log *slog.Logger) (hostNames, error) {
	if !c.hostInfo {
		const noEffect = "a setting has no effect without --host-info"
		if c.leaseFiles != nil {
			log.Warn(noEffect, c.givenBy("lease-files"), c.leaseFiles)
		}
		if c.isGiven("reverse-dns") {
			log.Warn(noEffect, c.givenBy("reverse-dns"), c.reverseDNS)
		}
		return hostNames{update: func(context.Context) error { return nil }, reload: func() error { return nil }}, nil
	}
	wrong := func(err error) error {
		if err == nil {
			return nil
		}
		return unreadable(fmt.Errorf("%s %q: %w", c.givenBy("lease-files"), strings.Join(c.leaseFiles, ","), err))
	}
	n, err := names.Open(names.Config{LeaseFiles: c.leaseFiles, ReverseDNS: c.reverseDNS, Limit: c.maxIPs, Log: log})
	if err != nil {
		return hostNames{}, wrong(err)
	}
	return hostNames{
		info:   func(addr netip.Addr) telemetry.HostInfo { return telemetry.HostInfo(n.Of(addr)) },
		update: func(ctx context.Context) error { n.Run(ctx); return nil },
		reload: func() error { return wrong(n.Reload()) },
	}, nil
}
