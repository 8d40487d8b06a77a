package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"promflow/capture"
	"promflow/capture/labels"
	"promflow/capture/socket"
)

// indexMemory is how many bytes the totals of indexed addresses may take, over all processors.
const indexMemory = 64 << 20

// knownPerAddress is how many bytes known has for each address that may have a slot. The more there are, the fewer other addresses need a
// search.
const knownPerAddress = 8

// foundPerAddress is how many entries found has for each address that may have a slot. The more there are, the fewer addresses find theirs
// taken.
const foundPerAddress = 2

// See slots.h.
const (
	lineBits    = int(countLineLINE_BITS)
	minLineBits = int(countLineNEIGHBOUR_BITS)
)

// slotSize is the size of a slot in a row, in bytes.
const slotSize = directions * 2 * int(unsafe.Sizeof(countHalf{}))

// Program is the eBPF programs in the kernel, and their maps. Some call each other: together they are one program.
type Program struct {
	Ethernet, Network Filter        // for frames that begin with an Ethernet header, and at the network layer; for tcx only Ethernet.Count
	Arriving          *ebpf.Program // for XDP; nil with Sockets

	// Maps of the kernel, mapped into memory. The filters write them while Go reads them. See totals.h and slots.h for their layout.
	sums       []countSize
	low, high  []countHalf
	sharedRow  []countSize
	owners     []countOwner
	found      []uint64
	known      []byte
	seed       uint64 // see hash_of
	knownBits  int
	addresses  []netip.Addr // that are indexed, in the order of their slots
	rows       int          // one for each processor that was online at start
	slots      int          // the slots of indexed addresses come first, then the pools
	shared     pool         // of all other addresses
	series     pool
	interfaces int
	stations   []uint64             // see mirror.h
	mtus       []uint64             // see segments.h
	withTags   *ebpf.CollectionSpec // see ArrivingWithTags

	slots4, slots6, interfaceSlots *ebpf.Map

	// Only where totals are kept apart by labels; see grouping.h.
	grouping         *labels.Grouping
	rest             labels.Values // of totals that no series has
	seriesOwners     []countSeriesOwner
	seriesCounts     []uint64
	interfaceNumbers []uint64
	generation       *ebpf.Variable // the current one, see flows.h

	seriesSlots *ebpf.Map

	sharesRow bool // processors may come later, and then share a row

	collection *ebpf.Collection
	mapped     [][]byte
	mapErr     error
}

// Filter is an eBPF program for sockets that counts, and a tiny one that only calls it. Every socket has room for the tiny one.
type Filter struct{ Count, Enter *ebpf.Program }

// AttachTo attaches a filter to a socket. If the socket has one, the new one takes its place between two packets.
func (f Filter) AttachTo(s *socket.Socket) error {
	// Before Linux 6.9, a socket is charged for its filter (net.core.optmem_max, 20 KiB), but not for the programs that the filter calls.
	err := unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.Count.FD())
	if errors.Is(err, unix.ENOMEM) {
		err = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.Enter.FD())
	}
	if err != nil {
		return fmt.Errorf("attaching a socket filter: %w", err)
	}
	return nil
}

// load loads the program into the kernel. It counts what c says, on up to so many interfaces at a time.
func load(c capture.Config, interfaces int, hooks Hooks) (*Program, error) {
	spec, err := loadCount()
	if err != nil {
		return nil, err
	}
	cpus, err := processors()
	if err != nil {
		return nil, err
	}
	return loadSpec(spec, c, interfaces, hooks, cpus)
}

func loadSpec(spec *ebpf.CollectionSpec, c capture.Config, interfaces int, hooks Hooks, cpus cpus) (*Program, error) {
	p := &Program{rows: cpus.online, interfaces: interfaces, grouping: c.Table.Grouping()}
	if err := p.configure(spec, c, hooks, cpus); err != nil {
		return nil, err
	}
	p.withTags = withTags(spec, p.grouping, hooks)
	chosen := chooseStages(spec, p.grouping, hooks)

	// Kernels before 5.11 limit the memory of maps and programs by the limit of locked memory.
	raiseLimit := func() error {
		return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	}
	if c.Changes && Before(5, 11) {
		_ = raiseLimit() // for the next program: then it may be forbidden
	}
	var err, memlockErr error
	p.collection, err = ebpf.NewCollection(spec)
	if errors.Is(err, os.ErrPermission) {
		memlockErr = raiseLimit()
		if memlockErr == nil {
			p.collection, err = ebpf.NewCollection(spec)
		}
	}
	if err != nil {
		return nil, explain(err, c.Table, hooks, memlockErr)
	}
	p.Ethernet = Filter{p.collection.Programs[chosen.ethernet], p.collection.Programs[countProgEnterEthernet]}
	p.Network = Filter{p.collection.Programs[chosen.network], p.collection.Programs[countProgEnterNetwork]}
	p.Arriving = p.collection.Programs[chosen.arriving]
	p.slots4, p.slots6 = p.collection.Maps[countMapSlots4], p.collection.Maps[countMapSlots6]
	p.interfaceSlots, p.seriesSlots = p.collection.Maps[countMapInterfaceSlots], p.collection.Maps[countMapSeriesSlots]
	p.shared.state, p.shared.free = p.collection.Variables[countVarFull], p.collection.Maps[countMapFreeSlots]
	p.series.state, p.series.free = p.collection.Variables[countVarSeriesFull], p.collection.Maps[countMapFreeSeries]
	p.generation = p.collection.Variables[countVarGeneration]
	if err := errors.Join(p.mapMemory(), p.freeAll()); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// mapMemory maps those maps into memory that Go reads or writes without a system call.
func (p *Program) mapMemory() error {
	p.sums = view[countSize](p, countMapSums)
	p.low = view[countHalf](p, countMapLow)
	p.high = view[countHalf](p, countMapHigh)
	p.sharedRow = view[countSize](p, countMapSharedRow)
	p.owners = view[countOwner](p, countMapOwners)
	p.known = view[byte](p, countMapKnown)
	p.found = view[uint64](p, countMapFound)
	p.seriesOwners = view[countSeriesOwner](p, countMapSeriesOwners)
	p.seriesCounts = view[uint64](p, countMapSeriesCounts)
	p.interfaceNumbers = view[uint64](p, countMapInterfaceNumbers)
	p.stations = view[uint64](p, countMapStations)
	p.mtus = view[uint64](p, countMapMtus)
	return p.mapErr
}

// freeAll frees the slots of all pools. Programs will take the lowest slots first.
func (p *Program) freeAll() error {
	for _, each := range p.pools() {
		for slot := each.end - 1; slot >= each.first; slot-- {
			if err := each.free.Put(nil, uint32(slot)); err != nil {
				return fmt.Errorf("filling the kernel's map of free slots: %w", err)
			}
		}
	}
	return nil
}

// configure fills in what the program is to count, and the sizes and contents of its maps.
func (p *Program) configure(spec *ebpf.CollectionSpec, c capture.Config, hooks Hooks, cpus cpus) error {
	limit, g, hostBits := c.Table.Limit(), p.grouping, 0
	if g != nil {
		hostBits = g.HostBits().V4
	}
	maxIndexed := min(limit, indexMemory/p.rows/slotSize)
	in := c.Table.Subnets()
	monitored4, indexed := ranges4(in.Monitored, uint32(maxIndexed), hostBits)
	excluded4, _ := ranges4(in.Excluded, 0, 0)
	monitored6, excluded6 := ranges6(in.Monitored), ranges6(in.Excluded)

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
	p.shared.first, p.shared.end = len(p.addresses), len(p.addresses)
	p.seed, p.knownBits = rand.Uint64(), bits.Len(uint(knownPerAddress*limit-1))
	foundBits := max(minLineBits+lineBits, bits.Len(uint(foundPerAddress*limit-1)))
	if share {
		p.shared.end += limit
		spec.Maps[countMapFreeSlots].MaxEntries = uint32(limit)
		spec.Maps[countMapOwners].MaxEntries = uint32(limit)
		spec.Maps[countMapKnown].MaxEntries = uint32(1 << p.knownBits / int(unsafe.Sizeof(countPlaces{})))
		spec.Maps[countMapFound].MaxEntries = 1 << foundBits
	}
	p.series.first, p.series.end = p.shared.end, p.shared.end
	if g != nil && g.Mask() != 0 {
		p.series.end += c.Table.SeriesLimit()
	}
	p.slots = p.series.end
	if int64(p.rows*directions)*int64(p.slots) > math.MaxInt32 {
		return noRoom(c.Table, unix.E2BIG)
	}
	if len(monitored6) > 0 {
		spec.Maps[countMapSlots6].MaxEntries = uint32(limit)
	}
	spec.Maps[countMapSums].MaxEntries = uint32((p.rows + 1) * p.interfaces * sums)
	spec.Maps[countMapInterfaceSlots].MaxEntries = uint32(p.interfaces)
	spec.Maps[countMapMtus].MaxEntries = uint32(p.interfaces)
	for _, name := range []string{countMapLow, countMapHigh} {
		spec.Maps[name].MaxEntries = uint32(max(1, p.rows*directions*p.slots))
	}
	if p.sharesRow = cpus.possible > p.rows; p.sharesRow {
		spec.Maps[countMapSharedRow].MaxEntries = uint32(max(1, directions*p.slots))
	}
	variables := map[string]any{
		countVarMonitored4:  constants[uint32](monitored4, spec.Maps[countMapMoreMonitored4]),
		countVarExcluded4:   constants[uint32](excluded4, spec.Maps[countMapMoreExcluded4]),
		countVarMonitored6:  constants[uint64](monitored6, spec.Maps[countMapMoreMonitored6]),
		countVarExcluded6:   constants[uint64](excluded6, spec.Maps[countMapMoreExcluded6]),
		countVarInterfaces:  uint32(p.interfaces),
		countVarSlots:       uint32(p.slots),
		countVarFirstShared: uint32(len(p.addresses)),
		countVarKnownShift:  uint64(64 - p.knownBits),
		countVarLineShift:   uint64(64 - (foundBits - lineBits)),
		countVarSeed:        p.seed,
		countVarSeed4:       p.seed*golden ^ p.seed,
		countVarRows:        uint32(p.rows),
		countVarTwoStores:   twoStores,
	}
	if c.Mirror {
		variables[countVarMirror] = uint32(1)
	}
	if hooks != Sockets {
		spec.Maps[countMapStations].MaxEntries = uint32(p.interfaces)
	}
	maps.Copy(variables, hooks.variables())
	if g != nil {
		if err := p.configureGrouping(spec, g, monitored4, variables); err != nil {
			return err
		}
	}
	for name, value := range variables {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// view maps the values of an array map into memory, none if the program has no such map. It stores an error in mapErr.
func view[T any](p *Program, name string) []T {
	m := p.collection.Maps[name]
	if m == nil || p.mapErr != nil {
		return nil
	}
	mem, err := unix.Mmap(m.FD(), 0, int(m.MaxEntries())*int(m.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		p.mapErr = fmt.Errorf("mapping the kernel's map %s: %w", name, err)
		return nil
	}
	p.mapped = append(p.mapped, mem)
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), len(mem)/int(unsafe.Sizeof(*new(T))))
}

// tellIndex tells the program that the interface with an index, 0 for none, has a number.
func (p *Program) tellIndex(index uint32, number int) error {
	if index == 0 {
		return nil
	}
	if err := p.interfaceSlots.Put(index, uint32(number)); err != nil {
		return fmt.Errorf("telling the eBPF program about an interface: %w", err)
	}
	return nil
}

// describe tells the program the MTU, the name and the MAC address of the interface with a number.
func (p *Program) describe(number int, of capture.Interface) {
	atomic.StoreUint64(&p.mtus[number], mtuOf(of))
	if p.interfaceNumbers != nil {
		atomic.StoreUint64(&p.interfaceNumbers[number], uint64(p.grouping.InterfaceNumber(of.Name)))
	}
	if p.stations != nil {
		atomic.StoreUint64(&p.stations[number], stationOf(of))
	}
}

// mtuOf returns what segments.h compares merged UDP with. Before Linux 6.2, which brought VIRTIO_NET_HDR_GSO_UDP_L4, virtual machines can
// send merged UDP only to be fragmented.
func mtuOf(i capture.Interface) uint64 {
	if Before(6, 2) {
		return noUSO
	}
	return uint64(max(i.MTU, 0))
}

const noUSO = 1

// stationOf returns what mirror.h compares the destination of a frame with: the MAC address in words of 16 and 32 bits, as they are in memory.
func stationOf(i capture.Interface) uint64 {
	if i.Shared != "" {
		return everybody
	}
	return uint64(binary.NativeEndian.Uint16(i.Address[:]))<<32 | uint64(binary.NativeEndian.Uint32(i.Address[2:]))
}

const everybody = uint64(countStationEVERYBODY)

// releaseInterface takes its number from the interface with an index, unless the interface has another number by now.
func (p *Program) releaseInterface(index uint32, number int) error {
	var now uint32
	err := p.interfaceSlots.Lookup(index, &now)
	if err == nil && now == uint32(number) {
		err = p.interfaceSlots.Delete(index)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// close removes the program from the kernel, if no socket has it any more.
func (p *Program) close() error {
	var errs []error
	for _, mem := range p.mapped {
		errs = append(errs, unix.Munmap(mem))
	}
	p.collection.Close()
	return errors.Join(errs...)
}
