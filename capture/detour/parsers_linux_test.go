package detour

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attribute is one of netlink(7), with what it holds.
func attribute(kind uint16, values ...[]byte) []byte {
	value := slices.Concat(values...)
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, -len(b)&(unix.NLA_ALIGNTO-1))...)
}

func text(s string) []byte { return append([]byte(s), 0) }

// wildcards is what Linux 6.17 and newer have of: flowtable ft { hook ingress priority 0; devices = { "lan*", wan }; flags offload; }
var wildcards = slices.Concat([]byte{unix.NFPROTO_INET, 0, 0, 0},
	attribute(flowtableTable, text("fw4")),
	attribute(flowtableName, text("ft")),
	attribute(4, []byte{0, 0, 0, 1}), // how many use it
	attribute(flowtableFlags, []byte{0, 0, 0, hardwareFlag}),
	attribute(flowtableHook|unix.NLA_F_NESTED,
		attribute(1, []byte{0, 0, 0, 0}), // its number
		attribute(2, []byte{0, 0, 0, 0}), // its priority
		attribute(hookDevices|unix.NLA_F_NESTED, attribute(devicePrefix, text("lan")), attribute(deviceName, text("wan")))))

func TestParseFlowtable(t *testing.T) {
	want := flowtable{name: "inet fw4 ft", devices: []string{"lan*", "wan"}, hardware: true}
	if got, err := parseFlowtable(wildcards); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, n := range []int{0, 3, len(wildcards) - 4} {
		if got, err := parseFlowtable(wildcards[:n]); err == nil {
			t.Errorf("of %d bytes it took %+v", n, got)
		}
	}
}

// aPolicy is one of IPv6 in IPv4, for an xfrm interface.
func aPolicy() []byte {
	info := nl.XfrmUserpolicyInfo{Dir: uint8(netlink.XFRM_DIR_FWD)}
	info.Sel.Family = unix.AF_INET6
	info.Sel.Saddr, info.Sel.PrefixlenS = nl.XfrmAddress(netip.MustParseAddr("fd00:2::").As16()), 64
	info.Sel.Daddr, info.Sel.PrefixlenD = nl.XfrmAddress(netip.MustParseAddr("fd00:1::").As16()), 48
	template := nl.XfrmUserTmpl{Family: unix.AF_INET, Mode: uint8(netlink.XFRM_MODE_TUNNEL)}
	copy(template.Saddr[:], []byte{192, 0, 2, 2})
	copy(template.XfrmId.Daddr[:], []byte{192, 0, 2, 1})
	number := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	return slices.Concat(info.Serialize(),
		attribute(nl.XFRMA_TMPL, (&nl.XfrmUserTmpl{Family: unix.AF_INET}).Serialize(), template.Serialize()),
		attribute(nl.XFRMA_MARK, number(7), number(0xff)),
		attribute(nl.XFRMA_IF_ID, number(42)))
}

func TestParsePolicy(t *testing.T) {
	want := policy{
		arrives: true, from: netip.MustParsePrefix("fd00:2::/64"), to: netip.MustParsePrefix("fd00:1::/48"),
		tunnel: true, remote: netip.MustParseAddr("192.0.2.2"), own: netip.MustParseAddr("192.0.2.1"), mark: 7, interfaceID: 42,
	}
	if got, err := parsePolicy(aPolicy()); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	unknown := aPolicy()
	unknown[40], unknown[41] = 99, 99 // the selector's family
	for _, b := range [][]byte{nil, aPolicy()[:100], aPolicy()[:len(aPolicy())-4], unknown} {
		if got, err := parsePolicy(b); err == nil {
			t.Errorf("of %d bytes it took %+v", len(b), got)
		}
	}
}

// FuzzParsers has both end, whatever comes.
func FuzzParsers(f *testing.F) {
	f.Add(wildcards)
	f.Add(aPolicy())
	f.Fuzz(func(_ *testing.T, b []byte) {
		parseFlowtable(b)
		parsePolicy(b)
	})
}
