package afpacket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"promflow/capture"
	"promflow/capture/frame"
)

// source is a ring whose packets are counted.
type source struct {
	name    string
	link    frame.Link
	counter *capture.Counter
	log     *slog.Logger
	ring    *ring

	mu      sync.Mutex // of what follows, and of the socket against Close
	closed  bool
	dropped int64
}

func open(c capture.Config, counter *capture.Counter) (capture.Source, error) {
	r, err := openRing(c)
	if err != nil {
		return nil, err
	}
	s := &source{name: c.Interface, link: frame.LinkNone, counter: counter, log: c.Log, ring: r}
	if r.Ethernet {
		s.link = frame.LinkEthernet
	}
	return s, nil
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
			return fmt.Errorf("waiting for packets of %s: %w", s.name, err)
		}
		s.drain()
		if err := s.ring.Check(); err != nil {
			return err
		}
	}
}

// drain counts what the kernel has handed over, one round of the ring at most: under a flood there is always more.
func (s *source) drain() {
	for range blockCount {
		if !s.ring.ready() {
			return
		}
		s.ring.count(s.link, s.counter)
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
		Interface: s.name,
		Backend:   Backend.Name,
		Up:        up,
		Dropped:   s.dropped,
		Outcomes:  s.counter.Outcomes(),
	}
}

// takeDrops adds what the kernel has dropped since it was last asked. The caller holds mu.
func (s *source) takeDrops() {
	n, err := s.ring.drops()
	if err != nil {
		s.log.Error("reading the kernel's drop count", "interface", s.name, "error", err)
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
	return s.ring.close()
}
