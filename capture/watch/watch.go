// Package watch keeps a capture attached to network interfaces that come and go.
//
// Interfaces are known by their names. An interface that is deleted and made anew, or gets the name of another one, is captured as soon as
// the kernel reports it by netlink (rtnetlink(7)). That is before it is up, so no packet is missed. The capture on an interface that is
// renamed ends, unless the new name is asked for, too. This needs no privilege.
//
// An interface whose link layer changes, such as a modem or a bond without ports, is attached again, as its frames begin differently. Most
// devices must be down for such a change. Packets that come before the report of the kernel may be missed or misread.
//
// Other systems than Linux are polled once a second: an interface is captured up to a second late, and nothing tells which interfaces
// see the same packets.
//
// The source of an interface that is named exactly is opened at the start and kept: it is attached again without any privilege. For globs
// sources are opened when interfaces appear, which needs the capability of [Watch.Keeps].
package watch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"promflow/capture"
)

// Limits for interfaces that globs find.
const (
	maxFound = 1024 // captured at a time
	maxGone  = 1024 // gone, with counts of their own
)

// Config configures a Watch.
type Config struct {
	Names   Names
	Capture capture.Capture
	Shared  bool // sources have to know whether their interfaces are shared
	Log     *slog.Logger
}

// Room is how many interfaces can be captured at a time.
func (n Names) Room() int {
	if len(n.Globs) > 0 {
		return len(n.Exact) + maxFound
	}
	return len(n.Exact)
}

// Status is the state of the capture on an interface.
type Status struct {
	Interface string // Gone for the sum of interfaces without counts of their own
	capture.Status
}

// Gone is the name for the sum of interfaces that have been gone for longest, beyond the limit of what is kept by name.
const Gone = "other"

// Watch is a capture on interfaces. Its methods are safe for concurrent use, but not with Close.
type Watch struct {
	Config
	subscription *subscription     // nil while there is none
	aliases      map[string]string // the real names of alternative ones that are asked for, once they are known
	lost         rate.Sometimes    // logs that reports were lost
	run          *errgroup.Group   // runs sources; nil before Run
	ctx          context.Context   // of run
	again        <-chan time.Time  // when to try again what failed; nil if nothing did
	look         <-chan time.Time  // when to look for what the kernel does not report: who shares an interface; nil if nobody has to know
	compare      <-chan time.Time  // when to look for overlaps; nil unless there was a change

	mu      sync.Mutex
	devices map[int]device // of this machine, by index
	listed  map[int]device // all of them, while they are taken one by one
	left    map[int]leaver // by the index of the device below

	// What each device takes frames to, by index; only where sources have to know.
	addresses map[int][][6]byte
	byName    map[string]int
	taps      map[string]*tap // by the name that was asked for or that a glob found
	gone      capture.Status  // sum of the names that were forgotten
	warned    map[pair]bool   // of an overlap
	crowded   bool            // the log has it that too many interfaces match
}

// Open starts to capture on the interfaces that exist. It opens sources in the network namespace of the calling thread.
func Open(c Config) (_ *Watch, err error) {
	c.Names.Exact = slices.Clone(c.Names.Exact) // real names replace alternative ones
	w := &Watch{Config: c, aliases: map[string]string{}, devices: map[int]device{}, byName: map[string]int{}, taps: map[string]*tap{}, warned: map[pair]bool{}, left: map[int]leaver{},
		lost: rate.Sometimes{First: 3, Interval: logEvery}}
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
	for _, name := range w.Names.Exact {
		switch t := w.taps[name]; {
		case t.err != nil:
			return nil, t.err
		case t.to.Index == 0:
			c.Log.Warn("interface does not exist yet: it will be captured as soon as it does", "interface", name)
		}
	}
	for _, glob := range c.Names.Globs {
		if !slices.ContainsFunc(slices.Collect(maps.Values(w.devices)), Names{Globs: []string{glob}}.asks) {
			c.Log.Warn("no interface matches yet: interfaces will be captured as soon as their names match", "interface", glob)
		}
	}
	return w, nil
}

// Keeps returns the capabilities that are needed after Open.
func (w *Watch) Keeps() []string {
	keeps := slices.Clone(w.Capture.Keeps())
	if len(w.Names.Globs) > 0 {
		keeps = append(keeps, "cap_net_raw") // to open sources
	}
	return keeps
}

// Run counts packets and follows interfaces until ctx ends. When it returns, all packets have been counted.
func (w *Watch) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	w.mu.Lock()
	w.run, w.ctx = group, ctx
	if w.Shared {
		w.look = time.Tick(retryAfter)
	}
	for _, t := range w.taps {
		w.start(t.source)
	}
	w.mu.Unlock()
	group.Go(func() error { return w.follow(ctx) })
	return group.Wait()
}

// follow takes the reports of the kernel, and tries again what failed.
func (w *Watch) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-w.again:
			w.retry()
		case <-w.compare:
			w.compareAll()
		case <-w.look:
			w.lookAround()
			w.settleAll()
		case update, ok := <-w.subscription.updates:
			if !ok {
				w.resubscribe(ctx, errors.New("the receive buffer was full"))
				continue
			}
			all, err := w.subscription.newsOf(update)
			if err != nil {
				w.resubscribe(ctx, err)
			}
			w.take(all...)
		}
	}
	return nil
}

// tryAgain has follow try again what failed. Only the goroutine of follow calls it, and Open.
func (w *Watch) tryAgain() {
	if w.again == nil {
		w.again = time.After(retryAfter)
	}
}

// retry tries to capture all interfaces that are not captured yet.
func (w *Watch) retry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.again = nil
	for _, t := range w.taps {
		t.failed = 0
	}
	for name := range w.byName {
		w.settle(name)
	}
}

// settleAll looks at all interfaces anew.
func (w *Watch) settleAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.byName {
		w.settle(name)
	}
}

// retryAfter is the time between attempts to subscribe, or to capture.
const retryAfter = time.Second

// resubscribe subscribes again after reports were lost, as soon as that works.
func (w *Watch) resubscribe(ctx context.Context, lost error) {
	w.lost.Do(func() {
		w.Log.Warn("reports of network interfaces were lost: listing the interfaces again", "reason", lost)
	})
	for ctx.Err() == nil {
		err := w.subscribe()
		if err == nil {
			return
		}
		w.lost.Do(func() { w.Log.Error("network interfaces cannot be followed: trying again", "error", err) })
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

// subscribe subscribes to reports, and lists the interfaces that exist.
func (w *Watch) subscribe() (err error) {
	if w.subscription != nil {
		w.subscription.close()
	}
	if w.subscription, err = subscribe(); err != nil {
		return err
	}
	devices, err := w.subscription.list()
	if err != nil {
		return err
	}
	if w.Shared {
		w.lookAround()
	}
	w.takeAll(devices)
	return nil
}

// takeAll takes a list of all devices.
func (w *Watch) takeAll(devices map[int]device) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for index, d := range w.devices {
		if _, there := devices[index]; !there {
			w.change(news{device: d, gone: true})
		}
	}
	w.listed = devices
	for _, d := range devices {
		w.change(news{device: d, anew: true}) // that may have been missed
	}
	w.listed = nil
	w.warnOfOverlaps()
}

// take takes reports.
func (w *Watch) take(all ...news) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range all {
		if w.change(n) && w.compare == nil {
			w.compare = time.After(retryAfter) // with a thousand new devices: once
		}
	}
}

// compareAll looks for overlaps some time after a change.
func (w *Watch) compareAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.compare = nil
	w.warnOfOverlaps()
}

// change brings the devices and the taps of their names up to date. It tells whether the device may overlap with others now. The caller
// holds mu.
func (w *Watch) change(n news) bool {
	was, known := w.devices[n.Index]
	// If the device was made anew, the kernel has detached the source, unless that is attached to the new one already.
	if t := w.taps[was.Name]; n.anew && t != nil && t.to.Index == n.Index && !t.source.Status().Up {
		w.leave(t)
	}
	if known {
		delete(w.devices, n.Index)
		if w.byName[was.Name] == n.Index {
			delete(w.byName, was.Name)
		}
	}
	if n.gone {
		if known {
			if takesAll(was) {
				w.left[was.below] = leaver{was.Name, time.Now()}
			}
			w.settle(was.Name)
			w.settle(w.devices[was.below].Name)
		}
		return false
	}
	w.devices[n.Index] = n.device
	w.byName[n.Name] = n.Index
	w.resolve(n.device)
	if known && was.Name != n.Name {
		w.move(was.Name, n.device)
		w.settle(was.Name)
	}
	w.settle(n.Name)
	w.settle(w.devices[was.below].Name) // whose frames it may have taken
	w.settle(w.devices[n.below].Name)   // and may take now
	return !known || was.master != n.master || was.parent != n.parent || was.Name != n.Name
}

// settle attaches the tap of a name, if that is asked for, to the device with this name, or detaches it if there is none. The caller
// holds mu.
func (w *Watch) settle(name string) {
	d, there := w.devices[w.byName[name]]
	t := w.taps[name]
	if t == nil && (!there || !w.Names.asks(d)) {
		return
	}
	if there && (t == nil || t.found && t.to.Index == 0) && !w.hasRoom() {
		return
	}
	if t == nil {
		t = w.tap(name, true)
	}
	if t.to.Index != 0 && t.to.Index != d.Index {
		w.leave(t)
	}
	if there {
		d.Shared = w.sharedBy(d)
		if t.to.Index == 0 || t.to.Ethernet != d.Ethernet || t.to.Loopback != d.Loopback {
			if t.failed == d.Index { // an attempt may make news of the device itself: without end, if that made another attempt
				w.tryAgain()
				return
			}
			w.join(t, d)
		} else if t.to != d.Interface {
			t.to = d.Interface
			t.source.Follow(d.Interface)
		}
	}
	if t.to.Index != 0 && t.up != d.up {
		t.up = d.up
		if d.up {
			t.log.Info("interface is up again", "interface", name)
		} else {
			t.log.Warn("interface is down", "interface", name)
		}
	}
}

// sharedBy tells what takes frames to other MAC addresses from a device. The caller holds mu.
func (w *Watch) sharedBy(d device) string {
	if !w.Shared {
		return ""
	}
	all := w.devices
	if w.listed != nil {
		all = w.listed
	}
	if by := sharedBy(all, d); by != "" {
		return by
	}
	if by, ok := w.left[d.Index]; ok && time.Since(by.at) < grace {
		return by.name
	}
	for _, a := range w.addresses[d.Index] {
		if a != d.Address {
			return "the address " + net.HardwareAddr(a[:]).String()
		}
	}
	return ""
}

// leaver is a device that took frames from another one, and is not in this network namespace any more.
type leaver struct {
	name string
	at   time.Time
}

// grace is how long a device may take to be up in another network namespace. Until then, nothing tells of it.
const grace = 10 * time.Second

// lookAround looks for what the kernel does not report: MAC addresses that devices have for others.
func (w *Watch) lookAround() {
	all, err := w.subscription.addresses()
	if err != nil {
		w.lost.Do(func() { w.Log.Error("it is not known who else takes frames from interfaces", "error", err) })
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addresses = all
}

// resolve has the real name of a device take the place of alternative ones that are asked for exactly, or of the real name that these stood for
// before. The caller holds mu.
func (w *Watch) resolve(d device) {
	for _, alias := range d.altNames {
		at := slices.Index(w.Names.Exact, alias)
		was, known := w.aliases[alias]
		if known {
			at = slices.Index(w.Names.Exact, was)
		}
		if at < 0 || was == d.Name {
			continue
		}
		w.Log.Info("an alternative name is that of an interface", "name", alias, "interface", d.Name)
		w.aliases[alias] = d.Name
		from := w.taps[w.Names.Exact[at]]
		if slices.Contains(w.Names.Exact, d.Name) { // which has a source of its own
			w.Names.Exact = slices.Delete(w.Names.Exact, at, at+1)
		} else {
			w.Names.Exact[at] = d.Name
			to := w.taps[d.Name]
			if to == nil {
				to = w.tap(d.Name, false)
			}
			to.found = false
			if to.source == nil { // else a glob has found it before
				if from.to.Index != 0 {
					w.leave(from)
				}
				from.status() // what was counted so far stays with the name
				from.attachment, to.attachment = to.attachment, from.attachment
			}
		}
		if from.found = true; from.counts == (capture.Status{}) && !known {
			if from.source != nil {
				w.release(from)
			}
			delete(w.taps, from.name)
		}
	}
}

// move keeps the source of a name attached to its device when that gets another name that is asked for. The tap of the other name gives its
// source in return: a name that is asked for exactly always has one. The caller holds mu.
func (w *Watch) move(name string, d device) {
	from, to := w.taps[name], w.taps[d.Name]
	if from == nil || from.to.Index != d.Index || !w.Names.asks(d) || !from.found && (to == nil || to.found) {
		return
	}
	if to == nil {
		to = w.tap(d.Name, true)
	} else if to.to.Index != 0 {
		w.leave(to)
	}
	from.status() // what was counted so far stays with each name
	to.status()
	from.attachment, to.attachment, from.left = to.attachment, from.attachment, time.Now()
	if from.source != nil {
		w.release(from)
	}
	to.log.Info("interface has another name", "interface", to.name, "before", from.name)
}

// hasRoom tells whether globs may find another interface. The caller holds mu.
func (w *Watch) hasRoom() bool {
	here := 0
	for _, t := range w.taps {
		if t.found && t.to.Index != 0 {
			here++
		}
	}
	if here >= maxFound && !w.crowded {
		w.Log.Warn("too many interfaces match: no more are captured until others are gone", "captured", here)
	}
	w.crowded = here >= maxFound
	return !w.crowded
}

// tap adds a tap for a name. If a glob found it, and as many names as are kept are gone, it forgets the one that has been gone for longest.
// The caller holds mu, or is the only one.
func (w *Watch) tap(name string, found bool) *tap {
	if found {
		var gone []*tap
		for _, t := range w.taps {
			if t.found && t.source == nil && len(t.retired) == 0 {
				gone = append(gone, t)
			}
		}
		if len(gone) >= maxGone {
			oldest := slices.MinFunc(gone, func(a, b *tap) int { return a.left.Compare(b.left) })
			addStatus(&w.gone, capture.Status{}, oldest.counts)
			delete(w.taps, oldest.name)
		}
	}
	t := &tap{name: name, found: found, log: newCalm(w.Log)}
	w.taps[name] = t
	return t
}

// join attaches a tap to a device, or attaches it again as the device has another link layer. The caller holds mu.
func (w *Watch) join(t *tap, d device) {
	again := t.to.Index != 0
	t.err = nil
	if t.source == nil {
		t.err = t.open(w.Capture)
	}
	if t.err == nil {
		t.err = t.source.Attach(d.Interface)
	}
	if t.err != nil {
		t.failed = d.Index
		if again {
			t.to.Index, t.left = 0, time.Now()
		}
		gone := errors.Is(t.err, syscall.ENODEV) || errors.Is(t.err, syscall.ENXIO) // the kernel will report it
		if !gone && (t.found || w.run != nil) {                                     // else Open returns the error
			t.complain()
			w.tryAgain()
		}
		if t.source != nil {
			w.release(t)
		}
		return
	}
	t.to, t.said, t.failed = d.Interface, "", 0
	if again {
		t.log.Info("interface has another link layer: it is captured anew", "interface", t.name, "ethernet", d.Ethernet)
		return
	}
	t.up = true
	w.start(t.source)
	if w.run != nil {
		t.log.Info("interface is there", "interface", t.name)
	}
}

// leave detaches a tap from a device that is gone or renamed. The caller holds mu.
func (w *Watch) leave(t *tap) {
	attributes := []any{"interface", t.name}
	if d, there := w.devices[t.to.Index]; there && d.Name != t.name {
		attributes = append(attributes, "renamed", d.Name)
	}
	t.log.Warn("interface is gone: it is captured again as soon as it is back", attributes...)
	t.to.Index, t.left = 0, time.Now()
	if w.crowded { // there is room for another
		w.tryAgain()
	}
	w.release(t)
}

// release detaches the source of a tap. That of a tap that was found is closed once it has counted what the kernel holds for it. The caller
// holds mu.
func (w *Watch) release(t *tap) {
	if err := t.source.Detach(); err != nil {
		t.log.Error("ending the capture on an interface", "interface", t.name, "error", err)
	}
	if !t.found {
		return
	}
	f := t.source
	f.of, t.source, t.retired = t, nil, append(t.retired, t.source)
	if f.cancel == nil { // it never ran
		w.close(f)
	} else {
		f.cancel()
	}
}

// close closes a source that a tap has released. The caller holds mu.
func (w *Watch) close(f *feed) {
	t := f.of
	t.take(f)
	t.retired = slices.DeleteFunc(t.retired, func(one *feed) bool { return one == f })
	if err := f.Close(); err != nil {
		t.log.Error("ending the capture on an interface", "interface", t.name, "error", err)
	}
}

// start runs a source, unless it runs or Run was not called yet. The caller holds mu.
func (w *Watch) start(f *feed) {
	if w.run == nil || f == nil || f.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(w.ctx)
	f.cancel = cancel
	w.run.Go(func() error {
		defer cancel()
		err := f.Run(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		if f.of != nil {
			w.close(f)
		}
		return err
	})
}

// warnOfOverlaps logs pairs of captured interfaces that see the same packets, each once. The caller holds mu.
func (w *Watch) warnOfOverlaps() {
	var captured []int
	for _, t := range w.taps {
		if t.to.Index != 0 {
			captured = append(captured, t.to.Index)
		}
	}
	slices.Sort(captured)
	var unreported map[int][]int
	if w.subscription != nil {
		unreported = w.subscription.unreported(w.devices, captured)
	}
	for _, p := range overlaps(w.devices, captured, unreported) {
		if !w.warned[p] && len(w.warned) < maxFound {
			w.warned[p] = true
			w.Log.Warn("two interfaces see the same packets, which count twice: leave one out", "interface", p.upper, "and", p.lower)
		}
	}
}

// Statuses returns the state of each interface that was captured or is named exactly, in the order of names.
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

// Close ends the capture on all interfaces, after Run has returned or instead of Run.
func (w *Watch) Close() error {
	var errs []error
	if w.subscription != nil {
		w.subscription.close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.taps {
		t.status() // takes the last counts
		if t.source != nil {
			t.retired = append(t.retired, t.source)
		}
		for _, f := range t.retired {
			errs = append(errs, f.Close())
		}
		t.source, t.retired = nil, nil
	}
	return errors.Join(errs...)
}
