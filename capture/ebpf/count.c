//go:build ignore

// The socket filter of this package. It counts a frame and keeps none of it; Go reads the maps. The rules are those of the
// Go packages frame (what a frame counts for) and capture (which addresses count), which have their reasons and sources.

#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "subnets.h"
#include "decode.h"
#include "totals.h"
#include "grouping.h"

static __always_inline enum outcome count4(__u32 cpu, __u32 sums_at, __u32 source, __u32 destination, __u64 bytes, __u64 packets)
{
	__u32 from, to;

	if (is_excluded4(source) || is_excluded4(destination))
		return EXCLUDED;
	from = monitored4_index(source);
	to = monitored4_index(destination);
	if (from != NOWHERE)
		add_slot(cpu, sums_at, from == HASHED ? shared_slot4(source) : from, TRANSMIT, bytes, packets);
	if (to != NOWHERE)
		add_slot(cpu, sums_at, to == HASHED ? shared_slot4(destination) : to, RECEIVE, bytes, packets);
	return from == NOWHERE && to == NOWHERE ? UNMONITORED : COUNTED;
}

static __always_inline enum outcome count6(__u32 cpu, __u32 sums_at, const struct address6 *source,
					   const struct address6 *destination, __u64 bytes, __u64 packets)
{
	int from, to;

	if (is_excluded6(source) || is_excluded6(destination))
		return EXCLUDED;
	from = is_monitored6(source);
	to = is_monitored6(destination);
	if (from)
		add_slot(cpu, sums_at, shared_slot6(source), TRANSMIT, bytes, packets);
	if (to)
		add_slot(cpu, sums_at, shared_slot6(destination), RECEIVE, bytes, packets);
	return from || to ? COUNTED : UNMONITORED;
}

// count_any is for whatever the fast path of count leaves. A frame that ends before its type does has none: type is then 0 and
// at is behind the frame's end.
__noinline int count_any(struct __sk_buff *skb, __u32 at, __u32 type)
{
	__u32 cpu = bpf_get_smp_processor_id(), sums_at = sums_of(interface_of(skb), cpu);
	struct packet p = {.bytes = skb->len, .packets = 1};
	enum outcome outcome = at > skb->len ? MALFORMED : decode(skb, at, type, &p);

	if (outcome == COUNTED) {
		if (p.version == 4)
			outcome = count4(cpu, sums_at, p.source4, p.destination4, p.bytes, p.packets);
		else
			outcome = count6(cpu, sums_at, &p.source6, &p.destination6, p.bytes, p.packets);
	}
	add_sum(sums_at, outcome, p.bytes, p.packets);
	return 0;
}

// group_any is count_any where totals are not kept by single addresses alone.
__noinline int group_any(struct __sk_buff *skb, __u32 at, __u32 type)
{
	__u32 cpu = bpf_get_smp_processor_id(), interface = interface_of(skb), sums_at = sums_of(interface, cpu);
	struct packet p = {.bytes = skb->len, .packets = 1};
	enum outcome outcome = at > skb->len ? MALFORMED : decode(skb, at, type, &p);
	__u64 labels;

	if (outcome == COUNTED) {
		if (p.version == 6 && is_extension(p.protocol))
			p.protocol = upper_protocol(skb, p.at, p.protocol);
		labels = packet_labels(interface, p.protocol, vlan_of(skb, at, type));
		if (p.version == 4)
			outcome = group4(cpu, sums_at, p.source4, p.destination4, labels, p.bytes, p.packets);
		else
			outcome = group6(cpu, sums_at, &p.source6, &p.destination6, labels, p.bytes, p.packets);
	}
	add_sum(sums_at, outcome, p.bytes, p.packets);
	return 0;
}

// count counts a frame with a link header of so many bytes: Ethernet's, or none. Nearly every frame, an unmerged IPv4 packet
// without options right behind the link header, takes one look at its bytes.
static __always_inline int count(struct __sk_buff *skb, const __u32 link, const int grouped)
{
	struct {
		__u8 unused[2]; // so that what follows Ethernet's header is aligned
		__u8 ethernet[ETHERNET_LEN];
		struct ipv4 ip;
	} h;
	__u8 *start = h.ethernet + ETHERNET_LEN - link;
	__be16 type = skb->protocol;
	__u32 cpu, interface, sums_at, bytes;
	enum outcome outcome;
	__u64 labels;

	if (bpf_skb_load_bytes(skb, 0, start, link + sizeof(h.ip))) {
		// Too short for IPv4, perhaps for all.
		if (link)
			type = bpf_skb_load_bytes(skb, 0, start, link) ? 0 : *(__be16 *)(h.ethernet + ETHERNET_LEN - sizeof(type));
		return grouped ? group_any(skb, link, bpf_ntohs(type)) : count_any(skb, link, bpf_ntohs(type));
	}
	if (link)
		type = *(__be16 *)(h.ethernet + ETHERNET_LEN - sizeof(type));
	bytes = bpf_ntohs(h.ip.total);
	if (type != bpf_htons(ETHERTYPE_IPV4) || h.ip.version_ihl != 0x45 || bytes < sizeof(h.ip) || bytes > skb->len - link ||
	    skb->gso_size)
		return grouped ? group_any(skb, link, bpf_ntohs(type)) : count_any(skb, link, bpf_ntohs(type));

	cpu = bpf_get_smp_processor_id();
	interface = interface_of(skb);
	sums_at = sums_of(interface, cpu);
	if (grouped) {
		labels = packet_labels(interface, h.ip.protocol, removed_vlan(skb));
		outcome = group4(cpu, sums_at, bpf_ntohl(h.ip.source), bpf_ntohl(h.ip.destination), labels, bytes, 1);
	} else {
		outcome = count4(cpu, sums_at, bpf_ntohl(h.ip.source), bpf_ntohl(h.ip.destination), bytes, 1);
	}
	add_sum(sums_at, outcome, bytes, 1);
	return 0; // bytes of the frame that are kept
}

SEC("socket")
int count_ethernet(struct __sk_buff *skb)
{
	return count(skb, ETHERNET_LEN, 0);
}

// count_network is for a socket that begins at the network layer (SOCK_DGRAM).
SEC("socket")
int count_network(struct __sk_buff *skb)
{
	return count(skb, 0, 0);
}

// group_ethernet and group_network are the same where totals are not kept by single addresses alone.

SEC("socket")
int group_ethernet(struct __sk_buff *skb)
{
	return count(skb, ETHERNET_LEN, 1);
}

SEC("socket")
int group_network(struct __sk_buff *skb)
{
	return count(skb, 0, 1);
}

// None of the helpers here is for programs under the GPL only.
char _license[] SEC("license") = "Apache-2.0";
