// Which addresses count. Subnets come as sorted ranges that do not overlap. Up to FEW of them are constants, which the
// verifier turns into code; more are searched in a map.

#define FEW 4

#define NOWHERE 0xffffffff // what find4 gives for an address that is in no range
#define HASHED 0xfffffffe  // or in a range that is not indexed

struct range4 {
	__u32 first;
	__u32 extent; // last - first
	__u32 index;  // of first in the map indexed, or HASHED
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

struct more4 {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct range4);
	__uint(max_entries, 1);
};

struct more6 {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct range6);
	__uint(max_entries, 1);
};

struct more4 more_monitored4 SEC(".maps"), more_excluded4 SEC(".maps");
struct more6 more_monitored6 SEC(".maps"), more_excluded6 SEC(".maps");

static __always_inline __u32 index4(__u32 first, __u32 extent, __u32 index, __u32 address)
{
	__u32 distance = address - first;

	if (distance > extent)
		return NOWHERE;
	return index == HASHED ? HASHED : index + distance;
}

// find4 gives the index of an address, HASHED or NOWHERE.
static __always_inline __u32 find4(const volatile struct few4 *few, struct more4 *more, __u32 address)
{
	__u32 at = 0, half, try, found;
	struct range4 *r;

	if (few->count <= FEW) {
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
	// The last range that does not begin behind the address is one of size from at on.
	for (__u32 size = few->count; size > 1; size -= half) {
		half = size / 2;
		try = at + half;
		r = bpf_map_lookup_elem(more, &try);
		if (r && r->first <= address)
			at = try;
	}
	r = bpf_map_lookup_elem(more, &at);
	return r ? index4(r->first, r->extent, r->index, address) : NOWHERE;
}

static __always_inline int covers4(const volatile struct few4 *few, struct more4 *more, __u32 address)
{
	return find4(few, more, address) != NOWHERE;
}

static __always_inline int before(const struct address6 *a, const volatile struct address6 *b)
{
	return a->high < b->high || (a->high == b->high && a->low < b->low);
}

static __always_inline int behind(const struct address6 *a, const volatile struct address6 *b)
{
	return a->high > b->high || (a->high == b->high && a->low > b->low);
}

static __always_inline int covers6(const volatile struct few6 *few, struct more6 *more, const struct address6 *address)
{
	__u32 at = 0, half, try;
	struct range6 *r;

	if (few->count <= FEW) {
#pragma unroll
		for (__u32 i = 0; i < FEW; i++) {
			if (i >= few->count)
				break;
			if (!before(address, &few->ranges[i].first) && !behind(address, &few->ranges[i].last))
				return 1;
		}
		return 0;
	}
	for (__u32 size = few->count; size > 1; size -= half) { // as in find4
		half = size / 2;
		try = at + half;
		r = bpf_map_lookup_elem(more, &try);
		if (r && !before(address, &r->first))
			at = try;
	}
	r = bpf_map_lookup_elem(more, &at);
	return r && !before(address, &r->first) && !behind(address, &r->last);
}
