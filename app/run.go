package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	page, err := telemetry.NewPrometheus(log)
	if err != nil {
		return err
	}
	server, err := newServer(c, page, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close()) }()

	push, err := newPush(c, log)
	if err != nil {
		return err
	}

	m := &monitor{table: capture.NewTable(c.maxIPs)}
	counter := capture.NewCounter(m.table, c.monitored, c.excluded)
	source, err := openSource(c.backend, capture.Config{Interface: c.iface, Promiscuous: c.promiscuous, Log: log}, counter)
	if err != nil {
		if push != nil {
			err = errors.Join(err, push.Shutdown(context.Background())) // of no provider yet, it has nothing to push
		}
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	m.add(source.Status)
	provider, err := newProvider(c, m, server.port(), log, page, push)
	if err != nil {
		return err
	}
	defer shutdown(provider, log)
	if push != nil {
		log.Info("pushing to a collector", "endpoint", cmp.Or(c.otlpEndpoint, "of OTEL_EXPORTER_OTLP_ENDPOINT"))
	}

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

// newPush makes the reader that pushes over OTLP, nil if nobody asked for it.
func newPush(c *config, log *slog.Logger) (push metric.Reader, err error) {
	o := telemetry.OTLP{Endpoint: c.otlpEndpoint, Insecure: c.otlpInsecure, Interval: c.otlpInterval, Timeout: c.otlpTimeout}
	if c.otlpHeaders != "" {
		if o.Headers, err = telemetry.ParseHeaders(c.otlpHeaders); err != nil {
			return nil, fmt.Errorf("%s: %w", c.said("otlp-headers"), err)
		}
	}
	push, err = telemetry.NewOTLP(o, log)
	if err != nil && c.otlpEndpoint != "" {
		return nil, fmt.Errorf("%s: %w", c.said("otlp-endpoint"), err)
	}
	return push, err
}

func newProvider(c *config, m *monitor, port string, log *slog.Logger, readers ...metric.Reader) (*metric.MeterProvider, error) {
	host, err := os.Hostname()
	if err != nil {
		log.Warn("this machine has no name", "error", err)
	}
	return telemetry.New(telemetry.Config{Instance: net.JoinHostPort(host, port), Packets: c.packets, Log: log}, m.read, readers...)
}

// shutdown pushes the last counts.
func shutdown(provider *metric.MeterProvider, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := provider.Shutdown(ctx); err != nil {
		log.Warn("the last counts may not have arrived at the collector", "error", err)
	}
}
