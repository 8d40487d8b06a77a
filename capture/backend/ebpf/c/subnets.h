// Which addresses count. Subnets come as sorted ranges that do not overlap. Up to FEW of them are constants, which the
// verifier turns into code; more are a search tree in a map.

// KEY is a map's key of 32 bits in a variable of 64: without CAP_PERFMON, older verifiers let what they take for a saved register
// be overwritten only as a whole.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define KEY(n) ((__u64)(n))
#else
#define KEY(n) ((__u64)(n) << 32)
#endif

enum range_limit {
	FEW = 2,    // ranges are constants
	STEPS = 17, // lead down a balanced tree of 65,536 ranges, which is more subnets than a command line has room for
};

// What there is instead of the index or slot of an address.
enum no_slot {
	OTHER = 0xfffffffd, // all slots are taken: it counts with all others that have none
	HASHED,             // it is in a range that is not indexed: its slot has to be looked up
	NOWHERE,            // it is in no range
};

__u64 zero; // which no verifier knows

// opaque gives a number of which a verifier knows nothing any more: what follows is then looked at once, and not with each value that it
// may have. Old ones look at all code, whatever the constants are.
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
	__u32 count; // of ranges, in the map if they are more than FEW
	struct range4 ranges[FEW];
};

struct few6 {
	__u64 count;
	struct range6 ranges[FEW];
};

volatile const struct few4 monitored4, excluded4;
volatile const struct few6 monitored6, excluded6;

// node is what ranges have in a tree: where to go on for addresses before the range, and behind its first one. The root of count nodes
// is the one at count / 2; who goes on at a place that the map does not have is at the end. As a verifier does not know what a map
// has, it looks at a step once, and not with every way to get there.
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

static __always_inline __u64 index4(__u64 first, __u64 extent, __u64 index, __u64 address)
{
	__u64 distance = address - first;

	if (distance > extent) // also if it is less than nothing
		return NOWHERE;
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
		found = index4(n->range.first, n->range.extent, n->range.index, address);
		if (found != NOWHERE)
			break;
		key = KEY(n->next.behind);
	}
	return found;
}

// find4 gives the index of an address, HASHED or NOWHERE.
static __always_inline __u64 find4(const volatile struct few4 *few, struct tree4 *more, __u64 address)
{
	__u64 found;

	if (few->count > FEW)
		return search4(more, few->count, address);
#pragma unroll
	for (__u32 i = 0; i < FEW; i++) {
		if (i >= few->count)
			break;
		found = index4(few->ranges[i].first, few->ranges[i].extent, few->ranges[i].index, address);
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
