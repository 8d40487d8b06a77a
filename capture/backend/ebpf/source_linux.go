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

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "ebpf", Capabilities: "cap_net_raw,cap_bpf", Open: open}

// kernelCapture is the Capture of this package: one program, by which all sources count.
type kernelCapture struct {
	config  capture.Config
	program *program

	mu     sync.Mutex // guards what follows, and keeps Close from ending the program while it is in use
	reader *reader
	taken  []bool // by number of an interface in the program: whether a source has it
	closed bool
}

func open(c capture.Config, interfaces int) (capture.Capture, error) {
	p, err := load(c, interfaces)
	if err != nil {
		return nil, err
	}
	counter := capture.NewCounter(c.Table, c.Monitored, c.Excluded)
	k := &kernelCapture{config: c, program: p, reader: newReader(p, counter), taken: make([]bool, interfaces)}
	probe, err := k.Open() // if this process cannot open sources, another backend has to be tried now
	if err == nil {
		err = probe.Close()
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Keeps returns no capability from Linux 5.19 on: those kernels forbid a process without CAP_BPF only to create something. Older ones
// forbid it all of bpf(2) (https://git.kernel.org/linus/c8644cd0efe7).
func (k *kernelCapture) Keeps() []string {
	if kernelBefore(5, 19) {
		return []string{"cap_bpf"}
	}
	return nil
}

// Open opens two sockets. The link layer of the interface decides which of them is used.
func (k *kernelCapture) Open() (capture.Source, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	number := 0
	for number < len(k.taken) && k.taken[number] {
		number++
	}
	if number == len(k.taken) {
		return nil, fmt.Errorf("no more than %d interfaces at a time", number)
	}
	raw, err := openSocket(socket.Raw, k.program.ethernet)
	if err != nil {
		return nil, err
	}
	cooked, err := openSocket(socket.Cooked, k.program.network)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	k.taken[number] = true
	return &source{capture: k, number: number, raw: raw, cooked: cooked, before: k.program.outcomes(number)}, nil
}

func openSocket(kind socket.Kind, f filter) (*socket.Socket, error) {
	s, err := socket.Open(kind)
	if err != nil {
		return nil, err
	}
	// Before Linux 6.9, a socket is charged for its filter (net.core.optmem_max, 20 KiB), but not for the programs that the filter calls.
	err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.count.FD())
	if errors.Is(err, unix.ENOMEM) {
		err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.enter.FD())
	}
	if err == nil {
		err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1) // it stays for good, whoever comes by the socket
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching a socket filter: %w", err), s.Close())
	}
	return s, nil
}

// Read also takes back slots of expired addresses, if new ones find no free slot.
func (k *kernelCapture) Read() error {
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

func (k *kernelCapture) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	return k.program.close()
}

// source is two packet sockets whose filters count. At most one of them is attached.
type source struct {
	capture     *kernelCapture
	number      int // of the interface in the program
	raw, cooked *socket.Socket
	before      [frame.Outcomes]capture.OutcomeSize // what earlier sources have counted under this number

	mu     sync.Mutex     // guards what follows, and keeps stop from closing the sockets while they are in use
	index  uint32         // of the attached interface, if the program tells interfaces apart; else 0
	last   capture.Status // once closed
	closed bool
}

func (s *source) Attach(to capture.Interface) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.detach(); err != nil {
		return err
	}
	k := s.capture
	if k.program.interfaces > 1 {
		s.index = uint32(to.Index)
		if err := k.program.interfaceSlots.Put(s.index, uint32(s.number)); err != nil {
			return fmt.Errorf("telling the eBPF program about %s: %w", to.Name, err)
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
	if g := s.capture.config.Table.Grouping(); g != nil {
		atomic.StoreUint64(&s.capture.program.interfaceNumbers[s.number], uint64(g.InterfaceNumber(name)))
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
	s.capture.mu.Lock()
	defer s.capture.mu.Unlock()
	now := s.capture.program.outcomes(s.number)
	for o := range now {
		now[o].Packets -= s.before[o].Packets
		now[o].Bytes -= s.before[o].Bytes
	}
	return now
}

func (s *source) Close() error {
	err := s.stop()
	s.capture.mu.Lock()
	defer s.capture.mu.Unlock()
	s.capture.taken[s.number] = false
	return err
}
