package names

import (
	"net/netip"
	"testing"
	"time"
)

// BenchmarkOf is what a reading of a full table costs: of addresses that a file has a name for, and of those that are left to DNS.
func BenchmarkOf(b *testing.B) {
	const addresses = 1 << 16
	log, _ := logged()
	known := map[netip.Addr]Info{}
	for i := range addresses {
		known[host(i)] = Info{"laptop", "02:00:00:00:00:01"}
	}
	for name, known := range map[string]map[netip.Addr]Info{"known": known, "of DNS": {}} {
		b.Run(name, func(b *testing.B) {
			n := &Names{wake: make(chan struct{}, 1), reverse: newReverse(nil, addresses, log)}
			n.known.Store(&known)
			for b.Loop() {
				for i := range addresses {
					n.Of(host(i))
				}
			}
			b.ReportMetric(float64(b.Elapsed()/time.Duration(b.N)/addresses), "ns/address")
		})
	}
}
