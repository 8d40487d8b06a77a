package web

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenTCP listens on an address, also if this machine does not have it yet.
func listenTCP(a Address) (net.Listener, error) {
	config := net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) (err error) {
		level, option := unix.SOL_IP, unix.IP_FREEBIND
		if network == "tcp6" {
			level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
		}
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), level, option, 1)
			if errors.Is(err, unix.ENOPROTOOPT) { // IPv6 before Linux 4.15
				err = nil
			}
		}), err)
	}}
	return config.Listen(context.Background(), a.Network, a.Address)
}
