// What was counted. All of it only grows, and every processor has its own: no atomic operation, no line of a cache that two
// of them write.

struct size {
	__u64 bytes, packets;
};

enum direction { RECEIVE, TRANSMIT, DIRECTIONS };

struct totals {
	struct size of[DIRECTIONS];
};

// sums has what a processor counts besides single addresses, SUMS for each processor, which are two lines of a cache: one for
// each outcome, then one for each direction of the addresses that found their map full.
#define SUMS 8
#define SUM_OTHER OUTCOMES

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct size);
	__uint(max_entries, 1);
} sums SEC(".maps");

// half is the low or the high half of a size.
struct half {
	__u32 bytes, packets;
};

struct halves {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct half);
	__uint(max_entries, 1);
};

// indexed_low and indexed_high have the addresses of indexed ranges: for each processor, for each direction, indexed_count.
// With many addresses it is their place in the cache that counts: a packet needs 8 bytes, and the high half once in 4 GiB.
struct halves indexed_low SEC(".maps"), indexed_high SEC(".maps");

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

static __always_inline void add(struct size *s, __u64 bytes, __u64 packets)
{
	s->bytes += bytes;
	s->packets += packets;
}

// add_sum adds to one of a processor's sums.
static __always_inline void add_sum(__u32 cpu, __u32 sum, __u64 bytes, __u64 packets)
{
	__u64 key = KEY(cpu * SUMS + sum);
	struct size *s = bpf_map_lookup_elem(&sums, &key);

	if (s)
		add(s, bytes, packets);
}

static __always_inline void add_hashed(void *hosts, const void *address, __u32 *full, __u32 cpu, enum direction d,
				       __u64 bytes, __u64 packets)
{
	struct totals *t = bpf_map_lookup_elem(hosts, address), none = {};

	if (!t && !*full) {
		if (bpf_map_update_elem(hosts, address, &none, BPF_NOEXIST) == -E2BIG)
			*full = 1;
		// It is there now, or another processor was quicker, or there is no room.
		t = bpf_map_lookup_elem(hosts, address);
	}
	if (t)
		add(&t->of[d], bytes, packets);
	else
		add_sum(cpu, SUM_OTHER + d, bytes, packets);
}

// add4 and add6 add to what an address moved. For index see find4.

static __always_inline void add4(__u32 cpu, __u32 index, __u32 address, enum direction d, __u64 bytes, __u64 packets)
{
	struct half *low, *high;
	__u64 key = KEY(address);

	if (index == HASHED) {
		add_hashed(&hosts4, &key, &full4, cpu, d, bytes, packets);
		return;
	}
	key = KEY((cpu * DIRECTIONS + d) * indexed_count + index);
	low = bpf_map_lookup_elem(&indexed_low, &key);
	if (!low)
		return; // not so: no index is beyond the map
	bytes += low->bytes;
	packets += low->packets;
	low->bytes = bytes;
	low->packets = packets;
	if ((bytes | packets) >> 32) {
		high = bpf_map_lookup_elem(&indexed_high, &key);
		if (high) {
			high->bytes += bytes >> 32;
			high->packets += packets >> 32;
		}
	}
}

static __always_inline void add6(__u32 cpu, const struct address6 *address, enum direction d, __u64 bytes, __u64 packets)
{
	add_hashed(&hosts6, address, &full6, cpu, d, bytes, packets);
}
