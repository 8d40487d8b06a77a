package capture

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"promflow/capture/frame"
)

func parseLabels(t testing.TB, list string) LabelSet {
	t.Helper()
	s, err := ParseLabels(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bySeries is what a table has by address and labels, as a page would say it. Series with the same labels would be wrong there.
func bySeries(t testing.TB, table *Table) map[string]Totals {
	t.Helper()
	g, s, all := table.Grouping(), table.Snapshot(), map[string]Totals{}
	add := func(addr netip.Addr, of Labels, totals Totals) {
		if totals == (Totals{}) {
			return
		}
		name := "other"
		if addr.IsValid() {
			name = addr.String()
			if bits := g.Bits(addr); bits > 0 {
				name = netip.PrefixFrom(addr, bits).String()
			}
		}
		for _, text := range g.Texts(addr, of) {
			name += fmt.Sprintf(" %v=%s", text.Label, text.Value)
		}
		if _, twice := all[name]; twice {
			t.Errorf("%s comes twice", name)
		}
		all[name] = totals
	}
	for i := range s.Hosts {
		add(s.Hosts[i].Addr, g.Rest(), s.Hosts[i].Totals)
	}
	for at, series := range s.Series() {
		add(s.Hosts[at].Addr, series.Labels, series.Totals)
	}
	return all
}

func TestCounterKeepsTotalsApartByLabels(t *testing.T) {
	const (
		monitored = "lan=192.168.1.0/24,iot=192.168.2.0/24,printer=192.168.1.9,10.0.0.0/8,lan=fd00::/64"
		peers     = "vpn=10.8.0.0/16,cdn=203.0.113.0/24,never=192.168.1.0/24"
	)
	packet := func(from, to string, protocol uint8, vlan uint16) frame.Packet {
		p := talk(from, to, 100)
		p.Protocol, p.VLAN = protocol, vlan
		return p
	}
	both := []string{"transmit", "receive"}
	for _, c := range []struct {
		name, labels string
		bits         HostBits
		packet       frame.Packet
		want         []string // who transmits and who receives
	}{
		{"internet", "network,peer", HostBits{}, packet("192.168.1.5", "198.51.100.1", 6, 0), []string{"192.168.1.5 network=lan peer=external", ""}},
		{"from the internet", "network,peer", HostBits{}, packet("198.51.100.1", "192.168.1.5", 6, 0), []string{"", "192.168.1.5 network=lan peer=external"}},
		{"within", "network,peer", HostBits{}, packet("192.168.1.5", "192.168.1.6", 6, 0),
			[]string{"192.168.1.5 network=lan peer=lan", "192.168.1.6 network=lan peer=lan"}},
		{"the most specific name", "network,peer", HostBits{}, packet("192.168.1.9", "192.168.2.6", 6, 0),
			[]string{"192.168.1.9 network=printer peer=iot", "192.168.2.6 network=iot peer=printer"}},
		{"one name for several", "network,peer", HostBits{}, packet("fd00::1", "2001:db8::1", 6, 0), []string{"fd00::1 network=lan peer=external", ""}},
		{"a peer that is monitored by another name", "network,peer", HostBits{}, packet("192.168.1.5", "10.8.0.1", 6, 0),
			[]string{"192.168.1.5 network=lan peer=vpn", "10.8.0.1 network=10.0.0.0/8 peer=lan"}},
		{"a peer that is not monitored", "peer", HostBits{}, packet("192.168.1.5", "203.0.113.7", 6, 0), []string{"192.168.1.5 peer=cdn", ""}},
		{"multicast", "peer", HostBits{}, packet("192.168.1.5", "239.1.2.3", 17, 0), []string{"192.168.1.5 peer=multicast", ""}},
		{"multicast of IPv6", "peer", HostBits{}, packet("fd00::5", "ff02::fb", 17, 0), []string{"fd00::5 peer=multicast", ""}},
		{"multicast of IPv4, mapped", "peer", HostBits{}, packet("fd00::5", "::ffff:224.0.0.1", 17, 0), []string{"fd00::5 peer=external", ""}},
		{"broadcast", "peer", HostBits{}, packet("192.168.1.5", "255.255.255.255", 17, 0), []string{"192.168.1.5 peer=multicast", ""}},
		{"broadcast to a subnet", "peer", HostBits{}, packet("192.168.1.5", "192.168.1.255", 17, 0),
			[]string{"192.168.1.5 peer=multicast", "192.168.1.255 peer=lan"}},
		{"a broadcast address as source", "peer", HostBits{}, packet("192.168.2.255", "192.168.1.5", 17, 0),
			[]string{"192.168.2.255 peer=lan", "192.168.1.5 peer=iot"}},
		{"tcp", "protocol", HostBits{}, packet("10.0.0.1", "192.0.2.1", 6, 0), []string{"10.0.0.1 protocol=tcp", ""}},
		{"udp", "protocol", HostBits{}, packet("10.0.0.1", "192.0.2.1", 17, 0), []string{"10.0.0.1 protocol=udp", ""}},
		{"icmp", "protocol", HostBits{}, packet("10.0.0.1", "192.0.2.1", 1, 0), []string{"10.0.0.1 protocol=icmp", ""}},
		{"icmpv6", "protocol", HostBits{}, packet("fd00::1", "2001:db8::1", 58, 0), []string{"fd00::1 protocol=icmp", ""}},
		{"sctp", "protocol", HostBits{}, packet("10.0.0.1", "192.0.2.1", 132, 0), []string{"10.0.0.1 protocol=sctp", ""}},
		{"esp", "protocol", HostBits{}, packet("10.0.0.1", "192.0.2.1", 50, 0), []string{"10.0.0.1 protocol=esp", ""}},
		{"gre", "protocol", HostBits{}, packet("10.0.0.1", "192.0.2.1", 47, 0), []string{"10.0.0.1 protocol=gre", ""}},
		{"another protocol", "protocol", HostBits{}, packet("10.0.0.1", "192.0.2.1", 89, 0), []string{"10.0.0.1 protocol=other", ""}},
		{"no protocol", "protocol,vlan", HostBits{}, packet("fd00::1", "2001:db8::1", frame.NoProtocol, 0), []string{"fd00::1 protocol=other vlan=0", ""}},
		{"vlan", "vlan", HostBits{}, packet("10.0.0.1", "192.0.2.1", 6, 4095), []string{"10.0.0.1 vlan=4095", ""}},
		{"interface", "interface", HostBits{}, packet("10.0.0.1", "192.0.2.1", 6, 7), []string{"10.0.0.1 interface=eth7", ""}},
		{"all", "vlan,interface,protocol,peer,network", HostBits{}, packet("10.0.0.1", "192.168.2.1", 6, 7), []string{
			"10.0.0.1 network=10.0.0.0/8 peer=iot protocol=tcp interface=eth7 vlan=7",
			"192.168.2.1 network=iot peer=10.0.0.0/8 protocol=tcp interface=eth7 vlan=7"}},
		{"prefixes", "", HostBits{8, 64}, packet("10.1.2.3", "192.168.2.6", 6, 0), []string{"10.1.2.0/24", "192.168.2.0/24"}},
		{"prefixes of IPv6", "protocol", HostBits{8, 64}, packet("fd00::1:2:3:4", "2001:db8::1", 6, 0), []string{"fd00::/64 protocol=tcp", ""}},
		{"prefixes of IPv4 only", "protocol", HostBits{16, 0}, packet("fd00::1:2:3:4", "2001:db8::1", 6, 0), []string{"fd00::1:2:3:4 protocol=tcp", ""}},
		{"a prefix of two networks", "network", HostBits{8, 0}, packet("192.168.1.9", "192.168.1.5", 6, 0),
			[]string{"192.168.1.0/24 network=printer", "192.168.1.0/24 network=lan"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := parse(t, monitored)
			table := NewGroupedTable(10, 0, NewGrouping(parseLabels(t, c.labels), in, parse(t, peers), c.bits), 10)
			counter := NewCounter(table, in, Subnets{})
			counter.SeenOn("eth7")
			count(counter, c.packet)
			got := map[string][]string{}
			for series, totals := range bySeries(t, table) {
				for direction, bytes := range map[string]int64{"transmit": totals.TransmitBytes, "receive": totals.ReceiveBytes} {
					if bytes >= 100 {
						got[direction] = append(got[direction], series)
					}
				}
			}
			for i, direction := range both {
				if strings.Join(got[direction], ", ") != c.want[i] {
					t.Errorf("%s has %q, want %q", direction, got[direction], c.want[i])
				}
			}
		})
	}
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
		list := func(names string, n int) (Subnets, []string) {
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
		g := NewGrouping(0, monitored, peers, HostBits{})
		ends := []netip.Addr{netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("::"), lastOf(netip.MustParsePrefix("::/0"))}
		for _, p := range slices.Concat(monitored.Prefixes(), peers.Prefixes()) {
			ends = append(ends, p.Addr(), p.Addr().Prev(), lastOf(p), lastOf(p).Next(), lastOf(p).Prev())
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
				p = placeOf4(g.places4, v4Number(addr))
			} else {
				p = placeOf6(g.places6, v6Number(addr))
			}
			if name == "" {
				name = "external"
			}
			got := nameOf(g.names, Labels(p.Peer))
			if p.Monitored != (network != "") || p.Monitored && nameOf(g.names, Labels(p.Network)) != network || got != name {
				t.Fatalf("round %d, monitored %s, peers %s: %v is %+v, %s; want %q, %q", round, said, saidPeers, addr, *p, got, network, name)
			}
			broadcast := false
			for _, prefix := range slices.Concat(monitored.Prefixes(), peers.Prefixes()) {
				broadcast = broadcast || addr.Is4() && prefix.Addr().Is4() && prefix.Bits() <= 30 && addr == lastOf(prefix)
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
func mostSpecific(s Subnets, addr netip.Addr) (name string, bits int) {
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
		for i, name := range LabelNames() {
			if set.Has(Label(i)) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q is %q, want %q", list, got, want)
		}
	}
	for _, list := range []string{"ip", "peer,,vlan", ",", "Peer", "peer vlan"} {
		if _, err := ParseLabels(list); err == nil || !strings.Contains(err.Error(), "network, peer, protocol, interface, vlan") {
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

func TestNamesOfSubnets(t *testing.T) {
	for list, want := range map[string]string{
		"lan=192.168.1.1/24, wlan = 10.0.0.0/8 ,fd00::/8": "lan=192.168.1.0/24,wlan=10.0.0.0/8,fd00::/8",
		"a=10.0.0.1,a=10.0.0.2,a=10.0.0.1":                "a=10.0.0.1/32,a=10.0.0.2/32,a=10.0.0.1/32",
		"Büro 1=10.0.0.1":                                 "Büro 1=10.0.0.1/32",
	} {
		if s := parse(t, list); s.String() != want || !s.Named() {
			t.Errorf("%q is %q, named: %v", list, s, s.Named())
		}
	}
	if parse(t, "10.0.0.0/8").Named() {
		t.Error("a name without a name")
	}
	for list, want := range map[string]string{
		"=10.0.0.0/8":                     `"=10.0.0.0/8" has no name that can be read`,
		"a\x00b=10.0.0.0/8":               `has no name that can be read before the =`,
		"a\xff=10.0.0.0/8":                `has no name that can be read before the =`,
		"a=b=10.0.0.0/8":                  `"b=10.0.0.0/8" is not a subnet`,
		"a=":                              `"" is not a subnet`,
		"a=10.0.0.0/8,b=10.0.0.0/8":       "10.0.0.0/8 comes twice",
		"a=10.0.0.0/8,10.1.2.3/8":         "10.0.0.0/8 comes twice",
		"external=10.0.0.0/8":             `"external" cannot be the name`,
		"a=10.0.0.1,multicast=10.0.0.2":   `"multicast" cannot be the name`,
		" other =10.0.0.0/8":              `"other" cannot be the name`,
		"a=10.0.0.0/8,b=11.0.0.0/8,a=x/8": `"x/8" is not a subnet`,
	} {
		if _, err := ParseSubnets(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %s", list, err, want)
		}
	}
}

// labelled counts a packet of the ith address in a VLAN.
func labelled(c *Counter, i int, protocol uint8, vlan uint16) {
	p := frame.Packet{Source: addr4(i), Destination: netip.MustParseAddr("192.0.2.1"), Bytes: 1, Packets: 1, Outcome: frame.Counted,
		Protocol: protocol, VLAN: vlan}
	count(c, p)
}

func TestLabelsOfAnAddressAreBounded(t *testing.T) {
	for _, c := range []struct {
		name, labels string
		maxSeries    int
		want         map[string]int64 // some of the series
		series       int
	}{
		{"vlans", "vlan", 1000, map[string]int64{"10.0.0.0 vlan=0": 2, "10.0.0.0 vlan=63": 2, "10.0.0.0 vlan=other": 2 * (200 - 64)}, 65},
		{"vlans by protocol", "vlan,protocol", 1000, map[string]int64{
			"10.0.0.0 protocol=tcp vlan=0": 1, "10.0.0.0 protocol=udp vlan=31": 1,
			"10.0.0.0 protocol=tcp vlan=other": 200 - 32, "10.0.0.0 protocol=udp vlan=other": 200 - 32}, 66},
		{"protocols and peers only", "protocol,peer", 1000, map[string]int64{"10.0.0.0 peer=external protocol=tcp": 200, "10.0.0.0 peer=external protocol=udp": 200}, 2},
		{"without room", "vlan,protocol", 3, map[string]int64{
			"10.0.0.0 protocol=tcp vlan=0": 1, "10.0.0.0 protocol=udp vlan=0": 1, "10.0.0.0 protocol=tcp vlan=1": 1,
			"10.0.0.0 protocol=other vlan=other": 397}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := parse(t, "10.0.0.0/8")
			table := NewGroupedTable(10, 0, NewGrouping(parseLabels(t, c.labels), in, Subnets{}, HostBits{}), c.maxSeries)
			counter := NewCounter(table, in, Subnets{})
			for vlan := range uint16(200) {
				labelled(counter, 0, 6, vlan)
				labelled(counter, 0, 17, vlan)
			}
			got := bySeries(t, table)
			for series, want := range c.want {
				if got[series].TransmitBytes != want {
					t.Errorf("%s has %d, want %d", series, got[series].TransmitBytes, want)
				}
			}
			if len(got) != c.series {
				t.Errorf("%d series, want %d", len(got), c.series)
			}
		})
	}
}

// TestChurnConservesLabelledTotals has addresses and labels come, go and return at random, and compares with a table without labels.
func TestChurnConservesLabelledTotals(t *testing.T) {
	const addresses, after = 300, 20 * time.Second
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			limit := []int{50, 8}[seed%2]
			in := parse(t, "a=10.0.0.0/24,b=10.0.1.0/24")
			g := NewGrouping(parseLabels(t, "network,protocol,vlan"), in, Subnets{}, HostBits{V4: int(seed % 2 * 4)})
			table, plain := NewGroupedTable(limit, after, g, 200), NewGroupedTable(limit, after, NewGrouping(0, in, Subnets{}, g.HostBits()), 0)
			counter, reference := NewCounter(table, in, Subnets{}), NewCounter(plain, in, Subnets{})
			was := map[string]Totals{}
			swept := false
			for range 3000 {
				i, protocol, vlan := random.IntN(addresses)/(1+random.IntN(20)), []uint8{6, 17, 89}[random.IntN(3)], uint16(random.IntN(1+random.IntN(100)))
				labelled(counter, i, protocol, vlan)
				labelled(reference, i, protocol, vlan)
				s := table.Snapshot()
				if n := s.SeriesCount(); n > 200 {
					t.Fatalf("%d series", n)
				} else if n == 200 {
					swept = true
				}
				got, now := map[netip.Addr]Totals{}, map[string]Totals{}
				for i := range s.Hosts {
					got[s.Hosts[i].Addr] = s.Hosts[i].Totals
					now[fmt.Sprint(s.Hosts[i].Addr, s.Hosts[i].Entry, "rest")] = s.Hosts[i].Totals
				}
				for at, series := range s.Series() {
					sum := got[s.Hosts[at].Addr]
					sum.add(series.Totals)
					got[s.Hosts[at].Addr] = sum
					now[fmt.Sprint(s.Hosts[at].Addr, s.Hosts[at].Entry, series.Labels, series.Entry)] = series.Totals
				}
				for _, h := range plain.Snapshot().Hosts {
					if got[h.Addr] != h.Totals {
						t.Fatalf("%v has %+v with labels, %+v without", h.Addr, got[h.Addr], h.Totals)
					}
				}
				for series, before := range was {
					if after, still := now[series]; still && after.TransmitBytes < before.TransmitBytes {
						t.Fatalf("%s went from %d to %d", series, before.TransmitBytes, after.TransmitBytes)
					}
				}
				was = now
				time.Sleep(time.Duration(random.IntN(int(after / 20))))
			}
			bySeries(t, table) // no two are the same
			if s := table.Snapshot(); s.Evicted == 0 || !swept {
				t.Errorf("%d evicted, series were full: %v: the test shows nothing", s.Evicted, swept)
			}
		})
	}
}

// TestInterfacesOfLabelsAreBounded has more interfaces come and go than have a number.
func TestInterfacesOfLabelsAreBounded(t *testing.T) {
	g := NewGrouping(parseLabels(t, "interface"), Subnets{}, Subnets{}, HostBits{})
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
