package kernel

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"

	"github.com/cilium/ebpf"

	"promflow/capture/labels"
	"promflow/capture/subnets"
)

// See grouping.h.
const (
	fewPlaces = int(countPlaceLimitFEW_PLACES)
	maxPlaces = 1<<countRangeLimitSTEPS - 1 // places that a search can reach

	placeMonitored = uint64(countPlaceFlagPLACE_MONITORED)
	placeIndexed   = uint64(countPlaceFlagPLACE_INDEXED)
	placeBroadcast = uint64(countPlaceFlagPLACE_BROADCAST)

	peerAt    = countLabelAtPEER_AT
	networkAt = countLabelAtNETWORK_AT
)

// maxSeriesCache is how many series a processor remembers at most. They take 1.5 MiB, which fit into most second-level caches.
const maxSeriesCache = 1 << 16

// flowBits is log2 of how many flows a processor remembers. 2048 take 64 KiB, which fit into most second-level caches.
const flowBits = 11

// configureGrouping fills in by what prefixes and labels the program is to keep totals, and adds to its variables.
func (p *Program) configureGrouping(spec *ebpf.CollectionSpec, g *labels.Grouping, monitored4 []countRange4, variables map[string]any) error {
	hostBits := g.HostBits()
	p.rest = g.Rest()
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
		at := countPlace4{First: subnets.Number4(place.First), Labels: labels}
		if base, ok := baseOf(monitored4, at.First, hostBits.V4); ok && place.Monitored {
			at.Base = base
			at.Labels |= placeIndexed
		}
		places4 = append(places4, at)
	}
	if max(len(places4), len(places6)) > maxPlaces {
		return fmt.Errorf("searching %d ranges of addresses: %w (there can be %d at most)",
			max(len(places4), len(places6)), errors.ErrUnsupported, maxPlaces)
	}
	var few [fewPlaces]countPlace4
	if len(places4) > fewPlaces {
		setTree(spec.Maps[countMapPlaces4], places4)
	} else {
		copy(few[:], places4)
	}
	setTree(spec.Maps[countMapPlaces6], places6)
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
	// A shift by 64 bits or more gives 0.
	mask6 := countAddress6{High: ^uint64(0) << max(0, hostBits.V6-64), Low: ^uint64(0) << hostBits.V6}
	maps.Copy(variables, map[string]any{
		countVarLabelsMask:      uint64(g.Mask()),
		countVarLabelsRest:      uint64(p.rest),
		countVarHostBits4:       uint32(hostBits.V4),
		countVarPrefixMask6:     mask6,
		countVarFewPlaces4:      few,
		countVarCountPlaces4:    uint32(len(places4)),
		countVarCountPlaces6:    uint32(len(places6)),
		countVarFirstSeries:     uint32(p.series.first),
		countVarSeriesCacheSize: uint32(cache),
		countVarFlowBits:        uint64(flowBits),
	})
	return nil
}

// baseOf returns the base of a monitored address: base + the upper bits of the address is its index. ok is false if it has no index.
func baseOf(ranges []countRange4, address uint32, hostBits int) (base uint32, ok bool) {
	for _, r := range ranges {
		if address-r.First <= r.Extent && r.Index != hashed {
			return r.Index - r.First>>hostBits, true
		}
	}
	return 0, false
}
