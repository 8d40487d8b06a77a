package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket"
	"github.com/google/gopacket/pcapgo"

	"promflow/capture"
	"promflow/capture/capturetest"
	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
	"promflow/capture/labels"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

// maxRun is the length of the longest frame that BPF_PROG_TEST_RUN takes: somewhat less than a page.
const maxRun = 3500

// kernel runs the programs on single frames, without an interface.
type kernel struct {
	t                 testing.TB
	in                capture.Subnets
	grouping          *labels.Grouping // may be nil
	ethernet, network *runner
	arriving          *runner
}

// newKernel loads all programs. Each frame for BPF_PROG_TEST_RUN begins with an Ethernet header. A classifier sees that header, as the
// filter of a raw packet socket does. A socket filter does not see it, like the filter of a cooked socket.
func newKernel(t testing.TB, monitored, excluded subnets.Set) *kernel {
	return newGroupedKernel(t, capture.Subnets{Monitored: monitored, Excluded: excluded}, nil)
}

func newGroupedKernel(t testing.TB, in capture.Subnets, g *labels.Grouping) *kernel {
	nettest.NeedRoot(t)
	k := &kernel{t: t, in: in, grouping: g}
	c := capture.Config{Table: k.table()}
	k.ethernet, k.network, k.arriving = newRunner(t, ebpf.SchedCLS, c), newRunner(t, ebpf.SocketFilter, c), newRunner(t, ebpf.XDP, c)
	return k
}

// runner is a program that was loaded so that BPF_PROG_TEST_RUN can run it, perhaps as one of another type.
type runner struct {
	*Program
	*reader
	filter  *ebpf.Program
	before  [frame.Outcomes]capture.OutcomeSize
	counted int // frames with monitored addresses since slots were taken back
}

// newRunner loads the program for c, and closes it when the test ends.
func newRunner(t testing.TB, kind ebpf.ProgramType, c capture.Config) *runner {
	t.Helper()
	cpus, err := processors()
	if err != nil {
		t.Fatal(err)
	}
	return newRunnerOn(t, kind, c, cpus)
}

func newRunnerOn(t testing.TB, kind ebpf.ProgramType, c capture.Config, cpus cpus) *runner {
	t.Helper()
	spec, err := loadCount()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range spec.Programs {
		if p.Type == ebpf.SocketFilter && kind != ebpf.XDP {
			p.Type = kind
		}
	}
	hooks := Sockets
	if kind == ebpf.XDP {
		hooks = XDPAndTCX
	}
	p, err := loadSpec(spec, c, 1, hooks, cpus)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	r := &runner{Program: p, reader: newReader(p, capture.NewCounter(c.Table)), filter: p.Network.Count}
	switch kind {
	case ebpf.SchedCLS:
		r.filter = p.Ethernet.Count
	case ebpf.XDP:
		r.filter = p.Arriving
	}
	return r
}

// take reads what was counted since the last take, into an empty table.
func (r *runner) take(t testing.TB, table *capture.Table) result {
	t.Helper()
	r.counter = capture.NewCounter(table)
	r.read()
	now := r.outcomes(0)
	got := result{totals: totalsOf(table), series: seriesOf(table), outcomes: now}
	for o := range now {
		got.outcomes[o].Packets -= r.before[o].Packets
		got.outcomes[o].Bytes -= r.before[o].Bytes
	}
	r.before = now
	// Evict all before there is no slot for the two addresses of a frame. Only a program that has given slots away can be full.
	if len(got.totals) > 0 {
		r.counted++
	}
	if 2*(r.counted+1) > tableSize {
		r.counted = 0
		var err error
		for _, each := range r.pools() {
			err = errors.Join(err, each.state.Set(countSlotsStateFULL))
		}
		if err := errors.Join(err, r.evict(0)); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func (k *kernel) table() *capture.Table {
	if k.grouping != nil {
		return capture.NewGroupedTable(tableSize, 0, k.grouping, tableSize).Monitor(k.in)
	}
	return capture.NewTable(tableSize, 0).Monitor(k.in)
}

// tableSize makes room for a /16 to be indexed.
const tableSize = 4096

// result is what was counted.
type result struct {
	totals   map[netip.Addr]capture.Totals
	series   map[string]capture.Totals
	outcomes [frame.Outcomes]capture.OutcomeSize
}

func (r result) equal(other result) bool {
	return r.outcomes == other.outcomes && maps.Equal(r.totals, other.totals) && maps.Equal(r.series, other.series)
}

func (r result) String() string {
	return fmt.Sprintf("%v, series %v, outcomes %v", r.totals, r.series, r.outcomes)
}

// seriesOf returns the totals of a table by address and labels.
func seriesOf(table *capture.Table) map[string]capture.Totals {
	all, s := map[string]capture.Totals{}, table.Snapshot()
	for at, series := range s.Series() {
		addr := s.Hosts[at].Addr
		all[fmt.Sprint(addr, table.Grouping().Texts(addr, series.Labels))] = series.Totals
	}
	return all
}

func totalsOf(table *capture.Table) map[netip.Addr]capture.Totals {
	totals := map[netip.Addr]capture.Totals{}
	for _, h := range table.Snapshot().Hosts {
		totals[h.Addr] = h.Totals
	}
	return totals
}

// skBuff is struct __sk_buff of linux/bpf.h, with names for the fields that tests set.
type skBuff struct {
	_       [41]uint32
	GSOSegs uint32
	_       [2]uint32
	GSOSize uint32
	_       [3]uint32
}

// run has the kernel count a frame that was merged from packets with size bytes of payload each. size is 0 if the frame is one packet.
func (k *kernel) run(f *frame.Frame, size, segments int) result {
	k.t.Helper()
	p, data := k.ethernet, f.Data
	if f.Link == frame.LinkNone {
		p = k.network
		data = append(binary.BigEndian.AppendUint16(make([]byte, 12), f.EtherType), data...)
	}
	context := skBuff{GSOSize: uint32(size), GSOSegs: uint32(segments)}
	if _, err := p.filter.Run(&ebpf.RunOptions{Data: data, Context: context, Repeat: 1}); err != nil {
		k.t.Fatalf("running the program on a frame of %d bytes: %v", len(data), err)
	}
	return p.take(k.t, k.table())
}

// want counts the same frame with package frame.
func (k *kernel) want(f *frame.Frame) result {
	table := k.table()
	counter := capture.NewCounter(table)
	var p frame.Packet
	p.Decode(f)
	counter.Lock()
	counter.Count(&p)
	counter.Unlock()
	return result{totals: totalsOf(table), series: seriesOf(table), outcomes: counter.Outcomes()}
}

// compare runs the program on a frame that was captured as a whole, and compares the result with that of package frame.
func (k *kernel) compare(name string, f frame.Frame) {
	k.t.Helper()
	f.Wire = len(f.Data)
	want := k.want(&f)
	if got := k.run(&f, f.Segments.Size, 0); !got.equal(want) {
		k.t.Errorf("%s: %+v:\ngot  %v\nwant %v", name, f, got, want)
	}
	if f.Link != frame.LinkEthernet || f.Segments != (frame.Segments{}) || f.Tagged {
		return // a driver has no such frames
	}
	if got := k.runArriving(&f); !got.equal(want) {
		k.t.Errorf("%s, in XDP: %+v:\ngot  %v\nwant %v", name, f, got, want)
	}
}

// runArriving has the XDP program count a frame.
func (k *kernel) runArriving(f *frame.Frame) result {
	k.t.Helper()
	verdict, err := k.arriving.filter.Run(&ebpf.RunOptions{Data: f.Data, Repeat: 1})
	if err != nil {
		k.t.Fatalf("running the XDP program on a frame of %d bytes: %v", len(f.Data), err)
	}
	if verdict != xdpPass {
		k.t.Errorf("the XDP program returned %d", verdict)
	}
	return k.arriving.take(k.t, k.table())
}

const xdpPass = 2 // XDP_PASS of linux/bpf.h

// runnable tells whether BPF_PROG_TEST_RUN takes a frame. The frame must begin with an Ethernet header, or run must be able to add one. It
// must not end inside an IP header right behind the Ethernet header.
func runnable(f *frame.Frame) bool {
	etherType, network := f.EtherType, f.Data
	switch {
	case f.Link == frame.LinkEthernet && len(f.Data) >= 14:
		etherType, network = binary.BigEndian.Uint16(f.Data[12:]), f.Data[14:]
	case f.Link == frame.LinkNone && f.EtherType >= 0x600: // below, it is no EtherType but a length
	default:
		return false
	}
	header := map[uint16]int{0x0800: 20, 0x86dd: 40}
	return len(network) >= max(header[etherType], 1) && len(network) <= maxRun
}

// networkLayer removes the link header of a frame if no interface has that link layer, where that is easy.
func networkLayer(f frame.Frame) frame.Frame {
	at := 0
	switch f.Link {
	case frame.LinkSLL:
		at = 16
	case frame.LinkSLL2:
		at = 20
	case frame.LinkNull, frame.LinkLoop:
		at = 4
	case frame.LinkRaw, frame.LinkIPv4, frame.LinkIPv6:
	default:
		return f
	}
	if len(f.Data) <= at {
		return f
	}
	f.Data = f.Data[at:]
	f.Link, f.EtherType = frame.LinkNone, 0x0800
	if f.Data[0]>>4 == 6 {
		f.EtherType = 0x86dd
	}
	return f
}

var everything = subnets.Of(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))

// allSubnets has everything monitored, and some peers.
var allSubnets = capture.Subnets{
	Monitored: everything, Peers: subnets.Of(netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fd00::/64")),
}

// allLabels is a grouping by all labels.
func allLabels() *labels.Grouping {
	set, err := labels.Parse(strings.Join(labels.Names(), ","))
	if err != nil {
		panic(err)
	}
	return labels.New(set, labels.HostBits{}, false)
}

func TestProgramAgreesOnCraftedFrames(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels *labels.Grouping
		step   int // between lengths that frames are cut to
	}{
		{"addresses", nil, 1},
		{"all labels", allLabels(), 3}, // each frame takes longer, and the code that both share was tested with addresses
	} {
		if testing.Short() {
			c.step *= 6
		}
		t.Run(c.name, func(t *testing.T) {
			agreesOnCraftedFrames(t, newGroupedKernel(t, allSubnets, c.labels), c.step)
		})
	}
}

func agreesOnCraftedFrames(t *testing.T, k *kernel, step int) {
	var compared int
	compare := func(name string, f frame.Frame) {
		f = networkLayer(f)
		f.Tagged, f.Tag = false, 0 // BPF_PROG_TEST_RUN cannot set a tag that the kernel has removed
		if !runnable(&f) {
			return
		}
		compared++
		k.compare(name, f)
		// Frames may end inside any header.
		for n := len(f.Data) - 1; n > 14 && n > len(f.Data)-150; n -= step {
			cut := f
			if cut.Data, cut.Segments = f.Data[:n], (frame.Segments{}); runnable(&cut) {
				k.compare(fmt.Sprintf("%s, cut to %d bytes", name, n), cut)
			}
		}
	}
	for i, data := range capturetest.Frames() {
		compare(fmt.Sprint("frame ", i), frame.Frame{Link: frame.LinkEthernet, Data: data})
	}
	for _, c := range frametest.DecodeCases(t) {
		compare(c.Name, c.In)
	}
	if compared < 150 {
		t.Errorf("only %d frames were compared", compared)
	}
}

func TestProgramAgreesOnRandomSubnets(t *testing.T) {
	// Addresses are close to each other, so that many are at the ends of ranges. Some sets have few ranges, others need a search tree.
	random := rand.New(rand.NewPCG(1, 2))
	address := func(v6 bool) netip.Addr {
		b := [16]byte{}
		if v6 {
			b = [16]byte{0xfd, 15: byte(random.IntN(4))}
			b[7], b[8] = byte(random.IntN(4)), byte(random.IntN(4))<<6
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte{10, 0, byte(random.IntN(4)), byte(random.IntN(256))})
	}
	some := func(count int) subnets.Set {
		var prefixes []netip.Prefix
		for range count {
			a := address(random.IntN(2) == 0)
			bits := 20 + random.IntN(13)
			if a.Is6() {
				bits = []int{0, 16, 62, 63, 64, 65, 66, 126, 127, 128}[random.IntN(10)]
			}
			prefixes = append(prefixes, netip.PrefixFrom(a, bits))
		}
		return subnets.Of(prefixes...)
	}
	counts, rounds := []int{0, 1, 2, 4, 5, 9, 40, 200}, 3
	if testing.Short() { // for an emulated processor, which takes seconds to load each program
		counts, rounds = []int{1, 5, 200}, 2
	}
	for _, count := range counts {
		for round := range rounds {
			monitored, g := some(count), (*labels.Grouping)(nil)
			if round >= 1 {
				set := labels.Set(random.IntN(1 << len(labels.Names())))
				bits := labels.HostBits{V4: random.IntN(round * 8), V6: random.IntN(round * 50)}
				g = labels.New(set, bits, false)
			}
			k := newGroupedKernel(t, capture.Subnets{Monitored: monitored, Excluded: some(count / 4), Peers: some(count)}, g)
			for range 200 {
				v6 := random.IntN(2) == 0
				k.compare(fmt.Sprintf("%v, grouping %+v", k.in, g),
					frame.Frame{Link: frame.LinkEthernet, Data: nettest.UDP(address(v6), address(v6), 100)})
			}
		}
	}
}

// TestProgramAgreesOnCaptureFiles compares every frame of the capture files in the folder PROMFLOW_TEST_CAPTURES.
func TestProgramAgreesOnCaptureFiles(t *testing.T) {
	dir := os.Getenv("PROMFLOW_TEST_CAPTURES")
	if dir == "" {
		t.Skip("PROMFLOW_TEST_CAPTURES names no folder with capture files")
	}
	k := newGroupedKernel(t, allSubnets, allLabels())
	compared, left := 0, 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		frames, readErr := readFrames(file)
		for i, f := range frames {
			f = networkLayer(f)
			if f.Data = f.Data[:min(len(f.Data), maxRun)]; !runnable(&f) {
				left++
				continue
			}
			compared++
			k.compare(fmt.Sprintf("%s, frame %d", path, i+1), f)
		}
		if readErr != nil {
			t.Logf("%s, after %d frames: %v", path, len(frames), readErr)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d frames compared, %d left out as no interface has them", compared, left)
	if compared == 0 {
		t.Errorf("no frame in %s", dir)
	}
}

// readFrames reads a capture file. If gopacket stops early, the error says why.
func readFrames(file []byte) (frames []frame.Frame, err error) {
	if frames := readPcap(file); frames != nil {
		return frames, nil
	}
	defer func() {
		if r := recover(); r != nil { // gopacket may divide by a number of the file that is 0
			err = fmt.Errorf("gopacket: %v", r)
		}
	}()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	for err == nil {
		var data []byte
		var info gopacket.CaptureInfo
		if data, info, err = r.ReadPacketData(); err != nil {
			break
		}
		var i pcapgo.NgInterface
		if i, err = r.Interface(info.InterfaceIndex); err == nil {
			frames = append(frames, frame.Frame{Link: frame.LinkOfType(uint32(i.LinkType)), Data: data})
		}
	}
	if err == io.EOF {
		err = nil
	}
	return frames, err
}

// readPcap reads a pcap file, and accepts lengths that gopacket refuses. It returns nil if the file is no pcap file.
func readPcap(file []byte) (frames []frame.Frame) {
	const header, record = 24, 16
	if len(file) < header {
		return nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch [4]byte(file) {
	case [4]byte{0xa1, 0xb2, 0xc3, 0xd4}, [4]byte{0xa1, 0xb2, 0x3c, 0x4d}:
		order = binary.BigEndian
	case [4]byte{0xd4, 0xc3, 0xb2, 0xa1}, [4]byte{0x4d, 0x3c, 0xb2, 0xa1}:
	default:
		return nil
	}
	link := frame.LinkOfType(order.Uint32(file[20:]) & 0xffff)
	frames = []frame.Frame{}
	for at := header; at+record <= len(file); {
		data := file[at+record:]
		captured := min(int(order.Uint32(file[at+8:])), len(data))
		frames = append(frames, frame.Frame{Link: link, Data: data[:captured]})
		at += record + captured
	}
	return frames
}

func TestProgramAgreesOnMergedFrames(t *testing.T) {
	k := newGroupedKernel(t, allSubnets, allLabels())
	compared := 0
	compare := func(name string, f frame.Frame) {
		if f = networkLayer(f); runnable(&f) {
			compared++
			k.compare(name, f)
		}
	}
	for _, c := range frametest.SegmentCases(t) {
		compare(c.Name, c.In)
	}
	for _, s := range frametest.Shapes() {
		for _, size := range []int{1, 7, 536, 1448, 3000} {
			for _, payload := range []int{0, 1, 2999, 3000} {
				packet := s.Merged(t, payload)
				f := frame.Frame{Link: frame.LinkRaw, Data: packet, Segments: frame.Segments{Size: size, UDP: s.UDP, Transport: s.Transport}}
				compare(fmt.Sprintf("%s, %d bytes by %d", s.Name, payload, size), f)
				// A length of 0, as BIG TCP has.
				at := 2
				if s.V6 {
					at = 4
				}
				packet[at], packet[at+1] = 0, 0
				compare(fmt.Sprintf("%s, %d bytes by %d, without length", s.Name, payload, size), f)
			}
		}
	}
	if compared < 300 {
		t.Errorf("only %d frames were compared", compared)
	}
}

// FuzzProgram compares the program with package frame. For merged frames, it checks the bounds of the result.
func FuzzProgram(f *testing.F) {
	for _, c := range slices.Concat(frametest.DecodeCases(f), frametest.SegmentCases(f)) {
		if in := networkLayer(c.In); runnable(&in) {
			f.Add(in.Link == frame.LinkEthernet, in.EtherType, uint16(in.Segments.Size), in.Data)
		}
	}
	plain, labelled := newKernel(f, everything, subnets.Set{}), newGroupedKernel(f, allSubnets, allLabels())
	f.Fuzz(func(t *testing.T, ethernet bool, etherType, size uint16, data []byte) {
		k, grouped := *plain, *labelled
		k.t, grouped.t = t, t
		in := frame.Frame{Link: frame.LinkNone, EtherType: etherType, Data: data}
		if ethernet {
			in.Link = frame.LinkEthernet
		}
		if !runnable(&in) {
			return
		}
		k.compare("not merged", in)
		grouped.compare("not merged, all labels", in)
		if size == 0 {
			return
		}
		// Each packet has at least a byte of the payload, and at most all headers of the frame.
		whole, merged := k.run(&in, 0, 0), k.run(&in, int(size), 3)
		if merged.outcomes[frame.Malformed].Packets == 1 {
			return
		}
		was, is := whole.outcomes[frame.Counted], merged.outcomes[frame.Counted]
		if whole.outcomes[frame.NonIP] != merged.outcomes[frame.NonIP] || is.Packets < was.Packets || is.Packets > max(was.Bytes, was.Packets) ||
			is.Bytes < was.Bytes-8 || is.Bytes > was.Bytes*max(is.Packets, 1) {
			t.Errorf("merged by %d: %v, whole: %v", size, merged, whole)
		}
	})
}
