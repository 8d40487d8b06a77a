//go:build !linux

package watch

import "net"

type subscription = polling

func subscribe() (*subscription, error) { return poll(net.Interfaces), nil }

func (*polling) close() {}
