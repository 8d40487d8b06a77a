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

// hostNames looks up what addresses are called. Without --host-info it does nothing.
type hostNames struct{ *names.Names }

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
		return hostNames{}, nil
	}
	n, err := names.Open(names.Config{LeaseFiles: c.leaseFiles, ReverseDNS: c.reverseDNS, Limit: c.maxIPs, Log: log})
	if err != nil {
		err = unreadable(fmt.Errorf("%s %q: %w", c.givenBy("lease-files"), strings.Join(c.leaseFiles, ","), err))
	}
	return hostNames{n}, err
}

// info returns the look-up for telemetry and talkers; nil without names.
func (n hostNames) info() func(netip.Addr) telemetry.HostInfo {
	if n.Names == nil {
		return nil
	}
	return func(addr netip.Addr) telemetry.HostInfo { return telemetry.HostInfo(n.Of(addr)) }
}

// run updates names until ctx ends. It always returns nil.
func (n hostNames) run(ctx context.Context) error {
	if n.Names != nil {
		n.Run(ctx)
	}
	return nil
}
