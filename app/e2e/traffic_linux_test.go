package e2e

import (
	"testing"

	"promflow/capture/nettest"
)

// TestCountsWhatTheOtherEndCounts sends real traffic from a client through a router, where promflow captures with every
// backend, to a server where tcpdump does. Client and router merge segments; the server's link has them as they are on a
// wire.
func TestCountsWhatTheOtherEndCounts(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "tcpdump", "iperf3", "ping", "ethtool")
	inVLAN, inQinQ := []vlan{{0x8100, 7}}, []vlan{{0x88a8, 8}, {0x8100, 7}}
	for _, c := range []struct {
		name   string
		join   joint
		tags   []vlan
		merges bool
	}{
		{"untagged", joinByVeth, nil, true},
		{"VLAN", joinByVeth, inVLAN, true},
		{"QinQ", joinByVeth, inQinQ, true},
		{"tun", joinByTun, nil, true},
		{"tun without offloads", joinByPlainTun, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, c.join, c.tags...)
			all := serveEach(t, n.router, "--interface=r0", "--packets", "--monitor-subnets=10.0.0.0/8,fd00::/16",
				"--exclude-subnets=10.66.0.0/16")
			file := tcpdump(t, n.server, "s0")
			captured := ""
			if len(c.tags) > 0 {
				captured = tcpdump(t, n.router, "r0")
			}
			n.iperfServer(t)

			before := n.frames(t)
			n.transfer()
			all.agree(t, func() (map[string]counts, error) { return onTheWire(t, file) })

			for name, p := range all {
				got := sample(t, p.get("/metrics"), `promflow_capture_packets_total{interface="r0",outcome="excluded"}`)
				if got != 10 {
					t.Errorf("%s: %v packets excluded, want 10: five pings and their answers", name, got)
				}
			}
			if c.merges {
				n.mustHaveMerged(t, before)
			}
			if len(c.tags) > 0 {
				mustHaveTags(t, captured, c.tags)
			}
		})
	}
}

// TestCountsBigTCP is the same with segments of more than 64 KiB, whose IP headers cannot say how long they are.
func TestCountsBigTCP(t *testing.T) {
	nettest.Need(t, "tcpdump", "iperf3", "ethtool")
	// A bridge, as a router answers that they are too big.
	n := newLinks(t, joinByVeth)
	n.router.IP("link", "add", "br0", "type", "bridge")
	n.router.IP("link", "set", "br0", "up")
	n.router.IP("link", "set", "r0", "master", "br0")
	n.router.IP("link", "set", "r1", "master", "br0")
	n.client.IP("link", "set", "c0", "gso_max_size", "200000")
	for _, ns := range []*nettest.Namespace{n.client, n.server} {
		ns.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
	}
	addresses(n.client, "c0", "fd00:1::1/64")
	addresses(n.server, "s0", "fd00:1::2/64")
	neighbours(t, n.client, "c0", n.server, "s0", "fd00:1::2")
	neighbours(t, n.server, "s0", n.client, "c0", "fd00:1::1")

	all := serveEach(t, n.router, "--interface=r0", "--packets", "--monitor-subnets=fd00::/16")
	file, merged := tcpdump(t, n.server, "s0"), tcpdump(t, n.router, "r0")
	n.iperfServer(t)
	n.client.Run("iperf3", "-J", "-w300K", "-n20M", "-c", "fd00:1::2")
	all.agree(t, func() (map[string]counts, error) { return onTheWire(t, file) })
	if _, longest := counted(t, merged); longest <= 65535+14 {
		t.Errorf("the longest frame had %d bytes: no BIG TCP, the test shows nothing", longest)
	}
}

// TestCountsTunnelsAtTheirEnds has VXLAN over both versions of IP, with both in it: of merged segments, each packet has the
// headers of the tunnel again, and all of it is the tunnel's ends'.
func TestCountsTunnelsAtTheirEnds(t *testing.T) {
	nettest.Need(t, "tcpdump", "iperf3", "ethtool")
	n := newNetwork(t, joinByVeth)
	all := serveEach(t, n.router, "--interface=r0", "--packets", "--monitor-subnets=10.0.0.0/8,fd00::/16")
	file := tcpdump(t, n.server, "s0")

	// From here on there is traffic: IPv6 hosts in the tunnels look for their neighbours.
	tunnel := func(ns *nettest.Namespace, underlay, local, remote, device string, inner ...string) {
		ns.IP("link", "add", device, "type", "vxlan", "id", "1", "dev", underlay, "local", local, "remote", remote, "dstport", "4789")
		ns.IP("link", "set", device, "up")
		addresses(ns, device, inner...)
	}
	tunnel(n.client, "c0", "10.1.0.1", "10.2.0.2", "vx4", "10.4.0.1/24", "fd00:4::1/64")
	tunnel(n.server, "s0", "10.2.0.2", "10.1.0.1", "vx4", "10.4.0.2/24", "fd00:4::2/64")
	tunnel(n.client, "c0", "fd00:1::1", "fd00:2::2", "vx6", "10.6.0.1/24", "fd00:6::1/64")
	tunnel(n.server, "s0", "fd00:2::2", "fd00:1::1", "vx6", "10.6.0.2/24", "fd00:6::2/64")
	// Of tunnels' packets a router merges those that go to ports on which it has a tunnel itself.
	n.router.IP("link", "add", "vx", "type", "vxlan", "external", "dstport", "4789")
	n.router.IP("link", "set", "vx", "up")

	n.iperfServer(t)
	for _, inner := range []string{"10.4.0.2", "fd00:4::2", "10.6.0.2", "fd00:6::2"} {
		for direction, flags := range map[string][]string{"to": nil, "from": {"-R"}} {
			before := n.frames(t)
			n.client.Run(append([]string{"iperf3", "-J", "-w64K", "-n5M", "-b500M", "-c", inner}, flags...)...)
			t.Run("merged "+direction+" "+inner, func(t *testing.T) { n.mustHaveMerged(t, before) })
		}
	}
	all.agree(t, func() (map[string]counts, error) { return onTheWire(t, file) })
}

// transfer has the client ping the server, also from an excluded address, and send and receive 25 MB.
func (n network) transfer() {
	ping := func(args ...string) { n.client.Run(append([]string{"ping", "-q", "-c5", "-i0.01"}, args...)...) }
	iperf := func(args ...string) { n.client.Run(append([]string{"iperf3", "-J", "-w64K", "-c"}, args...)...) }
	ping("10.2.0.2")
	ping("-s1400", "fd00:2::2")
	ping("-I", "10.66.0.1", "10.2.0.2") // excluded
	for _, server := range []string{"10.2.0.2", "fd00:2::2"} {
		iperf(server, "-n5M", "-b500M")
		iperf(server, "-n5M", "-b500M", "-R")
		iperf(server, "-u", "-n1M", "-b50M", "-l1200")
		iperf(server, "-u", "-n1M", "-b50M", "-l4000") // in fragments
	}
}
