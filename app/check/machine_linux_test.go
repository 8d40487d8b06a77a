package check

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"promflow/capture/nettest"
)

func TestLinksOfThisMachine(t *testing.T) {
	ns, peer := nettest.NewNamespace(t), nettest.NewNamespace(t)
	ns.Veth("here", peer, "there")
	ns.IP("link", "add", "br0", "type", "bridge")
	ns.IP("link", "set", "here", "mtu", "1400", "promisc", "on", "master", "br0")
	nettest.NewSender(t, peer, "there").Send(make([]byte, 100), make([]byte, 60))

	var all map[string]Link
	if err := ns.Do(func() (err error) { all, err = links(); return err }); err != nil {
		t.Fatal(err)
	}
	a, lo := all["here"], all["lo"]
	if !a.Up || !a.Carrier || a.Loopback || a.MTU != 1400 || a.Master != "br0" || !a.Promiscuous || a.Promiscuity != 2 || a.Index == 0 {
		t.Errorf("here is %+v", a)
	}
	if c := a.Counters; c.RxPackets != 2 || c.RxBytes != 160 {
		t.Errorf("here has counted %+v, want 2 packets with 160 bytes received", c)
	}
	if !lo.Up || !lo.Loopback || lo.Promiscuity != 0 {
		t.Errorf("lo is %+v", lo)
	}
	var f Finding
	if err := ns.Do(func() error { known, err := features("here"); f = offloadsFinding("a", known, err); return nil }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(f.Summary, "TSO") {
		t.Errorf("the offloads are %+v, want TSO among them, which veth has", f)
	}
}

func TestClock(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name            string
		timex           unix.Timex
		err             error
		wall, monotonic time.Duration
		status          Status
		says            string
	}{
		{"synchronised", unix.Timex{Maxerror: 1500}, nil, 5 * second, 5 * second, OK, "synchronised; at most 1.5ms off"},
		{"by chrony without rtcsync", unix.Timex{Status: unix.STA_UNSYNC, Maxerror: 17288}, nil, second, second, OK, "synchronised; at most 17.288ms off"},
		{"by a daemon that is gone for hours", unix.Timex{Maxerror: 15_999_500}, nil, second, second, OK, "at most 15.9995s off"},
		{"by one that is gone for longer", unix.Timex{Status: unix.STA_UNSYNC, Maxerror: 16_000_000}, nil, second, second, Warning, "not synchronised"},
		{"never", unix.Timex{Status: unix.STA_UNSYNC, Maxerror: 16_000_000, Esterror: 16_000_000}, nil, second, second, Warning, "the times of pushes"},
		{"unknown", unix.Timex{}, errors.New("not permitted"), second, second, Info, "does not tell whether it is synchronised: not permitted"},
		{"set back", unix.Timex{}, nil, 2 * second, 5 * second, Warning, "set by -3s"},
		{"hardly adjusted", unix.Timex{}, nil, 5*second + 50*time.Millisecond, 5 * second, OK, "synchronised"},
	} {
		f := clockFinding(&c.timex, c.err, c.wall, c.monotonic)
		if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: got %v: %s", c.name, f.Status, text)
		}
	}
	var now unix.Timex
	if _, err := unix.Adjtimex(&now); err != nil {
		t.Fatal(err)
	}
	want := OK
	if now.Maxerror >= 16_000_000 {
		want = Warning
	}
	if f := clockSince(time.Now()); f.Status != want {
		t.Errorf("with a maximum error of %d us this machine's is %+v", now.Maxerror, f)
	}
}

func TestPrivileges(t *testing.T) {
	for _, c := range []struct {
		uid          int
		capabilities string // as cap_from_text(3) has them
		noNewPrivs   bool
		want         string
	}{
		{0, "=ep", false, "uid 0 with all capabilities"},
		{65534, "=", true, "uid 65534 with no capability, and can gain none (no_new_privs)"},
		{1000, "=p cap_bpf,cap_net_raw+e", false, "uid 1000 with cap_net_raw, cap_bpf"},
		{0, "cap_chown,cap_net_raw,cap_kill=ep", false, "uid 0 with cap_net_raw, 2 more"},
	} {
		has, err := cap.FromText(c.capabilities)
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(c.uid, has, c.noNewPrivs); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got, want := privileges(), fmt.Sprintf("uid %d with ", os.Geteuid()); !strings.HasPrefix(got, want) {
		t.Errorf("this process is %q, want %q", got, want)
	}
	f := privilegesFinding("uid 0 with all capabilities", "uid 65534 with no capability", []string{"cap_bpf"})
	if text := f.Summary + "; " + strings.Join(f.Details, "; "); text != "started as uid 0 with all capabilities; captures as uid 65534 with no capability; needs to keep cap_bpf" {
		t.Errorf("got %s", text)
	}
}
