package ebpf

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"promflow/capture/labels"
)

// See grouping.h.
const (
	fewPlaces = int(countPlaceLimitFEW_PLACES)
	maxPlaces = 1<<countRangeLimitSTEPS - 1 // which a search can find

	placeMonitored = uint64(countPlaceFlagPLACE_MONITORED)
	placeIndexed   = uint64(countPlaceFlagPLACE_INDEXED)
	placeBroadcast = uint64(countPlaceFlagPLACE_BROADCAST)

	peerAt    = countLabelAtPEER_AT
	networkAt = countLabelAtNETWORK_AT
)

// maxSeriesCache is how many series a processor finds again without a search: 1.5 MiB, which fit in most second-level caches.
const maxSeriesCache = 1 << 16

// flowBits is the logarithm of how many flows a processor finds again without a search: 2048 take 64 KiB, which fit in most second-level caches.
const flowBits = 11

// choose leaves of a spec what a grouping needs, and gives the names of the programs, in the order of enum stage in stages.h.
func choose(spec *ebpf.CollectionSpec, g *labels.Grouping) [5]string {
	stages := [...]string{countProgCountEthernet, countProgCountNetwork, countProgStripAny, countProgMergedAny, countProgCountAny}
	others := [...]string{countProgGroupEthernet, countProgGroupNetwork, countProgGroupAny}
	if g != nil {
		stages[0], others[0] = others[0], stages[0]
		stages[1], others[1] = others[1], stages[1]
		stages[4], others[2] = others[2], stages[4]
	} else {
		for _, name := range []string{countMapPlaces4, countMapPlaces6, countMapInterfaceNumbers, countMapSeriesSlots, countMapFreeSeries,
			countMapSeriesOwners, countMapSeriesCounts, countMapSeriesCache, countMapFlows} {
			delete(spec.Maps, name)
		}
	}
	for _, name := range others {
		delete(spec.Programs, name)
	}
	return stages
}

// group fills in by what the program is to keep totals, where it is not by the single addresses of ranges alone.
func (p *program) group(spec *ebpf.CollectionSpec, g *labels.Grouping, monitored4 []countRange4) error {
	hostBits := g.HostBits()
	var places4 []countPlace4
	var places6 []countPlace6
	for _, place := range g.Places() {
		labels := uint64(place.Network)<<networkAt | uint64(place.Peer)<<peerAt
		if place.Monitored {
			labels |= placeMonitored
		}
		if place.Broadcast {
			labels |= placeBroadcast
		}
		if place.First.Is6() {
			places6 = append(places6, countPlace6{First: number6(place.First), Labels: labels})
			continue
		}
		at := countPlace4{First: number4(place.First), Labels: labels}
		if base, ok := baseOf(monitored4, at.First, hostBits.V4); ok && place.Monitored {
			at.Base = base
			at.Labels |= placeIndexed
		}
		places4 = append(places4, at)
	}
	if max(len(places4), len(places6)) > maxPlaces {
		return fmt.Errorf("searching %d ranges of addresses: %w (there can be %d)", max(len(places4), len(places6)), errors.ErrUnsupported, maxPlaces)
	}
	var few [fewPlaces]countPlace4
	if len(places4) > fewPlaces {
		nodes := make([]countPlaceNode4, len(places4))
		for i, next := range balance(len(places4)) {
			nodes[i].Next.Before, nodes[i].Next.Behind = next.before, next.behind
			nodes[i].Place.First, nodes[i].Place.Base, nodes[i].Place.Labels = places4[i].First, places4[i].Base, places4[i].Labels
		}
		fill(spec.Maps[countMapPlaces4], nodes)
	} else {
		copy(few[:], places4)
	}
	nodes := make([]countPlaceNode6, len(places6))
	for i, next := range balance(len(places6)) {
		nodes[i].Next.Before, nodes[i].Next.Behind = next.before, next.behind
		nodes[i].Place.First, nodes[i].Place.Labels = places6[i].First, places6[i].Labels
	}
	fill(spec.Maps[countMapPlaces6], nodes)
	spec.Maps[countMapInterfaceNumbers].MaxEntries = uint32(p.interfaces)
	spec.Maps[countMapFlows].MaxEntries = uint32(p.rows << flowBits)
	cache := 1
	if series := p.series.end - p.series.first; series > 0 {
		cache = 1 << bits.Len(uint(min(max(1, p.series.first), maxSeriesCache)-1))
		for _, name := range []string{countMapSeriesSlots, countMapFreeSeries, countMapSeriesOwners} {
			spec.Maps[name].MaxEntries = uint32(series)
		}
		spec.Maps[countMapSeriesCache].MaxEntries = uint32(p.rows * cache)
		spec.Maps[countMapSeriesCounts].MaxEntries = uint32(max(1, p.series.first))
	}
	ones := countAddress6{High: ^uint64(0), Low: ^uint64(0)}
	if hostBits.V6 >= 64 {
		ones = countAddress6{High: ^uint64(0) << (hostBits.V6 - 64)}
	} else {
		ones.Low <<= hostBits.V6
	}
	for name, value := range map[string]any{
		countVarLabelsMask:      uint64(g.Mask()),
		countVarLabelsRest:      uint64(g.Rest()),
		countVarHostBits4:       uint32(hostBits.V4),
		countVarPrefixMask6:     ones,
		countVarFewPlaces4:      few,
		countVarCountPlaces4:    uint32(len(places4)),
		countVarCountPlaces6:    uint32(len(places6)),
		countVarFirstSeries:     uint32(p.series.first),
		countVarSeriesCacheSize: uint32(cache),
		countVarFlowBits:        uint64(flowBits),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// baseOf gives what the upper bits of a monitored address have to be added to for its index, if it has one.
func baseOf(ranges []countRange4, address uint32, hostBits int) (base uint32, ok bool) {
	for _, r := range ranges {
		if address-r.First <= r.Extent && r.Index != hashed {
			return r.Index - r.First>>hostBits, true
		}
	}
	return 0, false
}

// seriesOf gives the slot of the address that a series is of, and its labels; owned is false if it is nobody's.
func (p *program) seriesOf(slot int) (of int, values labels.Values, owned bool) {
	o := &p.seriesOwners[slot-p.series.first]
	address := atomic.LoadUint64(&o.Owned)
	return int(address) - 1, labels.Values(o.Labels), address != 0
}
