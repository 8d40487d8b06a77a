package replay

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
	"promflow/capture/nettest"
	"promflow/capture/subnets"
)

var update = flag.Bool("update", false, "write testdata/links anew: captures, and what the tshark that is installed says of them")

// tshark prints the IP headers of each packet: addresses and lengths. By default, it puts fragments of 802.11 together.
var tshark = []string{
	"tshark", "-n", "-o", "wlan.defragment:FALSE", "-T", "fields", "-E", "separator=;",
	"-e", "ip.src", "-e", "ip.dst", "-e", "ip.len", "-e", "ipv6.src", "-e", "ipv6.dst", "-e", "ipv6.plen",
}

// captureOf is a small capture of all cases of a link layer.
type captureOf struct {
	name     string
	linkType uint32
	order    endian
	cases    []frametest.Case
}

func capturesOfLinks(t testing.TB) []*captureOf {
	all := []*captureOf{
		{"chdlc", 104, little, nil}, {"frame-relay", 107, little, nil}, {"ipoib", 242, little, nil}, {"infiniband", 247, little, nil},
		{"nflog", 239, little, nil}, {"nflog-big-endian", 239, big, nil}, {"ppi", 192, little, nil}, {"radiotap", 127, little, nil},
		{"prism", 119, little, nil}, {"80211", 105, little, nil}, {"ethernet", 1, little, nil},
	}
	for _, c := range slices.Concat(frametest.InsideCases(t), frametest.EthernetCases(t)) {
		i := slices.IndexFunc(all, func(of *captureOf) bool {
			return frame.LinkOfType(of.linkType) == c.In.Link && (of.order == big) == strings.Contains(c.Name, "BigEndian")
		})
		if i < 0 {
			t.Fatalf("no capture has the case %s", c.Name)
		}
		all[i].cases = append(all[i].cases, c)
	}
	return all
}

// file is the capture as linkType, with something before each frame.
func (of *captureOf) file(linkType uint32, before func(frame []byte) []byte) []byte {
	file := pcapHeader(of.order, pcapMagic, 2, 4, linkType)
	of.order.PutUint32(file[16:], 65535) // the snap length
	for _, c := range of.cases {
		data := join(before(c.In.Data), c.In.Data)
		more := max(c.In.Wire-len(c.In.Data), 0)
		file = append(file, pcapPacket(of.order, pcapPacketLen, len(data), len(data)+more, data)...)
	}
	return file
}

func (of *captureOf) plain() []byte {
	return of.file(of.linkType, func([]byte) []byte { return nil })
}

// forTshark is the capture as tshark reads it: InfiniBand only behind headers of ERF (https://wiki.wireshark.org/ERF).
func (of *captureOf) forTshark() []byte {
	if of.name != "infiniband" {
		return of.plain()
	}
	return of.file(197, func(data []byte) []byte {
		erf := make([]byte, 16)
		erf[8], erf[9] = 21, 4 // InfiniBand, records of varying length
		binary.BigEndian.PutUint16(erf[10:], uint16(16+len(data)))
		binary.BigEndian.PutUint16(erf[14:], uint16(len(data)))
		return erf
	})
}

// packets gives what the frame counts as, a line for each packet.
func packets(in frame.Frame) (lines []string) {
	for more := true; more; more = in.Next() {
		var p frame.Packet
		if p.Decode(&in); p.Outcome == frame.Counted {
			lines = append(lines, fmt.Sprint(p.Source, " ", p.Destination, " ", p.Bytes))
		}
	}
	slices.Sort(lines)
	return lines
}

// packetsOf gives the same of a line of tshark. Of headers that are cut short it has no destination.
func packetsOf(t *testing.T, line string) (lines []string) {
	fields := strings.Split(line, ";")
	if len(fields) != 6 {
		t.Fatalf("tshark says %q", line)
	}
	for version, base := range []int{0, 40} {
		split := func(i int) []string {
			return strings.FieldsFunc(fields[3*version+i], func(r rune) bool { return r == ',' })
		}
		sources, destinations, lengths := split(0), split(1), split(2)
		for i, destination := range destinations {
			var length int
			if _, err := fmt.Sscan(lengths[i], &length); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprint(sources[i], " ", destination, " ", base+length))
		}
	}
	slices.Sort(lines)
	return lines
}

// otherwise has the cases of which tshark says otherwise, and why.
var otherwise = map[string]string{
	"frame relay/address of one byte":                "Q.922 has none",
	"frame relay/address of five bytes":              "Q.922 has none",
	"InfiniBand/first packet of a message":           lies,
	"InfiniBand/last packet of a message":            "it looks into each of them",
	"InfiniBand/length less than the headers":        "it does not use the length",
	"InfiniBand/padding does not count":              "it counts padding",
	"802.3/total length over the length":             lies,
	"802.3/IPv6, length over the length":             lies,
	"802.3/length of the fixed header":               lies,
	"802.3/length in a tag":                          lies,
	"802.3/other version of IPv4":                    "it guesses the version",
	"802.1ah/802.3":                                  "it takes any number for an EtherType there",
	"several headers/one too many":                   "it follows any number",
	"NFLOG/IPv4 called IPv6":                         "it guesses the version",
	"NFLOG/other version":                            "it reads any version",
	"NFLOG/bridge, length over the packet":           lies,
	"NFLOG/cut":                                      "it reads no packet that was cut",
	"PPI/802.11, FCS, behind another field, aligned": "it takes padding for fields that follow the header",
	"PPI/802.11, common field cut short":             "it reads the field beyond the header",
	"PPI/PPI":                                        "nobody writes that",
	"PPI/other version":                              "it reads any version",
	"PPI/length less than the header":                "it takes the header as it should be",
	"radiotap/other version":                         "it reads any version",
	"radiotap/length without the flags":              "it does without flags",
	"radiotap/length without the time":               "it does without flags",
	"radiotap/bitmaps without an end":                "it does without flags",
	"radiotap/cut":                                   "it does not know that length 0 is all of the frame",
	"802.11/aggregated, empty":                       "it ends there",
	"802.11/first fragment, of a longer packet":      lies,
}

const lies = "the header has more than the frame held"

// The captures and what tshark says are in testdata/links: go test ./capture/replay -run TestLinkLayers -update
func TestLinkLayersAreReadAsTsharkReadsThem(t *testing.T) {
	for _, of := range capturesOfLinks(t) {
		t.Run(of.name, func(t *testing.T) {
			pcap, text := filepath.Join("testdata", "links", of.name+".pcap"), filepath.Join("testdata", "links", of.name+".tshark")
			if *update {
				of.write(t, pcap, text)
			}
			if file, err := os.ReadFile(pcap); err != nil || !bytes.Equal(file, of.plain()) {
				t.Fatalf("%s is not of these cases (%v): write it anew with -update", pcap, err)
			}
			said, err := os.ReadFile(text)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(string(said), "\n"), "\n")[1:] // the first has the command
			if len(lines) != len(of.cases) {
				t.Fatalf("tshark read %d packets of %d", len(lines), len(of.cases))
			}
			for i, c := range of.cases {
				got, want := packets(c.In), packetsOf(t, lines[i])
				if why, ok := otherwise[c.Name]; slices.Equal(got, want) == ok {
					t.Errorf("%s: got %q, tshark says %q (%s)", c.Name, got, want, why)
				}
			}
		})
	}
}

// write writes the capture, and what tshark says of it.
func (of *captureOf) write(t *testing.T, pcap, text string) {
	nettest.Need(t, tshark[0])
	if err := os.WriteFile(pcap, of.plain(), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(tshark[0], append(tshark[1:], "-r", "-")...)
	c.Stdin = bytes.NewReader(of.forTshark())
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	version, err := exec.Command(tshark[0], "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(version, []byte("\n"))
	out = fmt.Appendf(nil, "# %s %s\n%s", first, strings.Join(tshark, " "), out)
	if err := os.WriteFile(text, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every packet of a file counts as its frame does, also those that a frame of 802.11 aggregates.
func TestFilesOfLinkLayers(t *testing.T) {
	monitored, err := subnets.Parse("192.0.2.0/24,2001:db8::/48")
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range capturesOfLinks(t) {
		t.Run(of.name, func(t *testing.T) {
			newCounter := func() *capture.Counter {
				return capture.NewCounter(capture.NewTable(100, 0).Monitor(capture.Subnets{Monitored: monitored}))
			}
			want, got := newCounter(), newCounter()
			want.Lock()
			for _, c := range of.cases {
				for more := true; more; more = c.In.Next() {
					var p frame.Packet
					p.Decode(&c.In)
					want.Count(&p)
				}
			}
			want.Unlock()
			err := countAll(t.Context(), bytes.NewReader(of.plain()), got)
			if unknown := of.name == "ppi"; (err != nil) != unknown { // one case has an unknown link layer inside
				t.Error(err)
			}
			if got.Outcomes() != want.Outcomes() {
				t.Errorf("counted %v, want %v", got.Outcomes(), want.Outcomes())
			}
		})
	}
}

// TestUnsupportedLinkTypesAreBounded has a type for each packet, as a file of PPI can.
func TestUnsupportedLinkTypesAreBounded(t *testing.T) {
	const more = 5000
	f := file{unsupported: map[uint32]int64{}}
	for i := range uint32(maxUnsupported + more) {
		f.unsupport(1000 + i)
		f.unsupport(1000)
	}
	if len(f.unsupported) != maxUnsupported || f.unlisted != more {
		t.Errorf("%d types are kept, and %d packets of others; want %d and %d", len(f.unsupported), f.unlisted, maxUnsupported, more)
	}
	if text := f.unsupportedError().Error(); !strings.Contains(text, "5000 packets of further link types") {
		t.Error(text)
	}
}
