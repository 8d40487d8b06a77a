package ebpf

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/socket"
)

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "ebpf", Capabilities: "cap_net_raw,cap_bpf", Open: open}

// kernelCapture is the Capture of this package: one program, by which all sources count.
type kernelCapture struct {
	config  capture.Config
	counter *capture.Counter

	// moving is held to move sockets to another program, and for reading to use them or the program's counts of them. Closing a socket takes
	// long: many may close at the same time.
	moving sync.RWMutex

	mu      sync.Mutex // guards what follows. program changes only while moving is held, too
	program *program
	reader  *reader
	sources []*source // by number of an interface in the program; nil: the number is free
	closed  bool
}

func open(c capture.Config, interfaces int) (capture.Capture, error) {
	p, err := load(c, interfaces)
	if err != nil {
		return nil, err
	}
	counter := capture.NewCounter(c.Table)
	k := &kernelCapture{config: c, counter: counter, program: p, reader: newReader(p, counter), sources: make([]*source, interfaces)}
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
func (k *kernelCapture) Keeps() (names []string) {
	var needs []cap.Value
	switch {
	case k.config.Changes:
		needs = []cap.Value{cap.BPF, cap.PERFMON}
	case kernelBefore(5, 19):
		needs = []cap.Value{cap.BPF}
	}
	for _, c := range needs {
		if name := grantedBy(c); name != "" {
			names = append(names, name)
		}
	}
	return slices.Compact(names)
}

// Open opens two sockets. The link layer of the interface decides which of them is used.
func (k *kernelCapture) Open() (capture.Source, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	number := slices.Index(k.sources, nil)
	if number < 0 {
		return nil, fmt.Errorf("no more than %d interfaces at a time", len(k.sources))
	}
	raw, err := k.openSocket(socket.Raw, k.program.ethernet)
	if err != nil {
		return nil, err
	}
	cooked, err := k.openSocket(socket.Cooked, k.program.network)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	s := &source{capture: k, number: number, raw: raw, cooked: cooked}
	s.addOutcomes(k.program, -1)
	k.sources[number] = s
	return s, nil
}

func (k *kernelCapture) openSocket(kind socket.Kind, f filter) (*socket.Socket, error) {
	s, err := socket.Open(kind)
	if err != nil {
		return nil, err
	}
	err = attach(s, f)
	if err == nil && !k.config.Changes {
		err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1) // it stays for good, whoever comes by the socket
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// attach attaches a filter to a socket. If the socket has one, the new one takes its place between two packets.
func attach(s *socket.Socket, f filter) error {
	// Before Linux 6.9, a socket is charged for its filter (net.core.optmem_max, 20 KiB), but not for the programs that the filter calls.
	err := unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.count.FD())
	if errors.Is(err, unix.ENOMEM) {
		err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.enter.FD())
	}
	if err != nil {
		return fmt.Errorf("attaching a socket filter: %w", err)
	}
	return nil
}

// Update loads a new program, and moves all sockets to it. Meanwhile there are two, with their maps.
func (k *kernelCapture) Update() error {
	// The eBPF library leaves it to the garbage collector to unmap memory of maps, and until then they stay in the kernel.
	defer runtime.GC()
	next, err := load(k.config, len(k.sources))
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
			err = next.tellInterface(s.index, s.number, now.interfaceNumber(s.number))
		}
	}
	if err != nil {
		return errors.Join(err, next.close())
	}
	if err := k.moveTo(next); err != nil { // some packets may have been counted by the new program
		if back := k.moveTo(now); back != nil {
			return errors.Join(err, back)
		}
		k.retire(next, newReader(next, k.counter))
		return err
	}
	k.retire(now, k.reader)
	k.program, k.reader = next, newReader(next, k.counter)
	return nil
}

// moveTo attaches the filters of a program to all sockets.
func (k *kernelCapture) moveTo(p *program) error {
	for _, s := range k.sources {
		if s == nil || s.closed {
			continue
		}
		if err := errors.Join(attach(s.raw, p.ethernet), attach(s.cooked, p.network)); err != nil {
			return err
		}
	}
	return nil
}

// retire reads the last counts of a program that no socket has any more, and removes it from the kernel.
func (k *kernelCapture) retire(p *program, r *reader) {
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
	capture *kernelCapture
	number  int // of the interface in the program

	mu          sync.Mutex // guards what follows, unless sockets move. It keeps sockets open while they are in use
	raw, cooked *socket.Socket
	index       uint32                              // of the attached interface, if the program tells interfaces apart; else 0
	earlier     [frame.Outcomes]capture.OutcomeSize // of programs before this one, less what other sources have counted by this one
	last        capture.Status                      // once closed
	closed      bool
}

// lock keeps the source's sockets where they are, and returns its end.
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
	if err := s.capture.program.tellInterface(s.index, s.number, s.numberOf(to.Name)); err != nil {
		return fmt.Errorf("%s: %w", to.Name, err)
	}
	sock := s.cooked
	if to.Ethernet {
		sock = s.raw
	}
	return sock.Attach(to, s.capture.config.Promiscuous)
}

// numberOf returns the number that labels have for the name of an interface.
func (s *source) numberOf(name string) uint64 {
	if g := s.capture.config.Table.Grouping(); g != nil {
		return uint64(g.InterfaceNumber(name))
	}
	return 0
}

func (s *source) Rename(name string) {
	defer s.lock()()
	s.capture.program.nameInterface(s.number, s.numberOf(name))
}

func (s *source) Detach() error {
	defer s.lock()()
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
	defer s.lock()()
	if s.closed {
		return nil
	}
	up := s.up()
	s.closed = true
	err := errors.Join(s.raw.Close(), s.cooked.Close())
	s.addOutcomes(s.capture.program, 1)
	s.last = capture.Status{Up: up, Outcomes: s.earlier}
	return err
}

func (s *source) Status() capture.Status {
	defer s.lock()()
	if s.closed {
		return s.last
	}
	is := capture.Status{Up: s.up(), Outcomes: s.earlier}
	addOutcomes(&is.Outcomes, s.capture.program.outcomes(s.number), 1)
	return is
}

func (s *source) up() bool { return s.raw.Up() || s.cooked.Up() }

// addOutcomes adds what a program has counted under the source's number, so many times.
func (s *source) addOutcomes(p *program, times int64) {
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
