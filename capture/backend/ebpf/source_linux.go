package ebpf

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/socket"
)

// shared is the program that all sources count with.
type shared struct {
	config  capture.Config
	program *program

	mu     sync.Mutex // of what follows, and of the program against its end
	reader *reader
	taken  []bool // the program's interfaces, by source
	closed bool
}

func open(c capture.Config, interfaces int) (capture.Capture, error) {
	p, err := load(c, interfaces)
	if err != nil {
		return nil, err
	}
	counter := capture.NewCounter(c.Table, c.Monitored, c.Excluded)
	k := &shared{config: c, program: p, reader: newReader(p, counter), taken: make([]bool, interfaces)}
	probe, err := k.Open() // so that who cannot open sources finds out before another backend is left out
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if err := probe.Close(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Keeps is empty but for kernels before 5.19, which forbid all of bpf(2) to who has lost the capability, where others forbid only
// to make something (https://git.kernel.org/linus/c8644cd0efe7).
func (k *shared) Keeps() []string {
	if kernelBefore(5, 19) {
		return []string{"cap_bpf"}
	}
	return nil
}

// Open opens two sockets: which of them is used depends on the interface.
func (k *shared) Open() (capture.Source, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	slot := 0
	for slot < len(k.taken) && k.taken[slot] {
		slot++
	}
	if slot == len(k.taken) {
		return nil, fmt.Errorf("no more than %d interfaces at a time", slot)
	}
	raw, err := openSocket(socket.Raw, k.program.ethernet)
	if err != nil {
		return nil, err
	}
	cooked, err := openSocket(socket.Cooked, k.program.network)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	k.taken[slot] = true
	return &source{shared: k, slot: slot, raw: raw, cooked: cooked, before: k.program.outcomes(slot)}, nil
}

func openSocket(kind socket.Kind, f filter) (*socket.Socket, error) {
	s, err := socket.Open(kind)
	if err != nil {
		return nil, err
	}
	// A socket is charged for its filter, but not for what that goes on to (net.core.optmem_max, 20 KiB before Linux 6.9).
	err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.count.FD())
	if errors.Is(err, unix.ENOMEM) {
		err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.enter.FD())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching a socket filter: %w", err), s.Close())
	}
	return s, nil
}

// Read also makes room for new addresses, if there is none.
func (k *shared) Read() error {
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

func (k *shared) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	return k.program.close()
}

// source is two packet sockets whose filters count, and of which one at most is attached.
type source struct {
	shared      *shared
	slot        int // among the program's interfaces
	raw, cooked *socket.Socket
	before      [frame.Outcomes]capture.OutcomeSize // that an earlier source has counted there

	mu     sync.Mutex // of what follows, and of the sockets against their ends
	index  uint32     // of the interface, where the program has to know that
	last   capture.Status
	closed bool
}

func (s *source) Attach(to capture.Interface) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.detach(); err != nil {
		return err
	}
	k := s.shared
	if k.program.interfaces > 1 {
		s.index = uint32(to.Index)
		if err := k.program.interfaceSlots.Put(s.index, uint32(s.slot)); err != nil {
			return fmt.Errorf("telling the eBPF program of %s: %w", to.Name, err)
		}
	}
	s.Rename(to.Name)
	sock := s.cooked
	if to.Ethernet {
		sock = s.raw
	}
	return sock.Attach(to, k.config.Promiscuous)
}

func (s *source) Rename(name string) {
	if g := s.shared.config.Table.Grouping(); g != nil {
		atomic.StoreUint64(&s.shared.program.interfaceNumbers[s.slot], uint64(g.InterfaceNumber(name)))
	}
}

func (s *source) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.detach()
}

func (s *source) detach() error {
	errs := []error{s.raw.Detach(), s.cooked.Detach()}
	if s.index != 0 {
		errs = append(errs, s.shared.program.release(s.index, s.slot))
		s.index = 0
	}
	return errors.Join(errs...)
}

// Run waits: the kernel counts.
func (s *source) Run(ctx context.Context) error {
	<-ctx.Done()
	return s.stop()
}

// stop ends the capture for good.
func (s *source) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	up := s.up()
	s.closed = true
	err := errors.Join(s.raw.Close(), s.cooked.Close())
	s.last = capture.Status{Up: up, Outcomes: s.outcomes()}
	return err
}

func (s *source) Status() capture.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.last
	}
	return capture.Status{Up: s.up(), Outcomes: s.outcomes()}
}

func (s *source) up() bool { return s.raw.Up() || s.cooked.Up() }

func (s *source) outcomes() [frame.Outcomes]capture.OutcomeSize {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	now := s.shared.program.outcomes(s.slot)
	for o := range now {
		now[o].Packets -= s.before[o].Packets
		now[o].Bytes -= s.before[o].Bytes
	}
	return now
}

func (s *source) Close() error {
	err := s.stop()
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	s.shared.taken[s.slot] = false
	return err
}
