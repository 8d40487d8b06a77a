//go:build !linux

package flow

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"
)

// socket receives datagrams, one in a system call.
type socket struct {
	local  net.Addr
	conn   *net.UDPConn
	buffer [largest]byte
	got    int
	from   netip.AddrPort
}

const (
	largest = 65535   // bytes of a datagram
	wanted  = 4 << 20 // bytes of the receive buffer
)

var errInterrupted = os.ErrDeadlineExceeded

func listen(address string, log *slog.Logger) (*socket, error) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	s := &socket{local: conn.LocalAddr(), conn: conn.(*net.UDPConn)}
	if err := s.conn.SetReadBuffer(wanted); err != nil {
		log.Warn("the receive buffer cannot be made larger, bursts may be lost", "wanted", wanted, "error", err)
	}
	return s, nil
}

// receive waits for a datagram.
func (s *socket) receive() (int, error) {
	n, from, err := s.conn.ReadFromUDPAddrPort(s.buffer[:])
	if err != nil {
		return 0, err
	}
	s.got, s.from = n, netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	return 1, nil
}

func (s *socket) datagram(int) ([]byte, netip.AddrPort) { return s.buffer[:s.got], s.from }

func (s *socket) address(asked string) string { return asked }

func (s *socket) interrupt() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

// dropped returns 0: this system does not tell.
func (s *socket) dropped() int64 { return 0 }

func (s *socket) close() error { return s.conn.Close() }
