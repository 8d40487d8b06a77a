package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture/nettest"
)

// option is an option of a socket that has all that it sends carry more behind the IP header.
type option struct {
	level, name int
	value       string
}

var (
	ipv4Options        = option{unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x01\x01\x01\x01\x00"}
	hopByHopOptions    = option{unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, extension(8)}
	destinationOptions = option{unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, extension(24)}
)

// extension is an extension header of that many bytes, as setsockopt takes it (RFC 3542), with an option of no meaning that
// whoever does not know it skips (RFC 4727).
func extension(size int) string {
	h := make([]byte, size)
	h[1], h[2], h[3] = byte(size/8-1), 0x1e, byte(size-4)
	return string(h)
}

// TestCountsOptions has sockets leave it to the kernel to split what they send, with options and extension headers that each
// packet has.
func TestCountsOptions(t *testing.T) {
	nettest.Need(t, "tcpdump", "ethtool")
	n := newNetwork(t, joinByVeth)
	all := serveEach(t, n.router, "--interface=r0", "--packets", "--monitor-subnets=10.0.0.0/8,fd00::/16")
	file := tcpdump(t, n.server, "s0")
	for _, c := range []struct {
		name, server string
		options      []option
		mergesUDP    bool // with extension headers only before Linux 6.11
	}{
		{"IPv4", "10.2.0.2", nil, true},
		{"IPv4 options", "10.2.0.2", []option{ipv4Options}, true},
		{"IPv6", "fd00:2::2", nil, true},
		{"hop-by-hop options", "fd00:2::2", []option{hopByHopOptions}, false},
		{"destination options", "fd00:2::2", []option{destinationOptions}, false},
		{"both", "fd00:2::2", []option{hopByHopOptions, destinationOptions}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := n.frames(t)
			if err := exchangeTCP(n, c.server, c.options); err != nil {
				t.Fatal(err)
			}
			n.mustHaveMerged(t, before)
			before = n.frames(t)
			if err := sendUDP(n, c.server, c.options); err != nil {
				t.Fatal(err)
			}
			if c.mergesUDP {
				n.mustHaveMerged(t, before)
			}
			all.agree(t, func() (map[string]counts, error) { return onTheWire(t, file) })
		})
	}
}

// exchangeTCP has the client send to the server, and then the server to the client: with IPv6 only, what a server's socket
// accepts takes over its options.
func exchangeTCP(n network, server string, options []option) error {
	const size = 2 << 20
	control := func(_, _ string, c syscall.RawConn) error { return set(c, options) }
	var (
		l              net.Listener
		client, remote net.Conn
	)
	err := n.server.Do(func() (err error) {
		l, err = (&net.ListenConfig{Control: control}).Listen(context.Background(), "tcp", net.JoinHostPort(server, "0"))
		return err
	})
	if err != nil {
		return err
	}
	defer l.Close()
	err = n.client.Do(func() (err error) {
		client, err = (&net.Dialer{Control: control, Timeout: deadline}).Dial("tcp", l.Addr().String())
		return err
	})
	if err != nil {
		return err
	}
	defer client.Close()
	if remote, err = l.Accept(); err != nil {
		return err
	}
	defer remote.Close()
	return errors.Join(move(client, remote, size), move(remote, client, size))
}

// move sends that many bytes from one end of a connection to the other, without ever flooding what is between them.
func move(from, to net.Conn, size int64) error {
	end := time.Now().Add(deadline)
	if err := errors.Join(from.(*net.TCPConn).SetWriteBuffer(64<<10), from.SetDeadline(end), to.SetDeadline(end)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(make([]byte, size))
		sent <- err
	}()
	_, err := io.CopyN(io.Discard, to, size)
	return errors.Join(err, <-sent)
}

// sendUDP has the client send datagrams that it leaves to the kernel to split.
func sendUDP(n network, server string, options []option) error {
	const segment, segments, count = 1200, 30, 10
	var sink net.PacketConn
	err := n.server.Do(func() (err error) {
		sink, err = net.ListenPacket("udp", net.JoinHostPort(server, "0"))
		return err
	})
	if err != nil {
		return err
	}
	defer sink.Close()
	options = append(slices.Clone(options), option{unix.SOL_UDP, unix.UDP_SEGMENT, string(binary.NativeEndian.AppendUint32(nil, segment))})
	control := func(_, _ string, c syscall.RawConn) error { return set(c, options) }
	return n.client.Do(func() error {
		c, err := (&net.Dialer{Control: control}).Dial("udp", sink.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		for range count {
			if _, err := c.Write(make([]byte, segments*segment-1)); err != nil {
				return err
			}
		}
		return nil
	})
}

// set sets options on a socket.
func set(c syscall.RawConn, options []option) error {
	var err error
	control := c.Control(func(fd uintptr) {
		for _, o := range options {
			if e := unix.SetsockoptString(int(fd), o.level, o.name, o.value); e != nil {
				err = fmt.Errorf("option %d of level %d: %w", o.name, o.level, e)
			}
		}
	})
	return errors.Join(control, err)
}
