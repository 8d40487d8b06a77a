package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// bindEvery is how often a late listener tries.
const bindEvery = time.Second

// late is a listener at an address that this machine does not have yet, where the system cannot listen before: at a link-local address of
// an interface that does not exist, and on systems without IP_FREEBIND.
type late struct {
	at     netip.AddrPort
	bind   func() (net.Listener, error)
	log    *slog.Logger
	closed chan struct{}

	mu       sync.Mutex
	isClosed bool
	bound    net.Listener // nil until then
	said     string       // the error that the log has
}

// Accept waits for the address, and then for a connection.
func (l *late) Accept() (net.Conn, error) {
	for {
		if bound := l.try(); bound != nil {
			return bound.Accept()
		}
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-time.After(bindEvery):
		}
	}
}

// try returns the bound listener, or nil if the address is not there.
func (l *late) try() net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bound == nil && !l.isClosed {
		var err error
		l.bound, err = l.bind()
		absent := errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EINVAL) // the second one of an interface that is absent
		if said := fmt.Sprint(err); err != nil && !absent && said != l.said {
			l.said = said
			l.log.Error("the address has come, but promflow cannot serve there: it tries on", "error", err)
		}
	}
	return l.bound
}

func (l *late) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isClosed {
		l.isClosed = true
		close(l.closed)
	}
	if l.bound == nil {
		return nil
	}
	return l.bound.Close()
}

func (l *late) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
