package web

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestLateListener listens at an address that comes with the second attempt, or never.
func TestLateListener(t *testing.T) {
	at, tries := netip.MustParseAddrPort("192.0.2.1:9088"), 0
	newLate := func(comes bool) *late {
		return &late{at: at, log: slog.New(slog.DiscardHandler), closed: make(chan struct{}), bind: func() (net.Listener, error) {
			if tries++; tries == 1 || !comes {
				return nil, errors.New("not yet")
			}
			return net.Listen("tcp", "127.0.0.1:0")
		}}
	}
	for _, comes := range []bool{true, false} {
		l := newLate(comes)
		ended := make(chan error)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					ended <- err
					return
				}
				c.Close()
			}
		}()
		for comes {
			l.mu.Lock()
			bound := l.bound
			l.mu.Unlock()
			if bound == nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			c, err := net.Dial("tcp", bound.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			break
		}
		if got := l.Addr().String(); got != at.String() {
			t.Errorf("the address is %s, want %s", got, at)
		}
		for range 2 { // the server closes it twice
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("comes: %v: %v", comes, err)
		}
	}
}
