// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// From a frame to its addresses, and the bytes and packets that it counts as: package frame in C. Once numbers are read, they are in the
// byte order of the machine.

#define MAX_TAGS 8 // of headers between Ethernet and what MPLS or PPPoE begin with
#define MAX_LABELS 16
#define MAX_EXTENSIONS 8

#define ETHERNET_LEN 14

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_QINQ1 0x9100
#define ETHERTYPE_MPLS 0x8847
#define ETHERTYPE_MPLSM 0x8848
#define ETHERTYPE_PPPOE 0x8864
#define ETHERTYPE_ITAG 0x88e7
#define ETHERTYPE_VNTAG 0x8926

#define MAX_LENGTH 1500 // up to here, what stands in place of an EtherType is the length of a frame of 802.3
#define NO_ETHERTYPE 0x0600 // the lowest one, which is not that of IP

#define PPP_IPV4 0x0021
#define PPP_IPV6 0x0057
#define PPP_MPLS 0x0281
#define PPP_MPLSM 0x0283

enum outcome { COUNTED, UNMONITORED, EXCLUDED, NON_IP, MALFORMED, OUTCOMES };

struct ethernet {
	__be16 destination[3], source[3], type;
};

struct ipv4 {
	__u8 version_ihl, tos;
	__be16 total, id, fragment;
	__u8 ttl, protocol;
	__be16 checksum;
	__be32 source, destination;
};

struct ipv6 {
	__u8 version_class, class_flow[3];
	__be16 payload;
	__u8 next, hops;
	__be64 source[2], destination[2];
};

struct packet {
	struct address6 source6, destination6;
	__u64 source4, destination4;
	__u64 bytes;
	__u64 protocol; // as in the IP header; with IPv6 it may be that of an extension header
};

// place is the offset of a header in a frame, and its EtherType. If there is no such header, it is the outcome of the frame.
typedef __u64 place;

static __always_inline place place_of(__u32 at, __u32 type)
{
	return (place)at << 32 | type;
}

static __always_inline place nowhere(enum outcome outcome)
{
	return outcome << 16;
}

static __always_inline __u32 at_of(place p)
{
	return p >> 32;
}

static __always_inline __u32 type_of(place p)
{
	return p & 0xffff;
}

static __always_inline enum outcome outcome_of(place p)
{
	return p >> 16 == NON_IP ? NON_IP : MALFORMED; // constants, as the verifier does not know what a place has
}

// labels follows a stack of MPLS labels to its bottom. The first nibble behind the stack tells what follows.
static __always_inline place labels(const struct frame f, __u32 at)
{
	__u8 label[4], first;

#pragma unroll
	for (int i = 0; i < MAX_LABELS; i++) {
		if (load(f, at, label, sizeof(label)))
			return nowhere(MALFORMED);
		at += sizeof(label);
		if (!(label[2] & 1))
			continue;
		if (load(f, at, &first, sizeof(first)))
			return nowhere(MALFORMED);
		if (first >> 4 == 4)
			return place_of(at, ETHERTYPE_IPV4);
		if (first >> 4 == 6)
			return place_of(at, ETHERTYPE_IPV6);
		return nowhere(NON_IP);
	}
	return nowhere(MALFORMED);
}

// session reads a PPPoE header, and the PPP protocol number behind it. That number ends with its first odd byte.
static __always_inline place session(const struct frame f, __u32 at)
{
	__u8 pppoe[6], byte;
	__u32 protocol;

	if (load(f, at, pppoe, sizeof(pppoe)))
		return nowhere(MALFORMED);
	if (pppoe[0] != 0x11 || pppoe[1] != 0)
		return nowhere(NON_IP);
	at += sizeof(pppoe);
	if (load(f, at++, &byte, 1))
		return nowhere(MALFORMED);
	protocol = byte;
	if (!(protocol & 1)) {
		if (load(f, at++, &byte, 1))
			return nowhere(MALFORMED);
		protocol = protocol << 8 | byte;
	}
	switch (protocol) {
	case PPP_IPV4:
		return place_of(at, ETHERTYPE_IPV4);
	case PPP_IPV6:
		return place_of(at, ETHERTYPE_IPV6);
	case PPP_MPLS:
	case PPP_MPLSM:
		return place_of(at, ETHERTYPE_MPLS);
	}
	return nowhere(NON_IP);
}

static __always_inline int is_tag(__u32 type)
{
	return type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ || type == ETHERTYPE_QINQ1;
}

static __always_inline int has_header(__u32 type)
{
	return is_tag(type) || type == ETHERTYPE_VNTAG || type == ETHERTYPE_ITAG || type <= MAX_LENGTH;
}

#define TAG_PRESENT 0x10000 // with a tag of 16 bits

// way is what strip finds out besides a place.
struct way {
	__u32 end; // of the frame, without padding if an 802.3 length tells
	__u32 tag; // the control information of the outermost VLAN tag, with TAG_PRESENT; 0 without a tag
};

// encapsulated returns the EtherType behind LLC and SNAP, or the outcome of the frame.
static __always_inline place encapsulated(const struct frame f, __u32 at)
{
	__u8 llc[3], snap[5];
	__u32 type;

	if (load(f, at, llc, sizeof(llc)))
		return nowhere(MALFORMED);
	if (llc[0] != 0xaa || llc[1] != 0xaa || llc[2] != 0x03)
		return nowhere(NON_IP);
	if (load(f, at + sizeof(llc), snap, sizeof(snap)))
		return nowhere(MALFORMED);
	type = snap[3] << 8 | snap[4];
	if (snap[0] || snap[1] || (snap[2] && snap[2] != 0xf8) || type <= MAX_LENGTH)
		return nowhere(NON_IP);
	return place_of(at + sizeof(llc) + sizeof(snap), type);
}

// strip follows VLAN tags and other headers of Ethernet, then a PPPoE session, then MPLS labels to an IP header. Each of the last two is in
// the code once: the verifier checks code again for every way that leads to it.
static __always_inline place strip(const struct frame f, __u32 at, __u32 type, struct way *w)
{
	__be16 tag[2];
	__u32 skip;
	place p;

#pragma unroll
	for (int headers = 0; headers < MAX_TAGS; headers++) {
		if (is_tag(type)) {
			if (load(f, at, tag, sizeof(tag)))
				return nowhere(MALFORMED);
			if (!w->tag)
				w->tag = TAG_PRESENT | bpf_ntohs(tag[0]);
			type = bpf_ntohs(tag[1]);
			at += sizeof(tag);
		} else if (type == ETHERTYPE_VNTAG || type == ETHERTYPE_ITAG) {
			skip = type == ETHERTYPE_VNTAG ? 4 : 16;
			if (load(f, at + skip, tag, sizeof(tag[0])))
				return nowhere(MALFORMED);
			type = bpf_ntohs(tag[0]);
			at += skip + sizeof(tag[0]);
		} else if (type <= MAX_LENGTH) {
			p = encapsulated(f, at);
			if (!type_of(p))
				return p;
			if (at + type < w->end)
				w->end = at + type;
			at = at_of(p);
			type = type_of(p);
		} else {
			break;
		}
		at = opaque(at); // else the verifier checks what follows for each sum of lengths
	}
	if (type == ETHERTYPE_PPPOE) {
		p = session(f, at);
		if (type_of(p) != ETHERTYPE_MPLS)
			return p;
		at = at_of(p);
		type = ETHERTYPE_MPLS;
	}
	if (type == ETHERTYPE_MPLS || type == ETHERTYPE_MPLSM)
		return labels(f, at);
	if (type == ETHERTYPE_IPV4 || type == ETHERTYPE_IPV6)
		return place_of(at, type);
	return nowhere(has_header(type) ? MALFORMED : NON_IP);
}

// in_frame returns the place of an IP header whose fixed part is in the frame, and no padding.
static __always_inline place in_frame(place ip, __u32 end)
{
	__u32 type = type_of(ip), length = type == ETHERTYPE_IPV4 ? sizeof(struct ipv4) : sizeof(struct ipv6);

	return type && at_of(ip) + length > end ? nowhere(MALFORMED) : ip;
}

// decode4 and decode6 read the IP header at an offset, of a frame that ends at end. If they return COUNTED, p is complete. They take the
// frame for one packet: for a merged frame, MERGED finds the bytes and packets.

static __always_inline enum outcome decode4(const struct frame f, __u32 at, __u32 end, struct packet *p)
{
	__u32 header, total, held = end - at;
	struct ipv4 ip;

	if (load(f, at, &ip, sizeof(ip)) || ip.version_ihl >> 4 != 4)
		return MALFORMED;
	header = (ip.version_ihl & 15) * 4;
	total = bpf_ntohs(ip.total);
	if (header < sizeof(ip) || (total && total < header))
		return MALFORMED;
	if (!total || total > held)
		total = held;
	p->protocol = ip.protocol;
	p->source4 = bpf_ntohl(ip.source);
	p->destination4 = bpf_ntohl(ip.destination);
	p->bytes = total;
	return COUNTED;
}

static __always_inline enum outcome decode6(const struct frame f, __u32 at, __u32 end, struct packet *p)
{
	__u32 payload, total, held = end - at;
	struct ipv6 ip;

	if (load(f, at, &ip, sizeof(ip)) || ip.version_class >> 4 != 6)
		return MALFORMED;
	payload = bpf_ntohs(ip.payload);
	total = sizeof(ip) + payload;
	if (!payload || total > held)
		total = held;
	p->protocol = ip.next;
	p->source6.high = bpf_be64_to_cpu(ip.source[0]);
	p->source6.low = bpf_be64_to_cpu(ip.source[1]);
	p->destination6.high = bpf_be64_to_cpu(ip.destination[0]);
	p->destination6.low = bpf_be64_to_cpu(ip.destination[1]);
	p->bytes = total;
	return COUNTED;
}
