package web

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listen returns the listener to serve on: the socket that the service manager passes, or else one for the address. It is nil for None.
func Listen(c Config) (net.Listener, error) {
	if c.Address == None {
		return nil, nil
	}
	passed, err := activation.Listeners()
	switch {
	case err != nil:
		return nil, fmt.Errorf("sockets of the service manager: %w", err)
	case len(passed) == 0:
		return c.Bind()
	case len(passed) > 1 || passed[0] == nil:
		return nil, fmt.Errorf("the service manager passes %d sockets (LISTEN_FDS): expected one that listens, from one ListenStream=", len(passed))
	case c.AddressAsked:
		return nil, fmt.Errorf("%s %q: the service manager passes a socket to serve on, %s: remove one of the two",
			c.AddressFrom, c.Address, passed[0].Addr())
	}
	return passed[0], nil
}

// Bind listens on the address, which is not None.
func (c Config) Bind() (net.Listener, error) {
	_, port, err := c.Split()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", c.Address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = fmt.Errorf("port %s is in use by another program, maybe another promflow (%w)", port, syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("%w: use port 1024 or higher, or add cap_net_bind_service to promflow's capabilities", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", c.AddressFrom, c.Address, err)
	}
	return listener, nil
}

// Split returns the host and the port of the address, which is not None.
func (c Config) Split() (host, port string, err error) {
	if host, port, err = net.SplitHostPort(c.Address); err != nil {
		err = fmt.Errorf("%s %q: expected an address and a port such as :9088 or 127.0.0.1:9088, or %s", c.AddressFrom, c.Address, None)
	}
	return host, port, err
}
