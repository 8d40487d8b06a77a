package replay

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"promflow/capture/frame"
)

// Interface is an interface that a file tells its packets by. The zero Interface is that of files that do not.
type Interface struct {
	Index int    // as the file counts them, or the kernel that captured did
	Name  string // empty if the file has none
	known bool
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
	Cooked bool        // there are packets of "any" interface that the file does not tell apart (Linux cooked capture, version 1)
}

// Several tells that packets may be in the file more than once, such as forwarded ones: once for each interface that they passed.
func (i Interfaces) Several() bool { return len(i.All) > 1 || i.Cooked }

func (i Interfaces) String() string {
	var names []string
	for _, each := range i.All {
		names = append(names, each.String())
	}
	if len(names) == 0 {
		return "none that it tells apart"
	}
	return strings.Join(names, ", ")
}

const maxNamed = 64

// takes takes note of the interface of a packet, and tells whether the packet counts.
func (f *file) takes(r *record) bool {
	on := r.on
	if r.frame.Link == frame.LinkSLL2 && len(r.frame.Data) >= 8 { // protocol, reserved, interface (https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html)
		on = Interface{Index: int(binary.BigEndian.Uint32(r.frame.Data[4:])), known: true}
	}
	f.interfaces.Cooked = f.interfaces.Cooked || r.frame.Link == frame.LinkSLL
	if on.known && on != f.lastOn {
		f.lastOn = on
		if len(f.interfaces.All) < maxNamed && !slices.Contains(f.interfaces.All, on) {
			f.interfaces.All = append(f.interfaces.All, on)
		}
	}
	return f.only == "" || on.known && (f.only == on.Name || f.only == strconv.Itoa(on.Index))
}
