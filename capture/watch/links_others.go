//go:build !linux

package watch

import "net"

type subscription = polling

func subscribe() (*subscription, error) { return poll(net.Interfaces), nil }

func (*polling) close() {}

// strangerOn returns nothing: no backend of these systems has to know.
func (*polling) strangerOn(device) (string, error) { return "", nil }
