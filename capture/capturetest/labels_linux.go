package capturetest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/labels"
	"promflow/capture/nettest"
)

// grouping returns a grouping by labels and prefixes, and subnets with names.
func grouping(t *testing.T, list string, bits labels.HostBits) (*labels.Grouping, capture.Subnets) {
	t.Helper()
	set, err := labels.Parse(list)
	nettest.Check(t, err)
	return labels.New(set, bits, false), capture.Subnets{
		Monitored: parse(t, "ten=10.0.0.0/8,one=10.0.0.1,fd00::/16"), Excluded: excluded, Peers: parse(t, "doc=192.0.2.0/24,doc=2001:db8::/32"),
	}
}

// bySeries returns the totals of a table by address and labels.
func bySeries(table *capture.Table) map[string]capture.Totals {
	all, s, g := map[string]capture.Totals{}, table.Snapshot(), table.Grouping()
	add := func(at int, of labels.Values, totals capture.Totals) {
		if addr := s.Hosts[at].Addr; totals != (capture.Totals{}) {
			all[fmt.Sprintf("%v%v", addr, g.Texts(addr, of))] = totals
		}
	}
	for i := range s.Hosts {
		add(i, g.Rest(), s.Hosts[i].Totals)
	}
	for at, series := range s.Series() {
		add(at, series.Labels, series.Totals)
	}
	return all
}

// labelledFrames returns frames with different values of labels.
func labelledFrames() [][]byte {
	frames := Frames()
	payload := gopacket.Payload("eighteen bytes, so")
	protocols := []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolICMPv4, layers.IPProtocolICMPv6,
		layers.IPProtocolSCTP, layers.IPProtocolESP, layers.IPProtocolGRE, layers.IPProtocolAH, 0, 255}
	for i, p := range protocols {
		vlan := fmt.Sprintf("\x81\x00%c%c", i, i)
		for _, to := range []string{"10.0.0.2", "10.255.255.255", "192.0.2.1", "198.51.100.1", "224.0.0.251", "255.255.255.255"} {
			frames = append(frames,
				ethernet("\x08\x00", ipv4("10.0.0.1", to, p), payload),
				ethernet(vlan+"\x08\x00", ipv4(to, "10.0.0.3", p), payload),
				ethernet("\x88\xa8\x01\x01"+vlan+"\x08\x00", ipv4("10.0.0.4", to, p), payload))
		}
		for _, to := range []string{"fd00::2", "2001:db8::1", "ff02::fb"} {
			hop := gopacket.Payload{byte(p), 0, 1, 4, 0, 0, 0, 0}
			first := gopacket.Payload{byte(p), 0, 0, 1, 0, 0, 0, 7}
			later := gopacket.Payload{byte(layers.IPProtocolIPv6Destination), 0, 1, 0, 0, 0, 0, 7}
			frames = append(frames,
				ethernet(vlan+"\x86\xdd", ipv6("fd00::1", to, p), payload),
				ethernet("\x86\xdd", ipv6(to, "fd00::3", layers.IPProtocolIPv6HopByHop), hop, payload),
				ethernet("\x86\xdd", ipv6("fd00::4", to, layers.IPProtocolIPv6Fragment), first, payload),
				ethernet("\x86\xdd", ipv6("fd00::4", to, layers.IPProtocolIPv6Fragment), later, payload))
		}
	}
	return frames
}

// keepsLabelsApart compares with package frame and the table, which have tests of their own, and with totals without labels.
func keepsLabelsApart(t *testing.T, b capture.Backend) {
	const all = "network,peer,protocol,interface,vlan"
	prefixes := labels.HostBits{V4: 8, V6: 64}
	lists := map[string][]labels.HostBits{"peer": {{}}, all: {{}, prefixes}, "": {prefixes}}
	if !testing.Short() {
		lists["network"], lists["protocol"], lists["interface"], lists["vlan"] = []labels.HostBits{{}, prefixes}, lists["peer"], lists["peer"], lists["peer"]
		lists[all] = append(lists[all], labels.HostBits{V4: 31, V6: 127}, labels.HostBits{V4: 2})
	}
	for list, each := range lists {
		for _, bits := range each {
			t.Run(fmt.Sprintf("%s, without %d and %d bits", list, bits.V4, bits.V6), func(t *testing.T) {
				g, within := grouping(t, list, bits)
				here, there := link(t)
				table, want := capture.NewGroupedTable(1000, 0, g, 1000), capture.NewGroupedTable(1000, 0, g, 1000)
				r := start(t, b, here, "here", capture.Config{Table: table.Monitor(within)})
				reference, plain := capture.NewCounter(want.Monitor(within)), expect(within.Monitored, excluded)
				reference.SeenOn("here")
				count := func(f frame.Frame) {
					var p frame.Packet
					p.Decode(&f)
					for _, counter := range []*capture.Counter{reference, plain.counter} {
						counter.Lock()
						counter.Count(&p)
						counter.Unlock()
					}
				}
				in, out := nettest.NewSender(t, there, "there"), nettest.NewSender(t, here, "here")
				for _, f := range labelledFrames() {
					in.Send(f)
					out.Send(f)
					count(frame.Frame{Link: frame.LinkEthernet, Data: f})
					count(frame.Frame{Link: frame.LinkEthernet, Data: f})
				}
				for _, m := range mergedFrames() {
					if !in.SendMerged(m) { // which countsSegments tells
						continue
					}
					count(asFrame(m))
				}
				r.seen(plain.packets())
				r.stop()
				compareTotals(t, bySeries(table), bySeries(want))
				if bits == (labels.HostBits{}) {
					compareTotals(t, byAddress(table), totals(plain.table))
				}
			})
		}
	}
}

// byAddress returns the totals of a table by address, with all series.
func byAddress(table *capture.Table) map[netip.Addr]capture.Totals {
	all, s := totals(table), table.Snapshot()
	for at, series := range s.Series() {
		sum := all[s.Hosts[at].Addr]
		sum.Add(series.Totals)
		all[s.Hosts[at].Addr] = sum
	}
	return all
}

// boundsLabels sends from one address in more VLANs than it can have series. Then series expire, and another address gets their room.
func boundsLabels(t *testing.T, b capture.Backend) {
	type bound struct {
		monitored string
		maxSeries int
	}
	bounds := map[string]bound{"of IPv6": {"fd00::/16", 1000}, "of all": {"10.0.0.0/24", 40}}
	if !testing.Short() {
		bounds["of a small subnet"], bounds["of a large subnet"] = bound{"10.0.0.0/24", 1000}, bound{"10.0.0.0/8", 1000}
	}
	for name, c := range bounds {
		t.Run(name, func(t *testing.T) {
			const vlans, size, expireAfter = 300, 100, 300 * time.Millisecond
			monitored := parse(t, c.monitored)
			set := labels.Set(0).With(labels.VLAN).With(labels.Peer)
			here, there := link(t)
			table := capture.NewGroupedTable(100, expireAfter, labels.New(set, labels.HostBits{}, false), c.maxSeries)
			r := start(t, b, here, "here", capture.Config{Table: table.Monitor(capture.Subnets{Monitored: monitored})})
			s := nettest.NewSender(t, there, "there")
			first := monitored.Prefixes()[0].Addr().Next()
			var sent int64
			send := func(from netip.Addr, vlan int) {
				to := netip.MustParseAddr("192.0.2.1")
				if from.Is6() {
					to = netip.MustParseAddr("2001:db8::1")
				}
				s.Send(slices.Insert(nettest.UDP(from, to, size), 12, 0x81, 0, byte(vlan>>8), byte(vlan)))
				sent++
			}
			for range 2 {
				for vlan := range vlans {
					send(first, vlan)
				}
			}
			r.seen(sent)
			if got := byAddress(table)[first].TransmitPackets; got != sent {
				t.Errorf("the address has %d packets, want %d", got, sent)
			}
			all := bySeries(table)
			if most := min(capture.SeriesPerIP, c.maxSeries) + 2; len(all) > most || len(all) < most-2 {
				t.Errorf("%d series, want up to %d: %v", len(all), most, slices.Sorted(maps.Keys(all)))
			}
			others := int64(0)
			for series, totals := range all {
				if strings.Contains(series, "{vlan other}") {
					others += totals.TransmitPackets
				}
			}
			if want := 2 * int64(vlans-min(capture.SeriesPerIP, c.maxSeries)); others < want || others > want+2*vlans/10 {
				t.Errorf("other VLANs have %d packets, want some %d", others, want)
			}

			// Once these have expired, there is room for labels of another address.
			second := first.Next()
			r.eventually("room", func(capture.Status) bool {
				send(second, 7)
				r.seen(sent)
				return bySeries(table)[second.String()+"[{peer external} {vlan 7}]"].TransmitPackets > 0
			})
			r.stop()
			if sum := byAddress(table); sum[first].TransmitPackets+sum[second].TransmitPackets != sent || len(sum) != 2 {
				t.Errorf("%v have %d packets altogether, want %d", sum, sum[first].TransmitPackets+sum[second].TransmitPackets, sent)
			}
		})
	}
}

// labelsInterfaces has several sources, and renames one.
func labelsInterfaces(t *testing.T, b capture.Backend) {
	set := labels.Set(0).With(labels.Interface)
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	table := capture.NewGroupedTable(1000, 0, labels.New(set, labels.HostBits{}, false), 1000)
	c := openCapture(t, b, here, 3, capture.Config{Table: table.Monitor(capture.Subnets{Monitored: monitored}), Promiscuous: true})
	f := nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), 100)
	for i, name := range []string{"a0", "a1", "a2"} {
		here.Veth(name, there, name)
		r := openSource(t, c, here, table)
		r.attach(here.Interface(name))
		r.run()
		s := nettest.NewSender(t, there, name)
		s.Send(slices.Repeat([][]byte{f}, i+1)...)
		r.seen(int64(i + 1))
		if i == 2 {
			renamed := here.Interface(name)
			renamed.Name = "b2"
			r.source.Follow(renamed)
			s.Send(f)
			r.seen(int64(i + 2))
		}
		r.stop()
	}
	for name, want := range map[string]int64{"a0": 1, "a1": 2, "a2": 3, "b2": 1} {
		if got := bySeries(table)["10.0.0.1[{interface "+name+"}]"].TransmitPackets; got != want {
			t.Errorf("%s has seen %d packets, want %d", name, got, want)
		}
	}
}

// labelsRemovedTags sends frames whose VLAN tags are beside them, and not in them, until a driver puts them there.
func labelsRemovedTags(t *testing.T, b capture.Backend) {
	nettest.Need(t, "ethtool")
	here, there := link(t)
	table := capture.NewGroupedTable(1000, 0, labels.New(labels.Set(0).With(labels.VLAN), labels.HostBits{}, false), 1000)
	r := start(t, b, here, "here", capture.Config{Table: table.Monitor(capture.Subnets{Monitored: monitored})})
	if !strings.Contains(here.Run("ethtool", "-k", "here"), "rx-vlan-offload: on") {
		there.Run("ethtool", "-K", "there", "txvlan", "off") // the kernel has no way to tell of tags beside the frame
	}
	f := nettest.UDP(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), 100)
	want, sent := map[string]int64{}, int64(0)
	for _, from := range []struct {
		n      *nettest.Namespace
		device string
	}{{there, "there"}, {here, "here"}} {
		for _, id := range []uint16{5, 4094} {
			from.n.SendTagged(from.device, id, f, int(sent+1))
			want[fmt.Sprintf("10.0.0.1[{vlan %d}]", id)] += sent + 1
			sent += sent + 1
		}
	}
	r.eventually("packets", func(s capture.Status) bool { return s.Outcomes[frame.Counted].Packets >= sent })
	r.stop()
	for series, packets := range want {
		if got := bySeries(table)[series].TransmitPackets; got != packets {
			t.Errorf("%s has %d packets, want %d: %v", series, got, packets, bySeries(table))
		}
	}
}
