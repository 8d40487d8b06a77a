package check

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// links lists all interfaces of this network namespace by name, with one question to the kernel.
func links() (map[string]Link, error) {
	answer, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	var all map[string]Link
	if err == nil {
		all, err = parseLinks(answer)
	}
	if err != nil {
		return nil, fmt.Errorf("listing the network interfaces: %w", err)
	}
	return all, nil
}

// parseLinks parses messages of rtnetlink(7).
func parseLinks(answer []byte) (map[string]Link, error) {
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return nil, err
	}
	all, masters, names := map[string]Link{}, map[string]int{}, map[int]string{}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, err
		}
		flags := binary.NativeEndian.Uint32(m.Data[8:])
		l := Link{
			Index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))),
			Up:    flags&unix.IFF_UP != 0, Carrier: flags&unix.IFF_LOWER_UP != 0,
			Loopback: flags&unix.IFF_LOOPBACK != 0, Promiscuous: flags&unix.IFF_PROMISC != 0,
		}
		master := 0
		for _, a := range attributes {
			switch {
			case a.Attr.Type == unix.IFLA_IFNAME:
				l.Name = unix.ByteSliceToString(a.Value)
			case a.Attr.Type == unix.IFLA_STATS64:
				l.Counters = parseCounters(a.Value)
			case len(a.Value) < 4:
			case a.Attr.Type == unix.IFLA_MTU:
				l.MTU = int(binary.NativeEndian.Uint32(a.Value))
			case a.Attr.Type == unix.IFLA_PROMISCUITY:
				l.Promiscuity = int(binary.NativeEndian.Uint32(a.Value))
			case a.Attr.Type == unix.IFLA_MASTER:
				master = int(binary.NativeEndian.Uint32(a.Value))
			}
		}
		all[l.Name], masters[l.Name], names[l.Index] = l, master, l.Name
	}
	for name, l := range all {
		l.Master = names[masters[name]]
		all[name] = l
	}
	return all, nil
}

// parseCounters parses a struct rtnl_link_stats64 (linux/if_link.h). Old kernels have a shorter one.
func parseCounters(b []byte) (c Counters) {
	for i, field := range map[int]*int64{
		0: &c.RxPackets, 1: &c.TxPackets, 2: &c.RxBytes, 3: &c.TxBytes, 6: &c.RxDropped, 7: &c.TxDropped, 15: &c.RxMissed,
	} {
		if end := 8*i + 8; end <= len(b) {
			*field = int64(binary.NativeEndian.Uint64(b[8*i:]))
		}
	}
	return c
}

// features returns the features of an interface (ethtool -k).
func features(name string) (map[string]bool, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return e.Features(name)
}
