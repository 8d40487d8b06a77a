package kernel

import (
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
	for _, name := range []string{unused.ethernet, unused.network, unused.arriving, unusedLast} {
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

const xdpHasFrags = 1 << 5 // BPF_F_XDP_HAS_FRAGS of linux/bpf.h: the program takes frames of several buffers
