package labels

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"promflow/capture/subnets"
)

func parse(t testing.TB, list string) subnets.Set {
	t.Helper()
	s, err := subnets.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parseLabels(t testing.TB, list string) Set {
	t.Helper()
	s, err := Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPlaces compares with a search through all subnets, at the ends of all of them.
func TestPlaces(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		prefix := func() netip.Prefix {
			if random.IntN(3) == 0 {
				return netip.PrefixFrom(netip.AddrFrom16([16]byte{byte(random.IntN(2) * 0xfd), 15: byte(random.IntN(256))}), random.IntN(129)).Masked()
			}
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(random.IntN(2) * 10), 0, 0, byte(random.IntN(256))}), random.IntN(33)).Masked()
		}
		list := func(names string, n int) (subnets.Set, []string) {
			var parts []string
			seen := map[netip.Prefix]bool{}
			for range n {
				if p := prefix(); !seen[p] {
					seen[p] = true
					parts = append(parts, fmt.Sprintf("%c=%v", names[random.IntN(len(names))], p))
				}
			}
			return parse(t, strings.Join(parts, ",")), parts
		}
		monitored, said := list("abc", random.IntN(12))
		peers, saidPeers := list("xyz", random.IntN(12))
		g := New(0, HostBits{}, false)
		g.Divide(monitored, peers)
		ends := []netip.Addr{netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("::"), subnets.Last(netip.MustParsePrefix("::/0"))}
		for _, p := range slices.Concat(monitored.Prefixes(), peers.Prefixes()) {
			ends = append(ends, p.Addr(), p.Addr().Prev(), subnets.Last(p), subnets.Last(p).Next(), subnets.Last(p).Prev())
		}
		for _, addr := range ends {
			if !addr.IsValid() {
				continue
			}
			network, _ := mostSpecific(monitored, addr)
			name, bits := network, -1
			if network != "" {
				_, bits = mostSpecific(monitored, addr)
			}
			if peer, peerBits := mostSpecific(peers, addr); peerBits > bits {
				name = peer
			}
			var p *Place
			if addr.Is4() {
				p = g.Place4(subnets.Number4(addr))
			} else {
				p = g.Place6(subnets.Number6(addr))
			}
			if name == "" {
				name = "external"
			}
			got := g.names.list[p.Peer]
			if p.Monitored != (network != "") || p.Monitored && g.names.list[p.Network] != network || got != name {
				t.Fatalf("round %d, monitored %s, peers %s: %v is %+v, %s; want %q, %q", round, said, saidPeers, addr, *p, got, network, name)
			}
			broadcast := false
			for _, prefix := range slices.Concat(monitored.Prefixes(), peers.Prefixes()) {
				broadcast = broadcast || addr.Is4() && prefix.Addr().Is4() && prefix.Bits() <= 30 && addr == subnets.Last(prefix)
			}
			if p.Broadcast != broadcast {
				t.Fatalf("monitored %s, peers %s: broadcast of %v is %v", said, saidPeers, addr, p.Broadcast)
			}
		}
		for i, p := range g.Places() {
			if i > 0 && p.First.Is4() == g.Places()[i-1].First.Is4() && !g.Places()[i-1].First.Less(p.First) {
				t.Fatalf("places are not in order: %+v", g.Places())
			}
		}
	}
}

// mostSpecific gives the name of the smallest prefix with an address, and its length.
func mostSpecific(s subnets.Set, addr netip.Addr) (name string, bits int) {
	bits = -1
	for i, p := range s.Prefixes() {
		if p.Contains(addr) && p.Bits() > bits {
			name, bits = s.Name(i), p.Bits()
		}
	}
	return name, bits
}

func TestParseLabels(t *testing.T) {
	for list, want := range map[string]string{"": "", " ": "", "vlan": "vlan", " peer , network,peer": "network peer",
		"network,peer,protocol,interface,vlan": "network peer protocol interface vlan"} {
		set := parseLabels(t, list)
		var got []string
		for i, name := range Names() {
			if set.Has(Label(i)) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q is %q, want %q", list, got, want)
		}
	}
	for _, list := range []string{"ip", "peer,,vlan", ",", "Peer", "peer vlan"} {
		if _, err := Parse(list); err == nil || !strings.Contains(err.Error(), "network, peer, protocol, interface, vlan") {
			t.Errorf("%q: the error is %v", list, err)
		}
	}
}

func TestParseHostBits(t *testing.T) {
	for _, c := range []struct {
		text       string
		bits, want int
	}{{"", 32, 0}, {"/24", 32, 8}, {"24", 32, 8}, {" /1 ", 32, 31}, {"/32", 32, 0}, {"/64", 128, 64}, {"/1", 128, 127}} {
		if got, err := ParseHostBits(c.text, c.bits); err != nil || got != c.want {
			t.Errorf("%q gives %d and %v, want %d", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"/0", "/33", "/-1", "//24", "/", "x", "/24/24"} {
		if _, err := ParseHostBits(text, 32); err == nil || err.Error() != "expected a prefix length from /1 to /32" {
			t.Errorf("%q: the error is %v", text, err)
		}
	}
}

// TestInterfacesOfLabelsAreBounded has more interfaces come and go than have a number.
func TestInterfacesOfLabelsAreBounded(t *testing.T) {
	g := New(parseLabels(t, "interface"), HostBits{}, false)
	for i := 1; i < maxInterfaces+10; i++ {
		number := g.InterfaceNumber(fmt.Sprint("ppp", i))
		if want := uint16(i); i < maxInterfaces && number != want || i >= maxInterfaces && number != other {
			t.Fatalf("interface %d has number %d", i, number)
		}
	}
	if g.InterfaceNumber("eth\xff") != g.InterfaceNumber("eth\xfe") {
		t.Error("names that look the same have two numbers")
	}
	if got := g.InterfaceNumber("ppp5"); got != 5 {
		t.Errorf("one that is known has number %d", got)
	}
}
