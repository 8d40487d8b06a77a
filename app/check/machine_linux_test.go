package check

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture/testnet"
)

func TestLinksOfThisMachine(t *testing.T) {
	ns, peer := testnet.NewNamespace(t), testnet.NewNamespace(t)
	ns.Veth("here", peer, "there")
	ns.IP("link", "add", "br0", "type", "bridge")
	ns.IP("link", "set", "here", "mtu", "1400", "promisc", "on", "master", "br0")
	testnet.NewSender(t, peer, "there").Send(make([]byte, 100), make([]byte, 60))

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

func FuzzLinks(f *testing.F) {
	answer, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answer)
	f.Add(answer[:100])
	f.Fuzz(func(_ *testing.T, answer []byte) { parseLinks(answer) }) // whatever it gives, it ends
}

func TestClock(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name            string
		state           int
		timex           unix.Timex
		err             error
		wall, monotonic time.Duration
		status          Status
		says            string
	}{
		{"synchronised", 0, unix.Timex{Maxerror: 1500}, nil, 5 * second, 5 * second, OK, "synchronised; at most 1.5ms off"},
		{"not synchronised", unix.TIME_ERROR, unix.Timex{Status: unix.STA_UNSYNC}, nil, second, second, Warning, "not synchronised"},
		{"unknown", -1, unix.Timex{}, errors.New("not permitted"), second, second, Info, "does not tell whether it is synchronised: not permitted"},
		{"set back", 0, unix.Timex{}, nil, 2 * second, 5 * second, Warning, "set by -3s"},
		{"hardly adjusted", 0, unix.Timex{}, nil, 5*second + 50*time.Millisecond, 5 * second, OK, "synchronised"},
	} {
		f := clockFinding(c.state, &c.timex, c.err, c.wall, c.monotonic)
		if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: got %v: %s", c.name, f.Status, text)
		}
	}
	if f := clockSince(time.Now()); f.Status == Error {
		t.Errorf("this machine's is %+v", f)
	}
}

func TestPrivileges(t *testing.T) {
	const all = 1<<41 - 1
	for status, want := range map[string]string{
		"Name:\tp\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nNoNewPrivs:\t0\n":       "uid 0 with all capabilities",
		"Uid:\t65534\t65534\t65534\t65534\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n": "uid 65534 with no capability, and can gain none (no_new_privs)",
		"Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000008000002000\nNoNewPrivs:\t0\n":     "uid 1000 with cap_net_raw, cap_bpf",
		"Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t0\n":                 "uid 0 with cap_net_raw, 13 more",
	} {
		p := parsePrivileges(status)
		p.capabilities = all
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	p, err := readPrivileges()
	if err != nil || p.uid != os.Geteuid() || p.capabilities == 0 {
		t.Errorf("this process is %+v, %v", p, err)
	}
	root, nobody := privileges{effective: all, capabilities: all}, privileges{uid: 65534}
	f := privilegesFinding(root, nobody, []string{"cap_bpf"})
	if text := f.Summary + "; " + strings.Join(f.Details, "; "); text != "started as uid 0 with all capabilities; captures as uid 65534 with no capability; needs to keep cap_bpf" {
		t.Errorf("got %s", text)
	}
}
