package history

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"promflow/capture"
)

// busy has all addresses of a full table move something.
func (b *bench) busy(n int, random *rand.Rand) {
	b.counter.Lock()
	defer b.counter.Unlock()
	for i := range n {
		b.counter.Add(addr4(i), capture.Totals{
			ReceiveBytes: random.Int64N(1 << 30), TransmitBytes: random.Int64N(1 << 28), ReceivePackets: 1000, TransmitPackets: 1000})
	}
}

// newBusyBench returns a history of so many addresses that have names.
func newBusyBench(b *testing.B, n int) *bench {
	bench := newBench(b, Config{})
	bench.Close()
	bench.openWith(capture.NewTable(n, 0))
	for i := range n {
		bench.info[addr4(i)] = Info{fmt.Sprint("host-", i), fmt.Sprintf("02:00:00:%02x:%02x:%02x", i>>16, i>>8&0xff, i&0xff), "lan"}
	}
	return bench
}

// BenchmarkWrite writes addresses that have all moved something, in the middle of a period of five minutes or at the end of one of each
// resolution.
func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{100, capture.DefaultLimit} {
		for _, c := range []struct {
			name string
			pass time.Duration
		}{{"period=open", time.Microsecond}, {"period=end", 32 * day}} {
			b.Run(fmt.Sprintf("addresses=%d/%s", n, c.name), func(b *testing.B) {
				bench, random := newBusyBench(b, n), rand.New(rand.NewPCG(1, 2))
				for range 3 {
					bench.busy(n, random)
					bench.Write()
				}
				before := bench.db.Stats().TxStats
				for b.Loop() {
					b.StopTimer()
					bench.busy(n, random)
					bench.now = bench.now.Add(c.pass)
					b.StartTimer()
					bench.Write()
				}
				after := bench.db.Stats()
				written := after.TxStats.Sub(&before)
				b.ReportMetric(float64(written.GetPageAlloc())/float64(b.N), "written-B/op")
				if bench.Failing() {
					b.Fatal(bench.log.String())
				}
			})
		}
	}
}

// BenchmarkObserve reads a full table, as queries do and each write does.
func BenchmarkObserve(b *testing.B) {
	bench, random := newBusyBench(b, capture.DefaultLimit), rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		b.StopTimer()
		bench.busy(capture.DefaultLimit, random)
		b.StartTimer()
		bench.mu.Lock()
		bench.observe(bench.now)
		bench.mu.Unlock()
	}
}

// BenchmarkUsage reads the usage of spans in a history where 4096 addresses have moved something in each period, and says how large its file
// is for 13 months.
func BenchmarkUsage(b *testing.B) {
	const n = capture.DefaultLimit
	bench, random := newBusyBench(b, n), rand.New(rand.NewPCG(1, 2))
	bench.Close()
	bench.config.Retention = [resolutions]time.Duration{-1, -1, -1, -1}
	bench.openWith(capture.NewTable(n, 0))
	const periods = 288
	for range periods {
		bench.busy(n, random)
		bench.now = bench.now.Add(5 * time.Minute)
		bench.Write()
	}
	info, err := os.Stat(bench.path)
	if err != nil {
		b.Fatal(err)
	}
	stats := bench.db.Stats()
	page := bench.db.Info().PageSize
	used := info.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(page)
	perPeriod := float64(0)
	if v, err := bench.view(Query{}); err == nil {
		_, sealed := v.tx.Bucket(FiveMinutes.bucket()).Cursor().Last()
		perPeriod = float64((len(sealed) + page - 1) / page * page)
		v.close()
	}
	kept := 2*288 + 5*7*24 + 396 + 13
	others := float64(used) - perPeriod*float64(bench.state.kept[FiveMinutes]+bench.state.kept[Hour])
	for _, by := range []By{ByDevice, ByIP, ByNetwork} {
		b.Run(fmt.Sprintf("24h/by=%d", by), func(b *testing.B) {
			for b.Loop() {
				if _, err := bench.Usage(Query{From: start, To: bench.now.Add(1), By: by, Steps: FiveMinutes}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((others+perPeriod*float64(kept))/1e6, "MB/13-months")
			b.ReportMetric(perPeriod, "B/period")
		})
	}
}

// BenchmarkOpen opens the history of a full table.
func BenchmarkOpen(b *testing.B) {
	bench, random := newBusyBench(b, capture.DefaultLimit), rand.New(rand.NewPCG(1, 2))
	bench.busy(capture.DefaultLimit, random)
	bench.now = bench.now.Add(5 * time.Minute)
	bench.Write()
	for b.Loop() {
		b.StopTimer()
		bench.Close()
		b.StartTimer()
		bench.open()
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory says how much memory a history keeps for each address that has moved something and has a name, apart from the table: when
// all were counted, and when all were restored.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{capture.DefaultLimit, 1_000_000} {
		b.Run(fmt.Sprintf("addresses=%d", n), func(b *testing.B) {
			for b.Loop() {
				bench, random := newBusyBench(b, n), rand.New(rand.NewPCG(1, 2))
				bench.busy(n, random)
				before := heap()
				for range 2 {
					bench.now = bench.now.Add(5 * time.Minute)
					bench.Write()
				}
				b.ReportMetric(float64(heap()-before)/float64(n), "B/address")
				bench.Close()
				bench.open()
				with := heap()
				bench.History.hosts, bench.History.restored, bench.History.numbers = nil, nil, nil
				b.ReportMetric(float64(with-heap())/float64(n), "restored-B/address")
			}
		})
	}
}

var addresses = flag.Int("addresses", 100, "how many addresses TestThirteenMonths has")

// TestThirteenMonths has addresses move something in each period that is kept after so long. Most of the year passes by days, as only the last
// weeks are kept by hours.
func TestThirteenMonths(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a while")
	}
	b, random := newBench(t, Config{Interval: day}), rand.New(rand.NewPCG(1, 2))
	b.Close()
	b.openWith(capture.NewTable(*addresses, 0))
	for i := range *addresses {
		b.info[addr4(i)] = Info{fmt.Sprint("host-", i), fmt.Sprintf("02:00:00:%02x:%02x:%02x", i>>16, i>>8&0xff, i&0xff), "lan"}
	}
	var writes []time.Duration
	write := func() {
		b.busy(*addresses, random)
		begin := time.Now()
		b.Write()
		writes = append(writes, time.Since(begin))
	}
	before := heap()
	for _, step := range []struct {
		length time.Duration
		n      int
	}{{day, 400}, {time.Hour, 36 * 24}, {5 * time.Minute, 3 * 288}} {
		for range step.n {
			b.now = b.now.Add(step.length)
			write()
		}
	}
	b.state.liveWhos = -collectFrom // names are searched for that no period has
	var collects time.Duration
	for range 40 {
		b.now = b.now.Add(5 * time.Minute)
		write()
		collects = max(collects, writes[len(writes)-1])
	}
	kept := b.state.kept
	want := [resolutions]int64{2 * 288, 35 * 24, 396, 15}
	for r := range resolutions {
		if kept[r] < want[r]-1 || kept[r] > want[r]+1 {
			t.Errorf("%v: %d periods are kept, want %d", r, kept[r], want[r])
		}
	}
	b.conservedIn(Month)
	info, err := os.Stat(b.path)
	if err != nil || info.Size() > DefaultSize+32<<20 || b.Failing() {
		t.Errorf("the file has %d bytes, %v: %s", info.Size(), err, &b.log)
	}
	stats := b.db.Stats()
	used := info.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(b.db.Info().PageSize)
	memory := heap() - before
	slices.Sort(writes)
	t.Logf("%.1f MB, %.1f MB of them in use; %.1f MB of memory; a write took %v, %v at most, and %v at most with the search for names",
		float64(info.Size())/1e6, float64(used)/1e6, float64(memory)/1e6, writes[len(writes)/2], writes[len(writes)-1], collects)
	// What was written and removed in all that time leaves a file that is accepted.
	total := b.total()
	if b.restart(); b.total() != total || strings.Contains(b.log.String(), "aside") {
		t.Errorf("after a restart there are %+v, before %+v: %s", b.total(), total, &b.log)
	}
}
