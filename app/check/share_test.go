package check

import (
	"bytes"
	"math"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/frame/frametest"
	"promflow/capture/nettest"
)

// saw makes an observation in which the kernel's counters were read while nothing passed.
func saw(packets, bytes, dropped int64, kernel Counters) *observed {
	counted := capture.Status{Dropped: dropped}
	counted.Outcomes[frame.Counted] = capture.OutcomeSize{Packets: packets, Bytes: bytes}
	return observe(Link{Name: "eth0"}, counted, kernel, kernel)
}

func TestShare(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      *observed
		share  float64 // -1 for none
		status Status
		says   string
	}{
		{"nothing", saw(0, 0, 0, Counters{}), -1, Info, "neither by promflow nor by the kernel"},
		{"all", saw(15011, 21699556, 0, Counters{RxPackets: 14648, RxBytes: 21885421, TxPackets: 363, TxBytes: 24261}), 1, OK, "every packet is accounted for"},
		{"TSO, as measured", saw(14988, 21737404, 0, Counters{RxPackets: 602, RxBytes: 20997418, TxPackets: 366, TxBytes: 24498}), 1, OK, "14020 more"},
		{"GRO, as measured", saw(15020, 21755581, 0, Counters{RxPackets: 14672, RxBytes: 21737131, TxPackets: 348, TxBytes: 23322}), 1, OK, "every packet"},
		{"small packets, padded", saw(1000, 28_000, 0, Counters{RxPackets: 1000, RxBytes: 60_000}), 1, OK, "every packet"},
		{"small packets behind 802.1ah with three tags and SNAP", saw(300, 300*52, 0, Counters{RxPackets: 300, RxBytes: 300 * (52 + 52)}), 1, OK, "every packet"},
		{"some never come", saw(900, 900_000, 0, Counters{RxPackets: 1000, RxBytes: 1_014_000}), 0.9, Error, "100 packets that never came"},
		{"a few never come", saw(9950, 9_950_000, 0, Counters{RxPackets: 10000, RxBytes: 10_140_000}), 0.995, OK, "50 packets are not accounted for"},
		{"some are dropped", saw(900, 900_000, 100, Counters{RxPackets: 1000, RxBytes: 1_014_000}), 0.9, Error, "100 dropped packets"},
		{"a direction is missing behind merged segments", saw(10_000, 15_000_000, 0, Counters{RxPackets: 400, RxBytes: 14_500_000, TxPackets: 400, TxBytes: 14_500_000}),
			(15_000_000. - 40*9200) / (29_000_000 - linkOverhead*800), Error, "50."},
		{"nothing comes", saw(0, 0, 0, Counters{RxPackets: 50, RxBytes: 5000}), 0, Error, "50 packets that never came"},
		{"few do not come", saw(0, 0, 0, Counters{RxPackets: 19, RxBytes: 1900}), 0, Warning, "too few to judge by"},
		{"few and late", observe(Link{Name: "eth0"}, capture.Status{}, Counters{}, Counters{RxPackets: 3, RxBytes: 300}), -1, Info, "no packets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			share := -1.
			if c.o.Share != nil {
				share = *c.o.Share
			}
			if math.Abs(share-c.share) > 1e-9 {
				t.Errorf("the share is %v, want %v", share, c.share)
			}
			f := c.o.shareFinding()
			if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != c.status || !strings.Contains(text, c.says) {
				t.Errorf("got %v: %s; want %v and %q", f.Status, text, c.status, c.says)
			}
		})
	}
}

// TestMostIsNotIP judges each interface by itself: a busy one does not hide one of whose headers promflow knows nothing.
func TestMostIsNotIP(t *testing.T) {
	for _, c := range []struct {
		name        string
		counted, no int64
		status      Status
		says        string
	}{
		{"none", 200, 0, OK, ""},
		{"half", 100, 100, OK, ""},
		{"most", 40, 160, Warning, "160 of 200 packets are not IP: they may be ARP or spanning tree, or have headers before IP that promflow does not know (tcpdump -i eth0 -enn"},
		{"all", 0, 160, Warning, "160 of 160 packets"},
		{"most of too few", 4, 15, OK, ""},
	} {
		counted := capture.Status{}
		counted.Outcomes[frame.Counted].Packets = c.counted
		counted.Outcomes[frame.NonIP].Packets = c.no
		kernel := Counters{RxPackets: c.counted + c.no}
		f := observe(Link{Name: "eth0"}, counted, kernel, kernel).shareFinding()
		text := strings.Join(f.Details, "; ")
		if f.Status != c.status || !strings.Contains(text, c.says) || strings.Contains(text, "not IP") != (c.says != "") {
			t.Errorf("%s: got %v: %s; want %v and %q", c.name, f.Status, text, c.status, c.says)
		}
	}
}

// TestNotIP has tcpdump show what promflow does not count, and nothing else.
func TestNotIP(t *testing.T) {
	nettest.Need(t, "tcpdump")
	ip4, ip6 := frametest.IP4(t, 100), frametest.IP6(t, 100)
	for _, c := range []struct {
		name   string
		layers []gopacket.SerializableLayer
	}{
		{"IPv4", []gopacket.SerializableLayer{frametest.Ethernet(layers.EthernetTypeIPv4), ip4}},
		{"IPv6", []gopacket.SerializableLayer{frametest.Ethernet(layers.EthernetTypeIPv6), ip6}},
		{"ARP", []gopacket.SerializableLayer{frametest.Ethernet(layers.EthernetTypeARP), make(gopacket.Payload, 46)}},
		{"ARP behind a tag", []gopacket.SerializableLayer{frametest.Ethernet(layers.EthernetTypeDot1Q), frametest.Tag(layers.EthernetTypeARP),
			make(gopacket.Payload, 46)}},
		{"MPLS", []gopacket.SerializableLayer{frametest.Ethernet(layers.EthernetTypeMPLSUnicast), frametest.Label(16, true), ip4}},
		{"MPLS, two labels", []gopacket.SerializableLayer{frametest.Ethernet(layers.EthernetTypeMPLSUnicast), frametest.Label(16, false),
			frametest.Label(17, true), ip6}},
		{"PPPoE", []gopacket.SerializableLayer{frametest.Ethernet(layers.EthernetTypePPPoESession), frametest.Session(),
			&layers.PPP{PPPType: layers.PPPTypeIPv4}, ip4}},
		{"PPPoE discovery", []gopacket.SerializableLayer{frametest.Ethernet(layers.EthernetTypePPPoEDiscovery), make(gopacket.Payload, 46)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := frametest.Build(t, c.layers...)
			var packet frame.Packet
			packet.Decode(&frame.Frame{Link: frame.LinkEthernet, Data: data})
			var file, said bytes.Buffer
			w := pcapgo.NewWriter(&file)
			if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
				t.Fatal(err)
			}
			if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(data), Length: len(data)}, data); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("tcpdump", "-enn", "-r", "-", notIP)
			cmd.Stdin, cmd.Stderr = &file, &said
			shown, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, &said)
			}
			if (len(shown) > 0) != (packet.Outcome == frame.NonIP) {
				t.Errorf("promflow says %v, tcpdump %q", packet.Outcome, shown)
			}
		})
	}
}

func TestShareOfWhatXDPDrops(t *testing.T) {
	for _, c := range []struct {
		name           string
		drops          drops
		packets, bytes int64
		kernel         Counters
		share          float64
		status         Status
		says           string
	}{
		{"among those received", dropsAmong, 1000, 100_000, Counters{RxPackets: 1000, RxBytes: 114_000, RxXDP: 900}, 1, OK,
			"XDP dropped 900 of these once they were counted; every packet is accounted for"},
		{"among them, and some never came", dropsAmong, 900, 90_000, Counters{RxPackets: 1000, RxBytes: 114_000, RxXDP: 900}, 0.9, Error, "100 packets that never came"},
		{"among them, and some are sent merged", dropsAmong, 1100, 250_000, Counters{RxPackets: 1000, RxBytes: 114_000, TxPackets: 10, TxBytes: 146_000}, 1, OK, "90 more"},
		{"apart", dropsApart, 1000, 100_000, Counters{RxPackets: 100, RxBytes: 11_400, RxXDP: 900}, 1, OK,
			"kernel: 1000 packets, 11400 bytes with link headers; XDP dropped 900 of these once they were counted, and the driver mlx5_core tells no bytes of them; every"},
		{"apart, and some never came", dropsApart, 900, 90_000, Counters{RxPackets: 100, RxBytes: 11_400, RxXDP: 900}, 0.9, Error, "100 packets that never came"},
		{"nobody knows", dropsUnknown, 1000, 28_000, Counters{RxPackets: 10, RxBytes: 600}, 1, OK, "promflow counts 990 more, which XDP dropped"},
		{"nobody knows, and some never came", dropsUnknown, 900, 90_000, Counters{RxPackets: 1000, RxBytes: 114_000}, 0.9, Error, "what XDP dropped may be missing there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			counted := capture.Status{}
			counted.Outcomes[frame.Counted] = capture.OutcomeSize{Packets: c.packets, Bytes: c.bytes}
			o := observe(Link{Name: "eth0", Driver: "mlx5_core", Drops: c.drops}, counted, c.kernel, c.kernel)
			f := o.shareFinding()
			if text := strings.Join(f.Details, "; "); *o.Share != c.share || f.Status != c.status || !strings.Contains(text, c.says) {
				t.Errorf("got %v, %v: %s; want %v, %v and %q", *o.Share, f.Status, text, c.share, c.status, c.says)
			}
		})
	}
}

func TestLoopbackHasEachPacketTwice(t *testing.T) {
	o := saw(10, 1000, 0, Counters{RxPackets: 10, TxPackets: 10, RxBytes: 1140, TxBytes: 1140})
	o.link.Both = true
	if share := o.share(); *share != 1 {
		t.Errorf("the share is %v, want 1", *share)
	}
}

func TestOnlyAllIsHundredPercent(t *testing.T) {
	for share, want := range map[float64]string{1: "100 %", 0.999999: "99.99 %", 0: "0.00 %", 0.5: "50.00 %"} {
		if got := percent(share); got != want {
			t.Errorf("%v is %q, want %q", share, got, want)
		}
	}
}

func TestDrops(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      *observed
		status Status
		says   string
	}{
		{"none", saw(1, 1, 0, Counters{}), OK, "no packet was dropped"},
		{"by the ring", saw(1, 1, 7, Counters{}), Warning, "dropped 7 packets"},
		{"by the device", saw(1, 1, 0, Counters{RxMissed: 8}), Warning, "no room for 8 packets"},
		{"by the stack", saw(1, 1, 0, Counters{RxDropped: 4, TxDropped: 5}), OK, "dropped 9 packets for reasons of its own"},
	} {
		f := c.o.dropsFinding()
		if text := f.Summary + "; " + strings.Join(f.Details, "; "); f.Status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: got %v: %s", c.name, f.Status, text)
		}
	}
}
