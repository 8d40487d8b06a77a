package history

import (
	"fmt"
	"math/rand/v2"
	"os"
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
