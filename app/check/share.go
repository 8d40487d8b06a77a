package check

import (
	"fmt"

	"promflow/capture"
	"promflow/capture/frame"
)

// Counters are the kernel's counters of an interface (struct rtnl_link_stats64, linux/if_link.h). Bytes include link headers.
type Counters struct {
	RxPackets int64 `json:"rx_packets"`
	TxPackets int64 `json:"tx_packets"`
	RxBytes   int64 `json:"rx_bytes"`
	TxBytes   int64 `json:"tx_bytes"`
	RxDropped int64 `json:"rx_dropped"`
	TxDropped int64 `json:"tx_dropped"`
	RxMissed  int64 `json:"rx_missed"`      // the device had no room for them
	RxXDP     int64 `json:"rx_xdp_dropped"` // what XDP has dropped, as far as the driver tells; 0 without --mirror
}

func (c Counters) minus(o Counters) Counters {
	return Counters{
		c.RxPackets - o.RxPackets, c.TxPackets - o.TxPackets, c.RxBytes - o.RxBytes, c.TxBytes - o.TxBytes,
		c.RxDropped - o.RxDropped, c.TxDropped - o.TxDropped, c.RxMissed - o.RxMissed, c.RxXDP - o.RxXDP,
	}
}

// sum returns the packets and bytes that a capture on a link should see. Where each transmitted packet is also received, it counts once. No driver tells the bytes of packets that it counts apart.
func (c Counters) sum(l Link) Size {
	s := Size{c.RxPackets, c.RxBytes}
	if !l.Both {
		s.Packets += c.TxPackets
		s.Bytes += c.TxBytes
	}
	if l.Drops == dropsApart {
		s.Packets += c.RxXDP
	}
	return s
}

// observed has the counts of an interface. The kernel's counters are read before and after promflow's, at the start and at the end, so
// there are bounds for how much they grew while promflow counted.
type observed struct {
	Interface // Kernel is the lower bound: from after the read at the start to before that at the end
	link      Link
	outcomes  [frame.Outcomes]capture.OutcomeSize
	most      Counters // the upper bound
}

// observe returns an observation. link is as of the end, and counted is what promflow has counted.
func observe(link Link, counted capture.Status, least, most Counters) *observed {
	o := &observed{link: link, outcomes: counted.Outcomes, most: most}
	o.Interface = Interface{Name: link.Name, Dropped: counted.Dropped, ByOutcome: map[string]Size{}, Kernel: least}
	for outcome, s := range counted.Outcomes {
		o.Packets += s.Packets
		o.Bytes += s.Bytes
		o.ByOutcome[frame.Outcome(outcome).String()] = Size(s)
	}
	o.Share = o.share()
	return o
}

const (
	// linkOverhead is how many bytes more the kernel may count for a frame than the network-layer packet has: an Ethernet header, 802.1ah
	// with three VLAN tags, and SNAP, padding or a checksum.
	linkOverhead = 64

	// leastHeader is the size of the headers that the kernel does not count for each packet after the first of a merged segment: those
	// of IPv4 and TCP.
	leastHeader = 40

	// leastShare is the share that promflow has to see.
	leastShare = 0.99

	// Fewer packets than fewPackets are too few to judge by.
	fewPackets = 20

	// maxNonIP is the largest share of packets without IP that looks intended: ARP and spanning tree have as much of a quiet network.
	maxNonIP = 0.5
)

// share returns the share of the kernel's packets or bytes that promflow saw, whichever is smaller, from 0 to 1. It is an upper bound, and
// exact if the kernel counted no merged segments and nothing passed while the counters were read. It is nil without any packets.
func (o *observed) share() *float64 {
	kernel, all := o.Kernel.sum(o.link), o.Packets+o.Dropped // on the wire
	if max(kernel.Packets, all) == 0 {
		return nil
	}
	share := min(1, float64(o.Packets)/float64(max(kernel.Packets, all)))
	// Merged segments had more headers on the wire. But maybe what is more than the kernel's was dropped by XDP.
	merged := max(0, all-o.most.sum(o.link).Packets)
	if o.link.Drops == dropsUnknown && merged > 0 {
		return &share
	}
	if least := kernel.Bytes - linkOverhead*kernel.Packets; least > 0 {
		share = min(share, float64(max(0, o.Bytes-leastHeader*merged))/float64(least))
	}
	return &share
}

// shareFinding compares promflow's counts with the kernel's.
func (o *observed) shareFinding() Finding {
	f := Finding{Name: "share", Interface: o.Name}
	if o.Share == nil {
		f.set(Info, "no packets were seen, neither by promflow nor by the kernel")
		return f
	}
	share, kernel, most := *o.Share, o.Kernel.sum(o.link), o.most.sum(o.link)
	all := o.Packets + o.Dropped
	f.Summary = fmt.Sprintf("promflow saw %s of the packets that the kernel did", percent(share))
	f.detail("promflow: %d packets, %d bytes of the network layer, and %d dropped packets", o.Packets, o.Bytes, o.Dropped)
	f.detail("kernel: %d packets, %d bytes with link headers", kernel.Packets, kernel.Bytes)
	switch xdp := o.Kernel.RxXDP; {
	case o.link.Drops == dropsAmong && xdp > 0:
		f.detail("XDP dropped %d of these once they were counted", xdp)
	case o.link.Drops == dropsApart:
		f.detail("XDP dropped %d of these once they were counted, and the driver %s tells no bytes of them", xdp, o.link.Driver)
	case o.link.Drops == dropsUnknown:
		f.detail("what XDP dropped may be missing there: it is not known whether the driver %s counts that", o.link.Driver)
	}
	if share < leastShare {
		f.Status = Error
		if max(kernel.Packets, all) < fewPackets {
			f.Status = Warning
			f.detail("these are too few to judge by: try again with more traffic, or a longer --duration")
		}
	}
	switch {
	case share < leastShare && kernel.Packets > all:
		f.detail("the kernel had %d packets that never came to promflow", kernel.Packets-all)
	case share < leastShare:
	case all > most.Packets && o.link.Drops == dropsUnknown:
		f.detail("promflow counts %d more, which XDP dropped, or which were merged (GRO, TSO)", all-most.Packets)
	case all > most.Packets:
		f.detail("the kernel counts segments that are merged (GRO, TSO) once, promflow the packets of each: %d more", all-most.Packets)
	case all >= kernel.Packets:
		f.detail("every packet is accounted for")
	default:
		f.detail("%d packets are not accounted for", kernel.Packets-all)
	}
	if n := o.outcomes[frame.Malformed].Packets; n*100 > o.Packets {
		f.atLeast(Warning)
		f.detail("%d packets are malformed", n)
	}
	if n := o.outcomes[frame.NonIP].Packets; o.Packets >= fewPackets && float64(n) > maxNonIP*float64(o.Packets) {
		f.atLeast(Warning)
		f.detail("%d of %d packets are not IP: they may be ARP or spanning tree, or have headers before IP that promflow does not know "+
			"(tcpdump -i %s -enn '%s' shows those outside MPLS and PPPoE)", n, o.Packets, o.Name, notIP)
	}
	return f
}

// notIP is a filter for tcpdump (pcap-filter(7)). MPLS and PPPoE are numbers in it: "mpls" and "pppoes" would move what the rest of it looks at.
// VLAN tags are not left out: Linux has removed the outermost one, and what is not IP behind them is to be shown.
const notIP = "not ip and not ip6 and not ether proto (0x8847 or 0x8864)"

// dropsFinding reports lost packets.
func (o *observed) dropsFinding() Finding {
	f := Finding{Name: "drops", Interface: o.Name, Summary: "no packet was dropped before promflow could count it"}
	if n := o.Dropped; n > 0 {
		f.set(Warning, "the kernel dropped %d packets before promflow could count them", n) // shareFinding says whether that is too many
	}
	if n := o.Kernel.RxMissed; n > 0 {
		f.atLeast(Warning)
		f.detail("the device had no room for %d packets, and lost them (rx_missed_errors)", n)
	}
	switch n := o.Kernel.RxDropped + o.Kernel.TxDropped; {
	case n > 0 && o.link.Drops != noDrops:
		f.detail("the kernel dropped %d packets (rx_dropped, tx_dropped); some drivers count what --mirror drops among these", n)
	case n > 0:
		f.detail("the kernel dropped %d packets for reasons of its own (rx_dropped, tx_dropped); promflow saw most of these", n)
	}
	return f
}

// percent writes a share. Only 1 is 100 %: others are rounded down.
func percent(share float64) string {
	if share == 1 {
		return "100 %"
	}
	return fmt.Sprintf("%.2f %%", float64(int(share*10000))/100)
}
