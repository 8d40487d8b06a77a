package names

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"promflow/capture/subnets"
)

// given has the names that the user gives in a file. A nil one has none.
type given struct {
	addresses map[netip.Addr]string
	macs      map[string]string
	prefixes  subnets.Longest[string]
}

// ofHost returns the name that is given for an address, or else for its MAC.
func (g *given) ofHost(addr netip.Addr, mac string) string {
	if g == nil {
		return ""
	}
	if name, ok := g.addresses[addr]; ok {
		return name
	}
	return g.macs[mac]
}

// ofPrefix returns the name that is given for the longest prefix of an address.
func (g *given) ofPrefix(addr netip.Addr) string {
	if g == nil {
		return ""
	}
	name, _ := g.prefixes.Of(addr)
	return name
}

// parseGiven reads lines of an address, a prefix or a MAC, and a name, which may have spaces. What follows # in a line is a comment.
// The error has the file's path and the number of the line.
//
//	192.168.1.133      laptop
//	02:00:00:00:00:02  Living room TV
//	fd00:1::/64        guests
func parseGiven(path string, content []byte) (*given, error) {
	g := &given{addresses: map[netip.Addr]string{}, macs: map[string]string{}}
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(content, []byte("\ufeff"))) { // a byte order mark
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if err := g.add(string(line)); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	return g, nil
}

// add adds the name of a line.
func (g *given) add(line string) error {
	of := strings.Fields(line)[0]
	name := hostname(strings.TrimSpace(line[len(of):]))
	if name == "" {
		return fmt.Errorf("%.80q: expected an address, a prefix or a MAC, and then a printable name of at most 253 bytes", line)
	}
	if addr := address(of); addr.IsValid() {
		return give(g.addresses, addr, name)
	}
	if prefix, err := netip.ParsePrefix(of); err == nil {
		if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
		}
		if prefix = prefix.Masked(); prefix.IsSingleIP() {
			return give(g.addresses, prefix.Addr(), name)
		}
		if !g.prefixes.Add(prefix, name) {
			return errTwice
		}
		return nil
	}
	if mac := mac(of); mac != "" {
		return give(g.macs, mac, name)
	}
	return fmt.Errorf("%.80q is not an address, a prefix such as 192.168.1.0/24, or the MAC of a host such as 02:00:00:00:00:01", of)
}

var errTwice = errors.New("this has a name already, in a line before")

func give[K comparable](names map[K]string, of K, name string) error {
	if _, twice := names[of]; twice {
		return errTwice
	}
	names[of] = name
	return nil
}

// givenFile is a file with given names that is read again when it has changed. If that fails, what was read before stays.
type givenFile struct {
	file
	given *given
}

// refresh reads the file if it may have changed, and tells whether given is new. A nil file has none.
func (g *givenFile) refresh(now time.Time) bool {
	if g == nil || now.Before(g.notBefore) {
		return false
	}
	info, err := g.look()
	switch {
	case err != nil:
		g.err, g.info = err, nil // so that it is read when it is there again
		return false
	case info == nil:
		return false
	}
	content, err := g.content()
	var names *given
	if err == nil {
		names, err = parseGiven(g.path, content)
	}
	g.err = err
	if g.wasRead(now, info, err == nil); err != nil {
		return false
	}
	g.given = names
	return true
}
