package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"promflow/capture"
)

// Socket is a packet socket for one interface. Check belongs to one goroutine; the other methods are safe for concurrent
// use, but not with Close.
type Socket struct {
	Name     string   // of the interface
	Ethernet bool     // frames begin with an Ethernet header
	Loopback bool     // what is sent comes back as received
	File     *os.File // the socket; in Go's poller, so that waiting for it takes no thread
	FD       int

	index   int // of the interface
	log     *slog.Logger
	down    bool // as was logged last; Check's
	logGone sync.Once
}

// Open makes a socket for an interface of the network namespace that the calling thread is in. It receives nothing yet. If
// there is no Ethernet header and cooked is set, what it receives begins at the network layer.
func Open(name string, cooked bool, log *slog.Logger) (*Socket, error) {
	s, err := open(name, unix.SOCK_RAW, log)
	if err != nil || s.Ethernet || !cooked {
		return s, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return open(name, unix.SOCK_DGRAM, log)
}

func open(name string, kind int, log *slog.Logger) (*Socket, error) {
	// With protocol 0 the socket receives nothing, from any interface, until it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, os.ErrPermission) {
		return nil, &capture.MissingCapabilityError{Capability: "cap_net_raw", Doing: "opening a packet socket", Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	s := &Socket{Name: name, File: os.NewFile(uintptr(fd), "packet socket"), FD: fd, log: log}
	if err := s.identify(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// identify looks the interface up in the socket's network namespace.
func (s *Socket) identify() error {
	req, err := unix.NewIfreq(s.Name)
	if err != nil {
		return fmt.Errorf("interface name %q: %w", s.Name, err)
	}
	if err := unix.IoctlIfreq(s.FD, unix.SIOCGIFINDEX, req); err != nil {
		return fmt.Errorf("interface %s: %w", s.Name, err)
	}
	s.index = int(req.Uint32())
	if err := unix.IoctlIfreq(s.FD, unix.SIOCGIFHWADDR, req); err != nil {
		return fmt.Errorf("link layer of %s: %w", s.Name, err)
	}
	arphrd := req.Uint16() // the family of the hardware address
	s.Loopback = arphrd == unix.ARPHRD_LOOPBACK
	s.Ethernet = arphrd == unix.ARPHRD_ETHER || s.Loopback
	return nil
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

// Bind begins to receive: from its return on, nothing is missed, and on lo nothing comes twice.
func (s *Socket) Bind(promiscuous bool) error {
	if s.Loopback {
		if err := s.Set("PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
	}
	protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := unix.Bind(s.FD, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: s.index}); err != nil {
		return fmt.Errorf("binding a packet socket to %s: %w", s.Name, err)
	}
	if promiscuous {
		member := unix.PacketMreq{Ifindex: int32(s.index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(s.FD, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &member); err != nil {
			return fmt.Errorf("making %s promiscuous: %w", s.Name, err)
		}
	}
	return nil
}

// Check looks for an error of the socket, and logs when the interface goes down and is up again: a socket outlives that.
func (s *Socket) Check() error {
	code, err := unix.GetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil && !errors.Is(err, unix.ENETDOWN) {
		return fmt.Errorf("capturing on %s: %w", s.Name, err)
	}
	if err != nil && !s.down {
		s.log.Warn("interface is down", "interface", s.Name)
		s.down = true
	}
	if s.down && s.Up() {
		s.log.Info("interface is up again", "interface", s.Name)
		s.down = false
	}
	return nil
}

// Up tells whether the interface is there, and up. That it has been deleted is logged: the kernel has then unbound the socket,
// and told nobody who knew it to be down already.
func (s *Socket) Up() bool {
	address, err := unix.Getsockname(s.FD)
	bound, ok := address.(*unix.SockaddrLinklayer)
	if err != nil || !ok || bound.Ifindex != s.index {
		s.logGone.Do(func() {
			s.log.Warn("interface was deleted: restart promflow once it is back", "interface", s.Name)
		})
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

// Close ends the capture: after its return nothing is received any more.
func (s *Socket) Close() error { return s.File.Close() }
