package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"promflow/app/names"
	"promflow/telemetry"
)

// hostNames is what addresses are called, if that is asked for.
type hostNames struct{ *names.Names }

// openNames looks for names for the first time, as who reads the files from now on.
func openNames(c *config, log *slog.Logger) (*hostNames, error) {
	if !c.hostInfo {
		c.explainNames(log)
		return &hostNames{}, nil
	}
	n, err := names.Open(names.Config{LeaseFiles: c.leaseFiles, ReverseDNS: c.reverseDNS, Limit: c.maxIPs, Log: log})
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w: it is read again while promflow runs, as user %d and group %d (see --user): let them read it",
			c.givenBy("lease-files"), strings.Join(c.leaseFiles, ","), err, os.Geteuid(), os.Getegid())
	}
	return &hostNames{n}, nil
}

// explainNames says what means nothing without names.
func (c *config) explainNames(log *slog.Logger) {
	if c.leaseFiles != nil {
		log.Warn("lease files are for --host-info only, which is not asked for", c.givenBy("lease-files"), c.leaseFiles)
	}
	if c.isGiven("reverse-dns") {
		log.Warn("reverse DNS is for --host-info only, which is not asked for", c.givenBy("reverse-dns"), c.reverseDNS)
	}
}

// info gives what readings ask, nil without names.
func (n *hostNames) info() func(netip.Addr) telemetry.HostInfo {
	if n.Names == nil {
		return nil
	}
	return func(addr netip.Addr) telemetry.HostInfo { return telemetry.HostInfo(n.Of(addr)) }
}

// run looks for names until ctx ends. It always returns nil.
func (n *hostNames) run(ctx context.Context) error {
	if n.Names != nil {
		n.Run(ctx)
	}
	return nil
}
