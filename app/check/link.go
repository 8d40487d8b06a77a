package check

import (
	"fmt"
	"slices"
	"strings"
)

// Link is an interface as the kernel lists it.
type Link struct {
	Name        string
	Index       int
	Up, Carrier bool
	Loopback    bool
	Both        bool // it counts each packet as received and as transmitted, as lo and ifb devices do
	MTU         int
	Master      string // the bridge or bond that it is a port of, if any
	Shared      bool   // devices above it have MAC addresses of their own, as macvlan devices do
	Promiscuity int    // how many have asked for promiscuous mode
	Promiscuous bool   // the administrator is one of them
	Driver      string // only where XDP is used, or might be
	Drops       drops  // of XDP, once promflow captures
	Counters    Counters
}

// linkFinding says whether an interface is up.
func linkFinding(l Link) Finding {
	f := Finding{Name: "interface", Interface: l.Name}
	state := "up, with carrier"
	switch {
	case !l.Up:
		state = "down"
	case !l.Carrier:
		state = "up, no carrier"
	}
	f.Summary = fmt.Sprintf("%s, MTU %d", state, l.MTU)
	if !l.Up || !l.Carrier {
		f.Status = Warning
		f.detail("nothing can be seen until that changes; promflow waits for it")
	}
	return f
}

// interfaceFinding says whether an interface is up while promflow captures, and who has asked for promiscuous mode.
func interfaceFinding(before, now Link, promiscuous bool) Finding {
	f := linkFinding(now)
	var who []string
	if now.Promiscuity > before.Promiscuity {
		who = append(who, "promflow")
	}
	others := before.Promiscuity
	if before.Promiscuous {
		who = append(who, "the administrator (ip link set promisc on)")
		others--
	}
	if before.Master != "" && others > 0 {
		who = append(who, "its master "+before.Master)
		others--
	}
	switch {
	case others == 1:
		who = append(who, "another program")
	case others > 1:
		who = append(who, fmt.Sprintf("%d other programs", others))
	}
	switch {
	case len(who) > 0:
		f.Summary += ", promiscuous"
		f.detail("promiscuous mode was asked for by %s", strings.Join(who, ", "))
	case promiscuous && !now.Loopback:
		f.detail("not promiscuous, though promflow was told to ask for it")
	default:
		f.detail("not promiscuous: it receives what is addressed to this machine")
	}
	return f
}

// offloads are the features that merge segments or split them late: the usual name, and that of the kernel (ethtool -k).
var offloads = []struct{ short, feature string }{
	{"GRO", "rx-gro"},
	{"GRO in hardware", "rx-gro-hw"},
	{"LRO", "rx-lro"},
	{"GSO", "tx-generic-segmentation"},
	{"TSO", "tx-tcp-segmentation"},
	{"TSO for IPv6", "tx-tcp6-segmentation"},
	{"UDP segmentation", "tx-udp-segmentation"},
}

// offloadsFinding lists the offloads that are on.
func offloadsFinding(name string, features map[string]bool, err error) Finding {
	f := Finding{Name: "offloads", Interface: name}
	if err != nil {
		f.set(Info, "the kernel does not tell: %v", err)
		return f
	}
	var on, off []string
	for _, o := range offloads {
		if features[o.feature] {
			on = append(on, o.short)
		} else if _, known := features[o.feature]; known {
			off = append(off, o.short)
		}
	}
	f.Summary = "all off"
	if len(on) > 0 {
		f.Summary = "on: " + strings.Join(on, ", ")
		if len(off) > 0 {
			f.detail("off: %s", strings.Join(off, ", "))
		}
		f.detail("they need not be turned off: merged segments count as the packets on the wire")
	}
	if slices.Contains(on, "LRO") {
		f.Status = Warning
		f.detail("what LRO merges cannot be split again as it was: do not use it on a router or bridge")
	}
	return f
}
