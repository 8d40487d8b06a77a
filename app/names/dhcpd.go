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

// parseDhcpd reads dhcpd.leases(5) of ISC's server: a journal of declarations, of which the last one of an address counts. That of
// DHCPv6 has neither hostnames nor MACs, so it gives nothing.
//
//	lease 192.168.1.133 {
//	  ends 4 2026/11/26 10:20:30;
//	  binding state active;
//	  hardware ethernet 02:00:00:00:00:01;
//	  client-hostname "laptop";
//	}
func parseDhcpd(content []byte) iter.Seq2[netip.Addr, entry] {
	return func(yield func(netip.Addr, entry) bool) {
		d := declarations{content}
		for {
			words, end := d.statement()
			if end == 0 {
				return
			}
			if end != '{' {
				continue
			}
			addr, ok := netip.Addr{}, false
			if len(words) == 2 && words[0] == "lease" {
				addr, ok = address(words[1])
			}
			e, whole := d.lease()
			if !whole {
				return // it is being written
			}
			if ok && !yield(addr, e) {
				return
			}
		}
	}
}

// isDhcpd tells whether a line is one that a file of ISC's server may have first. The comment before it says so, too, but others have
// comments with names in them, which hosts choose.
func isDhcpd(line []byte) bool {
	fields := bytes.Fields(line)
	if len(fields) == 0 {
		return false
	}
	starts := []string{"lease", "authoring-byte-order", "server-duid", "failover", "host", "group", "subgroup", "class", "subclass", "ia-na", "ia-ta", "ia-pd"}
	return slices.Contains(starts, string(fields[0]))
}

// declarations are what is left of a file.
type declarations struct{ rest []byte }

// mostWords is how many words of a statement are kept: those that matter have fewer.
const mostWords = 8

// lease reads what is in braces up to the last one, and tells whether that was there. What is in braces in these is left out.
func (d *declarations) lease() (e entry, whole bool) {
	gone := false
	for depth := 1; depth > 0; {
		words, end := d.statement()
		switch end {
		case 0:
			return entry{}, false
		case '{':
			depth++
		case '}':
			depth--
		case ';':
			if depth > 1 || len(words) == 0 {
				continue
			}
			switch words[0] {
			case "ends":
				expires, ok := dhcpdTime(words[1:])
				e.expires, gone = expires, gone || !ok
			case "binding":
				gone = gone || len(words) < 3 || words[2] != "active"
			case "abandoned": // as old versions say it
				gone = true
			case "hardware":
				if len(words) == 3 && words[1] == "ethernet" {
					e.mac = mac(words[2])
				}
			case "client-hostname":
				if len(words) == 2 {
					e.hostname = hostname(words[1])
				}
			}
		}
	}
	if gone {
		e = entry{}
	}
	return e, true
}

// dhcpdTime reads a date: a weekday, a date and a time in UTC; epoch and seconds since 1970; or never.
func dhcpdTime(words []string) (time.Time, bool) {
	switch {
	case len(words) == 1 && words[0] == "never":
		return time.Time{}, true
	case len(words) == 2 && words[0] == "epoch":
		seconds, err := strconv.ParseInt(words[1], 10, 64)
		return time.Unix(seconds, 0), err == nil
	case len(words) == 3:
		t, err := time.Parse("2006/1/2 15:04:05", words[1]+" "+words[2])
		return t, err == nil
	}
	return time.Time{}, false
}

// statement reads words up to a semicolon or brace, which it gives, too; 0 at the end of the file.
func (d *declarations) statement() (words []string, end byte) {
	add := func(word string) {
		if len(words) < mostWords {
			words = append(words, word)
		}
	}
	for len(d.rest) > 0 {
		c := d.rest[0]
		switch c {
		case ';', '{', '}':
			d.rest = d.rest[1:]
			return words, c
		case ' ', '\t', '\r', '\n':
			d.rest = d.rest[1:]
		case '#':
			_, d.rest, _ = bytes.Cut(d.rest, []byte("\n"))
		case '"':
			add(d.quoted())
		default:
			n := bytes.IndexAny(d.rest, " \t\r\n;{}#\"")
			if n < 0 {
				n = len(d.rest)
			}
			add(string(d.rest[:n]))
			d.rest = d.rest[n:]
		}
	}
	return nil, 0
}

// quoted reads a string, in which a backslash is in front of three octal digits of a byte, or of a character as it is.
func (d *declarations) quoted() string {
	var b strings.Builder
	for i := 1; i < len(d.rest); i++ {
		switch c := d.rest[i]; c {
		case '"':
			d.rest = d.rest[i+1:]
			return b.String()
		case '\\':
			if octal, err := strconv.ParseUint(string(d.rest[i+1:min(i+4, len(d.rest))]), 8, 8); err == nil && i+4 <= len(d.rest) {
				b.WriteByte(byte(octal))
				i += 3
			} else if i++; i < len(d.rest) {
				b.WriteByte(d.rest[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	d.rest = nil
	return ""
}
