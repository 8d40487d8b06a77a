package ebpf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/socket"
)

// watchInterval is how often Run looks whether the interface went down or is up again.
const watchInterval = time.Second

// source is a packet socket whose filter counts.
type source struct {
	counter *capture.Counter
	log     *slog.Logger
	socket  *socket.Socket
	program *program

	mu      sync.Mutex // of what follows, and of socket and program against their ends
	reader  *reader
	up      bool // as it was when the capture ended
	stopped bool
	closed  bool
}

func open(c capture.Config, counter *capture.Counter) (capture.Source, error) {
	sock, err := socket.Open(c.Interface, true, c.Log)
	if err != nil {
		return nil, err
	}
	p, err := load(counter, sock.Ethernet)
	if err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	s := &source{counter: counter, log: c.Log, socket: sock, program: p, reader: newReader(p, counter)}
	if err := unix.SetsockoptInt(sock.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.filter.FD()); err != nil {
		if errors.Is(err, unix.ENOMEM) {
			err = fmt.Errorf("%w (the program needs more than sysctl net.core.optmem_max, which may be raised to 131072)", err)
		}
		return nil, errors.Join(fmt.Errorf("attaching a socket filter: %w", err), s.Close())
	}
	if err := s.reader.read(); err != nil { // of nothing yet
		return nil, errors.Join(lacks("lookups of many keys of an eBPF map at a time (Linux 5.6)", err), s.Close())
	}
	if err := sock.Bind(c.Promiscuous); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Run waits: the kernel counts.
func (s *source) Run(ctx context.Context) error {
	watch := time.NewTicker(watchInterval)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(s.socket.Check(), s.stop())
		case <-watch.C:
			if err := s.socket.Check(); err != nil {
				return err
			}
		}
	}
}

// stop ends the capture and takes the last counts.
func (s *source) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.up = s.socket.Up()
	s.stopped = true
	return errors.Join(s.socket.Close(), s.reader.read())
}

func (s *source) Status() capture.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.up = s.socket.Up()
		if err := s.reader.read(); err != nil {
			s.log.Error("counts are missing until the next time that they are read", "interface", s.socket.Name, "error", err)
		}
	}
	return capture.Status{
		Interface: s.socket.Name,
		Backend:   Backend.Name,
		Up:        s.up && !s.closed,
		Outcomes:  s.counter.Outcomes(),
	}
}

func (s *source) Close() error {
	err := s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return err
	}
	s.closed = true
	return errors.Join(err, s.program.close())
}
