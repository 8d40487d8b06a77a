// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Which slot an address has, of the slots that addresses share. A hash map of the kernel decides. The table found caches what that map
// says: one load from memory finds nearly every address in it.

// slots4 and slots6 have the shared slots of addresses.
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

// free_slots has the shared slots without an owner.
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__type(value, __u32);
	__uint(max_entries, 1);
} free_slots SEC(".maps");

struct owner {
	__u64 high, low; // of the address
	__u64 version;   // of IP; 0: the slot has no owner
};

// owners has the owner of each shared slot.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct owner);
	__uint(max_entries, 1);
} owners SEC(".maps");

// The state of a pool of slots. Programs give slots away while it is OPEN. It is FULL once an address or series found no free slot, and
// CLOSED while Go takes back expired slots. So programs insert nothing into a map from which Go deletes: the new entry could take the
// memory of a deleted one, which a program that has just found it may still read.
enum slots_state { OPEN, FULL, CLOSED };

__u32 full; // the state of the shared slots

#define GOLDEN 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: Knuth's multiplicative hashing

volatile const __u64 seed;  // random, so that nobody who chooses addresses can make their hashes collide
volatile const __u64 seed4; // what hash_of makes of an upper half that is 0

// hash_of returns the hash of an address. Its upper bits are the index in the tables below.
static __always_inline __u64 hash_of(__u64 high, __u64 low)
{
	return (((high ^ seed) * GOLDEN) ^ low ^ seed) * GOLDEN;
}

// hash4_of is hash_of for an upper half of 0, as IPv4 addresses have, in half the time.
static __always_inline __u64 hash4_of(__u64 low)
{
	return (low ^ seed4) * GOLDEN;
}

// found has the slots of addresses that were looked up. Hosts of a network have addresses close to each other: so eight addresses that
// follow each other share a cache line. The hash of their other bits selects the line; an address may also be in one of its neighbours.
//
// An entry is one word, which processors can read and write at the same time. It has a tag in the upper half, and 1 + a slot in the lower
// one; 0 is free. The tag of an IPv4 address is the address. That of an IPv6 address is a part of its hash, so the slot's owner has to be
// compared, too. If no entry is free, the new address replaces an older one.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} found SEC(".maps");

volatile const __u64 line_shift; // hash >> line_shift is the number of a line
volatile const __u32 two_stores; // the processor has 32 bits, and writes an entry in two stores

enum line {
	LINE_BITS = 3,     // log2 of the entries in a line
	NEIGHBOUR_BITS = 2 // log2 of the lines that a search reads
};

// word4 and word6 return the entry of an address, without the slot. A bit of the lower half tells IPv6 from IPv4.

static __always_inline __u64 word4(__u64 address)
{
	return address << 32;
}

static __always_inline __u64 word6(__u64 hash)
{
	return hash << 24 >> 32 << 32 | 1U << 31;
}

// place_in returns the index in found of an address. hash is that of the address without its last three bits.
static __always_inline __u64 place_in(__u64 hash, __u64 low)
{
	return hash >> line_shift << LINE_BITS | (low & ((1 << LINE_BITS) - 1));
}

// find_slot returns the slot of an address, or HASHED if found does not have it. An entry ^ word is 1 + a slot only if the tag and the
// version of IP are the same.
static __always_inline __u64 find_slot(__u64 place, __u64 word)
{
	__u64 key, *at, slot;

#pragma unroll
	for (__u64 i = 0; i < 1 << NEIGHBOUR_BITS; i++) {
		key = KEY(place ^ i << LINE_BITS);
		at = bpf_map_lookup_elem(&found, &key);
		if (!at)
			break; // never: the index is within the map
		slot = (*at ^ word) - 1;
		if (slot < slots) // the words have all but a slot in common, and the place is not free
			return slot;
	}
	return HASHED;
}

// keep_slot enters a slot into found, unless the slots are CLOSED.
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

// known has a byte for each hash of an address: 1 if an address with that hash has a slot. While the slots are FULL, most addresses without
// a slot need no search in a map that does not fit into the cache. Such are the spoofed sources of a flood. Processors can set bytes at the
// same time. A value has eight of them: an array has no smaller values.
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

volatile const __u64 known_shift; // hash >> known_shift is the number of a byte

// is_known and make_known use no pointer into a value: without CAP_PERFMON, verifiers are strict about what is added to a pointer.

static __always_inline int is_known(__u64 place)
{
	__u64 key = KEY(place / 8), *places = bpf_map_lookup_elem(&known, &key);

	if (!places)
		return 1; // never: the index is within the map
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

// is_refused tells whether an address certainly has no slot, and gets none.
static __always_inline int is_refused(__u64 high, __u64 low)
{
	return full == FULL && !is_known(hash_of(high, low) >> known_shift);
}

// quick_slot4 and quick_slot6 return the shared slot of an address, or OTHER if it has none and gets none. They return HASHED if only the
// kernel's map knows.

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

// add_owner gives a free slot to an address that had none, and returns it. It returns OTHER if no slot is free. If another processor has
// just given the address a slot, it returns that.
static __always_inline __u64 add_owner(__u64 high, __u64 low, __u64 version)
{
	struct address6 key6 = {high, low};
	__u64 key4 = KEY(low), key;
	__u32 slot = 0, *owned;
	struct owner *o;
	int refused = bpf_map_pop_elem(&free_slots, &slot); // Linux before 6.4 sets the low 32 bits of the result only

	if (refused) {
		if (refused == -ENOENT) // another error says that it was busy
			full = FULL;
		return OTHER;
	}
	make_known(hash_of(high, low) >> known_shift);
	key = KEY(slot - first_shared);
	o = bpf_map_lookup_elem(&owners, &key);
	if (!o)
		return OTHER; // never: each slot has an entry
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

	// Another processor was faster, or the map is busy.
	o->version = 0;
	bpf_map_push_elem(&free_slots, &slot, 0);
	owned = version == 4 ? bpf_map_lookup_elem(&slots4, &key4) : bpf_map_lookup_elem(&slots6, &key6);
	return owned ? *owned : OTHER;
}

// shared_slot4 and shared_slot6 return the shared slot of an address, or OTHER. An address that has none may get one. The new slot of an
// IPv6 address goes into found only at its next search: whoever finds it there then sees its owner, too.

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
