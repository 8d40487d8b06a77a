package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"promflow/capture"
)

// links is a capture that counts one packet each time that a source is attached. Who uses it holds the lock of the Watch.
type links struct {
	on     map[int]*link // by index
	open   int           // sources
	fails  error         // of Attach
	failed int           // attempts
}

func (l *links) Open() (capture.Source, error) {
	l.open++
	return &link{links: l}, nil
}

func (*links) Keeps() []string { return nil }
func (*links) Update() error   { return nil }
func (*links) Read() error     { return nil }
func (*links) Close() error    { return nil }

type link struct {
	links    *links
	name     string
	index    int
	to       capture.Interface
	attached int64
}

func (l *link) Attach(to capture.Interface) error {
	switch {
	case l.links.fails != nil:
		l.links.failed++
		return l.links.fails
	case l.links.on[to.Index] != nil && l.links.on[to.Index] != l:
		return fmt.Errorf("%s has a source", to.Name)
	}
	l.Detach()
	l.name, l.index, l.to, l.links.on[to.Index] = to.Name, to.Index, to, l
	l.attached++
	return nil
}

func (l *link) Detach() error {
	if l.up() {
		delete(l.links.on, l.index)
	}
	return nil
}

func (l *link) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (l *link) up() bool                    { return l.links.on[l.index] == l }
func (l *link) Follow(to capture.Interface) { l.name, l.to = to.Name, to }
func (l *link) Status() capture.Status      { return capture.Status{Up: l.up(), Dropped: l.attached} }

func (l *link) Close() error {
	l.links.open--
	return l.Detach()
}

// watchLinks is a Watch that has the news that a test has for it, instead of the kernel's, and what it logs.
func watchLinks(t *testing.T, names string) (*Watch, *links, *output) {
	t.Helper()
	parsed, err := ParseNames(names)
	if err != nil {
		t.Fatal(err)
	}
	log, all := new(output), &links{on: map[int]*link{}}
	ctx, cancel := context.WithCancel(t.Context())
	w := &Watch{
		Config:  Config{Names: parsed, Capture: all, Log: slog.New(slog.NewTextHandler(log, nil))},
		devices: map[int]device{}, byName: map[string]int{}, taps: map[string]*tap{}, warned: map[pair]bool{}, left: map[int]leaver{},
		run: new(errgroup.Group), ctx: ctx, aliases: map[string]string{},
	}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(w.run.Wait(), w.Close()); err != nil {
			t.Error(err)
		}
	})
	for _, name := range parsed.Exact {
		if err := w.tap(name, false).open(all); err != nil {
			t.Fatal(err)
		}
	}
	return w, all, log
}

func deviceCalled(name string, index int, up bool) device {
	return device{Interface: capture.Interface{Name: name, Index: index}, up: up}
}

// link has news of device n, called dn.
func (w *Watch) link(n int, gone bool) {
	w.take(news{device: deviceCalled(fmt.Sprint("d", n), n, !gone), gone: gone})
}

// hearAll lists devices after news were lost.
func (w *Watch) hearAll(all ...device) {
	devices := map[int]device{}
	for _, d := range all {
		devices[d.Index] = d
	}
	w.takeAll(devices)
}

// ended waits until earlier sources have ended, and gives how many are open.
func (l *links) ended(w *Watch) int {
	for {
		w.mu.Lock()
		open, retired := l.open, 0
		for _, t := range w.taps {
			retired += len(t.retired)
		}
		w.mu.Unlock()
		if retired == 0 {
			return open
		}
		runtime.Gosched()
	}
}

// TestTooManyInterfaces has a glob find more than are captured at a time: the others are captured once there is room, and what is
// gone for long adds up.
func TestTooManyInterfaces(t *testing.T) {
	const left = 6
	w, captured, log := watchLinks(t, "d*")
	for n := range maxFound + left {
		w.link(1+n, false)
	}
	if n := len(captured.on); n != maxFound {
		t.Fatalf("%d interfaces are captured, want %d", n, maxFound)
	}
	if w.again != nil {
		t.Error("it tries again although nothing has changed")
	}
	for n := range left / 2 {
		w.link(1+n, true)
	}
	if w.again == nil {
		t.Fatal("those that were left out are not tried again")
	}
	w.retry()
	if n := len(captured.on); n != maxFound {
		t.Errorf("%d interfaces are captured once there was room for others, want %d", n, maxFound)
	}
	for n := range maxFound + left {
		w.link(1+n, true)
	}
	w.run.Wait() // until all sources have ended
	for n := range 2 * left {
		w.link(maxFound+left+1+n, false)
	}
	dropped, forgotten := int64(0), int64(0)
	for _, s := range w.Statuses() {
		dropped += s.Dropped
		if s.Interface == Gone {
			forgotten = s.Dropped
		}
	}
	if want := int64(maxFound + left/2 + 2*left); dropped != want {
		t.Errorf("%d are counted, want %d", dropped, want)
	}
	if want := int64(left/2 + 1); forgotten != want {
		t.Errorf("%d of them are of interfaces that were forgotten, want %d", forgotten, want)
	}
	if s := log.take(); strings.Count(s, "too many interfaces match") != 2 { // and once more were captured
		t.Errorf("the log has\n%s", s)
	}
}

func TestFailedAttachIsTriedAgain(t *testing.T) {
	for _, names := range []string{"d1", "d*"} {
		t.Run(names, func(t *testing.T) {
			w, captured, log := watchLinks(t, names)
			captured.fails = errors.New("no memory")
			w.link(1, false)
			for range 2 {
				if w.again == nil {
					t.Fatal("it is not tried again")
				}
				w.retry()
			}
			captured.fails = nil
			w.retry()
			if captured.on[1] == nil {
				t.Error("it is not captured")
			}
			if w.again != nil {
				t.Error("it is tried for ever")
			}
			if s := log.take(); strings.Count(s, "no memory") != 1 || strings.Count(s, "interface is there") != 1 {
				t.Errorf("the log has\n%s", s)
			}
		})
	}
}

// TestFailedAttachWaits has an attempt make news of the interface, as one that makes it promiscuous for a moment does.
func TestFailedAttachWaits(t *testing.T) {
	w, captured, _ := watchLinks(t, "d1")
	captured.fails = errors.New("no memory")
	for range 100 {
		w.link(1, false)
	}
	if captured.failed != 1 {
		t.Errorf("%d attempts, want 1", captured.failed)
	}
	w.retry()
	if captured.failed != 2 {
		t.Errorf("%d attempts after another second, want 2", captured.failed)
	}
	w.take(news{device: deviceCalled("d1", 1, false), gone: true}, news{device: deviceCalled("d1", 3, true)})
	if captured.failed != 3 {
		t.Errorf("%d attempts with another interface of the name, want 3", captured.failed)
	}
}

// TestFailedAttachIsSaidRarely has an interface that cannot be captured for long: attempts come each second, the log does not.
func TestFailedAttachIsSaidRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, captured, log := watchLinks(t, "d*")
		said := func(err string, attempts int) int {
			captured.fails = errors.New(err)
			for range attempts {
				w.link(1, false)
				w.retry()
				time.Sleep(retryAfter)
			}
			return strings.Count(log.take(), err)
		}
		attempts := int(sayAgain / retryAfter)
		for _, c := range []struct {
			why      string
			err      string
			attempts int
			want     int
		}{
			{"it fails", "no memory", attempts, 1},
			{"it still fails", "no memory", 2 * attempts, 2},
			{"it fails otherwise", "no permission", attempts, 1},
		} {
			if got := said(c.err, c.attempts); got != c.want {
				t.Errorf("%s: said %d times, want %d", c.why, got, c.want)
			}
		}
		captured.fails = nil
		w.retry()
		w.link(1, true)
		if got := said("no permission", 1); got != 1 {
			t.Errorf("it fails after it was captured: said %d times, want once", got)
		}
	})
}

// TestLinkLayerChanges has news of device 1, which is an Ethernet at first.
func TestLinkLayerChanges(t *testing.T) {
	as := func(ethernet, up bool) device {
		d := deviceCalled("d1", 1, up)
		d.Ethernet = ethernet
		return d
	}
	for _, c := range []struct {
		name     string
		learn    func(w *Watch)
		fails    bool
		attached int64 // times
		ethernet bool
	}{
		{name: "nothing", learn: func(w *Watch) { w.take(news{device: as(true, true)}) }, attached: 1, ethernet: true},
		{name: "down and up", learn: func(w *Watch) {
			w.take(news{device: as(true, false)})
			w.take(news{device: as(true, true)})
		}, attached: 1, ethernet: true},
		{name: "to none", learn: func(w *Watch) { w.take(news{device: as(false, false)}) }, attached: 2},
		{name: "to none and back", learn: func(w *Watch) {
			w.take(news{device: as(false, false)})
			w.take(news{device: as(true, true)})
		}, attached: 3, ethernet: true},
		{name: "to a loopback", learn: func(w *Watch) {
			d := as(true, true)
			d.Loopback = true
			w.take(news{device: d})
		}, attached: 2, ethernet: true},
		{name: "with another name", learn: func(w *Watch) {
			d := as(false, true)
			d.Name = "d2"
			w.take(news{device: d})
		}, attached: 2},
		{name: "while news were lost", learn: func(w *Watch) { w.hearAll(as(false, true)) }, attached: 2},
		{name: "and cannot be captured at first", learn: func(w *Watch) { w.take(news{device: as(false, true)}) }, fails: true, attached: 2},
	} {
		for _, names := range []string{"d1,d2", "d*"} {
			t.Run(c.name+", "+names, func(t *testing.T) {
				w, captured, log := watchLinks(t, names)
				w.take(news{device: as(true, true)})
				before := captured.on[1]
				if c.fails {
					captured.fails = errors.New("no memory")
				}
				c.learn(w)
				if c.fails {
					captured.fails = nil
					if w.again == nil {
						t.Error("it is not tried again")
					}
					w.retry()
				}
				captured.ended(w)
				now := captured.on[1]
				if now == nil {
					t.Fatal("it is not captured")
				}
				total := int64(0)
				for _, s := range w.Statuses() {
					total += s.Dropped
				}
				if now.to.Ethernet != c.ethernet || total != c.attached {
					t.Errorf("it is captured as Ethernet: %v, and was attached %d times; want %v and %d", now.to.Ethernet, total, c.ethernet, c.attached)
				}
				if now != before && !c.fails {
					t.Error("it has another source")
				}
				said := strings.Count(log.take(), "another link layer")
				if want := int(c.attached - 1); said != want && !c.fails {
					t.Errorf("said %d times that it has another link layer, want %d", said, want)
				}
			})
		}
	}
}

// TestGoneBeforeAttach has devices of ever other names that are gone before a source can be attached: nothing of them stays.
func TestGoneBeforeAttach(t *testing.T) {
	w, captured, _ := watchLinks(t, "d*")
	captured.fails = syscall.ENODEV
	for n := range 2 * maxGone {
		w.link(1+n, false)
		w.link(1+n, true)
	}
	if captured.open != 0 || len(w.taps) > maxGone {
		t.Errorf("%d sources and %d names stay, want none and %d at most", captured.open, len(w.taps), maxGone)
	}
}

// TestRenamed renames device 1, which was d1, to d2.
func TestRenamed(t *testing.T) {
	for _, c := range []struct {
		name    string
		names   string
		taken   bool           // the name was another device's, which is gone
		stays   bool           // the source does
		open    int            // sources, in the end
		counted map[string]int // by name, once the device was deleted and made anew
	}{
		{name: "exact", names: "d1,d2", stays: true, open: 2, counted: map[string]int{"d1": 1, "d2": 1}},
		{name: "exact, taken", names: "d1,d2", taken: true, stays: true, open: 2, counted: map[string]int{"d1": 1, "d2": 2}},
		{name: "within a glob", names: "d*", stays: true, open: 1, counted: map[string]int{"d1": 1, "d2": 1}},
		{name: "within a glob, taken", names: "d*", taken: true, stays: true, open: 1, counted: map[string]int{"d1": 1, "d2": 2}},
		{name: "from a glob's to an exact one", names: "d2,d[13]", stays: true, open: 1, counted: map[string]int{"d1": 1, "d2": 1}},
		{name: "from an exact one to a glob's", names: "d1,d[23]", open: 2, counted: map[string]int{"d1": 1, "d2": 2}},
		{name: "from a glob's to one that nobody asks for", names: "d1*", open: 0, counted: map[string]int{"d1": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, captured, _ := watchLinks(t, c.names)
			if c.taken {
				w.link(2, false)
			}
			w.link(1, false)
			before := captured.on[1]
			w.take(news{device: deviceCalled("d2", 1, true)})
			if c.taken {
				w.take(news{device: deviceCalled("d2", 2, false), gone: true})
			}
			if stays := captured.on[1] == before; stays != c.stays {
				t.Errorf("the source stays: %v, want %v", stays, c.stays)
			}
			if now := captured.on[1]; now != nil && now.name != "d2" {
				t.Errorf("the source still has the name %s", now.name)
			}
			for _, s := range w.Statuses() {
				if _, asked := c.counted[s.Interface]; asked && s.Up != (s.Interface == "d2") {
					t.Errorf("%s is up: %v", s.Interface, s.Up)
				}
			}
			w.take(news{device: deviceCalled("d2", 1, false), gone: true})
			w.take(news{device: deviceCalled("d2", 3, true)})
			if open := captured.ended(w); open != c.open {
				t.Errorf("%d sources are open, want %d", open, c.open)
			}
			counted := map[string]int{}
			for _, s := range w.Statuses() {
				counted[s.Interface] = int(s.Dropped)
			}
			if !maps.Equal(counted, c.counted) {
				t.Errorf("counted are %v, want %v", counted, c.counted)
			}
		})
	}
}

// TestMadeAnew has a device that is down yet have the index of one that was deleted, whose end is told of late or not at all.
func TestMadeAnew(t *testing.T) {
	for _, c := range []struct {
		name     string
		detached bool // by the kernel, as it was attached to the one that was deleted
		learn    func(w *Watch)
	}{
		{"news of the end, late", true, func(w *Watch) { w.take(news{device: deviceCalled("d1", 1, false), anew: true}) }},
		{"news of the end of an earlier one", false, func(w *Watch) { w.take(news{device: deviceCalled("d1", 1, true), anew: true}) }},
		{"news were lost", true, func(w *Watch) { w.hearAll(deviceCalled("d1", 1, false)) }},
		{"news of others were lost", false, func(w *Watch) { w.hearAll(deviceCalled("d1", 1, true)) }},
	} {
		for _, names := range []string{"d1", "d*"} {
			t.Run(c.name+", "+names, func(t *testing.T) {
				w, captured, _ := watchLinks(t, names)
				w.link(1, false)
				if c.detached {
					delete(captured.on, 1)
				}
				c.learn(w)
				want := int64(1)
				if c.detached {
					want = 2
				}
				captured.ended(w)
				if s := w.Statuses()[0]; !s.Up || s.Dropped != want {
					t.Errorf("it is captured: %v, and was attached %d times, want %d", s.Up, s.Dropped, want)
				}
			})
		}
	}
}

// TestNoDeviceHasTwoSources has names change hands while news are lost. A source cannot be attached where another one is: links sees
// to that.
func TestNoDeviceHasTwoSources(t *testing.T) {
	for _, names := range []string{"d1,d2,d3", "d*"} {
		for range 20 { // maps have another order
			w, captured, log := watchLinks(t, names)
			for n := 1; n <= 3; n++ {
				w.link(n, false)
			}
			w.hearAll(deviceCalled("d2", 1, true), deviceCalled("d3", 2, true), deviceCalled("d1", 3, true))
			if s := log.take(); len(captured.on) != 3 || strings.Contains(s, "has a source") {
				t.Fatalf("%d of 3 are captured, and the log has\n%s", len(captured.on), s)
			}
		}
	}
}

// TestAlternativeNames has devices with alternative names come, go and be made anew with other real ones.
func TestAlternativeNames(t *testing.T) {
	with := func(name string, index int, altNames ...string) device {
		d := deviceCalled(name, index, true)
		d.altNames = altNames
		return d
	}
	for _, c := range []struct {
		name, names string
		learn       func(w *Watch)
		open        int            // sources, in the end
		on          string         // the name of the device that is captured
		counted     map[string]int // by name
	}{
		{"exact", "lan0", func(w *Watch) { w.take(news{device: with("d1", 1, "uplink", "lan0")}) }, 1, "d1", map[string]int{"d1": 1}},
		{"not there", "lan0", func(w *Watch) { w.take(news{device: with("d1", 1, "uplink")}) }, 1, "", map[string]int{"lan0": 0}},
		{"in a list", "lan0", func(w *Watch) { w.hearAll(with("d2", 2), with("d1", 1, "lan0")) }, 1, "d1", map[string]int{"d1": 1}},
		{"with the real one", "d1,lan0", func(w *Watch) { w.take(news{device: with("d1", 1, "lan0")}) }, 1, "d1", map[string]int{"d1": 1}},
		{"two of one device", "lan0,uplink", func(w *Watch) { w.take(news{device: with("d1", 1, "uplink", "lan0")}) }, 1, "d1", map[string]int{"d1": 1}},
		{"a glob", "lan*", func(w *Watch) { w.take(news{device: with("d1", 1, "lan0")}) }, 1, "d1", map[string]int{"d1": 1}},
		{"that comes later", "lan0", func(w *Watch) {
			w.take(news{device: with("d1", 1)})
			w.take(news{device: with("d1", 1, "lan0")})
		}, 1, "d1", map[string]int{"d1": 1}},
		{"made anew with its names", "lan0", func(w *Watch) {
			w.take(news{device: with("d1", 1, "lan0")})
			w.take(news{device: with("d1", 1, "lan0"), gone: true})
			w.take(news{device: with("d1", 2, "lan0")})
		}, 1, "d1", map[string]int{"d1": 2}},
		{"made anew with another real name", "lan0", func(w *Watch) {
			w.take(news{device: with("d1", 1, "lan0")})
			w.take(news{device: with("d1", 1, "lan0"), gone: true})
			w.take(news{device: with("d2", 2, "lan0")})
		}, 1, "d2", map[string]int{"d1": 1, "d2": 1}},
		{"goes to another device", "lan0", func(w *Watch) {
			w.take(news{device: with("d1", 1, "lan0")})
			w.take(news{device: with("d1", 1)})
			w.take(news{device: with("d2", 2, "lan0")})
		}, 1, "d2", map[string]int{"d1": 1, "d2": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, captured, log := watchLinks(t, c.names)
			c.learn(w)
			if open := captured.ended(w); open != c.open {
				t.Errorf("%d sources are open, want %d", open, c.open)
			}
			on := ""
			for _, l := range captured.on {
				on += l.to.Name
			}
			counted := map[string]int{}
			for _, s := range w.Statuses() {
				counted[s.Interface] = int(s.Dropped)
			}
			if on != c.on || !maps.Equal(counted, c.counted) {
				t.Errorf("%q is captured, and counted are %v; want %q and %v\n%s", on, counted, c.on, c.counted, log.take())
			}
		})
	}
}
