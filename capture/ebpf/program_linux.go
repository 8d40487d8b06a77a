package ebpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"promflow/capture"
)

// indexMemory is how many bytes the totals of indexed addresses may take, over all processors.
const indexMemory = 64 << 20

// program is the socket filter in the kernel, and its maps.
type program struct {
	filter         *ebpf.Program
	hosts4, hosts6 *ebpf.Map

	// What the program writes while we read it, through maps that are mapped into memory. For what is where, see totals.h.
	sums      []countSize
	low, high []countHalf
	addresses []netip.Addr // that are indexed, in the order of what they moved

	collection *ebpf.Collection
	mapped     [][]byte
}

// load puts the program into the kernel that counts what the counter is to count. With ethernet, frames begin with an
// Ethernet header, else at the network layer.
func load(counter *capture.Counter, ethernet bool) (*program, error) {
	spec, err := loadCount()
	if err != nil {
		return nil, err
	}
	return loadSpec(spec, counter, ethernet)
}

func loadSpec(spec *ebpf.CollectionSpec, counter *capture.Counter, ethernet bool) (*program, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("counting processors: %w", err)
	}
	name, unused := countProgCountEthernet, countProgCountNetwork
	if !ethernet {
		name, unused = unused, name
	}
	delete(spec.Programs, unused)
	addresses, err := configure(spec, counter, cpus)
	if err != nil {
		return nil, err
	}

	collection, err := ebpf.NewCollection(spec)
	var memlockErr error
	if errors.Is(err, os.ErrPermission) {
		// Kernels before 5.11 have a limit here.
		memlockErr = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
		if memlockErr == nil {
			collection, err = ebpf.NewCollection(spec)
		}
	}
	if err != nil {
		return nil, explain(err, counter.Limit(), memlockErr)
	}
	p := &program{
		filter:     collection.Programs[name],
		hosts4:     collection.Maps[countMapHosts4],
		hosts6:     collection.Maps[countMapHosts6],
		addresses:  addresses,
		collection: collection,
	}
	var errs [3]error
	p.sums, errs[0] = view[countSize](p, countMapSums, cpus*sums)
	p.low, errs[1] = view[countHalf](p, countMapIndexedLow, cpus*directions*len(addresses))
	p.high, errs[2] = view[countHalf](p, countMapIndexedHigh, cpus*directions*len(addresses))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// configure fills in what the program is to count, and what its maps are to hold. It returns the indexed addresses.
func configure(spec *ebpf.CollectionSpec, counter *capture.Counter, cpus int) ([]netip.Addr, error) {
	limit := counter.Limit()
	room := min(limit, indexMemory/cpus/int(unsafe.Sizeof(countTotals{})))
	monitored4, indexed := ranges4(counter.Monitored(), uint32(room))
	excluded4, _ := ranges4(counter.Excluded(), 0)
	monitored6, excluded6 := ranges6(counter.Monitored()), ranges6(counter.Excluded())

	for name, value := range map[string]any{
		countVarMonitored4:   few4(monitored4),
		countVarExcluded4:    few4(excluded4),
		countVarMonitored6:   few6(monitored6),
		countVarExcluded6:    few6(excluded6),
		countVarIndexedCount: indexed,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("setting %s: %w", name, err)
		}
	}
	more(spec.Maps[countMapMoreMonitored4], monitored4)
	more(spec.Maps[countMapMoreExcluded4], excluded4)
	more(spec.Maps[countMapMoreMonitored6], monitored6)
	more(spec.Maps[countMapMoreExcluded6], excluded6)

	spec.Maps[countMapSums].MaxEntries = uint32(cpus) * sums
	for _, name := range []string{countMapIndexedLow, countMapIndexedHigh} {
		spec.Maps[name].MaxEntries = max(1, uint32(cpus)*directions*indexed)
	}
	addresses := make([]netip.Addr, indexed)
	for _, r := range monitored4 {
		if r.Index == hashed {
			spec.Maps[countMapHosts4].MaxEntries = uint32(limit)
			continue
		}
		for i := range r.Extent + 1 {
			addresses[r.Index+i] = address4(r.First + i)
		}
	}
	if len(monitored6) > 0 {
		spec.Maps[countMapHosts6].MaxEntries = uint32(limit)
	}
	return addresses, nil
}

// view maps the values of an array map into memory, to be read.
func view[T any](p *program, name string, count int) ([]T, error) {
	if count == 0 {
		return nil, nil
	}
	m := p.collection.Maps[name]
	mem, err := unix.Mmap(m.FD(), 0, count*int(unsafe.Sizeof(*new(T))), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the kernel's map %s: %w", name, err)
	}
	p.mapped = append(p.mapped, mem)
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), count), nil
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
