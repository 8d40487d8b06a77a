package names

import (
	"iter"
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

// gather keeps what a parser gives of so many addresses at most, and tells whether there were more.
func gather(all iter.Seq2[netip.Addr, entry], most int) (found map[netip.Addr]entry, more bool) {
	found = map[netip.Addr]entry{}
	for addr, e := range all {
		was, known := found[addr]
		if known && was.first {
			continue
		}
		if !known && len(found) >= most {
			more = true
			continue
		}
		found[addr] = e
	}
	return found, more
}

// address reads an address as it is in packets.
func address[T ~string | ~[]byte](s T) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(string(s))
	return addr.Unmap(), err == nil && addr.Zone() == ""
}
