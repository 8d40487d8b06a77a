package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"promflow/capture"
	"promflow/capture/subnets"
	"promflow/capture/watch"
	"promflow/telemetry"
)

// Lists are the subnets that count, as the user lists them.
type Lists struct {
	Monitored, Excluded, Peers             subnets.List
	MonitoredFrom, ExcludedFrom, PeersFrom string // the flag or variable of each, for messages
}

// Changing tells whether the subnets may change while promflow runs.
func (l Lists) Changing() bool {
	return l.Monitored.HasAuto() || len(l.files()) > 0
}

func (l Lists) files() []string {
	return slices.Concat(l.Monitored.Files(), l.Excluded.Files(), l.Peers.Files())
}

// Read reads the files of the lists, and returns the names for the subnets of auto, if it is in there.
func (l Lists) Read() (s capture.Subnets, auto []string, err error) {
	s.Monitored, auto, err = l.Monitored.Read()
	if err == nil && s.Monitored.Empty() && auto == nil {
		err = errors.New("expected at least one subnet such as 192.168.0.0/24")
	}
	if err != nil {
		return s, nil, fmt.Errorf("%s %q: %w", l.MonitoredFrom, l.Monitored, err)
	}
	s.Excluded, err = readFixed(l.Excluded)
	if err == nil && s.Excluded.Named() {
		err = errors.New("expected subnets without names")
	}
	if err != nil {
		return s, nil, fmt.Errorf("%s %q: %w", l.ExcludedFrom, l.Excluded, err)
	}
	if s.Peers, err = readFixed(l.Peers); err != nil {
		return s, nil, fmt.Errorf("%s %q: %w", l.PeersFrom, l.Peers, err)
	}
	return s, auto, nil
}

// readFixed reads a list without auto.
func readFixed(l subnets.List) (subnets.Set, error) {
	s, auto, err := l.Read()
	if err == nil && auto != nil {
		err = errors.New("auto is for monitored subnets only")
	}
	return s, err
}

// follower keeps the subnets of a table up to date.
type follower struct {
	lists      Lists
	interfaces watch.Names
	table      *capture.Table
	update     func() error // after the table's subnets have changed; nil before there is a capture
	log        *slog.Logger

	mu     sync.Mutex
	listed capture.Subnets
	seen   string    // what the files had when they were last read
	failed time.Time // when what they had could not be applied; zero if it could

	auto      []string // the names for on-link prefixes
	onLink    []netip.Prefix
	gone      map[netip.Prefix]time.Time // on-link prefixes of earlier, and until when they stay at least
	unapplied time.Time                  // when a change of on-link prefixes could not be applied; zero if it could
	warned    map[netip.Prefix]bool

	monitored atomic.Pointer[[]telemetry.Subnet] // by which all sources count
}

// reload reads the lists. If that fails, the subnets stay as they are.
func (f *follower) reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = f.contents() // before: what is written meanwhile is read next time
	f.failed = time.Time{}
	listed, auto, err := f.lists.Read()
	if err != nil {
		return err
	}
	before, autoBefore := f.listed, f.auto
	f.listed, f.auto = listed, auto
	if err := f.apply(); err != nil {
		f.listed, f.auto, f.failed = before, autoBefore, time.Now()
		return err
	}
	return nil
}

// linked takes on-link prefixes. Those that are gone stay until their addresses have expired.
func (f *follower) linked(now []netip.Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.onLink {
		if !slices.Contains(now, p) {
			f.gone[p] = time.Now().Add(f.table.ExpireAfter())
		}
	}
	f.onLink = now
	f.adapt()
}

// adapt applies what has changed, unless that failed a short time ago. The caller holds mu.
func (f *follower) adapt() {
	if time.Since(f.unapplied) < retryAfter {
		return
	}
	f.unapplied = time.Time{}
	if err := f.apply(); err != nil {
		f.unapplied = time.Now()
		f.log.Error("the monitored subnets cannot change: they stay as they are", "error", err, "retry", retryAfter)
	}
}

// unlisted logs that on-link prefixes cannot be listed.
func (f *follower) unlisted(err error) {
	f.log.Error("the subnets of the interfaces are not known: those of before stay", "error", err)
}

const (
	maxGone   = 256 // prefixes that are gone, and stay
	maxWarned = 256 // prefixes that the log warns of
)

// apply has the table monitor what it should now. The caller holds mu.
func (f *follower) apply() error {
	now := f.listed
	for _, name := range f.auto {
		now.Monitored = now.Monitored.With(name, f.onLink...)
	}
	f.forget(now.Monitored)
	byAge := slices.SortedFunc(maps.Keys(f.gone), func(a, b netip.Prefix) int { return f.gone[b].Compare(f.gone[a]) })
	for i, p := range byAge {
		if i >= maxGone {
			delete(f.gone, p)
		} else {
			now.Monitored = now.Monitored.With(f.auto[0], p)
		}
	}
	before := f.table.Subnets()
	if now.Monitored.Equal(before.Monitored) && now.Excluded.Equal(before.Excluded) && now.Peers.Equal(before.Peers) {
		return nil
	}
	f.table.Monitor(now)
	if f.update == nil {
		f.show(now.Monitored)
		return nil
	}
	if err := f.update(); err != nil {
		f.table.Monitor(before)
		return err
	}
	f.show(now.Monitored)
	f.log.Info("the subnets have changed", "monitored", now.Monitored, "excluded", now.Excluded, "peers", now.Peers)
	return nil
}

// show has telemetry show what is monitored.
func (f *follower) show(monitored subnets.Set) {
	all := []telemetry.Subnet{}
	for i, prefix := range monitored.Prefixes() {
		all = append(all, telemetry.Subnet{Prefix: prefix.String(), Network: monitored.Name(i)})
	}
	f.monitored.Store(&all)
}

// forget forgets prefixes that are gone, once the others include them or all addresses that only they have are expired. The caller holds mu.
func (f *follower) forget(others subnets.Set) {
	if len(f.auto) == 0 {
		clear(f.gone)
	}
	var used func(netip.Prefix) bool // nil until the table is needed
	for p, until := range f.gone {
		if !others.Covers(p) {
			if f.table.ExpireAfter() == 0 || time.Now().Before(until) {
				continue
			}
			if used == nil {
				used = f.inUse(others)
			}
			if used(p) {
				f.gone[p] = time.Now().Add(f.table.ExpireAfter() / 10) // when to look again
				continue
			}
		}
		delete(f.gone, p)
	}
}

// inUse returns a function that tells whether a prefix has addresses that have not expired, and are in no other one.
func (f *follower) inUse(others subnets.Set) func(netip.Prefix) bool {
	g, s := f.table.Grouping(), f.table.Snapshot()
	var used []netip.Prefix
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if !h.Addr.IsValid() || s.Expired(h) {
			continue
		}
		bits := h.Addr.BitLen()
		if g != nil {
			bits = cmp.Or(g.Bits(h.Addr), bits)
		}
		if p := netip.PrefixFrom(h.Addr, bits); !others.Covers(p) {
			used = append(used, p)
		}
	}
	return func(p netip.Prefix) bool { return slices.ContainsFunc(used, p.Overlaps) }
}

// warn warns of on-link prefixes that do not count, once of each, unless they follow by themselves. Nobody misses the loopback addresses.
func (f *follower) warn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var missing []string
	for _, p := range f.onLink {
		counts := len(f.auto) > 0 || f.listed.Monitored.Covers(p) || f.listed.Excluded.Covers(p) || p.Addr().IsLoopback()
		if !counts && !f.warned[p] && len(f.warned) < maxWarned {
			f.warned[p] = true
			missing = append(missing, p.String())
		}
	}
	if len(missing) > 0 {
		f.log.Warn("an interface that is captured has subnets that are not monitored: name them with "+f.lists.MonitoredFrom+", or auto for all of them",
			"subnets", missing, "monitored", f.listed.Monitored)
	}
}

const (
	// pollEvery is how often files of subnets are read for changes, and prefixes that are gone are looked at. A file counts once it has had the
	// same content twice: it may be half written.
	pollEvery = 2 * time.Second

	retryAfter = time.Minute // what files had could not be applied
)

// run follows on-link prefixes and the files of the lists until ctx ends. reload is called when files have changed.
func (f *follower) run(ctx context.Context, reload func()) error {
	both, ctx := errgroup.WithContext(ctx)
	changed := func(now []netip.Prefix) { Abandon(ctx, func() { f.linked(now); f.warn() }) }
	both.Go(func() error { return watch.FollowOnLink(ctx, f.interfaces, changed, f.unlisted) })
	both.Go(func() error {
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for last := ""; ; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if ctx.Err() != nil {
					return nil
				}
				Abandon(ctx, func() { last = f.poll(last, reload) })
			}
		}
	})
	return both.Wait()
}

// Abandon calls f, and does not wait for its end once ctx has ended: a file may hang, and to load a large program takes seconds.
func Abandon(ctx context.Context, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// poll looks for changes since last, which the call before has returned.
func (f *follower) poll(last string, reload func()) string {
	now := f.contents()
	f.mu.Lock()
	changed := now != f.seen && now == last || !f.failed.IsZero() && time.Since(f.failed) > retryAfter
	if len(f.gone) > 0 || !f.unapplied.IsZero() {
		f.adapt()
	}
	f.mu.Unlock()
	if changed {
		reload()
	}
	return now
}

// contents is what the files of the lists have.
func (f *follower) contents() string {
	var all strings.Builder
	for _, name := range f.lists.files() {
		text, err := subnets.ReadFile(name)
		fmt.Fprintf(&all, "%s %d %v\n%s", name, len(text), err, text)
	}
	return all.String()
}
