package names

import (
	"bytes"
	"iter"
	"maps"
	"net/netip"
	"time"
)

// entry is what a file says about an address. The zero entry says that the lease of the address has ended.
type entry struct {
	hostname, mac string
	expires       time.Time // zero: never
	first         bool      // if a file has several entries for the address, this one counts unless there was one before it
}

// parser yields the entries of a file in their order. If an address has several, the last one counts, except where entry.first says
// otherwise. A parser leaves out what it cannot read, such as a line that is still being written.
type parser func(content []byte) iter.Seq2[netip.Addr, entry]

// eachLine yields what parse finds in each line. An invalid address is nothing.
func eachLine(content []byte, parse func(line []byte) (netip.Addr, entry)) iter.Seq2[netip.Addr, entry] {
	return func(yield func(netip.Addr, entry) bool) {
		for line := range bytes.Lines(content) {
			if addr, e := parse(line); addr.IsValid() && !yield(addr, e) {
				return
			}
		}
	}
}

// gather returns the entries of at most limit addresses, and errMore if there were more. Leases that have ended take no room from others:
// most of a large pool may be free.
func gather(all iter.Seq2[netip.Addr, entry], limit int) (found map[netip.Addr]entry, err error) {
	found = map[netip.Addr]entry{}
	ended := map[netip.Addr]entry{}
	for addr, e := range all {
		was, known := found[addr]
		switch {
		case known && was.first:
		case e == entry{}:
			delete(found, addr)
			if len(ended) < limit {
				ended[addr] = e
			}
		case !known && len(found) >= limit:
			err = errMore
		default:
			found[addr] = e
			delete(ended, addr)
		}
	}
	maps.Copy(found, ended)
	return found, err
}

// address parses an address as packets have it: IPv4-mapped ones become IPv4. It is invalid if s is none, or has a zone.
func address[T ~string | ~[]byte](s T) netip.Addr {
	addr, err := netip.ParseAddr(string(s))
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}
	}
	return addr.Unmap()
}
