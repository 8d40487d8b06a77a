// Package ebpf counts the packets of a Linux interface inside the kernel: an eBPF socket filter on an AF_PACKET socket adds
// up what each address moves and keeps no packet, so that none is copied and none can be dropped. This process reads the
// totals when somebody asks for them. It needs the capabilities CAP_NET_RAW and CAP_BPF, and Linux 5.10.
//
// The program is count.c and the headers beside it; "go generate" compiles it, with clang, llvm and libbpf's headers (the committed
// objects are those of Debian 12's clang 14). It does what packages frame and capture say, as the tests show frame by frame.
// What differs from a ring:
//
//   - Frames of interfaces with an Ethernet header (lo has one, too) begin with it. All others (tun, wireguard, ppp, ip tunnels)
//     get a cooked socket (SOCK_DGRAM), whose frames begin at the network layer, with the protocol that the kernel says.
//   - All of a frame is there: no snap length cuts headers off.
//   - A filter is told the size of merged packets, but not how they are merged: it looks for the innermost transport header
//     itself, through extension headers and up to two tunnels of the kinds IP in IP, GRE, VXLAN and Geneve. Merged frames
//     without TCP, UDP or SCTP in there, such as IPsec's, are malformed. It cannot know other tunnels in UDP (FOU, GUE, bare UDP)
//     from UDP, nor UDP that is to be fragmented from UDP that is to be segmented: these count with UDP's headers only.
//   - Totals are written by one processor at a time without atomic operations, and only grow. What is read in two halves while they
//     are being written may be too little, which the next read makes good.
//
// Up to two IPv4 and two IPv6 ranges, once subnets that touch are joined, are compared in line; more are searched. An address has a
// slot for what it moves: those of small IPv4 subnets a fixed one, as far as --max-ips and 64 MiB go; all others share as many as
// --max-ips says. A hash map of the kernel decides who has which of these, and a table of places beside it finds nearly all with one
// load. Both are allocated at start, about 170 bytes for a shared slot. An address that finds no free slot counts as other. Then slots of
// addresses that have expired are taken back, without losing a packet: see evict.
//
// A slot takes 32 bytes of each processor that is online at the start. Processors that come later share one more row, with atomic
// operations: a kernel may allow for 128 where there are two.
//
// Where totals are kept apart by labels, a combination of an address' labels has a slot, too, which another hash map finds by the
// address' slot and the labels; a processor remembers where it has found which. What has no room counts in the address' slot. That, and
// counting by prefixes, is in programs of its own (group_...): only these or the plain ones (count_...) are loaded.
//
// One program counts for all interfaces. Each has two sockets, a raw and a cooked one, of which one is bound; bound anew, they
// count on another interface, and that takes no privilege.
//
// A frame goes through up to five kinds of programs, of which the first counts nearly all: see stages.h. That is for verifiers, which give
// up at a million steps, and for kernels without BTF, which have no functions that are verified one by one. A socket is charged for its
// program (net.core.optmem_max, 20 KiB before Linux 6.9), but not for those that it goes on to: where there is no room for the first, it
// has one that only goes on to that. No loop is left, at which old verifiers fail for who lacks CAP_PERFMON.
//
// Processors of 32 bits were never tried.
//
// A packet costs 14 to 16 ns with small IPv4 subnets, 20 in large ones, 34 for IPv6, and 49 in a VLAN whose tag is still in the frame; with
// labels 20 to 41 (go test -bench Count ./capture/backend/ebpf, on an idle Xeon virtual machine). Half of the first is the copy of its
// headers. With many addresses it is memory that takes the time.
package ebpf

import "promflow/capture"

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "ebpf", Capabilities: "cap_net_raw,cap_bpf", Open: open}

//go:generate go tool bpf2go -strip c/strip.sh -tags linux count c/count.c -- -mcpu=v2 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
