package web

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// Address is where a server listens.
type Address struct {
	Network string // of package net: tcp, tcp4 for IPv4 only, tcp6 for IPv6 only, or unix
	Address string // HOST:PORT, or the path of a Unix socket
}

// None as a list of addresses means that nothing is served.
const None = "none"

const (
	unixScheme = "unix://"
	maxPath    = 103 // of BSD and macOS; 107 on Linux (unix(7))
)

// ParseAddresses reads addresses that are separated by commas, each of which counts once. Each is HOST:PORT, where no host is all addresses of this machine, or
// unix:///PATH. None alone is no address.
func ParseAddresses(list string) (all []Address, err error) {
	if strings.TrimSpace(list) == None {
		return nil, nil
	}
	add := func(a Address) {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		if path, ok := strings.CutPrefix(text, unixScheme); ok {
			if !strings.HasPrefix(path, "/") {
				return nil, fmt.Errorf("%q: expected the path of a Unix socket such as unix:///run/promflow.sock", text)
			}
			if len(path) > maxPath {
				return nil, fmt.Errorf("%q: the path of a Unix socket has at most %d bytes", text, maxPath)
			}
			add(Address{"unix", path})
			continue
		}
		host, port, err := net.SplitHostPort(text)
		number, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil {
			return nil, fmt.Errorf("%q: expected an address and a port such as :9088 or 127.0.0.1:9088, unix:///PATH, or %s", text, None)
		}
		a := Address{"tcp", net.JoinHostPort(host, strconv.FormatUint(number, 10))}
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
			a.Network = "tcp4"
		} else if err == nil {
			a.Network = "tcp6"
		}
		add(a)
	}
	return all, nil
}

// join is the list that ParseAddresses reads.
func join(all []Address) string {
	var texts []string
	for _, a := range all {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ",")
}

// String is what ParseAddresses reads.
func (a Address) String() string {
	if a.Network == "unix" {
		return unixScheme + a.Address
	}
	return a.Address
}

// Local returns the network and the address that a client on this machine dials.
func (a Address) Local() (network, address string) {
	if a.Network == "unix" {
		return a.Network, a.Address
	}
	host, port, _ := net.SplitHostPort(a.Address) // ParseAddresses has done it before
	switch ip := net.ParseIP(host); {
	case host == "", ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	return "tcp", net.JoinHostPort(host, port)
}

// Listen returns a listener for the sockets that the service manager passes, or else for the addresses. It is nil if nothing is served.
func Listen(c Config, log *slog.Logger) (net.Listener, error) {
	if len(c.Addresses) == 0 {
		return nil, nil
	}
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of the service manager: %w", err)
	}
	for _, l := range passed {
		switch {
		case l == nil:
			return nil, errors.New("the service manager passes a socket that does not listen (LISTEN_FDS): expected those of ListenStream= only")
		case c.AddressAsked:
			return nil, fmt.Errorf("%s %q: the service manager passes a socket to serve on, %s: remove one of the two",
				c.AddressFrom, join(c.Addresses), l.Addr())
		}
	}
	if len(passed) > 0 {
		return merge(passed), nil
	}
	var bound []net.Listener
	for _, a := range c.Addresses {
		l, err := c.bind(a)
		if at, absent := a.absent(); absent {
			log.Warn("this machine does not have the address yet: promflow serves there as soon as it does", "address", a)
			if err != nil && !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
				l, err = &late{at: at, bind: func() (net.Listener, error) { return c.bind(a) }, log: log, closed: make(chan struct{})}, nil
			}
		}
		if err != nil {
			for _, l := range bound {
				l.Close()
			}
			return nil, err
		}
		bound = append(bound, l)
	}
	return merge(bound), nil
}

// bind listens on an address.
func (c Config) bind(a Address) (net.Listener, error) {
	if a.Network == "unix" {
		return c.bindSocket(a)
	}
	l, err := listenTCP(a)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(a.Address)
		err = fmt.Errorf("port %s is in use by another program, maybe another promflow (%w)", port, syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("%w: use port 1024 or higher, or add cap_net_bind_service to promflow's capabilities", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", c.AddressFrom, a, err)
	}
	return l, nil
}

// bindSocket listens on a Unix socket. A socket file that an earlier promflow has left is replaced.
func (c Config) bindSocket(a Address) (net.Listener, error) {
	l, err := net.Listen("unix", a.Address)
	if errors.Is(err, syscall.EADDRINUSE) {
		if conn, dialErr := net.Dial("unix", a.Address); dialErr == nil {
			conn.Close()
			return nil, fmt.Errorf("%s %q: another program serves there, maybe another promflow (%w)", c.AddressFrom, a, syscall.EADDRINUSE)
		} else if isSocket(a.Address) && errors.Is(dialErr, syscall.ECONNREFUSED) && os.Remove(a.Address) == nil {
			l, err = net.Listen("unix", a.Address)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", c.AddressFrom, a, err)
	}
	err = os.Chmod(a.Address, c.SocketMode)
	if err == nil && c.SocketOwner != nil {
		err = c.SocketOwner(a.Address)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("%s %q: %w", c.AddressFrom, a, err)
	}
	return l, nil
}

// isSocket tells a socket from another file, to which connect(2) answers ECONNREFUSED, too.
func isSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

// ParseSocketMode reads permissions in octal, such as 0660.
func ParseSocketMode(text string) (fs.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, errors.New("expected permissions in octal such as 0660")
	}
	return fs.FileMode(mode), nil
}

// Try listens on an address for a moment. It returns an error if that fails; it is EADDRNOTAVAIL if the address may come later.
func (c Config) Try(a Address) error {
	l, err := c.bind(a)
	if err == nil {
		err = l.Close()
	}
	if _, absent := a.absent(); absent && !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("%s %q: %w", c.AddressFrom, a, syscall.EADDRNOTAVAIL)
	}
	return err
}

// absent tells whether the address is an IP address that this machine does not have, and returns it.
func (a Address) absent() (netip.AddrPort, bool) {
	at, err := netip.ParseAddrPort(a.Address)
	if err != nil || at.Addr().IsUnspecified() || at.Addr().IsLoopback() {
		return at, false
	}
	var addresses []net.Addr
	if zone := at.Addr().Zone(); zone == "" {
		addresses, err = net.InterfaceAddrs()
	} else if i, noInterface := net.InterfaceByName(zone); noInterface == nil {
		addresses, err = i.Addrs()
	}
	for _, has := range addresses {
		if p, err := netip.ParsePrefix(has.String()); err == nil && p.Addr() == at.Addr().WithZone("") {
			return at, false
		}
	}
	return at, err == nil
}
