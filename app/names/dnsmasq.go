package names

import (
	"bytes"
	"iter"
	"net/netip"
	"strconv"
	"time"
)

// parseDnsmasq reads a lease file of dnsmasq. It has a line for each current lease, and dnsmasq rewrites it when one changes:
//
//	1700000000 02:00:00:00:00:01 192.168.1.133 laptop 01:02:00:00:00:00:01
//	duid 00:01:00:01:2c:00:00:00:02:00:00:00:00:01
//	1700000000 16777217 fd00:1::133 laptop 00:01:00:01:2c:00:00:00:02:00:00:00:00:02
//
// The fields are: when the lease ends, in seconds since 1970 (0 for never); the MAC, or for IPv6 the IAID; the address; the hostname;
// the client ID. * stands for an unknown value. The MAC of a device that is not Ethernet begins with its type and a dash. A line without
// the client ID is still being written, and its hostname may be incomplete.
func parseDnsmasq(content []byte) iter.Seq2[netip.Addr, entry] {
	return eachLine(content, func(line []byte) (addr netip.Addr, e entry) {
		fields := bytes.Fields(line)
		if len(fields) < 5 {
			return addr, e
		}
		ends, err := strconv.ParseUint(string(fields[0]), 10, 63)
		if err != nil {
			return addr, e
		}
		e.mac = mac(string(fields[1]))
		if name := string(fields[3]); name != "*" {
			e.hostname = hostname(name)
		}
		// On machines without a clock (HAVE_BROKEN_RTC) this is the duration of the lease. It is in the file for as long as it is valid.
		if ends >= 1e9 {
			e.expires = time.Unix(int64(ends), 0)
		}
		return address(fields[2]), e
	})
}

// isDnsmasq tells whether a line is from a lease file of dnsmasq.
func isDnsmasq(line []byte) bool {
	fields := bytes.Fields(line)
	if len(fields) < 4 {
		return len(fields) == 2 && string(fields[0]) == "duid"
	}
	_, err := strconv.ParseUint(string(fields[0]), 10, 64)
	return err == nil && address(fields[2]).IsValid()
}
