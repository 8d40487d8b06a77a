package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"promflow/capture/nettest"
)

var (
	seriesLine = regexp.MustCompile(`(?m)^(promflow_(?:receive|transmit)_(?:bytes|packets)_total)\{(.*)\} (\S+)$`)
	labelPair  = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// sums adds up what a page has of addresses by these labels, as in `sum by`. What IPv6 does by itself, such as to look for
// neighbours, is left out.
func sums(t *testing.T, page string, by ...string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for _, m := range seriesLine.FindAllStringSubmatch(page, -1) {
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("%s: %v", m[0], err)
		}
		if strings.Contains(m[2], `ip="f`) && strings.Contains(m[2], `protocol="icmp"`) {
			continue
		}
		key := m[1]
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if slices.Contains(by, pair[1]) {
				key += " " + pair[0]
			}
		}
		all[key] += int64(v)
	}
	return all
}

// differ says how sums differ.
func differ(what string, got, want map[string]int64) (err error) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			err = errors.Join(err, fmt.Errorf("%s: %s is %d, want %d", what, key, got[key], want[key]))
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			err = errors.Join(err, fmt.Errorf("%s: %s is %d, want nothing", what, key, got[key]))
		}
	}
	return err
}

// TestLabels compares, on the same traffic, what each backend has by labels with what it has without them, and with what the other
// end's capture file gives, where all packets are as on the wire.
func TestLabels(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "tcpdump", "iperf3", "ping", "ethtool")
	for _, c := range []struct {
		name string
		tags []vlan
		vlan string
	}{
		{"untagged", nil, "0"},
		{"VLAN", []vlan{{0x8100, 7}}, "7"},
		{"QinQ", []vlan{{0x88a8, 8}, {0x8100, 7}}, "8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, joinByVeth, c.tags...)
			counting := []string{"--packets", "--monitor-subnets=lan=10.1.0.0/16,fd00::/16,10.0.0.0/8", "--exclude-subnets=10.66.0.0/16"}
			labels := []string{"--labels=network,peer,protocol,interface,vlan", "--peer-subnets=server=10.2.0.2"}
			plain := serveEach(t, n.router, append(counting, "--interface=r0")...)
			labelled := serveEach(t, n.router, slices.Concat(counting, labels, []string{"--interface=r0"})...)
			prefixes := serveEach(t, n.router, slices.Concat(counting, labels, []string{"--interface=r0", "--aggregate=/24", "--aggregate6=/64"})...)
			file := tcpdump(t, n.server, "s0")
			n.iperfServer(t)

			iperf := func(args ...string) { n.client.Run(append([]string{"iperf3", "-J", "-w64K", "-c"}, args...)...) }
			before := n.frames(t)
			n.client.Run("ping", "-q", "-c5", "-i0.01", "10.2.0.2")
			for _, server := range []string{"10.2.0.2", "fd00:2::2"} {
				iperf(server, "-n5M", "-b500M")
				iperf(server, "-u", "-n1M", "-b50M", "-l4000") // in fragments
			}
			n.mustHaveMerged(t, before)

			by := []string{"ip", "network", "peer", "protocol"}
			eventually(t, func() (err error) {
				out, failed := promflow(t, slices.Concat([]string{"replay"}, counting, labels, []string{file})...).Output()
				if failed != nil {
					return failed
				}
				onTheWire := sums(t, string(out), by...)
				for name, p := range labelled {
					page := p.get("/metrics")
					err = errors.Join(err, differ(name, sums(t, page, by...), onTheWire))
					for key := range sums(t, page, "interface", "vlan") {
						if !strings.HasSuffix(key, ` interface="r0" vlan="`+c.vlan+`"`) {
							err = errors.Join(err, fmt.Errorf("%s: there is a %s", name, key))
						}
					}
					without := plain[name].get("/metrics")
					for _, ip := range []string{"10.1.0.1", "10.2.0.2"} {
						for _, metric := range []string{"receive_bytes", "transmit_bytes", "receive_packets", "transmit_packets"} {
							series := fmt.Sprintf(`promflow_%s_total ip="%s"`, metric, ip)
							if got, want := sums(t, page, "ip")[series], sums(t, without, "ip")[series]; got != want || want == 0 {
								err = errors.Join(err, fmt.Errorf("%s: %s is %d with labels, %d without", name, series, got, want))
							}
						}
					}
					all := prefixes[name].get("/metrics")
					err = errors.Join(err, differ(name+" by prefixes", sums(t, all, by[1:]...), sums(t, page, by[1:]...)))
					if got := sums(t, all, "ip"); got[`promflow_transmit_bytes_total ip="10.1.0.0/24"`] == 0 || got[`promflow_transmit_bytes_total ip="10.1.0.1"`] != 0 {
						err = errors.Join(err, fmt.Errorf("%s: by prefixes there are %v", name, got))
					}
				}
				return err
			})
			for _, want := range []string{
				`ip="10.1.0.1" network="lan" peer="server" protocol="tcp"`, `ip="10.1.0.1" network="lan" peer="server" protocol="udp"`,
				`ip="10.1.0.1" network="lan" peer="server" protocol="icmp"`, `ip="10.2.0.2" network="10.0.0.0/8" peer="lan" protocol="tcp"`,
				`ip="fd00:1::1" network="fd00::/16" peer="fd00::/16" protocol="udp"`,
			} {
				for name, p := range labelled {
					if sums(t, p.get("/metrics"), by...)["promflow_transmit_bytes_total "+want] == 0 {
						t.Errorf("%s: no %s", name, want)
					}
				}
			}
		})
	}
}

// TestRenamedInterfaceHasItsNewLabel renames an interface within a glob: its label is that of promflow_capture_packets_total.
func TestRenamedInterfaceHasItsNewLabel(t *testing.T) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("a0", there, "there")
	all := serveEach(t, here, "--interface=a*", "--labels=interface", "--monitor-subnets=192.168.0.0/24", "--packets")
	s := nettest.NewSender(t, there, "there")
	frame := nettest.UDP(netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("203.0.113.1"), 100)
	seen := func(want map[string]int64) {
		t.Helper()
		eventually(t, func() (err error) {
			for name, p := range all {
				page := p.get("/metrics")
				for on, n := range want {
					series := fmt.Sprintf(`promflow_transmit_packets_total interface="%s" ip="192.168.0.1"`, on)
					if got := sums(t, page, "ip", "interface")[series]; got != n {
						err = errors.Join(err, fmt.Errorf("%s: %s is %d, want %d", name, series, got, n))
					}
					if n > 0 && !strings.Contains(page, fmt.Sprintf(`promflow_capture_up{backend="%s",interface="%s"}`, name, on)) {
						err = errors.Join(err, fmt.Errorf("%s: %s is not captured", name, on))
					}
				}
			}
			return err
		})
	}
	s.Send(frame, frame)
	seen(map[string]int64{"a0": 2})
	here.IP("link", "set", "a0", "down")
	here.IP("link", "set", "a0", "name", "a1")
	here.IP("link", "set", "a1", "up")
	eventually(t, func() error {
		for name, p := range all {
			if up := fmt.Sprintf(`promflow_capture_up{backend="%s",interface="a1"} 1`, name); !strings.Contains(p.get("/metrics"), up) {
				return fmt.Errorf("%s: no %s", name, up)
			}
		}
		return nil
	})
	s.Send(frame, frame, frame)
	seen(map[string]int64{"a0": 2, "a1": 3})
}
