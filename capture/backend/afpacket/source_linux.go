package afpacket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture"
)

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "afpacket", Capabilities: "cap_net_raw", Open: open}

func open(c capture.Config, _ int) (capture.Capture, error) {
	probe, err := openRing(blockCount) // fails if no source can be opened
	if err != nil {
		return nil, err
	}
	opened := new(atomic.Int64)
	return capture.Opener(func() (capture.Source, error) {
		ring, err := openRing(blocksBeside(int(opened.Load())))
		if err != nil {
			return nil, err
		}
		opened.Add(1)
		return &source{config: c, opened: opened, counter: capture.NewCounter(c.Table), ring: ring}, nil
	}), probe.close()
}

// source counts the packets of a ring.
type source struct {
	config  capture.Config
	opened  *atomic.Int64 // sources that are not closed
	counter *capture.Counter
	ring    *ring

	mu      sync.Mutex // also against use of the socket after Close
	closed  bool
	dropped int64
}

func (s *source) Attach(to capture.Interface) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counter.SeenOn(to.Name)
	return s.ring.attach(to, s.config.Promiscuous)
}

func (s *source) Follow(to capture.Interface) { s.counter.SeenOn(to.Name) }

func (s *source) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ring.Detach()
}

// Run counts until ctx ends, and then the packets that are still in the ring.
func (s *source) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.ring.File.SetReadDeadline(time.Unix(1, 0)) })()
	if err := s.countUntilDeadline(); err != nil {
		return err
	}

	// When no packets arrive any more, the kernel hands over the block that it was filling within two periods.
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

// countUntilDeadline counts until the read deadline of the ring's file. There may still be blocks in the ring then.
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
		if err := s.ring.Err(); err != nil { // an error that is not taken would end all further waiting at once
			return fmt.Errorf("capturing: %w", err)
		}
	}
}

// drain counts the blocks that the kernel has handed over, up to the size of the ring: in a flood there are always more.
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
	if !s.closed {
		s.takeDrops()
	}
	return capture.Status{Up: !s.closed && s.ring.Up(), Dropped: s.dropped, Outcomes: s.counter.Outcomes()}
}

// takeDrops adds the packets that the kernel has dropped since the last call. The caller holds mu.
func (s *source) takeDrops() {
	stats, err := unix.GetsockoptTpacketStatsV3(s.ring.FD, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		s.config.Log.Error("reading the kernel's drop count", "error", err)
		return
	}
	s.dropped += int64(stats.Drops)
}

func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.takeDrops()
	s.closed = true
	s.opened.Add(-1)
	return s.ring.close()
}
