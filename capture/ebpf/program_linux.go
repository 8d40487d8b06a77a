package ebpf

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"promflow/capture"
)

// indexMemory is how many bytes the totals of indexed addresses may take, over all processors.
const indexMemory = 64 << 20

// knownPlaces is how many places there are in known for each address that may have a slot: so many others are spared a search.
const knownPlaces = 8

// slotSize is how many bytes a slot takes of a processor's.
const slotSize = directions * 2 * int(unsafe.Sizeof(countHalf{}))

// program is the socket filters in the kernel, and their maps.
type program struct {
	ethernet, network *ebpf.Program // for frames that begin with an Ethernet header, and at the network layer

	// What the filters write while we read it, through maps that are mapped into memory. For what is where, see totals.h.
	sums       []countSize
	low, high  []countHalf
	owners     []countOwner
	known      []byte
	knownSeed  uint64 // see known_place
	knownBits  int
	addresses  []netip.Addr // that are indexed, in the order of their slots
	full       *ebpf.Variable
	cpus       int
	slots      int
	interfaces int

	slots4, slots6, freeSlots, interfaceSlots *ebpf.Map

	// Only where totals are kept apart by labels; see grouping.h.
	firstSeries      int // of slots; all of them if there are no series
	seriesOwners     []countSeriesOwner
	seriesCounts     []uint64
	interfaceNumbers []uint64
	seriesFull       *ebpf.Variable
	generation       *ebpf.Variable // of what series_cache has

	seriesSlots, freeSeries *ebpf.Map

	collection *ebpf.Collection
	mapped     [][]byte
}

// load puts the program into the kernel that counts what c says, on so many interfaces at a time.
func load(c capture.Config, interfaces int) (*program, error) {
	spec, err := loadCount()
	if err != nil {
		return nil, err
	}
	return loadSpec(spec, c, interfaces)
}

func loadSpec(spec *ebpf.CollectionSpec, c capture.Config, interfaces int) (*program, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("counting processors: %w", err)
	}
	p := &program{cpus: cpus, interfaces: interfaces}
	if err := p.configure(spec, c); err != nil {
		return nil, err
	}
	g := c.Table.Grouping()
	ethernet, network := choose(spec, g)

	p.collection, err = ebpf.NewCollection(spec)
	var memlockErr error
	if errors.Is(err, os.ErrPermission) {
		// Kernels before 5.11 have a limit here.
		memlockErr = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
		if memlockErr == nil {
			p.collection, err = ebpf.NewCollection(spec)
		}
	}
	if err != nil {
		return nil, explain(err, c.Table, memlockErr)
	}
	p.ethernet, p.network = p.collection.Programs[ethernet], p.collection.Programs[network]
	p.slots4, p.slots6 = p.collection.Maps[countMapSlots4], p.collection.Maps[countMapSlots6]
	p.freeSlots, p.interfaceSlots = p.collection.Maps[countMapFreeSlots], p.collection.Maps[countMapInterfaceSlots]
	p.full = p.collection.Variables[countVarFull]
	p.seriesSlots, p.freeSeries = p.collection.Maps[countMapSeriesSlots], p.collection.Maps[countMapFreeSeries]
	p.seriesFull, p.generation = p.collection.Variables[countVarSeriesFull], p.collection.Variables[countVarSeriesGeneration]
	var errs [9]error
	p.sums, errs[0] = view[countSize](p, countMapSums, cpus*interfaces*sums)
	p.low, errs[1] = view[countHalf](p, countMapLow, cpus*directions*p.slots)
	p.high, errs[2] = view[countHalf](p, countMapHigh, cpus*directions*p.slots)
	p.owners, errs[3] = view[countOwner](p, countMapOwners, p.firstSeries-len(p.addresses))
	if p.firstSeries > len(p.addresses) {
		p.known, errs[4] = view[byte](p, countMapKnown, 1<<p.knownBits)
	}
	errs[5] = p.free(p.freeSlots, len(p.addresses), p.firstSeries)
	if p.hasSeries() {
		p.seriesOwners, errs[6] = view[countSeriesOwner](p, countMapSeriesOwners, p.slots-p.firstSeries)
		p.seriesCounts, errs[7] = view[uint64](p, countMapSeriesCounts, p.firstSeries)
		errs[8] = p.free(p.freeSeries, p.firstSeries, p.slots)
	}
	if g != nil {
		var err error
		p.interfaceNumbers, err = view[uint64](p, countMapInterfaceNumbers, interfaces)
		errs[6] = errors.Join(errs[6], err)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// configure fills in what the program is to count, and what its maps are to hold.
func (p *program) configure(spec *ebpf.CollectionSpec, c capture.Config) error {
	limit, g, hostBits := c.Table.Limit(), c.Table.Grouping(), 0
	if g != nil {
		hostBits = g.HostBits().V4
	}
	room := min(limit, indexMemory/p.cpus/slotSize)
	monitored4, indexed := ranges4(c.Monitored, uint32(room), hostBits)
	excluded4, _ := ranges4(c.Excluded, 0, 0)
	monitored6, excluded6 := ranges6(c.Monitored), ranges6(c.Excluded)

	p.addresses = make([]netip.Addr, indexed)
	share := len(monitored6) > 0
	for _, r := range monitored4 {
		if r.Index == hashed {
			share = true
			spec.Maps[countMapSlots4].MaxEntries = uint32(limit)
			continue
		}
		for i := range prefixes4(r, hostBits) {
			p.addresses[r.Index+i] = address4((r.First>>hostBits + i) << hostBits)
		}
	}
	p.firstSeries = len(p.addresses)
	if share {
		p.firstSeries += limit
		spec.Maps[countMapFreeSlots].MaxEntries = uint32(limit)
		spec.Maps[countMapOwners].MaxEntries = uint32(limit)
	}
	p.slots = p.firstSeries
	if g != nil && g.Mask() != 0 {
		p.slots += c.Table.SeriesLimit()
	}
	if int64(p.cpus)*directions*int64(p.slots) > math.MaxInt32 {
		return noRoom(c.Table, unix.E2BIG)
	}
	if len(monitored6) > 0 {
		spec.Maps[countMapSlots6].MaxEntries = uint32(limit)
	}
	p.knownSeed, p.knownBits = rand.Uint64(), bits.Len(uint(knownPlaces*limit-1))
	spec.Maps[countMapKnown].MaxEntries = uint32(1 << p.knownBits / int(unsafe.Sizeof(countPlaces{})))
	spec.Maps[countMapSums].MaxEntries = uint32(p.cpus * p.interfaces * sums)
	spec.Maps[countMapInterfaceSlots].MaxEntries = uint32(p.interfaces)
	for _, name := range []string{countMapLow, countMapHigh} {
		spec.Maps[name].MaxEntries = uint32(max(1, p.cpus*directions*p.slots))
	}
	more(spec.Maps[countMapMoreMonitored4], monitored4)
	more(spec.Maps[countMapMoreExcluded4], excluded4)
	more(spec.Maps[countMapMoreMonitored6], monitored6)
	more(spec.Maps[countMapMoreExcluded6], excluded6)

	for name, value := range map[string]any{
		countVarMonitored4:  few4(monitored4),
		countVarExcluded4:   few4(excluded4),
		countVarMonitored6:  few6(monitored6),
		countVarExcluded6:   few6(excluded6),
		countVarInterfaces:  uint32(p.interfaces),
		countVarSlots:       uint32(p.slots),
		countVarFirstShared: uint32(len(p.addresses)),
		countVarKnownBits:   uint32(p.knownBits),
		countVarKnownSeed:   p.knownSeed,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	if g == nil {
		return nil
	}
	return p.group(spec, g, monitored4)
}

// free makes the slots from first on free, so that the first comes first.
func (p *program) free(stack *ebpf.Map, first, end int) error {
	for slot := end - 1; slot >= first; slot-- {
		if err := stack.Put(nil, uint32(slot)); err != nil {
			return fmt.Errorf("filling the kernel's map of free slots: %w", err)
		}
	}
	return nil
}

// view maps the values of an array map into memory.
func view[T any](p *program, name string, count int) ([]T, error) {
	if count == 0 {
		return nil, nil
	}
	m := p.collection.Maps[name]
	mem, err := unix.Mmap(m.FD(), 0, count*int(unsafe.Sizeof(*new(T))), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the kernel's map %s: %w", name, err)
	}
	p.mapped = append(p.mapped, mem)
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), count), nil
}

// release takes note that the interface of an index has no place among the interfaces any more, unless it is another's by now.
func (p *program) release(index uint32, slot int) error {
	var of uint32
	err := p.interfaceSlots.Lookup(index, &of)
	if err == nil && of == uint32(slot) {
		err = p.interfaceSlots.Delete(index)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// close takes the program out of the kernel, if no socket has it any more.
func (p *program) close() error {
	var errs []error
	for _, mem := range p.mapped {
		errs = append(errs, unix.Munmap(mem))
	}
	p.collection.Close()
	return errors.Join(errs...)
}
