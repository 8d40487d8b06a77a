package replay

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"promflow/capture/frame"
)

// Interface is an interface that a file tells its packets by.
type Interface struct {
	Index int    // as the file counts them, or the kernel that captured did
	Name  string // empty if the file has none
}

func (i Interface) String() string {
	if i.Name == "" {
		return strconv.Itoa(i.Index)
	}
	return i.Name
}

// Interfaces is what a file has packets of.
type Interfaces struct {
	All    []Interface // that the file tells apart, in the order of their first packets, up to 64
	Cooked bool        // there are packets of "any" interface that the file does not tell apart
}

// Several tells that packets may be in the file more than once, such as forwarded ones: once for each interface that they passed.
func (i Interfaces) Several() bool { return len(i.All) > 1 || i.Cooked }

func (i Interfaces) String() string {
	var names []string
	for _, each := range i.All {
		names = append(names, each.String())
	}
	if len(names) == 0 {
		return "not told apart"
	}
	return strings.Join(names, ", ")
}

const maxNamed = 64

// cookedOfAny tells whether a packet with a header of Linux cooked capture, version 1, was captured on "any" interface. libpcap captures
// Ethernet and loopback so only there. Others, such as PPP, also when they are captured alone
// (https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html: packet type, ARPHRD_ type).
func cookedOfAny(header []byte) bool {
	const ether, loopback = 1, 772 // ARPHRD_ETHER, ARPHRD_LOOPBACK (linux/if_arp.h)
	if len(header) < 4 {
		return false
	}
	kind := binary.BigEndian.Uint16(header[2:])
	return kind == ether || kind == loopback
}

// missing is the error of a file that has no packets of an interface.
func (i Interfaces) missing(name string) error {
	switch {
	case len(i.All) > 0:
		return fmt.Errorf("has no packets of interface %q; it has %s", name, i)
	case i.Cooked:
		return fmt.Errorf("has no packets of interface %q: it does not say which interface a packet passed, as tcpdump -i any does with -y LINUX_SLL2", name)
	}
	return fmt.Errorf("has no packets of interface %q: it does not say which interface a packet passed", name)
}

// takes takes note of the interface of a packet, and tells whether the packet counts.
func (f *file) takes(r *record) bool {
	switch r.frame.Link {
	case frame.LinkSLL2: // protocol, reserved, interface (https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html)
		if len(r.frame.Data) < 8 {
			break
		}
		index := int(binary.BigEndian.Uint32(r.frame.Data[4:]))
		if f.onCooked == nil || f.onCooked.Index != index {
			if f.onCooked = f.cooked[index]; f.onCooked == nil {
				f.onCooked = &Interface{Index: index}
			}
			if len(f.cooked) < maxTold {
				f.cooked[index] = f.onCooked
			}
		}
		r.on = f.onCooked
	case frame.LinkSLL:
		f.interfaces.Cooked = f.interfaces.Cooked || cookedOfAny(r.frame.Data)
	}
	if r.on == f.on {
		return f.taken
	}
	f.on, f.taken = r.on, f.only == ""
	if on := r.on; on != nil {
		f.taken = f.taken || f.only == on.Name || f.only == strconv.Itoa(on.Index)
		if len(f.interfaces.All) < maxNamed && !slices.Contains(f.interfaces.All, *on) {
			f.interfaces.All = append(f.interfaces.All, *on)
		}
	}
	return f.taken
}
