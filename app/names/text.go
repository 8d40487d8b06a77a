package names

import (
	"net"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hostname returns a name without dots at its end, or "" if it cannot be shown: DNS servers and DHCP clients choose names as they
// like. The longest name in DNS has 253 bytes (RFC 1035, 2.3.4, as text).
func hostname(s string) string {
	s = strings.TrimRight(s, ".")
	if len(s) > 253 || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return s
}

// mac parses a MAC address, also without leading zeros as in 2:0:0:0:0:1. It returns "" for anything else.
func mac(s string) string {
	parts := strings.Split(s, ":")
	if len(parts) != 6 {
		return ""
	}
	for i, part := range parts {
		if len(part) == 1 {
			parts[i] = "0" + part
		}
	}
	address, err := net.ParseMAC(strings.Join(parts, ":"))
	if err != nil {
		return ""
	}
	return macOf(address)
}

// macOf writes the MAC address of a single host, or "" for anything else: all zeros, or a multicast address.
func macOf(address []byte) string {
	if len(address) != 6 || address[0]&1 != 0 || string(address) == "\x00\x00\x00\x00\x00\x00" {
		return ""
	}
	return net.HardwareAddr(address).String()
}
