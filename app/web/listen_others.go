//go:build !linux

package web

import "net"

// listenTCP listens on an address, which this machine must have.
func listenTCP(a Address) (net.Listener, error) { return net.Listen(a.Network, a.Address) }
