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

	"promflow/app/live"
	"promflow/app/web"
	"promflow/capture"
	"promflow/telemetry"
	"promflow/telemetry/talkers"
)

// flushTimeout is how long the last push may take. Nobody should have to wait for 5 s in all.
const flushTimeout = 2500 * time.Millisecond

// run is promflow's main job, until ctx ends or something fails for good. What can be wrong with the settings is found before anything is
// started. Then each part is made of what is there: the listener, so that a port that is taken is an error before packets are counted;
// the capture; with privileges given up, what reads files again later; the readers.
func run(ctx context.Context, c *config, log *slog.Logger) (err error) {
	outlets, err := c.check(log)
	if err != nil {
		return err
	}
	listener, err := web.Listen(c.web())
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close() // once more, where the server has
	}
	live, err := live.Open(c.live(c.table(c.expireAfter), log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, live.Close()) }()
	live.WarnOfDetours()
	c.explainLabels(log)
	if err := c.dropPrivileges(live.Keeps(), log); err != nil {
		return err
	}
	names, err := openNames(c, log)
	if err != nil {
		return err
	}
	monitor := live.Monitor(names.info())
	talkers := talkers.New(monitor.Read)
	page, readers, err := outlets.open(telemetry.NewSource(monitor.Read, c.packets), log)
	if err != nil {
		return err
	}
	server := web.New(c.web(), listener, page, talkers, log)
	defer func() { err = errors.Join(err, server.Close()) }()
	telemetry.New(instance(c, server, log), log, readers...)
	defer shutdown(readers, log)

	service := service{status: fmt.Sprintf("capturing %s with %s", live.Captured(), live.Backend()), read: func() { live.Read(); live.Statuses() }, log: log}
	return work(ctx, server, live.Run, names.run, talkers.Run, service.run)
}

// check finds what is wrong with the settings, as far as that can be told without starting anything, and prepares the exporters.
func (c *config) check(log *slog.Logger) (outlets, error) {
	prepared, err := prepareExporters(c, log)
	if err != nil {
		return outlets{}, err
	}
	if c.metricsAddress == web.None {
		return prepared, nil
	}
	return prepared, c.web().Check()
}

// web is what the server is told.
func (c *config) web() web.Config {
	return web.Config{
		Address: c.metricsAddress, AddressFrom: c.givenBy("metrics-address"), AddressAsked: c.isGiven("metrics-address"),
		File: c.webConfigFile, FileFrom: c.givenBy("web-config-file"), NoUI: c.noUI,
	}
}

// live is what the capture is told that fills a table.
func (c *config) live(table *capture.Table, log *slog.Logger) live.Config {
	return live.Config{
		Names: c.interfaces, NamesFrom: c.givenBy("interface"), Wait: c.waitInterface, Backend: c.backend, Promiscuous: c.promiscuous,
		Table: table, Monitored: c.monitored, Excluded: c.excluded, Log: log,
	}
}

// work serves and does its jobs until ctx ends or one of them fails, which ends the others. When it returns, the capture has
// counted its last packet.
func work(ctx context.Context, server *web.Server, jobs ...func(context.Context) error) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, job := range jobs {
		all.Go(func() error { return job(ctx) })
	}
	all.Go(server.Serve)
	all.Go(func() error { <-ctx.Done(); return server.Close() })
	return all.Wait()
}

// instance tells this promflow from others: those on one machine have other ports or, without any, other interfaces.
func instance(c *config, s *web.Server, log *slog.Logger) string {
	host, err := os.Hostname()
	if err != nil {
		log.Warn("this machine has no name", "error", err)
	}
	if s.Port() == "" {
		return host + ":" + c.interfaces.String()
	}
	return net.JoinHostPort(host, s.Port())
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
