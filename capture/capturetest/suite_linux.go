package capturetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// Run runs the suite for a backend that captures on all kinds of interfaces.
func Run(t *testing.T, b capture.Backend) {
	runAll(t, b, onEthernet)
	runAll(t, b, onOthers)
	t.Run("counts merged segments that arrive as their packets", func(t *testing.T) { countsSegments(t, b, true) })
	t.Run("moves between interfaces", func(t *testing.T) { movesBetweenInterfaces(t, b, "tun") })
}

// RunOnEthernet runs the suite for a backend that captures only on interfaces with an Ethernet header on which nothing is merged when it counts
// what arrives, and refuses others.
func RunOnEthernet(t *testing.T, b capture.Backend) {
	runAll(t, b, onEthernet)
	t.Run("moves between interfaces", func(t *testing.T) { movesBetweenInterfaces(t, b, "other") })
	t.Run("refuses other interfaces", func(t *testing.T) { refusesOthers(t, b) })
}

func runAll(t *testing.T, b capture.Backend, cases []suiteCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, b) })
	}
}

type suiteCase struct {
	name string
	run  func(*testing.T, capture.Backend)
}

var onEthernet = []suiteCase{
	{"counts every link header and outcome in both directions", countsFrames},
	{"counts frames that end early as package frame does", countsCutFrames},
	{"keeps as many addresses apart as there is room for", keepsLimit},
	{"counts merged segments that are sent as their packets", func(t *testing.T, b capture.Backend) { countsSegments(t, b, false) }},
	{"accounts for packets that it has no room for", accountsForDrops},
	{"counts the last packets before the end", countsTheLast},
	{"goes on when the interface was down", survivesDown},
	{"goes on when the interface was deleted and made anew", survivesDeletion},
	{"counts on several interfaces", countsSeveral},
	{"makes room when addresses have expired", expires},
	{"keeps totals apart by labels", keepsLabelsApart},
	{"labels VLANs whose tags the sender left to the device", labelsRemovedTags},
	{"follows subnets that change", followsSubnets},
	{"bounds the labels of addresses", boundsLabels},
	{"labels interfaces by their names", labelsInterfaces},
	{"is not up when the interface is gone", noticesDeletion},
	{"makes the interface promiscuous on request", isPromiscuous},
	{"names what it cannot open", refusesUnknown},
	{"names the capability that it lacks", refusesUnprivileged},
}

var onOthers = []suiteCase{
	{"counts nothing for a segment that the kernel cannot describe", skipsUndescribed},
	{"counts a packet on lo once", countsLoopback},
	{"counts packets of an interface without link header", countsTun},
	{"agrees on frames that are not what the interface says", countsMislabelled},
}

// rounds is how often a test does something: less often where testing.Short says so, as on an emulated processor, which takes seconds to load a
// program.
func rounds(usual, short int) int {
	if testing.Short() {
		return short
	}
	return usual
}

// deadline is how long packets may take to be counted on a busy machine.
const deadline = 10 * time.Second

var (
	monitored = subnets.Of(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/16"))
	excluded  = subnets.Of(netip.MustParsePrefix("10.66.0.0/16"))
)

// plain and everything return a configuration with a table of its own.

func plain() capture.Config {
	return capture.Config{Table: capture.NewTable(1000, 0).Monitor(capture.Subnets{Monitored: monitored, Excluded: excluded})}
}

func everything() capture.Config {
	all := subnets.Of(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	return capture.Config{Table: capture.NewTable(1000, 0).Monitor(capture.Subnets{Monitored: all})}
}

func parse(t *testing.T, list string) subnets.Set {
	t.Helper()
	set, err := subnets.Parse(list)
	nettest.Check(t, err)
	return set
}

// running is a source that is being run.
type running struct {
	t       *testing.T
	in      *nettest.Namespace
	capture capture.Capture
	source  capture.Source
	table   *capture.Table
	cancel  context.CancelFunc
	ended   chan error
	last    capture.Status // once stopped
}

// start runs a source on an interface. Without another table, there is room for 1000 addresses.
func start(t *testing.T, b capture.Backend, n *nettest.Namespace, name string, config capture.Config) *running {
	t.Helper()
	r := open(t, b, n, name, config)
	r.run()
	return r
}

// open is start for a source that does not run yet.
func open(t *testing.T, b capture.Backend, n *nettest.Namespace, name string, config capture.Config) *running {
	t.Helper()
	config.Promiscuous = true
	r := openSource(t, openCapture(t, b, n, 1, config), n, config.Table)
	r.attach(n.Interface(name))
	return r
}

// openCapture prepares to capture on interfaces of the namespace, until the end of the test.
func openCapture(t *testing.T, b capture.Backend, n *nettest.Namespace, interfaces int, config capture.Config) (c capture.Capture) {
	t.Helper()
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	nettest.Check(t, n.Do(func() (err error) { c, err = b.Open(config, interfaces); return err }))
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func openSource(t *testing.T, c capture.Capture, n *nettest.Namespace, table *capture.Table) *running {
	t.Helper()
	r := &running{t: t, in: n, capture: c, table: table, ended: make(chan error, 1)}
	nettest.Check(t, n.Do(func() (err error) { r.source, err = c.Open(); return err }))
	t.Cleanup(func() { r.source.Close() })
	return r
}

func (r *running) attach(to capture.Interface) {
	r.t.Helper()
	err := r.tryAttach(to)
	if err != nil { // it may say how to have the device leave VLAN tags in frames
		if command := regexp.MustCompile("ethtool -K " + to.Name + "( rx-vlan-[a-z-]* off)+").FindString(err.Error()); command != "" {
			r.in.Run(strings.Fields(command)...)
			err = r.tryAttach(to)
		}
	}
	if err != nil {
		r.t.Fatalf("attaching to %s: %v", to.Name, err)
	}
}

func (r *running) tryAttach(to capture.Interface) error {
	return r.in.Do(func() error { return r.source.Attach(to) })
}

func (r *running) run() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- r.source.Run(ctx) }()
	r.t.Cleanup(func() { r.stop() })
}

// stop ends the source and returns its last status.
func (r *running) stop() capture.Status {
	r.t.Helper()
	r.cancel()
	if err, first := <-r.ended; first {
		if err != nil {
			r.t.Errorf("Run ended with %v", err)
		}
		close(r.ended)
		r.last = r.status()
		if err := r.source.Close(); err != nil {
			r.t.Errorf("Close: %v", err)
		}
	}
	return r.last
}

// status brings the table up to date.
func (r *running) status() capture.Status {
	r.t.Helper()
	if err := r.capture.Read(); err != nil {
		r.t.Errorf("Read: %v", err)
	}
	return r.source.Status()
}

// eventually polls until the status is as wanted.
func (r *running) eventually(what string, wanted func(capture.Status) bool) capture.Status {
	r.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		s := r.status()
		if wanted(s) {
			return s
		}
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain for %s; status %+v", what, s)
		}
	}
}

// seen waits until n packets have been seen.
func (r *running) seen(n int64) capture.Status {
	r.t.Helper()
	return r.eventually("packets", func(s capture.Status) bool { return packets(s) >= n })
}

func packets(s capture.Status) int64 {
	var n int64
	for _, o := range s.Outcomes {
		n += o.Packets
	}
	return n
}

// expectation is what package frame makes of the same frames. It is the reference, and has tests of its own.
type expectation struct {
	table   *capture.Table
	counter *capture.Counter
}

func expect(monitored, excluded subnets.Set, frames ...frame.Frame) expectation {
	e := expectation{table: capture.NewTable(1000, 0)}
	e.counter = capture.NewCounter(e.table.Monitor(capture.Subnets{Monitored: monitored, Excluded: excluded}))
	e.counter.Lock()
	defer e.counter.Unlock()
	var p frame.Packet
	for i := range frames {
		p.Decode(&frames[i])
		e.counter.Count(&p)
	}
	return e
}

func (e expectation) packets() int64 {
	return packets(capture.Status{Outcomes: e.counter.Outcomes()})
}

// agrees stops the source once it has seen as many packets as these frames have, and wants package frame to make the same of them.
func (r *running) agrees(sent ...frame.Frame) {
	r.t.Helper()
	want := expect(monitored, excluded, sent...)
	r.seen(want.packets())
	if got, want := r.stop().Outcomes, want.counter.Outcomes(); got != want {
		r.t.Errorf("outcomes are %v, want %v", got, want)
	}
	compareTotals(r.t, totals(r.table), totals(want.table))
}

// compareTotals compares totals by address or series.
func compareTotals[K comparable](t *testing.T, got, want map[K]capture.Totals) {
	t.Helper()
	for addr, w := range want {
		if got[addr] != w {
			t.Errorf("%v has %+v, want %+v", addr, got[addr], w)
		}
	}
	for addr, g := range got {
		if _, ok := want[addr]; !ok {
			t.Errorf("%v has %+v, want nothing", addr, g)
		}
	}
}

func totals(table *capture.Table) map[netip.Addr]capture.Totals {
	m := map[netip.Addr]capture.Totals{}
	for _, h := range table.Snapshot().Hosts {
		m[h.Addr] = h.Totals
	}
	return m
}

func write(t *testing.T, tun io.Writer, packet []byte) {
	t.Helper()
	_, err := tun.Write(packet)
	nettest.Check(t, err)
}

// link returns two new namespaces, connected by a veth.
func link(t *testing.T) (here, there *nettest.Namespace) {
	here, there = nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("here", there, "there")
	return here, there
}

func countsFrames(t *testing.T, b capture.Backend) {
	here, there := link(t)
	r := start(t, b, here, "here", plain())
	var frames []frame.Frame
	for _, f := range Frames() {
		frames = append(frames, frame.Frame{Link: frame.LinkEthernet, Data: f, Wire: len(f)})
	}
	in, out := nettest.NewSender(t, there, "there"), nettest.NewSender(t, here, "here")
	for _, f := range frames {
		in.Send(f.Data)
		out.Send(f.Data)
	}
	want := expect(monitored, excluded, append(frames, frames...)...)
	for o, size := range want.counter.Outcomes() {
		if size.Packets == 0 {
			t.Errorf("no frame is %v", frame.Outcome(o))
		}
	}
	r.seen(want.packets())
	// The kernel may have removed a tag: then frames without IP header are shorter.
	got, wanted := r.stop().Outcomes, want.counter.Outcomes()
	for o := range got {
		if frame.Outcome(o) == frame.NonIP || frame.Outcome(o) == frame.Malformed {
			got[o].Bytes, wanted[o].Bytes = 0, 0
		}
	}
	if got != wanted {
		t.Errorf("outcomes are %v, want %v", got, wanted)
	}
	compareTotals(t, totals(r.table), totals(want.table))
}

// countsCutFrames sends frames that end at any byte behind the Ethernet header.
func countsCutFrames(t *testing.T, b capture.Backend) {
	here, _ := link(t)
	r := start(t, b, here, "here", plain())
	out := nettest.NewSender(t, here, "here") // on their way in, the kernel drops frames that end inside a tag
	var sent []frame.Frame
	for _, f := range Frames() {
		for n := 14; n < len(f); n++ {
			out.Send(f[:n])
			sent = append(sent, frame.Frame{Link: frame.LinkEthernet, Data: f[:n], Wire: n})
		}
	}
	r.agrees(sent...)
}

// keepsLimit sends from and to more addresses than the table has room for.
func keepsLimit(t *testing.T, b capture.Backend) {
	for name, monitored := range map[string]string{
		"small subnets": "10.0.0.0/28,10.0.1.0/28,fd00::/124", "large subnets": "10.0.0.0/8,fd00::/16", "many subnets": many,
	} {
		t.Run(name, func(t *testing.T) {
			const limit, rounds, size = 20, 3, 100
			here, there := link(t)
			r := start(t, b, here, "here", capture.Config{Table: capture.NewTable(limit, 0).Monitor(capture.Subnets{Monitored: parse(t, monitored)})})
			s := nettest.NewSender(t, there, "there")
			var packets int64
			for range rounds {
				for i := range byte(16) {
					s.Send(nettest.UDP(netip.AddrFrom4([4]byte{10, 0, 0, i}), netip.AddrFrom4([4]byte{10, 0, 1, i}), size))
					s.Send(nettest.UDP(netip.AddrFrom16([16]byte{0xfd, 15: i}), netip.MustParseAddr("2001:db8::1"), size))
					packets += 2
				}
			}
			r.seen(packets)
			status := r.stop()
			if want := (capture.OutcomeSize{Packets: packets, Bytes: packets * size}); status.Outcomes[frame.Counted] != want {
				t.Errorf("%v counted, want %v", status.Outcomes[frame.Counted], want)
			}
			var sum capture.Totals
			for addr, h := range totals(r.table) {
				sum.Add(h)
				if addr.IsValid() && (h.ReceivePackets+h.TransmitPackets)%rounds != 0 {
					t.Errorf("%v has %+v: some of what it moved is elsewhere", addr, h)
				}
			}
			if want := (capture.Totals{ReceivePackets: packets / 2, TransmitPackets: packets, ReceiveBytes: packets / 2 * size,
				TransmitBytes: packets * size}); sum != want {
				t.Errorf("all addresses have %+v, want %+v", sum, want)
			}
			if _, other := totals(r.table)[netip.Addr{}]; !other || len(totals(r.table)) != limit+1 {
				t.Errorf("%d addresses, one of them other: %v; want %d and other", len(totals(r.table)), other, limit)
			}
		})
	}
}

// many has the addresses that keepsLimit uses as subnets that are not adjacent, and further subnets.
var many = func() string {
	var list []string
	for i := range 16 {
		list = append(list, fmt.Sprintf("10.0.0.%d/32,10.0.1.%d/32,10.0.%d.0/24,fd00::%x/128,fd00:%x::/32", i, i, 2*i+2, i, 2*i+1))
	}
	return strings.Join(list, ",")
}()

// countsSegments sends the same merged segments over an interface that takes them, and over one for which the kernel must split them. The
// counts must be the same.
func countsSegments(t *testing.T, b capture.Backend, arrive bool) {
	nettest.Need(t, "ethtool")
	all := true
	count := func(t *testing.T, offload string) (map[netip.Addr]capture.Totals, capture.Status) {
		here, there := link(t)
		from, device, at, end := here, "here", there, "there"
		if arrive {
			from, device, at, end = there, "there", here, "here"
		}
		from.Run("ethtool", "-K", device, "tso", offload, "gso", offload, "tx-udp-segmentation", offload)
		r := start(t, b, here, "here", everything())
		s := nettest.NewSender(t, from, device)
		want := int64(0)
		for _, m := range mergedFrames() {
			if !s.SendMerged(m) {
				all = false
				continue
			}
			f, p := asFrame(m), frame.Packet{}
			p.Decode(&f)
			want += p.Packets
		}
		r.seen(want)
		if frames := at.Counters(end).Received; (frames < want) != (offload == "on") {
			t.Errorf("with offloads %s, %d frames were received for %d packets: the test shows nothing", offload, frames, want)
		}
		return totals(r.table), r.stop()
	}
	whole, wholeStatus := count(t, "on")
	split, splitStatus := count(t, "off")
	compareTotals(t, whole, split)
	if wholeStatus.Outcomes != splitStatus.Outcomes {
		t.Errorf("outcomes of merged frames are %v, of their packets %v", wholeStatus.Outcomes, splitStatus.Outcomes)
	}
	needMergedUDP(t, all)
}

// needMergedUDP is a test that is skipped if SendMerged could not send something, so that this is visible.
func needMergedUDP(t *testing.T, sent bool) {
	t.Run("merged UDP", func(t *testing.T) {
		if !sent {
			nettest.Lacks(t, "Linux 6.2, whose packet sockets send merged UDP")
		}
	})
}

func countsLoopback(t *testing.T, b capture.Backend) {
	n := nettest.NewNamespace(t)
	r := start(t, b, n, "lo", everything())
	const count, size = 100, 200
	var self net.PacketConn
	nettest.Check(t, n.Do(func() (err error) { self, err = net.ListenPacket("udp", "127.0.0.1:0"); return err }))
	defer self.Close()
	for range count {
		_, err := self.WriteTo(make([]byte, size), self.LocalAddr())
		nettest.Check(t, err)
	}
	r.seen(count)
	r.stop()
	const bytes = count * (20 + 8 + size)
	compareTotals(t, totals(r.table), map[netip.Addr]capture.Totals{
		netip.MustParseAddr("127.0.0.1"): {ReceiveBytes: bytes, TransmitBytes: bytes, ReceivePackets: count, TransmitPackets: count},
	})
}

// skipsUndescribed delivers merged segments of a rare kind, as a virtual machine's network card may: UDP to be fragmented. A backend may
// drop them, or count them as the fragments, but must not count anything else instead.
func skipsUndescribed(t *testing.T, b capture.Backend) {
	const filler = 150_000 // more than the buffers of any backend hold, so that they are reused
	n := nettest.NewNamespace(t)
	tap := n.Tun("tap0", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
	r := start(t, b, n, "tap0", plain())
	ordinary := append(make([]byte, 10), Frames()[0]...)
	odd := nettest.UDP(netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.0.8"), 4000)
	fragments := []byte{unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_UDP}
	for _, v := range []uint16{14 + 20 + 8, 1480, 14 + 20, 6} {
		fragments = binary.NativeEndian.AppendUint16(fragments, v)
	}
	fragments = append(fragments, odd...)

	deliver := func(f []byte, count int) {
		for range count {
			write(t, tap, f)
		}
	}
	deliver(fragments, 3) // into fresh buffers
	deliver(ordinary, filler)
	deliver(fragments, 20)
	deliver(ordinary, 1)
	r.eventually("packets and drops", func(s capture.Status) bool { return packets(s)+s.Dropped >= filler+1+23 })
	status := r.stop()
	got := totals(r.table)[netip.MustParseAddr("10.0.0.1")].TransmitPackets
	if other := packets(status) - got; got+status.Dropped > filler+1+23 || got+status.Dropped+other < filler+1+23 {
		t.Errorf("of %d frames and 23 merged ones %d were counted, %d as something else, and %d dropped", filler+1, got, other, status.Dropped)
	}
	// Each is in three fragments.
	if sent := totals(r.table)[netip.MustParseAddr("10.0.0.7")]; sent.TransmitBytes*3 != sent.TransmitPackets*(4000+2*20) {
		t.Errorf("merged frames of 4000 bytes count as %d bytes in %d packets", sent.TransmitBytes, sent.TransmitPackets)
	}
	for addr := range totals(r.table) {
		switch addr.String() {
		case "10.0.0.1", "10.0.0.2", "10.0.0.7", "10.0.0.8":
		default:
			t.Errorf("%v was counted, and nobody sent anything by that address", addr)
		}
	}
}

func countsTun(t *testing.T, b capture.Backend) {
	n := nettest.NewNamespace(t)
	tun := n.Tun("tun0", unix.IFF_TUN|unix.IFF_NO_PI)
	r := start(t, b, n, "tun0", plain())
	var frames []frame.Frame
	for _, f := range Frames() {
		// Frames with IP right behind the Ethernet header, without this header.
		if strings.HasPrefix(string(f[12:]), "\x08\x00") || strings.HasPrefix(string(f[12:]), "\x86\xdd") {
			if ip := f[14:]; len(ip) > 0 && (ip[0]>>4 == 4 || ip[0]>>4 == 6) {
				frames = append(frames, frame.Frame{Link: frame.LinkRaw, Data: ip, Wire: len(ip)})
			}
		}
	}
	out := nettest.NewSender(t, n, "tun0")
	var sent []frame.Frame
	for _, f := range frames {
		write(t, tun, f.Data)
		sent = append(sent, f)
		if f.Data[0]>>4 == 4 {
			out.Send(f.Data)
			sent = append(sent, f)
		}
	}
	r.agrees(sent...)
}

// countsMislabelled sets the type of tun and tap devices to one with an Ethernet header and one without, back and forth, and writes
// packets with and without this header. Only the kind of device matters: the kernel reads an Ethernet header of a tap device, and none of
// a tun device.
func countsMislabelled(t *testing.T, b capture.Backend) {
	const counted, nonIP, malformed = frame.Counted, frame.NonIP, frame.Malformed
	with := nettest.UDP(netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("10.1.0.200"), 100)
	bare := with[14:]
	with6 := nettest.UDP(netip.MustParseAddr("fd00::3"), netip.MustParseAddr("fd00::4"), 100)
	bare6 := with6[14:]
	like := nettest.UDP(netip.MustParseAddr("8.0.69.3"), netip.MustParseAddr("10.1.0.200"), 100)[14:] // as if behind an Ethernet header
	information := func(etherType string, packet []byte) []byte { return append([]byte("\x00\x00"+etherType), packet...) }
	type packet struct {
		name    string
		written []byte
		outcome frame.Outcome
		bytes   int64
	}
	fromTun := []packet{
		{"bare IPv4", information("\x08\x00", bare), counted, 100},
		{"bare IPv6", information("\x86\xdd", bare6), counted, 100},
		{"bare IPv4 that looks otherwise", information("\x08\x00", like), counted, 100},
		{"with an Ethernet header, as IPv4", information("\x08\x00", with), malformed, 114},
		{"with an Ethernet header, as IPv6", information("\x86\xdd", with6), malformed, 114},
		{"with an Ethernet header, as Ethernet", information("\x65\x58", with), nonIP, 114},
		{"bare IPv4, as something else", information("\x0a\x01", bare), nonIP, 100},
	}
	for _, c := range []struct {
		name    string
		flags   uint16
		arphrd  int
		packets []packet
	}{
		{"a tun device without link header", unix.IFF_TUN, unix.ARPHRD_NONE, fromTun},
		{"a tun device that says Ethernet", unix.IFF_TUN, unix.ARPHRD_ETHER, fromTun},
		{"a tun device that says loopback", unix.IFF_TUN, unix.ARPHRD_LOOPBACK, fromTun},
		{"a tap device", unix.IFF_TAP | unix.IFF_NO_PI, unix.ARPHRD_ETHER, []packet{
			{"with an Ethernet header", with, counted, 100},
			{"bare IPv4", bare, nonIP, 100},
			{"bare IPv6", bare6, nonIP, 100},
		}},
		{"a tap device that says no link header", unix.IFF_TAP | unix.IFF_NO_PI, unix.ARPHRD_NONE, []packet{
			{"with an Ethernet header", with, counted, 100},
			{"bare IPv4", bare, nonIP, 86},
			{"bare IPv6", bare6, nonIP, 86},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := nettest.NewNamespace(t)
			tun := n.Tun("t0", c.flags)
			r := start(t, b, n, "t0", everything())
			var want [frame.Outcomes]capture.OutcomeSize
			sent := int64(0)
			count := func(what string, o frame.Outcome, bytes int64) {
				sent++
				want[o].Packets++
				want[o].Bytes += bytes
				if got := r.seen(sent).Outcomes; got != want {
					t.Fatalf("after one %s, outcomes are %v, want %v", what, got, want)
				}
			}
			first := unix.ARPHRD_NONE // the other one
			if c.arphrd == first {
				first = unix.ARPHRD_ETHER
			}
			for range rounds(3, 1) {
				n.SetTunType(tun, "t0", first)
				r.attach(n.Interface("t0"))
				n.SetTunType(tun, "t0", c.arphrd)
				r.attach(n.Interface("t0"))
				for _, p := range c.packets {
					write(t, tun, p.written)
					count(p.name, p.outcome, p.bytes)
				}
				// A sent packet has no link header.
				if c.flags&unix.IFF_TUN != 0 {
					nettest.NewSender(t, n, "t0").Send(bare)
					count("on its way out", counted, 100)
				}
			}
		})
	}
	// Until package watch learns of another link layer, the source is attached as for the one before.
	t.Run("a tun device that was attached as Ethernet", func(t *testing.T) {
		n := nettest.NewNamespace(t)
		tun := n.Tun("t0", unix.IFF_TUN)
		r := start(t, b, n, "t0", everything())
		before := n.Interface("t0")
		before.Ethernet = true
		r.attach(before)
		for i, packet := range [][]byte{information("\x08\x00", bare), information("\x86\xdd", bare6)} {
			write(t, tun, packet)
			sent := int64(i + 1)
			if got := r.seen(sent).Outcomes[counted]; got != (capture.OutcomeSize{Packets: sent, Bytes: 100 * sent}) {
				t.Errorf("after %d bare packets, %+v are counted", sent, got)
			}
		}
	})
}

func accountsForDrops(t *testing.T, b capture.Backend) {
	here, there := link(t)
	r := open(t, b, here, "here", plain())
	const count = 200_000
	nettest.NewSender(t, there, "there").Send(slices.Repeat(Frames()[:1], count)...)
	r.run()
	status := r.eventually("packets and drops", func(s capture.Status) bool { return packets(s)+s.Dropped >= count })
	if seen := packets(status); seen+status.Dropped != count || seen == 0 {
		t.Errorf("%d packets seen and %d dropped, of %d", seen, status.Dropped, count)
	}
	if again := r.stop(); again.Dropped != status.Dropped {
		t.Errorf("%d dropped at the end, %d before", again.Dropped, status.Dropped)
	}
}

func countsTheLast(t *testing.T, b capture.Backend) {
	here, there := link(t)
	r := start(t, b, here, "here", plain())
	const count = 1000
	nettest.NewSender(t, there, "there").Send(slices.Repeat(Frames()[:1], count)...)
	if status := r.stop(); packets(status) != count {
		t.Errorf("%d packets counted of %d", packets(status), count)
	}
}

func survivesDown(t *testing.T, b capture.Backend) {
	here, there := link(t)
	r := start(t, b, here, "here", plain())
	s := nettest.NewSender(t, there, "there")
	s.Send(Frames()[0]) // may not have been counted when the interface goes down
	here.IP("link", "set", "here", "down")
	r.eventually("down", func(s capture.Status) bool { return !s.Up })
	here.IP("link", "set", "here", "up")
	r.eventually("up", func(s capture.Status) bool { return s.Up })
	s.Send(Frames()[0])
	r.seen(2)
	if status := r.stop(); packets(status) != 2 {
		t.Errorf("%d packets counted of 2", packets(status))
	}
}

// survivesDeletion deletes the interface and makes it anew, again and again, and attaches the source to each.
func survivesDeletion(t *testing.T, b capture.Backend) {
	const perCycle = 50
	cycles := int64(rounds(20, 5))
	here, there := link(t)
	r := start(t, b, here, "here", plain())
	for cycle := range cycles {
		nettest.NewSender(t, there, "there").Send(slices.Repeat(Frames()[:1], perCycle)...)
		r.seen((cycle + 1) * perCycle)
		here.IP("link", "del", "here")
		r.eventually("down", func(s capture.Status) bool { return !s.Up })
		here.Veth("here", there, "there")
		r.attach(here.Interface("here"))
		r.eventually("up", func(s capture.Status) bool { return s.Up })
	}
	if status := r.stop(); packets(status) != cycles*perCycle || status.Dropped != 0 {
		t.Errorf("%d packets counted of %d, %d dropped", packets(status), cycles*perCycle, status.Dropped)
	}
}

// movesBetweenInterfaces attaches one source in turn to a veth device and to another interface, tun or a veth device. Both have traffic.
func movesBetweenInterfaces(t *testing.T, b capture.Backend, second string) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	here.Veth("veth", there, "there")
	f := Frames()[0]
	sendSecond := func() {}
	if second == "tun" {
		tun := here.Tun("tun", unix.IFF_TUN|unix.IFF_NO_PI)
		sendSecond = func() { write(t, tun, f[14:]) }
	} else {
		here.Veth(second, there, second)
		wire := nettest.NewSender(t, there, second)
		sendSecond = func() { wire.Send(f) }
	}
	r := start(t, b, here, "veth", plain())
	wire := nettest.NewSender(t, there, "there")
	send := func() {
		wire.Send(f)
		sendSecond()
	}
	var sent []frame.Frame
	for round := range rounds(20, 4) {
		link, data := frame.LinkEthernet, f
		if round%2 == 1 && second == "tun" {
			link, data = frame.LinkRaw, f[14:]
		}
		r.attach(here.Interface([]string{"veth", second}[round%2]))
		for range 10 {
			send()
			sent = append(sent, frame.Frame{Link: link, Data: data, Wire: len(data)})
		}
		r.seen(int64(len(sent)))
		nettest.Check(t, r.source.Detach())
		if r.status().Up {
			t.Error("up without an interface")
		}
		send() // to nobody
	}
	r.agrees(sent...)
}

// countsSeveral has several sources of one capture. Their packets add up in the table, but not in their outcomes.
func countsSeveral(t *testing.T, b capture.Backend) {
	here, there := nettest.NewNamespace(t), nettest.NewNamespace(t)
	table := capture.NewTable(1000, 0)
	c := openCapture(t, b, here, 3, capture.Config{Table: table.Monitor(capture.Subnets{Monitored: monitored, Excluded: excluded}), Promiscuous: true})
	var all []*running
	for i, name := range []string{"a0", "a1", "a2"} {
		here.Veth(name, there, name)
		r := openSource(t, c, here, table)
		r.attach(here.Interface(name))
		r.run()
		nettest.NewSender(t, there, name).Send(slices.Repeat(Frames()[:1], i+1)...)
		all = append(all, r)
	}
	for i, r := range all {
		r.seen(int64(i + 1))
		if i == 1 { // a source that takes the place of a closed one begins at 0
			r.stop()
			r = openSource(t, c, here, table)
			r.attach(here.Interface("a1"))
			r.run()
			nettest.NewSender(t, there, "a1").Send(Frames()[0])
			r.seen(1)
			if n := packets(r.stop()); n != 1 {
				t.Errorf("a source that was opened later has counted %d packets, want 1", n)
			}
			continue
		}
		if n := packets(r.stop()); n != int64(i+1) {
			t.Errorf("source %d has counted %d packets, want %d", i, n, i+1)
		}
	}
	if got := totals(table)[netip.MustParseAddr("10.0.0.1")].TransmitPackets; got != 7 {
		t.Errorf("the address has %d packets, want 7", got)
	}
}

// expires sends from more addresses than the table has room for, one after the other, while one address stays active.
func expires(t *testing.T, b capture.Backend) {
	for name, monitored := range map[string]string{"small subnets": "10.0.0.0/28,fd00::/124", "large subnets": "10.0.0.0/8,fd00::/16"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly sleeps
			const limit, size, expireAfter = 20, 100, 500 * time.Millisecond
			here, there := link(t)
			table := capture.NewTable(limit, expireAfter)
			r := start(t, b, here, "here", capture.Config{Table: table.Monitor(capture.Subnets{Monitored: parse(t, monitored)})})
			s := nettest.NewSender(t, there, "there")
			var sent int64
			send := func(from netip.Addr) {
				s.Send(nettest.UDP(from, netip.MustParseAddr(map[bool]string{true: "192.0.2.1", false: "2001:db8::1"}[from.Is4()]), size))
				sent++
			}
			here4, early := netip.MustParseAddr("10.0.0.15"), netip.MustParseAddr("10.0.0.14")
			send(early)
			var stayed int64
			// The others are 14 of each version in turn, more than there is room for. Each is idle for long before it returns.
			for round := range 4 {
				for i := range byte(14) {
					from := netip.AddrFrom4([4]byte{10, 0, 0, i})
					if round%2 == 1 {
						from = netip.AddrFrom16([16]byte{0xfd, 15: i})
					}
					send(from)
				}
				for end := time.Now().Add(2 * expireAfter); time.Now().Before(end); time.Sleep(expireAfter / 10) {
					send(here4)
					stayed++
					r.seen(sent)
				}
			}
			r.seen(sent)
			snapshot := table.Snapshot()
			var sum int64
			live := 0
			for i := range snapshot.Hosts {
				h := &snapshot.Hosts[i]
				sum += h.TransmitPackets
				if h.Addr.IsValid() && !snapshot.Expired(h) {
					live++
				}
				if h.Addr == here4 && h.TransmitPackets != stayed {
					t.Errorf("the active address has %d packets, want %d", h.TransmitPackets, stayed)
				}
			}
			if sum != sent {
				t.Errorf("all have %d packets, %d were sent", sum, sent)
			}
			if live != 1 || snapshot.Evicted == 0 {
				t.Errorf("%d addresses have not expired, want 1; %d were evicted", live, snapshot.Evicted)
			}
			// There is room for another address now.
			before := totals(table)[netip.Addr{}]
			last := netip.MustParseAddr("10.0.0.13")
			had := totals(table)[last].TransmitPackets
			send(last)
			r.seen(sent)
			if got := totals(table)[last].TransmitPackets; got != had+1 {
				t.Errorf("an address that comes when others have expired has %d packets, had %d", got, had)
			}
			if after := totals(table)[netip.Addr{}]; after.TransmitPackets < before.TransmitPackets {
				t.Errorf("others went from %v to %v", before, after)
			}
			r.stop()
		})
	}
}

func noticesDeletion(t *testing.T, b capture.Backend) {
	here, _ := link(t)
	r := start(t, b, here, "here", plain())
	r.eventually("up", func(s capture.Status) bool { return s.Up })
	here.IP("link", "del", "here")
	r.eventually("down", func(s capture.Status) bool { return !s.Up })
	r.stop()
}

func isPromiscuous(t *testing.T, b capture.Backend) {
	for _, on := range []bool{true, false} {
		here, _ := link(t)
		c := openCapture(t, b, here, 1, capture.Config{Table: capture.NewTable(1, 0).Monitor(capture.Subnets{Monitored: monitored}), Promiscuous: on})
		r := openSource(t, c, here, nil)
		source := r.source
		is := func() bool { return strings.Contains(here.IP("-d", "link", "show", "here"), "promiscuity 1") }
		for range 2 {
			nettest.Check(t, r.tryAttach(here.Interface("here")))
			if is() != on {
				t.Errorf("promiscuous is %v, want %v", !on, on)
			}
		}
		nettest.Check(t, source.Detach())
		if is() {
			t.Error("promiscuous after the end")
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
}

func refusesUnknown(t *testing.T, b capture.Backend) {
	n := nettest.NewNamespace(t)
	c := openCapture(t, b, n, 1, capture.Config{Table: capture.NewTable(1, 0).Monitor(capture.Subnets{Monitored: monitored}), Promiscuous: true})
	r := openSource(t, c, n, nil)
	err := r.tryAttach(capture.Interface{Name: "nosuch0", Index: 12345, Ethernet: true})
	if !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("the error is %v", err)
	}
}

func refusesUnprivileged(t *testing.T, b capture.Backend) {
	nettest.NeedRoot(t)
	done := make(chan error)
	go func() {
		// Capabilities are the thread's own (capabilities(7)): it ends with this goroutine.
		runtime.LockOSThread()
		none := [2]unix.CapUserData{}
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
		if err == nil {
			_, err = b.Open(capture.Config{Table: capture.NewTable(1, 0).Monitor(capture.Subnets{Monitored: monitored}), Log: slog.New(slog.DiscardHandler)}, 1)
		}
		done <- err
	}()
	err := <-done
	var missing *capture.MissingCapabilityError
	if !errors.As(err, &missing) || !errors.Is(err, os.ErrPermission) || !strings.HasPrefix(missing.Capability, "cap_") {
		t.Errorf("the error is %v", err)
	}
}

func refusesOthers(t *testing.T, b capture.Backend) {
	n := nettest.NewNamespace(t)
	n.Tun("tun0", unix.IFF_TUN|unix.IFF_NO_PI)
	n.Tun("tap0", unix.IFF_TAP|unix.IFF_NO_PI)
	c := openCapture(t, b, n, 1, plain())
	r := openSource(t, c, n, nil)
	for _, name := range []string{"lo", "tun0", "tap0"} {
		err := r.tryAttach(n.Interface(name))
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "--capture=ebpf") {
			t.Errorf("%s: the error is %v", name, err)
		}
		if r.source.Status().Up {
			t.Errorf("up on %s", name)
		}
	}
}
