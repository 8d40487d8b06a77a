package ebpf

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"promflow/capture"
	"promflow/capture/capturetest"
	"promflow/capture/frame"
)

// TestEvictsWhileCounting has few slots go from address to address while packets of all of them come, from several processors:
// none may be lost, or count for another address.
func TestEvictsWhileCounting(t *testing.T) {
	capturetest.NeedRoot(t)
	const slots, addresses, runners, evictions, size = 16, 48, 4, 50, 100
	monitored, err := capture.ParseSubnets("10.0.0.0/8,fd00::/16")
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(t, ebpf.SchedCLS, capture.Config{Table: capture.NewTable(slots, 0), Monitored: monitored})
	table := capture.NewTable(addresses, 0) // knows all, even those that have no slot
	r.counter = capture.NewCounter(table, monitored, capture.Subnets{})

	var frames [addresses][]byte
	var all [addresses]netip.Addr
	for i := range all {
		to := netip.MustParseAddr("192.0.2.1")
		if all[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}); i%2 == 1 {
			all[i], to = netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}), netip.MustParseAddr("2001:db8::1")
		}
		frames[i] = capturetest.UDP(all[i], to, size)
	}
	var sent [addresses]atomic.Int64
	var done atomic.Bool
	var wg sync.WaitGroup
	for range runners {
		wg.Go(func() {
			for !done.Load() {
				// Some at a time, so that others expire.
				first := rand.IntN(addresses)
				for range 100 {
					i := (first + rand.IntN(slots/2)) % addresses
					if _, err := r.filter.Run(&ebpf.RunOptions{Data: frames[i], Repeat: 1}); err != nil {
						t.Error(err)
						return
					}
					sent[i].Add(1)
				}
			}
		})
	}
	owners := map[netip.Addr]bool{} // of the first shared slot
	evicted := 0
	for end := time.Now().Add(time.Minute); evicted < evictions && time.Now().Before(end); {
		r.read()
		owners[r.address(0)] = true
		before := fullOf(t, r.program)
		if err := r.evict(100 * time.Microsecond); err != nil {
			t.Fatal(err)
		}
		if before && !fullOf(t, r.program) {
			evicted++
		}
	}
	done.Store(true)
	wg.Wait()
	r.read()

	if evicted < evictions || len(owners) < 3 {
		t.Errorf("slots were taken back %d times, and the first had %d owners: the test shows nothing", evicted, len(owners))
	}
	totals := totalsOf(table)
	var sum, want capture.OutcomeSize
	for i, addr := range all {
		n := sent[i].Load()
		want.Packets += n
		want.Bytes += n * size
		if got := totals[addr]; got.TransmitPackets > n || got.TransmitPackets == 0 {
			t.Errorf("%v has %d packets of %d", addr, got.TransmitPackets, n)
		}
	}
	for _, got := range totals {
		sum.Packets += got.TransmitPackets
		sum.Bytes += got.TransmitBytes
	}
	// BPF_PROG_TEST_RUN may run a program again when a signal comes.
	counted := r.outcomes(0)[frame.Counted]
	if counted != sum || sum.Packets < want.Packets || sum.Packets > want.Packets+want.Packets/100 || sum.Bytes != sum.Packets*size {
		t.Errorf("the table has %+v, the program counted %+v, sent were %+v", sum, counted, want)
	}
}

// TestNeverEvictsWhoIsAlive has one address send while all others expire.
func TestNeverEvictsWhoIsAlive(t *testing.T) {
	capturetest.NeedRoot(t)
	const slots, rounds, size = 4, 20, 100
	monitored, err := capture.ParseSubnets("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(t, ebpf.SchedCLS, capture.Config{Table: capture.NewTable(slots, 0), Monitored: monitored})
	table := capture.NewTable(1000, 0)
	r.counter = capture.NewCounter(table, monitored, capture.Subnets{})
	run := func(last byte) {
		f := capturetest.UDP(netip.AddrFrom4([4]byte{10, 0, 0, last}), netip.MustParseAddr("192.0.2.1"), size)
		if _, err := r.filter.Run(&ebpf.RunOptions{Data: f}); err != nil {
			t.Fatal(err)
		}
	}
	for round := range byte(rounds) {
		run(0)
		r.read()
		others := r.slots4Len(t) - 1
		if round > 0 && others != 0 {
			t.Fatalf("%d others have slots", others)
		}
		for i := range byte(slots) {
			run(1 + round*slots + i) // for the last there is no slot
		}
		if !fullOf(t, r.program) {
			t.Fatal("there is a slot for everybody")
		}
		r.read()
		for i := range r.reader.slots { // as if the others had done nothing for an hour
			if r.address(i) != netip.AddrFrom4([4]byte{10, 0, 0, 0}) {
				r.reader.slots[i].seen -= time.Hour
			}
		}
		r.look = 0
		if err := r.evict(30 * time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	totals := totalsOf(table)
	if got := totals[netip.AddrFrom4([4]byte{10, 0, 0, 0})].TransmitPackets; got != rounds {
		t.Errorf("who was alive has %d packets, want %d", got, rounds)
	}
	if got := totals[netip.Addr{}].TransmitPackets; got != rounds {
		t.Errorf("the others have %d packets, want %d: one in each round", got, rounds)
	}
}

// TestEvictionThatFailedIsDoneAgain has each of the maps fail once, when others may have been changed before.
func TestEvictionThatFailedIsDoneAgain(t *testing.T) {
	capturetest.NeedRoot(t)
	const expireAfter = 30 * time.Minute
	monitored, err := capture.ParseSubnets("10.0.0.0/8,fd00::/16")
	if err != nil {
		t.Fatal(err)
	}
	for name, mapOf := range map[string]func(*program) **ebpf.Map{
		"IPv4":       func(p *program) **ebpf.Map { return &p.slots4 },
		"IPv6":       func(p *program) **ebpf.Map { return &p.slots6 },
		"free slots": func(p *program) **ebpf.Map { return &p.freeSlots },
	} {
		t.Run(name, func(t *testing.T) {
			table := capture.NewTable(100, 0)
			r := newRunner(t, ebpf.SchedCLS, capture.Config{Table: capture.NewTable(4, 0), Monitored: monitored})
			r.counter = capture.NewCounter(table, monitored, capture.Subnets{})
			run := func(from, to string) {
				if _, err := r.filter.Run(&ebpf.RunOptions{Data: capturetest.UDP(netip.MustParseAddr(from), netip.MustParseAddr(to), 100)}); err != nil {
					t.Fatal(err)
				}
			}
			run("10.0.0.1", "192.0.2.1")
			run("10.0.0.2", "192.0.2.1")
			run("fd00::1", "2001:db8::1")
			run("fd00::2", "2001:db8::1")
			run("fd00::3", "2001:db8::1") // for which there is no slot
			r.read()
			for i := range r.reader.slots { // as if they had done nothing for an hour
				r.reader.slots[i].seen -= time.Hour
			}
			broken := mapOf(r.program)
			whole := *broken
			if *broken, err = whole.Clone(); err != nil {
				t.Fatal(err)
			}
			(*broken).Close()
			if err := r.evict(expireAfter); err == nil {
				t.Error("no error of a map that was closed")
			}
			*broken = whole
			if err := r.evict(expireAfter); err != nil {
				t.Error(err)
			}
			if fullOf(t, r.program) {
				t.Fatal("no slot was taken back")
			}
			for _, from := range []string{"10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5"} {
				run(from, "192.0.2.1")
			}
			if r.read(); fullOf(t, r.program) {
				t.Error("not every slot was taken back")
			}
			totals := totalsOf(table)
			for from, want := range map[string]int64{"10.0.0.1": 2, "10.0.0.2": 1, "10.0.0.5": 1, "fd00::1": 1, "fd00::2": 1} {
				if got := totals[netip.MustParseAddr(from)].TransmitPackets; got != want {
					t.Errorf("%s has %d packets, want %d", from, got, want)
				}
			}
			if got := totals[netip.Addr{}].TransmitPackets; got != 1 {
				t.Errorf("the others have %d packets, want 1", got)
			}
		})
	}
}

func (p *program) slots4Len(t *testing.T) (n int) {
	t.Helper()
	var key, value uint32
	entries := p.slots4.Iterate()
	for entries.Next(&key, &value) {
		n++
	}
	if err := entries.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

func fullOf(t *testing.T, p *program) bool {
	t.Helper()
	var full uint32
	if err := p.full.Get(&full); err != nil {
		t.Fatal(err)
	}
	return full != slotsOpen
}
