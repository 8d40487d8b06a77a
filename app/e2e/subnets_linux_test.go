package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"promflow/capture/nettest"
)

// monitoredOn returns the monitored subnets and their names on a page.
func monitoredOn(page string) string {
	var all []string
	for line := range strings.Lines(page) {
		if labels, ok := strings.CutPrefix(line, "promflow_monitored_subnets{"); ok {
			all = append(all, strings.TrimSuffix(labels, "} 1\n"))
		}
	}
	return strings.Join(all, "; ")
}

// advertisement is a frame in which an IPv6 router announces a prefix as on-link, without addresses (RFC 4861, sections 4.2 and 4.6.2).
func advertisement(t *testing.T, prefix netip.Prefix) []byte {
	t.Helper()
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP("ff02::1")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
	nettest.Check(t, icmp.SetNetworkLayerForChecksum(ip))
	const onLink, hour = 0x80, "\x00\x00\x0e\x10"
	addr := prefix.Addr().As16()
	option := string([]byte{byte(prefix.Bits()), onLink}) + hour + hour + "\x00\x00\x00\x00" + string(addr[:])
	frame := gopacket.NewSerializeBuffer()
	nettest.Check(t, gopacket.SerializeLayers(frame, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: net.HardwareAddr("\x02\x00\x00\x00\x00\x01"), DstMAC: net.HardwareAddr("\x33\x33\x00\x00\x00\x01"), EthernetType: layers.EthernetTypeIPv6},
		ip, icmp, &layers.ICMPv6RouterAdvertisement{Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptPrefixInfo, Data: []byte(option)}}}))
	return frame.Bytes()
}

// TestMonitorsOnLinkSubnets has prefixes come, go and return on a captured interface, while one address sends all the time. One second after
// a prefix was announced, every packet of it counts.
func TestMonitorsOnLinkSubnets(t *testing.T) {
	const size, each = 200, 100
	for _, backend := range []string{"ebpf", "afpacket"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel() // it mostly sleeps
			here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
			here.Veth("here", there, "there")
			here.Run("sysctl", "-qw", "net.ipv6.conf.here.disable_ipv6=0", "net.ipv6.conf.here.accept_dad=0")
			here.IP("addr", "add", "10.1.0.1/24", "dev", "here")
			here.IP("addr", "add", "10.9.0.1/24", "dev", "lo")
			p := serve(t, here, "--interface=here", "--capture="+backend, "--monitor-subnets=lan=auto,vpn=10.8.0.0/24", "--expire-after=5s", "--packets")
			sender := nettest.NewSender(t, there, "there")
			elsewhere := map[bool]netip.Addr{true: netip.MustParseAddr("192.0.2.1"), false: netip.MustParseAddr("2001:db8:ffff::1")}
			done, constant, background := make(chan struct{}), netip.MustParseAddr("10.1.0.5"), int64(0)
			var sending sync.WaitGroup
			sending.Go(func() {
				other := nettest.NewSender(t, there, "there")
				for tick := time.NewTicker(time.Millisecond); ; background++ {
					select {
					case <-done:
						return
					case <-tick.C:
						other.Send(nettest.UDP(constant, elsewhere[true], size))
					}
				}
			})
			subnet := func(network, prefix string) string { return fmt.Sprintf("network=%q,subnet=%q", network, prefix) }
			always := []string{subnet("lan", "10.1.0.0/24"), subnet("vpn", "10.8.0.0/24")}
			expect := func(why string, more ...string) {
				t.Helper()
				want := slices.Sorted(slices.Values(append(more, always...)))
				eventually(t, func() error {
					if got := monitoredOn(p.get("/metrics")); got != strings.Join(want, "; ") {
						return fmt.Errorf("%s: monitored are %s, want %s", why, got, want)
					}
					return nil
				})
			}
			sent := map[string]int64{}
			send := func(prefix string) {
				for n := range int64(10) {
					addr := netip.MustParsePrefix(prefix).Addr()
					for range n + 2 {
						addr = addr.Next()
					}
					for range each {
						sender.Send(nettest.UDP(addr, elsewhere[addr.Is4()], size))
					}
					sent[addr.String()] += each
				}
			}
			announce := func(prefix string) {
				here.IP("addr", "add", netip.MustParsePrefix(prefix).Addr().Next().String()+prefix[strings.Index(prefix, "/"):], "dev", "here")
				time.Sleep(time.Second)
				send(prefix)
			}
			withdraw := func(prefix string) {
				here.IP("addr", "del", netip.MustParsePrefix(prefix).Addr().Next().String()+prefix[strings.Index(prefix, "/"):], "dev", "here")
				send(prefix) // which is still on its way
			}
			expect("at first")
			announce("2001:db8::/64")
			expect("one came", subnet("lan", "2001:db8::/64"))
			announce("2001:db8:1::/64") // renumbering
			withdraw("2001:db8::/64")
			announce("10.2.0.0/24")
			exact := func(why, within string) { // before they expire
				t.Helper()
				eventually(t, func() error {
					page := p.get("/metrics")
					all := hosts(t, page)
					for addr, packets := range sent {
						if !netip.MustParsePrefix(within).Contains(netip.MustParseAddr(addr)) {
							continue
						}
						if want := (counts{transmitBytes: packets * size, transmitPackets: packets}); all[addr] != want {
							return fmt.Errorf("%s: %s has %+v, want %+v", why, addr, all[addr], want)
						}
					}
					return nil
				})
			}
			exact("all of IPv6", "::/0")
			exact("all of IPv4", "0.0.0.0/0")
			expect("the old prefix goes once its addresses have expired", subnet("lan", "2001:db8:1::/64"), subnet("lan", "10.2.0.0/24"))
			announce("2001:db8::/64")
			exact("it returned", "2001:db8::/64")
			sender.Send(advertisement(t, netip.MustParsePrefix("2001:db8:2::/64")))
			time.Sleep(time.Second)
			send("2001:db8:2::/64")
			exact("a router announced it", "2001:db8:2::/64")
			close(done)
			sending.Wait()
			eventually(t, func() error {
				if got := hosts(t, p.get("/metrics"))[constant.String()].transmitPackets; got != background {
					return fmt.Errorf("%v has sent %d packets, of which %d count", constant, background, got)
				}
				return nil
			})
			p.terminate()
		})
	}
}

// TestWarnsOfUnmonitoredSubnets has a captured interface with subnets that nobody listed: at the start, later, and twice.
func TestWarnsOfUnmonitoredSubnets(t *testing.T) {
	t.Parallel()
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	here.Run("sysctl", "-qw", "net.ipv6.conf.here.disable_ipv6=0", "net.ipv6.conf.here.accept_dad=0")
	add := func(device string, addresses ...string) {
		t.Helper()
		for _, address := range addresses {
			here.IP("addr", "add", address, "dev", device)
		}
	}
	add("here", "10.1.0.1/24", "10.9.0.1/24", "fd00:1::1/64")
	add("lo", "10.3.0.1/24") // is not captured
	p := serve(t, here, "--interface=here", "--monitor-subnets=10.1.0.0/16", "--exclude-subnets=10.9.0.0/24")
	warned := regexp.MustCompile(`level=WARN msg="an interface that is captured has subnets that are not monitored: [^"]*--monitor-subnets[^"]*auto[^"]*" subnets="?\[([^\]]*)\]`)
	expect := func(why string, want ...string) {
		t.Helper()
		eventually(t, func() error {
			var got []string
			for _, m := range warned.FindAllStringSubmatch(p.log.String(), -1) {
				got = append(got, strings.Fields(m[1])...)
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("%s: the log warns of %v, want %v", why, got, want)
			}
			return nil
		})
	}
	expect("at first", "fd00:1::/64")
	add("here", "2001:db8::1/64")
	expect("one came", "fd00:1::/64", "2001:db8::/64")
	add("here", "2001:db8::2/64", "fd00:1::2/64", "10.1.7.1/24", "10.9.0.2/24")
	here.IP("addr", "del", "2001:db8::1/64", "dev", "here")
	add("here", "172.16.0.1/24")
	expect("others of the same subnets, and one of another", "fd00:1::/64", "2001:db8::/64", "172.16.0.0/24")
	p.terminate()
	expect("at the end", "fd00:1::/64", "2001:db8::/64", "172.16.0.0/24")

	p = serve(t, here, "--interface=here", "--monitor-subnets=auto")
	add("here", "2001:db8:1::1/64")
	eventually(t, func() error {
		if got := monitoredOn(p.get("/metrics")); !strings.Contains(got, "2001:db8:1::/64") {
			return fmt.Errorf("monitored are %s", got)
		}
		return nil
	})
	p.terminate()
	expect("with auto")
}
