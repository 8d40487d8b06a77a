package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"golang.org/x/sync/errgroup"

	"promflow/capture"
	"promflow/telemetry"
)

// How long the end may take: scrapes that are under way, then the last push. Nobody should have to wait for 5 s.
const (
	drainTimeout = 1 * time.Second
	flushTimeout = 2500 * time.Millisecond
)

// run is promflow's main job, until ctx ends or something fails for good. What can be wrong with the configuration is found
// before anything is started.
func run(ctx context.Context, c *config, log *slog.Logger) (err error) {
	if err := checkInterface(c.iface, c.said("interface")); err != nil {
		return err
	}
	m := &monitor{table: capture.NewTable(c.maxIPs)}
	outlet, err := openOutlet(c, telemetry.NewSource(m.read, c.packets), log)
	if err != nil {
		return err
	}
	server, err := newServer(c, outlet.page, log)
	if err != nil {
		return errors.Join(err, outlet.abandon())
	}
	defer func() { err = errors.Join(err, server.close()) }()

	counter := capture.NewCounter(m.table, c.monitored, c.excluded)
	source, err := openSource(c.backend, capture.Config{Interface: c.iface, Promiscuous: c.promiscuous, Log: log}, counter)
	if err != nil {
		return errors.Join(err, outlet.abandon())
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	m.add(source.Status)
	provider := telemetry.New(instance(c, server, log), log, outlet.readers...)
	defer shutdown(provider, log)

	if outside := addressesOutside(c.iface, c.monitored); len(outside) > 0 {
		log.Info("the interface's own addresses are not monitored (see --monitor-subnets)",
			"addresses", outside, "monitored", c.monitored)
	}

	return work(ctx, server, source)
}

// work serves and captures until ctx ends or one of both fails, which ends the other. When it returns, the capture has
// counted its last packet.
func work(ctx context.Context, server *server, source capture.Source) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return source.Run(ctx) })
	both.Go(server.serve)
	both.Go(func() error { <-ctx.Done(); return server.close() })
	return both.Wait()
}

// instance tells this promflow from others: those on one machine have other ports or, without any, other interfaces.
func instance(c *config, s *server, log *slog.Logger) string {
	host, err := os.Hostname()
	if err != nil {
		log.Warn("this machine has no name", "error", err)
	}
	if s.listener == nil {
		return host + ":" + c.iface
	}
	return net.JoinHostPort(host, s.port())
}

// shutdown pushes the last counts.
func shutdown(provider *metric.MeterProvider, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := provider.Shutdown(ctx); err != nil {
		log.Warn("the last counts may not have arrived at the collector", "error", err)
	}
}
