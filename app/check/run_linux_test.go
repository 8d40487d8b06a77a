package check

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"promflow/capture"
	"promflow/capture/flow"
	"promflow/capture/frame"
	"promflow/capture/nettest"
	"promflow/capture/watch"
)

// counting is a capture of several interfaces that counts what the kernel does, but for a share of it.
type counting struct {
	t       *testing.T
	names   []string
	ignored string // an interface of which nothing is seen
	stopped bool
	closed  bool
}

func (c *counting) Exporters() []flow.Status { return nil }

func (c *counting) Keeps() []string { return []string{"cap_bpf"} }

func (c *counting) Run(ctx context.Context) error {
	<-ctx.Done()
	c.stopped = true
	return nil
}

func (c *counting) Read() {}

func (c *counting) Statuses() (statuses []watch.Status) {
	all, err := links()
	if err != nil {
		c.t.Error(err)
	}
	for _, name := range c.names {
		s, seen := watch.Status{Interface: name, Status: capture.Status{Up: true}}, all[name].Counters.sum(Link{})
		if name != c.ignored {
			s.Outcomes[frame.Counted] = capture.OutcomeSize{Packets: seen.Packets, Bytes: seen.Bytes - 14*seen.Packets}
		}
		statuses = append(statuses, s)
	}
	return statuses
}

func (c *counting) Close() error {
	c.closed = c.stopped
	return nil
}

func TestCollectorIsAskedWithThePrivilegesOfTheProgram(t *testing.T) {
	ns := nettest.NewNamespace(t)
	var dropped, asked atomic.Bool
	s := Setup{
		Open: func(*slog.Logger) (Capture, string, error) { return &counting{t: t}, "afpacket", nil },
		Drop: func([]string, *slog.Logger) error {
			for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end) && !asked.Load(); runtime.Gosched() {
			}
			dropped.Store(true)
			return errors.New("web.yml: permission denied")
		},
		Push: func(context.Context) (string, error) {
			asked.Store(true)
			if !dropped.Load() {
				t.Error("the collector was asked before privileges were dropped")
			}
			return "c:4317", nil
		},
	}
	var r *Report
	if err := ns.Do(func() (err error) { r, err = Run(context.Background(), s); return err }); err != nil {
		t.Fatal(err)
	}
	backend, privileges := r.Findings[0], r.Findings[1]
	if backend.Status != OK || privileges.Status != Error || strings.Join(privileges.Details, "; ") != "web.yml: permission denied" {
		t.Errorf("it says %+v, %+v; want an error of privileges", backend, privileges)
	}
}

// run runs a check in the namespace that is interrupted after something was done there.
func run(t *testing.T, ns *nettest.Namespace, open func(*slog.Logger) (Capture, string, error), meanwhile func()) (r *Report) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := Setup{
		Interfaces: []string{"one", "two"}, Duration: time.Hour, Log: slog.New(onCounting(func() { meanwhile(); cancel() })),
		Open: open, Drop: func([]string, *slog.Logger) error { return nil }, Table: capture.NewTable(10, 0),
	}
	if err := ns.Do(func() (err error) { r, err = Run(ctx, s); return err }); err != nil {
		t.Fatal(err)
	}
	return r
}

// onCounting is a log that has something done once counting has begun.
type onCounting func()

func (f onCounting) Enabled(context.Context, slog.Level) bool      { return true }
func (f onCounting) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f onCounting) WithGroup(string) slog.Handler                 { return f }
func (f onCounting) Handle(_ context.Context, _ slog.Record) error { f(); return nil }

func TestRunWithSeveralInterfaces(t *testing.T) {
	ns, peer := nettest.NewNamespace(t), nettest.NewNamespace(t)
	for _, name := range []string{"one", "two", "gone"} {
		ns.Veth(name, peer, name)
	}
	const packets = 50
	c := &counting{t: t, names: []string{"two", "one", "gone"}, ignored: "two"}
	r := run(t, ns, func(log *slog.Logger) (Capture, string, error) {
		log.Warn("capture backend cannot be used", "reason", "too old")
		return c, "afpacket", nil
	}, func() {
		for _, name := range []string{"one", "two"} {
			nettest.NewSender(t, peer, name).Send(slices.Repeat([][]byte{make([]byte, 100)}, packets)...)
		}
		ns.IP("link", "del", "gone")
		ns.Veth("gone", peer, "gone")
	})
	if !c.closed {
		t.Error("the capture was not stopped, then closed")
	}
	var shares []string
	for _, f := range r.Findings {
		switch f.Name {
		case "share":
			shares = append(shares, f.Interface+" "+f.Status.String())
		case "backend":
			if f.Summary != "afpacket" || f.Status != Info || len(f.Details) != 1 || f.Details[0] != "capture backend cannot be used: too old" {
				t.Errorf("the backend is %+v", f)
			}
		}
		if f.Interface == "gone" && (f.Status != Warning || !strings.Contains(f.Summary, "came or went")) {
			t.Errorf("of the one that was made anew it says %+v", f)
		}
	}
	if got := strings.Join(shares, ", "); got != "one ok, two error" {
		t.Errorf("the shares are %s", got)
	}
	if len(r.Interfaces) != 2 || r.Interfaces[0].Packets != packets || r.Interfaces[0].Bytes != 86*packets || r.Interfaces[1].Kernel.RxPackets != packets {
		t.Errorf("the interfaces are %+v", r.Interfaces)
	}
	if r.Status != Error || r.Backend != "afpacket" {
		t.Errorf("the report is %+v", r)
	}
}

func TestRunWithoutCapture(t *testing.T) {
	ns, peer := nettest.NewNamespace(t), nettest.NewNamespace(t)
	ns.Veth("one", peer, "one")
	r := run(t, ns, func(*slog.Logger) (Capture, string, error) {
		return nil, "", errors.Join(errors.New("ebpf: too old"), errors.New("afpacket: not permitted"))
	}, nil)
	var names []string
	for _, f := range r.Findings {
		names = append(names, f.Name)
	}
	if got, want := strings.Join(names, " "), "backend privileges interface clock metrics_address collector"; got != want {
		t.Errorf("the findings are %s, want %s", got, want)
	}
	if b := r.Findings[0]; b.Status != Error || len(b.Details) != 2 || b.Details[1] != "afpacket: not permitted" {
		t.Errorf("the backend is %+v", b)
	}
	if i := r.Findings[2]; i.Status != OK || len(i.Details) != 0 {
		t.Errorf("the interface is %+v", i)
	}
	if r.Interfaces == nil || r.Duration != 0 {
		t.Errorf("the report is %+v", r)
	}
}
