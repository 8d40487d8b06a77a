// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// A flow is the packets from one IPv4 address to another with the same labels of the packet (protocol, VLAN, interface). Most packets
// follow another one of their flow. A cache has the slots that were found for that one: the packet needs no search for subnets, addresses
// and series. Programs that count by single addresses alone have no such cache: their search is as fast.

// generation is the number of the current generation. What programs cache is valid for one generation. Go begins the next one when it
// takes slots back; programs then ignore older entries.
__u32 generation = 1;

struct flow {
	__u64 addresses; // source and destination, in network byte order
	__u64 labels;
	__u32 from, to;
	__u32 generation; // 0 while the other fields change. Only the processor of the row uses an entry
	__u32 unused;
};

// flows has 1 << flow_bits entries for each row. A hash of the flow selects the entry, and the latest flow takes it.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct flow);
	__uint(max_entries, 1);
} flows SEC(".maps");

volatile const __u64 flow_bits;

static __always_inline __u64 current_generation(void)
{
	return *(volatile __u32 *)&generation;
}

// place_of_flow returns the entry of a flow. It returns 0 on processors that share a row: those have no entries.
static __always_inline struct flow *place_of_flow(__u64 row, __u64 addresses, __u64 labels)
{
	__u64 key;

	if (row == SHARED_ROW)
		return 0;
	key = KEY((row << flow_bits) + (hash4_of(addresses ^ labels << 32 ^ labels) >> (64 - flow_bits)));
	return bpf_map_lookup_elem(&flows, &key);
}

// stays tells whether an end's slot cannot change before the next generation. That of an address without a slot (OTHER), or not looked up
// yet (HASHED), can.
static __always_inline int stays(__u64 slot)
{
	return slot != HASHED && slot != OTHER;
}

// find_flow tells whether the slots of a flow were found in generation now. If so, it stores them in e.
static __always_inline int find_flow(__u64 row, __u64 addresses, __u64 labels, __u64 now, struct ends *e)
{
	struct flow *f = place_of_flow(row, addresses, labels);

	if (!f || f->addresses != addresses || f->labels != labels || f->generation != now)
		return 0;
	e->from = f->from;
	e->to = f->to;
	return 1;
}

// keep_flow enters the slots of a flow into the cache. now is the generation that was read before the search: read later, it would mark
// old slots as new. keep_flow looks up the entry once more: without CAP_PERFMON, old verifiers lose track of a pointer that is held
// through the search.
static __always_inline void keep_flow(__u64 row, __u64 addresses, __u64 labels, __u64 now, const struct ends *e)
{
	struct flow *f = place_of_flow(row, addresses, labels);

	if (!f || !stays(e->from) || !stays(e->to))
		return;
	f->generation = 0;
	barrier();
	f->addresses = addresses;
	f->labels = labels;
	f->from = e->from;
	f->to = e->to;
	barrier();
	f->generation = now;
}
