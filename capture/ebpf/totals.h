// What was counted. All of it only grows, and every processor has its own: no atomic operation, no line of a cache that two
// of them write.

struct size {
	__u64 bytes, packets;
};

enum direction { RECEIVE, TRANSMIT, DIRECTIONS };

// sums has what a processor counts besides single addresses, SUMS for each interface, which are two lines of a cache: one for
// each outcome, then one for each direction of the addresses that found no slot.
#define SUMS 8
#define SUM_OTHER OUTCOMES

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct size);
	__uint(max_entries, 1);
} sums SEC(".maps");

// interface_slots has the place in sums of an interface, by its index, if there may be more than one.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} interface_slots SEC(".maps");

volatile const __u32 interfaces;

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

// low and high have what addresses moved: for each processor, for each direction, a slot for each address. With many
// addresses it is their place in the cache that counts: a packet needs 8 bytes, and the high half once in 4 GiB.
struct halves low SEC(".maps"), high SEC(".maps");

// An address of an indexed range has the slot of its index. All others share the slots from first_shared on. Behind these are those
// of series, if totals are kept apart by labels.
volatile const __u32 slots, first_shared;

// slots4 and slots6 have the slots of addresses that share.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} slots4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct address6);
	__type(value, __u32);
	__uint(max_entries, 1);
} slots6 SEC(".maps");

// free_slots are those that no address has.
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__type(value, __u32);
	__uint(max_entries, 1);
} free_slots SEC(".maps");

struct owner {
	__u64 high, low; // of the address
	__u64 version;   // of IP; 0 is nobody
};

// owners tells Go whose a shared slot is.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct owner);
	__uint(max_entries, 1);
} owners SEC(".maps");

// Whether slots are given away. Once an address was refused for want of one, none is until Go has taken back those of addresses
// that have expired: so nothing is inserted in a map where something is being deleted, whose place a program that has just found
// it may still look at.
enum { OPEN, FULL, CLOSED }; // CLOSED is while Go does that

__u32 full;

// known says of places that hashes of addresses lead to whether an address with a slot has one of them. While slots are full it
// spares most others, as the spoofed sources of a flood, a search in a map that does not fit in the cache. A place is a byte, which
// processors can set at the same time; they come by eights, as that is the least that an array has for a value.
struct places {
	__u8 of[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct places);
	__uint(max_entries, 1);
} known SEC(".maps");

volatile const __u32 known_bits; // of a place
volatile const __u64 known_seed; // so that who can choose addresses cannot choose places

#define GOLDEN 0x9e3779b97f4a7c15 // 2^64 by the golden ratio: Knuth's multiplicative hashing

static __always_inline __u64 known_place(__u64 high, __u64 low)
{
	return (((high ^ known_seed) * GOLDEN) ^ low ^ known_seed) * GOLDEN >> (64 - known_bits);
}

// is_known and make_known do without a pointer into a value: without CAP_PERFMON, verifiers are strict about what is added to one.

static __always_inline int is_known(__u64 place)
{
	__u64 key = KEY(place / 8), *places = bpf_map_lookup_elem(&known, &key);

	if (!places)
		return 1; // not so: no place is beyond the map
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return *places >> place % 8 * 8 & 1;
#else
	return *places >> (7 - place % 8) * 8 & 1;
#endif
}

static __always_inline void make_known(__u64 place)
{
	__u64 key = KEY(place / 8);
	volatile struct places *places = bpf_map_lookup_elem(&known, &key);

	if (!places)
		return;
#pragma unroll
	for (int i = 0; i < 8; i++)
		if (place % 8 == i)
			places->of[i] = 1;
}

// is_refused tells that an address has no slot, and gets none.
static __always_inline int is_refused(__u64 high, __u64 low)
{
	return full == FULL && !is_known(known_place(high, low));
}

static __always_inline void add(struct size *s, __u64 bytes, __u64 packets)
{
	s->bytes += bytes;
	s->packets += packets;
}

// interface_of gives the place in sums of a packet's interface.
static __always_inline __u32 interface_of(struct __sk_buff *skb)
{
	__u32 *slot, of = 0;
	__u64 key;

	if (interfaces > 1) {
		key = KEY(skb->ifindex);
		slot = bpf_map_lookup_elem(&interface_slots, &key);
		if (slot)
			of = *slot;
	}
	return of;
}

// sums_of gives where a processor's sums of an interface begin.
static __always_inline __u32 sums_of(__u32 interface, __u32 cpu)
{
	return (cpu * interfaces + interface) * SUMS;
}

// add_sum adds to one of the sums from at on.
static __always_inline void add_sum(__u32 at, __u32 sum, __u64 bytes, __u64 packets)
{
	__u64 key = KEY(at + sum);
	struct size *s = bpf_map_lookup_elem(&sums, &key);

	if (s)
		add(s, bytes, packets);
}

// add_owner gives a slot to an address that has none, if there is one.
__noinline __u32 add_owner(__u64 high, __u64 low, __u32 version)
{
	struct address6 key6 = {high, low};
	__u64 key4 = KEY(low), key;
	__u32 slot = 0, *owned;
	struct owner *o;
	long refused = bpf_map_pop_elem(&free_slots, &slot);

	if (refused) {
		if (refused == -ENOENT) // not if it was busy
			full = FULL;
		return NOWHERE;
	}
	make_known(known_place(high, low));
	key = KEY(slot - first_shared);
	o = bpf_map_lookup_elem(&owners, &key);
	if (!o)
		return NOWHERE; // not so: there is one for each
	o->high = high;
	o->low = low;
	barrier();
	o->version = version;
	if (version == 4)
		refused = bpf_map_update_elem(&slots4, &key4, &slot, BPF_NOEXIST);
	else
		refused = bpf_map_update_elem(&slots6, &key6, &slot, BPF_NOEXIST);
	if (!refused)
		return slot;

	// Another processor was quicker, or the map is busy.
	o->version = 0;
	bpf_map_push_elem(&free_slots, &slot, 0);
	owned = version == 4 ? bpf_map_lookup_elem(&slots4, &key4) : bpf_map_lookup_elem(&slots6, &key6);
	return owned ? *owned : NOWHERE;
}

// shared_slot4 and shared_slot6 give the slot of an address that shares, or NOWHERE.

static __always_inline __u32 shared_slot4(__u32 address)
{
	__u64 key = KEY(address);
	__u32 *slot;

	if (is_refused(0, address))
		return NOWHERE;
	slot = bpf_map_lookup_elem(&slots4, &key);
	if (slot)
		return *slot;
	return full == OPEN ? add_owner(0, address, 4) : NOWHERE;
}

static __always_inline __u32 shared_slot6(const struct address6 *address)
{
	__u32 *slot;

	if (is_refused(address->high, address->low))
		return NOWHERE;
	slot = bpf_map_lookup_elem(&slots6, address);
	if (slot)
		return *slot;
	return full == OPEN ? add_owner(address->high, address->low, 6) : NOWHERE;
}

// add_slot adds to what the address moved that has a slot, or without one to the others'.
static __always_inline void add_slot(__u32 cpu, __u32 sums_at, __u32 slot, enum direction d, __u64 bytes, __u64 packets)
{
	struct half *l, *h;
	__u64 key;

	if (slot == NOWHERE) {
		add_sum(sums_at, SUM_OTHER + d, bytes, packets);
		return;
	}
	key = KEY((cpu * DIRECTIONS + d) * slots + slot);
	l = bpf_map_lookup_elem(&low, &key);
	if (!l)
		return; // not so: no slot is beyond the map
	bytes += l->bytes;
	packets += l->packets;
	l->bytes = bytes;
	l->packets = packets;
	if ((bytes | packets) >> 32) {
		h = bpf_map_lookup_elem(&high, &key);
		if (h) {
			h->bytes += bytes >> 32;
			h->packets += packets >> 32;
		}
	}
}
