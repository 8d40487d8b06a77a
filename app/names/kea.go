package names

import (
	"bytes"
	"encoding/hex"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// keaForever is the valid lifetime of a lease that does not end.
const keaForever = 1<<32 - 1

// parseKea reads a lease file of Kea's memfile backend: comma-separated values under a line with the columns' names, which differ
// from version to version. It is a journal: the last line of an address counts, and one with a valid lifetime of 0 removes it
// (https://kea.readthedocs.io/en/latest/arm/dhcp4-srv.html#memfile-basic-storage-for-leases).
func parseKea(content []byte) iter.Seq2[netip.Addr, entry] {
	return func(yield func(netip.Addr, entry) bool) {
		var columns []string
		for line := range bytes.Lines(content) {
			if line[len(line)-1] != '\n' {
				return // it is being written
			}
			values := strings.Split(strings.TrimRight(string(line), "\r\n"), ",")
			if columns == nil {
				columns = values
				continue
			}
			of := func(column string) string {
				for i, name := range columns {
					if name == column && i < len(values) {
						return values[i]
					}
				}
				return ""
			}
			addr, ok := address(of("address"))
			if !ok || of("lease_type") == "2" { // a prefix, which is no address
				continue
			}
			e := entry{hostname: hostname(keaUnescaped(of("hostname"))), mac: mac(of("hwaddr"))}
			lifetime, wrongLifetime := strconv.ParseUint(of("valid_lifetime"), 10, 32)
			expires, wrongExpire := strconv.ParseInt(of("expire"), 10, 64)
			if wrongLifetime != nil || wrongExpire != nil {
				continue
			}
			if lifetime != keaForever {
				e.expires = time.Unix(expires, 0)
			}
			if lifetime == 0 || !keaAssigned(of("state")) {
				e = entry{}
			}
			if !yield(addr, e) {
				return
			}
		}
	}
}

// keaAssigned tells whether a state is that of an address in use: assigned, or registered by a client that chose it itself. Others are
// declined, reclaimed after it expired, and released. Files of old versions have none.
func keaAssigned(state string) bool { return state == "" || state == "0" || state == "4" }

// keaUnescaped undoes what Kea writes for commas: &#x and two digits.
func keaUnescaped(s string) string {
	const mark = "&#x"
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, mark)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if len(after) >= 2 {
			if c, err := hex.DecodeString(after[:2]); err == nil {
				b.Write(c)
				s = after[2:]
				continue
			}
		}
		b.WriteString(mark)
		s = after
	}
}

// isKea tells whether a line is the first of a file of Kea's.
func isKea(line []byte) bool {
	return bytes.HasPrefix(line, []byte("address,")) && bytes.Contains(line, []byte(",valid_lifetime,"))
}
