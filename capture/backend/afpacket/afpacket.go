// Package afpacket counts the packets of a Linux interface in user space, from a memory-mapped AF_PACKET ring (TPACKET_V3,
// packet(7) and Documentation/networking/packet_mmap.rst). It needs the capability CAP_NET_RAW and Linux 4.6, on lo 4.20; it was
// tried from 5.10 on.
//
// The kernel copies the first [SnapLen] bytes of every frame, which is room for the headers, into the ring's blocks, and
// wakes the reader once a block is full or old: what a packet costs here is its decoding and no system call. So the page
// lags behind the wire by at most two of the ring's retire timeouts.
//
//   - Where the interface has an Ethernet header (lo has one, too), frames are decoded from it. On all others (tun, whatever type
//     it was given, wireguard, ppp, ip tunnels) the network layer begins where the kernel says, with the protocol that it says.
//   - A VLAN tag that the kernel took out of the frame is no longer in its bytes; as link headers are not counted, nothing
//     is missing.
//   - A merged segment (GSO, GRO, BIG TCP) comes with a virtio_net_hdr that says the size of its packets. The kernel has
//     such a header for TCP and UDP only: what else is merged, such as SCTP, it drops at the socket and counts as dropped.
//   - On lo a socket sees each packet when it is sent and when it is received: only the latter is asked for.
//   - Packets for which the ring had no room are dropped by the kernel, which counts them.
package afpacket

import "promflow/capture"

// Backend is the list entry of this package.
var Backend = capture.Backend{Name: "afpacket", Capabilities: "cap_net_raw", Open: open}

// SnapLen is how many bytes of a frame are looked at: link headers with two VLAN tags and a tunnel over IPv6 with the TCP
// header in it fit.
const SnapLen = 192
