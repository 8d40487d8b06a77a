//go:build !linux

package watch

import "net"

type subscription = polling

func subscribe() (*subscription, error) { return poll(net.Interfaces), nil }

func (*polling) close() {}

// unreported returns nothing: this is about Linux.
func (*polling) unreported(map[int]device, []int) map[int][]int { return nil }

// addresses returns nothing: no backend of these systems has to know.
func (*polling) addresses() (map[int][][6]byte, error) { return nil, nil }
