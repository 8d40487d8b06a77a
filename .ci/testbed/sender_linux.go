package testbed

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Sender sends packets of one's choice over a link, one by one: some hundred thousand a second.
type Sender struct {
	link   *Link
	socket *os.File
	fd     int
}

// NewSender opens a packet socket at the sending end.
func NewSender(l *Link) (*Sender, error) {
	s := &Sender{link: l}
	err := l.Sender.Do(func() error {
		out, err := net.InterfaceByName(Sending)
		if err != nil {
			return err
		}
		// With protocol 0 the socket receives nothing.
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		s.socket = os.NewFile(uintptr(s.fd), "packet socket")
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Ifindex: out.Index})
	})
	if err != nil {
		if s.socket != nil {
			s.socket.Close()
		}
		return nil, fmt.Errorf("opening a packet socket to send from %s: %w", Sending, err)
	}
	return s, nil
}

// Send sends the frames that next gives until it gives none, all of them on the thread, and so the processor, of the sending
// end. Each has left when it returns: the receiving end has had its turn, as it has between the batches of a flood.
func (s *Sender) Send(next func() []byte) error {
	return s.link.Sender.Do(func() error {
		for frame := next(); frame != nil; frame = next() {
			if _, err := unix.Write(s.fd, frame); err != nil {
				return fmt.Errorf("sending a frame of %d bytes: %w", len(frame), err)
			}
		}
		return nil
	})
}

// Close closes the socket.
func (s *Sender) Close() error { return s.socket.Close() }

// AppendFrame appends a frame that has a UDP packet of so many bytes, its IP header included. Both addresses are of one kind.
func AppendFrame(b []byte, from, to netip.Addr, size int) []byte {
	at := len(b)
	b = slices.Grow(b, HeaderSize+size)[:at+HeaderSize+size]
	frame := b[at:]
	clear(frame)
	if from.Is6() {
		from, to := from.As16(), to.As16()
		fill6(frame)
		copy(frame[sourceOffset6:], from[:])
		copy(frame[sourceOffset6+16:], to[:])
		return b
	}
	source, destination := from.As4(), to.As4()
	fill4(frame)
	copy(frame[sourceOffset4:], source[:])
	copy(frame[sourceOffset4+4:], destination[:])
	sum := headerSum(frame) + uint32(binary.BigEndian.Uint16(source[:])) + uint32(binary.BigEndian.Uint16(source[2:]))
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(frame[checksumOffset:], ^uint16(sum&0xffff+sum>>16))
	return b
}
