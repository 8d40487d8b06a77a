package names

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestPipeIsNoLeaseFile(t *testing.T) {
	s := newSources(t, "pipe")
	if err := unix.Mkfifo(s.path("pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.look(time.Now())
	}
	s.wantLogged(1, "is not a regular file")
}

// TestListNeighbours reads this machine's table, whatever is in there.
func TestListNeighbours(t *testing.T) {
	all, err := listNeighbours()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if !n.addr.IsValid() || n.mac == "" || n.mac != mac(n.mac) {
			t.Errorf("%+v", n)
		}
	}
}

func TestWhichNeighboursAreBelieved(t *testing.T) {
	for state, want := range map[int]bool{
		unix.NUD_PERMANENT: true, unix.NUD_REACHABLE: true, unix.NUD_STALE: true, unix.NUD_DELAY: true, unix.NUD_PROBE: true,
		unix.NUD_NONE: false, unix.NUD_INCOMPLETE: false, unix.NUD_FAILED: false, unix.NUD_NOARP: false,
	} {
		n := netlink.Neigh{LinkIndex: 7, State: state, IP: net.IPv4(192, 168, 1, 133), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
		if got, ok := neighbourOf(&n); ok != want || ok && (got.addr != laptop || got.mac != "02:00:00:00:00:01") {
			t.Errorf("state %#x: %+v, %v", state, got, ok)
		}
		for _, change := range []func(*netlink.Neigh){
			func(n *netlink.Neigh) { n.HardwareAddr = nil },
			func(n *netlink.Neigh) { n.HardwareAddr = make(net.HardwareAddr, 6) },
			func(n *netlink.Neigh) { n.HardwareAddr = net.HardwareAddr{1, 0, 0x5e, 0, 0, 1} },
			func(n *netlink.Neigh) { n.IP = nil },
			func(n *netlink.Neigh) { n.IP = net.IPv4(224, 0, 0, 251) },
		} {
			other := n
			if change(&other); func() bool { _, ok := neighbourOf(&other); return ok }() {
				t.Errorf("%+v is believed", other)
			}
		}
	}
}

// Any user can write to /tmp, where OpenWrt has its leases.
func TestLeaseFilesInTmpAreOfOpenWrt(t *testing.T) {
	release := filepath.Join(t.TempDir(), "openwrt_release")
	if of := leaseFilesOf(release); slices.ContainsFunc(of, func(path string) bool { return strings.HasPrefix(path, "/tmp/") }) {
		t.Errorf("elsewhere there are %v", of)
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/tmp/dhcp.leases", "/tmp/hosts/odhcpd", "/tmp/hosts/odhcpd.hosts.*"} {
		if of := leaseFilesOf(release); !slices.Contains(of, want) {
			t.Errorf("there are %v, want %s", of, want)
		}
	}
}
