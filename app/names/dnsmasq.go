package names

import (
	"bytes"
	"iter"
	"net/netip"
	"strconv"
	"time"
)

// parseDnsmasq reads a lease file of dnsmasq, which has a line for each lease that is, and is written anew when one changes:
//
//	1700000000 02:00:00:00:00:01 192.168.1.133 laptop 01:02:00:00:00:00:01
//	duid 00:01:00:01:2c:00:00:00:02:00:00:00:00:01
//	1700000000 16777217 fd00:1::133 laptop 00:01:00:01:2c:00:00:00:02:00:00:00:00:02
//
// The first field is when the lease ends in seconds since 1970, 0 for never; the second the MAC, for IPv6 the identity of the
// association. * stands for what is not known. The MAC of a device that is not Ethernet has its type and a dash in front. Without the
// fifth, the client's identity, a line is being written, and its name may not be all there.
func parseDnsmasq(content []byte) iter.Seq2[netip.Addr, entry] {
	return func(yield func(netip.Addr, entry) bool) {
		for line := range bytes.Lines(content) {
			fields := bytes.Fields(line)
			if len(fields) < 5 {
				continue
			}
			ends, err := strconv.ParseInt(string(fields[0]), 10, 64)
			addr, ok := address(fields[2])
			if err != nil || ends < 0 || !ok {
				continue
			}
			e := entry{mac: mac(string(fields[1]))}
			if name := string(fields[3]); name != "*" {
				e.hostname = hostname(name)
			}
			// For machines without a clock (HAVE_BROKEN_RTC) it is how long the lease was for. It is there while it is valid.
			if ends >= 1e9 {
				e.expires = time.Unix(ends, 0)
			}
			if !yield(addr, e) {
				return
			}
		}
	}
}

// isDnsmasq tells whether a line is one of dnsmasq's.
func isDnsmasq(line []byte) bool {
	fields := bytes.Fields(line)
	if len(fields) == 2 && string(fields[0]) == "duid" {
		return true
	}
	if len(fields) < 4 {
		return false
	}
	_, err := strconv.ParseUint(string(fields[0]), 10, 64)
	_, ok := address(fields[2])
	return err == nil && ok
}
