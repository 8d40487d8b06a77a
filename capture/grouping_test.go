package capture

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"promflow/capture/frame"
	"promflow/capture/labels"
)

func parseLabels(t testing.TB, list string) labels.Set {
	t.Helper()
	s, err := labels.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bySeries is what a table has by address and labels, as a page would say it. Series with the same labels would be wrong there.
func bySeries(t testing.TB, table *Table) map[string]Totals {
	t.Helper()
	g, s, all := table.Grouping(), table.Snapshot(), map[string]Totals{}
	add := func(addr netip.Addr, of labels.Values, totals Totals) {
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
		bits         labels.HostBits
		packet       frame.Packet
		want         []string // who transmits and who receives
	}{
		{"internet", "network,peer", labels.HostBits{}, packet("192.168.1.5", "198.51.100.1", 6, 0), []string{"192.168.1.5 network=lan peer=external", ""}},
		{"from the internet", "network,peer", labels.HostBits{}, packet("198.51.100.1", "192.168.1.5", 6, 0), []string{"", "192.168.1.5 network=lan peer=external"}},
		{"within", "network,peer", labels.HostBits{}, packet("192.168.1.5", "192.168.1.6", 6, 0),
			[]string{"192.168.1.5 network=lan peer=lan", "192.168.1.6 network=lan peer=lan"}},
		{"the most specific name", "network,peer", labels.HostBits{}, packet("192.168.1.9", "192.168.2.6", 6, 0),
			[]string{"192.168.1.9 network=printer peer=iot", "192.168.2.6 network=iot peer=printer"}},
		{"one name for several", "network,peer", labels.HostBits{}, packet("fd00::1", "2001:db8::1", 6, 0), []string{"fd00::1 network=lan peer=external", ""}},
		{"a peer that is monitored by another name", "network,peer", labels.HostBits{}, packet("192.168.1.5", "10.8.0.1", 6, 0),
			[]string{"192.168.1.5 network=lan peer=vpn", "10.8.0.1 network=10.0.0.0/8 peer=lan"}},
		{"a peer that is not monitored", "peer", labels.HostBits{}, packet("192.168.1.5", "203.0.113.7", 6, 0), []string{"192.168.1.5 peer=cdn", ""}},
		{"multicast", "peer", labels.HostBits{}, packet("192.168.1.5", "239.1.2.3", 17, 0), []string{"192.168.1.5 peer=multicast", ""}},
		{"multicast of IPv6", "peer", labels.HostBits{}, packet("fd00::5", "ff02::fb", 17, 0), []string{"fd00::5 peer=multicast", ""}},
		{"multicast of IPv4, mapped", "peer", labels.HostBits{}, packet("fd00::5", "::ffff:224.0.0.1", 17, 0), []string{"fd00::5 peer=external", ""}},
		{"broadcast", "peer", labels.HostBits{}, packet("192.168.1.5", "255.255.255.255", 17, 0), []string{"192.168.1.5 peer=multicast", ""}},
		{"broadcast to a subnet", "peer", labels.HostBits{}, packet("192.168.1.5", "192.168.1.255", 17, 0),
			[]string{"192.168.1.5 peer=multicast", "192.168.1.255 peer=lan"}},
		{"a broadcast address as source", "peer", labels.HostBits{}, packet("192.168.2.255", "192.168.1.5", 17, 0),
			[]string{"192.168.2.255 peer=lan", "192.168.1.5 peer=iot"}},
		{"tcp", "protocol", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 6, 0), []string{"10.0.0.1 protocol=tcp", ""}},
		{"udp", "protocol", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 17, 0), []string{"10.0.0.1 protocol=udp", ""}},
		{"icmp", "protocol", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 1, 0), []string{"10.0.0.1 protocol=icmp", ""}},
		{"icmpv6", "protocol", labels.HostBits{}, packet("fd00::1", "2001:db8::1", 58, 0), []string{"fd00::1 protocol=icmp", ""}},
		{"sctp", "protocol", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 132, 0), []string{"10.0.0.1 protocol=sctp", ""}},
		{"esp", "protocol", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 50, 0), []string{"10.0.0.1 protocol=esp", ""}},
		{"gre", "protocol", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 47, 0), []string{"10.0.0.1 protocol=gre", ""}},
		{"another protocol", "protocol", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 89, 0), []string{"10.0.0.1 protocol=other", ""}},
		{"no protocol", "protocol,vlan", labels.HostBits{}, packet("fd00::1", "2001:db8::1", frame.NoProtocol, 0), []string{"fd00::1 protocol=other vlan=0", ""}},
		{"vlan", "vlan", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 6, 4095), []string{"10.0.0.1 vlan=4095", ""}},
		{"interface", "interface", labels.HostBits{}, packet("10.0.0.1", "192.0.2.1", 6, 7), []string{"10.0.0.1 interface=eth7", ""}},
		{"all", "vlan,interface,protocol,peer,network", labels.HostBits{}, packet("10.0.0.1", "192.168.2.1", 6, 7), []string{
			"10.0.0.1 network=10.0.0.0/8 peer=iot protocol=tcp interface=eth7 vlan=7",
			"192.168.2.1 network=iot peer=10.0.0.0/8 protocol=tcp interface=eth7 vlan=7"}},
		{"prefixes", "", labels.HostBits{V4: 8, V6: 64}, packet("10.1.2.3", "192.168.2.6", 6, 0), []string{"10.1.2.0/24", "192.168.2.0/24"}},
		{"prefixes of IPv6", "protocol", labels.HostBits{V4: 8, V6: 64}, packet("fd00::1:2:3:4", "2001:db8::1", 6, 0), []string{"fd00::/64 protocol=tcp", ""}},
		{"prefixes of IPv4 only", "protocol", labels.HostBits{V4: 16, V6: 0}, packet("fd00::1:2:3:4", "2001:db8::1", 6, 0), []string{"fd00::1:2:3:4 protocol=tcp", ""}},
		{"a prefix of two networks", "network", labels.HostBits{V4: 8, V6: 0}, packet("192.168.1.9", "192.168.1.5", 6, 0),
			[]string{"192.168.1.0/24 network=printer", "192.168.1.0/24 network=lan"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := parseSubnets(t, monitored)
			table := NewGroupedTable(10, 0, labels.New(parseLabels(t, c.labels), c.bits, false), 10)
			counter := NewCounter(table.Monitor(Subnets{Monitored: in, Peers: parseSubnets(t, peers)}))
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
			in := parseSubnets(t, "10.0.0.0/8")
			table := NewGroupedTable(10, 0, labels.New(parseLabels(t, c.labels), labels.HostBits{}, false), c.maxSeries)
			counter := NewCounter(table.Monitor(Subnets{Monitored: in}))
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
			in := parseSubnets(t, "a=10.0.0.0/24,b=10.0.1.0/24")
			g := labels.New(parseLabels(t, "network,protocol,vlan"), labels.HostBits{V4: int(seed % 2 * 4)}, false)
			table, plain := NewGroupedTable(limit, after, g, 200), NewGroupedTable(limit, after, labels.New(0, g.HostBits(), false), 0)
			counter, reference := NewCounter(table.Monitor(Subnets{Monitored: in})), NewCounter(plain.Monitor(Subnets{Monitored: in}))
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
					sum.Add(series.Totals)
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
