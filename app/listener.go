package app

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// openListener gives the socket to serve on: the one that a service manager listens on for promflow, or else that of --metrics-address.
func (c *config) openListener() (net.Listener, error) {
	passed, err := activation.Listeners()
	switch {
	case err != nil:
		return nil, fmt.Errorf("sockets of the service manager: %w", err)
	case len(passed) == 0:
		return listen(c.metricsAddress, c.said("metrics-address"))
	case len(passed) > 1 || passed[0] == nil:
		return nil, fmt.Errorf("the service manager passes %d sockets (LISTEN_FDS): expected one that listens, as with one ListenStream= in a socket unit", len(passed))
	case c.asked("metrics-address"):
		return nil, fmt.Errorf("%s %q: the service manager passes a socket to serve on, %s: leave one of both out",
			c.said("metrics-address"), c.metricsAddress, passed[0].Addr())
	}
	return passed[0], nil
}

// listen binds the address that said told.
func listen(address, said string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, badAddress(said, address)
	}
	listener, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &inUse{fmt.Sprintf("%s %q: port %s is in use by another program, maybe another promflow", said, address, port)}
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %q: %w: take port 1024 or higher, or add cap_net_bind_service to promflow's capabilities", said, address, err)
	case err != nil:
		return nil, fmt.Errorf("%s %q: %w", said, address, err)
	}
	return listener, nil
}

func badAddress(said, address string) error {
	return fmt.Errorf("%s %q: expected an address and a port such as :9088 or 127.0.0.1:9088, or %s", said, address, noListener)
}

// inUse is EADDRINUSE in other words.
type inUse struct{ text string }

func (e *inUse) Error() string { return e.text }

func (e *inUse) Unwrap() error { return syscall.EADDRINUSE }
