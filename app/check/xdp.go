package check

import (
	"regexp"
	"strings"
)

// xdpBackend is the value of --capture that can drop what it has counted, with --mirror.
const xdpBackend = "xdp"

// drops says where a driver counts the frames that XDP drops.
type drops int

const (
	noDrops      drops = iota // XDP drops nothing
	dropsUnknown              // perhaps nowhere
	dropsAmong                // among those received
	dropsApart                // in statistics of its own only (ethtool -S)
)

// dropsOf is by drivers' names, from the kernel's sources. veth was measured. mlx5's documentation says of rx_xdp_drop: "these packets are
// not counted by other software counters".
var dropsOf = map[string]drops{
	"i40e": dropsAmong, "ice": dropsAmong, "igb": dropsAmong, "igc": dropsAmong, "ixgbe": dropsAmong, "ixgbevf": dropsAmong,
	"veth": dropsAmong, "virtio_net": dropsAmong,
	"mlx4_en": dropsApart, "mlx5_core": dropsApart,
}

// xdpSince510 has drivers with XDP in Linux 5.10. Kernels before 6.3 do not tell of theirs.
var xdpSince510 = []string{"bnxt_en", "ena", "i40e", "ice", "igb", "ixgbe", "ixgbevf", "mlx4_en", "mlx5_core", "nfp", "qede", "sfc", "tun",
	"veth", "virtio_net"}

// xdpDrop matches the names that drivers have for frames that XDP has dropped: rx_xdp_drop (mlx5), rx0_xdp_drops (virtio_net),
// rx_queue_0_xdp_drops (veth), queue_0_rx_xdp_drop (ena), rx_xdp_drop[0] (gve).
var xdpDrop = regexp.MustCompile(`^(rx(\d+|_queue_\d+)?|queue_\d+_rx)_xdp_drops?(\[\d+\])?$`)

// xdpDrops returns how many frames XDP has dropped, by a driver's statistics, and whether these tell. Some have the sum beside what each
// queue has.
func xdpDrops(statistics map[string]uint64) (n int64, known bool) {
	queues := int64(0)
	for name, value := range statistics {
		switch {
		case !xdpDrop.MatchString(name):
		case strings.ContainsAny(name, "0123456789"):
			queues += int64(value)
			known = true
		default:
			n = int64(value)
			known = true
		}
	}
	return max(n, queues), known
}

// What --mirror pays for: so many frames a second for other machines, and such a share of what arrives.
const (
	leastOthers = 0.5
	leastRate   = 100_000
)

// mirrorDetail recommends to drop what is for other machines, a share of what arrives on an interface, if that pays.
func (o *observed) mirrorDetail(f *Finding, others, seconds float64, backend string) {
	if rate := others * float64(o.Kernel.RxPackets) / seconds; others >= leastOthers && rate >= leastRate {
		flags := "--capture=xdp --mirror"
		if backend == xdpBackend {
			flags = "--mirror"
		}
		f.detail("%s of what arrives is for other machines' MAC addresses, %.0f packets a second: with %s the driver would drop these as soon "+
			"as they are counted", percent(others), rate, flags)
	}
}
