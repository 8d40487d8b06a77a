package names

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"promflow/capture/subnets"
)

// BenchmarkOf is what a reading of a full table costs: of addresses that a file has a name for, and of those that are left to DNS.
func BenchmarkOf(b *testing.B) {
	const addresses = 1 << 16
	log, _ := logged()
	names := map[netip.Addr]Info{}
	for i := range addresses {
		names[host(i)] = Info{"laptop", "02:00:00:00:00:01"}
	}
	onLink := &mdns{answers: newReverse(240, addresses, log)}
	onLink.links.Store(&subnets.Longest[net.Interface]{})
	onLink.links.Load().Add(netip.MustParsePrefix("10.0.0.0/8"), net.Interface{Index: 1})
	for name, n := range map[string]*Names{
		"known":             {reverse: newReverse(240, addresses, log)},
		"of DNS":            {reverse: newReverse(240, addresses, log)},
		"of DNS, on-link":   {reverse: newReverse(240, addresses, log), mdns: onLink},
		"of multicast DNS":  {mdns: onLink},
		"in a given prefix": {reverse: newReverse(240, addresses, log)},
	} {
		b.Run(name, func(b *testing.B) {
			n.wake = make(chan struct{}, 1)
			known := &view{}
			switch name {
			case "known":
				known.hosts = names
			case "in a given prefix":
				known.given = &given{}
				known.given.prefixes.Add(netip.MustParsePrefix("10.0.0.0/8"), "lan")
			}
			n.known.Store(known)
			for b.Loop() {
				for i := range addresses {
					n.Of(host(i))
				}
			}
			b.ReportMetric(float64(b.Elapsed()/time.Duration(b.N)/addresses), "ns/address")
		})
	}
}
