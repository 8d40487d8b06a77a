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

// openNames looks up names for the first time, with the privileges that later look-ups have. info returns what an address is called, and
// run updates the names until its context ends. Without --host-info, info is nil and run does nothing.
func openNames(c *config, log *slog.Logger) (info func(netip.Addr) telemetry.HostInfo, run job, err error) {
	if !c.hostInfo {
		const noEffect = "a setting has no effect without --host-info"
		if c.leaseFiles != nil {
			log.Warn(noEffect, c.givenBy("lease-files"), c.leaseFiles)
		}
		if c.isGiven("reverse-dns") {
			log.Warn(noEffect, c.givenBy("reverse-dns"), c.reverseDNS)
		}
		return nil, func(context.Context) error { return nil }, nil
	}
	n, err := names.Open(names.Config{LeaseFiles: c.leaseFiles, ReverseDNS: c.reverseDNS, Limit: c.maxIPs, Log: log})
	if err != nil {
		return nil, nil, unreadable(fmt.Errorf("%s %q: %w", c.givenBy("lease-files"), strings.Join(c.leaseFiles, ","), err))
	}
	info = func(addr netip.Addr) telemetry.HostInfo { return telemetry.HostInfo(n.Of(addr)) }
	run = func(ctx context.Context) error { n.Run(ctx); return nil }
	return info, run, nil
}
