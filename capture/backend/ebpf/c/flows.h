// Flows: packets from one IPv4 address to another, with the same labels. Most packets follow another one of their flow. These have the slots
// that were found for that one, without a search for subnets, addresses and series. Programs that count by single addresses alone search
// as fast, and do without.

// generation is the one in which programs keep what they find in caches. Go begins the next one when it takes slots back.
__u32 generation = 1;

struct flow {
	__u64 addresses; // source and destination, in the order of the network
	__u64 labels;
	__u32 from, to;
	__u32 generation; // 0 while the rest changes
	__u32 unused;
};

// flows has 1 << flow_bits places for each row. A hash gives the place of a flow; the latest flow has it.
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

// place_of_flow gives the place of a flow, or 0 to processors that share a row: those have no places.
static __always_inline struct flow *place_of_flow(__u64 row, __u64 addresses, __u64 labels)
{
	__u64 key;

	if (row >= rows)
		return 0;
	key = KEY((row << flow_bits) + (hash4_of(addresses ^ labels << 32 ^ labels) >> (64 - flow_bits)));
	return bpf_map_lookup_elem(&flows, &key);
}

// stays tells whether an address keeps what it has instead of a slot, or the slot, until the next generation.
static __always_inline int stays(__u64 slot)
{
	return slot != HASHED && slot != OTHER;
}

// find_flow tells whether the slots of a flow were found in this generation, and gives them.
static __always_inline int find_flow(__u64 row, __u64 addresses, __u64 labels, __u64 now, struct ends *e)
{
	struct flow *f = place_of_flow(row, addresses, labels);

	if (!f || f->addresses != addresses || f->labels != labels || f->generation != now)
		return 0;
	e->from = f->from;
	e->to = f->to;
	return 1;
}

// keep_flow keeps the slots of a flow, found in a generation that began before the search did. It looks for the place once more: without
// CAP_PERFMON, old verifiers lose sight of a pointer that is held through the search.
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
