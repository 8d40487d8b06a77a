package names

import (
	"bytes"
	"iter"
	"net/netip"
)

// parseHosts reads hosts(5): an address, and what it is called, first by its canonical name. As for resolvers, of several lines of
// an address the first one counts.
func parseHosts(content []byte) iter.Seq2[netip.Addr, entry] {
	return func(yield func(netip.Addr, entry) bool) {
		for line := range bytes.Lines(content) {
			line, _, _ = bytes.Cut(line, []byte("#"))
			fields := bytes.Fields(line)
			if len(fields) < 2 {
				continue
			}
			addr, ok := address(fields[0])
			name := hostname(string(fields[1]))
			if !ok || name == "" {
				continue
			}
			if !yield(addr, entry{hostname: name, first: true}) {
				return
			}
		}
	}
}
