// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// What a merged frame (GRO, GSO, BIG TCP) counts as: the packets that it was or will be, each with all headers. Users of virtio_net_hdr are
// told where the innermost transport header is. A socket filter has to find it.

#define MAX_TUNNELS 2

#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_IPV4 4
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_IPV6 41
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_GRE 47
#define PROTOCOL_DESTINATION 60
#define PROTOCOL_SCTP 132

#define ETHERTYPE_BRIDGING 0x6558 // an Ethernet frame in a tunnel

#define UDP_LEN 8
#define TCP_LEN 20
#define SCTP_LEN 12 // the common header, which each packet repeats
#define JUMBO_LEN 8
#define FRAGMENT_LEN 8 // the fragment header of IPv6

// gso_size of a frame whose packets differ in size, as SCTP's do (include/linux/skbuff.h).
#define GSO_BY_FRAGS 0xffff

// transport is what follows an IP header and its extension headers: its offset and protocol, and the length of a jumbo payload option
// before it. No packet on the wire has that option. 0 is nothing.
typedef __u64 transport;

static __always_inline transport transport_of(__u32 at, __u32 protocol, __u32 jumbo)
{
	return (transport)at << 32 | jumbo << 16 | protocol;
}

static __always_inline __u32 protocol_of(transport t)
{
	return t & 0xff;
}

static __always_inline __u32 jumbo_of(transport t)
{
	return t >> 16 & 0xff;
}

// behind_extensions skips the extension headers of an IPv6 header.
static __always_inline transport behind_extensions(struct __sk_buff *skb, __u32 at, __u32 protocol, __be16 payload)
{
	__u32 length, jumbo = 0;
	__u8 e[8];

#pragma unroll
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (protocol != PROTOCOL_HOP_BY_HOP && protocol != PROTOCOL_ROUTING && protocol != PROTOCOL_FRAGMENT &&
		    protocol != PROTOCOL_DESTINATION)
			break;
		if (bpf_skb_load_bytes(skb, at, e, sizeof(e)))
			break;
		length = protocol == PROTOCOL_FRAGMENT ? sizeof(e) : sizeof(e) + e[1] * 8;
		if (protocol == PROTOCOL_HOP_BY_HOP && length == JUMBO_LEN && e[2] == 0xc2 && !payload)
			jumbo = JUMBO_LEN;
		protocol = e[0];
		at += length;
	}
	return transport_of(at, protocol, jumbo);
}

// behind_ip finds what follows the IP header at an offset, and its extension headers.
static __always_inline transport behind_ip(struct __sk_buff *skb, __u32 at, __u32 type)
{
	struct ipv4 v4;
	struct ipv6 v6;

	if (type == ETHERTYPE_IPV4) {
		if (bpf_skb_load_bytes(skb, at, &v4, sizeof(v4)) || v4.version_ihl >> 4 != 4 || (v4.version_ihl & 15) < 5)
			return 0;
		return transport_of(at + (v4.version_ihl & 15) * 4, v4.protocol, 0);
	}
	if (bpf_skb_load_bytes(skb, at, &v6, sizeof(v6)) || v6.version_class >> 4 != 6)
		return 0;
	return behind_extensions(skb, at + sizeof(v6), v6.next, v6.payload);
}

// in_bridged returns the place of what a tunnel carries. If that is an Ethernet frame, it is what follows the Ethernet header.
static __always_inline place in_bridged(struct __sk_buff *skb, __u32 at, __u32 type)
{
	__be16 inner;

	if (type == ETHERTYPE_BRIDGING) {
		at += ETHERNET_LEN;
		if (bpf_skb_load_bytes(skb, at - sizeof(inner), &inner, sizeof(inner)))
			return nowhere(MALFORMED);
		type = bpf_ntohs(inner);
	}
	return place_of(at, type);
}

// in_gre finds what GRE carries (RFC 2784, RFC 2890).
static __always_inline place in_gre(struct __sk_buff *skb, __u32 at)
{
	__be16 gre[2];
	__u32 flags;

	if (bpf_skb_load_bytes(skb, at, gre, sizeof(gre)))
		return nowhere(MALFORMED);
	flags = bpf_ntohs(gre[0]);
	if (flags & 7) // not version 0
		return nowhere(NON_IP);
	// Checksum, key and sequence number are there if their flags are set.
	at += sizeof(gre) + ((flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1)) * 4;
	return in_bridged(skb, at, bpf_ntohs(gre[1]));
}

// reaches tells whether an IP packet ends at end, where the outermost one does, or does not say where it ends (BIG TCP).
static __always_inline int reaches(struct __sk_buff *skb, place ip, __u32 end)
{
	__u32 header = 0, at = at_of(ip);
	__be16 length;

	if (type_of(ip) == ETHERTYPE_IPV6) {
		header = sizeof(struct ipv6);
		at += 2;
	}
	if (bpf_skb_load_bytes(skb, at + 2, &length, sizeof(length)))
		return 0;
	return !length || at_of(ip) + header + bpf_ntohs(length) == end;
}

// in_udp finds what Geneve (RFC 8926) or VXLAN (RFC 7348, with its group policy and generic protocol extensions) carries, if the header
// behind the UDP header looks like one of these, and has not been tried yet. It then sets tried. A UDP payload may look like a tunnel and
// be none: then the packet in it ends with the first of the merged packets, and reaches tells.
static __always_inline place in_udp(struct __sk_buff *skb, __u32 at, enum tried *tried)
{
	__u32 type = ETHERTYPE_BRIDGING;
	__u8 t[8];

	at += UDP_LEN;
	if (bpf_skb_load_bytes(skb, at, t, sizeof(t)) || t[7])
		return nowhere(NON_IP);
	at += sizeof(t);
	if (*tried == NOTHING && !(t[0] >> 6) && !(t[1] & 0x3f) && (t[2] || t[3])) {
		*tried = GENEVE;
		return in_bridged(skb, at + (t[0] & 0x3f) * 4, t[2] << 8 | t[3]);
	}
	if (*tried == VXLAN || !(t[0] & 8))
		return nowhere(NON_IP);
	*tried = VXLAN;
	if (t[0] & 4 && t[3] == 1)
		type = ETHERTYPE_IPV4;
	else if (t[0] & 4 && t[3] == 2)
		type = ETHERTYPE_IPV6;
	return in_bridged(skb, at, type);
}

// mtus has the MTU of each interface, by its number in sums; 0 if it is not known, 1 on kernels whose merged UDP from virtual machines will
// always be fragmented.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} mtus SEC(".maps");

// will_be_fragmented tells of a merged frame with headers of some bytes, up to the end of that of UDP, whether its payload is that of one UDP
// packet in fragments (UFO), if that can be known. Only virtual machines send such frames, and for these the kernel does not say how many
// segments there are. Segments would not be as long: each of them has a UDP header, and fits.
static __always_inline int will_be_fragmented(struct __sk_buff *skb, __u64 interface, __u32 headers)
{
	__u64 key = KEY(interface), *mtu;

	if (skb->gso_segs || skb->gso_size % 8)
		return 0;
	mtu = bpf_map_lookup_elem(&mtus, &key);
	return mtu && *mtu && headers + skb->gso_size > *mtu;
}

// length_of_transport returns the length of the transport header, which each packet repeats; 0 if the kernel merges no such packets.
static __always_inline __u32 length_of_transport(struct __sk_buff *skb, transport t)
{
	__u8 offset;

	switch (protocol_of(t)) {
	case PROTOCOL_TCP:
		if (!bpf_skb_load_bytes(skb, at_of(t) + 12, &offset, sizeof(offset)) && offset >> 4 > TCP_LEN / 4)
			return (offset >> 4) * 4;
		return TCP_LEN;
	case PROTOCOL_SCTP:
		return SCTP_LEN;
	case PROTOCOL_UDP:
		return UDP_LEN;
	}
	return 0;
}
