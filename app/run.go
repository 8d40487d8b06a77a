package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"golang.org/x/sync/errgroup"

	"promflow/telemetry"
	"promflow/telemetry/talkers"
)

// How long the end may take: scrapes that are under way, then the last push. Nobody should have to wait for 5 s.
const (
	drainTimeout = 1 * time.Second
	flushTimeout = 2500 * time.Millisecond
)

// run is promflow's main job, until ctx ends or something fails for good. What can be wrong with the configuration is found
// before anything is started.
func run(ctx context.Context, c *config, log *slog.Logger) (err error) {
	m := &monitor{log: log}
	outlet, err := openOutlet(c, telemetry.NewSource(m.read, c.packets), log)
	if err != nil {
		return err
	}
	talkers := talkers.New(m.read)
	server, err := newServer(c, outlet.page, talkers, log)
	if err != nil {
		return errors.Join(err, outlet.abandon())
	}
	defer func() { err = errors.Join(err, server.close()) }()

	live, err := openLive(c, log)
	if err != nil {
		return errors.Join(err, outlet.abandon())
	}
	defer func() { err = errors.Join(err, live.close()) }()
	live.warnOfDetours(c)
	m.table, m.fill = live.table, live.fill
	if err := c.dropPrivileges(live.watch.Keeps(), log); err != nil {
		return errors.Join(err, outlet.abandon())
	}
	names, err := openNames(c, log)
	if err != nil {
		return errors.Join(err, outlet.abandon())
	}
	m.info = names.info()
	telemetry.New(instance(c, server, log), log, outlet.readers...)
	defer shutdown(outlet.readers, log)

	service := service{status: fmt.Sprintf("capturing %s with %s", live.captured(), live.backend), read: func() { live.fill() }, log: log}
	return work(ctx, server, live.run, names.run, talkers.Run, service.run)
}

// work serves and does its jobs until ctx ends or one of them fails, which ends the others. When it returns, the capture has
// counted its last packet.
func work(ctx context.Context, server *server, jobs ...func(context.Context) error) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, job := range jobs {
		all.Go(func() error { return job(ctx) })
	}
	all.Go(server.serve)
	all.Go(func() error { <-ctx.Done(); return server.close() })
	return all.Wait()
}

// instance tells this promflow from others: those on one machine have other ports or, without any, other interfaces.
func instance(c *config, s *server, log *slog.Logger) string {
	host, err := os.Hostname()
	if err != nil {
		log.Warn("this machine has no name", "error", err)
	}
	if s.listener == nil {
		return host + ":" + c.interfaces.String()
	}
	return net.JoinHostPort(host, s.port())
}

// shutdown takes the last counts and has the readers export them, side by side: none keeps another from it, nor the program from
// its end, be it a collector that is frozen or a console that nobody reads.
func shutdown(readers []metric.Reader, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	ended := make(chan error, len(readers))
	for _, r := range readers {
		go func() { ended <- r.Shutdown(ctx) }()
	}
	patience := time.After(flushTimeout + 100*time.Millisecond) // for who ends by the deadline
	for range readers {
		select {
		case err := <-ended:
			if err != nil {
				log.Warn("the last counts may not have been exported", "error", err)
			}
		case <-patience:
			log.Warn("the last counts may not have been exported", "error", "an exporter does not end")
			return
		}
	}
}
