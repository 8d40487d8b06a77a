package names

import (
	"iter"
	"maps"
	"net/netip"
	"time"
)

// entry is what a file says of an address. The zero entry says that it has no lease any more.
type entry struct {
	hostname, mac string
	expires       time.Time // zero: never
	first         bool      // of an address that comes several times, this one counts if it is the first
}

// parser gives what a file has of addresses, in its order: of an address that comes several times, the last one counts, unless they
// say otherwise. What cannot be read is left out, as a line may be that is being written.
type parser func(content []byte) iter.Seq2[netip.Addr, entry]

// gather keeps what a parser gives of so many addresses at most, and tells whether there were more. Those that have no lease any more
// take no room from others: of a large pool, most may be free.
func gather(all iter.Seq2[netip.Addr, entry], most int) (found map[netip.Addr]entry, more bool) {
	found = map[netip.Addr]entry{}
	gone := map[netip.Addr]entry{}
	for addr, e := range all {
		was, known := found[addr]
		switch {
		case known && was.first:
		case e == entry{}:
			delete(found, addr)
			if len(gone) < most {
				gone[addr] = e
			}
		case !known && len(found) >= most:
			more = true
		default:
			found[addr] = e
			delete(gone, addr)
		}
	}
	maps.Copy(found, gone)
	return found, more
}

// address reads an address as it is in packets.
func address[T ~string | ~[]byte](s T) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(string(s))
	return addr.Unmap(), err == nil && addr.Zone() == ""
}
