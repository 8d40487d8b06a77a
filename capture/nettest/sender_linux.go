package nettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sender sends frames on an interface.
type Sender struct {
	fd int
	t  TB
}

// NewSender opens a sender on an interface of the namespace.
func NewSender(t TB, n *Namespace, name string) *Sender {
	t.Helper()
	s := &Sender{t: t}
	err := n.Do(func() error {
		index, err := awaitQueue(name)
		if err != nil {
			return err
		}
		// With protocol 0 the socket receives nothing.
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(s.fd) })
		// A header in front of each frame may ask the kernel to segment it.
		if err := unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Ifindex: index})
	})
	if err != nil {
		t.Fatal(fmt.Errorf("sending on %s: %w", name, err))
	}
	return s
}

// awaitQueue waits until an interface that is up can send. Until the kernel has noticed the carrier, which can take a second, the queue
// noop drops all packets without an error.
func awaitQueue(name string) (index int, err error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return 0, err
		}
		if a := link.Attrs(); a.RawFlags&unix.IFF_UP == 0 || a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown {
			return a.Index, nil
		}
		if time.Now().After(deadline) {
			return 0, errors.New("it has no carrier")
		}
	}
}

// Send sends frames. Each has left when it returns: on the other end of a veth, the kernel has received it.
func (s *Sender) Send(frames ...[]byte) {
	s.t.Helper()
	for _, f := range frames {
		err := s.try(make([]byte, 10), f)
		// With XDP at its other end, a veth has a queue, which may be full.
		for tries := 0; errors.Is(err, unix.ENOBUFS) && tries < 10_000; tries++ {
			time.Sleep(time.Millisecond)
			err = s.try(make([]byte, 10), f)
		}
		Check(s.t, err)
	}
}

// Merged is a merged segment, which the kernel splits into packets.
type Merged struct {
	Frame     []byte
	Kind      byte // VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6 or _UDP_L4
	Size      int  // payload bytes of a segment
	Transport int  // offset of the transport header in Frame
}

// SendMerged sends a merged segment. The kernel splits it if the interface cannot. It returns false if the kernel is too old for merged
// UDP, and sends nothing.
func (s *Sender) SendMerged(m Merged) bool {
	s.t.Helper()
	sum, headers := 16, m.Transport+int(m.Frame[m.Transport+12]>>4)*4 // where TCP has its checksum, and its data offset
	if m.Kind == unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		sum, headers = 6, m.Transport+8
	}
	h := []byte{unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, m.Kind}
	for _, v := range []int{headers, m.Size, m.Transport, sum} {
		h = binary.NativeEndian.AppendUint16(h, uint16(v))
	}
	err := s.try(h, m.Frame)
	if m.Kind == unix.VIRTIO_NET_HDR_GSO_UDP_L4 && errors.Is(err, unix.EINVAL) {
		return false
	}
	Check(s.t, err)
	return true
}

func (s *Sender) try(header, f []byte) error {
	if _, err := unix.Writev(s.fd, [][]byte{header, f}); err != nil {
		return fmt.Errorf("sending a frame of %d bytes: %w", len(f), err)
	}
	return nil
}
