package names

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	laptop  = netip.MustParseAddr("192.168.1.133")
	printer = netip.MustParseAddr("192.168.1.134")
)

// logged is a log, and what it has.
func logged() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

// sources is a Names whose sources are the test's.
type sources struct {
	*Names
	t          *testing.T
	folder     string
	neighbours []neighbour
	dumps      atomic.Int64
	log        *bytes.Buffer
}

// newSources has these lease files in a folder of its own, and /etc/hosts there, too.
func newSources(t *testing.T, leases ...string) *sources {
	s := &sources{t: t, folder: t.TempDir()}
	log, b := logged()
	s.log = b
	s.Names = &Names{
		log: log, wake: make(chan struct{}, 1),
		places: []*place{{files: []*file{{path: s.path("hosts"), parse: parseHosts, optional: true, limit: 1000}}}},
	}
	s.Names.neighbours = newNeighbours(func() ([]neighbour, error) { s.dumps.Add(1); return s.neighbours, nil }, 1000)
	s.known.Store(&view{})
	for _, name := range leases {
		s.places = append(s.places, newPlace(s.path(name), false, 1000))
	}
	return s
}

func (s *sources) path(name string) string { return filepath.Join(s.folder, name) }

// write makes a file that was changed at that time.
func (s *sources) write(name, content string, at time.Time) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chtimes(s.path(name), at, at); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sources) look(now time.Time) {
	s.refresh(now)
	s.logChanges()
}

func (s *sources) want(addr netip.Addr, want Info) {
	s.t.Helper()
	if got := s.Of(addr); got != want {
		s.t.Errorf("%v is %+v, want %+v", addr, got, want)
	}
}

func (s *sources) wantLogged(n int, what string) {
	s.t.Helper()
	if got := strings.Count(s.log.String(), what); got != n {
		s.t.Errorf("the log has %q %d times, want %d:\n%s", what, got, n, s.log)
	}
}

func TestWhoIsBelieved(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s := newSources(t, "first", "second")
	look := func(later time.Duration) { now = now.Add(later); s.look(now) }
	s.reverse = newReverse(240, 1000, s.Names.log)
	s.reverse.name(laptop)
	s.reverse.store(laptop, []string{"dns."}, nil)
	look(time.Second)
	s.want(laptop, Info{"dns", ""})
	s.write("second", fmt.Sprintf("%d 02:00:00:00:00:02 192.168.1.133 second *\n", now.Unix()+3600), now)
	look(time.Second)
	s.want(laptop, Info{"second", "02:00:00:00:00:02"})
	s.write("first", fmt.Sprintf("%d 02:00:00:00:00:01 192.168.1.133 first *\n", now.Unix()+60), now)
	look(time.Second)
	s.want(laptop, Info{"first", "02:00:00:00:00:01"})
	s.neighbours = []neighbour{{laptop, "02:00:00:00:00:03", 0}}
	look(time.Second)
	s.want(laptop, Info{"first", "02:00:00:00:00:03"})
	s.write("hosts", "192.168.1.133 hosts\n", now)
	look(time.Second)
	s.want(laptop, Info{"hosts", "02:00:00:00:00:03"})
	s.want(printer, Info{})

	os.Remove(s.path("hosts"))
	look(time.Second)
	s.want(laptop, Info{"first", "02:00:00:00:00:03"})
	look(time.Minute) // nothing has changed but the time
	s.want(laptop, Info{"second", "02:00:00:00:00:03"})
	look(2 * time.Hour)
	s.want(laptop, Info{"dns", "02:00:00:00:00:03"})
}

func TestLeaseWithoutNameLeavesItToDNS(t *testing.T) {
	s := newSources(t, "leases")
	s.reverse = newReverse(240, 1000, s.Names.log)
	s.write("leases", "0 02:00:00:00:00:01 192.168.1.133 * *\n0 02:00:00:00:00:02 192.168.1.134 printer *\n", time.Now())
	s.look(time.Now())
	s.want(laptop, Info{"", "02:00:00:00:00:01"})
	s.want(printer, Info{"printer", "02:00:00:00:00:02"})
	if n := len(s.reverse.queue); n != 1 {
		t.Errorf("DNS is asked about %d addresses, want 1", n)
	}
}

func TestNothingIsDoneWhileNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSources(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		dumps := func(want int64) {
			t.Helper()
			synctest.Wait()
			if n := s.dumps.Load(); n != want {
				t.Errorf("%d dumps after %v, want %d", n, time.Now(), want)
			}
		}
		time.Sleep(time.Hour) // of the bubble, which takes none
		dumps(0)
		s.Of(laptop)
		dumps(1)
		time.Sleep(time.Hour)
		dumps(1)
		for range 100 { // within 10 s
			s.Of(laptop)
			s.Of(printer)
			time.Sleep(100 * time.Millisecond)
		}
		dumps(4) // at 0, 5 and 10 s of these
		time.Sleep(time.Hour)
		dumps(4)
	})
}

func TestEndDoesNotWaitForAFileThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSources(t)
		gate := make(chan struct{})
		s.Names.neighbours.list = func() ([]neighbour, error) { <-gate; return nil, nil }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		s.Of(laptop)
		synctest.Wait()
		begin := time.Now()
		s.Of(laptop)
		cancel()
		<-ended
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v", took)
		}
		close(gate)
		synctest.Wait()
	})
}

func TestFilesAreReadWhenTheyChange(t *testing.T) {
	now := time.Unix(1700000000, 0)
	old := now.Add(-time.Minute)
	s := newSources(t, "leases")
	s.look(now)
	s.wantLogged(1, "a lease file is not there (yet)")
	s.look(now)
	s.wantLogged(1, "a lease file is not there (yet)")

	s.write("leases", "0 * 192.168.1.133 one *\n", old)
	s.look(now)
	s.want(laptop, Info{Hostname: "one"})
	s.wantLogged(1, "a file can be read now")

	s.write("leases", "0 * 192.168.1.133 two *\n", old) // of the same size and time, as nobody does that
	s.look(now.Add(5 * time.Second))
	s.want(laptop, Info{Hostname: "one"})
	s.write("leases", "0 * 192.168.1.133 three *\n", old)
	s.look(now.Add(10 * time.Second))
	s.want(laptop, Info{Hostname: "three"})
	s.write("leases", "0 * 192.168.1.133 seven *\n", old.Add(time.Nanosecond*1e6))
	s.look(now.Add(15 * time.Second))
	s.want(laptop, Info{Hostname: "seven"})
	s.write("new", "0 * 192.168.1.133 eight *\n", old.Add(time.Nanosecond*1e6))
	if err := os.Rename(s.path("new"), s.path("leases")); err != nil {
		t.Fatal(err)
	}
	s.look(now.Add(20 * time.Second))
	s.want(laptop, Info{Hostname: "eight"})

	// Twice within the granularity of a file's time.
	just := now.Add(25 * time.Second)
	s.write("leases", "0 * 192.168.1.133 nine *\n", just)
	s.look(just)
	s.write("leases", "0 * 192.168.1.133 late *\n", just)
	s.look(just.Add(5 * time.Second))
	s.want(laptop, Info{Hostname: "late"})

	s.write("leases", "nonsense\n", now)
	s.look(now.Add(35 * time.Second))
	s.look(now.Add(40 * time.Second))
	s.want(laptop, Info{Hostname: "late"}) // what was read stays
	s.wantLogged(1, "not a lease file of dnsmasq")
	os.Remove(s.path("leases"))
	s.look(now.Add(45 * time.Second))
	s.want(laptop, Info{})
	s.wantLogged(2, "a lease file is not there (yet)")
	if err := os.Mkdir(s.path("leases"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.look(now.Add(50 * time.Second))
	s.wantLogged(1, "is not a regular file")
}

// TestKeasJournalHasParts has a journal in all states that its clean-up leaves.
func TestKeasJournalHasParts(t *testing.T) {
	row := func(addr, name string) string {
		return addr + ",02:00:00:00:00:01,,3600,1700003600,1,0,0," + name + ",0,,0\n"
	}
	now := time.Unix(1700000000, 0)
	s := newSources(t, "kea.csv")
	s.write("kea.csv", keaHeader4+"\n"+row("192.168.1.133", "new"), now)
	s.write("kea.csv.1", keaHeader4+"\n"+row("192.168.1.133", "old")+row("192.168.1.134", "printer"), now)
	s.write("kea.csv.2", keaHeader4+"\n"+row("192.168.1.134", "older")+row("192.168.1.135", "third"), now)
	s.look(now)
	s.want(laptop, Info{"new", "02:00:00:00:00:01"})
	s.want(printer, Info{"printer", "02:00:00:00:00:01"})
	s.want(netip.MustParseAddr("192.168.1.135"), Info{"third", "02:00:00:00:00:01"})

	s.write("kea.csv", keaHeader4+"\n"+strings.Replace(row("192.168.1.134", "printer"), "3600,1700003600", "0,1700000000", 1), now)
	s.look(now.Add(5 * time.Second))
	s.want(laptop, Info{"old", "02:00:00:00:00:01"})
	s.want(printer, Info{})

	s.write("kea.csv.1", "192.168.1.133 hosts\n", now) // of somebody else
	s.look(now.Add(10 * time.Second))
	s.want(laptop, Info{})
	if s.log.Len() > 0 {
		t.Errorf("logged %s", s.log)
	}
}

func TestFilesHaveBounds(t *testing.T) {
	s := newSources(t, "large", "many")
	s.write("large", "", time.Now())
	if err := os.Truncate(s.path("large"), maxBytes+1); err != nil {
		t.Fatal(err)
	}
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, "0 * 10.0.%d.%d a *\n", i>>8, i&0xff)
	}
	s.write("many", many.String(), time.Now())
	s.look(time.Now())
	s.wantLogged(1, "is larger than 64 MiB")
	s.wantLogged(1, "a file has more addresses than are kept")
	if n := len(s.known.Load().hosts); n != 1000 {
		t.Errorf("%d are known, want 1000", n)
	}
}

// TestFileThatWasTooLarge has one that is as large as a file can be, until it is not.
func TestFileThatWasTooLarge(t *testing.T) {
	now := time.Now()
	s := newSources(t, "leases")
	s.write("leases", "", now)
	if err := os.Truncate(s.path("leases"), 1<<40); err != nil {
		t.Fatal(err)
	}
	s.look(now)
	s.wantLogged(1, "is larger than 64 MiB")
	s.write("leases", "0 * 192.168.1.133 laptop *\n", now)
	s.look(now.Add(65 * time.Second))
	s.want(laptop, Info{Hostname: "laptop"})
}

func TestNeighboursAreRemembered(t *testing.T) {
	log, b := logged()
	var table []neighbour
	var failure error
	n := newNeighbours(func() ([]neighbour, error) { return table, failure }, 2)
	now := time.Unix(1700000000, 0)
	mac := func(last string) string { return "02:00:00:00:00:" + last }
	third := netip.MustParseAddr("192.168.1.135")
	for _, step := range []struct {
		name    string
		after   time.Duration
		table   []neighbour
		changed bool
		want    map[netip.Addr]string
	}{
		{"one", 0, []neighbour{{laptop, mac("01"), 0}}, true, map[netip.Addr]string{laptop: mac("01")}},
		{"again", 5 * time.Second, []neighbour{{laptop, mac("01"), 0}}, false, map[netip.Addr]string{laptop: mac("01")}},
		{"another MAC", 5 * time.Second, []neighbour{{laptop, mac("02"), 0}}, true, map[netip.Addr]string{laptop: mac("02")}},
		{"two MACs", 5 * time.Second, []neighbour{{laptop, mac("04"), 1}, {laptop, mac("03"), 0}, {laptop, mac("05"), 2}}, true, map[netip.Addr]string{laptop: mac("03")}},
		{"the same two", 5 * time.Second, []neighbour{{laptop, mac("04"), 1}, {laptop, mac("03"), 0}}, false, map[netip.Addr]string{laptop: mac("03")}},
		{"gone", 59 * time.Minute, nil, false, map[netip.Addr]string{laptop: mac("03")}},
		{"gone for long", 2 * time.Minute, nil, true, map[netip.Addr]string{}},
		{"a full table", 5 * time.Second, []neighbour{{laptop, mac("01"), 0}, {printer, mac("02"), 0}, {third, mac("03"), 0}}, true, map[netip.Addr]string{laptop: mac("01"), printer: mac("02")}},
		{"one makes room", 5 * time.Second, []neighbour{{printer, mac("02"), 0}, {third, mac("03"), 0}}, true, map[netip.Addr]string{printer: mac("02"), third: mac("03")}},
	} {
		now = now.Add(step.after)
		table = step.table
		if changed := n.refresh(now); changed != step.changed {
			t.Errorf("%s: changed is %v", step.name, changed)
		}
		got := map[netip.Addr]string{}
		for addr, k := range n.kept {
			got[addr] = k.mac
		}
		if fmt.Sprint(got) != fmt.Sprint(step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
	}
	failure = errors.New("no netlink here")
	for range 2 {
		n.refresh(now)
		(&Names{neighbours: n, log: log}).logChanges()
	}
	if got := strings.Count(b.String(), "no netlink here"); got != 1 {
		t.Errorf("logged %d times, want once: %s", got, b)
	}
}

// TestFilesOfAGlobComeAndGo has files for interfaces, and one that is being written.
func TestFilesOfAGlobComeAndGo(t *testing.T) {
	now := time.Unix(1600000000, 0)
	s := newSources(t, "odhcpd.hosts.*", "*networkd-*")
	s.look(now)
	s.write("odhcpd.hosts.lan", "192.168.1.133 laptop.lan laptop\n", now)
	s.write(".odhcpd.hosts.guest", "192.168.1.134 pri", now)
	s.write("networkd-eth0", networkdOf(`{"ClientId":[1,2,0,0,0,0,3],"Address":[192,168,1,135],"Hostname":"third","ExpirationRealtimeUSec":1700000000000000}`), now)
	s.look(now)
	s.want(laptop, Info{Hostname: "laptop.lan"})
	s.want(printer, Info{})
	s.want(netip.MustParseAddr("192.168.1.135"), Info{"third", "02:00:00:00:00:03"})
	s.write(".#networkd-eth1", "192.168.1.134 pri", now)
	s.look(now.Add(time.Second))
	s.want(printer, Info{})
	s.write("odhcpd.hosts.guest", "192.168.1.134 printer\n", now)
	s.look(now.Add(5 * time.Second))
	s.want(printer, Info{Hostname: "printer"})
	for _, name := range []string{"odhcpd.hosts.lan", "networkd-eth0"} {
		if err := os.Remove(s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	s.look(now.Add(10 * time.Second))
	s.want(laptop, Info{})
	s.want(printer, Info{Hostname: "printer"})
	s.want(netip.MustParseAddr("192.168.1.135"), Info{})
	if s.log.Len() > 0 {
		t.Errorf("logged %s", s.log)
	}
}
