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
			MTU:      a.MTU,
		},
		altNames: a.AltNames,
		kind:     link.Type(),
		up:       a.Flags&net.FlagUp != 0,
		master:   a.MasterIndex,
	}
	if len(a.HardwareAddr) == len(d.Address) {
		copy(d.Address[:], a.HardwareAddr)
	}
	if tun, ok := link.(*netlink.Tuntap); ok && tun.Mode == netlink.TUNTAP_MODE_TUN {
		d.Ethernet = false // whatever its type (TUNSETLINK): the kernel neither reads nor writes a link header there
	}
	switch link.Type() {
	case "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "veth", "netkit", "dsa": // not a tunnel: it sends other packets than it has itself
		if a.NetNsID < 0 {
			d.parent, d.below = a.ParentIndex, a.ParentIndex
		}
	case "macsec":
		if a.NetNsID < 0 {
			d.below = a.ParentIndex
		}
	}
	return d
}

// subscription has the kernel's reports of devices. The channel is closed when the receive buffer was full.
type subscription struct {
	handle  *netlink.Handle // for requests
	updates <-chan netlink.LinkUpdate
	done    chan struct{}
}

// receiveBuffer is the size of the receive buffer, if the system allows it.
const receiveBuffer = 4 << 20

// subscribe subscribes in the network namespace of the calling thread.
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
		return nil, fmt.Errorf("subscribing to reports of network interfaces: %w", err)
	}
	return s, nil
}

// list returns the devices that exist, by index. The list may be incomplete if devices change all the time.
func (s *subscription) list() (map[int]device, error) {
	links, err := s.handle.LinkList()
	for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 10; tries++ {
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

// newsOf returns the report of an update, or none if it is about something else: bridges send such messages of their ports. The report is of
// the device as it is now, because the update may be older than what the last list had.
func (s *subscription) newsOf(u netlink.LinkUpdate) ([]news, error) {
	if u.Family != unix.AF_UNSPEC {
		return nil, nil
	}
	n := news{device: deviceOf(u.Link)}
	link, err := s.handle.LinkByIndex(n.Index)
	switch {
	case errors.As(err, &netlink.LinkNotFoundError{}):
		n.gone = true
	case err != nil:
		return nil, fmt.Errorf("reading the state of interface %s: %w", n.Name, err)
	default:
		n.device = deviceOf(link)
		n.anew = u.Header.Type == unix.RTM_DELLINK
	}
	return []news{n}, nil
}

// addresses returns the MAC addresses that each device takes frames to, besides groups: its own, and those of others, such as a macvlan device
// that is in another network namespace by now.
func (s *subscription) addresses() (map[int][][6]byte, error) {
	entries, err := s.handle.NeighList(0, unix.AF_BRIDGE) // the forwarding database, as bridge(8) calls it
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing the MAC addresses of interfaces: %w", err)
	}
	all := map[int][][6]byte{}
	for _, e := range entries {
		const group = 1 // the bit of multicast and broadcast
		if a := e.HardwareAddr; e.Flags&netlink.NTF_SELF != 0 && len(a) == 6 && a[0]&group == 0 {
			all[e.LinkIndex] = append(all[e.LinkIndex], [6]byte(a))
		}
	}
	return all, nil
}

// close ends the subscription, and waits for its end.
func (s *subscription) close() {
	close(s.done)
	for range s.updates {
	}
	s.handle.Close()
}
