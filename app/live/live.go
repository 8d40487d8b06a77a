// Package live captures on the interfaces of this machine, and gives what was counted as telemetry reads it.
package live

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"promflow/capture"
	"promflow/capture/subnets"
	"promflow/capture/watch"
	"promflow/telemetry"
)

// Config is what a capture is told.
type Config struct {
	Names               watch.Names // of the interfaces
	NamesFrom           string      // the flag or variable that says so, for messages
	Wait                bool        // for interfaces that are not there yet
	Backend             string      // or Automatic
	Table               *capture.Table
	Monitored, Excluded subnets.Set
	Promiscuous         bool
	Log                 *slog.Logger
}

// Live is a capture that was opened.
type Live struct {
	config  Config
	backend string
	capture capture.Capture
	watch   *watch.Watch
	unread  rate.Sometimes // logs
}

// Open begins to capture. It needs the privileges of the backend; from then on those of Keeps are enough.
func Open(c Config) (l *Live, err error) {
	for _, name := range c.Names.Exact {
		if err := checkInterface(name, c.NamesFrom); err != nil && !c.Wait {
			return nil, err
		}
	}
	l = &Live{config: c, unread: rate.Sometimes{First: 1, Interval: time.Minute}}
	of := capture.Config{Table: c.Table, Monitored: c.Monitored, Excluded: c.Excluded, Promiscuous: c.Promiscuous, Log: c.Log}
	if l.capture, l.backend, err = openCapture(c.Backend, of, c.Names.Room()); err != nil {
		return nil, err
	}
	l.watch, err = watch.Open(watch.Config{Names: c.Names, Capture: l.capture, Log: c.Log})
	if err != nil {
		return nil, errors.Join(err, l.capture.Close())
	}
	for _, s := range l.watch.Statuses() {
		if outside := addressesOutside(s.Interface, c.Monitored); len(outside) > 0 {
			c.Log.Info("the interface's own addresses are not monitored (see --monitor-subnets)",
				"interface", s.Interface, "addresses", outside, "monitored", c.Monitored)
		}
	}
	c.Log.Info("capturing", "interface", l.Captured(), "backend", l.backend, "promiscuous", c.Promiscuous)
	return l, nil
}

// Backend names the backend that captures.
func (l *Live) Backend() string { return l.backend }

// Keeps names the capabilities that are needed after Open.
func (l *Live) Keeps() []string { return l.watch.Keeps() }

// Statuses gives the state of the interfaces.
func (l *Live) Statuses() []watch.Status { return l.watch.Statuses() }

// Captured names the interfaces.
func (l *Live) Captured() string {
	var names []string
	for _, s := range l.watch.Statuses() {
		names = append(names, s.Interface)
	}
	return strings.Join(names, ",")
}

// Run captures until ctx ends. When it returns, the last packet has been counted.
func (l *Live) Run(ctx context.Context) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return l.watch.Run(ctx) })
	both.Go(func() error { l.keepUp(ctx); return nil })
	return both.Wait()
}

// keepUp has the table know in time who is idle, and the kernel forget who has expired, even if nobody scrapes.
func (l *Live) keepUp(ctx context.Context) {
	after := l.config.Table.ExpireAfter()
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
			l.Read()
		}
	}
}

// Read brings the table up to date.
func (l *Live) Read() {
	if err := l.capture.Read(); err != nil {
		l.unread.Do(func() { l.config.Log.Error("counts are missing until the next time that they are read", "error", err) })
	}
}

// interfaces brings the table up to date, and gives the state of the interfaces.
func (l *Live) interfaces() []telemetry.Interface {
	l.Read()
	var all []telemetry.Interface
	for _, s := range l.watch.Statuses() {
		i := telemetry.Interface{Name: s.Interface, Backend: l.backend, Up: s.Up, Dropped: s.Dropped, Outcomes: Outcomes(s.Outcomes)}
		if s.Interface == watch.Gone {
			i.Backend = "" // it is not up or down
		}
		all = append(all, i)
	}
	return all
}

// Close frees what Open took, after Run has returned or instead of it.
func (l *Live) Close() error { return errors.Join(l.watch.Close(), l.capture.Close()) }
