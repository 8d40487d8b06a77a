package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"promflow/capture/nettest"
)

// flowExporter is a program that counts what passes an interface, and exports it.
type flowExporter struct {
	name     string
	programs []string
	capture  string // the protocol, as promflow calls it
	without6 bool   // it knows only IPv4
	padding  bool   // it takes Ethernet's padding for a part of IPv4 packets
	header   int64  // bytes of each packet's header of the link layer, if it counts that

	start startExporter
}

// startExporter starts an exporter on an interface of a namespace. It sends to 127.0.0.1 and the port. Tests call flush, if there is one, to
// have it send what it has counted; others do so by themselves. The test's end kills the exporter.
type startExporter func(t *testing.T, ns *nettest.Namespace, device string, port int) (flush func())

// everyPacket has each exporter count every packet.
func everyPacket() []flowExporter {
	return []flowExporter{
		{name: "softflowd NetFlow v5", programs: softflowPrograms, capture: "netflow", without6: true, padding: true, start: softflowd("-v", "5")},
		{name: "softflowd NetFlow v9", programs: softflowPrograms, capture: "netflow", padding: true, start: softflowd("-v", "9")},
		{name: "softflowd IPFIX", programs: softflowPrograms, capture: "netflow", padding: true, start: softflowd("-v", "10")},
		{name: "softflowd IPFIX, both directions in a record", programs: softflowPrograms, capture: "netflow", padding: true,
			start: softflowd("-v", "10", "-b")},
		{name: "pmacctd NetFlow v5", programs: pmacctPrograms, capture: "netflow", without6: true, start: nfprobe(5, 1)},
		{name: "pmacctd NetFlow v9", programs: pmacctPrograms, capture: "netflow", start: nfprobe(9, 1)},
		{name: "pmacctd IPFIX", programs: pmacctPrograms, capture: "netflow", start: nfprobe(10, 1)},
		{name: "pmacctd sFlow", programs: pmacctPrograms, capture: "sflow", start: sfprobe(1)},
		{name: "Open vSwitch NetFlow v5", programs: switchPrograms, capture: "netflow", without6: true, padding: true, header: 14,
			start: openVSwitch("netflow", "NetFlow", "active_timeout=1")},
		// It exports each packet where it comes in and where it goes out: this tests --flow-direction, whose default is ingress.
		{name: "Open vSwitch IPFIX", programs: switchPrograms, capture: "netflow", padding: true,
			start: openVSwitch("ipfix", "IPFIX", "sampling=1", "cache_active_timeout=1", "cache_max_flows=8192")},
		{name: "Open vSwitch sFlow", programs: switchPrograms, capture: "sflow", start: openVSwitch("sflow", "sFlow", "agent=lo", "sampling=1", "polling=0")},
	}
}

// oneInTen has each exporter that can sample count one packet of ten.
func oneInTen() []flowExporter {
	return []flowExporter{
		{name: "softflowd NetFlow v5", programs: softflowPrograms, capture: "netflow", start: softflowd("-v", "5", "-s", "10")},
		{name: "softflowd NetFlow v9", programs: softflowPrograms, capture: "netflow", start: softflowd("-v", "9", "-s", "10")},
		{name: "softflowd IPFIX", programs: softflowPrograms, capture: "netflow", start: softflowd("-v", "10", "-s", "10")},
		{name: "pmacctd NetFlow v5", programs: pmacctPrograms, capture: "netflow", start: nfprobe(5, 10)},
		{name: "pmacctd NetFlow v9", programs: pmacctPrograms, capture: "netflow", start: nfprobe(9, 10)},
		{name: "pmacctd IPFIX", programs: pmacctPrograms, capture: "netflow", start: nfprobe(10, 10)},
		{name: "pmacctd sFlow", programs: pmacctPrograms, capture: "sflow", start: sfprobe(10)},
		// It tells no rate, as it multiplies by itself.
		{name: "Open vSwitch IPFIX", programs: switchPrograms, capture: "netflow",
			start: openVSwitch("ipfix", "IPFIX", "sampling=10", "cache_active_timeout=1", "cache_max_flows=8192")},
		{name: "Open vSwitch sFlow", programs: switchPrograms, capture: "sflow", start: openVSwitch("sflow", "sFlow", "agent=lo", "sampling=10", "polling=0")},
	}
}

var (
	softflowPrograms = []string{"softflowd", "softflowctl"}
	pmacctPrograms   = []string{"pmacctd"}
	switchPrograms   = []string{"ovs-vswitchd", "ovs-vsctl", "ovsdb-server", "ovsdb-tool"}
)

// isSwitch tells whether the exporter is the bridge itself.
func (x *flowExporter) isSwitch() bool { return slices.Equal(x.programs, switchPrograms) }

// softflowd returns what starts one.
func softflowd(args ...string) startExporter {
	return func(t *testing.T, ns *nettest.Namespace, device string, port int) func() {
		t.Helper()
		control := startSoftflowd(t, ns, device, port, args...)
		return func() { control("expire-all") }
	}
}

// startSoftflowd starts one, and returns what controls it. It gets packets from the kernel in blocks of 256 KiB, without a timeout: others,
// which it ignores, have to fill the block.
func startSoftflowd(t *testing.T, ns *nettest.Namespace, device string, port int, args ...string) (control func(command string) string) {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "control")
	background(t, ns, "Exporting flows", append([]string{"softflowd", "-d", "-i", device, "-n", exporterTo(port), "-c", socket,
		"-p", filepath.Join(dir, "pid"), "-t", "maxlife=60", "-B", "16777216"}, args...)...)
	return func(command string) string {
		t.Helper()
		return ns.Run("softflowctl", "-c", socket, command)
	}
}

// nfprobe returns what starts pmacct's exporter of NetFlow and IPFIX. It sends flows after a second without packets.
func nfprobe(version, sampling int) startExporter {
	return pmacctd("nfprobe", "aggregate: src_host, dst_host, src_port, dst_port, proto, tos", "nfprobe_version: "+strconv.Itoa(version),
		"nfprobe_timeouts: tcp=1:tcp.rst=1:tcp.fin=1:udp=1:icmp=1:general=1:maxlife=60:expint=1", "sampling_rate: "+strconv.Itoa(sampling))
}

// sfprobe returns what starts pmacct's exporter of sFlow.
func sfprobe(sampling int) startExporter {
	return pmacctd("sfprobe", "sfprobe_agentip: 127.0.0.1", "sampling_rate: "+strconv.Itoa(sampling))
}

func pmacctd(plugin string, lines ...string) startExporter {
	return func(t *testing.T, ns *nettest.Namespace, device string, port int) func() {
		t.Helper()
		all := append([]string{"daemonize: false", "pcap_interface: " + device, "plugins: " + plugin, plugin + "_receiver: " + exporterTo(port),
			plugin + "_source_ip: 127.0.0.1"}, lines...)
		if all[len(all)-1] == "sampling_rate: 1" {
			all = all[:len(all)-1]
		}
		background(t, ns, "Exporting flows to", "pmacctd", "-f", write(t, "pmacctd.conf", strings.Join(all, "\n")+"\n"))
		return nil
	}
}

// openVSwitch returns what has the switch of newSwitch export.
func openVSwitch(column, table string, settings ...string) startExporter {
	return func(t *testing.T, ns *nettest.Namespace, _ string, port int) func() {
		t.Helper()
		vsctl(ns, append([]string{"set", "bridge", "br0", column + "=@it", "--", "--id=@it", "create", table, fmt.Sprintf("targets=%q", exporterTo(port))},
			settings...)...)
		return nil
	}
}

func exporterTo(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// background starts a program whose children end with it, and waits until it says that it is ready. What it says is logged if the test fails.
func background(t *testing.T, ns *nettest.Namespace, ready string, args ...string) {
	t.Helper()
	cmd := ns.Command(args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said := newLineWaiter(ready)
	cmd.Stdout, cmd.Stderr = said, said
	nettest.Check(t, cmd.Start())
	t.Cleanup(func() {
		nettest.Check(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", args[0], said)
		}
	})
	said.wait(t)
}

// vsctl configures the switch of a namespace.
func vsctl(ns *nettest.Namespace, args ...string) {
	ns.Run(append([]string{"ovs-vsctl", "--db=unix:" + switchFolder(ns) + "/db", "--timeout=30"}, args...)...)
}

func switchFolder(ns *nettest.Namespace) string { return filepath.Join(os.TempDir(), ns.Name) }

// newSwitch starts an Open vSwitch without a module in the kernel, and makes a bridge of interfaces.
func newSwitch(t *testing.T, ns *nettest.Namespace, devices ...string) {
	t.Helper()
	dir := switchFolder(ns) // sockets have short names
	nettest.Check(t, os.Mkdir(dir, 0o700))
	t.Cleanup(func() { os.RemoveAll(dir) })
	const schema = "/usr/share/openvswitch/vswitch.ovsschema"
	ns.Run("ovsdb-tool", "create", dir+"/conf.db", schema)
	// It would keep control sockets in /run, as the system's own.
	own := []string{"env", "OVS_RUNDIR=" + dir}
	background(t, ns, "ovsdb-server (Open vSwitch)", append(own, "ovsdb-server", dir+"/conf.db", "--remote=punix:"+dir+"/db")...)
	vsctl(ns, "--no-wait", "init")
	background(t, ns, "connected", append(own, "ovs-vswitchd", "unix:"+dir+"/db")...)
	vsctl(ns, "set", "Open_vSwitch", ".", "other_config:max-idle=500", "--", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
	for _, device := range devices {
		vsctl(ns, "add-port", "br0", device)
	}
}

// newBridge joins a client and a server by a bridge with the interfaces e0 and e1, which is an Open vSwitch or the kernel's. No device merges
// segments, since exporters take a merged one for one packet.
func newBridge(t *testing.T, openVSwitch bool) network {
	t.Helper()
	n := network{nettest.NewNamespace(t), nettest.NewNamespace(t), nettest.NewNamespace(t)}
	n.client.Veth("c0", n.router, "e0")
	n.router.Veth("e1", n.server, "s0")
	for device, ns := range map[string]*nettest.Namespace{"c0": n.client, "e0": n.router, "e1": n.router, "s0": n.server} {
		// Checksums have to be those of a wire, as Open vSwitch sends them as they are.
		ns.Run("ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
	}
	withIPv6(n.client, "c0")
	withIPv6(n.server, "s0")
	addresses(n.client, "c0", "10.1.0.1/24", "fd00:1::1/64")
	addresses(n.server, "s0", "10.1.0.2/24", "fd00:1::2/64")
	neighbours(t, n.client, "c0", n.server, "s0", "10.1.0.2", "fd00:1::2")
	neighbours(t, n.server, "s0", n.client, "c0", "10.1.0.1", "fd00:1::1")
	if openVSwitch {
		newSwitch(t, n.router, "e0", "e1")
		return n
	}
	n.router.IP("link", "add", "br0", "type", "bridge")
	n.router.IP("link", "set", "e0", "master", "br0")
	n.router.IP("link", "set", "e1", "master", "br0")
	n.router.IP("link", "set", "br0", "up")
	return n
}

// Packets that are shorter than Ethernet allows.
const (
	short     = "10.9.0.1" // sends them
	ofShort   = "10.9.0.2" // receives them
	shortSize = 29
	shortest  = 46 // bytes of an Ethernet frame's payload
)

// move has all kinds of traffic pass the bridge.
func (n network) move(t *testing.T) {
	t.Helper()
	for _, server := range []string{"10.1.0.2", "fd00:1::2"} {
		n.client.Run("ping", "-q", "-c5", "-i0.01", "-s1000", server)
		n.client.Run("iperf3", "-J", "-w32K", "-n500K", "-c", server)
		n.client.Run("iperf3", "-J", "-w32K", "-n500K", "-R", "-c", server)
		n.client.Run("iperf3", "-J", "-u", "-n100K", "-b100M", "-l1200", "-c", server)
		n.client.Run("iperf3", "-J", "-u", "-n100K", "-b100M", "-l4000", "-c", server) // in fragments
	}
	n.moveMany(t)
	s := nettest.NewSender(t, n.client, "c0")
	tagged := nettest.UDP(netip.MustParseAddr(inVLAN), netip.MustParseAddr(ofVLAN), 500)
	s.Send(slices.Concat(tagged[:12], header([]vlan{{0x8100, 7}}), tagged[12:]))
	s.Send(nettest.UDP(netip.MustParseAddr(short), netip.MustParseAddr(ofShort), shortSize))
}

const manyHosts = 300

// moveMany sends a packet of each of many hosts from the client to nobody, by IPv4 and IPv6, of many sizes.
func (n network) moveMany(t *testing.T) {
	t.Helper()
	s := nettest.NewSender(t, n.client, "c0")
	before := n.server.Counters("s0").Received
	for i := range manyHosts {
		if i%10 == 0 { // Open vSwitch has a short queue
			eventually(t, func() error {
				if passed := n.server.Counters("s0").Received - before; passed < 2*int64(i) {
					return fmt.Errorf("of %d packets, %d have passed the bridge", 2*i, passed)
				}
				return nil
			})
		}
		four, six := netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})
		s.Send(nettest.UDP(four, netip.MustParseAddr(ofVLAN), shortest+4*i), nettest.UDP(six, netip.MustParseAddr("fd00::99"), 60+4*i))
	}
}

// The ends of a packet in a VLAN, of which the second receives others, too.
const inVLAN, ofVLAN = "10.2.98.1", "10.2.99.1"

// fill sends what no exporter counts.
func fill(t *testing.T, ns *nettest.Namespace, device string) {
	t.Helper()
	frame := append([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xb5"), make([]byte, 100)...) // IEEE's Local Experimental EtherType
	s := nettest.NewSender(t, ns, device)
	for range 4096 {
		s.Send(frame)
	}
}

const ofExporters = "--monitor-subnets=10.0.0.0/8,fd00::/16"

// exported is what an exporter reports of what was counted.
func (x *flowExporter) exported(counted map[string]counts) map[string]counts {
	all := maps.Clone(counted)
	for ip, c := range all {
		c.transmitBytes += c.transmitPackets * x.header
		c.receiveBytes += c.receivePackets * x.header
		if tags := 4 * counted[inVLAN].transmitPackets; x.header > 0 && ip == inVLAN {
			c.transmitBytes += tags
		} else if x.header > 0 && ip == ofVLAN {
			c.receiveBytes += tags
		}
		if x.padding && (ip == short || ip == ofShort) {
			c.transmitBytes += c.transmitPackets * (shortest - shortSize)
			c.receiveBytes += c.receivePackets * (shortest - shortSize)
		}
		all[ip] = c
	}
	maps.DeleteFunc(all, func(ip string, _ counts) bool { return x.without6 && strings.Contains(ip, ":") })
	return all
}

// turns are of tests with real exporters, which lose packets if they get no processor for long.
var turns = make(chan struct{}, 2)

// takeTurns waits until few such tests run.
func takeTurns(t *testing.T) {
	turns <- struct{}{}
	t.Cleanup(func() { <-turns })
}

// TestFlowsOfRealExporters has real exporters at a bridge report to promflow what another promflow captures there itself. All bytes and
// packets of each address must be the same, apart from what an exporter counts in its own way.
func TestFlowsOfRealExporters(t *testing.T) {
	t.Parallel()
	for _, x := range everyPacket() {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			nettest.Need(t, append([]string{"iperf3", "ping", "ethtool"}, x.programs...)...)
			takeTurns(t)
			n := newBridge(t, x.isSwitch())
			captured := serve(t, n.router, "--interface=e0", "--capture=ebpf", "--packets", ofExporters)
			collected := serve(t, n.router, "--capture="+x.capture, "--"+x.capture+"-address=127.0.0.1:9999", "--packets", ofExporters)
			flush := x.start(t, n.router, "e0", 9999)
			n.iperfServer(t)
			for range 2 { // so that sequences go on
				n.move(t)
				if flush != nil {
					fill(t, n.client, "c0")
				}
				eventually(t, func() error {
					if flush != nil {
						flush()
					}
					want := x.exported(hosts(t, captured.get("/metrics")))
					if len(want) < manyHosts {
						return fmt.Errorf("only %d addresses were captured", len(want))
					}
					return same(hosts(t, collected.get("/metrics")), want)
				})
			}
			lostNothing(t, collected, x.capture)
		})
	}
}

// lostNothing checks that nothing is missing of what the one exporter of a promflow has sent. That is known when it has not come for a while.
func lostNothing(t *testing.T, p *program, backend string) {
	t.Helper()
	const row = `interface="127.0.0.1"`
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if n := sample(t, p.get("/metrics"), "promflow_capture_dropped_packets_total{"+row+"}"); n != 0 {
			t.Fatalf("%v are missing", n)
		}
	}
	page := p.get("/metrics")
	if up := sample(t, page, fmt.Sprintf("promflow_capture_up{backend=%q,%s}", backend, row)); up != 1 {
		t.Errorf("the exporter is not up: %v", up)
	}
	for _, outcome := range []string{"malformed", "no_template"} {
		if n := sample(t, page, fmt.Sprintf("promflow_capture_records_total{%s,outcome=%q}", row, outcome)); n != 0 {
			t.Errorf("%v records are %s", n, outcome)
		}
	}
}

// TestSampledFlows has real exporters count one packet of ten. promflow multiplies by the rate that they tell. Of a million packets, a tenth has
// a standard deviation of 0.3 % of the packets, and 0.4 % of their bytes.
func TestSampledFlows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		isSwitch bool
	}{{"at an interface", false}, {"Open vSwitch", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nettest.Need(t, "ethtool")
			takeTurns(t)
			all := slices.DeleteFunc(oneInTen(), func(x flowExporter) bool { return x.isSwitch() != c.isSwitch })
			for _, x := range all {
				nettest.Need(t, x.programs...)
			}
			n := newBridge(t, c.isSwitch)
			var exporters []sampler
			for i, x := range all {
				port := 9000 + i
				collected := serve(t, n.router, fmt.Sprintf("--%s-address=127.0.0.1:%d", x.capture, port), "--capture="+x.capture, "--packets", ofExporters)
				exporters = append(exporters, sampler{x.name, collected, x.start(t, n.router, "e0", port)})
			}
			want := n.moveMuch(t)
			got, since := make([]counts, len(exporters)), time.Now()
			eventually(t, func() error {
				for i, x := range exporters {
					if now := x.reported(t); now != got[i] {
						got[i], since = now, time.Now()
					}
				}
				for i, x := range exporters {
					if !within2Percent(got[i].transmitPackets, want.transmitPackets) || !within2Percent(got[i].transmitBytes, want.transmitBytes) {
						return fmt.Errorf("%s reports %+v, want %+v", x.name, got[i], want)
					}
				}
				if time.Since(since) < 3*time.Second { // longer than any of them keeps a flow
					return errors.New("they still report")
				}
				return nil
			})
		})
	}
}

// moveMuch sends a million packets, of many hosts and sizes, from the client to nobody. They are no faster than the bridge, and
// leave exporters time.
func (n network) moveMuch(t *testing.T) (sent counts) {
	t.Helper()
	const hosts, burst, pause = 100, 100, time.Millisecond // a burst has room in any exporter's queue
	var frames [hosts][]byte
	for i := range hosts {
		frames[i] = nettest.UDP(netip.AddrFrom4([4]byte{10, 2, 0, byte(i)}), netip.MustParseAddr("192.0.2.1"), 60+14*i)
	}
	s := nettest.NewSender(t, n.client, "c0")
	nettest.Check(t, n.server.Do(func() error {
		var before uint64 // of a device's counters
		for end := time.Now().Add(4 * deadline); ; time.Sleep(pause) {
			link, err := netlink.LinkByName("s0")
			if err != nil {
				return err
			}
			passed := link.Attrs().Statistics.RxPackets
			if sent.transmitPackets == 0 {
				before = passed
			}
			if passed-before < uint64(sent.transmitPackets) {
				if time.Now().After(end) {
					return fmt.Errorf("of %d packets, %d have passed the bridge", sent.transmitPackets, passed-before)
				}
				continue
			}
			if sent.transmitPackets == 1_000_000 {
				return nil
			}
			for range burst {
				frame := frames[rand.IntN(hosts)] // some exporters take every tenth
				s.Send(frame)
				sent.transmitPackets++
				sent.transmitBytes += int64(len(frame) - nettest.HeaderSize)
			}
		}
	}))
	fill(t, n.client, "c0")
	return sent
}

// sampler is an exporter that samples, and its promflow.
type sampler struct {
	name      string
	collected *program
	flush     func()
}

// reported returns what has been reported of all addresses.
func (x *sampler) reported(t *testing.T) (sum counts) {
	t.Helper()
	if x.flush != nil {
		x.flush()
	}
	for _, c := range hosts(t, x.collected.get("/metrics")) {
		sum.transmitPackets += c.transmitPackets
		sum.transmitBytes += c.transmitBytes
	}
	return sum
}

func within2Percent(got, want int64) bool { return math.Abs(float64(got)/float64(want)-1) <= 0.02 }

// TestLossesOfRealExporters has the network lose some of softflowd's datagrams. promflow says how many, in the unit of their numbers: flows of
// NetFlow v5, datagrams of v9, records of IPFIX.
func TestLossesOfRealExporters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
	}{
		{"NetFlow v5", []string{"-v", "5"}},
		{"NetFlow v9", []string{"-v", "9"}},
		{"IPFIX", []string{"-v", "10"}},
		{"IPFIX, both directions in a record", []string{"-v", "10", "-b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nettest.Need(t, append([]string{"ethtool", "nft"}, softflowPrograms...)...)
			takeTurns(t)
			n := newBridge(t, false)
			collected := serve(t, n.router, "--capture=netflow", "--netflow-address=127.0.0.1:9999", ofExporters)
			control := startSoftflowd(t, n.router, "e0", 9999, c.args...)
			n.router.Run("nft", "add table inet lossy; add chain inet lossy input { type filter hook input priority 0; };"+
				"add counter inet lossy lost; add rule inet lossy input udp dport 9999 numgen inc mod 5 3 counter name lost drop")
			// report has softflowd report a packet of each of many hosts, and returns how many datagrams or records it has sent until now.
			sent := int64(0)
			report := func() int64 {
				n.moveMany(t)
				if sent += 2 * manyHosts; c.name == "NetFlow v5" {
					sent -= manyHosts // of IPv6
				}
				fill(t, n.client, "c0")
				var said string
				eventually(t, func() error {
					control("expire-all")
					said = control("statistics")
					if packets := number(t, said, `Packets processed: (\d+)`); packets < sent || number(t, said, `active flows: (\d+)`) > 0 {
						return fmt.Errorf("softflowd has not exported %d packets:\n%s", sent, said)
					}
					return nil
				})
				if c.name == "NetFlow v9" {
					return number(t, said, `records\) in (\d+) packets`)
				}
				return number(t, said, `\((\d+) records\)`)
			}
			report()
			lost := number(t, n.router.Run("nft", "list", "counters"), `packets (\d+)`)
			n.router.Run("nft", "flush", "ruleset")
			all := report()
			eventually(t, func() error {
				page := collected.get("/metrics")
				if c.name != "NetFlow v9" {
					lost = all
					for _, outcome := range []string{"counted", "unmonitored"} { // hosts have said something beside
						lost -= int64(sample(t, page, fmt.Sprintf(`promflow_capture_records_total{interface="127.0.0.1",outcome=%q}`, outcome)))
					}
				}
				got := int64(sample(t, page, `promflow_capture_dropped_packets_total{interface="127.0.0.1"}`))
				if got != lost || lost == 0 {
					return fmt.Errorf("%d are lost, want %d of %d", got, lost, all)
				}
				return nil
			})
		})
	}
}

// number is what a program says in an expression's parentheses.
func number(t *testing.T, said, expression string) int64 {
	t.Helper()
	m := regexp.MustCompile(expression).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("no %s in:\n%s", expression, said)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	nettest.Check(t, err)
	return n
}
