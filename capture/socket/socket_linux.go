package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"promflow/capture"
)

// Kind says where the frames of a socket begin.
type Kind int

const (
	Raw    Kind = unix.SOCK_RAW   // with the link header
	Cooked Kind = unix.SOCK_DGRAM // with the network layer
)

// Socket is a packet socket, attached to one interface at a time. Its methods are safe for concurrent use, but not with Close.
type Socket struct {
	File *os.File // non-blocking, so that waiting for it takes no thread
	FD   int

	mu          sync.Mutex
	index       int // of the interface; 0 is none
	promiscuous bool
	receives    bool // it is bound to a protocol
	receiveOnly bool // PACKET_IGNORE_OUTGOING is set
}

// Open opens a socket in the network namespace of the calling thread. It receives nothing yet.
func Open(kind Kind) (*Socket, error) {
	// With protocol 0 the socket receives nothing until it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, int(kind)|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, os.ErrPermission) {
		return nil, &capture.MissingCapabilityError{Capability: "cap_net_raw", Doing: "opening a packet socket", Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	return &Socket{File: os.NewFile(uintptr(fd), "packet socket"), FD: fd}, nil
}

// Set sets an option of packet(7).
func (s *Socket) Set(name string, option, value int) error {
	err := unix.SetsockoptInt(s.FD, unix.SOL_PACKET, option, value)
	if errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("this kernel lacks %s (%w): %w", name, err, errors.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}

// Attach starts to receive from an interface, and stops to receive from the one before. After it has returned, no packet is missed while
// the interface is up, and on lo each packet comes once. It needs no privilege.
func (s *Socket) Attach(to capture.Interface, promiscuous bool) error {
	return s.attach(to, promiscuous, unix.ETH_P_ALL)
}

// Hold is Attach without receiving anything: the interface may be promiscuous, and Up knows whether it is there. A socket that was attached
// receives again what it received then.
func (s *Socket) Hold(to capture.Interface, promiscuous bool) error {
	return s.attach(to, promiscuous, none)
}

func (s *Socket) attach(to capture.Interface, promiscuous bool, protocol uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.detach(); err != nil {
		return err
	}
	if to.Loopback != s.receiveOnly { // kernels before 4.20 lack the option, and most interfaces do not need it
		value := 0
		if to.Loopback {
			value = 1
		}
		if err := s.Set("PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, value); err != nil {
			return err
		}
		s.receiveOnly = to.Loopback
	}
	if err := s.bind(protocol, to.Index); err != nil {
		return fmt.Errorf("binding a packet socket to %s: %w", to.Name, err)
	}
	s.index, s.receives = to.Index, protocol != none
	if promiscuous {
		if err := s.member(unix.PACKET_ADD_MEMBERSHIP); err != nil {
			return errors.Join(fmt.Errorf("making %s promiscuous: %w", to.Name, err), s.detach())
		}
		s.promiscuous = true
	}
	return nil
}

// Detach stops to receive: no packet arrives after it has returned.
func (s *Socket) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.detach()
}

// none as a protocol leaves it as it was before: the socket was opened with none, and the kernel has no work with it for each packet.
const none = 0

// unused is an EtherType that no frame has, because it would be a length (IEEE 802.3). A socket cannot be unbound, but receives nothing if
// it is bound to this. It is none of the kernel's own numbers, which begin at 1.
const unused = 0x05ff

func (s *Socket) detach() error {
	if s.index == 0 {
		return nil
	}
	var errs []error
	if s.attached() { // else the interface was deleted, and the kernel has detached the socket
		if s.promiscuous {
			errs = append(errs, s.member(unix.PACKET_DROP_MEMBERSHIP))
		}
		if s.receives {
			errs = append(errs, s.bind(unused, s.index))
		}
		for i, err := range errs {
			if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) { // deleted just now
				errs[i] = nil
			}
		}
	}
	s.index, s.promiscuous = 0, false
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detaching a packet socket: %w", err)
	}
	return nil
}

func (s *Socket) bind(protocol uint16, index int) error {
	inNetworkOrder := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	return unix.Bind(s.FD, &unix.SockaddrLinklayer{Protocol: inNetworkOrder, Ifindex: index})
}

func (s *Socket) member(option int) error {
	member := unix.PacketMreq{Ifindex: int32(s.index), Type: unix.PACKET_MR_PROMISC}
	return unix.SetsockoptPacketMreq(s.FD, unix.SOL_PACKET, option, &member)
}

// attached tells whether the socket is bound to the interface: the kernel unbinds it when the interface is deleted.
func (s *Socket) attached() bool {
	address, err := unix.Getsockname(s.FD)
	bound, ok := address.(*unix.SockaddrLinklayer)
	return err == nil && ok && s.index != 0 && bound.Ifindex == s.index
}

// Up tells whether the socket is attached to an interface that exists and is up.
func (s *Socket) Up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.attached() {
		return false
	}
	req, err := unix.NewIfreq("x")
	if err != nil {
		return false
	}
	req.SetUint32(uint32(s.index))
	if unix.IoctlIfreq(s.FD, unix.SIOCGIFNAME, req) != nil || unix.IoctlIfreq(s.FD, unix.SIOCGIFFLAGS, req) != nil {
		return false
	}
	return req.Uint16()&unix.IFF_UP != 0
}

// Err returns and clears the socket's error. ENETDOWN is none: when the interface is up again, the socket receives again.
func (s *Socket) Err() error {
	code, err := unix.GetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if errors.Is(err, unix.ENETDOWN) {
		return nil
	}
	return err
}

// Close closes the socket: no packet arrives after it has returned.
func (s *Socket) Close() error { return s.File.Close() }
