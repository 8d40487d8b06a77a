package watch

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"promflow/capture"
)

func deviceOf(link netlink.Link) device {
	a := link.Attrs()
	d := device{
		Interface: capture.Interface{
			Name: a.Name, Index: a.Index,
			Ethernet: a.EncapType == "ether" || a.EncapType == "loopback",
			Loopback: a.Flags&net.FlagLoopback != 0,
		},
		up:     a.Flags&net.FlagUp != 0,
		master: a.MasterIndex,
	}
	if tun, ok := link.(*netlink.Tuntap); ok && tun.Mode == netlink.TUNTAP_MODE_TUN {
		d.Ethernet = false // whatever type was set (TUNSETLINK): the kernel neither reads nor writes a link header there
	}
	switch link.Type() {
	case "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "veth", "dsa": // a tunnel's packets are others than those that it sends
		if a.NetNsID < 0 {
			d.parent = a.ParentIndex
		}
	}
	return d
}

// subscription has the kernel tell of devices. Its updates end where some were lost, for want of room.
type subscription struct {
	handle  *netlink.Handle // for questions
	updates <-chan netlink.LinkUpdate
	done    chan struct{}
}

// receiveBuffer is how many bytes of news may wait, if the system allows for that.
const receiveBuffer = 4 << 20

// subscribe is for the network namespace that the calling thread is in.
func subscribe() (*subscription, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	updates := make(chan netlink.LinkUpdate)
	s := &subscription{handle: handle, updates: updates, done: make(chan struct{})}
	err = netlink.LinkSubscribeWithOptions(updates, s.done, netlink.LinkSubscribeOptions{ReceiveBufferSize: receiveBuffer})
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("asking the kernel for news of network interfaces: %w", err)
	}
	return s, nil
}

// list gives the devices that are there, by index.
func (s *subscription) list() (map[int]device, error) {
	links, err := s.handle.LinkList()
	for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 10; tries++ { // they change
		links, err = s.handle.LinkList()
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing the network interfaces: %w", err)
	}
	devices := map[int]device{}
	for _, link := range links {
		devices[link.Attrs().Index] = deviceOf(link)
	}
	return devices, nil
}

// newsOf gives what has become of the device of an update; ok is false if it is about something else, as bridges tell of their ports
// by the same messages. What a device is now is asked for: the update may be older than the list that it is known from.
func (s *subscription) newsOf(u netlink.LinkUpdate) (n news, ok bool, err error) {
	n.device = deviceOf(u.Link)
	if u.Family != unix.AF_UNSPEC {
		return n, false, nil
	}
	link, err := s.handle.LinkByIndex(n.Index)
	switch {
	case errors.As(err, &netlink.LinkNotFoundError{}):
		n.gone = true
	case err != nil:
		return n, false, fmt.Errorf("asking for interface %s: %w", n.Name, err)
	default:
		n.device = deviceOf(link)
		n.anew = u.Header.Type == unix.RTM_DELLINK
	}
	return n, true, nil
}

// close ends the subscription, and waits until it has.
func (s *subscription) close() {
	close(s.done)
	for range s.updates {
	}
	s.handle.Close()
}
