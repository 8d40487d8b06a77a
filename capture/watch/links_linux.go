package watch

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"promflow/capture"
)

// device is an interface of this machine.
type device struct {
	capture.Interface
	up     bool
	master int // the bridge or bond that it is a port of; 0 is none
	parent int // the device that it sends by, as a VLAN; 0 is none, or one in another network namespace
}

func deviceOf(link netlink.Link) device {
	a := link.Attrs()
	d := device{
		Interface: capture.Interface{
			Name: a.Name, Index: a.Index,
			Ethernet: a.EncapType == "ether" || a.EncapType == "loopback",
			Loopback: a.EncapType == "loopback",
		},
		up:     a.Flags&net.FlagUp != 0,
		master: a.MasterIndex,
	}
	if a.NetNsID < 0 {
		d.parent = a.ParentIndex
	}
	return d
}

// news is what has happened to a device.
type news struct {
	device
	gone bool
}

// subscription has the kernel tell of devices. Its updates end where some were lost, for want of room.
type subscription struct {
	updates <-chan netlink.LinkUpdate
	done    chan struct{}
}

// receiveBuffer is how many bytes of news may wait, if the system allows for that.
const receiveBuffer = 4 << 20

// subscribe is for the network namespace that the calling thread is in.
func subscribe() (*subscription, error) {
	updates := make(chan netlink.LinkUpdate)
	s := &subscription{updates: updates, done: make(chan struct{})}
	err := netlink.LinkSubscribeWithOptions(updates, s.done, netlink.LinkSubscribeOptions{ReceiveBufferSize: receiveBuffer})
	if err != nil {
		return nil, fmt.Errorf("asking the kernel for news of network interfaces: %w", err)
	}
	return s, nil
}

// list gives the devices that are there, by index.
func list() (map[int]device, error) {
	links, err := netlink.LinkList()
	for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 10; tries++ { // they change
		links, err = netlink.LinkList()
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

// newsOf gives what an update says, if that is about a device: bridges tell of their ports by the same messages.
func newsOf(u netlink.LinkUpdate) (news, bool) {
	return news{deviceOf(u.Link), u.Header.Type == unix.RTM_DELLINK}, u.Family == unix.AF_UNSPEC
}

// close ends the subscription, and waits until it has.
func (s *subscription) close() {
	close(s.done)
	for range s.updates {
	}
}
