// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Totals by prefixes and labels, instead of by single addresses alone: the Go type labels.Grouping in C. Programs that need none of this
// have none of it.

#define PROTOCOL_ICMP 1
#define PROTOCOL_ESP 50
#define PROTOCOL_ICMPV6 58
#define NO_PROTOCOL 255

// Labels are one number of 64 bits, with a bit field for each label. These are the lowest bits of the fields; the protocol begins at 0.
enum label_at { VLAN_AT = 3, INTERFACE_AT = 16, PEER_AT = 32, NETWORK_AT = 48 };

#define VLAN_FIELD (0x1fffULL << VLAN_AT)
#define INTERFACE_FIELD (0xffffULL << INTERFACE_AT)
#define PEER_FIELD (0xffffULL << PEER_AT)
#define NETWORK_FIELD (0xffffULL << NETWORK_AT)

#define MULTICAST 1 // as the number of a peer

#define VLAN_ID 0xfff // the bits of a tag's control information that are the VLAN ID

#define SERIES_PER_IP 64

volatile const __u64 labels_mask; // the fields of the labels that are asked for
volatile const __u64 labels_rest; // the labels of what an address has moved without a series of its own
volatile const __u32 host_bits4;  // the number of low bits of addresses that are ignored
volatile const struct address6 prefix_mask6;

// place4 and place6 describe the addresses from first on, up to the next place, as labels.Place does. Their labels have the fields of
// network and peer, and flags in the bits below.
enum place_flag { PLACE_MONITORED = 1, PLACE_INDEXED = 2, PLACE_BROADCAST = 4 };

struct place4 {
	__u32 first;
	__u32 base; // base + the upper bits of an address is its index
	__u64 labels;
};

struct place6 {
	struct address6 first;
	__u64 labels;
};

struct place_node4 {
	struct node next;
	struct place4 place;
};

struct place_node6 {
	struct node next;
	struct place6 place;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct place_node4);
	__uint(max_entries, 1);
} places4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct place_node6);
	__uint(max_entries, 1);
} places6 SEC(".maps");

volatile const __u32 count_places4, count_places6;

// few_places4 has the places of IPv4 if they are at most FEW_PLACES. Two subnets make seven places, with their broadcast addresses and the
// addresses around them.
enum place_limit { FEW_PLACES = 8 };

volatile const struct place4 few_places4[FEW_PLACES];

// TRY_PLACE4 takes a place if the address does not come before it. The asm line keeps the compiler from merging all of them into one piece
// of code, as it also does with a loop: that has a pointer that verifiers forbid without CAP_PERFMON.
#define TRY_PLACE4(i)                                                                                                                      \
	if (i < count && address >= few_places4[i].first) {                                                                       \
		to->base = few_places4[i].base;                                                                                           \
		to->labels = few_places4[i].labels;                                                                                       \
		asm volatile("" : : "i"(i));                                                                                               \
		return;                                                                                                                    \
	}

// search_place4 and search_place6 find the place of an address: the last one that begins at or before it.

static __always_inline void search_place4(__u64 address, struct place4 *to)
{
	__u64 key = KEY(count_places4 / 2);
	struct place_node4 *n;

#pragma unroll
	for (int i = 0; i < STEPS; i++) {
		n = bpf_map_lookup_elem(&places4, &key);
		if (!n)
			break;
		if (address < n->place.first) {
			key = KEY(n->next.before);
			continue;
		}
		to->base = n->place.base;
		to->labels = n->place.labels;
		key = KEY(n->next.behind);
	}
}

static __always_inline __u64 search_place6(const struct address6 *address)
{
	__u64 key = KEY(count_places6 / 2), labels = 0;
	struct place_node6 *n;

#pragma unroll
	for (int i = 0; i < STEPS; i++) {
		n = bpf_map_lookup_elem(&places6, &key);
		if (!n)
			break;
		if (before(address, &n->place.first)) {
			key = KEY(n->next.before);
			continue;
		}
		labels = n->place.labels;
		key = KEY(n->next.behind);
	}
	return labels;
}

static __always_inline void find_place4(__u64 address, struct place4 *to)
{
	__u64 count = count_places4;

	if (count > FEW_PLACES) {
		search_place4(address, to);
		return;
	}
	TRY_PLACE4(7);
	TRY_PLACE4(6);
	TRY_PLACE4(5);
	TRY_PLACE4(4);
	TRY_PLACE4(3);
	TRY_PLACE4(2);
	TRY_PLACE4(1);
	TRY_PLACE4(0);
}

// is_group4 and is_group6 recognize multicast (RFC 5771, RFC 4291) and limited broadcast (RFC 919).

static __always_inline int is_group4(__u64 address)
{
	return address >> 28 == 0xe || address == 0xffffffff;
}

static __always_inline int is_group6(const struct address6 *address)
{
	return address->high >> 56 == 0xff;
}

// interface_numbers has the number of an interface in labels, by its number in sums.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} interface_numbers SEC(".maps");

// A series is what an address has moved with the same labels. Series have the slots from first_series on. What has no series counts in the
// slot of the address.
volatile const __u32 first_series;

struct series_key {
	__u64 slot; // of the address
	__u64 labels;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct series_key);
	__type(value, __u32);
	__uint(max_entries, 1);
} series_slots SEC(".maps");

// free_series has the slots without a series.
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__type(value, __u32);
	__uint(max_entries, 1);
} free_series SEC(".maps");

struct series_owner {
	__u64 owned; // 1 + the slot of the address; 0: no series has the slot
	__u64 labels;
};

// series_owners tells Go which series has a slot.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct series_owner);
	__uint(max_entries, 1);
} series_owners SEC(".maps");

// series_counts has the number of series of an address, by its slot.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} series_counts SEC(".maps");

__u32 series_full; // the state of the series' slots

// series_cache has what the processor of a row last found in series_slots. A hash of slot and labels selects the entry. Entries of series
// that were deleted are of an earlier generation.
volatile const __u32 series_cache_size; // entries of each row; a power of two

struct series_found {
	__u64 labels;
	__u32 slot, series;
	__u64 generation;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct series_found);
	__uint(max_entries, 1);
} series_cache SEC(".maps");

static __always_inline __u32 protocol_number(__u32 protocol)
{
	switch (protocol) {
	case PROTOCOL_TCP:
		return 1;
	case PROTOCOL_UDP:
		return 2;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		return 3;
	case PROTOCOL_SCTP:
		return 4;
	case PROTOCOL_ESP:
		return 5;
	case PROTOCOL_GRE:
		return 6;
	}
	return 0;
}

// add_series gives a free slot to a new series of an address, as add_owner does to an address. It returns OTHER if no slot is free.
static __always_inline __u64 add_series(__u64 slot, __u64 labels)
{
	struct series_key of = {slot, labels};
	struct series_owner *o;
	__u32 series = 0, *owned;
	__u64 key, *count;
	int refused; // as in add_owner

	if (series_full != OPEN)
		return OTHER;
	refused = bpf_map_pop_elem(&free_series, &series);
	if (refused) {
		if (refused == -ENOENT) // another error says that it was busy
			series_full = FULL;
		return OTHER;
	}
	key = KEY(series - first_series);
	o = bpf_map_lookup_elem(&series_owners, &key);
	if (!o)
		return OTHER; // never: each slot has an entry
	o->labels = labels;
	barrier();
	o->owned = slot + 1;
	if (!bpf_map_update_elem(&series_slots, &of, &series, BPF_NOEXIST)) {
		key = KEY(slot);
		count = bpf_map_lookup_elem(&series_counts, &key);
		if (count)
			__sync_fetch_and_add(count, 1);
		return series;
	}

	// Another processor was faster, or the map is busy.
	o->owned = 0;
	bpf_map_push_elem(&free_series, &series, 0);
	owned = bpf_map_lookup_elem(&series_slots, &of);
	return owned ? *owned : OTHER;
}

// new_series returns the slot for labels that an address has not had yet. From SERIES_PER_IP series of the address on, VLAN and interface
// of new ones are "other". From twice as many on, all labels are. The same happens when no slot is free.
static __always_inline __u64 new_series(__u64 slot, __u64 labels)
{
	const __u64 endless = VLAN_FIELD | INTERFACE_FIELD;
	struct series_key coarser = {slot, (labels & ~endless) | (labels_rest & endless)};
	__u64 key = KEY(slot), *count = bpf_map_lookup_elem(&series_counts, &key);
	__u32 series, *owned;

	if (!count)
		return slot; // never: each address has an entry
	if (labels != coarser.labels && *count < SERIES_PER_IP) {
		series = add_series(slot, labels);
		if (series != OTHER)
			return series;
	}
	if (coarser.labels == labels_rest)
		return slot;
	owned = bpf_map_lookup_elem(&series_slots, &coarser);
	if (owned)
		return *owned;
	if (*count < 2 * SERIES_PER_IP) {
		series = add_series(slot, coarser.labels);
		if (series != OTHER)
			return series;
	}
	return slot;
}

// series_slot returns the slot of a series. With quick, it returns HASHED if the cache lacks it. Processors that share a row have no cache.
static __always_inline __u64 series_slot(__u64 row, __u64 slot, __u64 labels, const int quick)
{
	struct series_key of = {slot, labels};
	__u64 key = KEY(row * series_cache_size + ((slot ^ (__u32)(labels * GOLDEN >> 32)) & (series_cache_size - 1)));
	struct series_found *found = bpf_map_lookup_elem(&series_cache, &key); // no entry has a key of SHARED_ROW
	__u32 *series;

	if (found && found->labels == labels && found->slot == slot && found->generation == generation)
		return found->series;
	if (quick)
		return HASHED;
	series = bpf_map_lookup_elem(&series_slots, &of);
	if (!series)
		return new_series(slot, labels);
	if (found) {
		found->labels = labels;
		found->slot = slot;
		found->series = *series;
		found->generation = generation;
	}
	return *series;
}

// labelled_slot returns the slot that counts what the address with this slot moves with these labels.
static __always_inline __u64 labelled_slot(__u64 row, __u64 slot, __u64 labels, const int quick)
{
	labels = opaque(labels & labels_mask);
	if (slot == OTHER || slot == HASHED || labels == labels_rest)
		return slot;
	return series_slot(row, slot, labels, quick);
}

// packet_labels returns the labels of the packet, which are the same for both ends. interface is the number in sums.
static __always_inline __u64 packet_labels(__u64 interface, __u64 protocol, __u64 vlan)
{
	__u64 key = KEY(interface), *number = 0;

	if (labels_mask & INTERFACE_FIELD)
		number = bpf_map_lookup_elem(&interface_numbers, &key);
	return opaque((number ? *number << INTERFACE_AT : 0) | (__u64)vlan << VLAN_AT | protocol_number(protocol));
}

static __always_inline __u64 source_labels(__u64 from, __u64 to, int is_group)
{
	return (from & NETWORK_FIELD) | (is_group ? (__u64)MULTICAST << PEER_AT : to & PEER_FIELD);
}

static __always_inline __u64 destination_labels(__u64 from, __u64 to)
{
	return (to & NETWORK_FIELD) | (from & PEER_FIELD);
}

// grouped_slot4 and grouped_slot6 return the slot of the prefix that an address is in, or NOWHERE.

static __always_inline __u64 grouped_slot4(const struct place4 *p, __u64 address, const int quick)
{
	__u64 prefix = address >> host_bits4 << host_bits4;

	if (!(p->labels & PLACE_MONITORED))
		return NOWHERE;
	if (p->labels & PLACE_INDEXED)
		return (__u32)(p->base + (address >> host_bits4));
	return quick ? quick_slot4(prefix) : shared_slot4(prefix);
}

static __always_inline __u64 grouped_slot6(__u64 labels, const struct address6 *address, const int quick)
{
	struct address6 prefix = {address->high & prefix_mask6.high, address->low & prefix_mask6.low};

	if (!(labels & PLACE_MONITORED))
		return NOWHERE;
	return quick ? quick_slot6(&prefix) : shared_slot6(&prefix);
}

// label replaces the slots of two addresses with those of their series.
static __always_inline void label(__u64 row, struct ends *e, __u64 from_labels, __u64 to_labels, const int quick)
{
	e->from = opaque(e->from);
	e->to = opaque(e->to);
	if (e->from != NOWHERE)
		e->from = labelled_slot(row, e->from, from_labels, quick);
	if (e->to != NOWHERE)
		e->to = labelled_slot(row, e->to, to_labels, quick);
	e->from = opaque(e->from);
	e->to = opaque(e->to);
}

// group4 and group6 are find_ends4 and find_ends6 for totals by prefixes and labels.

static __always_inline enum outcome group4(__u64 row, __u64 source, __u64 destination, __u64 labels, struct ends *e, const int quick)
{
	struct place4 from = {}, to = {};

	if (is_excluded4(source) || is_excluded4(destination))
		return EXCLUDED;
	find_place4(source, &from);
	find_place4(destination, &to);
	from.base = opaque(from.base);
	from.labels = opaque(from.labels);
	to.base = opaque(to.base);
	to.labels = opaque(to.labels);
	e->from = grouped_slot4(&from, source, quick);
	e->to = grouped_slot4(&to, destination, quick);
	label(row, e, labels | source_labels(from.labels, to.labels, to.labels & PLACE_BROADCAST || is_group4(destination)),
	      labels | destination_labels(from.labels, to.labels), quick);
	return COUNTED;
}

static __always_inline enum outcome group6(__u64 row, const struct address6 *source, const struct address6 *destination, __u64 labels,
					   struct ends *e, const int quick)
{
	__u64 from, to;

	if (is_excluded6(source) || is_excluded6(destination))
		return EXCLUDED;
	from = opaque(search_place6(source));
	to = opaque(search_place6(destination));
	e->from = grouped_slot6(from, source, quick);
	e->to = grouped_slot6(to, destination, quick);
	label(row, e, labels | source_labels(from, to, is_group6(destination)), labels | destination_labels(from, to), quick);
	return COUNTED;
}

// group_flow is group4 with the cache of flows: most packets follow another one of their flow.
static __always_inline enum outcome group_flow(__u64 row, const struct ipv4 *ip, __u64 labels, struct ends *e)
{
	__u64 addresses = (__u64)ip->source << 32 | ip->destination, now = current_generation();
	enum outcome outcome;

	if (find_flow(row, addresses, labels, now, e))
		return COUNTED;
	outcome = group4(row, bpf_ntohl(ip->source), bpf_ntohl(ip->destination), labels, e, 1);
	if (outcome == COUNTED)
		keep_flow(row, addresses, labels, now, e);
	return outcome;
}

static __always_inline int is_extension(__u32 protocol)
{
	return protocol == PROTOCOL_HOP_BY_HOP || protocol == PROTOCOL_ROUTING || protocol == PROTOCOL_FRAGMENT ||
	       protocol == PROTOCOL_DESTINATION;
}

// upper_protocol returns the protocol behind the extension headers of the IPv6 header at an offset. Only the first fragment of a packet has
// all of them. The fragment header of a later one has the protocol of what comes first in the fragmented part.
static __always_inline __u32 upper_protocol(const struct frame f, __u32 at, __u32 protocol)
{
	__u8 e[8];

	at += sizeof(struct ipv6);
#pragma unroll
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (!is_extension(protocol))
			return protocol;
		if (load(f, at, e, sizeof(e)))
			return NO_PROTOCOL;
		if (protocol == PROTOCOL_FRAGMENT && (e[2] || e[3] & 0xf8)) // a later fragment: only the header tells the protocol
			return e[0];
		at += protocol == PROTOCOL_FRAGMENT ? sizeof(e) : sizeof(e) + e[1] * 8;
		protocol = e[0];
	}
	return is_extension(protocol) ? NO_PROTOCOL : protocol;
}

// removed_vlan returns the ID of the VLAN tag that the kernel has removed from a frame, or 0. It removes the outermost tag of most frames.
static __always_inline __u32 removed_vlan(struct __sk_buff *skb)
{
	return skb->vlan_present ? skb->vlan_tci & VLAN_ID : 0;
}
