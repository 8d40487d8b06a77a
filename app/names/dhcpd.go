package names

import (
	"bytes"
	"iter"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// parseDhcpd reads dhcpd.leases(5) of ISC dhcpd: a journal of declarations, of which the last one of an address counts. The file of
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
			e, complete := d.lease()
			if !complete {
				return // it is still being written
			}
			if len(words) != 2 || words[0] != "lease" {
				continue
			}
			if addr := address(words[1]); addr.IsValid() && !yield(addr, e) {
				return
			}
		}
	}
}

// dhcpdStarts are the words that a declaration in a file of ISC dhcpd may begin with.
var dhcpdStarts = []string{
	"lease", "authoring-byte-order", "server-duid", "failover", "host", "group", "subgroup", "class", "subclass", "ia-na", "ia-ta", "ia-pd",
}

// isDhcpd tells whether a line may be the first one of a file of ISC dhcpd. The comment at the start of the file does not decide: odhcpd
// writes comments with hostnames, which hosts choose.
func isDhcpd(line []byte) bool { return slices.Contains(dhcpdStarts, string(bytes.Fields(line)[0])) }

// declarations is the part of a file that is still to be read.
type declarations struct{ rest []byte }

// maxWords is how many words of a statement are kept. The statements that matter have fewer.
const maxWords = 8

// lease reads a declaration up to the brace that closes it. It leaves out blocks inside. complete is false if the file ends before.
func (d *declarations) lease() (e entry, complete bool) {
	ended := false
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
				e.expires, ended = expires, ended || !ok
			case "binding":
				ended = ended || len(words) < 3 || words[2] != "active"
			case "abandoned": // old versions have this instead of a binding state
				ended = true
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
	if ended {
		e = entry{}
	}
	return e, true
}

// dhcpdTime parses a time: weekday, date and time of day in UTC; "epoch" and seconds since 1970; or "never".
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

// statement reads the words up to a semicolon or brace. end is that character, or 0 at the end of the file.
func (d *declarations) statement() (words []string, end byte) {
	add := func(word string) {
		if len(words) < maxWords {
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

var (
	dhcpdString = regexp.MustCompile(`(?s)^"((?:[^"\\]|\\.)*)"`)
	dhcpdEscape = regexp.MustCompile(`(?s)\\(?:[0-7]{3}|.)`) // the octal digits of a byte, or a character that stands for itself
)

// quoted reads a string.
func (d *declarations) quoted() string {
	found := dhcpdString.FindSubmatch(d.rest)
	if found == nil {
		d.rest = nil // it has no end
		return ""
	}
	d.rest = d.rest[len(found[0]):]
	return dhcpdEscape.ReplaceAllStringFunc(string(found[1]), func(escape string) string {
		if octal, err := strconv.ParseUint(escape[1:], 8, 8); err == nil && len(escape) == 4 {
			return string([]byte{byte(octal)})
		}
		return escape[1:]
	})
}
