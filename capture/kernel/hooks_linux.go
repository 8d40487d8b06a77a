package kernel

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"

	"promflow/capture/labels"
)

// Hooks says where in the kernel a program counts.
type Hooks int

const (
	Sockets       Hooks = iota // filters of packet sockets see what arrives and what is sent
	XDPAndTCX                  // XDP sees what arrives, tcx what is sent
	XDPAndSockets              // XDP sees what arrives, filters of packet sockets what is sent
)

// variables returns what programs have to know of their hooks.
func (h Hooks) variables() map[string]any {
	const tcxNext = -1 // TCX_NEXT of linux/bpf.h
	v := map[string]any{}
	switch h {
	case XDPAndTCX:
		v[countVarDone] = int32(tcxNext)
	case XDPAndSockets:
		v[countVarOnlySent] = uint32(1)
	}
	if h != Sockets && !Before(5, 18) {
		v[countVarSeveral] = uint32(1)
	}
	return v
}

// chosen has the names of the programs that packets come to first.
type chosen struct{ ethernet, network, arriving string }

// chooseStages deletes from a spec what a grouping and the hooks do not need, and fills the map by which the programs call each other.
func chooseStages(spec *ebpf.CollectionSpec, g *labels.Grouping, h Hooks) chosen {
	plain := chosen{countProgCountEthernet, countProgCountNetwork, countProgCountArriving}
	grouped := chosen{countProgGroupEthernet, countProgGroupNetwork, countProgGroupArriving}
	first, last, unused, unusedLast := plain, countProgCountAny, grouped, countProgGroupAny
	if g != nil {
		first, last, unused, unusedLast = unused, unusedLast, first, last
	} else {
		for _, name := range []string{countMapPlaces4, countMapPlaces6, countMapInterfaceNumbers, countMapSeriesSlots, countMapFreeSeries,
			countMapSeriesOwners, countMapSeriesCounts, countMapSeriesCache, countMapFlows} {
			delete(spec.Maps, name)
		}
	}
	for _, name := range []string{unused.ethernet, unused.network, unused.arriving, unusedLast, countProgGroupArrivingWithTags} {
		delete(spec.Programs, name)
	}
	switch h {
	case Sockets:
		delete(spec.Programs, first.arriving)
		delete(spec.Maps, countMapStations)
	case XDPAndTCX:
		delete(spec.Programs, countProgEnterEthernet)
		delete(spec.Programs, countProgEnterNetwork)
		for _, p := range spec.Programs {
			if p.Type == ebpf.SocketFilter {
				p.Type, p.AttachType = ebpf.SchedCLS, ebpf.AttachTCXEgress
			}
		}
	}
	if h != Sockets && !Before(5, 18) {
		spec.Programs[first.arriving].Flags |= xdpHasFrags
	}
	// In the order of enum stage in stages.h.
	for i, name := range []string{first.ethernet, first.network, countProgStripAny, countProgMergedAny, last} {
		spec.Maps[countMapStages].Contents = append(spec.Maps[countMapStages].Contents, ebpf.MapKV{Key: uint32(i), Value: name})
	}
	return first
}

// withTags returns a spec of the program that asks the driver for VLAN tags that it has removed, or nil if nobody asks for these or the kernel
// is older than Linux 6.8.
func withTags(spec *ebpf.CollectionSpec, g *labels.Grouping, h Hooks) *ebpf.CollectionSpec {
	if g == nil || !g.Labels().Has(labels.VLAN) || h == Sockets || Before(6, 8) {
		return nil
	}
	spec = spec.Copy()
	p := spec.Programs[countProgGroupArrivingWithTags]
	p.Flags |= xdpHasFrags | xdpDevBoundOnly
	p.License = "GPL" // the sources may be used under it, too: the kernel asks for it
	spec.Programs = map[string]*ebpf.ProgramSpec{countProgGroupArrivingWithTags: p}
	delete(spec.Maps, countMapStages)
	return spec
}

// AsksForTags tells whether there is ArrivingWithTags: a label needs it, and the kernel is Linux 6.8 or later.
func (p *Program) AsksForTags() bool { return p.withTags != nil }

// ArrivingWithTags loads a program for XDP on one interface, which asks the driver for VLAN tags that it has removed. It shares the maps. It
// needs the capabilities with which the program was loaded.
func (p *Program) ArrivingWithTags(index int) (*ebpf.Program, error) {
	spec := p.withTags.Copy()
	spec.Programs[countProgGroupArrivingWithTags].Ifindex = uint32(index)
	shared := maps.Clone(p.collection.Maps)
	delete(shared, countMapStages) // the kernel refuses programs for one interface that call others
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, fmt.Errorf("loading an XDP program for one interface: %w", err)
	}
	defer c.Close()
	return c.DetachProgram(countProgGroupArrivingWithTags), nil
}

const xdpDevBoundOnly = 1 << 6 // BPF_F_XDP_DEV_BOUND_ONLY of linux/bpf.h: the program runs on one interface only

const xdpHasFrags = 1 << 5 // BPF_F_XDP_HAS_FRAGS of linux/bpf.h: the program takes frames of several buffers
