package history

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
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
		b.pass(day)
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
	b.pass(30 * day)
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
	b.pass(40 * day)
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
