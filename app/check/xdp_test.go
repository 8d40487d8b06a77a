package check

import (
	"strings"
	"testing"
)

func TestXDPDrops(t *testing.T) {
	for _, c := range []struct {
		driver     string
		statistics map[string]uint64
		n          int64
		known      bool
	}{
		{"veth", map[string]uint64{"rx_queue_0_xdp_drops": 3, "rx_queue_1_xdp_drops": 4, "rx_queue_0_drops": 9, "rx_queue_0_xdp_packets": 9, "rx_queue_0_xdp_tx": 9}, 7, true},
		{"virtio_net", map[string]uint64{"rx_xdp_drops": 7, "rx0_xdp_drops": 3, "rx1_xdp_drops": 4, "tx0_xdp_tx_drops": 9, "rx0_drops": 9}, 7, true},
		{"mlx5_core", map[string]uint64{"rx_xdp_drop": 7, "rx0_xdp_drop": 3, "rx1_xdp_drop": 4, "rx_xsk_xdp_drop": 9, "rx_xdp_redirect": 9}, 7, true},
		{"ena", map[string]uint64{"queue_0_rx_xdp_drop": 3, "queue_1_rx_xdp_drop": 4, "queue_0_rx_xdp_pass": 9}, 7, true},
		{"gve", map[string]uint64{"rx_xdp_drop[0]": 3, "rx_xdp_drop[10]": 4, "rx_xdp_aborted[0]": 9}, 7, true},
		{"nothing yet", map[string]uint64{"rx_xdp_drop": 0}, 0, true},
		{"ixgbe", map[string]uint64{"rx_packets": 9, "rx_dropped": 9}, 0, false},
		{"none", nil, 0, false},
	} {
		if n, known := xdpDrops(c.statistics); n != c.n || known != c.known {
			t.Errorf("%s: got %d, %v; want %d, %v", c.driver, n, known, c.n, c.known)
		}
	}
}

func TestMirrorIsRecommendedWhereItPays(t *testing.T) {
	for _, c := range []struct {
		name    string
		backend string
		packets int64
		others  float64
		says    string
	}{
		{"a mirror port", "ebpf", 5_000_000, 0.98,
			"98.00 % of what arrives is for other machines' MAC addresses, 980000 packets a second: with --capture=xdp --mirror the driver would"},
		{"in the driver already", "xdp", 5_000_000, 1, "100 % of what arrives is for other machines' MAC addresses, 1000000 packets a second: with --mirror the"},
		{"a slow one", "ebpf", 490_000, 1, ""},
		{"a server", "ebpf", 50_000_000, 0.01, ""},
		{"nothing was heard", "ebpf", 5_000_000, 0, ""},
	} {
		f := Finding{}
		saw(c.packets, 0, 0, Counters{RxPackets: c.packets}).mirrorDetail(&f, c.others, 5, c.backend)
		if text := strings.Join(f.Details, "; "); !strings.Contains(text, c.says) || (c.says == "") != (text == "") || f.Status != OK {
			t.Errorf("%s: it says %q, want %q", c.name, text, c.says)
		}
	}
}
