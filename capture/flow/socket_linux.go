package flow

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket receives datagrams, many in one system call. It is not the Go runtime that waits for them: that would wake up for each, and wait for
// nothing else to come.
type socket struct {
	local net.Addr
	fd    int
	end   int            // an eventfd that ends the wait
	waits [2]unix.PollFd // for both
	roomy bool           // its buffer has room for what arrives during a pause

	messages [perCall]message
	names    [perCall]unix.RawSockaddrInet6 // has room for IPv4
	vectors  [perCall]unix.Iovec
	buffers  []byte
	got      int // datagrams, the last time

	interrupted atomic.Bool
	until       time.Time // the end, once it is interrupted

	mu     sync.Mutex
	closed bool
	drops  uint32 // of the kernel, modulo 2^32
	lost   int64
}

const (
	perCall     = 64
	largest     = 65535 // bytes of a datagram
	wanted      = 64 << 20
	enough      = 4 << 20
	drainFor    = time.Second // a full buffer takes a part of that
	memInfoLen  = 9           // of SO_MEMINFO
	memInfoDrop = 8           // SK_MEMINFO_DROPS (include/uapi/linux/sock_diag.h)
)

var pause = unix.Timespec{Nsec: 1_000_000}

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	unix.Msghdr
	length uint32
}

var errInterrupted = errors.New("interrupted")

// listen binds an address. A large receive buffer takes memory only while datagrams wait in it.
func listen(address string, log *slog.Logger) (*socket, error) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{local: conn.LocalAddr(), buffers: make([]byte, perCall*largest)}
	failed := raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	if s.end, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("making an eventfd: %w", err), unix.Close(s.fd))
	}
	s.waits = [2]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.end), Events: unix.POLLIN}}
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, wanted) != nil { // it needs CAP_NET_ADMIN
		err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, wanted) // the kernel reduces it to rmem_max
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("setting the receive buffer: %w", err), s.close())
	}
	size, _ := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if s.roomy = size >= enough; !s.roomy {
		log.Warn("the receive buffer is small, bursts may be lost: raise net.core.rmem_max with sysctl, or give promflow CAP_NET_ADMIN",
			"bytes", size, "wanted", wanted)
	}
	for i := range s.messages {
		s.vectors[i].Base = &s.buffers[i*largest]
		s.vectors[i].SetLen(largest)
		m := &s.messages[i]
		m.Iov = &s.vectors[i]
		m.SetIovlen(1)
		m.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	}
	s.got = perCall // so that all lengths of names are set
	return s, nil
}

// receive waits for datagrams, and returns how many there are. It takes much longer to wake up than to receive a datagram. So if there were
// few the last time, it lets some more arrive first.
func (s *socket) receive() (int, error) {
	for {
		switch {
		case s.interrupted.Load():
			// What has arrived until the interrupt counts. More may come all the time.
			if s.until.IsZero() {
				s.until = time.Now().Add(drainFor)
			}
			if !time.Now().Before(s.until) {
				return 0, errInterrupted
			}
		case s.got < perCall && s.roomy:
			_ = unix.Nanosleep(&pause, nil) // a shorter one does no harm
		}
		for i := range s.got {
			s.messages[i].Namelen = unix.SizeofSockaddrInet6
		}
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.messages)), perCall, unix.MSG_DONTWAIT, 0, 0)
		switch s.got = 0; errno {
		case 0:
			s.got = int(n)
			return s.got, nil
		case unix.EAGAIN:
			if err := s.wait(); err != nil {
				return 0, err
			}
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("receiving datagrams: %w", errno)
		}
	}
}

// wait waits until there are datagrams. It returns errInterrupted if there are none and interrupt was called.
func (s *socket) wait() error {
	for {
		_, err := unix.Poll(s.waits[:], -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for datagrams: %w", err)
		case s.waits[0].Revents != 0:
			return nil
		default:
			return errInterrupted
		}
	}
}

// datagram returns one of those that receive has received, until it is called again.
func (s *socket) datagram(i int) ([]byte, netip.AddrPort) {
	data := s.buffers[i*largest:][:s.messages[i].length]
	name := &s.names[i]
	port := (*[2]byte)(unsafe.Pointer(&name.Port))
	from := netip.Addr{}
	if name.Family == unix.AF_INET {
		from = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	} else {
		from = netip.AddrFrom16(name.Addr).Unmap()
	}
	return data, netip.AddrPortFrom(from, uint16(port[0])<<8|uint16(port[1]))
}

// address returns the address that it listens at, if the one that was asked for leaves the port to the system.
func (s *socket) address(asked string) string {
	if _, port, _ := net.SplitHostPort(asked); port == "0" {
		return s.local.String()
	}
	return asked
}

// interrupt has receive return what has arrived, and then errInterrupted.
func (s *socket) interrupt() {
	_, _ = unix.Write(s.end, []byte{7: 1}) // not 0, in any byte order; before the reader can end
	s.interrupted.Store(true)
}

// dropped returns how many datagrams the kernel has dropped, for lack of room in most cases. It is what SO_RXQ_OVFL reports with the next
// datagram, but also when none comes.
func (s *socket) dropped() int64 {
	var info [memInfoLen]uint32
	size := uint32(unsafe.Sizeof(info))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.lost
	}
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno == 0 {
		s.lost += int64(info[memInfoDrop] - s.drops)
		s.drops = info[memInfoDrop]
	}
	return s.lost
}

func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return errors.Join(unix.Close(s.fd), unix.Close(s.end))
}
