package detour

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Look reads the configuration of the calling thread's network namespace. Listing flowtables and IPsec policies needs CAP_NET_ADMIN in the
// user namespace that owns it.
func Look() *Namespace {
	links, err := netlink.LinkList()
	if err := complete(err); err != nil {
		err = fmt.Errorf("listing the network interfaces: %w", err)
		return &Namespace{FlowtablesErr: err, IPsecErr: err}
	}
	n, interfaces := &Namespace{}, os.DirFS("/sys/class/net")
	for _, l := range links {
		a := l.Attrs()
		of := link{name: a.Name, index: a.Index, kind: l.Type(), master: a.MasterIndex, tags: tagsOf(interfaces, a.Name)}
		if a.NetNsID < 0 {
			of.parent = a.ParentIndex
		}
		n.links = append(n.links, of)
	}
	modules := loaded()
	// If nfnetlink is a module, nf_tables cannot be built in.
	if answers(unix.NETLINK_NETFILTER) && (modules["nf_tables"] || !modules["nfnetlink"]) {
		if n.flowtables, err = listFlowtables(); err != nil {
			n.FlowtablesErr = fmt.Errorf("listing nftables' flowtables: %w", err)
		}
	}
	if answers(unix.NETLINK_XFRM) {
		if n.tunnels, err = listTunnels(links); err != nil {
			n.IPsecErr = fmt.Errorf("listing IPsec's policies: %w", err)
		}
		n.early = modules["esp4_offload"] || modules["esp6_offload"]
	}
	return n
}

// complete ignores the error that a list is incomplete because something changed meanwhile.
func complete(err error) error {
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil
	}
	return err
}

// attributes calls f for each attribute of netlink(7) in b.
func attributes(b []byte, f func(kind uint16, value []byte) error) error {
	all, err := nl.ParseRouteAttr(b[:len(b)&^(unix.NLA_ALIGNTO-1)]) // which takes it that the kernel aligns the last one, too
	if err != nil {
		return fmt.Errorf("attributes in %d bytes: %w", len(b), err)
	}
	for _, a := range all {
		err = errors.Join(err, f(a.Attr.Type&nl.NLA_TYPE_MASK, a.Value))
	}
	return err
}

// answers tells whether the kernel supports a netlink protocol without loading a module. A request by a socket would load one, which
// machines that do not use it should not have.
func answers(protocol int) bool {
	sockets, err := os.ReadFile("/proc/thread-self/net/netlink")
	if err != nil {
		return true // unknown
	}
	for line := range strings.Lines(string(sockets)) { // address, protocol, port ID, ...; the kernel's own port ID is 0
		if f := strings.Fields(line); len(f) > 2 && f[1] == strconv.Itoa(protocol) && f[2] == "0" {
			return true
		}
	}
	return false
}

// loaded returns the names of the kernel's modules, none if they cannot be read.
func loaded() map[string]bool {
	names := map[string]bool{}
	modules, err := os.ReadFile("/proc/modules")
	if err != nil {
		return names
	}
	for line := range strings.Lines(string(modules)) {
		name, _, _ := strings.Cut(line, " ")
		names[name] = true
	}
	return names
}
