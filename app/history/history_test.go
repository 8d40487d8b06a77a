package history

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"promflow/capture"
	"promflow/capture/labels"
)

func addr4(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// bench is a history with its table and a clock.
type bench struct {
	*History
	t       testing.TB
	config  Config
	now     time.Time
	table   *capture.Table
	counter *capture.Counter
	log     bytes.Buffer
	info    map[netip.Addr]Info
}

// start is when benches begin, unless they set the clock.
var start = time.Date(2026, 2, 3, 4, 5, 0, 0, time.UTC)

// newBench opens a history in an empty directory.
func newBench(t testing.TB, c Config) *bench {
	t.Helper()
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), "data")
	}
	if c.Zone == nil {
		c.Zone = time.UTC
	}
	b := &bench{t: t, config: c, now: start, info: map[netip.Addr]Info{}}
	b.config.Now = func() time.Time { return b.now }
	b.config.Info = func(a netip.Addr) Info { return b.info[a] }
	b.config.Log = slog.New(slog.NewTextHandler(&b.log, nil))
	t.Cleanup(func() { b.Close() })
	b.open()
	return b
}

// open opens the history with a new table, of the size of the last one.
func (b *bench) open() {
	b.t.Helper()
	limit, after, g, series := 100, time.Duration(0), (*labels.Grouping)(nil), 0
	if before := b.config.Table; before != nil {
		limit, after, g, series = before.Limit(), before.ExpireAfter(), before.Grouping(), before.SeriesLimit()
	}
	if g == nil {
		b.openWith(capture.NewTable(limit, after))
	} else {
		b.openWith(capture.NewGroupedTable(limit, after, labels.New(g.Labels(), g.HostBits(), true), series))
	}
}

// openWith opens the history with a new table.
func (b *bench) openWith(table *capture.Table) {
	b.t.Helper()
	b.table, b.config.Table = table, table
	h, err := Open(b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.History, b.counter = h, capture.NewCounter(table)
}

// restart ends in order, and opens the history again.
func (b *bench) restart() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

// kill closes the file as the kernel does when the process is killed.
func (b *bench) kill() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.closeFile()
}

// move has the ith address receive bytes, and transmit one.
func (b *bench) move(i int, bytes int64) {
	b.counter.Lock()
	defer b.counter.Unlock()
	b.counter.Add(addr4(i), capture.Totals{ReceiveBytes: bytes, TransmitBytes: 1, ReceivePackets: 1, TransmitPackets: 1})
}

// pass has time pass, with writes as Run does them.
func (b *bench) pass(d time.Duration) {
	for end := b.now.Add(d); b.now.Before(end); b.Write() {
		next := b.calendar.End(FiveMinutes, b.now)
		if interval := b.now.Add(time.Minute); interval.Before(next) {
			next = interval
		}
		b.now = next
		if end.Before(next) {
			b.now = end
		}
	}
}

// total returns what the table has of both directions.
func (b *bench) total() volume {
	var v volume
	s := b.table.Snapshot()
	for i := range s.Hosts {
		v.add(volume{s.Hosts[i].ReceiveBytes, s.Hosts[i].TransmitBytes})
	}
	for _, series := range s.Series() {
		v.add(volume{series.ReceiveBytes, series.TransmitBytes})
	}
	return v
}

// kept returns the sums over all periods of each resolution, with the open ones.
func (b *bench) kept() (sums [resolutions]volume) {
	b.t.Helper()
	for r := range resolutions {
		b.mu.Lock()
		b.observe(b.now)
		tx, err := b.db.Begin(false)
		if err != nil {
			b.t.Fatal(err)
		}
		v := &view{h: b.History, tx: tx, state: b.state, from: time.Unix(-1<<40, 0), to: time.Unix(1<<40, 0), read: r, tallies: map[uint32]*tally{}}
		v.remember()
		b.mu.Unlock()
		defer v.close()
		if err := v.each(func(_ int64, _ *tally, moved volume) {
			if moved.receive < 0 || moved.transmit < 0 {
				b.t.Errorf("%v: %+v was moved", r, moved)
			}
			sums[r].add(moved)
		}); err != nil {
			b.t.Fatal(err)
		}
	}
	return sums
}

// conserved fails the test unless the sums over periods are the totals.
func (b *bench) conserved() {
	b.t.Helper()
	b.conservedIn(FiveMinutes, Hour, Day, Month)
}

func (b *bench) conservedIn(of ...Resolution) {
	b.t.Helper()
	want, kept := b.total(), b.kept()
	for _, r := range of {
		if kept[r] != want {
			b.t.Fatalf("%v: %+v in periods, %+v in the table", r, kept[r], want)
		}
	}
}

// usage returns what was received, by name.
func (b *bench) usage(from, to time.Time, by By) map[string]int64 {
	b.t.Helper()
	u, err := b.Usage(Query{From: from, To: to, By: by})
	if err != nil {
		b.t.Fatal(err)
	}
	got := map[string]int64{}
	for _, row := range u.Rows {
		name := "other"
		switch {
		case row.Other:
		case by == ByNetwork:
			name = row.Network
		default:
			var addrs []string
			for _, a := range row.Addrs {
				addrs = append(addrs, strings.TrimSuffix(a.String(), "/32"))
			}
			name = strings.TrimSpace(strings.Join(addrs, ",") + " " + row.Hostname)
		}
		got[name] += row.Receive
	}
	return got
}

// Series returns what of moved in the last n periods.
func (b *bench) Series(r Resolution, n int, of string) ([]Step, error) {
	u, err := b.Usage(Query{From: b.calendar.Back(r, b.now, n-1), To: b.now.Add(1), Of: of, Steps: r})
	return u.Steps, err
}

func wantUsage(t testing.TB, got, want map[string]int64) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTotalsAndStartTimesSurviveARestart(t *testing.T) {
	b := newBench(t, Config{})
	b.pass(time.Minute)
	b.move(1, 100)
	b.pass(time.Minute)
	b.move(2, 20)
	for range 2 {
		b.restart()
		b.now = b.now.Add(time.Hour)
		b.move(1, 1)
	}
	if s := b.table.Snapshot(); s.Hosts[0].ReceiveBytes != 102 || s.Hosts[0].TransmitPackets != 3 || s.Hosts[1].ReceiveBytes != 20 {
		t.Errorf("the table has %+v", s.Hosts)
	}
	for i, want := range map[int]time.Time{1: start.Add(time.Minute), 2: start.Add(2 * time.Minute)} {
		if began, _ := b.Restored(Series{Addr: addr4(i)}); !began[0].Equal(want) || !began[1].Equal(want) {
			t.Errorf("address %d began at %v, want %v", i, began, want)
		}
	}
	if began, _ := b.Restored(Series{Addr: addr4(3)}); began != [2]time.Time{} {
		t.Errorf("an address that was not there began at %v", began)
	}
	b.conserved()
}

func TestLabelsSurviveARestart(t *testing.T) {
	set, err := labels.Parse("vlan,interface")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, Config{})
	b.Close()
	b.openWith(capture.NewGroupedTable(10, 0, labels.New(set, labels.HostBits{}, false), 100))
	texts := []labels.Text{{Label: labels.Interface, Value: "eth1"}, {Label: labels.VLAN, Value: "7"}}
	values, _ := b.table.Grouping().Values(texts)
	move := func() {
		b.counter.Lock()
		defer b.counter.Unlock()
		b.counter.AddSeries(addr4(1), values, capture.Totals{ReceiveBytes: 5})
	}
	move()
	b.now = b.now.Add(time.Minute)
	b.Write()
	b.restart()
	values, _ = b.table.Grouping().Values(texts)
	began, _ := b.Restored(Series{addr4(1), values, b.tableSeries()[0].Entry})
	if !began[0].Equal(start) || !began[1].IsZero() {
		t.Errorf("the series began at %v", began)
	}
	move()
	all := b.tableSeries()
	if len(all) != 1 || all[0].ReceiveBytes != 10 || fmt.Sprint(b.table.Grouping().Texts(addr4(1), all[0].Labels)) != fmt.Sprint(texts) {
		t.Errorf("series are %+v", all)
	}
	b.conserved()
	b.Close()
	b.openWith(capture.NewTable(10, 0)) // without labels
	if s := b.table.Snapshot(); len(s.Hosts) != 1 || s.Hosts[0].ReceiveBytes != 10 {
		t.Errorf("without labels, the table has %+v", s.Hosts)
	}
	b.conserved()
	b.restart()
	b.conserved()
}

func (b *bench) tableSeries() (all []capture.Series) {
	s := b.table.Snapshot()
	for _, series := range s.Series() {
		all = append(all, *series)
	}
	return all
}

func TestUsageIsExactAtBoundaries(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	b := newBench(t, Config{Zone: berlin})
	b.Close()
	b.now = time.Date(2026, 3, 28, 23, 50, 0, 0, berlin) // the night before a day of 23 hours
	b.open()
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 3, day, hour, minute, 0, 0, berlin) }
	for b.now.Before(at(30, 0, 30)) {
		b.move(1, 10)
		b.now = b.now.Add(5 * time.Minute)
		b.Write()
	}
	b.move(2, 7)
	periods := func(d time.Duration) map[string]int64 {
		return map[string]int64{"10.0.0.1": 10 * int64(d/(5*time.Minute))}
	}
	wantUsage(t, b.usage(at(29, 0, 0), at(30, 0, 0), ByIP), periods(23*time.Hour))
	wantUsage(t, b.usage(at(28, 0, 0), at(29, 0, 0), ByIP), periods(10*time.Minute))
	wantUsage(t, b.usage(at(29, 1, 0), at(29, 4, 0), ByIP), periods(2*time.Hour))
	wantUsage(t, b.usage(at(30, 0, 30), at(30, 0, 31), ByIP), map[string]int64{"10.0.0.2": 7})
	wantUsage(t, b.usage(at(1, 0, 0), b.now.Add(1), ByIP), map[string]int64{"10.0.0.1": 10 * (2 + 23*12 + 6), "10.0.0.2": 7})
	b.conserved()
	days, err := b.Series(Day, 3, "")
	if err != nil || len(days) != 3 || days[0].Receive != 20 || days[1].Receive != 10*23*12 || days[2].Receive != 67 || days[1].End.Sub(days[1].Start) != 23*time.Hour {
		t.Errorf("days are %+v, %v", days, err)
	}
	days, err = b.Series(Day, 3, "10.0.0.2")
	if err != nil || days[1].Receive != 0 || days[2].Receive != 7 {
		t.Errorf("days of an address are %+v, %v", days, err)
	}
	hours, err := b.Series(Hour, 24, "")
	if err != nil || len(hours) != 24 || hours[22].Receive != 120 || !hours[23].Start.Equal(at(30, 0, 0)) {
		t.Errorf("hours are %+v, %v", hours, err)
	}
	months, err := b.Series(Month, 12, "")
	if err != nil || months[11].Receive != 10*(2+23*12+6)+7 || months[10].Receive != 0 {
		t.Errorf("months are %+v, %v", months, err)
	}
}

func TestTheHourThatComesTwiceIsTwoPeriods(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	b := newBench(t, Config{Zone: berlin})
	b.Close()
	b.now = time.Date(2026, 10, 24, 23, 30, 0, 0, time.UTC)
	b.open()
	for range 30 {
		b.move(1, 1)
		b.pass(5 * time.Minute)
	}
	hours, err := b.Series(Hour, 3, "")
	if err != nil || hours[0].Receive != 12 || hours[1].Receive != 12 || hours[0].Start.Hour() != 2 || hours[1].Start.Hour() != 2 {
		t.Errorf("hours are %+v, %v", hours, err)
	}
	b.conserved()
}

func TestUsageByDeviceAndNetwork(t *testing.T) {
	b := newBench(t, Config{})
	b.info[addr4(1)] = Info{"laptop", "02:00:00:00:00:01", "lan"}
	b.info[addr4(2)] = Info{"", "02:00:00:00:00:01", "lan"}
	b.info[addr4(3)] = Info{"printer", "", "office"}
	for i := 1; i <= 4; i++ {
		b.move(i, int64(i))
	}
	b.pass(5 * time.Minute)
	b.info[addr4(1)] = Info{"notebook", "02:00:00:00:00:01", "lan"}
	b.move(1, 10)
	for range 2 {
		wantUsage(t, b.usage(start, b.now.Add(time.Minute), ByDevice), map[string]int64{"10.0.0.1,10.0.0.2 notebook": 13, "10.0.0.3 printer": 3, "10.0.0.4": 4})
		wantUsage(t, b.usage(start, b.now.Add(time.Minute), ByIP), map[string]int64{"10.0.0.1 notebook": 11, "10.0.0.2": 2, "10.0.0.3 printer": 3, "10.0.0.4": 4})
		wantUsage(t, b.usage(start, b.now.Add(time.Minute), ByNetwork), map[string]int64{"lan": 13, "office": 3, "other": 4})
		steps, err := b.Series(FiveMinutes, 2, "02:00:00:00:00:01")
		if err != nil || steps[0].Receive != 3 || steps[1].Receive != 10 {
			t.Errorf("steps are %+v, %v", steps, err)
		}
		b.restart()
	}
}

// moveIn has the ith address move bytes with some labels, if the table has them.
func (b *bench) moveIn(i int, bytes int64) {
	addr, g := addr4(i), b.table.Grouping()
	if g == nil {
		b.move(i, bytes)
		return
	}
	if bits := g.Bits(addr); bits > 0 {
		prefix, _ := addr.Prefix(bits)
		addr = prefix.Addr()
	}
	of := g.Rest()
	if g.Labels() != 0 {
		of, _ = g.Values([]labels.Text{{Label: labels.Protocol, Value: []string{"tcp", "udp", "other"}[i%3]}})
	}
	b.counter.Lock()
	defer b.counter.Unlock()
	b.counter.AddSeries(addr, of, capture.Totals{ReceiveBytes: bytes, TransmitBytes: 1})
}

// TestSumsAreConserved has clocks set, zones and months change, addresses come and go, labels and prefixes change, disks fail, restarts and
// kills, at random.
func TestSumsAreConserved(t *testing.T) {
	zones := []*time.Location{time.UTC, zone(t, "Europe/Berlin"), zone(t, "Australia/Lord_Howe"), zone(t, "America/Los_Angeles")}
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	for seed := range uint64(rounds) {
		random := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t, Config{Retention: [resolutions]time.Duration{-1, -1, -1, -1}})
		b.Close()
		table := func() *capture.Table {
			limit, after := 5+random.IntN(20), time.Millisecond*time.Duration(random.IntN(2))
			switch random.IntN(4) {
			case 0:
				return capture.NewGroupedTable(limit, after, labels.New(0, labels.HostBits{V4: random.IntN(8)}, false), 0)
			case 1:
				set := labels.Set(0).With(labels.Protocol)
				return capture.NewGroupedTable(limit, after, labels.New(set, labels.HostBits{V4: random.IntN(8)}, false), 5+random.IntN(20))
			}
			return capture.NewTable(limit, after)
		}
		works := func() {
			b.transact = (*bbolt.DB).Update
			b.Write()
			if b.Failing() {
				t.Fatalf("the log has %s", &b.log)
			}
			b.log.Reset()
		}
		b.now = time.Date(2026, 3, 27+random.IntN(4), 0, 0, 0, 0, time.UTC)
		b.openWith(table())
		for range 300 {
			for range random.IntN(10) {
				b.moveIn(random.IntN(40), random.Int64N(1<<uint(1+random.IntN(40))))
			}
			for range random.IntN(3) {
				b.info[addr4(random.IntN(40))] = Info{[]string{"", "a", "b"}[random.IntN(3)], []string{"", "02:00:00:00:00:0a", "02:00:00:00:00:0b"}[random.IntN(3)], "lan"}
			}
			switch random.IntN(20) {
			case 0:
				b.now = b.now.Add(time.Duration(random.Int64N(int64(100 * time.Hour)))) // set, or suspended
			case 1:
				b.now = b.now.Add(-time.Duration(random.Int64N(int64(100 * time.Hour))))
			case 2:
				works()
				before := b.total()
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b.config.Zone = zones[random.IntN(len(zones))]
				b.config.MonthStartsOn = random.IntN(32)
				b.openWith(table())
				if got := b.total(); got != before {
					t.Fatalf("%+v after the restart, %+v before", got, before)
				}
			case 3:
				works()
				before := b.total()
				b.moveIn(1, 1) // which is lost
				b.kill()
				b.openWith(table())
				if got := b.total(); got != before {
					t.Fatalf("%+v after the kill, %+v were written", got, before)
				}
			case 4:
				time.Sleep(10 * time.Millisecond) // the table has its own time, in tenths of a second
			case 5:
				b.transact = func(*bbolt.DB, func(*bbolt.Tx) error) error { return syscall.EIO }
			case 6:
				b.transact = func(db *bbolt.DB, do func(*bbolt.Tx) error) error { return cmp.Or(db.Update(do), error(syscall.EIO)) }
			case 7:
				works()
			default:
				b.pass(time.Duration(random.Int64N(int64(10 * time.Minute))))
			}
			b.conserved()
		}
		works()
		b.Close()
	}
}

func TestEvictedAddressesArePartOfOther(t *testing.T) {
	b := newBench(t, Config{})
	b.Close()
	b.openWith(capture.NewTable(2, time.Millisecond))
	b.move(1, 100)
	b.move(2, 10)
	b.Write()
	time.Sleep(250 * time.Millisecond) // the table has its own time
	b.move(2, 1)
	b.move(3, 5) // 1 goes
	b.Write()
	wantUsage(t, b.usage(start, start.Add(time.Hour), ByIP), map[string]int64{"10.0.0.2": 11, "10.0.0.3": 5, "other": 100})
	b.conserved()
	b.pass(5 * time.Minute)
	time.Sleep(250 * time.Millisecond)
	b.move(3, 1)
	b.move(1, 7) // 2 goes
	b.pass(5 * time.Minute)
	wantUsage(t, b.usage(start.Add(5*time.Minute), start.Add(10*time.Minute), ByIP), map[string]int64{"10.0.0.1": 7, "10.0.0.3": 1})
	b.conserved()
	b.restart()
	b.conserved()
}

func TestSmallestAddressesOfAPeriodAreOther(t *testing.T) {
	b := newBench(t, Config{})
	b.Close()
	b.openWith(capture.NewTable(maxAddresses+100, 0))
	want := map[string]int64{}
	for i := range maxAddresses + 100 {
		b.move(i, int64(i))
		if name := addr4(i).String(); i < 100 {
			want["other"] += int64(i)
		} else {
			want[name] = int64(i)
		}
	}
	b.pass(5 * time.Minute)
	wantUsage(t, b.usage(start, start.Add(5*time.Minute), ByIP), want)
	b.conserved()
}

func TestRetention(t *testing.T) {
	b := newBench(t, Config{Interval: 5 * time.Minute, Retention: [resolutions]time.Duration{FiveMinutes: time.Hour, Hour: 5 * time.Hour}})
	for range 24 * 12 {
		b.move(1, 1)
		b.now = b.now.Add(5 * time.Minute)
		b.Write()
	}
	// One more than fits, as the first one has not yet ended an hour ago.
	if n := b.state.kept; n[FiveMinutes] < 12 || n[FiveMinutes] > 13 || n[Hour] < 5 || n[Hour] > 6 {
		t.Errorf("%d are kept", n)
	}
	wantUsage(t, b.usage(b.now.Add(-time.Hour), b.now, ByIP), map[string]int64{"10.0.0.1": 12})
	wantUsage(t, b.usage(b.now.Add(-24*time.Hour), b.now, ByIP), map[string]int64{"10.0.0.1": 24 * 12})
	if sums := b.kept(); sums[Day].receive != 24*12 || sums[Month].receive != 24*12 {
		t.Errorf("sums are %+v", sums)
	}
	kept := b.state.kept
	b.now = b.now.AddDate(10, 0, 0) // a clock that is wrong deletes nothing at once
	b.Write()
	b.now = b.now.AddDate(-10, 0, 0)
	b.Write()
	if got := b.state.kept; got[FiveMinutes] < kept[FiveMinutes] {
		t.Errorf("%d are kept after the clock was wrong, %d before", got, kept)
	}
}

func TestSizeIsBounded(t *testing.T) {
	const size = 1 << 20
	b := newBench(t, Config{Size: size})
	b.Close()
	b.openWith(capture.NewTable(4096, 0))
	random := rand.New(rand.NewPCG(1, 2))
	for range 24 * 12 {
		for i := range 1000 {
			b.move(i, random.Int64N(1<<40))
		}
		b.now = b.now.Add(5 * time.Minute)
		b.Write()
	}
	info, err := os.Stat(b.path)
	if err != nil {
		t.Fatal(err)
	}
	stats := b.db.Stats()
	used := info.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(b.db.Info().PageSize)
	if b.state.kept[FiveMinutes] == 0 || b.state.dropped[FiveMinutes] == 0 || info.Size() > 3*size || b.Failing() {
		t.Errorf("the file has %d bytes, %d of them in use, and keeps %d periods", info.Size(), used, b.state.kept)
	}
	if u, err := b.Usage(Query{From: b.now.Add(-time.Hour), To: b.now, By: ByIP}); err != nil || len(u.Rows) != 1000 {
		t.Errorf("%d rows of the last hour, %v", len(u.Rows), err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	b := newBench(t, Config{})
	b.Write()
	c := b.config
	c.Table = capture.NewTable(1, 0)
	if _, err := Open(c); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), c.Dir) {
		t.Errorf("the error is %v", err)
	}
	c.Table = nil
	if _, err := Open(c); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "URL") {
		t.Errorf("the error of reading is %v", err)
	}
}

func TestHistoryCanBeReadWhenNobodyWrites(t *testing.T) {
	b := newBench(t, Config{})
	b.info[addr4(1)] = Info{"laptop", "02:00:00:00:00:01", "lan"}
	b.move(1, 5)
	b.pass(5 * time.Minute)
	b.info[addr4(1)] = Info{"notebook", "02:00:00:00:00:01", "lan"}
	b.move(1, 1)
	b.pass(5 * time.Minute)
	b.move(1, 6)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	c := b.config
	c.Table = nil
	h, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	b.History = h
	wantUsage(t, b.usage(start, b.now.Add(time.Second), ByDevice), map[string]int64{"10.0.0.1 notebook": 12})
	c.Dir = t.TempDir()
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "there is no history") {
		t.Errorf("the error of a directory without history is %v", err)
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	b := newBench(t, Config{})
	b.Write()
	for path, want := range map[string]os.FileMode{b.config.Dir: 0o700, b.path: 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has %v, %v", path, info.Mode(), err)
		}
	}
}

func TestFileThatIsMostlyFreeIsCopied(t *testing.T) {
	t.Run("", testFileThatIsMostlyFreeIsCopied)
	defer func(as bool) { renamesOpenFiles = as }(renamesOpenFiles)
	renamesOpenFiles = false
	t.Run("after it was closed", testFileThatIsMostlyFreeIsCopied)
}

func testFileThatIsMostlyFreeIsCopied(t *testing.T) {
	b := newBench(t, Config{})
	b.move(1, 5)
	b.pass(5 * time.Minute)
	b.kill()
	db, err := bbolt.Open(b.path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	junk := []byte("junk")
	for _, do := range []func(tx *bbolt.Tx) error{
		func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucket(junk)
			if err != nil {
				return err
			}
			return bucket.Put(junk, make([]byte, 2*compactFrom))
		},
		func(tx *bbolt.Tx) error { return tx.DeleteBucket(junk) },
	} {
		if err := db.Update(do); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	elsewhere := filepath.Join(b.config.Dir, "elsewhere")
	if err := errors.Join(os.Rename(b.path, elsewhere), os.Symlink("elsewhere", b.path)); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.conserved()
	b.kill()
	if info, err := os.Lstat(b.path); err != nil || info.Mode().IsRegular() {
		t.Errorf("a link became %v, %v", info.Mode(), err)
	}
	if err := os.Rename(elsewhere, b.path); err != nil {
		t.Fatal(err)
	}
	b.open()
	info, err := os.Stat(b.path)
	if err != nil || info.Size() > 1<<20 || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %d bytes and %v, %v", info.Size(), info.Mode(), err)
	}
	b.conserved()
	b.move(1, 5)
	b.restart()
	b.conserved()
	if left, _ := filepath.Glob(filepath.Join(b.config.Dir, "*")); len(left) != 1 {
		t.Errorf("there are %v", left)
	}
}

func TestNamesThatNoPeriodHasAreDeleted(t *testing.T) {
	const n = 4096
	b := newBench(t, Config{Interval: 5 * time.Minute, Retention: [resolutions]time.Duration{time.Minute, time.Minute, time.Minute, -1}})
	b.Close()
	b.openWith(capture.NewTable(n, 0))
	periods := collectFrom/n + 5
	for period := range periods {
		for i := range n {
			b.info[addr4(i)] = Info{Hostname: fmt.Sprint("host-", period, "-", i)}
			b.move(i, 1)
		}
		b.now = b.now.Add(5 * time.Minute)
		b.Write()
	}
	var kept int
	if err := b.db.View(func(tx *bbolt.Tx) error { kept = tx.Bucket(whoBucket).Stats().KeyN; return nil }); err != nil {
		t.Fatal(err)
	}
	if kept > 10*n || kept < n {
		t.Errorf("%d names are kept", kept)
	}
	b.conservedIn(Month)
	got := b.usage(b.now.Add(-5*time.Minute), b.now, ByIP)
	if len(got) != n || got[fmt.Sprint("10.0.0.1 host-", periods-1, "-1")] != 1 {
		t.Errorf("the last period has %d addresses", len(got))
	}
	b.restart()
	b.conservedIn(Month)
}

// TestRunWritesAtIntervalsAndBoundaries has the clock of a bubble.
func TestRunWritesAtIntervalsAndBoundaries(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now() // midnight
		table := capture.NewTable(10, 0)
		var reads []time.Duration
		counter := capture.NewCounter(table)
		h, err := Open(Config{Dir: dir, Table: table, Interval: 2 * time.Minute, Zone: time.UTC, Read: func() {
			reads = append(reads, time.Since(start).Round(time.Second))
			counter.Lock()
			defer counter.Unlock()
			counter.Add(addr4(1), capture.Totals{ReceiveBytes: 1})
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
		defer cancel()
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		seconds := []time.Duration{119, 239, 300, 420, 480}
		for i := range seconds {
			seconds[i] *= time.Second
		}
		if !slices.Equal(reads, seconds) {
			t.Errorf("it was read after %v, want %v", reads, seconds)
		}
		if !h.LastWrite().Equal(start.Add(8 * time.Minute)) {
			t.Errorf("the last write was at %v", h.LastWrite())
		}
		h.Write() // which does nothing any more
		if _, err := h.Usage(Query{From: start, To: start, By: ByIP}); err == nil {
			t.Error("usage of a closed history")
		}
		h, err = Open(Config{Dir: dir, Table: capture.NewTable(10, 0), Zone: time.UTC})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		u, err := h.Usage(Query{From: start, To: start.Add(5 * time.Minute), By: ByIP})
		if err != nil || len(u.Rows) != 1 || u.Rows[0].Receive != 3 {
			t.Errorf("the first five minutes have %+v, %v", u.Rows, err)
		}
	})
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	b := newBench(t, Config{})
	var all sync.WaitGroup
	for _, do := range []func(){
		b.Write,
		func() { b.Usage(Query{From: start, To: start.Add(time.Hour)}) },
		func() { b.Series(Day, 31, "") },
		func() { b.Failing(); b.LastWrite(); b.Restored(Series{}) },
		func() { b.move(rand.IntN(10), 1) },
	} {
		all.Go(func() {
			for range 50 {
				do()
			}
		})
	}
	all.Wait()
	b.conserved()
}

func TestWhatMovesAfterTheStartIsNotPartOfPeriodsThatEndedBefore(t *testing.T) {
	b := newBench(t, Config{})
	b.info[addr4(1)] = Info{"laptop", "02:00:00:00:00:01", "lan"}
	b.move(1, 100)
	b.pass(5 * time.Minute)
	b.move(1, 10)
	b.Close()
	ended := b.now
	b.now = b.now.Add(3 * time.Hour)
	clear(b.info) // nothing is known at the start
	b.open()
	b.conserved()
	b.info[addr4(1)] = Info{"laptop", "02:00:00:00:00:01", "lan"}
	b.move(1, 1)
	b.now = b.now.Add(time.Minute)
	b.Write()
	wantUsage(t, b.usage(start, ended.Add(5*time.Minute), ByIP), map[string]int64{"10.0.0.1 laptop": 110})
	wantUsage(t, b.usage(ended.Add(5*time.Minute), b.now, ByIP), map[string]int64{"10.0.0.1 laptop": 1})
	b.conserved()
}

// TestDiskThatFailsWhenAllIsWritten has writes fail that the file has nevertheless, at the end of periods.
func TestDiskThatFailsWhenAllIsWritten(t *testing.T) {
	b := newBench(t, Config{})
	b.Close()
	b.openWith(capture.NewTable(3, time.Millisecond))
	b.transact = func(db *bbolt.DB, do func(*bbolt.Tx) error) error {
		return cmp.Or(db.Update(do), error(syscall.EIO))
	}
	for i := range 20 {
		b.move(i%5, int64(i))
		b.now = b.now.Add(20 * time.Minute)
		b.Write()
		if !b.Failing() {
			t.Error("it does not say that it fails")
		}
		b.conserved()
		time.Sleep(10 * time.Millisecond) // the table has its own time
	}
	b.transact = (*bbolt.DB).Update
	b.move(1, 1)
	b.Write()
	if b.Failing() || strings.Count(b.log.String(), "\n") != 2 {
		t.Errorf("the log has %q", &b.log)
	}
	for range 2 {
		b.conserved()
		b.log.Reset()
		b.kill()
		b.open()
		if b.log.Len() > 0 {
			t.Errorf("the log has %q", &b.log)
		}
	}
}

// TestMemoryWhileNothingCanBeWritten has addresses come and go meanwhile.
func TestMemoryWhileNothingCanBeWritten(t *testing.T) {
	b := newBench(t, Config{})
	b.Close()
	b.openWith(capture.NewTable(5, time.Millisecond))
	for i := range 5 {
		b.move(i, 1)
	}
	b.Write()
	b.transact = func(*bbolt.DB, func(*bbolt.Tx) error) error { return syscall.EIO }
	for i := range 50 {
		time.Sleep(10 * time.Millisecond) // the table has its own time
		b.move(i, 1)
		b.Write()
	}
	if s := b.table.Snapshot(); s.Evicted < 6 || len(b.gone) > 5 {
		t.Errorf("%d were evicted, %d are to be deleted", s.Evicted, len(b.gone))
	}
	b.transact = (*bbolt.DB).Update
	b.Write()
	b.conserved()
	b.kill()
	b.log.Reset()
	b.open()
	b.conserved()
	if b.log.Len() > 0 {
		t.Errorf("the log has %q", &b.log)
	}
}

func TestClockThatWasWrongForLong(t *testing.T) {
	b := newBench(t, Config{Retention: [resolutions]time.Duration{time.Hour, -1, -1, -1}})
	b.move(1, 100)
	b.pass(10 * time.Minute)
	b.now = b.now.AddDate(10, 0, 0)
	for range 3 * 12 {
		b.move(1, 1)
		b.pass(5 * time.Minute)
	}
	if b.state.dropped[FiveMinutes] < b.now.Add(-2*time.Hour).Unix() {
		t.Fatal("nothing was deleted: the test shows nothing")
	}
	b.now = start.Add(15 * time.Minute)
	b.pass(5 * time.Minute)
	right := b.now
	b.move(1, 10)
	b.pass(5 * time.Minute)
	b.move(1, 1)
	wantUsage(t, b.usage(right, right.Add(5*time.Minute), ByIP), map[string]int64{"10.0.0.1": 10})
	b.conservedIn(Hour, Day, Month)
}

// TestClockIsThatOfTheWall: the monotonic one, which times have too, would hide that the clock was set.
func TestClockIsThatOfTheWall(t *testing.T) {
	h, err := Open(Config{Dir: t.TempDir(), Table: capture.NewTable(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	h.Write()
	for _, at := range []time.Time{h.last, h.steady, h.config.Now()} {
		if strings.Contains(at.String(), "m=") {
			t.Errorf("%v has a monotonic part", at)
		}
	}
}

// TestStartTimesOfTotalsThatAreAddedUp has totals that are part of others after a restart.
func TestStartTimesOfTotalsThatAreAddedUp(t *testing.T) {
	set, err := labels.Parse("protocol")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, Config{})
	b.Close()
	b.openWith(capture.NewGroupedTable(10, 0, labels.New(set, labels.HostBits{}, false), 100))
	values, _ := b.table.Grouping().Values([]labels.Text{{Label: labels.Protocol, Value: "tcp"}})
	for i := range 3 {
		b.counter.Lock()
		b.counter.AddSeries(addr4(1+i), values, capture.Totals{ReceiveBytes: 5, TransmitBytes: 5})
		b.counter.Unlock()
		b.now = b.now.Add(time.Minute)
		b.Write()
	}
	began := func(of Series, want time.Time) {
		t.Helper()
		if got, _ := b.Restored(of); !got[0].Equal(want) || !got[1].Equal(want) {
			t.Errorf("%v began at %v, want %v", of.Addr, got, want)
		}
	}
	b.Close()
	b.now = b.now.Add(time.Hour)
	b.openWith(capture.NewTable(10, 0)) // without labels
	began(Series{Addr: addr4(1)}, start)
	began(Series{Addr: addr4(2)}, start.Add(time.Minute))
	b.Close()
	b.now = b.now.Add(time.Hour)
	b.openWith(capture.NewTable(1, 0)) // there is room for one
	began(Series{}, start)
	began(Series{Addr: addr4(3)}, start.Add(2*time.Minute))
	b.Close()
	b.openWith(capture.NewGroupedTable(10, 0, labels.New(0, labels.HostBits{V4: 8}, false), 10))
	began(Series{Addr: addr4(0)}, start.Add(2*time.Minute))
	began(Series{}, start)
	b.restart()
	began(Series{Addr: addr4(0)}, start.Add(2*time.Minute))
	b.conserved()
}

// TestWritesAreDoneWithinTheInterval has a slow disk: what was on a page an interval ago is in the file.
func TestWritesAreDoneWithinTheInterval(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var reads, writes []time.Time
		h, err := Open(Config{Dir: dir, Table: capture.NewTable(10, 0), Interval: time.Minute, Zone: time.UTC})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		h.transact = func(db *bbolt.DB, do func(*bbolt.Tx) error) error {
			time.Sleep(10 * time.Second)
			defer func() { writes = append(writes, time.Now()) }()
			return db.Update(do)
		}
		counter := capture.NewCounter(h.config.Table)
		h.config.Read = func() {
			reads = append(reads, time.Now())
			counter.Lock()
			defer counter.Unlock()
			counter.Add(addr4(1), capture.Totals{ReceiveBytes: 1})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
		if len(writes) < 20 {
			t.Errorf("there were %d writes", len(writes))
		}
		for i := 2; i < len(writes); i++ { // after the first one it is known how long it takes
			if between := writes[i].Sub(reads[i-1]); between > time.Minute {
				t.Errorf("write %d was done %v after the reading before", i, between)
			}
		}
	})
}

// TestRunLooksAtTheClock has the clock set while Run waits, as a system that is suspended finds it.
func TestRunLooksAtTheClock(t *testing.T) {
	for _, by := range []time.Duration{3 * time.Hour, -3 * time.Hour} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var set atomic.Int64
			var reads []time.Duration
			h, err := Open(Config{Dir: dir, Table: capture.NewTable(10, 0), Zone: time.UTC,
				Now:  func() time.Time { return time.Now().Add(time.Duration(set.Load())) },
				Read: func() { reads = append(reads, time.Since(start)) },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
			defer cancel()
			time.AfterFunc(11*time.Second, func() { set.Store(int64(by)) })
			if err := h.Run(ctx); err != nil {
				t.Error(err)
			}
			if len(reads) != 1 || reads[0] > 11*time.Second+look {
				t.Errorf("the clock was set by %v, and it was read after %v", by, reads)
			}
		})
	}
}
