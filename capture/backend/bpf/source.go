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

func open(c capture.Config, _ int) (capture.Capture, error) {
	probe, err := openDevice() // fails if no source can be opened
	if err != nil {
		return nil, err
	}
	return capture.Opener(func() (capture.Source, error) {
		return &source{config: c, counter: capture.NewCounter(c.Table), more: make(chan struct{}, 1)}, nil
	}), probe.close()
}

// source counts the packets of one device after the other. It opens a device for each interface, as a device keeps its interface.
type source struct {
	config  capture.Config
	counter *capture.Counter
	more    chan struct{} // tells Run that there is another device

	mu      sync.Mutex // also of the devices, except for reading from them
	devices []*device  // all but the last are stopped, and not yet read to their end
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
	case errors.Is(err, unix.ENETDOWN): // on macOS: package watch attaches again once it is up, because Status is not Up
		return d.close()
	case err != nil:
		return errors.Join(err, d.close())
	}
	if s.config.Promiscuous && !to.Loopback {
		if err := ioctl(d.fd, "BIOCPROMISC", unix.BIOCPROMISC, (*byte)(nil)); err != nil {
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

func (s *source) Follow(to capture.Interface) { s.counter.SeenOn(to.Name) }

func (s *source) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop()
}

// attached returns the device that takes frames, or nil. The caller holds mu.
func (s *source) attached() *device {
	if n := len(s.devices); n > 0 && !s.devices[n-1].stopped {
		return s.devices[n-1]
	}
	return nil
}

// stop stops the device that takes frames. The caller holds mu.
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

// Run counts until ctx ends, and then the packets that the kernel still holds.
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

// next returns the device to read from, or nil, and whether it is stopped.
func (s *source) next() (d *device, stopped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.devices) == 0 {
		return nil, false
	}
	return s.devices[0], s.devices[0].stopped
}

// count counts the packets of one read. It closes the device once no more can come: it is stopped, and both buffers of the kernel were read
// since or are empty, or its interface is gone.
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

// takeDrops adds the packets that the kernel has dropped since the last call. The caller holds mu.
func (s *source) takeDrops(d *device) {
	var stat unix.BpfStat
	if err := ioctl(d.fd, "BIOCGSTATS", unix.BIOCGSTATS, &stat); err != nil {
		if !isGone(err) {
			s.config.Log.Error("reading the kernel's drop count", "error", err)
		}
		return
	}
	s.dropped += int64(stat.Drop - d.dropped) // both have 32 bits
	d.dropped = stat.Drop
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
