package detour

import (
	"io/fs"
	"slices"
	"strings"
)

// Conduit is about an interface that a switch is at (Linux' DSA). The switch puts a tag into each frame that tells its port.
type Conduit struct {
	Tags  string   // the kernel's name of this kind of tag, such as mtk
	Ports []string // the ports of the switch as interfaces, whose frames have no tags
}

// harmless are tags behind the packet, and such that look like those of VLANs (net/dsa/tag_*.c): they hide no IP header. "none" has none.
var harmless = []string{
	"hellcreek", "ksz8795", "ksz9477", "ksz9893", "lan937x", "rtl8_4t", "trailer", "xrs700x",
	"lan9303", "ocelot-8021q", "vsc73xx-8021q", "none",
}

// Conduit returns which tags are in the frames of the interface. ok is false if none are, or none that hide IP headers.
func (n *Namespace) Conduit(name string) (c Conduit, ok bool) {
	at := slices.IndexFunc(n.links, func(l link) bool { return l.name == name })
	if at < 0 || n.links[at].tags == "" || slices.Contains(harmless, n.links[at].tags) {
		return c, false
	}
	c.Tags = n.links[at].tags
	for _, l := range n.links {
		// Before Linux 6.0, ports have no kind.
		if l.parent == n.links[at].index && (l.kind == "dsa" || l.kind == "device") {
			c.Ports = append(c.Ports, l.name)
		}
	}
	slices.Sort(c.Ports)
	return c, true
}

// tagsOf returns the kind of tags in the frames of an interface, empty if it is at no switch. interfaces is /sys/class/net
// (Documentation/ABI/testing/sysfs-class-net-dsa).
func tagsOf(interfaces fs.FS, name string) string {
	text, err := fs.ReadFile(interfaces, name+"/dsa/tagging")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
