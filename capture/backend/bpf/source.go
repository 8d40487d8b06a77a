//go:build darwin || freebsd || openbsd

package bpf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"promflow/capture"
)

// devices is where sources come from. They have nothing in common but their counts.
type devices struct{ config capture.Config }

func open(c capture.Config, _ int) (capture.Capture, error) {
	probe, err := openDevice() // so that who cannot open devices finds out
	if err != nil {
		return nil, err
	}
	return &devices{c}, probe.close()
}

func (*devices) Keeps() []string { return nil }

// Open opens no device yet: a source has a new one for each interface, as there is no way to take one off its interface.
func (d *devices) Open() (capture.Source, error) {
	c := d.config
	return &source{config: c, counter: capture.NewCounter(c.Table, c.Monitored, c.Excluded), more: make(chan struct{}, 1)}, nil
}

// Read has nothing to do: packets are counted as they come.
func (*devices) Read() error { return nil }

func (*devices) Close() error { return nil }

// source counts the packets of one device after the other.
type source struct {
	config  capture.Config
	counter *capture.Counter
	more    chan struct{} // tells Run of a device

	mu      sync.Mutex // of what follows, and of devices but for reading
	devices []*device  // all but the last are stopped, and have yet to be read to their end
	dropped int64
}

func (s *source) Attach(to capture.Interface) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(); err != nil {
		return err
	}
	d, err := openDevice()
	if err != nil {
		return err
	}
	switch err := d.attach(to); {
	case errors.Is(err, unix.ENETDOWN): // as macOS has it; attached again when it is up, as Status says that it is not captured
		return d.close()
	case err != nil:
		return errors.Join(err, d.close())
	}
	if s.config.Promiscuous && !to.Loopback {
		if err := d.promiscuous(); err != nil {
			s.config.Log.Warn("interface cannot be made promiscuous", "interface", to.Name, "error", err)
		}
	}
	s.counter.SeenOn(to.Name)
	s.devices = append(s.devices, d)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

func (s *source) Rename(name string) { s.counter.SeenOn(name) }

func (s *source) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop()
}

// attached gives the device that takes frames, if there is one. The caller holds mu.
func (s *source) attached() *device {
	if n := len(s.devices); n > 0 && !s.devices[n-1].stopped {
		return s.devices[n-1]
	}
	return nil
}

// stop has no device take frames. The caller holds mu.
func (s *source) stop() error {
	d := s.attached()
	if d == nil {
		return nil
	}
	d.stopped = true
	if err := d.stop(); err != nil && !isGone(err) {
		return fmt.Errorf("ending a capture: %w", err)
	}
	return nil
}

// Run counts until ctx ends, and then what the kernel holds.
func (s *source) Run(ctx context.Context) error {
	for {
		var err error
		if ctx.Err() != nil {
			err = s.Detach()
		}
		d, stopped := s.next()
		if d != nil {
			err = errors.Join(err, s.count(d, stopped))
		}
		if err != nil {
			return fmt.Errorf("capturing: %w", err)
		}
		if d == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-s.more:
			}
		}
	}
}

// next gives the device that is to be read, and whether it takes no more frames.
func (s *source) next() (d *device, stopped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.devices) == 0 {
		return nil, false
	}
	return s.devices[0], s.devices[0].stopped
}

// count counts what a read gives, and closes the device once there is no more to come: both buffers of the kernel were read since it
// was stopped, or have nothing, or its interface is gone.
func (s *source) count(d *device, stopped bool) error {
	b, err := d.read()
	gone := isGone(err)
	if err != nil && !gone {
		return err
	}
	if err := here.count(b, d.link, s.counter); err != nil {
		return err
	}
	if stopped {
		d.reads++
	}
	if gone || stopped && (len(b) == 0 || d.reads == 2) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.takeDrops(d)
		s.devices = slices.DeleteFunc(s.devices, func(one *device) bool { return one == d })
		return d.close()
	}
	return nil
}

func (s *source) Status() capture.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.attached()
	up := d != nil && d.up()
	for _, d := range s.devices {
		s.takeDrops(d)
	}
	return capture.Status{Up: up, Dropped: s.dropped, Outcomes: s.counter.Outcomes()}
}

// takeDrops adds what the kernel has dropped since it was last asked. The caller holds mu.
func (s *source) takeDrops(d *device) {
	n, err := d.drops()
	if err != nil && !isGone(err) {
		s.config.Log.Error("reading the kernel's drop count", "error", err)
	}
	s.dropped += n
}

func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, d := range s.devices {
		s.takeDrops(d)
		errs = append(errs, d.close())
	}
	s.devices = nil
	return errors.Join(errs...)
}
