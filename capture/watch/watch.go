// Package watch keeps a capture on the network interfaces that are asked for, as they come and go.
//
// An interface is what is called so now: one that is deleted and made anew, or gets its name from another, is captured as soon as
// the kernel says that it is there, which is before it is up, so that nothing is missed. One that is renamed is gone, unless
// its new name is asked for, too. The kernel tells by netlink (rtnetlink(7)), which takes no privilege.
//
// An interface whose link layer changes, as a modem's or that of a bond without ports, is captured anew: its frames begin otherwise from
// then on. It is down meanwhile, so that all that can be missed or misread is what comes before the kernel's news are heard.
//
// That is Linux. Other systems are asked each second what there is: an interface is captured up to a second late, and nobody knows
// which ones see the same packets.
//
// The source of an interface that is asked for by name is opened at the start and kept for good: it is attached again without any
// privilege. Globs open sources as interfaces appear, for which [Watch.Keeps] names a capability.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"promflow/capture"
)

// Interfaces that globs find: so many are captured at a time, and the counts of so many that are gone are kept by name.
const (
	maxFound = 1024
	maxGone  = 1024
)

// Config says what to keep a capture on.
type Config struct {
	Names   Names
	Capture capture.Capture
	Log     *slog.Logger
}

// Room is how many interfaces a capture must be prepared for.
func (n Names) Room() int {
	if len(n.Globs) > 0 {
		return len(n.Exact) + maxFound
	}
	return len(n.Exact)
}

// Status is the state of the capture on an interface.
type Status struct {
	Interface string // Gone for interfaces that were forgotten
	capture.Status
}

// Gone is the name under which counts of interfaces add up that globs found, and that have been gone for longer than others.
const Gone = "other"

// Watch is a capture on interfaces. Its methods are safe for concurrent use, but not with Close.
type Watch struct {
	Config
	subscription *subscription   // nil while there is none
	lost         rate.Sometimes  // logs
	run          *errgroup.Group // of sources, once they are to be run
	ctx          context.Context // of that

	mu      sync.Mutex
	devices map[int]device // of this machine, by index
	byName  map[string]int
	taps    map[string]*tap // by the name that was asked for, or found by a glob
	gone    capture.Status  // what those have counted that were forgotten
	warned  map[pair]bool   // of an overlap
	crowded bool            // that there are too many was logged
	again   bool            // what could not be captured may be by now
}

// Open begins to capture on the interfaces that are there. Sources are opened in the network namespace that the calling thread
// is in.
func Open(c Config) (w *Watch, err error) {
	w = &Watch{Config: c, byName: map[string]int{}, taps: map[string]*tap{}, warned: map[pair]bool{}, lost: rate.Sometimes{First: 3, Interval: logEvery}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	for _, name := range c.Names.Exact {
		t := w.tap(name, false)
		if err := t.open(c.Capture); err != nil {
			return nil, err
		}
	}
	if err := w.subscribe(); err != nil {
		return nil, err
	}
	for _, name := range c.Names.Exact {
		switch t := w.taps[name]; {
		case t.err != nil:
			return nil, t.err
		case t.index == 0:
			c.Log.Warn("interface is not there yet: it is captured as soon as it is", "interface", name)
		}
	}
	for _, glob := range c.Names.Globs {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(w.taps)), Names{Globs: []string{glob}}.Match) {
			c.Log.Warn("no interface has such a name yet: what will have is captured as soon as it is there", "interface", glob)
		}
	}
	return w, nil
}

// Keeps names the capabilities that are needed for as long as it runs.
func (w *Watch) Keeps() []string {
	keeps := slices.Clone(w.Capture.Keeps())
	if len(w.Names.Globs) > 0 {
		keeps = append(keeps, "cap_net_raw") // to open sources
	}
	return keeps
}

// Run counts, and follows interfaces, until ctx ends. When it returns, all sources have counted their last packet.
func (w *Watch) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	w.mu.Lock()
	w.run, w.ctx = group, ctx
	for _, t := range w.taps {
		w.start(t)
	}
	w.mu.Unlock()
	group.Go(func() error { return w.follow(ctx) })
	return group.Wait()
}

// follow takes the kernel's news, and tries again what failed.
func (w *Watch) follow(ctx context.Context) error {
	var retry <-chan time.Time
	for ctx.Err() == nil {
		if retry == nil && w.mayRetry() {
			retry = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
		case <-retry:
			retry = nil
			w.retry()
		case update, ok := <-w.subscription.updates:
			if !ok {
				w.resubscribe(ctx, errors.New("there was no room for them"))
				continue
			}
			n, ok, err := w.subscription.newsOf(update)
			if err != nil {
				w.resubscribe(ctx, err)
			} else if ok {
				w.mu.Lock()
				w.take(n)
				w.mu.Unlock()
			}
		}
	}
	return nil
}

// mayRetry tells, once, that there is something to try again.
func (w *Watch) mayRetry() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	again := w.again
	w.again = false
	return again
}

// retry captures what there is and is not captured yet, as far as that works by now.
func (w *Watch) retry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.byName {
		w.settle(name)
	}
}

// retryAfter is the time between attempts to subscribe, or to capture.
const retryAfter = time.Second

// resubscribe finds out what has changed since news were lost, as soon as that works.
func (w *Watch) resubscribe(ctx context.Context, lost error) {
	w.lost.Do(func() { w.Log.Warn("news of network interfaces were lost: they are listed anew", "reason", lost) })
	for ctx.Err() == nil {
		err := w.subscribe()
		if err == nil {
			return
		}
		w.lost.Do(func() { w.Log.Error("network interfaces cannot be followed", "error", err) })
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

// subscribe begins to follow, and finds out what there is.
func (w *Watch) subscribe() (err error) {
	if w.subscription != nil {
		w.subscription.close()
	}
	if w.subscription, err = subscribe(); err != nil {
		return err
	}
	return w.list()
}

// list makes the devices those that are there now.
func (w *Watch) list() error {
	devices, err := w.subscription.list()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.takeAll(devices)
	return nil
}

// takeAll has the devices be these. The caller holds mu.
func (w *Watch) takeAll(devices map[int]device) {
	before := w.byName
	w.devices, w.byName = devices, map[string]int{}
	for index, d := range devices {
		w.byName[d.Name] = index
	}
	for name, t := range w.taps {
		// All leave before any joins, so that no device has two sources. What was made anew may have its old index: then the kernel
		// has detached the source.
		if t.index != 0 && (t.index != w.byName[name] || !t.source.Status().Up) {
			w.leave(t)
		}
	}
	for name := range before {
		w.settle(name)
	}
	for name := range w.byName {
		w.settle(name)
	}
	w.warnOfOverlaps()
}

// take takes note of news. The caller holds mu.
func (w *Watch) take(n news) {
	was, known := w.devices[n.Index]
	if t := w.taps[was.Name]; n.anew && t != nil && t.index == n.Index && !t.source.Status().Up { // else it has the new one
		w.leave(t)
	}
	if known {
		delete(w.devices, n.Index)
		if w.byName[was.Name] == n.Index {
			delete(w.byName, was.Name)
		}
	}
	if !n.gone {
		w.devices[n.Index] = n.device
		w.byName[n.Name] = n.Index
	}
	if known && !n.gone && was.Name != n.Name {
		w.move(was.Name, n.device)
	}
	if known && (n.gone || was.Name != n.Name) {
		w.settle(was.Name)
	}
	if !n.gone {
		w.settle(n.Name)
	}
	if !n.gone && (!known || was.master != n.master || was.parent != n.parent || was.Name != n.Name) {
		w.warnOfOverlaps()
	}
}

// settle has the tap of a name, if that is asked for, be where the name is. The caller holds mu.
func (w *Watch) settle(name string) {
	d, there := w.devices[w.byName[name]]
	t := w.taps[name]
	if t == nil && (!there || !w.Names.Match(name)) {
		return
	}
	if there && (t == nil || t.found && t.index == 0) && !w.hasRoom() {
		return
	}
	if t == nil {
		w.forget()
		t = w.tap(name, true)
	}
	if t.index != 0 && t.index != d.Index {
		w.leave(t)
	}
	if there && t.index == 0 {
		w.join(t, d)
	} else if t.index != 0 && (t.ethernet != d.Ethernet || t.loopback != d.Loopback) {
		w.rejoin(t, d)
	}
	if t.index != 0 && t.up != d.up {
		t.up = d.up
		if d.up {
			t.log.Info("interface is up again", "interface", name)
		} else {
			t.log.Warn("interface is down", "interface", name)
		}
	}
}

// move has the source of a name stay with its device, where that gets another name that is asked for: what it counts from then on is
// that name's. That of the other name comes in return: a name that is asked for exactly keeps one for good. The caller holds mu.
func (w *Watch) move(name string, d device) {
	from, to := w.taps[name], w.taps[d.Name]
	if from == nil || from.index != d.Index || !w.Names.Match(d.Name) || !from.found && (to == nil || to.found) {
		return
	}
	if to == nil {
		w.forget()
		to = w.tap(d.Name, true)
	} else if to.index != 0 {
		w.leave(to)
	}
	difference := from.now()
	addStatus(&difference, to.now(), -1)
	addStatus(&from.before, difference, 1)
	addStatus(&to.before, difference, -1)
	from.attachment, to.attachment, from.left = to.attachment, from.attachment, time.Now()
	if from.source != nil {
		w.release(from)
	}
	to.source.Rename(to.name)
	to.log.Info("interface has another name", "interface", to.name, "before", from.name)
}

// hasRoom tells whether globs may find another interface. The caller holds mu.
func (w *Watch) hasRoom() bool {
	here := 0
	for _, t := range w.taps {
		if t.found && t.index != 0 {
			here++
		}
	}
	if here >= maxFound {
		if !w.crowded {
			w.Log.Warn("too many interfaces match: no more are captured until others are gone", "captured", here)
			w.crowded = true
		}
		return false
	}
	w.crowded = false
	return true
}

// forget lets go of the name that has been gone for longest, if there are as many as are kept. The caller holds mu.
func (w *Watch) forget() {
	var gone []*tap
	for _, t := range w.taps {
		if t.found && t.index == 0 && t.source == nil && len(t.retiring) == 0 {
			gone = append(gone, t)
		}
	}
	if len(gone) >= maxGone {
		oldest := slices.MinFunc(gone, func(a, b *tap) int { return a.left.Compare(b.left) })
		addStatus(&w.gone, oldest.before, 1)
		delete(w.taps, oldest.name)
	}
}

// join begins to capture on a device. The caller holds mu.
func (w *Watch) join(t *tap, d device) {
	t.err = nil
	if t.source == nil {
		t.err = t.open(w.Capture)
	}
	if t.err == nil {
		t.err = t.source.Attach(d.Interface)
	}
	if t.err != nil {
		w.failed(t)
		return
	}
	t.attached(d.Interface)
	t.up = true
	w.start(t)
	if w.run != nil {
		t.log.Info("interface is there", "interface", t.name)
	}
}

// rejoin captures anew on a device whose frames begin otherwise than before. The caller holds mu.
func (w *Watch) rejoin(t *tap, d device) {
	if t.err = t.source.Attach(d.Interface); t.err != nil {
		t.index, t.left = 0, time.Now()
		w.failed(t)
		return
	}
	t.attached(d.Interface)
	t.log.Info("interface has another link layer: it is captured anew", "interface", t.name, "ethernet", d.Ethernet)
}

// failed has a tap do without a device that it could not be attached to, for now. The caller holds mu.
func (w *Watch) failed(t *tap) {
	gone := errors.Is(t.err, syscall.ENODEV) || errors.Is(t.err, syscall.ENXIO) // of which there will be news
	if !gone && (t.found || w.run != nil) {                                     // else it is an error at the start
		if t.complains(time.Now()) {
			t.log.Error("interface cannot be captured: trying again", "interface", t.name, "error", t.err)
		}
		w.again = true
	}
	if t.source != nil {
		w.release(t)
	}
}

// leave ends to capture where a tap is. The caller holds mu.
func (w *Watch) leave(t *tap) {
	attributes := []any{"interface", t.name}
	if d, there := w.devices[t.index]; there && d.Name != t.name {
		attributes = append(attributes, "renamed", d.Name)
	}
	t.log.Warn("interface is gone: it is captured again as soon as it is back", attributes...)
	t.index, t.left = 0, time.Now()
	w.again = w.again || w.crowded // there is room for another
	w.release(t)
}

// release has a tap do without a device: one that was found does without a source, too. The caller holds mu.
func (w *Watch) release(t *tap) {
	if err := t.source.Detach(); err != nil {
		t.log.Error("ending the capture on an interface", "interface", t.name, "error", err)
	}
	if !t.found {
		return
	}
	// Its source has yet to count what the kernel holds for it.
	old, cancel, ended := t.source, t.cancel, t.ended
	t.source = nil
	if cancel == nil { // it was never run
		w.close(t, old)
		return
	}
	t.retiring = append(t.retiring, old)
	cancel()
	w.run.Go(func() error {
		<-ended
		w.mu.Lock()
		defer w.mu.Unlock()
		t.retiring = slices.DeleteFunc(t.retiring, func(s capture.Source) bool { return s == old })
		w.close(t, old)
		return nil
	})
}

// close closes a source that a tap had. The caller holds mu.
func (w *Watch) close(t *tap, source capture.Source) {
	addStatus(&t.before, source.Status(), 1)
	if err := source.Close(); err != nil {
		t.log.Error("ending the capture on an interface", "interface", t.name, "error", err)
	}
}

// start runs the source of a tap, if it is not run yet and it is time to. The caller holds mu.
func (w *Watch) start(t *tap) {
	if w.run == nil || t.source == nil || t.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(w.ctx)
	source, ended := t.source, make(chan struct{})
	t.cancel, t.ended = cancel, ended
	w.run.Go(func() error {
		defer close(ended)
		defer cancel()
		return source.Run(ctx)
	})
}

// warnOfOverlaps names pairs of captured interfaces that see the same packets, once. The caller holds mu.
func (w *Watch) warnOfOverlaps() {
	var captured []int
	for _, t := range w.taps {
		if t.index != 0 {
			captured = append(captured, t.index)
		}
	}
	slices.Sort(captured)
	for _, p := range overlaps(w.devices, captured) {
		if !w.warned[p] && len(w.warned) < maxFound {
			w.warned[p] = true
			w.Log.Warn("two interfaces see the same packets, which count twice: leave one out", "interface", p.upper, "and", p.lower)
		}
	}
}

// Statuses gives the state of every interface that was ever captured or is asked for by name, in the order of names.
func (w *Watch) Statuses() (all []Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(w.taps)) {
		all = append(all, Status{name, w.taps[name].status()})
	}
	if w.gone != (capture.Status{}) {
		all = append(all, Status{Gone, w.gone})
	}
	return all
}

// Close ends the capture on all interfaces, after Run has returned or instead of it.
func (w *Watch) Close() error {
	var errs []error
	if w.subscription != nil {
		w.subscription.close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.taps {
		if t.source != nil {
			addStatus(&t.before, t.source.Status(), 1)
			t.before.Up = false
			errs = append(errs, t.source.Close())
			t.source = nil
		}
	}
	return errors.Join(errs...)
}

// tap makes a tap for a name. The caller holds mu, or is the only one.
func (w *Watch) tap(name string, found bool) *tap {
	t := &tap{name: name, found: found, log: newCalm(w.Log)}
	w.taps[name] = t
	return t
}
