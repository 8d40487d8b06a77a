package check

import (
	"fmt"

	"promflow/capture"
	"promflow/capture/frame"
)

// Counters are the kernel's of an interface (struct rtnl_link_stats64, linux/if_link.h). Bytes have link headers.
type Counters struct {
	RxPackets int64 `json:"rx_packets"`
	TxPackets int64 `json:"tx_packets"`
	RxBytes   int64 `json:"rx_bytes"`
	TxBytes   int64 `json:"tx_bytes"`
	RxDropped int64 `json:"rx_dropped"`
	TxDropped int64 `json:"tx_dropped"`
	RxMissed  int64 `json:"rx_missed"` // for which the device had no room
}

func (c Counters) minus(o Counters) Counters {
	return Counters{
		c.RxPackets - o.RxPackets, c.TxPackets - o.TxPackets, c.RxBytes - o.RxBytes, c.TxBytes - o.TxBytes,
		c.RxDropped - o.RxDropped, c.TxDropped - o.TxDropped, c.RxMissed - o.RxMissed,
	}
}

// sum gives the packets and bytes that a capture should see. On lo, what is transmitted is received again and counts then.
func (c Counters) sum(loopback bool) Size {
	s := Size{c.RxPackets, c.RxBytes}
	if !loopback {
		s.Packets += c.TxPackets
		s.Bytes += c.TxBytes
	}
	return s
}

// observed is what was counted on an interface.
type observed struct {
	link   Link // as it was at the end
	status capture.Status
	least  Counters // the kernel's own, between the instants at which status was read
	most   Counters // as least, but before the first and after the second of them
}

// seen is the sum over all outcomes.
func (o *observed) seen() (all Size) {
	for _, s := range o.status.Outcomes {
		all.Packets += s.Packets
		all.Bytes += s.Bytes
	}
	return all
}

const (
	// linkOverhead is how much more than a network-layer packet a frame's bytes may be in the kernel's counters: an Ethernet header
	// with two VLAN tags, and padding or a checksum.
	linkOverhead = 32

	// leastHeader is what each packet beyond the first has in a merged segment, that the kernel counts once: IPv4 and TCP.
	leastHeader = 40

	// leastShare is what must be seen.
	leastShare = 0.99

	// fewPackets is too few to judge by.
	fewPackets = 20
)

// share gives how much was seen of what the kernel counted, at most, from 0 to 1: of packets and of bytes, it is the smaller share. It
// is exact where the kernel counted no merged segments and nothing passed while the counters were read. ok is false if there was
// nothing.
func (o *observed) share() (share float64, ok bool) {
	kernel, seen := o.least.sum(o.link.Loopback), o.seen()
	all := seen.Packets + o.status.Dropped // on the wire
	if max(kernel.Packets, all) == 0 {
		return 0, false
	}
	share = min(1, float64(seen.Packets)/float64(max(kernel.Packets, all)))
	// What the kernel has as merged was on the wire with more headers.
	merged := max(0, all-o.most.sum(o.link.Loopback).Packets)
	if least := kernel.Bytes - linkOverhead*kernel.Packets; least > 0 {
		share = min(share, float64(max(0, seen.Bytes-leastHeader*merged))/float64(least))
	}
	return share, true
}

// shareFinding compares what was counted with what the kernel counted.
func (o *observed) shareFinding() Finding {
	f := Finding{Name: "share", Interface: o.link.Name}
	share, ok := o.share()
	if !ok {
		f.Status = Info
		f.Summary = "no packets were seen, neither by promflow nor by the kernel"
		return f
	}
	kernel, seen := o.least.sum(o.link.Loopback), o.seen()
	all, most := seen.Packets+o.status.Dropped, o.most.sum(o.link.Loopback)
	f.Summary = fmt.Sprintf("promflow saw %s of the packets that the kernel did", percent(share))
	f.detail("promflow: %d packets, %d bytes of the network layer, and %d dropped packets", seen.Packets, seen.Bytes, o.status.Dropped)
	f.detail("kernel: %d packets, %d bytes with link headers", kernel.Packets, kernel.Bytes)
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
	case all > most.Packets:
		f.detail("the kernel counts segments that are merged (GRO, TSO) once, promflow the packets of each: %d more", all-most.Packets)
	case all >= kernel.Packets:
		f.detail("every packet is accounted for")
	default:
		f.detail("%d packets are not accounted for", kernel.Packets-all)
	}
	if n := o.status.Outcomes[frame.Malformed].Packets; n*100 > seen.Packets {
		f.atLeast(Warning)
		f.detail("%d packets are malformed", n)
	}
	return f
}

// dropsFinding is about what was lost.
func (o *observed) dropsFinding() Finding {
	f := Finding{Name: "drops", Interface: o.link.Name, Summary: "no packet was dropped before promflow could count it"}
	if n := o.status.Dropped; n > 0 {
		f.Status = Warning // share tells whether they are too many
		f.Summary = fmt.Sprintf("the kernel dropped %d packets before promflow could count them", n)
	}
	if n := o.least.RxMissed; n > 0 {
		f.atLeast(Warning)
		f.detail("the device had no room for %d packets, which nobody has seen (rx_missed_errors)", n)
	}
	if n := o.least.RxDropped + o.least.TxDropped; n > 0 {
		f.detail("the kernel dropped %d packets for reasons of its own (rx_dropped, tx_dropped); most of these promflow has seen", n)
	}
	return f
}

// percent shows a share so that only all of it is 100 %.
func percent(share float64) string {
	if share == 1 {
		return "100 %"
	}
	return fmt.Sprintf("%.2f %%", float64(int(share*10000))/100)
}

// result is the observation for scripts.
func (o *observed) result() Interface {
	seen := o.seen()
	r := Interface{
		Name: o.link.Name, Packets: seen.Packets, Bytes: seen.Bytes, Dropped: o.status.Dropped,
		ByOutcome: map[string]Size{}, Kernel: o.least,
	}
	for outcome, s := range o.status.Outcomes {
		r.ByOutcome[frame.Outcome(outcome).String()] = Size(s)
	}
	if share, ok := o.share(); ok {
		r.Share = &share
	}
	return r
}
