package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// driverOf returns the name of an interface's driver, behind a space; nothing if it has none.
func driverOf(name string) string {
	driver, err := os.Readlink(filepath.Join("/sys/class/net", name, "device/driver"))
	if err != nil {
		return ""
	}
	return " " + filepath.Base(driver)
}

// tagsRemoved returns the features, as ethtool(8) names them, by which a driver removes VLAN tags from frames before XDP sees them.
func tagsRemoved(name string) (on []string, err error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("asking for the features of %s: %w", name, err)
	}
	defer e.Close()
	features, err := e.Features(name)
	if err != nil {
		return nil, fmt.Errorf("asking for the features of %s: %w", name, err)
	}
	for _, feature := range []string{"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"} {
		if features[feature] {
			on = append(on, feature)
		}
	}
	return on, nil
}

// Of the netdev family of generic netlink (Documentation/netlink/specs/netdev.yaml of Linux).
const (
	netdevGet             = 1 // NETDEV_CMD_DEV_GET
	netdevIndex           = 1 // NETDEV_A_DEV_IFINDEX
	netdevRxMetadata      = 5 // NETDEV_A_DEV_XDP_RX_METADATA_FEATURES, of Linux 6.8
	netdevMetadataVLANTag = 1 << 2
)

// genericHeader is the header of a request: the command, the version, and two bytes that the family wants to be 0, which the library's own
// header leaves to chance.
type genericHeader [nl.SizeofGenlmsg]byte

func (h genericHeader) Len() int          { return len(h) }
func (h genericHeader) Serialize() []byte { return h[:] }

// tellsTags tells whether a driver tells XDP programs the VLAN tags that it has removed.
func tellsTags(index int) (bool, error) {
	family, err := netlink.GenlFamilyGet("netdev")
	if errors.Is(err, unix.ENOENT) { // before Linux 6.3
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking for the metadata of a driver: %w", err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(genericHeader{netdevGet, nl.GENL_CTRL_VERSION})
	req.AddData(nl.NewRtAttr(netdevIndex, nl.Uint32Attr(uint32(index))))
	replies, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return false, fmt.Errorf("asking for the metadata of a driver: %w", err)
	}
	for _, reply := range replies {
		attributes, err := nl.ParseRouteAttr(reply[nl.SizeofGenlmsg:])
		if err != nil {
			return false, fmt.Errorf("asking for the metadata of a driver: %w", err)
		}
		for _, a := range attributes {
			if a.Attr.Type == netdevRxMetadata && len(a.Value) >= 8 {
				return binary.NativeEndian.Uint64(a.Value)&netdevMetadataVLANTag != 0, nil
			}
		}
	}
	return false, nil
}
