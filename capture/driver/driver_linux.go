package driver

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Features is what a driver tells of itself.
type Features struct {
	XDP  bool // it runs XDP programs by itself (native mode), which can at least drop and pass frames
	Tags bool // it tells XDP programs of VLAN tags that it has removed; since Linux 6.8
}

// Of the netdev family of generic netlink (Documentation/netlink/specs/netdev.yaml of Linux).
const (
	get         = 1 // NETDEV_CMD_DEV_GET
	ifindex     = 1 // NETDEV_A_DEV_IFINDEX
	xdpFeatures = 3 // NETDEV_A_DEV_XDP_FEATURES
	basic       = 1 // NETDEV_XDP_ACT_BASIC
	rxMetadata  = 5 // NETDEV_A_DEV_XDP_RX_METADATA_FEATURES
	vlanTag     = 4 // NETDEV_XDP_RX_METADATA_VLAN_TAG
)

// FeaturesOf asks for the features of the driver of an interface, by its index in the network namespace of the calling thread. The error is
// errors.ErrUnsupported before Linux 6.3, which does not tell.
func FeaturesOf(index int) (f Features, err error) {
	family, err := netlink.GenlFamilyGet("netdev")
	if errors.Is(err, unix.ENOENT) {
		return f, fmt.Errorf("asking for the features of a driver: %w", errors.ErrUnsupported)
	}
	if err != nil {
		return f, fmt.Errorf("asking for the features of a driver: %w", err)
	}
	request := nl.NewNetlinkRequest(int(family.ID), 0)
	request.AddData(genericHeader{get, nl.GENL_CTRL_VERSION})
	request.AddData(nl.NewRtAttr(ifindex, nl.Uint32Attr(uint32(index))))
	answers, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return f, fmt.Errorf("asking for the features of a driver: %w", err)
	}
	for _, answer := range answers {
		if len(answer) < nl.SizeofGenlmsg {
			continue
		}
		attributes, err := nl.ParseRouteAttr(answer[nl.SizeofGenlmsg:])
		if err != nil {
			return f, fmt.Errorf("asking for the features of a driver: %w", err)
		}
		for _, a := range attributes {
			if len(a.Value) != 8 {
				continue
			}
			bits := binary.NativeEndian.Uint64(a.Value)
			switch a.Attr.Type {
			case xdpFeatures:
				f.XDP = bits&basic != 0
			case rxMetadata:
				f.Tags = bits&vlanTag != 0
			}
		}
	}
	return f, nil
}

// genericHeader is struct genlmsghdr: a command, a version, and two bytes that have to be 0, which nl.Genlmsg leaves to chance.
type genericHeader [nl.SizeofGenlmsg]byte

func (h genericHeader) Len() int          { return len(h) }
func (h genericHeader) Serialize() []byte { return h[:] }
