package ebpf

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"promflow/capture"
)

// As in grouping.h and subnets.h.
const (
	fewPlaces = 8
	maxPlaces = 1 << 16 // that can be searched in so many steps
)

// maxSeriesCache is how many series a processor finds again without a search: 1.5 MiB, which fit in most second-level caches.
const maxSeriesCache = 1 << 16

// choose leaves of a spec what a grouping needs, and gives the names of its programs.
func choose(spec *ebpf.CollectionSpec, g *capture.Grouping) (ethernet, network string) {
	if g != nil {
		delete(spec.Programs, countProgCountEthernet)
		delete(spec.Programs, countProgCountNetwork)
		return countProgGroupEthernet, countProgGroupNetwork
	}
	delete(spec.Programs, countProgGroupEthernet)
	delete(spec.Programs, countProgGroupNetwork)
	for _, name := range []string{countMapPlaces4, countMapPlaces6, countMapInterfaceNumbers, countMapSeriesSlots, countMapFreeSeries,
		countMapSeriesOwners, countMapSeriesCounts, countMapSeriesCache} {
		delete(spec.Maps, name)
	}
	return countProgCountEthernet, countProgCountNetwork
}

// group fills in by what the program is to keep totals, where it is not by the single addresses of ranges alone.
func (p *program) group(spec *ebpf.CollectionSpec, g *capture.Grouping, monitored4 []countRange4) error {
	hostBits := g.HostBits()
	var places4 []countPlace4
	var places6 []countPlace6
	for _, place := range g.Places() {
		if place.First.Is4() {
			at := countPlace4{First: number4(place.First), Index: nowhere, Network: place.Network, Peer: place.Peer}
			if place.Broadcast {
				at.Broadcast = 1
			}
			if place.Monitored {
				at.Index = indexOf(monitored4, at.First, hostBits.V4)
			}
			places4 = append(places4, at)
			continue
		}
		at := countPlace6{First: number6(place.First), Network: place.Network, Peer: place.Peer}
		if place.Monitored {
			at.Monitored = 1
		}
		places6 = append(places6, at)
	}
	if max(len(places4), len(places6)) > maxPlaces {
		return fmt.Errorf("searching %d ranges of addresses: %w (there can be %d)", max(len(places4), len(places6)), errors.ErrUnsupported, maxPlaces)
	}
	var few [fewPlaces]countPlace4
	if len(places4) > fewPlaces {
		fill(spec.Maps[countMapPlaces4], places4)
	} else {
		copy(few[:], places4)
	}
	fill(spec.Maps[countMapPlaces6], places6)
	spec.Maps[countMapInterfaceNumbers].MaxEntries = uint32(p.interfaces)
	cache := 1
	if series := p.slots - p.firstSeries; series > 0 {
		cache = 1 << bits.Len(uint(min(max(1, p.firstSeries), maxSeriesCache)-1))
		for _, name := range []string{countMapSeriesSlots, countMapFreeSeries, countMapSeriesOwners} {
			spec.Maps[name].MaxEntries = uint32(series)
		}
		spec.Maps[countMapSeriesCache].MaxEntries = uint32(p.cpus * cache)
		spec.Maps[countMapSeriesCounts].MaxEntries = uint32(max(1, p.firstSeries))
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
		countVarFirstSeries:     uint32(p.firstSeries),
		countVarSeriesCacheSize: uint32(cache),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// indexOf gives the index of a monitored address.
func indexOf(ranges []countRange4, address uint32, hostBits int) uint32 {
	for _, r := range ranges {
		if address-r.First <= r.Extent && r.Index != hashed {
			return r.Index + address>>hostBits - r.First>>hostBits
		}
	}
	return hashed
}

func (p *program) hasSeries() bool { return p.firstSeries < p.slots }

// seriesOf gives the slot of the address that a series is of, and its labels; owned is false if it is nobody's.
func (p *program) seriesOf(slot int) (of int, labels capture.Labels, owned bool) {
	o := &p.seriesOwners[slot-p.firstSeries]
	address := atomic.LoadUint64(&o.Owned)
	return int(address) - 1, capture.Labels(o.Labels), address != 0
}
