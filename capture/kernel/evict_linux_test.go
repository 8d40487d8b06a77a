package kernel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// TestEvictsWhileCounting passes few slots from address to address, or from series to series, while packets of all of them come from
// several processors. No packet may be lost, or count for another address or series.
func TestEvictsWhileCounting(t *testing.T) {
	nettest.NeedRoot(t)
	// The first stage counts UDP and TCP, with its caches of flows and series. It leaves UDP in a VLAN to other stages.
	kinds := [...]struct {
		labels labels.Values
		change func(frame []byte, protocol int) []byte
	}{
		{2, func(frame []byte, _ int) []byte { return frame }},
		{1, func(frame []byte, protocol int) []byte { frame[protocol] = 6; return frame }},
		{2 | 5<<3, func(frame []byte, _ int) []byte { return slices.Insert(frame, 12, 0x81, 0, 0, 5) }},
	}
	const addresses, runners, evictions, size = 48, 4, 30, 100
	for _, c := range []struct {
		name, monitored string
		slots, series   int
	}{
		{"addresses", "10.0.0.0/8,fd00::/16", 16, 0},
		{"labels of addresses that stay", "10.0.0.0/26,fd00::/16", 64, 16},
		{"addresses with their labels", "10.0.0.0/8,fd00::/16", 16, 1000},
		{"both", "10.0.0.0/8,fd00::/16", 16, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			monitored, err := subnets.Parse(c.monitored)
			if err != nil {
				t.Fatal(err)
			}
			few, all := capture.NewTable(c.slots, 0), capture.NewTable(addresses, 0) // all has room for those without a slot, too
			if c.series > 0 {
				g := labels.New(labels.Set(0).With(labels.VLAN).With(labels.Protocol), labels.HostBits{}, false)
				few, all = capture.NewGroupedTable(c.slots, 0, g, c.series), capture.NewGroupedTable(addresses, 0, g, addresses*len(kinds))
			}
			r := newRunner(t, ebpf.SchedCLS, capture.Config{Table: few.Monitor(capture.Subnets{Monitored: monitored})})
			r.counter = capture.NewCounter(all.Monitor(capture.Subnets{Monitored: monitored}))

			var frames [addresses * len(kinds)][]byte
			var from [addresses]netip.Addr
			for i := range from {
				to, protocol := netip.MustParseAddr("192.0.2.1"), 14+9
				if from[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}); i%2 == 1 {
					from[i], to = netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}), netip.MustParseAddr("2001:db8::1")
					protocol = 14 + 6
				}
				for k, kind := range kinds {
					frames[i*len(kinds)+k] = kind.change(nettest.UDP(from[i], to, size), protocol)
				}
			}
			var sent [addresses * len(kinds)]atomic.Int64
			var done atomic.Bool
			var wg sync.WaitGroup
			for range runners {
				wg.Go(func() {
					for !done.Load() {
						// Only some frames at a time, so that the addresses and series of others expire.
						first := rand.IntN(len(frames))
						for range 100 {
							i := (first + rand.IntN(8)) % len(frames)
							if _, err := r.filter.Run(&ebpf.RunOptions{Data: frames[i], Repeat: 1}); err != nil {
								t.Error(err)
								return
							}
							sent[i].Add(1)
						}
					}
				})
			}
			owners := map[string]bool{} // of the first shared slot, or of the first slot of series
			evicted := 0
			for end := time.Now().Add(time.Minute); evicted < evictions && time.Now().Before(end); {
				r.read()
				if r.series.first < r.series.end {
					address, labels, _ := r.ownerOf(r.series.first)
					owners[fmt.Sprint(address, labels)] = true
				} else {
					owners[r.address(0).String()] = true
				}
				before := isFull(t, r.Program)
				if err := r.evict(100 * time.Microsecond); err != nil {
					t.Fatal(err)
				}
				if before && !isFull(t, r.Program) {
					evicted++
				}
			}
			done.Store(true)
			wg.Wait()
			r.read()

			if evicted < evictions || len(owners) < 3 {
				t.Errorf("slots were taken back %d times, and the first had %d owners: the test shows nothing", evicted, len(owners))
			}
			totals, snapshot := map[netip.Addr]int64{}, all.Snapshot()
			var sum, want capture.OutcomeSize
			for _, h := range snapshot.Hosts {
				totals[h.Addr] += h.TransmitPackets
				sum.Packets += h.TransmitPackets
				sum.Bytes += h.TransmitBytes
			}
			for at, series := range snapshot.Series() {
				addr := snapshot.Hosts[at].Addr
				totals[addr] += series.TransmitPackets
				sum.Packets += series.TransmitPackets
				sum.Bytes += series.TransmitBytes
				var n int64
				for i := range from {
					for k, kind := range kinds {
						// The numbers of labels are those of grouping.h. A series may be coarser if a slot was freed just after its packet found none.
						if from[i] == addr && (series.Labels == kind.labels || series.Labels == all.Grouping().Coarser(kind.labels)) {
							n += sent[i*len(kinds)+k].Load()
						}
					}
				}
				if series.TransmitPackets > n {
					t.Errorf("%v has %d packets with labels %x, of %d", addr, series.TransmitPackets, series.Labels, n)
				}
			}
			without := 0 // addresses that never had a slot: by chance, these are few
			for i, addr := range from {
				var n int64
				for k := range kinds {
					n += sent[i*len(kinds)+k].Load()
				}
				want.Packets += n
				want.Bytes += n * size
				got := totals[addr]
				if got > n || got < n && c.slots > addresses {
					t.Errorf("%v has %d packets of %d", addr, got, n)
				}
				if got == 0 {
					without++
				}
			}
			if without > addresses/4 {
				t.Errorf("%d of %d addresses have no packet", without, addresses)
			}
			// BPF_PROG_TEST_RUN may run a program again when a signal comes.
			counted := r.outcomes(0)[frame.Counted]
			if counted != sum || sum.Packets < want.Packets || sum.Packets > want.Packets+want.Packets/100 || sum.Bytes != sum.Packets*size {
				t.Errorf("the table has %+v, the program counted %+v, sent were %+v", sum, counted, want)
			}
		})
	}
}

// TestNeverEvictsWhoIsAlive lets one address send while all others expire.
func TestNeverEvictsWhoIsAlive(t *testing.T) {
	nettest.NeedRoot(t)
	const slots, rounds, size = 4, 20, 100
	monitored, err := subnets.Parse("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(t, ebpf.SchedCLS, capture.Config{Table: capture.NewTable(slots, 0).Monitor(capture.Subnets{Monitored: monitored})})
	table := capture.NewTable(1000, 0)
	r.counter = capture.NewCounter(table.Monitor(capture.Subnets{Monitored: monitored}))
	run := func(last byte) {
		f := nettest.UDP(netip.AddrFrom4([4]byte{10, 0, 0, last}), netip.MustParseAddr("192.0.2.1"), size)
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
			run(1 + round*slots + i) // the last one finds no free slot
		}
		if !isFull(t, r.Program) {
			t.Fatal("every address has a slot")
		}
		r.read()
		for i := range r.last { // as if the others had been idle for an hour
			if r.address(i) != netip.AddrFrom4([4]byte{10, 0, 0, 0}) {
				r.last[i].seen -= time.Hour
			}
		}
		r.shared.nextLook = 0
		if err := r.evict(30 * time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	totals := totalsOf(table)
	if got := totals[netip.AddrFrom4([4]byte{10, 0, 0, 0})].TransmitPackets; got != rounds {
		t.Errorf("the address that was active has %d packets, want %d", got, rounds)
	}
	if got := totals[netip.Addr{}].TransmitPackets; got != rounds {
		t.Errorf("the others have %d packets, want %d: one in each round", got, rounds)
	}
}

// TestEvictionThatFailedIsDoneAgain lets each of the maps fail once. Other maps may have been changed before.
func TestEvictionThatFailedIsDoneAgain(t *testing.T) {
	nettest.NeedRoot(t)
	const expireAfter = 30 * time.Minute
	monitored, err := subnets.Parse("10.0.0.0/8,fd00::/16")
	if err != nil {
		t.Fatal(err)
	}
	for name, mapOf := range map[string]func(*Program) **ebpf.Map{
		"IPv4":       func(p *Program) **ebpf.Map { return &p.slots4 },
		"IPv6":       func(p *Program) **ebpf.Map { return &p.slots6 },
		"free slots": func(p *Program) **ebpf.Map { return &p.shared.free },
	} {
		t.Run(name, func(t *testing.T) {
			table := capture.NewTable(100, 0)
			r := newRunner(t, ebpf.SchedCLS, capture.Config{Table: capture.NewTable(4, 0).Monitor(capture.Subnets{Monitored: monitored})})
			r.counter = capture.NewCounter(table.Monitor(capture.Subnets{Monitored: monitored}))
			run := func(from, to string) {
				f := nettest.UDP(netip.MustParseAddr(from), netip.MustParseAddr(to), 100)
				if _, err := r.filter.Run(&ebpf.RunOptions{Data: f}); err != nil {
					t.Fatal(err)
				}
			}
			run("10.0.0.1", "192.0.2.1")
			run("10.0.0.2", "192.0.2.1")
			run("fd00::1", "2001:db8::1")
			run("fd00::2", "2001:db8::1")
			run("fd00::3", "2001:db8::1") // finds no free slot
			r.read()
			for i := range r.last { // as if they had been idle for an hour
				r.last[i].seen -= time.Hour
			}
			broken := mapOf(r.Program)
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
			if isFull(t, r.Program) {
				t.Fatal("no slot was taken back")
			}
			for _, from := range []string{"10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5"} {
				run(from, "192.0.2.1")
			}
			if r.read(); isFull(t, r.Program) {
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

func (p *Program) slots4Len(t *testing.T) (n int) {
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

// isFull tells whether new addresses, or new series, get no slot.
func isFull(t *testing.T, p *Program) bool {
	t.Helper()
	for _, each := range p.pools() {
		var state countSlotsState
		if err := each.state.Get(&state); err != nil {
			t.Fatal(err)
		}
		if state != slotsOpen {
			return true
		}
	}
	return false
}
