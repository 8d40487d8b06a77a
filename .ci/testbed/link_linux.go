package testbed

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// The ends of the link.
const (
	Sending   = "send0"
	Receiving = "receive0"
)

// Link is a veth pair between two namespaces: packets go in at one end, programs watch what comes out of the other.
type Link struct {
	Sender, Receiver *Namespace
	Index            int // of the interface Receiving
}

// NewLink makes a link whose sender, and with it the path up to the sockets of the receiving end, runs on one processor, and
// the programs at the receiving end on another.
func NewLink(floodCPU, toolCPU int) (*Link, error) {
	sender, err := NewNamespace(floodCPU)
	if err != nil {
		return nil, err
	}
	receiver, err := NewNamespace(toolCPU)
	if err != nil {
		sender.Close()
		return nil, err
	}
	l := &Link{Sender: sender, Receiver: receiver}
	if err := l.connect(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Link) connect() error {
	err := l.Sender.Run("ip", "link", "add", Sending, "type", "veth", "peer", "name", Receiving, "netns", l.Receiver.Proc+"/ns/net")
	if err != nil {
		return err
	}
	if err := l.Sender.Run("ip", "link", "set", Sending, "up"); err != nil {
		return err
	}
	if err := l.Receiver.Run("ip", "link", "set", Receiving, "up"); err != nil {
		return err
	}
	// Without GRO the driver has no queue for XDP frames, and drops them.
	if err := l.Receiver.Run("ethtool", "-K", Receiving, "gro", "on"); err != nil {
		return err
	}
	if err := l.Sender.Do(waitUp); err != nil {
		return err
	}
	return l.Receiver.Do(func() error {
		i, err := net.InterfaceByName(Receiving)
		if err != nil {
			return fmt.Errorf("interface %s: %w", Receiving, err)
		}
		l.Index = i.Index
		return nil
	})
}

// waitUp waits until the sending end sends. A device that was just set up has a queue that drops everything, until the kernel's link
// watch has found the carrier and gives it its own, which it does together with the state.
func waitUp() error {
	const patience = 10 * time.Second
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(time.Millisecond) {
		link, err := netlink.LinkByName(Sending)
		if err != nil {
			return fmt.Errorf("interface %s: %w", Sending, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
	}
	return fmt.Errorf("interface %s is not up after %v", Sending, patience)
}

// Counters are those of the kernel for an end of the link, since it was made.
type Counters struct {
	Received, ReceiveDropped int64 // packets
	Sent, SendDropped        int64
}

// Received gives how many packets have come out of the link.
func (l *Link) Received() (int64, error) {
	c, err := l.Receiver.counters(Receiving)
	return c.Received, err
}

// Counters gives the counters of both ends.
func (l *Link) Counters() (sending, receiving Counters, err error) {
	if sending, err = l.Sender.counters(Sending); err != nil {
		return
	}
	receiving, err = l.Receiver.counters(Receiving)
	return
}

func (n *Namespace) counters(device string) (c Counters, err error) {
	file := n.Proc + "/net/dev"
	text, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("counting packets: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		// NAME: and then bytes, packets, errors, dropped and four more of what was received; the same of what was sent
		name, figures, _ := strings.Cut(line, ":")
		f := strings.Fields(figures)
		if strings.TrimSpace(name) != device || len(f) < 12 {
			continue
		}
		for at, to := range map[int]*int64{1: &c.Received, 3: &c.ReceiveDropped, 9: &c.Sent, 11: &c.SendDropped} {
			if *to, err = strconv.ParseInt(f[at], 10, 64); err != nil {
				return c, fmt.Errorf("%s: %w", file, err)
			}
		}
		return c, nil
	}
	return c, fmt.Errorf("%s has no line for %s", file, device)
}

// Watchers gives how many packet sockets receive what comes out of the link.
func (l *Link) Watchers() (int, error) {
	text, err := os.ReadFile(l.Receiver.Proc + "/net/packet")
	if err != nil {
		return 0, fmt.Errorf("listing packet sockets: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		// sk RefCnt Type Proto Iface R(unning) Rmem User Inode
		if f := strings.Fields(line); len(f) > 5 && f[4] == strconv.Itoa(l.Index) && f[5] == "1" {
			n++
		}
	}
	return n, nil
}

// Page fetches a page of a program at the receiving end.
func (l *Link) Page(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // a page of many hosts takes its time
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DialContext: l.Receiver.Dial, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("%s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), nil
}

// Close removes the link, with its namespaces.
func (l *Link) Close() {
	l.Receiver.Close()
	l.Sender.Close()
}
