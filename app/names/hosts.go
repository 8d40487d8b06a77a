package names

import (
	"bytes"
	"iter"
	"net/netip"
)

// parseHosts reads hosts(5): an address and its names, of which the canonical one comes first. As for resolvers, the first of several
// lines for an address counts.
func parseHosts(content []byte) iter.Seq2[netip.Addr, entry] {
	return eachLine(content, func(line []byte) (addr netip.Addr, e entry) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			return addr, e
		}
		name := hostname(string(fields[1]))
		if name == "" {
			return addr, e
		}
		return address(fields[0]), entry{hostname: name, first: true}
	})
}
