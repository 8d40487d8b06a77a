package detour

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Constants of linux/netfilter/nf_tables.h that golang.org/x/sys/unix does not have.
const (
	flowtableTable = 1 // NFTA_FLOWTABLE_TABLE
	flowtableName  = 2 // NFTA_FLOWTABLE_NAME
	flowtableHook  = 3 // NFTA_FLOWTABLE_HOOK
	flowtableFlags = 7 // NFTA_FLOWTABLE_FLAGS

	hookDevices  = 3 // NFTA_FLOWTABLE_HOOK_DEVS
	deviceName   = 1 // NFTA_DEVICE_NAME
	devicePrefix = 2 // NFTA_DEVICE_PREFIX, from Linux 6.17 on

	hardwareFlag = 1 // NFT_FLOWTABLE_HW_OFFLOAD
)

// listFlowtables lists the flowtables of all families and tables. (github.com/google/nftables needs a request for each table, and does not
// support prefixes.)
func listFlowtables() ([]flowtable, error) {
	const of = unix.NFNL_SUBSYS_NFTABLES << 8
	request := nl.NewNetlinkRequest(of|unix.NFT_MSG_GETFLOWTABLE, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_UNSPEC, Version: nl.NFNETLINK_V0})
	messages, err := request.Execute(unix.NETLINK_NETFILTER, of|unix.NFT_MSG_NEWFLOWTABLE)
	if err := complete(err); err != nil {
		return nil, err
	}
	var all []flowtable
	for _, m := range messages {
		f, err := parseFlowtable(m)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

var familyNames = map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}

// parseFlowtable reads a struct nfgenmsg and its attributes.
func parseFlowtable(m []byte) (f flowtable, err error) {
	if len(m) < nl.SizeofNfgenmsg {
		return f, fmt.Errorf("a flowtable of %d bytes", len(m))
	}
	table, name := "", ""
	err = attributes(m[nl.SizeofNfgenmsg:], func(kind uint16, value []byte) error {
		switch kind {
		case flowtableTable:
			table = unix.ByteSliceToString(value)
		case flowtableName:
			name = unix.ByteSliceToString(value)
		case flowtableFlags:
			f.hardware = len(value) == 4 && binary.BigEndian.Uint32(value)&hardwareFlag != 0
		case flowtableHook:
			return attributes(value, func(kind uint16, value []byte) error {
				if kind != hookDevices {
					return nil
				}
				return attributes(value, func(kind uint16, value []byte) error {
					switch device := unix.ByteSliceToString(value); kind {
					case deviceName:
						f.devices = append(f.devices, device)
					case devicePrefix:
						f.devices = append(f.devices, device+"*")
					}
					return nil
				})
			})
		}
		return nil
	})
	f.name = familyNames[m[0]] + " " + table + " " + name
	return f, err
}
