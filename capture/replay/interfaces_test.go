package replay

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// TestInterfaces counts files that have packets of several interfaces.
func TestInterfaces(t *testing.T) {
	named := func(o endian, name string) []byte {
		padded := append([]byte(name), make([]byte, (4-len(name)%4)%4)...)
		options := join(o.AppendUint16(nil, optionInterfaceName), o.AppendUint16(nil, uint16(len(name))), padded, make([]byte, 4))
		return block(o, blockInterface, o.AppendUint16(nil, 101), []byte{0, 0}, words(o, 0), options)
	}
	sll2 := func(index uint32) []byte { // LINKTYPE_LINUX_SLL2
		header := binary.BigEndian.AppendUint32([]byte{0x08, 0, 0, 0}, index)
		return join(header, make([]byte, 12), ipv4(50))
	}
	sll1 := func(kind uint16) []byte { // LINKTYPE_LINUX_SLL, of an ARPHRD_ type
		return join([]byte{0, 0}, binary.BigEndian.AppendUint16(nil, kind), make([]byte, 10), []byte{0x08, 0}, ipv4(50))
	}
	for _, o := range []endian{little, big} {
		ng := join(section(o, 1, 0), named(o, "eth0"), named(o, "wlan-of-the-house"), iface(o, 101, 0),
			enhanced(o, 0, 50, ipv4(50)), enhanced(o, 1, 50, ipv4(50)), enhanced(o, 1, 50, ipv4(50)), enhanced(o, 2, 50, ipv4(50)))
		cooked := join(section(o, 1, 0), iface(o, 276, 0), enhanced(o, 0, 70, sll2(2)), enhanced(o, 0, 70, sll2(7)), enhanced(o, 0, 70, sll2(7)))
		old := join(section(o, 1, 0), iface(o, 113, 0), enhanced(o, 0, 66, sll1(512)), enhanced(o, 0, 66, sll1(1)))
		loopback := join(section(o, 1, 0), iface(o, 113, 0), enhanced(o, 0, 66, sll1(772)))
		ppp := join(section(o, 1, 0), iface(o, 113, 0), enhanced(o, 0, 66, sll1(512)), enhanced(o, 0, 66, sll1(512)))
		one := join(section(o, 1, 0), named(o, "eth0"), enhanced(o, 0, 50, ipv4(50)))
		for _, c := range []struct {
			name, only string
			file       []byte
			packets    int64
			has        string
			several    bool
			err        string
		}{
			{"pcapng", "", ng, 4, "eth0, wlan-of-the-house, 2", true, ""},
			{"pcapng, by name", "wlan-of-the-house", ng, 2, "eth0, wlan-of-the-house, 2", true, ""},
			{"pcapng, by index", "2", ng, 1, "eth0, wlan-of-the-house, 2", true, ""},
			{"pcapng, not there", "eth1", ng, 0, "eth0, wlan-of-the-house, 2", true, `has no packets of interface "eth1"; it has eth0, wlan-of-the-house, 2`},
			{"pcapng of one", "", one, 1, "eth0", false, ""},
			{"cooked, version 2", "", cooked, 3, "2, 7", true, ""},
			{"cooked, version 2, by index", "7", cooked, 2, "2, 7", true, ""},
			{"cooked, version 1, in pcapng", "", old, 2, "0", true, ""},
			{"cooked, version 1, of loopback", "", loopback, 1, "0", true, ""},
			{"cooked, version 1, of PPP alone", "", ppp, 2, "0", false, ""},
		} {
			c2 := counter(t)
			interfaces, err := Count(t.Context(), bytes.NewReader(c.file), "FILE", c2, c.only)
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v/%s: %v, want %q", o, c.name, err, c.err)
			}
			var packets int64
			for _, of := range c2.Outcomes() {
				packets += of.Packets
			}
			if packets != c.packets || interfaces.String() != c.has || interfaces.Several() != c.several {
				t.Errorf("%v/%s: %d packets of %s, several: %v; want %d of %s, %v", o, c.name, packets, interfaces, interfaces.Several(), c.packets, c.has, c.several)
			}
		}
	}
}
