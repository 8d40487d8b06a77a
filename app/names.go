package app

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"

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
		for _, each := range []struct {
			name  string
			value any
		}{
			{"names-file", c.namesFile}, {"lease-files", c.leaseFiles}, {"reverse-dns", c.reverseDNS}, {"reverse-dns-rate", c.reverseDNSRate},
			{"mdns", c.mdns},
		} {
			if c.isGiven(each.name) {
				log.Warn(noEffect, c.givenBy(each.name), each.value)
			}
		}
		return hostNames{update: func(context.Context) error { return nil }, reload: func() error { return nil }}, nil
	}
	n, err := names.Open(names.Config{
		LeaseFiles: c.leaseFiles, LeaseFilesFrom: c.givenBy("lease-files"), NamesFile: c.namesFile, NamesFileFrom: c.givenBy("names-file"),
		ReverseDNS: c.reverseDNS, ReverseDNSRate: c.reverseDNSRate, MDNS: c.mdns, Limit: c.maxIPs, Log: log,
	})
	if err != nil {
		return hostNames{}, explainNames(err)
	}
	return hostNames{
		info:   func(addr netip.Addr) telemetry.HostInfo { return telemetry.HostInfo(n.Of(addr)) },
		update: func(ctx context.Context) error { n.Run(ctx); return nil },
		reload: func() error { return explainNames(n.Reload()) },
	}, nil
}

// explainNames explains an error, if any, of files with names.
func explainNames(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return unreadable(err)
	}
	return err
}
