// Package ebpf counts the packets of a Linux interface inside the kernel. An eBPF socket filter on an AF_PACKET socket adds up what each
// address moves. It passes no packet to the socket: none is copied, and none can be dropped. This process reads the totals at each scrape
// or push. The package needs the capabilities CAP_NET_RAW and CAP_BPF, and Linux 5.10.
//
// The C sources are in the folder c. "go generate" compiles them with clang, llvm and libbpf's headers; the committed objects are those of
// Debian 12's clang 14. The program follows the rules of the packages frame and capture. A test compares it with them frame by frame.
//
// # Differences from a ring
//
//   - Interfaces with an Ethernet header (lo has one, too) get a raw socket. All others (tun, wireguard, ppp, IP tunnels) get a cooked
//     one (SOCK_DGRAM): its frames begin at the network layer, and the kernel tells their protocol.
//   - The program sees the whole frame. No snap length cuts headers off.
//   - A filter learns the segment size of a merged packet, but not the kind of merging. It looks for the innermost transport header by
//     itself, through extension headers and up to two tunnels (IP in IP, GRE, VXLAN, Geneve). A merged frame in which it finds no TCP, UDP
//     or SCTP header is malformed, such as one of IPsec. It takes other tunnels in UDP (FOU, GUE, bare UDP) for UDP, and UDP that will be
//     fragmented for UDP that will be segmented: these count with UDP's headers only.
//   - Totals only grow. Each processor that is online at start adds to totals of its own, without atomic operations. Such a total has two
//     halves. If it is read between their updates, it may be too low until the next read. Processors that come later add to one shared row
//     by atomic operations. Its totals are whole, and so are the sums of outcomes.
//
// # Subnets and slots
//
// The program compares up to two ranges of each IP version one after the other, and searches a tree if there are more. Subnets that touch
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
// # Interfaces and programs
//
// One program counts for all interfaces. Each interface has a raw and a cooked socket, of which one is bound. Binding it to another
// interface takes no privilege.
//
// A frame goes through up to five different programs, two of which alternate for tunnels. The first one counts nearly all frames: see
// stages.h. There are several programs because verifiers give up at a million steps, and kernels without BTF cannot verify functions one by
// one. Before Linux 6.9, a socket is charged for its program (net.core.optmem_max, 20 KiB), but not for programs that this one calls. Where
// the first program does not fit, the socket gets a tiny one that calls it. No program has a loop: without CAP_PERFMON, old verifiers
// refuse them.
//
// A packet costs 13 to 14 ns with small IPv4 subnets, 16 in large ones, 31 for IPv6, and 44 if its VLAN tag is still in the frame. With
// labels it costs 16 ns if its flow is remembered, 25 to 30 if not, and 38 for IPv6. (go test -bench Count ./capture/backend/ebpf, on an
// idle Xeon virtual machine.) Half of the first number is the copy of the headers. With many addresses, waiting for memory takes most of
// the time.
//
// # Limits
//
//   - No 32-bit processor was tried.
//   - On real-time kernels (PREEMPT_RT) from 6.18 on, built without CONFIG_PREEMPT_RT_NEEDS_BH_LOCK, runs of a filter on one processor may
//     interrupt each other. Counts are not exact there: use afpacket.
package ebpf

//go:generate go tool bpf2go -type range4 -type range6 -type place6 -type range_limit -type no_slot -type slots_state -type line -type direction -type sum -type place_flag -type place_limit -type label_at -strip c/strip.sh -tags linux count c/count.c -- -mcpu=v2 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
