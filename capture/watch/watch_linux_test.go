package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"promflow/capture"
)

// links is a capture that counts one packet by each source that was attached, and the links that it is on.
type links struct {
	up    map[string]bool
	fails error // of Attach
}

func (l *links) Open() (capture.Source, error) { return &link{links: l}, nil }
func (*links) Keeps() []string                 { return nil }
func (*links) Read() error                     { return nil }
func (*links) Close() error                    { return nil }

type link struct {
	links  *links
	name   string
	status capture.Status
}

func (l *link) Attach(to capture.Interface) error {
	if l.links.fails == nil {
		l.name, l.links.up[to.Name] = to.Name, true
		l.status.Dropped = 1
	}
	return l.links.fails
}

func (l *link) Detach() error {
	delete(l.links.up, l.name)
	return nil
}

func (l *link) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (l *link) Status() capture.Status { return l.status }
func (l *link) Close() error           { return nil }

// watchLinks is a Watch that has the news that a test has for it, instead of the kernel's, and what it logs.
func watchLinks(t *testing.T, names string) (*Watch, *links, *output) {
	t.Helper()
	parsed, err := ParseNames(names)
	if err != nil {
		t.Fatal(err)
	}
	log, up := new(output), &links{up: map[string]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	w := &Watch{
		Config:  Config{Names: parsed, Capture: up, Log: slog.New(slog.NewTextHandler(log, nil))},
		devices: map[int]device{}, byName: map[string]int{}, taps: map[string]*tap{}, warned: map[pair]bool{},
		run: new(errgroup.Group), ctx: ctx,
	}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(w.run.Wait(), w.Close()); err != nil {
			t.Error(err)
		}
	})
	return w, up, log
}

// link has news of device n.
func (w *Watch) link(n int, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(news{device: device{Interface: capture.Interface{Name: fmt.Sprint("d", n), Index: n}, up: !gone}, gone: gone})
}

// TestTooManyInterfaces has a glob find more than are captured at a time: the others are captured once there is room, and what is
// gone for long adds up.
func TestTooManyInterfaces(t *testing.T) {
	const left = 6
	w, captured, log := watchLinks(t, "d*")
	for n := range maxFound + left {
		w.link(1+n, false)
	}
	if n := len(captured.up); n != maxFound {
		t.Fatalf("%d interfaces are captured, want %d", n, maxFound)
	}
	if w.mayRetry() {
		t.Error("it tries again although nothing has changed")
	}
	for n := range left / 2 {
		w.link(1+n, true)
	}
	if !w.mayRetry() {
		t.Fatal("those that were left out are not tried again")
	}
	w.retry()
	if n := len(captured.up); n != maxFound {
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
			if names == "d1" {
				if err := w.tap("d1", false).open(captured); err != nil {
					t.Fatal(err)
				}
			}
			w.link(1, false)
			for range 2 {
				if !w.mayRetry() {
					t.Fatal("it is not tried again")
				}
				w.retry()
			}
			captured.fails = nil
			w.retry()
			if !captured.up["d1"] {
				t.Error("it is not captured")
			}
			w.mayRetry() // of the last failure
			if w.mayRetry() {
				t.Error("it is tried for ever")
			}
			if s := log.take(); strings.Count(s, "no memory") != 3 || strings.Count(s, "interface is there") != 1 {
				t.Errorf("the log has\n%s", s)
			}
		})
	}
}
