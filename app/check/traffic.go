package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"promflow/capture"
	"promflow/capture/frame"
	"promflow/capture/subnets"
)

// traffic is what was counted on all interfaces.
type traffic struct {
	monitored subnets.Set
	hosts     []capture.Host
	outcomes  [frame.Outcomes]capture.OutcomeSize
	own       []netip.Prefix // the interfaces' addresses
}

// leastBoth is the share of packets from which on both directions are mirrored: a ping, or what this machine itself says, does not
// make up for one that is not.
const leastBoth = 0.01

// directionsFinding looks for a mirror port that has only one direction: there nobody both receives and transmits, or hardly.
func (t *traffic) directionsFinding() Finding {
	f := Finding{Name: "directions", Summary: "traffic of both directions is seen"}
	var receive, transmit, both int64
	for _, h := range t.hosts {
		receive += h.ReceivePackets
		transmit += h.TransmitPackets
		if h.Addr.IsValid() { // else it is many addresses
			both += 2 * min(h.ReceivePackets, h.TransmitPackets)
		}
	}
	f.detail("monitored addresses received %d packets and transmitted %d", receive, transmit)
	switch all := receive + transmit; {
	case all < fewPackets && both == 0:
		f.Status = Info
		f.Summary = "too little traffic of monitored addresses to tell whether both directions are seen"
	case float64(both) < leastBoth*float64(all):
		f.Status = Warning
		f.Summary = "one direction only: "
		switch {
		case both > 0:
			f.Summary = "next to nothing of the other direction is seen"
		case transmit == 0:
			f.Summary += "monitored addresses receive and never transmit"
		case receive == 0:
			f.Summary += "monitored addresses transmit and never receive"
		default:
			f.Summary += "no address both receives and transmits"
		}
		f.detail("a mirror port has to mirror both directions; or the other one takes another interface")
	}
	return f
}

// maxListed is how many subnets are listed.
const maxListed = 10

// subnetsFinding lists the monitored subnets in which nothing was seen.
func (t *traffic) subnetsFinding() Finding {
	f := Finding{Name: "subnets"}
	all := t.monitored.Prefixes()
	silent := slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool {
		return slices.ContainsFunc(t.hosts, func(h capture.Host) bool { return h.Addr.IsValid() && p.Contains(h.Addr) })
	})
	switch {
	case len(silent) == 0 && len(all) == 1:
		f.Summary = fmt.Sprintf("traffic was seen in %v", all[0])
	case len(silent) == 0:
		f.Summary = fmt.Sprintf("traffic was seen in each of %d monitored subnets", len(all))
	case len(silent) == len(all):
		f.Status = Info
		f.Summary = "nothing was seen in any monitored subnet"
	default:
		f.Status = Info
		f.Summary = fmt.Sprintf("nothing was seen in %d of %d monitored subnets", len(silent), len(all))
	}
	for i, p := range silent {
		if i == maxListed {
			f.detail("and %d more", len(silent)-i)
			break
		}
		f.detail("%v", p)
	}
	return f
}

// mostElsewhere is the share from which on it seems that subnets were forgotten, or too many excluded.
const mostElsewhere = 0.9

// monitoredFinding is about what is not monitored, or excluded.
func (t *traffic) monitoredFinding() Finding {
	f := Finding{Name: "monitored", Summary: "no packets to judge by"}
	counted, unmonitored, excluded := t.outcomes[frame.Counted], t.outcomes[frame.Unmonitored], t.outcomes[frame.Excluded]
	all := counted.Packets + unmonitored.Packets + excluded.Packets
	if all == 0 {
		f.Status = Info
		return f
	}
	f.Summary = fmt.Sprintf("%s of the packets are of monitored addresses", percent(float64(counted.Packets)/float64(all)))
	if excluded.Packets > 0 {
		f.Summary += fmt.Sprintf(", %s are excluded", percent(float64(excluded.Packets)/float64(all)))
	}
	much := func(n int64) bool { return all >= fewPackets && float64(n) > mostElsewhere*float64(all) }
	switch {
	case much(excluded.Packets):
		f.Status = Warning
		f.detail("%d packets, %d bytes are excluded, by --exclude-subnets", excluded.Packets, excluded.Bytes)
	case much(unmonitored.Packets):
		f.Status = Warning
		f.detail("%d packets, %d bytes are not, with --monitor-subnets=%v", unmonitored.Packets, unmonitored.Bytes, t.monitored)
		if own := t.suggestion(); own != "" {
			f.detail("by the addresses of the interfaces, it may be --monitor-subnets=%s", own)
		}
		f.detail("--monitor-subnets=0.0.0.0/0,::/0 counts all")
	}
	return f
}

// suggestion gives the subnets of the interfaces' addresses.
func (t *traffic) suggestion() string {
	var subnets []string
	for _, p := range t.own {
		if a := p.Addr(); a.IsLinkLocalUnicast() || a.IsLoopback() {
			continue
		}
		if s := p.Masked().String(); !slices.Contains(subnets, s) && len(subnets) < maxListed {
			subnets = append(subnets, s)
		}
	}
	return strings.Join(subnets, ",")
}
