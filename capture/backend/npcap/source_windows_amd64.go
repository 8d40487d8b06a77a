package npcap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/gopacket/pcap"
	"golang.org/x/time/rate"

	"promflow/capture"
	"promflow/capture/frame"
)

func open(c capture.Config, _ int) (capture.Capture, error) {
	if err := pcap.LoadWinPCAP(); err != nil { // of the attempt at the start of the program
		return nil, fmt.Errorf("%w, which comes with Npcap (https://npcap.com): %w", err, errors.ErrUnsupported)
	}
	return capture.Opener(func() (capture.Source, error) {
		return &source{
			config: c, counter: capture.NewCounter(c.Table), more: make(chan struct{}, 1),
			failed: rate.Sometimes{First: 3, Interval: time.Minute},
		}, nil
	}), nil
}

// source counts the packets of one handle after the other. It opens a handle for each interface.
type source struct {
	config  capture.Config
	counter *capture.Counter
	more    chan struct{}  // tells Run that there is another handle
	failed  rate.Sometimes // logs errors

	mu      sync.Mutex
	on      *handle // nil while not attached
	dropped int64
}

func (s *source) Attach(to capture.Interface) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	promiscuous := s.config.Promiscuous && !to.Loopback
	h, err := openHandle(to, promiscuous)
	if err != nil && promiscuous {
		modest, again := openHandle(to, false)
		if again == nil {
			s.config.Log.Warn("interface cannot be made promiscuous", "interface", to.Name, "error", err)
			h, err = modest, nil
		}
	}
	if err != nil {
		return err
	}
	s.counter.SeenOn(to.Name)
	s.on = h
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

func (s *source) Follow(to capture.Interface) { s.counter.SeenOn(to.Name) }

func (s *source) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	return nil
}

// end closes the handle. It waits for a read to return, which takes two timeouts at most. The caller holds mu.
func (s *source) end() {
	if s.on != nil {
		s.takeDrops()
		s.on.close()
		s.on = nil
	}
}

func (s *source) attached() *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// Run counts until ctx ends, and then for as long as the driver may hold packets back.
func (s *source) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if h := s.attached(); h != nil {
			s.count(h, func() bool { return ctx.Err() == nil })
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.more:
		}
	}
	if h := s.attached(); h != nil {
		end := time.Now().Add(readTimeout)
		s.count(h, func() bool { return time.Now().Before(end) })
	}
	return s.Detach()
}

// count counts the packets of a handle until goOn returns false, or the handle is closed or fails, as when its interface is gone. A handle
// that fails is closed.
func (s *source) count(h *handle, goOn func() bool) {
	f, p := frame.Frame{Link: h.link}, frame.Packet{}
	for goOn() {
		err := h.next(&f, &p)
		switch {
		case err == nil:
			s.counter.Lock()
			s.counter.Count(&p)
			s.counter.Unlock()
		case errors.Is(err, io.EOF):
			return
		case !errors.Is(err, pcap.NextErrorTimeoutExpired):
			s.fail(h, err)
			return
		}
	}
}

// fail closes a handle that has failed, unless it is closed already.
func (s *source) fail(h *handle, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == h {
		s.failed.Do(func() { s.config.Log.Warn("reading packets failed", "error", fmt.Errorf("%w: %w", err, h.Error())) })
		s.end()
	}
}

func (s *source) Status() capture.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.on != nil && s.on.up()
	s.takeDrops()
	return capture.Status{Up: up, Dropped: s.dropped, Outcomes: s.counter.Outcomes()}
}

// takeDrops adds the packets that the driver has dropped since the last call. The caller holds mu.
func (s *source) takeDrops() {
	if s.on == nil {
		return
	}
	stats, err := s.on.Stats()
	if err != nil {
		s.failed.Do(func() { s.config.Log.Error("reading the driver's drop count", "error", err) })
		return
	}
	now := uint32(stats.PacketsDropped) // the driver's count has 32 bits
	s.dropped += int64(now - s.on.dropped)
	s.on.dropped = now
}

func (s *source) Close() error { return s.Detach() }
