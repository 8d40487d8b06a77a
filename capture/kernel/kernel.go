// Package kernel counts the packets of Linux interfaces inside the kernel: eBPF programs add up what each address moves. None copies or
// queues a packet, and none can lose one. This process reads the totals at each scrape or push. The backends ebpf and xdp attach the
// programs: see Hooks. It needs the capability CAP_BPF, and Linux 5.10.
//
// The C sources are in the folder c. "go generate" compiles them with clang, llvm and libbpf's headers; the committed objects are those of
// Debian 12's clang 14. The programs follow the rules of the packages frame and capture. A test compares them with these frame by frame.
//
// # Differences from a ring
//
//   - The programs see the whole frame. No snap length cuts headers off.
//   - They learn the segment size of a merged packet, but not the kind of merging. They look for the innermost transport header by
//     themselves, through extension headers and up to two tunnels (IP in IP, GRE, VXLAN, Geneve). A merged frame in which they find no TCP,
//     UDP or SCTP header is malformed, such as one of IPsec. They take other tunnels in UDP (FOU, GUE, bare UDP) for UDP: these count with
//     UDP's headers only. UDP that will be fragmented they take for UDP that will be segmented, unless they can know: see
//     will_be_fragmented. In XDP nothing is merged yet.
//   - Totals only grow. Each processor that is online at start adds to totals of its own, without atomic operations. Such a total has two
//     halves. If it is read between their updates, it may be too low until the next read. Processors that come later add to one shared row
//     by atomic operations. Its totals are whole, and so are the sums of outcomes.
//
// # Subnets and slots
//
// A program compares up to two ranges of each IP version one after the other, and searches a tree if there are more. Subnets that touch
// are one range. Each monitored address has a slot for what it moves. The addresses of small IPv4 subnets have fixed slots, up to --max-ips
// addresses and 64 MiB. All others share --max-ips slots. A hash map of the kernel, one for each IP version, says which address has which
// shared slot. A table beside it finds nearly all of them with one load from memory. Maps and table are allocated at start, about 170 bytes
// for a shared slot. An address that finds no free slot counts as other. Then this process takes back the slots of expired addresses,
// without losing a packet: see evict.
//
// A slot takes 32 bytes for each processor that is online at start. Processors that come later share one more row, with atomic operations:
// a kernel may allow for 128 processors where there are two.
//
// With labels, a series is an address with one combination of labels, and has a slot of its own. Another hash map finds it. The combination
// without labels has the slot of the address. From 64 series of an address on, VLAN and interface become "other" for new ones; from 128 on,
// all labels do. A series that finds no free slot counts in the slot of its address.
//
// With labels or --aggregate, each processor remembers which IPv4 flows and which series it found last. Processors that come later do not.
// Programs for labels and prefixes (group_...) are apart from the plain ones (count_...), and only one kind is loaded.
//
// # Programs
//
// One program counts for all interfaces. A frame of a socket goes through up to five different programs, two of which alternate for
// tunnels. The first one counts nearly all frames: see stages.h. There are several programs because verifiers give up at a million steps,
// and kernels without BTF cannot verify functions one by one. No program has a loop: without CAP_PERFMON, old verifiers refuse them. In XDP
// there is one program, as nothing is merged; a driver that tells VLAN tags it has removed gets a copy of its own.
//
// Of a socket filter, a packet costs 13 to 14 ns with small IPv4 subnets, 16 in large ones, 31 for IPv6, and 44 if its VLAN tag is still in
// the frame. With labels it costs 16 ns if its flow is remembered, 25 to 30 if not, and 38 for IPv6. (go test -bench Count ./capture/kernel,
// on an idle Xeon virtual machine.) Half of the first number is the copy of the headers. With many addresses, waiting for memory takes most
// of the time.
//
// No 32-bit processor was tried.
package kernel

//go:generate go tool bpf2go -type range4 -type range6 -type place6 -type range_limit -type no_slot -type slots_state -type line -type direction -type sum -type place_flag -type station -type place_limit -type label_at -strip c/strip.sh -tags linux count c/count.c -- -mcpu=v2 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
