// What was counted. All of it only grows, and every processor has its own: no atomic operation, no line of a cache that two
// of them write.

struct totals {
	__u64 receive_bytes, transmit_bytes;
	__u64 receive_packets, transmit_packets;
};

struct outcome_size {
	__u64 packets, bytes;
};

// sum is what a processor counts besides single addresses: two lines of a cache.
struct sum {
	struct outcome_size outcomes[OUTCOMES];
	struct totals other; // of addresses that found their map full
	__u64 unused[2];
};

// sums has one for each processor.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct sum);
	__uint(max_entries, 1);
} sums SEC(".maps");

// indexed has the addresses of indexed ranges, indexed_count for each processor, one after the other.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct totals);
	__uint(max_entries, 1);
} indexed SEC(".maps");

volatile const __u32 indexed_count;

// hosts4 and hosts6 have all other addresses.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, __u32);
	__type(value, struct totals);
	__uint(max_entries, 1);
} hosts4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, struct address6);
	__type(value, struct totals);
	__uint(max_entries, 1);
} hosts6 SEC(".maps");

// Whether hosts4 and hosts6 have refused an address for lack of room: to ask them again would cost every packet a search
// for a free place over all processors.
__u32 full4, full6;

#define E2BIG 7 // asm-generic/errno-base.h

static __always_inline struct totals *other(__u32 cpu)
{
	struct sum *s = bpf_map_lookup_elem(&sums, &cpu);

	return s ? &s->other : 0;
}

static __always_inline struct totals *hashed(void *hosts, const void *key, __u32 *full, __u32 cpu)
{
	struct totals *t = bpf_map_lookup_elem(hosts, key), none = {};

	if (t)
		return t;
	if (!*full) {
		if (bpf_map_update_elem(hosts, key, &none, BPF_NOEXIST) == -E2BIG)
			*full = 1;
		// It is there now, or another processor was quicker, or there is no room.
		t = bpf_map_lookup_elem(hosts, key);
		if (t)
			return t;
	}
	return other(cpu);
}

// totals4 and totals6 give where a processor adds what an address moved.

static __always_inline struct totals *totals4(__u32 cpu, __u32 index, __u32 address)
{
	if (index == HASHED)
		return hashed(&hosts4, &address, &full4, cpu);
	index += cpu * indexed_count;
	return bpf_map_lookup_elem(&indexed, &index);
}

static __always_inline struct totals *totals6(__u32 cpu, const struct address6 *address)
{
	return hashed(&hosts6, address, &full6, cpu);
}

static __always_inline void receive(struct totals *t, __u64 bytes, __u64 packets)
{
	if (!t)
		return; // not so: no index is beyond its map
	t->receive_bytes += bytes;
	t->receive_packets += packets;
}

static __always_inline void transmit(struct totals *t, __u64 bytes, __u64 packets)
{
	if (!t)
		return;
	t->transmit_bytes += bytes;
	t->transmit_packets += packets;
}

static __always_inline void add_outcome(__u32 cpu, enum outcome outcome, __u64 bytes, __u64 packets)
{
	struct sum *s = bpf_map_lookup_elem(&sums, &cpu);

	if (!s || outcome >= OUTCOMES)
		return;
	s->outcomes[outcome].packets += packets;
	s->outcomes[outcome].bytes += bytes;
}
