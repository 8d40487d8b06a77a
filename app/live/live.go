// Package live captures on the interfaces of this machine, or collects what flow exporters send, and reads the counts for telemetry.
package live

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"promflow/capture"
	"promflow/capture/flow"
	"promflow/capture/subnets"
	"promflow/capture/watch"
	"promflow/telemetry"
)

// Config is the configuration of a capture.
type Config struct {
	capture.Config
	Lists     Lists       // the subnets that count; Open sets those of the table
	Names     watch.Names // of the interfaces
	NamesFrom string      // the flag or variable of the names, for messages
	Wait      bool        // for interfaces that do not exist yet
	Backend   string      // or Automatic, or a protocol of flow exporters
	Flows     Flows       // for such a protocol

	// FilesChanged is called when a file of Lists has changed. nil stands for Reload, and a line in the log.
	FilesChanged func()
}

// sources are what counts: captures of interfaces, or a collector of flows.
type sources interface {
	Keeps() []string
	Run(context.Context) error
	Statuses() []watch.Status
	Close() error
}

// Live is an open capture.
type Live struct {
	sources
	Backend string          // the name of the backend that captures, or of the protocol of flows
	flows   *flow.Collector // nil if it captures
	config  Config
	capture capture.Capture
	subnets *follower
	unread  rate.Sometimes // logs
}

// Open starts a capture. It needs the capabilities of the backend; later the capture needs only those of Keeps.
func Open(c Config) (l *Live, err error) {
	protocol := protocolOf(c.Backend)
	if protocol != nil {
		return openFlows(c, protocol)
	}
	for _, name := range c.Names.Exact {
		if err := checkInterface(name, c.NamesFrom); err != nil && !c.Wait {
			return nil, err
		}
	}
	if l, err = prepare(c); err != nil {
		return nil, err
	}
	if onLink, err := watch.OnLink(c.Names); err != nil {
		l.subnets.unlisted(err)
	} else {
		l.subnets.linked(onLink)
	}
	if c.Table.Subnets().Monitored.Empty() {
		c.Log.Warn("the interfaces have no subnets yet: nothing counts until they do", c.Lists.MonitoredFrom, c.Lists.Monitored)
	}
	l.config.Changes = c.Lists.Changing()
	c = l.config
	if l.capture, l.Backend, err = openCapture(c.Backend, c.Config, c.Names.Room()); err != nil {
		return nil, err
	}
	watch, err := watch.Open(watch.Config{Names: c.Names, Capture: l.capture, Shared: c.Mirror, Log: c.Log})
	if err != nil {
		return nil, errors.Join(err, l.capture.Close())
	}
	l.sources = watch
	if c.Changes {
		l.subnets.update = l.capture.Update
		if keeps := l.capture.Keeps(); len(keeps) > 0 {
			c.Log.Info("capabilities are kept, since subnets may change", "capabilities", keeps)
		}
	}
	c.Log.Info("capturing", "interface", l.Captured(), "backend", l.Backend, "promiscuous", c.Promiscuous, "monitored", c.Table.Subnets().Monitored)
	return l, nil
}

// prepare returns a capture that has subnets and no sources yet.
func prepare(c Config) (*Live, error) {
	l := &Live{config: c, unread: rate.Sometimes{First: 1, Interval: time.Minute}}
	l.subnets = &follower{
		lists: c.Lists, interfaces: c.Names, table: c.Table, log: c.Log, gone: map[netip.Prefix]time.Time{},
		warned: map[netip.Prefix]bool{},
	}
	l.subnets.show(subnets.Set{})
	if c.FilesChanged == nil {
		l.config.FilesChanged = l.filesChanged
	}
	return l, l.subnets.reload()
}

// Captured returns the names of the interfaces, separated by commas, or the address for flow exporters.
func (l *Live) Captured() string {
	if l.flows != nil {
		return l.flows.Address
	}
	var names []string
	for _, s := range l.Statuses() {
		names = append(names, s.Interface)
	}
	return strings.Join(names, ",")
}

// Run captures until ctx ends. When it returns, all packets until then have been counted.
func (l *Live) Run(ctx context.Context) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return l.sources.Run(ctx) })
	both.Go(func() error { l.keepUp(ctx); return nil })
	both.Go(func() error { return l.subnets.run(ctx, l.config.FilesChanged) })
	return both.Wait()
}

// keepUp reads regularly, even without scrapes: so the table learns in time which addresses are idle, and the kernel frees those that have
// expired.
func (l *Live) keepUp(ctx context.Context) {
	after := l.config.Table.ExpireAfter()
	if after == 0 {
		return
	}
	tick := time.Tick(min(max(after/10, 100*time.Millisecond), 10*time.Second))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			l.Read()
		}
	}
}

// Read brings the table up to date.
func (l *Live) Read() {
	if err := l.capture.Read(); err != nil {
		l.unread.Do(func() {
			l.config.Log.Error("reading the kernel's counts failed: the next reading will include them", "error", err)
		})
	}
}

// Reload reads the files of subnets again. If that fails, the subnets stay as they are.
func (l *Live) Reload() error {
	if err := l.subnets.reload(); err != nil {
		return err
	}
	l.subnets.warn()
	return nil
}

func (l *Live) filesChanged() {
	if err := l.Reload(); err != nil {
		l.config.Log.Error("a file of subnets has changed: the subnets stay as they are", "error", err)
	}
}

// Monitored returns the subnets that sources monitor now.
func (l *Live) Monitored() []telemetry.Subnet { return *l.subnets.monitored.Load() }

// interfaces brings the table up to date, and returns the state of the interfaces.
func (l *Live) interfaces() []telemetry.Interface {
	l.Read()
	if l.flows != nil {
		return exporters(l.flows)
	}
	var all []telemetry.Interface
	for _, s := range l.Statuses() {
		i := telemetry.Interface{Name: s.Interface, Backend: l.Backend, Up: s.Up, Dropped: s.Dropped, Outcomes: Outcomes(s.Outcomes)}
		if s.Interface == watch.Gone {
			i.Backend = "" // the sum of interfaces that are gone is neither up nor down
		}
		all = append(all, i)
	}
	return all
}

// Close ends the capture, after Run has returned or instead of Run.
func (l *Live) Close() error { return errors.Join(l.sources.Close(), l.capture.Close()) }
