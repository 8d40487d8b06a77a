package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"promflow/capture"
	"promflow/capture/watch"
	"promflow/telemetry"
)

// live is the capture on the interfaces of this machine.
type live struct {
	backend string
	table   *capture.Table
	capture capture.Capture
	watch   *watch.Watch
	log     *slog.Logger
	unread  rate.Sometimes // logs
}

// openLive begins to capture what c says.
func openLive(c *config, log *slog.Logger) (l *live, err error) {
	for _, name := range c.interfaces.Exact {
		if err := checkInterface(name, c.said("interface")); err != nil && !c.waitInterface {
			return nil, err
		}
	}
	l = &live{
		table:  c.table(c.expireAfter),
		log:    log,
		unread: rate.Sometimes{First: 1, Interval: time.Minute},
	}
	config := capture.Config{Table: l.table, Monitored: c.monitored, Excluded: c.excluded, Promiscuous: c.promiscuous, Log: log}
	if l.capture, l.backend, err = openCapture(c.backend, config, c.interfaces.Room()); err != nil {
		return nil, err
	}
	l.watch, err = watch.Open(watch.Config{Names: c.interfaces, Capture: l.capture, Log: log})
	if err != nil {
		return nil, errors.Join(err, l.capture.Close())
	}
	for _, s := range l.watch.Statuses() {
		if outside := addressesOutside(s.Interface, c.monitored); len(outside) > 0 {
			log.Info("the interface's own addresses are not monitored (see --monitor-subnets)",
				"interface", s.Interface, "addresses", outside, "monitored", c.monitored)
		}
	}
	c.explainLabels(log)
	log.Info("capturing", "interface", l.captured(), "backend", l.backend, "promiscuous", c.promiscuous)
	return l, nil
}

// captured names the interfaces.
func (l *live) captured() string {
	var names []string
	for _, s := range l.watch.Statuses() {
		names = append(names, s.Interface)
	}
	return strings.Join(names, ",")
}

// explainLabels says what would make labels other than expected.
func (c *config) explainLabels(log *slog.Logger) {
	if c.labels == 0 && c.maxSeries > 0 {
		log.Warn("a limit of series is for labels only, and none is asked for", c.said("max-series"), c.maxSeries)
	}
	if !c.labels.Has(capture.LabelPeer) {
		if !c.peers.Empty() {
			log.Warn("peer subnets are for the label peer only, which is not asked for", c.said("peer-subnets"), c.peers)
		}
		return
	}
	for i, prefix := range c.monitored.Prefixes() {
		if prefix.Bits() == 0 {
			log.Info("with all addresses monitored, none of this version has the peer \"external\" (see --monitor-subnets)",
				"monitored", prefix, "peer", c.monitored.Name(i))
		}
	}
}

// run captures until ctx ends. When it returns, the last packet has been counted.
func (l *live) run(ctx context.Context) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return l.watch.Run(ctx) })
	both.Go(func() error { l.keepUp(ctx); return nil })
	return both.Wait()
}

// keepUp has the table know in time who is idle, and the kernel forget who has expired, even if nobody scrapes.
func (l *live) keepUp(ctx context.Context) {
	after := l.table.ExpireAfter()
	if after == 0 {
		return
	}
	tick := time.NewTicker(min(max(after/10, 100*time.Millisecond), 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.read()
		}
	}
}

// read brings the table up to date.
func (l *live) read() {
	if err := l.capture.Read(); err != nil {
		l.unread.Do(func() { l.log.Error("counts are missing until the next time that they are read", "error", err) })
	}
}

// fill brings the table up to date, and gives the state of the interfaces.
func (l *live) fill() []telemetry.Interface {
	l.read()
	var all []telemetry.Interface
	for _, s := range l.watch.Statuses() {
		i := telemetry.Interface{Name: s.Interface, Backend: l.backend, Up: s.Up, Dropped: s.Dropped, Outcomes: outcomes(s.Outcomes)}
		if s.Interface == watch.Gone {
			i.Backend = "" // it is not up or down
		}
		all = append(all, i)
	}
	return all
}

func (l *live) close() error { return errors.Join(l.watch.Close(), l.capture.Close()) }
