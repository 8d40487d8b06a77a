package names

import (
	"encoding/json"
	"iter"
	"math"
	"net/netip"
	"time"
)

// networkdFile is what systemd-networkd's DHCP server keeps of its leases. It replaces the file when a client gets, renews or gives back a
// lease, so one that has ended may stay in there. The last one does even when it is given back: systemd 257 leaves the file as it is then.
// A renewed lease keeps its hostname, and one without a hostname has no such key. HardwareAddress may have zeros at its end, beyond
// HardwareAddressLength. This is what systemd 257 writes, in one line:
//
//	{"BootID":"...","Address":[192,168,1,1],"PrefixLength":24,"Leases":[{"ClientId":[1,2,0,0,0,0,1],"Address":[192,168,1,133],
//	"Hostname":"laptop","HardwareAddressType":1,"HardwareAddressLength":6,"HardwareAddress":[2,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0],
//	"ExpirationUSec":72338380895,"ExpirationRealtimeUSec":1700000000000000}]}
type networkdFile struct {
	Leases []json.RawMessage
}

// networkdLease is a lease of such a file. Bytes are numbers.
type networkdLease struct {
	ClientId, Address      []byte
	Hostname               string
	HardwareAddressType    *int
	HardwareAddressLength  int
	HardwareAddress        []byte
	ExpirationRealtimeUSec uint64
}

// isNetworkd tells whether a file is one of systemd-networkd.
func isNetworkd(content []byte) bool {
	var f networkdFile
	return json.Unmarshal(content, &f) == nil && f.Leases != nil
}

// parseNetworkd reads a lease file of systemd-networkd.
func parseNetworkd(content []byte) iter.Seq2[netip.Addr, entry] {
	return func(yield func(netip.Addr, entry) bool) {
		var f networkdFile
		if json.Unmarshal(content, &f) != nil {
			return
		}
		for _, text := range f.Leases {
			var l networkdLease
			if json.Unmarshal(text, &l) != nil {
				continue
			}
			addr, ok := netip.AddrFromSlice(l.Address)
			if !ok {
				continue
			}
			e := entry{hostname: hostname(l.Hostname), mac: l.mac()}
			if l.ExpirationRealtimeUSec-1 < math.MaxInt64 { // else it never ends (the highest number), or has no end here
				e.expires = time.UnixMicro(int64(l.ExpirationRealtimeUSec))
			}
			if !yield(addr.Unmap(), e) {
				return
			}
		}
	}
}

// ethernet is the type of Ethernet in ARP, which is the type of a client ID that is a MAC, too (RFC 2132, 9.14).
const ethernet = 1

// mac returns the client's MAC.
func (l *networkdLease) mac() string {
	if l.HardwareAddressType != nil {
		if n := l.HardwareAddressLength; *l.HardwareAddressType == ethernet && 0 <= n && n <= len(l.HardwareAddress) {
			return macOf(l.HardwareAddress[:n])
		}
		return ""
	}
	if len(l.ClientId) > 0 && l.ClientId[0] == ethernet {
		return macOf(l.ClientId[1:])
	}
	return ""
}
