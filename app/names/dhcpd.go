package names

import (
	"bytes"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/scanner"
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
		var (
			depth int // of blocks
			addr  netip.Addr
			e     entry
			ended bool
		)
		for words, end := range statements(content) {
			switch {
			case end == '{':
				if depth == 0 {
					addr, e, ended = netip.Addr{}, entry{}, false
					if len(words) == 2 && words[0] == "lease" {
						addr = address(words[1])
					}
				}
				depth++
			case end == '}':
				if ended {
					e = entry{}
				}
				if depth == 1 && addr.IsValid() && !yield(addr, e) {
					return
				}
				depth = max(0, depth-1)
			case depth == 1 && len(words) > 0:
				ended = e.declare(words) || ended
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

// declare adds a statement of a lease, and tells whether that has ended.
func (e *entry) declare(words []string) (ended bool) {
	switch words[0] {
	case "ends":
		var ok bool
		e.expires, ok = dhcpdTime(words[1:])
		return !ok
	case "binding":
		return len(words) < 3 || words[2] != "active"
	case "abandoned": // old versions have this instead of a binding state
		return true
	case "hardware":
		if len(words) == 3 && words[1] == "ethernet" {
			e.mac = mac(words[2])
		}
	case "client-hostname":
		if len(words) == 2 {
			e.hostname = hostname(words[1])
		}
	}
	return false
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

// maxWords is how many words of a statement are kept. The statements that matter have fewer.
const maxWords = 8

// statements yields the words up to each semicolon or brace, and that.
func statements(content []byte) iter.Seq2[[]string, rune] {
	return func(yield func([]string, rune) bool) {
		var s scanner.Scanner
		s.Init(bytes.NewReader(content))
		s.Error = func(*scanner.Scanner, string) {} // such as a string without an end
		s.Mode = scanner.ScanIdents | scanner.ScanStrings
		s.IsIdentRune = func(c rune, _ int) bool { return c >= 0 && !strings.ContainsRune(" \t\r\n;{}#\"", c) }
		var words []string
		for token := s.Scan(); token != scanner.EOF; token = s.Scan() {
			word := s.TokenText()
			switch token {
			case ';', '{', '}':
				if !yield(words, token) {
					return
				}
				words = nil
				continue
			case '#':
				for c := s.Next(); c != '\n' && c != scanner.EOF; {
					c = s.Next()
				}
				continue
			case scanner.String:
				word, _ = strconv.Unquote(word) // nothing but a hostname may be quoted
			}
			if len(words) < maxWords {
				words = append(words, word)
			}
		}
	}
}
