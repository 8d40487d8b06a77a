package names

import (
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hostname gives a name as it is shown, empty for what is none: whoever runs a DNS server, or asks for a lease, can call himself
// whatever he likes. 253 bytes are the longest name in DNS (RFC 1035, 2.3.4, as text).
func hostname(s string) string {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return s
}

// mac gives the MAC of a text such as 2:0:0:0:0:1, empty for what is none.
func mac(s string) string {
	parts := strings.Split(s, ":")
	if len(parts) != 6 {
		return ""
	}
	address := make([]byte, 0, 6)
	for _, part := range parts {
		b, err := strconv.ParseUint(part, 16, 8)
		if err != nil || len(part) > 2 {
			return ""
		}
		address = append(address, byte(b))
	}
	return macOf(address)
}

// macOf gives the MAC of the bytes of an address of one host, empty for what is none: all zeros, or a group's.
func macOf(address []byte) string {
	if len(address) != 6 || address[0]&1 != 0 || string(address) == "\x00\x00\x00\x00\x00\x00" {
		return ""
	}
	b := make([]byte, 0, 17)
	for i := range address {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, address[i:i+1])
	}
	return string(b)
}
