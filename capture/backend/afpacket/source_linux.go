package afpacket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"promflow/capture"
)

// rings is where sources come from. They have nothing in common but their counts.
type rings struct {
	config capture.Config
	open   atomic.Int64 // sources
}

func open(c capture.Config, _ int) (capture.Capture, error) {
	probe, err := openRing(blockCount) // so that who cannot open sources finds out
	if err != nil {
		return nil, err
	}
	return &rings{config: c}, probe.close()
}

func (*rings) Keeps() []string { return nil }

func (r *rings) Open() (capture.Source, error) {
	ring, err := openRing(blocksBeside(int(r.open.Load())))
	if err != nil {
		return nil, err
	}
	r.open.Add(1)
	return &source{rings: r, counter: capture.NewCounter(r.config.Table, r.config.Monitored, r.config.Excluded), ring: ring}, nil
}

// Read has nothing to do: packets are counted as they come.
func (*rings) Read() error { return nil }

func (*rings) Close() error { return nil }

// source is a ring whose packets are counted.
type source struct {
	rings   *rings
	counter *capture.Counter
	ring    *ring

	mu      sync.Mutex // of what follows, and of the socket against Close
	closed  bool
	dropped int64
}

func (s *source) Attach(to capture.Interface) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counter.SeenOn(to.Name)
	return s.ring.attach(to, s.rings.config.Promiscuous)
}

func (s *source) Rename(name string) { s.counter.SeenOn(name) }

func (s *source) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ring.Detach()
}

// Run counts until ctx ends, and then what is left in the ring.
func (s *source) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.ring.File.SetReadDeadline(time.Unix(1, 0)) })()
	if err := s.countUntilDeadline(); err != nil {
		return err
	}

	// With nothing more to come in, the kernel hands over the block that it was filling within two periods.
	if err := s.ring.accept(0); err != nil {
		return err
	}
	if err := s.ring.File.SetReadDeadline(time.Now().Add(3 * retireAfter)); err != nil {
		return err
	}
	err := s.countUntilDeadline()
	s.drain()
	return err
}

// countUntilDeadline counts until the read deadline of the ring's file, which may leave blocks in the ring.
func (s *source) countUntilDeadline() error {
	for {
		err := s.ring.wait()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("waiting for packets: %w", err)
		}
		s.drain()
		if err := s.ring.Err(); err != nil { // which is to be taken, or there would be no more waiting
			return fmt.Errorf("capturing: %w", err)
		}
	}
}

// drain counts what the kernel has handed over, one round of the ring at most: under a flood there is always more.
func (s *source) drain() {
	for range s.ring.blocks {
		if !s.ring.ready() {
			return
		}
		s.ring.count(s.counter)
	}
}

func (s *source) Status() capture.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := false
	if !s.closed {
		up = s.ring.Up()
		s.takeDrops()
	}
	return capture.Status{
		Up:       up,
		Dropped:  s.dropped,
		Outcomes: s.counter.Outcomes(),
	}
}

// takeDrops adds what the kernel has dropped since it was last asked. The caller holds mu.
func (s *source) takeDrops() {
	n, err := s.ring.drops()
	if err != nil {
		s.rings.config.Log.Error("reading the kernel's drop count", "error", err)
	}
	s.dropped += n
}

func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.takeDrops()
	s.closed = true
	s.rings.open.Add(-1)
	return s.ring.close()
}
