// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Which addresses count. Subnets come as sorted ranges that do not overlap. Up to FEW ranges are constants, which the verifier turns into
// code. More of them are a search tree in a map.

// KEY puts a map's 32-bit key into a 64-bit variable. Without CAP_PERFMON, older verifiers take some stack memory for a saved register, and
// allow it to be overwritten only as a whole.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define KEY(n) ((__u64)(n))
#else
#define KEY(n) ((__u64)(n) << 32)
#endif

enum range_limit {
	FEW = 2,    // up to so many ranges are constants
	STEPS = 17, // steps of a search: they reach 131,071 ranges of a balanced tree, and a command line has no room for so many subnets
};

// Values in place of the index or slot of an address.
enum no_slot {
	OTHER = 0xfffffffd, // all slots are taken: the address counts together with all others without a slot
	HASHED,             // the address is in a range without indexes: its slot has to be looked up
	NOWHERE,            // the address is in no range
};

__u64 zero; // is always 0, but no verifier knows that

// opaque returns n, and hides from the verifier which values n may have. The verifier then checks the code that follows once, and not again
// for each of these values. Old verifiers check all code, even what constants rule out.
static __always_inline __u64 opaque(__u64 n)
{
	return n + *(volatile __u64 *)&zero;
}

struct range4 {
	__u32 first;
	__u32 extent; // last - first
	__u32 index;  // of first among the indexed addresses, or HASHED
};

struct address6 {
	__u64 high, low;
};

struct range6 {
	struct address6 first, last;
};

struct few4 {
	__u32 count; // of ranges; if there are more than FEW, they are in the map
	struct range4 ranges[FEW];
};

struct few6 {
	__u64 count;
	struct range6 ranges[FEW];
};

volatile const struct few4 monitored4, excluded4;
volatile const struct few6 monitored6, excluded6;

// node links a range in a tree: a search goes on at before for addresses before the range, and at behind for those behind its first
// address. In a tree of count nodes, the root is at count / 2. An index that the map does not have ends the search. As the verifier does
// not know what a map has, it checks a step once, and not for every way that leads there.
struct node {
	__u32 before, behind;
};

struct node4 {
	struct node next;
	struct range4 range;
};

struct node6 {
	struct node next;
	struct range6 range;
};

struct tree4 {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct node4);
	__uint(max_entries, 1);
};

struct tree6 {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct node6);
	__uint(max_entries, 1);
};

struct tree4 more_monitored4 SEC(".maps"), more_excluded4 SEC(".maps");
struct tree6 more_monitored6 SEC(".maps"), more_excluded6 SEC(".maps");

// index4 returns the index of an address if it is in a range, else NOWHERE. It returns HASHED if the range has no indexes. The distance is
// unsigned: that of an address before the range is larger than any extent.
static __always_inline __u64 index4(const volatile struct range4 *r, __u64 address)
{
	__u64 distance = address - r->first, index;

	if (distance > r->extent) // also if address is less than first
		return NOWHERE;
	index = r->index;
	return index == HASHED ? HASHED : index + distance;
}

// search4 and search6 are find4 and find6 for more than FEW ranges.
static __always_inline __u64 search4(struct tree4 *tree, __u32 count, __u64 address)
{
	__u64 key = KEY(count / 2), found = NOWHERE;
	struct node4 *n;

#pragma unroll
	for (int i = 0; i < STEPS; i++) {
		n = bpf_map_lookup_elem(tree, &key);
		if (!n)
			break;
		if (address < n->range.first) {
			key = KEY(n->next.before);
			continue;
		}
		found = index4(&n->range, address);
		if (found != NOWHERE)
			break;
		key = KEY(n->next.behind);
	}
	return found;
}

// find4 returns the index of an address, HASHED or NOWHERE.
static __always_inline __u64 find4(const volatile struct few4 *few, struct tree4 *more, __u64 address)
{
	__u64 found;

	if (few->count > FEW)
		return search4(more, few->count, address);
#pragma unroll
	for (__u32 i = 0; i < FEW; i++) {
		if (i >= few->count)
			break;
		found = index4(&few->ranges[i], address);
		if (found != NOWHERE)
			return found;
	}
	return NOWHERE;
}

static __always_inline __u64 monitored4_index(__u64 address)
{
	return find4(&monitored4, &more_monitored4, address);
}

static __always_inline int is_excluded4(__u64 address)
{
	return find4(&excluded4, &more_excluded4, address) != NOWHERE;
}

static __always_inline int before(const struct address6 *a, const volatile struct address6 *b)
{
	return a->high < b->high || (a->high == b->high && a->low < b->low);
}

static __always_inline int behind(const struct address6 *a, const volatile struct address6 *b)
{
	return a->high > b->high || (a->high == b->high && a->low > b->low);
}

static __always_inline int within(const struct address6 *a, const volatile struct range6 *r)
{
	return !before(a, &r->first) && !behind(a, &r->last);
}

static __always_inline int search6(struct tree6 *tree, __u32 count, const struct address6 *address)
{
	__u64 key = KEY(count / 2);
	struct node6 *n;

#pragma unroll
	for (int i = 0; i < STEPS; i++) {
		n = bpf_map_lookup_elem(tree, &key);
		if (!n)
			break;
		if (before(address, &n->range.first)) {
			key = KEY(n->next.before);
			continue;
		}
		if (!behind(address, &n->range.last))
			return 1;
		key = KEY(n->next.behind);
	}
	return 0;
}

static __always_inline int find6(const volatile struct few6 *few, struct tree6 *more, const struct address6 *address)
{
	if (few->count > FEW)
		return search6(more, few->count, address);
#pragma unroll
	for (__u32 i = 0; i < FEW; i++) {
		if (i >= few->count)
			break;
		if (within(address, &few->ranges[i]))
			return 1;
	}
	return 0;
}

static __always_inline int is_monitored6(const struct address6 *a)
{
	return find6(&monitored6, &more_monitored6, a);
}

static __always_inline int is_excluded6(const struct address6 *a)
{
	return find6(&excluded6, &more_excluded6, a);
}
