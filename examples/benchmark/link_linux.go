package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// The ends of the link.
const (
	sending   = "send0"
	receiving = "receive0"
)

// link is a veth pair between two namespaces: the flood goes in at one end, the tools watch what comes out of the other.
type link struct {
	sender, receiver *namespace
	index            int // of the interface receiving
}

// newLink makes a link whose sender, and with it the path up to the sockets of the receiving end, runs on one processor, and
// the programs at the receiving end on another.
func newLink(floodCPU, toolCPU int) (*link, error) {
	sender, err := newNamespace(floodCPU)
	if err != nil {
		return nil, err
	}
	receiver, err := newNamespace(toolCPU)
	if err != nil {
		sender.close()
		return nil, err
	}
	l := &link{sender: sender, receiver: receiver}
	if err := l.connect(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *link) connect() error {
	err := l.sender.run("ip", "link", "add", sending, "type", "veth", "peer", "name", receiving, "netns", l.receiver.proc+"/ns/net")
	if err != nil {
		return err
	}
	if err := l.sender.run("ip", "link", "set", sending, "up"); err != nil {
		return err
	}
	if err := l.receiver.run("ip", "link", "set", receiving, "up"); err != nil {
		return err
	}
	// Without GRO the driver has no queue for XDP frames, and drops them.
	if err := l.receiver.run("ethtool", "-K", receiving, "gro", "on"); err != nil {
		return err
	}
	return l.receiver.do(func() error {
		i, err := net.InterfaceByName(receiving)
		if err != nil {
			return fmt.Errorf("interface %s: %w", receiving, err)
		}
		l.index = i.Index
		return nil
	})
}

// received gives how many packets have come out of the link.
func (l *link) received() (int64, error) {
	file := l.receiver.proc + "/net/dev"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("counting packets: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		// NAME: BYTES PACKETS ...
		if name, figures, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == receiving {
			if f := strings.Fields(figures); len(f) > 1 {
				return strconv.ParseInt(f[1], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("%s has no line for %s", file, receiving)
}

// watchers gives how many packet sockets receive what comes out of the link.
func (l *link) watchers() (int, error) {
	text, err := os.ReadFile(l.receiver.proc + "/net/packet")
	if err != nil {
		return 0, fmt.Errorf("listing packet sockets: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		// sk RefCnt Type Proto Iface R(unning) Rmem User Inode
		if f := strings.Fields(line); len(f) > 5 && f[4] == strconv.Itoa(l.index) && f[5] == "1" {
			n++
		}
	}
	return n, nil
}

// close removes the link, with its namespaces.
func (l *link) close() {
	l.receiver.close()
	l.sender.close()
}
