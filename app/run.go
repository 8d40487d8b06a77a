package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"golang.org/x/sync/errgroup"

	"promflow/app/history"
	"promflow/app/live"
	"promflow/app/usage"
	"promflow/app/web"
	"promflow/capture"
	"promflow/telemetry"
	"promflow/telemetry/page"
	"promflow/telemetry/status"
	"promflow/telemetry/talkers"
)

// flushTimeout is how long the last push may take. The whole program should end within 5 s.
const flushTimeout = 2500 * time.Millisecond

// How many answers of the API may be given at a time.
const (
	maxReports = 64 // one takes up to 0.5 MB
	maxUsages  = 2  // one of 65,536 addresses takes 75 MB
)

// run counts and exports until ctx ends or a part of the program fails. It checks the settings before it starts anything. It binds the
// port before it captures: a port in use is an error at the start.
func run(ctx context.Context, c *config, log *slog.Logger) error {
	reloader := newReloader(log)
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more is no reason to end
	ctx, c.end = context.WithCancel(ctx)
	defer c.end()
	hasPage, others, err := prepareExporters(c, log)
	if err != nil {
		return err
	}
	if err := c.web().Check(); err != nil {
		return err
	}
	if err := c.checkDataDir(); err != nil {
		return err
	}
	listener, err := web.Listen(c.web(), log)
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close() // if the server does not come to close it
	}
	filesChanged := func() { _ = reloader.reload() } // it is logged
	return c.count(filesChanged, log, func(live *live.Live, monitor *live.Monitor, names hostNames) error {
		for _, job := range []func() error{live.Reload, names.reload, c.web().Check, func() error { return c.otlpError(c.otlp.Reread()) }} {
			reloader.add(job)
		}
		var kept *history.History // nil: none
		read := func() telemetry.Reading {
			r := monitor.Read()
			r.Subnets, r.Reload = live.Monitored(), reloader.last.Load()
			if kept != nil {
				r.Restored, r.History = restored(kept), &telemetry.History{Failing: kept.Failing(), LastWrite: kept.LastWrite()}
			}
			return r
		}
		rates := talkers.New(read)
		source := telemetry.NewSource(read, c.packets)
		if kept, err = c.openHistory(monitor.Table, live.Monitored, names, source, log); err != nil {
			return err
		}
		if kept != nil {
			_, _ = source.Produce(ctx) // what an earlier process has counted
		}
		page, err := page.New(source, log)
		if err != nil {
			return err
		}
		var readers []metric.Reader
		if hasPage {
			readers = append(readers, page)
		}
		for _, reader := range others {
			readers = append(readers, reader(source))
		}
		settings := c.web()
		if c.lifecycle {
			settings.Reload = reloader.reload
		}
		server := web.New(settings, listener, page, map[string]web.API{
			talkers.Path: {Handler: rates, Most: maxReports}, status.Path: {Handler: status.Handler(read), Most: maxReports},
			usage.Path: {Handler: usage.Handler(kept), Most: maxUsages},
		}, log)
		telemetry.New(instance(c, server, log), log, readers...)
		defer shutdown(readers, log)
		jobs := []job{live.Run, names.update, rates.Run, reloader.run}
		if kept != nil {
			defer kept.Close() // it logs what fails
			jobs = append(jobs, kept.Run)
		}

		status := fmt.Sprintf("capturing %s with %s", live.Captured(), live.Backend)
		all, ctx := errgroup.WithContext(ctx) // an error of one job ends all
		for _, job := range jobs {
			all.Go(func() error { return job(ctx) })
		}
		all.Go(func() error { return tellService(ctx, status, func() { live.Read(); live.Statuses() }, log) })
		all.Go(server.Serve)
		all.Go(func() error { <-ctx.Done(); return server.Close() })
		return all.Wait() // and then all packets until now have been counted
	})
}

// job runs until its context ends, or it fails.
type job func(context.Context) error

// count opens a capture, has use run it, and closes it. It gives up privileges before it opens files that are read again later. filesChanged
// is called when files of subnets have changed; nil reads them.
func (c *config) count(filesChanged func(), log *slog.Logger, use func(_ *live.Live, _ *live.Monitor, _ hostNames) error) (err error) {
	if err := c.checkCapture(); err != nil {
		return err
	}
	table := c.table(c.expireAfter)
	config := c.live(table, log)
	config.FilesChanged = filesChanged
	capture, err := live.Open(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, capture.Close()) }()
	capture.WarnOfDetours()
	c.explainLabels(table.Subnets().Monitored, log)
	c.explainFlows(log)
	c.explainMirror(log)
	c.makeDataDir()
	if err := c.dropPrivileges(capture.Keeps(), log); err != nil {
		c.removeDataDir()
		return err
	}
	if err := c.useDataDir(); err != nil {
		return err
	}
	names, err := openNames(c, log)
	if err != nil {
		return err
	}
	return use(capture, capture.Monitor(names.info), names)
}

// web returns the configuration of the web server.
func (c *config) web() web.Config {
	return web.Config{
		Addresses: c.addresses, SocketMode: c.socketMode, SocketOwner: c.ownSocket, AddressFrom: c.givenBy("metrics-address"), AddressAsked: c.isGiven("metrics-address"),
		File: c.webConfigFile, FileFrom: c.givenBy("web-config-file"), NoUI: c.noUI, Hosts: c.webHosts,
	}
}

// lists returns the subnets that count.
func (c *config) lists() live.Lists {
	return live.Lists{
		Monitored: c.monitored, Excluded: c.excluded, Peers: c.peers,
		MonitoredFrom: c.givenBy("monitor-subnets"), ExcludedFrom: c.givenBy("exclude-subnets"), PeersFrom: c.givenBy("peer-subnets"),
	}
}

// live returns the configuration of a capture that fills a table.
func (c *config) live(table *capture.Table, log *slog.Logger) live.Config {
	return live.Config{
		Config: capture.Config{Table: table, Promiscuous: c.promiscuous, Mirror: c.mirror, Log: log}, Lists: c.lists(),
		Names: c.interfaces, NamesFrom: c.givenBy("interface"), Wait: c.waitInterface, Backend: c.backend,
		Flows: c.flowsConfig(),
	}
}

// instance identifies this promflow among others, by its host and its port or, without a port, its interfaces.
func instance(c *config, s *web.Server, log *slog.Logger) string {
	host, err := os.Hostname()
	if err != nil {
		log.Warn("the hostname of this machine is not known", "error", err)
	}
	if s.Port() == "" {
		if live.CollectsFlows(c.backend) {
			return host + ":" + c.backend
		}
		return host + ":" + c.interfaces.String()
	}
	return net.JoinHostPort(host, s.Port())
}

// shutdown has the readers export the last counts. They do so at the same time and within a timeout: a collector that hangs, or a console
// that nobody reads, delays neither the other readers nor the end of the program for longer.
func shutdown(readers []metric.Reader, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	ended := make(chan error, len(readers))
	for _, r := range readers {
		go func() { ended <- r.Shutdown(ctx) }()
	}
	patience := time.After(flushTimeout + 100*time.Millisecond) // a reader that keeps to the deadline has ended by then
	for range readers {
		select {
		case err := <-ended:
			if err != nil {
				log.Warn("the last counts may not have been exported", "error", err)
			}
		case <-patience:
			log.Warn("the last counts may not have been exported", "error", "an exporter does not end in time")
			return
		}
	}
}
