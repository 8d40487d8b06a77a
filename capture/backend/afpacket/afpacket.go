// Package afpacket counts the packets of a Linux interface in user space, from a memory-mapped AF_PACKET ring (TPACKET_V3,
// packet(7) and Documentation/networking/packet_mmap.rst). It needs the capability CAP_NET_RAW and Linux 4.6, on lo 4.20. It was
// tested from 5.10 on.
//
// The kernel copies the first [SnapLen] bytes of every frame, which is room for the headers, into the ring's blocks. It wakes the reader
// once a block is full or old, so that a packet costs its decoding and no system call. Totals lag behind the wire by up to two retire
// timeouts of the ring.
//
//   - Frames with an Ethernet header (on lo, too) are decoded from this header on. Without one (wireguard, ppp, IP tunnels, and tun,
//     whatever its type) the kernel says where the network layer begins, and its protocol.
//   - The kernel removes a VLAN tag from the frame. That changes no count, as link headers do not count.
//   - A merged segment (GSO, GRO, BIG TCP) comes with a virtio_net_hdr that has the size of its packets. The kernel has such a header for
//     TCP and for UDP that will be segmented only. It drops other merged segments, such as those of SCTP and UDP that will be fragmented
//     (UFO), and counts them as dropped.
//   - On lo a socket sees each packet twice, sent and received. It is told to take received packets only.
//   - The kernel drops and counts packets for which the ring has no room.
package afpacket

// SnapLen is the snap length: link headers with two VLAN tags and a tunnel over IPv6 with a TCP header inside fit, and so does IPv6 behind seven
// 802.1ah tags.
const SnapLen = 192
