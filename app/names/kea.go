package names

import (
	"bytes"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keaForever is the valid lifetime of a lease that does not end.
const keaForever = 1<<32 - 1

// parseKea reads a lease file of Kea's memfile backend: comma-separated values below a line with the names of the columns, which differ
// between versions. The file is a journal: the last line of an address counts, and a valid lifetime of 0 removes the lease
// (https://kea.readthedocs.io/en/latest/arm/dhcp4-srv.html#memfile-basic-storage-for-leases).
func parseKea(content []byte) iter.Seq2[netip.Addr, entry] {
	content = content[:bytes.LastIndexByte(content, '\n')+1] // what follows is a line that is still being written
	header, rows, _ := bytes.Cut(content, []byte("\n"))
	columns := keaValues(header)
	return eachLine(rows, func(line []byte) (addr netip.Addr, e entry) {
		values := keaValues(line)
		of := func(column string) string {
			if i := slices.Index(columns, column); i >= 0 && i < len(values) {
				return values[i]
			}
			return ""
		}
		lifetime, wrongLifetime := strconv.ParseUint(of("valid_lifetime"), 10, 32)
		expires, wrongExpire := strconv.ParseInt(of("expire"), 10, 64)
		if wrongLifetime != nil || wrongExpire != nil || of("lease_type") == "2" { // type 2 is a delegated prefix
			return addr, e
		}
		addr = address(of("address"))
		// A lease is in use if it is assigned (0), or registered by a client that chose its address (4). Other states are declined,
		// reclaimed after expiry, and released. Files of old versions have no state.
		if lifetime == 0 || !slices.Contains([]string{"", "0", "4"}, of("state")) {
			return addr, e
		}
		if lifetime != keaForever {
			e.expires = time.Unix(expires, 0)
		}
		e.hostname, e.mac = hostname(keaEscapes.Replace(of("hostname"))), mac(of("hwaddr"))
		return addr, e
	})
}

func keaValues(line []byte) []string {
	return strings.Split(strings.TrimRight(string(line), "\r\n"), ",")
}

// keaEscapes are what Kea writes for a comma in a value, and so for the first character of that.
var keaEscapes = strings.NewReplacer("&#x2c", ",", "&#x26", "&")

// isKea tells whether a line is the first one of a lease file of Kea.
func isKea(line []byte) bool {
	return bytes.HasPrefix(line, []byte("address,")) && bytes.Contains(line, []byte(",valid_lifetime,"))
}
