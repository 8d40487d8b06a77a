package check

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/driver"
	"promflow/capture/socket"
)

// addDrops adds to links that are wanted what their drivers tell of frames that XDP has dropped.
func addDrops(all map[string]Link, wanted func(name string) bool) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	for name, l := range all {
		if !wanted(name) {
			continue
		}
		statistics, _ := e.Stats(name) // of drivers that have some
		dropped, known := xdpDrops(statistics)
		l.Driver, l.Counters.RxXDP = driverOf(e, name), dropped
		if l.Drops = dropsOf[l.Driver]; l.Drops == noDrops || l.Drops == dropsApart && !known {
			l.Drops = dropsUnknown
		}
		all[name] = l
	}
	return nil
}

// driverOf returns the name of an interface's driver, or nothing.
func driverOf(e *ethtool.Ethtool, name string) string {
	driver, _ := e.DriverName(name)
	return driver
}

// hasXDP tells whether the driver of an interface has XDP of its own, as far as the kernel or its name tells.
func hasXDP(l Link) bool {
	features, err := driver.FeaturesOf(l.Index)
	if errors.Is(err, errors.ErrUnsupported) {
		e, err := ethtool.NewEthtool()
		if err != nil {
			return false
		}
		defer e.Close()
		return slices.Contains(xdpSince510, driverOf(e, l.Name))
	}
	return err == nil && features.XDP
}

// listener counts for a short time what arrives on an interface, and what of that is for other machines. It keeps no packet.
type listener struct {
	link             Link
	arriving, others *socket.Socket
}

// listen opens a listener for each link where XDP could drop what is for other machines: nothing else may need that. It takes CAP_NET_RAW.
func listen(all map[string]Link, wanted func(name string) bool) (opened []*listener) {
	for name, l := range all {
		if l.Loopback || l.Master != "" || l.Shared || !wanted(name) || !hasXDP(l) {
			continue
		}
		arriving, err := openCounter(bpf.JumpNotEqual, unix.PACKET_OUTGOING)
		if err != nil {
			continue // there is nothing to recommend then
		}
		others, err := openCounter(bpf.JumpEqual, unix.PACKET_OTHERHOST)
		if err != nil {
			arriving.Close()
			continue
		}
		opened = append(opened, &listener{l, arriving, others})
	}
	return opened
}

// openCounter opens a socket that counts packets whose type of packet(7) passes a test.
func openCounter(test bpf.JumpTest, kind uint32) (*socket.Socket, error) {
	s, err := socket.Open(socket.Raw)
	if err != nil {
		return nil, err
	}
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: test, Val: kind, SkipFalse: 1},
		bpf.RetConstant{Val: 1},
		bpf.RetConstant{Val: 0},
	})
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	if err == nil {
		err = unix.SetsockoptSockFprog(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	}
	// Nobody reads from it. The kernel counts what finds no room, too.
	if err = errors.Join(err, unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

const (
	listening = 100 * time.Millisecond
	fewHeard  = 100 // packets that are too few to tell
)

// hear returns which share of the packets that arrive on each interface is for other machines, if these are not few. It closes listeners.
func hear(ctx context.Context, all []*listener) map[string]float64 {
	shares := map[string]float64{}
	if len(all) == 0 {
		return shares
	}
	for _, l := range all {
		defer l.close()
		l.start()
	}
	select {
	case <-ctx.Done():
	case <-time.After(listening):
	}
	for _, l := range all {
		if others, arriving := l.heard(); arriving >= fewHeard {
			shares[l.link.Name] = min(1, float64(others)/float64(arriving))
		}
	}
	return shares
}

// start begins to listen. To attach a socket takes the kernel some time: both count from the end of that.
func (l *listener) start() {
	for _, s := range []*socket.Socket{l.arriving, l.others} {
		_ = s.Attach(capture.Interface{Name: l.link.Name, Index: l.link.Index}, false) // else it hears nothing
	}
	l.heard()
}

// heard returns how many packets for others, and how many in all, have arrived since the last call.
func (l *listener) heard() (others, arriving uint32) {
	count := func(s *socket.Socket) uint32 {
		is, err := unix.GetsockoptTpacketStats(s.FD, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil {
			return 0
		}
		return is.Packets // those without room included
	}
	return count(l.others), count(l.arriving)
}

func (l *listener) close() {
	l.arriving.Close()
	l.others.Close()
}
