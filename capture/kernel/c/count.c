//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// The programs of package kernel. They count frames; Go reads the maps. The rules are those of the Go packages frame (what a frame counts
// as), subnets and labels (which addresses count). Reasons and sources of the rules are there.

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/if_packet.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bytes.h"
#include "subnets.h"
#include "decode.h"
#include "stages.h"
#include "segments.h"
#include "totals.h"
#include "slots.h"
#include "flows.h"
#include "grouping.h"
#include "mirror.h"

// for_go makes the object describe these types. bpf2go generates Go code of the same names from that.
const struct {
	enum range_limit *range_limit;
	enum no_slot *no_slot;
	enum slots_state *slots_state;
	enum line *line;
	enum direction *direction;
	enum sum *sum;
	enum place_flag *place_flag;
	enum station *station;
	enum place_limit *place_limit;
	enum label_at *label_at;
} *for_go;

// The programs for socket buffers are socket filters, or run at tcx. What they return says how many bytes of the frame a socket keeps (0),
// or that the next program of tcx has its turn (TCX_NEXT). Go sets it.
volatile const __s32 done;

// only_sent is set for socket filters that count what the machine sends and nothing else.
volatile const __u32 only_sent;

// find_ends4 and find_ends6 find the slots of a packet's two addresses, unless one of them is excluded. With quick, an address whose slot
// is only in the kernel's hash map is HASHED.

static __always_inline enum outcome find_ends4(__u64 source, __u64 destination, struct ends *e, const int quick)
{
	__u64 from, to;

	if (is_excluded4(source) || is_excluded4(destination))
		return EXCLUDED;
	from = monitored4_index(source);
	to = monitored4_index(destination);
	if (!quick) {
		from = opaque(from);
		to = opaque(to);
	}
	if (from == HASHED)
		from = quick ? quick_slot4(source) : shared_slot4(source);
	if (to == HASHED)
		to = quick ? quick_slot4(destination) : shared_slot4(destination);
	e->from = quick ? from : opaque(from);
	e->to = quick ? to : opaque(to);
	return COUNTED;
}

static __always_inline enum outcome find_ends6(const struct address6 *source, const struct address6 *destination, struct ends *e,
					       const int quick)
{
	__u64 from = NOWHERE, to = NOWHERE;

	if (is_excluded6(source) || is_excluded6(destination))
		return EXCLUDED;
	if (is_monitored6(source))
		from = quick ? quick_slot6(source) : shared_slot6(source);
	if (is_monitored6(destination))
		to = quick ? quick_slot6(destination) : shared_slot6(destination);
	e->from = opaque(from);
	e->to = opaque(to);
	return COUNTED;
}

// first is the first stage, for frames with a link header of link bytes: that of Ethernet, or none. Nearly every frame is an unmerged
// packet right behind the link header, of IPv4 without options or of IPv6. Such a frame takes one or two loads of its bytes. Short loads
// are fast: of the Ethernet header, first loads only the EtherType.
static __always_inline int first(struct __sk_buff *skb, const __u32 link, const int grouped)
{
	struct {
		__u8 unused[6]; // so that the IP header is aligned
		__be16 type;
		struct ipv4 ip;
	} h;
	const __u32 typed = link ? sizeof(h.type) : 0;
	void *start = link ? (void *)&h.type : (void *)&h.ip;
	__be16 type = skb->protocol;
	__u64 row, interface, bytes, labels;
	enum outcome outcome;
	struct packet p;
	struct ends e;

	if (only_sent && skb->pkt_type != PACKET_OUTGOING)
		return done;
	if (bpf_skb_load_bytes(skb, link - typed, start, typed + sizeof(h.ip))) {
		// Too short for an IPv4 header, and perhaps for an EtherType.
		if (link)
			type = bpf_skb_load_bytes(skb, link - typed, start, typed) ? 0 : h.type;
		to_strip(skb, link, bpf_ntohs(type));
		return done;
	}
	if (link)
		type = h.type;
	if (type != bpf_htons(ETHERTYPE_IPV4) && type != bpf_htons(ETHERTYPE_IPV6)) {
		to_strip(skb, link, bpf_ntohs(type));
		return done;
	}
	if (skb->gso_size)
		goto rare;
	if (type == bpf_htons(ETHERTYPE_IPV4)) {
		bytes = bpf_ntohs(h.ip.total);
		if (h.ip.version_ihl != 0x45 || bytes < sizeof(h.ip) || bytes > skb->len - link)
			goto rare;
		row = row_here();
		interface = interface_of(in_skb(skb));
		if (grouped) {
			row = opaque(row);
			interface = opaque(interface);
			labels = packet_labels(interface, h.ip.protocol, removed_vlan(skb));
			outcome = group_flow(row, &h.ip, labels, &e);
		} else {
			outcome = find_ends4(bpf_ntohl(h.ip.source), bpf_ntohl(h.ip.destination), &e, 1);
		}
	} else {
		if (decode6(in_skb(skb), link, skb->len, &p) != COUNTED || (grouped && is_extension(p.protocol)))
			goto rare;
		bytes = p.bytes;
		row = row_here();
		interface = interface_of(in_skb(skb));
		if (grouped) {
			row = opaque(row);
			interface = opaque(interface);
			labels = packet_labels(interface, p.protocol, removed_vlan(skb));
			outcome = group6(row, &p.source6, &p.destination6, labels, &e, 1);
		} else {
			outcome = find_ends6(&p.source6, &p.destination6, &e, 1);
		}
	}
	if (outcome == COUNTED) {
		if (e.from == HASHED || e.to == HASHED)
			goto rare;
		outcome = add_ends(row, interface, &e, bytes, 1);
	}
	add_sum(row, interface, outcome, bytes, 1);
	return done;
rare:
	to_any(skb, link, bpf_ntohs(type), 0, skb->len);
	return done;
}

// lose counts a frame without a readable IP header.
static __always_inline void lose(const struct frame f, __u64 interface, enum outcome outcome)
{
	add_sum(row_here(), interface, outcome, length_of(f), 1);
}

static __always_inline int lost(struct __sk_buff *skb, enum outcome outcome)
{
	lose(in_skb(skb), interface_of(in_skb(skb)), outcome);
	return done;
}

// is_bare tells whether a frame that should begin with an Ethernet header begins with an IP header instead: the device may just have
// changed its link layer.
static __always_inline int is_bare(struct __sk_buff *skb)
{
	__u64 begin[2], network[2];

	if (skb->protocol != bpf_htons(ETHERTYPE_IPV4) && skb->protocol != bpf_htons(ETHERTYPE_IPV6))
		return 0;
	return !bpf_skb_load_bytes(skb, 0, begin, sizeof(begin)) &&
	       !bpf_skb_load_bytes_relative(skb, 0, network, sizeof(network), BPF_HDR_START_NET) && begin[0] == network[0] &&
	       begin[1] == network[1];
}

SEC("socket")
int strip_any(struct __sk_buff *skb)
{
	__u32 known = skb->cb[WORD_VLAN], next = skb->cb[WORD_NEXT], at = next >> 16, type = next & 0xffff;
	struct way w = {.end = skb->len};
	enum tried tried = known >> TRIED_AT & 3;
	place ip;

	// The frame ends before its EtherType does.
	ip = at > skb->len ? nowhere(MALFORMED) : strip(in_skb(skb), at, type, &w);
	if (tried == NOTHING) { // this is the outermost IP header
		ip = in_frame(ip, w.end);
		if (!type_of(ip)) {
			if (outcome_of(ip) != NON_IP || at != ETHERNET_LEN || !is_bare(skb))
				return lost(skb, outcome_of(ip));
			ip = place_of(0, bpf_ntohs(skb->protocol));
		}
		to_any(skb, at_of(ip), type_of(ip), w.tag & VLAN_ID, w.end);
		return done;
	}
	if (type_of(ip) && (tried == GRE || reaches(skb, ip, skb->cb[WORD_END]))) {
		if ((known >> DEPTH_AT & 15) == MAX_TUNNELS)
			return lost(skb, MALFORMED);
		skb->cb[WORD_INNER] = header_of(at_of(ip), type_of(ip));
		skb->cb[WORD_VLAN] = (known & ~(3 << TRIED_AT)) + (1 << DEPTH_AT);
	} else if (tried == GRE) {
		return lost(skb, MALFORMED);
	}
	go_on(skb, MERGED);
	return done;
}

SEC("socket")
int merged_any(struct __sk_buff *skb)
{
	__u32 known = skb->cb[WORD_VLAN], inner = skb->cb[WORD_INNER], at = inner >> 16, type = inner & 0xffff;
	__u32 depth = known >> DEPTH_AT & 15, size = skb->gso_size, segments = skb->gso_segs, begin, headers, bytes, length, more = 0;
	enum tried tried = known >> TRIED_AT & 3;
	struct packet p = {};
	enum outcome outcome;
	transport t;
	place next;

	if (!depth && !tried) {
		bytes = skb->cb[WORD_END];
		outcome = type == ETHERTYPE_IPV4 ? decode4(in_skb(skb), at, bytes, &p) : decode6(in_skb(skb), at, bytes, &p);
		if (outcome != COUNTED)
			return lost(skb, outcome);
		skb->cb[WORD_END] = at + (__u32)p.bytes;
	}
	t = behind_ip(skb, at, type);
	if (!depth)
		known = (known & 0xffffff) | jumbo_of(t) << JUMBO_AT;

	next = nowhere(NON_IP);
	switch (protocol_of(t)) {
	case PROTOCOL_UDP:
		next = in_udp(skb, at_of(t), &tried);
		break;
	case PROTOCOL_GRE:
		next = in_gre(skb, at_of(t));
		tried = GRE;
		break;
	case PROTOCOL_IPV4:
		next = place_of(at_of(t), ETHERTYPE_IPV4);
		tried = GRE;
		break;
	case PROTOCOL_IPV6:
		next = place_of(at_of(t), ETHERTYPE_IPV6);
		tried = GRE;
		break;
	}
	if (type_of(next) && at_of(next) >> 16 == 0) {
		skb->cb[WORD_VLAN] = (known & ~(3 << TRIED_AT)) | tried << TRIED_AT;
		skb->cb[WORD_NEXT] = header_of(at_of(next), type_of(next));
		go_on(skb, STRIP);
		return done;
	}
	length = length_of_transport(skb, t);
	if (!length || (protocol_of(t) == PROTOCOL_SCTP) != (size == GSO_BY_FRAGS))
		return lost(skb, MALFORMED);

	// Each packet has all headers up to the end of the transport header, except for the jumbo payload option.
	begin = (skb->cb[WORD_IP] >> 16) + (known >> JUMBO_AT);
	bytes = skb->cb[WORD_END] - begin;
	headers = at_of(t) - begin + length;
	if (protocol_of(t) == PROTOCOL_UDP && !depth && will_be_fragmented(skb, interface_of(in_skb(skb)), headers)) {
		headers -= length; // only the first fragment has that of UDP
		more = type == ETHERTYPE_IPV4 ? 0 : FRAGMENT_LEN;
	}
	skb->cb[WORD_BYTES] = bytes;
	skb->cb[WORD_PACKETS] = 1;
	if (at_of(t) >= begin && at_of(t) - begin < bytes && bytes > headers) {
		if (size && size != GSO_BY_FRAGS)
			segments = (bytes - headers - 1) / size + 1;
		if (segments > 1) {
			skb->cb[WORD_BYTES] = bytes + (segments - 1) * headers + segments * more;
			skb->cb[WORD_PACKETS] = segments;
		}
	}
	go_on(skb, ANY);
	return done;
}

// count_at counts a frame that ends at end by the IP header at an offset, in a VLAN. bytes and packets are what a merged frame counts as;
// bytes is 0 if the frame is one packet.
static __always_inline void count_at(const struct frame f, __u64 interface, __u32 at, __u32 end, __u32 type, __u32 vlan, __u32 bytes,
				     __u32 many, const int grouped)
{
	__u64 row = opaque(row_here()), packets = 1, labels = 0;
	enum outcome outcome;
	struct packet p = {};
	struct ends e = {NOWHERE, NOWHERE};
	__u32 protocol;

	interface = opaque(interface);
	outcome = type == ETHERTYPE_IPV4 ? decode4(f, at, end, &p) : decode6(f, at, end, &p);
	if (outcome != COUNTED) {
		lose(f, interface, outcome);
		return;
	}
	if (bytes) {
		p.bytes = bytes;
		packets = many;
	}
	p.bytes = opaque(p.bytes);
	packets = opaque(packets);
	if (grouped) {
		protocol = p.protocol;
		if (type != ETHERTYPE_IPV4 && is_extension(protocol))
			protocol = upper_protocol(f, at, protocol);
		labels = packet_labels(interface, protocol, vlan);
	}
	if (type == ETHERTYPE_IPV4)
		outcome = grouped ? group4(row, p.source4, p.destination4, labels, &e, 0) : find_ends4(p.source4, p.destination4, &e, 0);
	else
		outcome = grouped ? group6(row, &p.source6, &p.destination6, labels, &e, 0) : find_ends6(&p.source6, &p.destination6, &e, 0);
	if (outcome == COUNTED)
		outcome = add_ends(row, interface, &e, p.bytes, packets);
	add_sum(row, interface, outcome, p.bytes, packets);
}

// any counts a frame of a socket buffer by its IP header, merged or not.
static __always_inline int any(struct __sk_buff *skb, const int grouped)
{
	__u32 vlan = opaque(skb->cb[WORD_VLAN] & VLAN_ID);

	if (grouped && skb->vlan_present)
		vlan = opaque(removed_vlan(skb));
	count_at(in_skb(skb), interface_of(in_skb(skb)), skb->cb[WORD_IP] >> 16, skb->cb[WORD_END], skb->cb[WORD_IP] & 0xffff, vlan,
		 skb->cb[WORD_BYTES], skb->cb[WORD_PACKETS], grouped);
	return done;
}

// The programs that count exist twice: count_ keeps totals by single addresses alone, group_ by prefixes and labels.

SEC("socket")
int count_ethernet(struct __sk_buff *skb)
{
	return first(skb, ETHERNET_LEN, 0);
}

SEC("socket")
int count_network(struct __sk_buff *skb)
{
	return first(skb, 0, 0);
}

SEC("socket")
int count_any(struct __sk_buff *skb)
{
	return any(skb, 0);
}

SEC("socket")
int group_ethernet(struct __sk_buff *skb)
{
	return first(skb, ETHERNET_LEN, 1);
}

SEC("socket")
int group_network(struct __sk_buff *skb)
{
	return first(skb, 0, 1);
}

SEC("socket")
int group_any(struct __sk_buff *skb)
{
	return any(skb, 1);
}

// enter_ethernet and enter_network are for sockets that have no room for the first stage. A kernel lets programs call each other only if
// its JIT compiler accepts all of them or none. Some JIT compilers do not accept the atomic operation, so these programs have it, too.

static __always_inline int enter(struct __sk_buff *skb, const enum stage to)
{
	__u64 none = opaque(0);

	if (none)
		__sync_fetch_and_add(&zero, none);
	go_on(skb, to);
	return done;
}

SEC("socket")
int enter_ethernet(struct __sk_buff *skb)
{
	return enter(skb, ETHERNET);
}

SEC("socket")
int enter_network(struct __sk_buff *skb)
{
	return enter(skb, NETWORK);
}

// count_odd counts a frame of the driver that does not begin with an Ethernet and an IP header alone. removed is the tag that the driver has
// removed, or 0.
static __always_inline void count_odd(const struct frame f, __u64 interface, __u32 removed, const int grouped)
{
	struct way w = {.end = length_of(f), .tag = removed};
	__be16 type;
	place ip;

	if (load(f, ETHERNET_LEN - sizeof(type), &type, sizeof(type))) {
		lose(f, interface, MALFORMED);
		return;
	}
	ip = in_frame(strip(f, ETHERNET_LEN, bpf_ntohs(type), &w), w.end);
	if (type_of(ip))
		count_at(f, interface, at_of(ip), w.end, type_of(ip), w.tag & VLAN_ID, 0, 0, grouped);
	else
		lose(f, interface, outcome_of(ip));
}

// count_driver counts a frame that arrives, before the kernel makes a socket buffer of it. There is nothing merged.
static __always_inline void count_driver(struct xdp_md *xdp, __u64 interface, __u32 removed, const int grouped)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u64 row, bytes, held = end - data - ETHERNET_LEN, labels;
	struct ethernet *eth = data;
	struct ipv4 *ip4 = data + ETHERNET_LEN;
	struct ipv6 *ip6 = data + ETHERNET_LEN;
	struct address6 source6, destination6;
	enum outcome outcome;
	struct ends e;

	if ((void *)(ip4 + 1) > end)
		goto odd;
	if (eth->type == bpf_htons(ETHERTYPE_IPV4)) {
		bytes = bpf_ntohs(ip4->total);
		if (ip4->version_ihl != 0x45 || bytes < sizeof(*ip4) || bytes > held)
			goto odd;
		row = row_here();
		if (grouped) {
			row = opaque(row);
			interface = opaque(interface);
			labels = packet_labels(interface, ip4->protocol, removed & VLAN_ID);
			outcome = group_flow(row, ip4, labels, &e);
		} else {
			outcome = find_ends4(bpf_ntohl(ip4->source), bpf_ntohl(ip4->destination), &e, 1);
		}
	} else if (eth->type == bpf_htons(ETHERTYPE_IPV6)) {
		if ((void *)(ip6 + 1) > end)
			goto odd;
		bytes = sizeof(*ip6) + bpf_ntohs(ip6->payload);
		if (ip6->version_class >> 4 != 6 || !ip6->payload || bytes > held || (grouped && is_extension(ip6->next)))
			goto odd;
		row = row_here();
		source6.high = bpf_be64_to_cpu(ip6->source[0]);
		source6.low = bpf_be64_to_cpu(ip6->source[1]);
		destination6.high = bpf_be64_to_cpu(ip6->destination[0]);
		destination6.low = bpf_be64_to_cpu(ip6->destination[1]);
		if (grouped) {
			row = opaque(row);
			interface = opaque(interface);
			labels = packet_labels(interface, ip6->next, removed & VLAN_ID);
			outcome = group6(row, &source6, &destination6, labels, &e, 1);
		} else {
			outcome = find_ends6(&source6, &destination6, &e, 1);
		}
	} else {
		goto odd;
	}
	if (outcome == COUNTED) {
		if (e.from == HASHED || e.to == HASHED)
			goto odd;
		outcome = add_ends(row, interface, &e, bytes, 1);
	}
	add_sum(row, interface, outcome, bytes, 1);
	return;
odd:
	count_odd(in_driver(xdp), interface, removed, grouped);
}

// A driver that removes VLAN tags may tell them (Linux 6.8). It does so only to programs that are loaded for one interface, which cannot call
// other programs, and only to those under the GPL.
int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *xdp, __be16 *protocol, __u16 *tag) __ksym;

static __always_inline int arrive(struct xdp_md *xdp, const int grouped, const int tells)
{
	__u64 interface = interface_of(in_driver(xdp));
	__u32 removed = 0;
	__be16 protocol;
	__u16 tag = 0;

	if (interface == NO_INTERFACE)
		return XDP_PASS;
	if (tells && !bpf_xdp_metadata_rx_vlan_tag(xdp, &protocol, &tag))
		removed = TAG_PRESENT | tag;
	count_driver(xdp, interface, removed, grouped);
	return is_for_others(xdp, interface) ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int count_arriving(struct xdp_md *xdp)
{
	return arrive(xdp, 0, 0);
}

SEC("xdp")
int group_arriving(struct xdp_md *xdp)
{
	return arrive(xdp, 1, 0);
}

SEC("xdp")
int group_arriving_with_tags(struct xdp_md *xdp)
{
	return arrive(xdp, 1, 1);
}

// No helper that is called here requires the GPL. Go sets it for the program that asks a driver for tags.
char _license[] SEC("license") = "Apache-2.0";
