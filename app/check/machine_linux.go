package check

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// links lists all interfaces of this network namespace by name, with one question to the kernel.
func links() (map[string]Link, error) {
	list, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // most interfaces are there
		return nil, fmt.Errorf("listing the network interfaces: %w", err)
	}
	names, shared := map[int]string{}, map[int]bool{}
	for _, l := range list {
		a := l.Attrs()
		names[a.Index] = a.Name
		switch l.Type() {
		case "macvlan", "macvtap", "dsa":
			shared[a.ParentIndex] = true
		}
	}
	all := map[string]Link{}
	for _, l := range list {
		a := l.Attrs()
		is := func(flag uint32) bool { return a.RawFlags&flag != 0 }
		all[a.Name] = Link{
			Name: a.Name, Index: a.Index, Up: is(unix.IFF_UP), Carrier: is(unix.IFF_LOWER_UP), Loopback: is(unix.IFF_LOOPBACK),
			Both: is(unix.IFF_LOOPBACK) || l.Type() == "ifb", MTU: a.MTU, Master: names[a.MasterIndex], Shared: shared[a.Index], Promiscuity: a.Promisc, Promiscuous: is(unix.IFF_PROMISC),
			Counters: countersOf(a.Statistics),
		}
	}
	return all, nil
}

func countersOf(s *netlink.LinkStatistics) Counters {
	if s == nil {
		return Counters{}
	}
	return Counters{
		RxPackets: int64(s.RxPackets), RxBytes: int64(s.RxBytes), RxDropped: int64(s.RxDropped), RxMissed: int64(s.RxMissedErrors),
		TxPackets: int64(s.TxPackets), TxBytes: int64(s.TxBytes), TxDropped: int64(s.TxDropped),
	}
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

// clockSince checks the system clock, which gives collectors the times of counts, and --data-dir its hours.
func clockSince(begin time.Time) Finding {
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	now := time.Now()
	return clockFinding(&t, err, now.Round(0).Sub(begin.Round(0)), now.Sub(begin))
}

const (
	// maxStep is how much the clock may be adjusted during a check.
	maxStep = 100 * time.Millisecond

	// unsynchronised is the maximum error of a clock that nobody has set, or of one that was left alone for so long that the kernel no longer
	// takes it to be right (NTP_PHASE_LIMIT, linux/timex.h).
	unsynchronised = 16 * time.Second
)

// clockFinding judges an answer of adjtimex(2), and how far the wall clock and the monotonic clock have advanced during the check. It does so by
// the maximum error, which all daemons set, and to which the kernel adds 0.5 ms each second. STA_UNSYNC says less: chrony clears it only
// with rtcsync, as the flag also has the kernel copy the time to the hardware's clock.
func clockFinding(t *unix.Timex, err error, wall, monotonic time.Duration) Finding {
	f := Finding{Name: "clock", Summary: "synchronised"}
	off := time.Duration(t.Maxerror) * time.Microsecond
	switch {
	case err != nil:
		f.set(Info, "the kernel does not tell whether it is synchronised: %v", err)
	case off >= unsynchronised:
		f.set(Warning, "not synchronised, as far as the kernel knows")
		f.detail("counts do not depend on it; the times of pushes and the hours of --data-dir do")
	default:
		f.detail("at most %v off", off)
	}
	if step := wall - monotonic; step.Abs() > maxStep {
		f.atLeast(Warning)
		f.detail("it was set by %+v while promflow counted", step.Round(time.Millisecond))
	}
	return f
}

// named are the capabilities that promflow can use, or that include nearly all others.
var named = []cap.Value{cap.NET_RAW, cap.BPF, cap.PERFMON, cap.NET_ADMIN, cap.SYS_ADMIN}

// privileges says what this process may do.
func privileges() string {
	noNewPrivs, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) // it cannot fail
	return describe(os.Geteuid(), cap.GetProc(), noNewPrivs == 1)
}

// describe writes the privileges of a process with an effective user and capabilities.
func describe(uid int, has *cap.Set, noNewPrivs bool) string {
	effective := func(c cap.Value) bool { on, _ := has.GetFlag(cap.Effective, c); return on }
	var names []string
	for _, c := range named {
		if effective(c) {
			names = append(names, c.String())
		}
	}
	all := 0
	for c := range cap.MaxBits() {
		if effective(c) {
			all++
		}
	}
	switch others := all - len(names); {
	case all == 0:
		names = []string{"no capability"}
	case all == int(cap.MaxBits()):
		names = []string{"all capabilities"}
	case others > 0:
		names = append(names, fmt.Sprintf("%d more", others))
	}
	s := fmt.Sprintf("uid %d with %s", uid, strings.Join(names, ", "))
	if noNewPrivs {
		s += ", and can gain none (no_new_privs)"
	}
	return s
}

// privilegesFinding compares the privileges at the start with those while promflow captures.
func privilegesFinding(start, now string, keeps []string) Finding {
	f := Finding{Name: "privileges", Summary: "started as " + start}
	if now != start { // capabilities only become fewer
		f.detail("captures as %s", now)
	} else {
		f.detail("captures with the same")
	}
	if len(keeps) > 0 {
		f.detail("needs to keep %s", strings.Join(keeps, ", "))
	} else {
		f.detail("needs none of them once it captures")
	}
	return f
}
