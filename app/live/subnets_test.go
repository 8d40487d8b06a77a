package live

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"promflow/capture"
	"promflow/capture/subnets"
)

func list(t *testing.T, text string) subnets.List {
	t.Helper()
	l, err := subnets.ParseList(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func newFollower(monitored, excluded, peers subnets.List, expireAfter time.Duration, log *slog.Logger) *follower {
	return &follower{
		lists: Lists{Monitored: monitored, Excluded: excluded, Peers: peers, MonitoredFrom: "--monitor-subnets", ExcludedFrom: "--exclude-subnets", PeersFrom: "--peer-subnets"},
		table: capture.NewTable(100, expireAfter), log: log, gone: map[netip.Prefix]time.Time{}, warned: map[netip.Prefix]bool{},
	}
}

// TestFollowsOnLinkPrefixes has prefixes come and go while an address of each sends: what goes stays until nobody has an address there that
// no other prefix has.
func TestFollowsOnLinkPrefixes(t *testing.T) {
	const expireAfter = time.Minute
	type step struct {
		after  time.Duration
		onLink string // of now
		sends  string // an address that sends then
		want   string
	}
	for _, c := range []struct {
		name, list  string
		expireAfter time.Duration
		steps       []step
	}{
		{"goes once it has expired", "lan=auto,10.8.0.0/24", expireAfter, []step{
			{0, "10.1.0.0/24", "10.1.0.5", "10.8.0.0/24,lan=10.1.0.0/24"},
			{0, "10.2.0.0/24", "", "10.8.0.0/24,lan=10.2.0.0/24,lan=10.1.0.0/24"},
			{expireAfter / 2, "10.2.0.0/24", "10.1.0.5", "10.8.0.0/24,lan=10.2.0.0/24,lan=10.1.0.0/24"},
			{expireAfter - 10*time.Second, "10.2.0.0/24", "", "10.8.0.0/24,lan=10.2.0.0/24,lan=10.1.0.0/24"},
			{20 * time.Second, "10.2.0.0/24", "", "10.8.0.0/24,lan=10.2.0.0/24"},
		}},
		{"returns", "auto", expireAfter, []step{
			{0, "10.1.0.0/24", "10.1.0.5", "10.1.0.0/24"},
			{0, "", "", "10.1.0.0/24"},
			{time.Second, "10.1.0.0/24", "", "10.1.0.0/24"},
			{2 * expireAfter, "10.1.0.0/24", "", "10.1.0.0/24"},
		}},
		{"a wrong mask is corrected", "auto", expireAfter, []step{
			{0, "10.0.0.0/8", "10.0.0.7", "10.0.0.0/8"},
			{0, "10.0.0.0/24", "", "10.0.0.0/24,10.0.0.0/8"},
			{2 * expireAfter, "10.0.0.0/24", "10.0.0.7", "10.0.0.0/24"},
		}},
		{"a wider one takes its place", "auto", expireAfter, []step{
			{0, "10.0.0.0/24", "10.0.0.7", "10.0.0.0/24"},
			{0, "10.0.0.0/16", "10.0.0.7", "10.0.0.0/16"},
		}},
		{"never expires", "auto", 0, []step{
			{0, "10.1.0.0/24", "", "10.1.0.0/24"},
			{1000 * expireAfter, "", "", "10.1.0.0/24"},
		}},
		{"not without auto", "10.8.0.0/24", expireAfter, []step{
			{0, "10.1.0.0/24", "", "10.8.0.0/24"},
			{0, "", "", "10.8.0.0/24"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFollower(list(t, c.list), list(t, ""), list(t, ""), c.expireAfter, slog.New(slog.DiscardHandler))
				if err := f.reload(); err != nil {
					t.Fatal(err)
				}
				counter := capture.NewCounter(f.table)
				for i, s := range c.steps {
					time.Sleep(s.after)
					var now []netip.Prefix
					if s.onLink != "" {
						now = prefixes(strings.Split(s.onLink, ",")...)
					}
					if s.sends != "" {
						counter.Lock()
						counter.Add(netip.MustParseAddr(s.sends), capture.Totals{TransmitBytes: 100, TransmitPackets: 1})
						counter.Unlock()
					}
					f.linked(now)
					if got := f.table.Subnets().Monitored.String(); got != s.want {
						t.Errorf("step %d: monitored are %s, want %s", i, got, s.want)
					}
				}
			})
		})
	}
}

// TestWhatCannotChangeStays has an update fail, as without the privileges for it, and then work.
func TestWhatCannotChangeStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "subnets")
		put := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put("10.1.0.0/16")
		var log strings.Builder
		f := newFollower(list(t, "auto,@"+file), list(t, ""), list(t, ""), 0, slog.New(slog.NewTextHandler(&log, nil)))
		if err := f.reload(); err != nil {
			t.Fatal(err)
		}
		updates, fails := 0, errors.New("no privileges")
		f.update = func() error { updates++; return fails }
		reload := func() { _ = f.reload() }
		expect := func(why string, wantUpdates int, want string) {
			t.Helper()
			if got := f.table.Subnets().Monitored.String(); got != want || updates != wantUpdates {
				t.Errorf("%s: monitored are %s after %d updates, want %s after %d", why, got, updates, want, wantUpdates)
			}
		}
		put("10.2.0.0/16")
		last := f.poll("", reload)
		expect("the file may be half written", 0, "10.1.0.0/16")
		last = f.poll(last, reload)
		expect("the update fails", 1, "10.1.0.0/16")
		for range 10 {
			last = f.poll(last, reload)
		}
		expect("it is not tried again at once", 1, "10.1.0.0/16")
		time.Sleep(2 * retryAfter)
		last = f.poll(last, reload)
		expect("it fails again", 2, "10.1.0.0/16")
		fails = nil
		time.Sleep(2 * retryAfter)
		last = f.poll(last, reload)
		expect("it works", 3, "10.2.0.0/16")
		fails = errors.New("no memory")
		f.linked(prefixes("10.3.0.0/24"))
		for range 10 {
			last = f.poll(last, reload)
		}
		expect("an on-link prefix", 4, "10.2.0.0/16")
		fails = nil
		time.Sleep(2 * retryAfter)
		f.poll(last, reload)
		expect("an on-link prefix, later", 5, "10.2.0.0/16,10.3.0.0/24")
		for _, want := range []string{"no memory", `msg="the subnets have changed" monitored=10.2.0.0/16,10.3.0.0/24`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not have %s: %s", want, log.String())
			}
		}
	})
}

// TestListsOfFiles has each list in a file, and an error in each of them.
func TestListsOfFiles(t *testing.T) {
	folder := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("monitored", "# mine\nlan=10.0.0.0/8, fd00::/8\n")
	put("excluded", "10.0.0.1 # the router\n")
	put("peers", "vpn=172.16.0.0/12\n")
	f := newFollower(list(t, "@"+folder+"/monitored"), list(t, "@"+folder+"/excluded"), list(t, "@"+folder+"/peers"), 0, slog.New(slog.DiscardHandler))
	if err := f.reload(); err != nil {
		t.Fatal(err)
	}
	const monitored, excluded, peers = "lan=10.0.0.0/8,fd00::/8", "10.0.0.1/32", "vpn=172.16.0.0/12"
	for name, bad := range map[string]string{"monitored": "\n10.0.0.0/33", "excluded": "\nname=10.0.0.0/8\n10.0.0.300", "peers": "\n\n\nauto,x"} {
		before, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		put(name, bad)
		line := strings.Count(bad, "\n") + 1
		if err := f.reload(); err == nil || !strings.Contains(err.Error(), filepath.Join(folder, name)+":"+string(rune('0'+line))+":") {
			t.Errorf("%s: the error is %v, want one of line %d", name, err, line)
		}
		if in := f.table.Subnets(); in.Monitored.String() != monitored || in.Excluded.String() != excluded || in.Peers.String() != peers {
			t.Errorf("%s: after an error there are %+v", name, in)
		}
		put(name, string(before))
	}
}

func TestAbandon(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	called := false
	Abandon(ctx, func() { called = true })
	if !called {
		t.Error("it does not wait while the context goes on")
	}
	hangs := make(chan struct{})
	defer close(hangs)
	cancel()
	Abandon(ctx, func() { <-hangs })
}
