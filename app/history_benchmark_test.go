package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"promflow/app/live"
	"promflow/capture"
	"promflow/telemetry"
	"promflow/telemetry/page"
)

// BenchmarkHistory has 65,536 addresses that all move something, without a history and with one that is written each second, sixty times as
// often as by default: how long a page takes, and how long a packet does.
func BenchmarkHistory(b *testing.B) {
	const addresses, batch = 65536, 64
	log := slog.New(slog.DiscardHandler)
	hosts := make([]netip.Addr, addresses)
	for i := range hosts {
		hosts[i] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	for _, interval := range []time.Duration{0, time.Second} {
		table := capture.NewTable(addresses, 24*time.Hour)
		monitor := live.Monitor{Table: table, Interfaces: func() []telemetry.Interface { return nil }}
		source := telemetry.NewSource(monitor.Read, false)
		metrics, err := page.New(source, log)
		if err != nil {
			b.Fatal(err)
		}
		telemetry.New("", log, metrics)
		if interval > 0 {
			c := &config{kept: kept{dir: b.TempDir(), interval: interval}}
			h, err := c.openHistory(table, func() []telemetry.Subnet { return nil }, hostNames{}, source, log)
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error)
			go func() { ended <- h.Run(ctx) }()
			b.Cleanup(func() { stop(); <-ended; h.Close() })
		}
		counter := capture.NewCounter(table)
		next := 0
		count := func() {
			counter.Lock()
			defer counter.Unlock()
			for range batch {
				counter.Add(hosts[next], capture.Totals{ReceiveBytes: 1000, TransmitBytes: 100, ReceivePackets: 1, TransmitPackets: 1})
				next = (next + 1) % addresses
			}
		}
		for range addresses / batch {
			count()
		}
		b.Run(fmt.Sprintf("page/interval=%v", interval), func(b *testing.B) {
			for b.Loop() {
				for range addresses / batch {
					count()
				}
				w := httptest.NewRecorder()
				w.Body = nil // none is kept
				metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			}
		})
		b.Run(fmt.Sprintf("packets/interval=%v", interval), func(b *testing.B) {
			for b.Loop() {
				count()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/packet")
		})
	}
}
