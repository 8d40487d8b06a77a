package kernel

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"promflow/capture"
	"promflow/capture/frame"
)

// Tap brings the packets of one interface at a time to a program. It is a part of a backend. Its methods are not called concurrently.
type Tap interface {
	// Attach and Detach are those of [capture.Source].
	Attach(to capture.Interface, p *Program) error
	Detach() error

	// Move has another program count from the next packet on, and tells nothing if no interface is attached.
	Move(to *Program) error

	Up() bool // the tap is attached to an interface that exists and is up
	Close() error
}

// counting is the Capture of this package: one program, by which all sources count.
type counting struct {
	config  capture.Config
	hooks   Hooks
	open    func(*Program) (Tap, error)
	counter *capture.Counter

	// moving is held to move taps to another program, and for reading to use them or the program's counts of them. Closing a tap takes
	// long: many may close at the same time.
	moving sync.RWMutex

	mu      sync.Mutex // guards what follows. program changes only while moving is held, too
	program *Program
	reader  *reader
	sources []*source // by number of an interface in the program; nil: the number is free
	closed  bool
}

// Open loads the program for some hooks of the kernel. It counts on up to so many interfaces at a time; open opens the tap for each of them.
func Open(c capture.Config, interfaces int, hooks Hooks, open func(*Program) (Tap, error)) (capture.Capture, error) {
	p, err := load(c, interfaces, hooks)
	if err != nil {
		return nil, err
	}
	counter := capture.NewCounter(c.Table)
	k := &counting{config: c, hooks: hooks, open: open, counter: counter, program: p, reader: newReader(p, counter),
		sources: make([]*source, interfaces)}
	probe, err := k.Open() // if this process cannot open sources, another backend has to be tried now
	if err == nil {
		err = probe.Close()
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Keeps returns no capability from Linux 5.19 on, if subnets do not change: those kernels forbid a process without CAP_BPF only to create
// something. Older ones forbid it all of bpf(2) (https://git.kernel.org/linus/c8644cd0efe7). A program that is loaded without CAP_PERFMON
// takes several times as long for a packet, since the kernel guards it against what processors do speculatively.
func (k *counting) Keeps() (names []string) {
	var needs []cap.Value
	switch {
	case k.config.Changes, k.program.withTags != nil:
		needs = append(k.hooks.needs(), cap.PERFMON)
	case Before(5, 19):
		needs = []cap.Value{cap.BPF}
	}
	for _, c := range needs {
		if name := grantedBy(c); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (k *counting) Open() (capture.Source, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	number := slices.Index(k.sources, nil)
	if number < 0 {
		return nil, fmt.Errorf("no more than %d interfaces at a time", len(k.sources))
	}
	tap, err := k.open(k.program)
	if err != nil {
		return nil, err
	}
	s := &source{capture: k, number: number, tap: tap}
	s.addOutcomes(k.program, -1)
	k.sources[number] = s
	return s, nil
}

// Update loads a new program, and moves all taps to it. Meanwhile there are two, with their maps.
func (k *counting) Update() error {
	// The eBPF library leaves it to the garbage collector to unmap memory of maps, and until then they stay in the kernel.
	defer runtime.GC()
	next, err := load(k.config, len(k.sources), k.hooks)
	if err != nil {
		return err
	}
	k.moving.Lock()
	defer k.moving.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return next.close()
	}
	now := k.program
	for _, s := range k.sources {
		if s != nil && !s.closed && err == nil {
			err = next.tellIndex(s.index, s.number)
			next.describe(s.number, s.to)
		}
	}
	if err != nil {
		return errors.Join(err, next.close())
	}
	if err := k.moveTo(next); err != nil { // some packets may have been counted by the new program
		err = errors.Join(err, k.moveTo(now))
		k.retire(next, newReader(next, k.counter))
		return err
	}
	k.retire(now, k.reader)
	k.program, k.reader = next, newReader(next, k.counter)
	return nil
}

// moveTo has a program count for all sources.
func (k *counting) moveTo(p *Program) error {
	for _, s := range k.sources {
		if s == nil || s.closed {
			continue
		}
		if err := s.tap.Move(p); err != nil {
			return err
		}
	}
	return nil
}

// retire reads the last counts of a program that no tap has any more, and removes it from the kernel.
func (k *counting) retire(p *Program, r *reader) {
	if awaitPrograms() != nil {
		time.Sleep(programTime)
	}
	r.read()
	for _, s := range k.sources {
		if s != nil && !s.closed {
			s.addOutcomes(p, 1)
		}
	}
	if err := p.close(); err != nil {
		k.config.Log.Error("removing a program from the kernel", "error", err)
	}
}

// programTime is more than any run of a program takes, for kernels that cannot say when all have ended (nohz_full).
const programTime = 100 * time.Millisecond

// Read also takes back slots of expired addresses, if new ones find no free slot.
func (k *counting) Read() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.reader.read()
	if after := k.config.Table.ExpireAfter(); after > 0 {
		return k.reader.evict(after)
	}
	return nil
}

func (k *counting) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	return k.program.close()
}

// source has a program count on an interface, by a tap.
type source struct {
	capture *counting
	number  int // of the interface in the program

	mu      sync.Mutex // guards what follows, unless taps move. It keeps the tap open while it is in use
	tap     Tap
	to      capture.Interface                   // as it is now, while one is attached
	index   uint32                              // of the attached interface, if the program tells interfaces apart; else 0
	earlier [frame.Outcomes]capture.OutcomeSize // of programs before this one, less what other sources have counted by this one
	last    capture.Status                      // once closed
	closed  bool
}

// lock keeps the source's tap where it is, and returns its end.
func (s *source) lock() (unlock func()) {
	s.capture.moving.RLock()
	s.mu.Lock()
	return func() {
		s.mu.Unlock()
		s.capture.moving.RUnlock()
	}
}

func (s *source) Attach(to capture.Interface) error {
	defer s.lock()()
	if err := s.detach(); err != nil {
		return err
	}
	if s.capture.program.interfaces > 1 {
		s.index = uint32(to.Index)
	}
	if err := s.capture.program.tellIndex(s.index, s.number); err != nil {
		return fmt.Errorf("%s: %w", to.Name, err)
	}
	s.capture.program.describe(s.number, to)
	if err := s.tap.Attach(to, s.capture.program); err != nil {
		return err
	}
	s.follow(to)
	return nil
}

func (s *source) Follow(to capture.Interface) {
	defer s.lock()()
	s.capture.program.describe(s.number, to)
	s.follow(to)
}

// follow logs when dropping begins or ends.
func (s *source) follow(to capture.Interface) {
	switch log := s.capture.config.Log; {
	case !s.capture.config.Mirror || to.Shared == s.to.Shared:
	case to.Shared != "":
		log.Warn("frames for other machines are not dropped any more: they may be for somebody", "interface", to.Name, "for", to.Shared)
	default:
		log.Info("frames for other machines are dropped again", "interface", to.Name)
	}
	s.to = to
}

func (s *source) Detach() error {
	defer s.lock()()
	return s.detach()
}

func (s *source) detach() error {
	errs := []error{s.tap.Detach()}
	if s.index != 0 {
		errs = append(errs, s.capture.program.releaseInterface(s.index, s.number))
		s.index = 0
	}
	return errors.Join(errs...)
}

// Run only waits: the kernel counts.
func (s *source) Run(ctx context.Context) error {
	<-ctx.Done()
	return s.stop()
}

// stop ends the capture for good, and keeps its last status.
func (s *source) stop() error {
	defer s.lock()()
	if s.closed {
		return nil
	}
	up := s.tap.Up()
	s.closed = true
	err := s.tap.Close()
	s.addOutcomes(s.capture.program, 1)
	s.last = capture.Status{Up: up, Outcomes: s.earlier}
	return err
}

func (s *source) Status() capture.Status {
	defer s.lock()()
	if s.closed {
		return s.last
	}
	is := capture.Status{Up: s.tap.Up(), Outcomes: s.earlier}
	addOutcomes(&is.Outcomes, s.capture.program.outcomes(s.number), 1)
	return is
}

// addOutcomes adds what a program has counted under the source's number, so many times.
func (s *source) addOutcomes(p *Program, times int64) {
	addOutcomes(&s.earlier, p.outcomes(s.number), times)
}

func addOutcomes(to *[frame.Outcomes]capture.OutcomeSize, more [frame.Outcomes]capture.OutcomeSize, times int64) {
	for o, size := range more {
		to[o].Packets += times * size.Packets
		to[o].Bytes += times * size.Bytes
	}
}

func (s *source) Close() error {
	err := s.stop()
	s.capture.mu.Lock()
	defer s.capture.mu.Unlock()
	s.capture.sources[s.number] = nil
	return err
}
