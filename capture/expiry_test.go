package capture

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"promflow/capture/subnets"
)

// move has the ith address receive a byte.
func move(t *Table, i int) {
	t.lock()
	defer t.mu.Unlock()
	a := addr4(i)
	t.totals(a, subnets.NumberOf(a), 0).ReceiveBytes++
}

// live and expired give the received bytes of the snapshot's addresses.
func split(s Snapshot) (live, expired map[netip.Addr]int64) {
	live, expired = map[netip.Addr]int64{}, map[netip.Addr]int64{}
	for i := range s.Hosts {
		of := live
		if s.Expired(&s.Hosts[i]) {
			of = expired
		}
		of[s.Hosts[i].Addr] = s.Hosts[i].ReceiveBytes
	}
	return live, expired
}

func TestIdleAddressExpiresAndGoesOnFromItsTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(10, time.Minute)
		move(table, 1)
		move(table, 2)
		for range 10 { // a minute and a half
			time.Sleep(9 * time.Second)
			move(table, 2)
		}
		live, expired := split(table.Snapshot())
		if len(live) != 1 || live[addr4(2)] != 11 || len(expired) != 1 || expired[addr4(1)] != 1 {
			t.Errorf("live are %v, expired %v", live, expired)
		}
		before := table.Snapshot().Hosts[0].Entry
		move(table, 1)
		if live, _ := split(table.Snapshot()); live[addr4(1)] != 2 || table.Snapshot().Hosts[0].Entry != before {
			t.Errorf("after its return, live are %v", live)
		}
	})
}

func TestAddressesExpireNeitherEarlyNorLate(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 999 * time.Millisecond, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			table := NewTable(10, after)
			time.Sleep(3*tick - 1) // not when a tick begins
			move(table, 1)
			time.Sleep(after)
			if _, expired := split(table.Snapshot()); len(expired) != 0 {
				t.Errorf("expired early, after %v", after)
			}
			time.Sleep(2 * tick)
			if _, expired := split(table.Snapshot()); len(expired) != 1 {
				t.Errorf("not expired %v after %v", 2*tick, after)
			}
		})
	}
}

func TestNothingExpiresWithoutATimeOrWithinALongOne(t *testing.T) {
	for _, after := range []time.Duration{0, 1<<32*tick + time.Hour, math.MaxInt64} {
		synctest.Test(t, func(t *testing.T) {
			table := NewTable(1, after)
			move(table, 1)
			time.Sleep(10 * 365 * 24 * time.Hour)
			move(table, 2)
			live, expired := split(table.Snapshot())
			if len(expired) != 0 || live[addr4(1)] != 1 || live[netip.Addr{}] != 1 {
				t.Errorf("after %v: live are %v, expired %v", after, live, expired)
			}
		})
	}
}

func TestLongestExpiredMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(3, time.Minute)
		for _, i := range []int{1, 2, 3} {
			move(table, i)
			time.Sleep(time.Second)
		}
		move(table, 1) // so that 2 has been idle for longest
		time.Sleep(57500 * time.Millisecond)
		move(table, 4) // nobody has expired
		time.Sleep(700 * time.Millisecond)
		move(table, 5) // 2 has
		s := table.Snapshot()
		live, expired := split(s)
		if s.Evicted != 1 || len(live) != 4 || live[addr4(1)] != 2 || live[addr4(3)] != 1 || live[addr4(5)] != 1 || live[netip.Addr{}] != 2 || len(expired) != 0 {
			t.Errorf("%d evicted, live are %v, expired %v", s.Evicted, live, expired)
		}
		time.Sleep(61 * time.Second)
		move(table, 3)
		move(table, 2) // 1 goes
		move(table, 6) // 5 goes
		move(table, 7) // nobody goes
		live, expired = split(table.Snapshot())
		if live[addr4(2)] != 1 || live[addr4(3)] != 2 || live[addr4(6)] != 1 || live[netip.Addr{}] != 6 || len(expired) != 0 {
			t.Errorf("live are %v, expired %v", live, expired)
		}
	})
}

// TestWhoReturnedIsNotLongestExpired has an address that had expired return and expire again before the others that had expired with
// it have made room.
func TestWhoReturnedIsNotLongestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(3, time.Minute)
		for _, i := range []int{1, 2, 3} {
			move(table, i)
			time.Sleep(time.Second)
		}
		time.Sleep(70 * time.Second)
		move(table, 4) // 1 goes
		move(table, 2)
		time.Sleep(61 * time.Second)
		move(table, 5) // 3 goes, which has been idle for longer than 2 and 4
		live, expired := split(table.Snapshot())
		if live[addr4(5)] != 1 || live[netip.Addr{}] != 2 || expired[addr4(2)] != 2 || expired[addr4(4)] != 1 {
			t.Errorf("live are %v, expired %v", live, expired)
		}
	})
}

// TestChurnConservesTotals has addresses come, go and return at random, and compares with what a table must do.
func TestChurnConservesTotals(t *testing.T) {
	const limit, addresses, after = 50, 300, 20 * time.Second
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			table := NewTable(limit, after)
			var moved int64
			last := map[netip.Addr]time.Time{} // when they moved something
			was := map[netip.Addr]Host{}
			for range 5000 {
				i := random.IntN(addresses) / (1 + random.IntN(20)) // some more often than others
				alive := map[netip.Addr]bool{}
				for addr := range was { // but the others, which are no address
					alive[addr] = addr.IsValid() && time.Since(last[addr]) < after
				}
				move(table, i)
				moved++
				last[addr4(i)] = time.Now()
				s := table.Snapshot()
				if got := sum(s.Hosts).ReceiveBytes; got != moved {
					t.Fatalf("%d bytes in the table, %d were received", got, moved)
				}
				if n := len(s.Hosts); n > limit+1 || n == limit+1 && s.Hosts[limit].Addr.IsValid() {
					t.Fatalf("%d hosts", n)
				}
				now := map[netip.Addr]Host{}
				for i := range s.Hosts {
					h := s.Hosts[i]
					if _, twice := now[h.Addr]; twice {
						t.Fatalf("%v comes twice", h.Addr)
					}
					now[h.Addr] = h
					if alive[h.Addr] && s.Expired(&h) {
						t.Fatalf("%v expired after %v", h.Addr, time.Since(last[h.Addr]))
					}
				}
				for addr, b := range was {
					h, still := now[addr]
					if alive[addr] && (!still || h.Entry != b.Entry) {
						t.Fatalf("%v was evicted, %v after it moved something", addr, time.Since(last[addr]))
					}
					if still && h.Entry == b.Entry && h.ReceiveBytes < b.ReceiveBytes {
						t.Fatalf("%v went from %d to %d", addr, b.ReceiveBytes, h.ReceiveBytes)
					}
				}
				was = now
				time.Sleep(time.Duration(random.IntN(int(after / 20))))
			}
			if s := table.Snapshot(); s.Evicted == 0 {
				t.Error("nobody was evicted: the test shows nothing")
			}
		})
	}
}

// BenchmarkFlood counts packets of addresses that the table has no room for, as of spoofed sources, against those of hosts that
// it knows.
func BenchmarkFlood(b *testing.B) {
	for _, c := range []struct {
		name      string
		addresses int
	}{{"known", DefaultLimit}, {"spoofed", 1 << 24}} {
		b.Run(c.name, func(b *testing.B) {
			table := NewTable(DefaultLimit, 24*time.Hour)
			fill(table, DefaultLimit, addr4)
			table.lock()
			defer table.mu.Unlock()
			random := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				a := addr4(random.IntN(c.addresses))
				table.totals(a, subnets.NumberOf(a), 0).ReceiveBytes++
			}
		})
	}
}
