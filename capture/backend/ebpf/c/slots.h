// Which slot an address has that shares them with others. A hash map of the kernel decides; what it says is kept in a table of places,
// which one load from memory finds.

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

// owners tells whose a shared slot is.
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
enum slots_state { OPEN, FULL, CLOSED }; // CLOSED is while Go does that

__u32 full;

#define GOLDEN 0x9e3779b97f4a7c15 // 2^64 by the golden ratio: Knuth's multiplicative hashing

volatile const __u64 seed;  // so that who can choose addresses cannot choose places
volatile const __u64 seed4; // what becomes of the upper half of an address that has none

// hash_of gives a number of an address whose upper bits are places in the tables below.
static __always_inline __u64 hash_of(__u64 high, __u64 low)
{
	return (((high ^ seed) * GOLDEN) ^ low ^ seed) * GOLDEN;
}

// hash4_of is hash_of for who has no upper half, in half the time.
static __always_inline __u64 hash4_of(__u64 low)
{
	return (low ^ seed4) * GOLDEN;
}

// found has what was looked up. Eight addresses that follow each other share a line of the cache, as hosts of a network are close to each
// other: the hash of their other bits gives the line, or one of its neighbours. The place of an address has a tag in the upper half, and
// 1 + a slot in the lower one. That is one word, which processors can read and write at the same time. The tag of an IPv4 address is the
// address; that of IPv6 is of its hash, so that the slot's owner has to be looked at, too. A place that is not free is given to who
// comes later.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} found SEC(".maps");

volatile const __u64 line_shift; // of a hash, for the number of a line
volatile const __u32 two_stores; // processors of 32 bits write a word in two

enum line {
	LINE_BITS = 3,     // logarithm of the places in a line
	NEIGHBOUR_BITS = 2 // logarithm of the lines that are looked at
};

// word4 and word6 give the word of an address, but for the slot. The lower half tells versions of IP apart.

static __always_inline __u64 word4(__u64 address)
{
	return address << 32;
}

static __always_inline __u64 word6(__u64 hash)
{
	return hash << 24 >> 32 << 32 | 1U << 31;
}

// place_in gives the place in found of an address, where hash is that of all of it but the last three bits.
static __always_inline __u64 place_in(__u64 hash, __u64 low)
{
	return hash >> line_shift << LINE_BITS | (low & ((1 << LINE_BITS) - 1));
}

// find_slot gives the slot of an address, or HASHED.
static __always_inline __u64 find_slot(__u64 place, __u64 word)
{
	__u64 key, *at, slot;

#pragma unroll
	for (__u64 i = 0; i < 1 << NEIGHBOUR_BITS; i++) {
		key = KEY(place ^ i << LINE_BITS);
		at = bpf_map_lookup_elem(&found, &key);
		if (!at)
			break; // not so: no place is beyond the map
		slot = (*at ^ word) - 1;
		if (slot < slots) // not if anything else differs, and not of a free place
			return slot;
	}
	return HASHED;
}

// keep_slot has find_slot find a slot from now on.
static __always_inline void keep_slot(__u64 place, __u64 word, __u64 slot)
{
	__u64 key = KEY(place), *next, *at;

	at = bpf_map_lookup_elem(&found, &key);
	if (!at || full == CLOSED)
		return;
#pragma unroll
	for (__u64 i = 1; i < 1 << NEIGHBOUR_BITS; i++) {
		if (!*at)
			break;
		key = KEY(place ^ i << LINE_BITS);
		next = bpf_map_lookup_elem(&found, &key);
		if (next && !*next)
			at = next;
	}
	*(volatile __u64 *)at = word ^ (slot + 1);
}

static __always_inline int owns(__u64 slot, __u64 high, __u64 low, __u64 version)
{
	__u64 key = KEY(slot - first_shared);
	struct owner *o = bpf_map_lookup_elem(&owners, &key);

	return o && o->low == low && o->high == high && o->version == version;
}

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

volatile const __u64 known_shift; // of a hash, for a place

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
	return full == FULL && !is_known(hash_of(high, low) >> known_shift);
}

// quick_slot4 and quick_slot6 give the slot of an address that shares, OTHER, or HASHED if they have not found out.

static __always_inline __u64 quick_slot4(__u64 address)
{
	__u64 slot = find_slot(place_in(hash4_of(address >> 3), address), word4(address));

	if (two_stores && slot != HASHED && !owns(slot, 0, address, 4))
		slot = HASHED;
	return slot == HASHED && is_refused(0, address) ? OTHER : slot;
}

static __always_inline __u64 quick_slot6(const struct address6 *a)
{
	__u64 hash = hash_of(a->high, a->low >> 3), slot = find_slot(place_in(hash, a->low), word6(hash));

	if (slot != HASHED && !owns(slot, a->high, a->low, 6))
		slot = HASHED;
	return slot == HASHED && is_refused(a->high, a->low) ? OTHER : slot;
}

// add_owner gives a slot to an address that has none, if there is one.
static __always_inline __u64 add_owner(__u64 high, __u64 low, __u64 version)
{
	struct address6 key6 = {high, low};
	__u64 key4 = KEY(low), key;
	__u32 slot = 0, *owned;
	struct owner *o;
	int refused = bpf_map_pop_elem(&free_slots, &slot); // before Linux 6.4 only these bits of it are set

	if (refused) {
		if (refused == -ENOENT) // not if it was busy
			full = FULL;
		return OTHER;
	}
	make_known(hash_of(high, low) >> known_shift);
	key = KEY(slot - first_shared);
	o = bpf_map_lookup_elem(&owners, &key);
	if (!o)
		return OTHER; // not so: there is one for each
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
	return owned ? *owned : OTHER;
}

// shared_slot4 and shared_slot6 give the slot of an address that shares, or OTHER. A new one of IPv6 is kept once it is looked up, as then
// whoever finds it sees its owner, too.

static __always_inline __u64 shared_slot4(__u64 address)
{
	__u64 slot = quick_slot4(address), key = KEY(address);
	__u32 *owned;

	if (slot != HASHED)
		return slot;
	owned = bpf_map_lookup_elem(&slots4, &key);
	if (owned)
		slot = *owned;
	else
		slot = full == OPEN ? add_owner(0, address, 4) : OTHER;
	if (slot != OTHER)
		keep_slot(place_in(hash4_of(address >> 3), address), word4(address), slot);
	return slot;
}

static __always_inline __u64 shared_slot6(const struct address6 *a)
{
	__u64 slot = quick_slot6(a), hash;
	__u32 *owned;

	if (slot != HASHED)
		return slot;
	owned = bpf_map_lookup_elem(&slots6, a);
	if (!owned)
		return full == OPEN ? add_owner(a->high, a->low, 6) : OTHER;
	slot = *owned;
	hash = hash_of(a->high, a->low >> 3);
	keep_slot(place_in(hash, a->low), word6(hash), slot);
	return slot;
}
