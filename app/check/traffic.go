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

// traffic has the counts of all interfaces together.
type traffic struct {
	monitored subnets.Set
	excluded  subnets.Set
	hosts     []capture.Host
	outcomes  [frame.Outcomes]capture.OutcomeSize
	onLink    []netip.Prefix // of the interfaces
}

// leastBoth is the share of packets of addresses with both directions that shows that both are mirrored. With one direction only, a ping or
// the traffic of this machine has less.
const leastBoth = 0.01

// directionsFinding detects a mirror port with only one direction: there, hardly any address both receives and transmits.
func (t *traffic) directionsFinding() Finding {
	f := Finding{Name: "directions", Summary: "traffic of both directions is seen"}
	var receive, transmit, both int64
	for _, h := range t.hosts {
		receive += h.ReceivePackets
		transmit += h.TransmitPackets
		if h.Addr.IsValid() { // else these are many addresses together
			both += 2 * min(h.ReceivePackets, h.TransmitPackets)
		}
	}
	f.detail("monitored addresses received %d packets and transmitted %d", receive, transmit)
	switch all := receive + transmit; {
	case all < fewPackets && both == 0:
		f.set(Info, "too little traffic of monitored addresses to tell whether both directions are seen")
	case float64(both) < leastBoth*float64(all):
		switch {
		case both > 0:
			f.set(Warning, "next to nothing of the other direction is seen")
		case transmit == 0:
			f.set(Warning, "one direction only: monitored addresses receive and never transmit")
		case receive == 0:
			f.set(Warning, "one direction only: monitored addresses transmit and never receive")
		default:
			f.set(Warning, "one direction only: no address both receives and transmits")
		}
		f.detail("a mirror port has to mirror both directions; or the other one takes another interface")
	}
	return f
}

// maxListed is how many subnets a finding lists.
const maxListed = 10

// subnetsFinding lists the monitored subnets without traffic.
func (t *traffic) subnetsFinding() Finding {
	f := Finding{Name: "subnets"}
	all := t.monitored.Prefixes()
	silent := slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool {
		return slices.ContainsFunc(t.hosts, func(h capture.Host) bool { return h.Addr.IsValid() && p.Contains(h.Addr) })
	})
	switch {
	case len(silent) == 0 && len(all) == 1:
		f.set(OK, "traffic was seen in %v", all[0])
	case len(silent) == 0:
		f.set(OK, "traffic was seen in each of %d monitored subnets", len(all))
	case len(silent) == len(all):
		f.set(Info, "nothing was seen in any monitored subnet")
	default:
		f.set(Info, "nothing was seen in %d of %d monitored subnets", len(silent), len(all))
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

// maxElsewhere is the largest share of unmonitored or excluded packets that looks intended.
const maxElsewhere = 0.9

// monitoredFinding says how many packets are of monitored addresses, how many are excluded, and how many are not IP.
func (t *traffic) monitoredFinding() Finding {
	f := Finding{Name: "monitored"}
	counted, unmonitored, excluded := t.outcomes[frame.Counted], t.outcomes[frame.Unmonitored], t.outcomes[frame.Excluded]
	all := counted.Packets + unmonitored.Packets + excluded.Packets
	if all == 0 {
		f.set(Info, "no IP packets to judge by")
		t.mentionNonIP(&f, all)
		return f
	}
	f.set(OK, "%s of the IP packets are of monitored addresses", percent(float64(counted.Packets)/float64(all)))
	if excluded.Packets > 0 {
		f.Summary += fmt.Sprintf(", %s are excluded", percent(float64(excluded.Packets)/float64(all)))
	}
	much := func(n int64) bool { return all >= fewPackets && float64(n) > maxElsewhere*float64(all) }
	switch {
	case much(excluded.Packets):
		f.Status = Warning
		f.detail("%d packets, %d bytes are excluded, by --exclude-subnets", excluded.Packets, excluded.Bytes)
	case much(unmonitored.Packets):
		f.Status = Warning
		f.detail("%d packets, %d bytes are not, with --monitor-subnets=%v", unmonitored.Packets, unmonitored.Bytes, t.monitored)
		f.detail("--monitor-subnets=0.0.0.0/0,::/0 counts all")
	}
	if missing := t.missing(); len(missing) > 0 {
		f.Status = max(f.Status, Warning)
		f.detail("subnets of the interfaces are not monitored: add %s, or auto, which follows them", strings.Join(missing, ","))
	}
	t.mentionNonIP(&f, all)
	return f
}

// mentionNonIP adds to a finding how many packets there are besides the IP packets.
func (t *traffic) mentionNonIP(f *Finding, ip int64) {
	other := t.outcomes[frame.NonIP]
	if other.Packets == 0 {
		return
	}
	all := ip + other.Packets
	f.detail("%d of %d packets (%s) are not IP: %d bytes, which no address has", other.Packets, all, percent(float64(other.Packets)/float64(all)), other.Bytes)
}

// missing returns the interfaces' own subnets that are neither monitored nor excluded.
func (t *traffic) missing() (list []string) {
	for _, p := range t.onLink {
		if !t.monitored.Covers(p) && !t.excluded.Covers(p) && !p.Addr().IsLoopback() && len(list) < maxListed {
			list = append(list, p.String())
		}
	}
	return list
}
