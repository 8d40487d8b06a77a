// Package ebpf counts the packets of a Linux interface inside the kernel, by the programs of package kernel: a socket filter on an AF_PACKET
// socket looks at what arrives and at what is sent, and passes no packet to the socket. The package needs the capabilities CAP_NET_RAW and
// CAP_BPF, and Linux 5.10.
//
// Interfaces with an Ethernet header (lo has one, too) get a raw socket. All others (tun, wireguard, ppp, IP tunnels) get a cooked one
// (SOCK_DGRAM): its frames begin at the network layer, and the kernel tells their protocol. Each source has both, of which one is bound.
// Binding it to another interface takes no privilege.
//
// Before Linux 6.9, a socket is charged for its program (net.core.optmem_max, 20 KiB), but not for programs that this one calls. Where the
// first program does not fit, the socket gets a tiny one that calls it.
//
// On real-time kernels (PREEMPT_RT) from 6.18 on, built without CONFIG_PREEMPT_RT_NEEDS_BH_LOCK, runs of a filter on one processor may
// interrupt each other. Counts are not exact there: use afpacket.
package ebpf
