package history

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"promflow/capture"
)

// sums returns what the rows and the steps of a usage have received.
func (u *Usage) sums() (rows, steps int64) {
	for _, r := range u.Rows {
		rows += r.Receive
	}
	for _, s := range u.Steps {
		steps += s.Receive
	}
	return rows, steps
}

// query answers a query, and fails the test unless its rows and steps have the same sum.
func (b *bench) query(q Query) Usage {
	b.t.Helper()
	u, err := b.Usage(q)
	if err != nil {
		b.t.Fatal(err)
	}
	if rows, steps := u.sums(); rows != steps {
		b.t.Errorf("%+v: %d in rows, %d in steps", q, rows, steps)
	}
	return u
}

// TestRowsAndStepsAreEqual asks for spans of any begin and length, while the calendar changes. What each five minutes had is known.
func TestRowsAndStepsAreEqual(t *testing.T) {
	zones := []*time.Location{time.UTC, zone(t, "Europe/Berlin"), zone(t, "Asia/Kathmandu"), zone(t, "America/Los_Angeles")}
	random := rand.New(rand.NewPCG(7, 7))
	b := newBench(t, Config{Retention: [resolutions]time.Duration{-1, -1, -1, -1}})
	moved := map[int64]int64{} // by the start of five minutes
	for range 8 {
		b.Close()
		b.config.Zone = zones[random.IntN(len(zones))]
		b.config.MonthStartsOn = 1 + random.IntN(31)
		b.open()
		for range 150 {
			n := random.Int64N(1 << 20)
			b.move(random.IntN(5), n)
			moved[b.calendar.Start(FiveMinutes, b.now).Unix()] += n
			b.Write()
			b.now = b.now.Add(time.Duration(random.Int64N(int64(8 * time.Hour))))
			b.Write() // which ends periods
		}
		for range 150 {
			from := start.Add(time.Duration(random.Int64N(int64(b.now.Sub(start)))))
			r := Resolution(random.IntN(int(resolutions)))
			q := Query{From: b.calendar.Start(r, from), To: from.Add(time.Duration(random.Int64N(int64(90 * day)))), By: By(random.IntN(3)), Steps: Fitting}
			if r == FiveMinutes {
				q.From = from
			}
			if random.IntN(2) == 0 {
				q.To = b.calendar.End(r, q.To)
			}
			u := b.query(q)
			want := int64(0)
			for at, n := range moved {
				if at >= u.From.Unix() && at < u.To.Unix() {
					want += n
				}
			}
			if rows, _ := u.sums(); rows != want {
				t.Errorf("%v to %v, asked for %v to %v: %d, want %d", u.From, u.To, q.From, q.To, rows, want)
			}
			if u.From.Add(5*time.Minute).Before(q.From) || u.To.After(q.To.Add(5*time.Minute)) && q.To.Before(b.now) {
				t.Errorf("%v to %v, asked for %v to %v", u.From, u.To, q.From, q.To)
			}
			for i, s := range u.Steps {
				if i == 0 && !s.Start.Equal(u.From) || i > 0 && !s.Start.Equal(u.Steps[i-1].End) || s.End.After(u.To) {
					t.Errorf("step %d is of %v to %v, of %v to %v", i, s.Start, s.End, u.From, u.To)
				}
			}
		}
	}
}

func TestUsageAfterAnotherMonthOrZone(t *testing.T) {
	b := newBench(t, Config{})
	for range 20 { // the days from 3 to 22 February, 04:05
		b.move(1, 100)
		b.Write()
		b.now = b.now.Add(day)
		b.Write()
	}
	month := func(h *History, back int) Query {
		from := h.calendar.Back(Month, b.now, back)
		return Query{From: from, To: h.calendar.End(Month, from), Steps: Fitting}
	}
	b.Close()
	for _, c := range []struct {
		zone     *time.Location
		startsOn int
		now      int64
		before   int64
	}{{time.UTC, 1, 2000, 0}, {time.UTC, 15, 800, 1200}, {zone(t, "Europe/Berlin"), 1, 2000, 0}, {time.FixedZone("", -5*3600), 4, 1800, 200}} {
		t.Run(fmt.Sprint(c.zone, c.startsOn), func(t *testing.T) {
			config := b.config
			config.Zone, config.MonthStartsOn, config.Table = c.zone, c.startsOn, nil
			h, err := Open(config) // which only reads it
			if err != nil {
				t.Fatal(err)
			}
			for back, want := range []int64{c.now, c.before} {
				u, err := h.Usage(month(h, back))
				if rows, steps := u.sums(); rows != want || steps != want || err != nil {
					t.Errorf("%d months ago, %v to %v: %d in rows and %d in steps, want %d, %v", back, u.From, u.To, rows, steps, want, err)
				}
			}
			h.Close()
			b.config.Zone, b.config.MonthStartsOn = c.zone, c.startsOn
			b.open()
			for back, want := range []int64{c.now, c.before} {
				u := b.query(month(b.History, back))
				if rows, _ := u.sums(); rows != want {
					t.Errorf("%d months ago, %v to %v: %d, want %d, by one that counts", back, u.From, u.To, rows, want)
				}
			}
			b.Close()
		})
	}
}

func TestSpansWithoutHistory(t *testing.T) {
	b := newBench(t, Config{})
	b.move(1, 100)
	b.pass(time.Hour)
	for name, q := range map[string]Query{
		"before it began": {To: start.Add(-day), Steps: Fitting}, "in the future": {From: b.now.Add(day), To: b.now.Add(2 * day), Steps: Fitting},
	} {
		if u := b.query(q); len(u.Rows) > 0 || u.To.Before(u.From) || !u.Since.Equal(start) {
			t.Errorf("%s: %+v", name, u)
		}
	}
	if u := b.query(Query{From: start.Add(-400 * day), To: b.now, Steps: Fitting}); len(u.Rows) != 1 || len(u.Steps) != 15 {
		t.Errorf("%d rows and %d months", len(u.Rows), len(u.Steps))
	}
}

// TestNameOfADeviceThatIsOff has nobody know its name any more when promflow starts again.
func TestNameOfADeviceThatIsOff(t *testing.T) {
	b := newBench(t, Config{})
	b.info[addr4(1)] = Info{"laptop", "02:00:00:00:00:01", "lan"}
	b.move(1, 1000)
	b.pass(50 * time.Hour)
	b.restart()
	clear(b.info)
	want := func(h *History, what string) {
		t.Helper()
		for by, id := range map[By]string{ByDevice: "02:00:00:00:00:01", ByIP: "10.0.0.1", ByNetwork: "lan"} {
			from := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
			u, err := h.Usage(Query{From: from, To: h.calendar.End(Month, from), By: by, Steps: Fitting})
			if err != nil || len(u.Rows) != 1 || u.Rows[0].ID != id || u.Rows[0].Network != "lan" || by != ByNetwork && u.Rows[0].Hostname != "laptop" {
				t.Errorf("%s, it has %+v, %v", what, u.Rows, err)
			}
		}
	}
	want(b.History, "in the open month")
	b.Close()
	config := b.config
	config.Table, config.Info = nil, nil
	h, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	want(h, "read by another process")
	h.Close()
	b.open()
	b.pass(time.Minute)
	b.kill()
	b.open()
	b.now = b.now.Add(30 * day)
	b.pass(time.Minute)
	want(b.History, "when the month has ended")
	b.conservedIn(Day, Month)
}

// TestAddressOfAnotherDevice has an address move between two devices within periods of all lengths.
func TestAddressOfAnotherDevice(t *testing.T) {
	b := newBench(t, Config{})
	a, z := Info{"alice", "02:00:00:00:00:0a", "lan"}, Info{"zoe", "02:00:00:00:00:0b", ""}
	want := func(what string, ofA, ofZ int64) {
		t.Helper()
		b.conservedIn(Day, Month)
		for r := FiveMinutes; r <= Month; r++ {
			got := map[string]int64{}
			for _, row := range b.query(Query{From: b.calendar.Start(r, start), To: b.calendar.End(r, start), Steps: r}).Rows {
				if row.Network != "lan" { // that of the address
					t.Errorf("%s, %v: the network of %s is %q", what, r, row.Hostname, row.Network)
				}
				got[row.Hostname] = row.Receive
			}
			wantUsage(t, got, map[string]int64{"alice": ofA, "zoe": ofZ})
			for mac, n := range map[string]int64{a.MAC: ofA, z.MAC: ofZ} {
				u := b.query(Query{From: b.calendar.Start(r, start), To: b.calendar.End(r, start), Of: mac, Steps: r})
				if rows, _ := u.sums(); rows != n {
					t.Errorf("%s, %v: %s has %d, want %d", what, r, mac, rows, n)
				}
			}
		}
	}
	b.info[addr4(1)] = a
	b.move(1, 1000)
	b.Write()
	b.info[addr4(1)] = z
	b.move(1, 50)
	want("before a write", 1000, 50)
	b.kill() // the 50 are lost
	b.open()
	b.info[addr4(1)] = z
	b.move(1, 50)
	b.Write()
	want("after a write", 1000, 50)
	b.info[addr4(1)] = Info{} // its MAC is not known for a while
	b.move(1, 3)
	b.Write()
	b.info[addr4(1)] = a
	b.move(1, 2000)
	b.info[addr4(1)] = a
	want("when it is that of the first again", 3000, 53)
	for i := range 1000 { // two hosts have the same address
		b.info[addr4(1)] = []Info{a, z}[i%2]
		b.move(1, 1)
		b.query(Query{From: start, To: b.now, Steps: Fitting})
	}
	want("when it flaps", 3500, 553)
	for i := range b.late {
		if n := len(b.late[i].items); n > 2 {
			t.Errorf("%d items are kept of two devices", n)
		}
	}
	b.now = b.now.Add(40 * day)
	b.pass(time.Minute)
	want("when all periods have ended", 3500, 553)
	b.restart()
	want("after a restart", 3500, 553)
}

func TestWhatHasNoNetworkIsOther(t *testing.T) {
	b := newBench(t, Config{})
	b.info[addr4(1)] = Info{Network: "lan"}
	b.move(1, 100)
	b.move(2, 900)
	b.pass(time.Minute)
	for of, want := range map[string]int64{"lan": 100, "LAN": 100, "other": 900, "10.0.0.2": 0, "10.0.0.1": 100, "": 1000} {
		u := b.query(Query{To: b.now.Add(time.Hour), By: ByNetwork, Of: of, Steps: Fitting})
		if rows, _ := u.sums(); rows != want {
			t.Errorf("of %q: %d, want %d", of, rows, want)
		}
	}
}

// TestWhatIsHandedOverIsBounded has an address get a new MAC all the time, while nothing can be written.
func TestWhatIsHandedOverIsBounded(t *testing.T) {
	b := newBench(t, Config{})
	b.transact = func(*bbolt.DB, func(*bbolt.Tx) error) error { return syscall.EIO }
	for i := range 3 * maxAddresses {
		b.info[addr4(1)] = Info{MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255)}
		b.move(1, 1)
		b.Write()
	}
	for i := range b.late {
		if n := len(b.late[i].items); n > 2*maxAddresses {
			t.Errorf("%d items are kept", n)
		}
	}
	b.conserved()
	b.transact = (*bbolt.DB).Update
	b.pass(time.Hour)
	b.conserved()
}

// TestWhatIsHandedOverStays has records alone take more than the size that is allowed.
func TestWhatIsHandedOverStays(t *testing.T) {
	b := newBench(t, Config{Size: 1 << 20})
	b.Close()
	b.openWith(capture.NewTable(20000, 0))
	for i := range 15000 {
		b.move(i, 10)
	}
	for i, of := range []string{"a", "b"} {
		b.info[addr4(1)] = Info{MAC: "02:00:00:00:00:0" + of}
		b.move(1, 1000)
		b.pass(time.Duration(2+7*i) * time.Minute)
	}
	u := b.query(Query{From: b.calendar.Start(Month, b.now), To: b.calendar.End(Month, b.now), Steps: Fitting})
	if rows, _ := u.sums(); rows != b.total().receive {
		t.Errorf("the month has %d, want %d", rows, b.total().receive)
	}
	b.conservedIn(Month)
}

func TestHistoryBeginsWithWhatCouldNotBeWritten(t *testing.T) {
	b := newBench(t, Config{})
	b.transact = func(*bbolt.DB, func(*bbolt.Tx) error) error { return syscall.EIO }
	b.move(1, 1000)
	b.pass(20 * time.Minute)
	u := b.query(Query{To: b.now.Add(time.Minute), Steps: Fitting})
	if rows, _ := u.sums(); rows != 1000 || !u.Since.Equal(start) {
		t.Errorf("%d since %v, want 1000 since %v", rows, u.Since, start)
	}
}

func TestNamesOfTheNextDevice(t *testing.T) {
	a, z := Info{"alice", "02:00:00:00:00:0a", "lan"}, Info{"zoe", "02:00:00:00:00:0b", "lan"}
	nameless := Info{MAC: "02:00:00:00:00:0a"}
	for name, c := range map[string]struct {
		before, now, want Info
		same              bool
	}{
		"nothing is known any more":       {a, Info{}, a, true},
		"the name is known before a MAC":  {a, Info{Hostname: "zoe"}, a, true},
		"another name of the same device": {a, Info{"alicia", a.MAC, ""}, Info{"alicia", a.MAC, "lan"}, true},
		"a name, and no MAC for long":     {nameless, Info{Hostname: "alice"}, Info{"alice", a.MAC, ""}, true},
		"a MAC is learned":                {Info{Hostname: "alice"}, nameless, Info{"alice", a.MAC, ""}, true},
		"another device":                  {a, z, a, false},
	} {
		if got, same := c.before.later(c.now); got != c.want || same != c.same {
			t.Errorf("%s: %+v, %v, want %+v, %v", name, got, same, c.want, c.same)
		}
	}
}

func TestNameThatBecomesKnownLate(t *testing.T) {
	b := newBench(t, Config{})
	b.move(1, 10)
	b.pass(time.Minute)
	b.info[addr4(1)] = Info{Hostname: "laptop"}
	b.restart()
	clear(b.info)
	wantUsage(t, b.usage(start, b.now, ByIP), map[string]int64{"10.0.0.1 laptop": 10})
}

func TestNetworkOfThen(t *testing.T) {
	b := newBench(t, Config{})
	b.info[addr4(1)] = Info{Network: "lan"}
	b.move(1, 1000)
	b.pass(day)
	b.info[addr4(1)] = Info{"laptop", "02:00:00:00:00:01", "guests"}
	b.move(1, 1)
	b.pass(time.Minute)
	wantUsage(t, b.usage(start.Add(-day), b.now, ByNetwork), map[string]int64{"lan": 1000, "guests": 1})
	wantUsage(t, b.usage(start.Add(-day), b.now, ByDevice), map[string]int64{"10.0.0.1 laptop": 1001})
}

// TestMonthsOfAnotherZone has months that begin 5 hours before those of today's zone, when their days are no longer kept.
func TestMonthsOfAnotherZone(t *testing.T) {
	b := newBench(t, Config{})
	for i, n := range []int64{100, 2000, 30000} {
		b.now = time.Date(2026, time.Month(3+i), 15, 12, 0, 0, 0, time.UTC)
		b.Write()
		b.move(1, n)
		b.Write()
	}
	b.now = b.now.Add(500 * day)
	b.pass(3 * time.Hour)
	b.Close()
	b.config.Zone = zone(t, "America/New_York")
	b.open()
	at := func(month time.Month) time.Time { return time.Date(2026, month, 1, 0, 0, 0, 0, b.config.Zone) }
	for i, want := range []int64{100, 2000, 30000} {
		u := b.query(Query{From: at(time.Month(3 + i)), To: at(time.Month(4 + i)), Steps: Fitting})
		if rows, _ := u.sums(); rows != want || len(u.Steps) != 1 {
			t.Errorf("%v to %v: %d, want %d", u.From, u.To, rows, want)
		}
	}
	u := b.query(Query{From: at(1), To: at(13), Steps: Fitting})
	if rows, _ := u.sums(); rows != 32100 || u.Steps[3].Receive != 2000 {
		t.Errorf("the year has %+v", u.Steps)
	}
}

// TestSpanThatTheClockWasIn asks for a time that is in the future again.
func TestSpanThatTheClockWasIn(t *testing.T) {
	b := newBench(t, Config{})
	b.now = start.Add(2 * day)
	b.Write()
	b.move(1, 1000)
	b.Write()
	b.now = start
	b.Write()
	b.move(1, 1)
	b.Write()
	from := b.calendar.Start(Day, start.Add(2*day))
	u := b.query(Query{From: from, To: from.Add(day), Steps: Fitting})
	if rows, _ := u.sums(); rows != 1000 {
		t.Errorf("%d", rows)
	}
}
