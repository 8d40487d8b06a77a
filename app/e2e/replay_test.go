package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"promflow/telemetry/golden"
)

// pcap is a capture file of Ethernet frames without addresses: what packets have is an EtherType and the network layer's
// first bytes, which say how long it was on the wire.
func pcap(packets ...[]byte) []byte {
	frames := make([][]byte, len(packets))
	for i, p := range packets {
		frames[i] = append(make([]byte, 12), p...)
	}
	return pcapOf(1, 14, frames...) // LINKTYPE_ETHERNET
}

// pcapOf is a capture file of a link type (https://www.tcpdump.org/linktypes.html), of frames whose network layer begins behind a header of
// so many bytes.
func pcapOf(linkType uint32, header int, frames ...[]byte) []byte {
	u32 := binary.LittleEndian.AppendUint32
	file := u32(u32(u32(u32(u32(u32(nil, 0xa1b2c3d4), 2|4<<16), 0), 0), 65535), linkType)
	for _, frame := range frames {
		wire := max(len(frame), header+int(binary.BigEndian.Uint16(frame[header+2:])))
		file = append(u32(u32(u32(u32(file, 0), 0), uint32(len(frame))), uint32(wire)), frame...)
	}
	return file
}

// ipv4 is an EtherType and the header of an IPv4 packet of size bytes.
func ipv4(src, dst string, size int) []byte {
	b := []byte{0x08, 0x00, 0x45, 0, byte(size >> 8), byte(size), 0, 0, 0, 0, 64, 17, 0, 0}
	return append(append(b, netip.MustParseAddr(src).AsSlice()...), netip.MustParseAddr(dst).AsSlice()...)
}

// traffic has packets of every outcome, between hosts in and outside of the default subnet.
func traffic() []byte {
	return pcap(
		ipv4("192.168.0.2", "192.168.0.10", 100),
		ipv4("192.168.0.10", "192.168.0.2", 1500),
		ipv4("192.168.0.2", "203.0.113.1", 40),
		ipv4("203.0.113.1", "192.168.0.3", 60),
		ipv4("203.0.113.1", "203.0.113.2", 70),        // unmonitored
		ipv4("192.168.0.2", "255.255.255.250", 80),    // excluded
		[]byte{0x08, 0x06, 0, 1, 0, 0, 6, 4, 0, 1},    // ARP
		[]byte{0x08, 0x00, 0x35, 0, 0, 0, 0, 0, 0, 0}, // IPv4 of version 3
	)
}

// cooked is a packet as tcpdump -i any has it: behind a header of LINKTYPE_LINUX_SLL2, which has the index of the interface, or of
// LINKTYPE_LINUX_SLL if that is 0.
func cooked(index byte, packet []byte) []byte {
	if index > 0 {
		return slices.Concat(packet[:2], []byte{0, 0, 0, 0, 0, index, 0, 1, 4, 6}, make([]byte, 8), packet[2:])
	}
	return slices.Concat([]byte{0, 4, 0, 1, 0, 6}, make([]byte, 8), packet)
}

// pcapng is a capture file of Ethernet frames without addresses, with the interfaces that they passed by name.
func pcapng(packets ...[]byte) []byte {
	u32 := binary.LittleEndian.AppendUint32
	var file []byte
	block := func(kind uint32, body []byte) {
		body = append(body, make([]byte, -len(body)&3)...)
		file = u32(append(u32(u32(file, kind), uint32(12+len(body))), body...), uint32(12+len(body)))
	}
	block(0x0a0d0d0a, slices.Concat(u32(u32(nil, 0x1a2b3c4d), 1), bytes.Repeat([]byte{0xff}, 8))) // of unknown length
	for _, name := range []string{"lan0", "wan0"} {
		block(1, slices.Concat(u32(u32(nil, 1), 0), []byte{2, 0, 4, 0}, []byte(name), make([]byte, 4))) // if_name, end of options
	}
	for i, p := range packets {
		captured, wire := uint32(12+len(p)), 14+uint32(binary.BigEndian.Uint16(p[4:]))
		block(6, slices.Concat(u32(u32(u32(u32(u32(nil, uint32(i%2)), 0), 0), captured), wire), make([]byte, 12), p))
	}
	return file
}

// long is a capture file that is longer than any pipe or buffer on its way, of n packets from one host.
func long() (file []byte, n int64) {
	n = 20_000
	packet := ipv4("192.168.0.2", "203.0.113.1", 100)
	packets := make([][]byte, n)
	for i := range packets {
		packets[i] = packet
	}
	return pcap(packets...), n
}

// replayed runs promflow replay in the folder of the files, which must succeed, and gives the page.
func replayed(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := promflow(t, append([]string{"replay"}, args...)...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, strings.NewReader(stdin), &out, &errs
	if err := runWithin(cmd); err != nil || errs.Len() > 0 {
		t.Fatalf("%v: %s", err, &errs)
	}
	return out.String()
}

// files puts traffic, plain and compressed, into a folder.
func files(t *testing.T) (dir string, plain, gz, zst string) {
	t.Helper()
	dir = t.TempDir()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(traffic())
	w.Close()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, gz, zst = string(traffic()), z.String(), string(encoder.EncodeAll(traffic(), nil))
	for name, content := range map[string]string{"a.pcap": plain, "a.pcap.gz": gz, "a.pcap.zst": zst, "cut.pcap": plain[:len(plain)-1]} {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, plain, gz, zst
}

func TestReplayPrintsThePage(t *testing.T) {
	dir, plain, gz, zst := files(t)
	for _, c := range []struct{ name, stdin string }{
		{"a.pcap", ""}, {"a.pcap.gz", ""}, {"a.pcap.zst", ""}, {"./a.pcap", ""}, {"-", plain}, {"-", gz}, {"-", zst},
	} {
		page := replayed(t, dir, c.stdin, "--packets", c.name)
		name := c.name
		if name == "-" {
			name = "standard input"
		}
		golden.Compare(t, "replay.golden", strings.ReplaceAll(page, fmt.Sprintf("interface=%q", name), `interface="FILE"`))
	}
}

func TestReplayCounts(t *testing.T) {
	dir, plain, _, _ := files(t)
	once := map[string]counts{
		"192.168.0.2": {receiveBytes: 1500, transmitBytes: 140}, "192.168.0.3": {receiveBytes: 60},
		"192.168.0.10": {receiveBytes: 100, transmitBytes: 1500},
	}
	for _, c := range []struct {
		env, args string
		want      map[string]counts
	}{
		{"", "a.pcap", once},
		{"", "a.pcap a.pcap.gz -", times(once, 3)},
		{"", "a.pcap a.pcap", times(once, 2)},
		{"PROMFLOW_MONITOR_SUBNETS=203.0.113.2/31", "a.pcap", map[string]counts{"203.0.113.2": {receiveBytes: 70}}},
		{"PROMFLOW_MONITOR_SUBNETS=10.0.0.0/8", "-monitor-subnets 192.168.0.3 a.pcap", map[string]counts{"192.168.0.3": {receiveBytes: 60}}},
		{"PROMFLOW_EXCLUDE_SUBNETS=192.168.0.10", "a.pcap", map[string]counts{"192.168.0.2": {transmitBytes: 120}, "192.168.0.3": {receiveBytes: 60}}},
		{"PROMFLOW_PACKETS=true", "--exclude-subnets=192.168.0.2,255.255.255.250 a.pcap", map[string]counts{"192.168.0.3": {receiveBytes: 60, receivePackets: 1}}},
		{"", "--exclude-subnets= --monitor-subnets=255.255.255.250 a.pcap", map[string]counts{"255.255.255.250": {receiveBytes: 80}}},
		{"PROMFLOW_MAX_IPS=1", "a.pcap", map[string]counts{
			"192.168.0.2": once["192.168.0.2"], "other": {receiveBytes: 160, transmitBytes: 1500}}},
		{"PROMFLOW_MAX_IPS=1", "--max-ips=3 a.pcap", once},
		{"", "--packets=false --max-ips=2 a.pcap a.pcap", map[string]counts{
			"192.168.0.2": times(once, 2)["192.168.0.2"], "192.168.0.10": times(once, 2)["192.168.0.10"], "other": {receiveBytes: 120}}},
		{"PROMFLOW_INTERFACE=nosuch0", "--monitor-subnets=0.0.0.0/0,::/0 --exclude-subnets=0.0.0.0/0 a.pcap", nil},
	} {
		t.Run(c.env+" "+c.args, func(t *testing.T) {
			if name, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv(name, value)
			}
			if err := same(hosts(t, replayed(t, dir, plain, strings.Fields(c.args)...)), c.want); err != nil {
				t.Error(err)
			}
		})
	}
}

func times(all map[string]counts, n int64) map[string]counts {
	m := map[string]counts{}
	for ip, c := range all {
		m[ip] = counts{n * c.receiveBytes, n * c.transmitBytes, n * c.receivePackets, n * c.transmitPackets}
	}
	return m
}

// TestReplayOfSeveralInterfaces has captures of a router, which a packet passes on its way in and out.
func TestReplayOfSeveralInterfaces(t *testing.T) {
	dir := t.TempDir()
	up, down := ipv4("192.168.0.2", "203.0.113.1", 100), ipv4("203.0.113.1", "192.168.0.2", 1000)
	ppp := cooked(0, up)
	ppp[2], ppp[3] = 2, 0 // ARPHRD_PPP, which has no other link type: tcpdump -i ppp0
	for name, content := range map[string][]byte{
		"sll2":    pcapOf(276, 20, cooked(2, up), cooked(7, up), cooked(7, down), cooked(2, down), cooked(2, down)),
		"sll2.lo": pcapOf(276, 20, cooked(1, up)),
		"sll":     pcapOf(113, 16, cooked(0, up), cooked(0, up), cooked(0, down), cooked(0, down)),
		"ppp":     pcapOf(113, 16, ppp),
		"ng":      pcapng(up, up, down, up),
		"plain":   pcap(up, up),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const warning = "a forwarded packet counts once for each interface that it passed in this capture"
	for _, c := range []struct {
		args       string
		sent, got  int64    // packets; none where nothing is printed
		says, lack []string // what the one line on standard error says, if there is one
		fails      bool
	}{
		{"sll2", 2, 3, []string{warning, "--replay-interface=NAME|INDEX counts one", "file=sll2", `interfaces="2, 7"`}, nil, false},
		{"--replay-interface=2 sll2", 1, 2, nil, nil, false},
		{"--replay-interface=7 sll2", 1, 1, nil, nil, false},
		{"--replay-interface=lan0 sll2", 0, 0, []string{`sll2: has no packets of interface "lan0"; it has 2, 7`}, nil, true},
		{"sll2.lo", 1, 0, nil, nil, false},
		{"ng", 3, 1, []string{warning, "file=ng", `interfaces="lan0, wan0"`}, nil, false},
		{"--replay-interface=lan0 ng", 1, 1, nil, nil, false},
		{"--replay-interface=1 ng", 2, 0, nil, nil, false},
		{"--replay-interface=eth0 ng", 0, 0, []string{`ng: has no packets of interface "eth0"; it has lan0, wan0`}, nil, true},
		{"sll", 2, 2, []string{warning, "-y LINUX_SLL2", "file=sll"}, []string{"--replay-interface"}, false},
		{"--replay-interface=lan0 sll", 0, 0, []string{`sll: has no packets of interface "lan0": it does not say which`, "-y LINUX_SLL2"}, nil, true},
		{"ppp", 1, 0, nil, nil, false},
		{"plain", 2, 0, nil, nil, false},
		{"--replay-interface=lan0 plain", 0, 0, []string{`plain: has no packets of interface "lan0": it does not say which`}, []string{"SLL2"}, true},
		{"--replay-interface=lan0 ng plain", 1, 1, []string{"promflow: plain: has no packets"}, nil, true},
	} {
		t.Run(c.args, func(t *testing.T) {
			var out, errs bytes.Buffer
			cmd := promflow(t, append([]string{"replay", "--packets"}, strings.Fields(c.args)...)...)
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
			if status := exitStatus(runWithin(cmd)); (status == 1) != c.fails {
				t.Errorf("ended with status %d", status)
			}
			if lines := strings.Count(errs.String(), "\n"); lines != min(1, len(c.says)) {
				t.Errorf("said %d lines: %s", lines, &errs)
			}
			for _, text := range c.says {
				if !strings.Contains(errs.String(), text) {
					t.Errorf("said %q, which lacks %q", &errs, text)
				}
			}
			for _, text := range c.lack {
				if strings.Contains(errs.String(), text) {
					t.Errorf("said %q, which has %q", &errs, text)
				}
			}
			if got := hosts(t, out.String())["192.168.0.2"]; got != (counts{1000 * c.got, 100 * c.sent, c.got, c.sent}) {
				t.Errorf("counted %+v, want %d packets sent and %d received", got, c.sent, c.got)
			}
		})
	}
}

// What was counted up to the damage is printed, and so is what other files have.
func TestReplayOfDamagedFiles(t *testing.T) {
	dir, _, _, _ := files(t)
	for _, args := range []string{"cut.pcap", "cut.pcap a.pcap", "a.pcap cut.pcap"} {
		t.Run(args, func(t *testing.T) {
			names := strings.Fields(args)
			cmd := promflow(t, append([]string{"replay"}, names...)...)
			cmd.Dir = dir
			line, page := fails(t, cmd)
			if !strings.Contains(line, "cut.pcap: ends inside packet 8") {
				t.Error(line)
			}
			for _, file := range names {
				if got := sample(t, page, fmt.Sprintf(`promflow_capture_packets_total{interface=%q,outcome="counted"}`, file)); got != 4 {
					t.Errorf("%v packets of %s counted", got, file)
				}
			}
			want := int64(140 * len(names))
			if got := hosts(t, page)["192.168.0.2"].transmitBytes; got != want {
				t.Errorf("%d bytes counted, want %d", got, want)
			}
		})
	}
}

func TestReplayOfInterruptedPipe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows sends no interrupts")
	}
	file, n := long()
	for name, c := range map[string]struct {
		after func(io.WriteCloser) // what the writer does after the interrupt
		fails bool
		least int64
	}{
		"whose writer ends":               {func(w io.WriteCloser) { w.Write(file[24:]); w.Close() }, false, 2 * n},
		"whose writer does nothing":       {func(io.WriteCloser) {}, true, n},
		"whose writer goes on for ever":   {func(w io.WriteCloser) { writeForEver(w, file[24:]) }, true, n},
		"whose writer ends in the middle": {func(w io.WriteCloser) { w.Write(file[24:50]); w.Close() }, true, n},
	} {
		for _, by := range []string{"-", "/dev/fd/3"} { // as in promflow replay <(tcpdump -w -)
			t.Run(name+" "+by, func(t *testing.T) {
				t.Parallel()
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				var out, errs bytes.Buffer
				cmd := promflow(t, "replay", "--packets", by)
				cmd.Stdout, cmd.Stderr = &out, &errs
				if by == "-" {
					cmd.Stdin = r
				} else {
					cmd.ExtraFiles = []*os.File{r}
				}
				err = cmd.Start()
				r.Close()
				if err != nil {
					t.Fatal(err)
				}
				defer time.AfterFunc(deadline, func() { cmd.Process.Kill() }).Stop()
				if _, err := w.Write(file); err != nil { // returns when the program has read most of it
					t.Fatal(err)
				}
				interrupted := time.Now()
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
				go c.after(w)
				err = cmd.Wait()
				if took := time.Since(interrupted); took > 7*time.Second {
					t.Errorf("took %v", took)
				}
				if status := exitStatus(err); (status == 1) != c.fails || strings.Count(errs.String(), "\n") != status {
					t.Errorf("ended with %v and said %q", err, &errs)
				}
				got := hosts(t, out.String())["192.168.0.2"]
				if got.transmitPackets < c.least || got.transmitBytes != 100*got.transmitPackets ||
					!strings.Contains(name, "for ever") && got.transmitPackets > c.least {
					t.Errorf("counted %+v, want %d packets", got, c.least)
				}
			})
		}
	}
}

func writeForEver(w io.Writer, b []byte) {
	for {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return -1
}
