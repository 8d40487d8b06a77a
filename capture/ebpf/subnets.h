// Which addresses count. Subnets come as sorted ranges that do not overlap. Up to FEW of them are constants, which the
// verifier turns into code; more are searched in a map.

// KEY is a map's key of 32 bits in a variable of 64: without CAP_PERFMON, older verifiers let what they take for a saved register
// be overwritten only as a whole.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define KEY(n) ((__u64)(n))
#else
#define KEY(n) ((__u64)(n) << 32)
#endif

#define FEW 2
#define STEPS 16 // of a search in 65,536 ranges at the most, which is more subnets than a command line has room for

#define NOWHERE 0xffffffff // what find4 gives for an address that is in no range
#define HASHED 0xfffffffe  // or in a range that is not indexed

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

// search4 is find4 for more than FEW ranges, which are the first count values of a map. The last one that does not begin behind
// the address is one of size from at on.
static __always_inline __u32 search4(struct more4 *more, __u32 count, __u32 address)
{
	__u32 at = 0, half;
	struct range4 *r;
	__u64 key;

#pragma unroll
	for (__u32 i = 0, size = count; i < STEPS; i++, size -= half) {
		half = size / 2;
		if (!half)
			break;
		key = KEY(at + half);
		r = bpf_map_lookup_elem(more, &key);
		if (r && r->first <= address)
			at += half;
	}
	key = KEY(at);
	r = bpf_map_lookup_elem(more, &key);
	return r ? index4(r->first, r->extent, r->index, address) : NOWHERE;
}

__noinline __u32 search_monitored4(__u32 address)
{
	return search4(&more_monitored4, monitored4.count, address);
}

__noinline __u32 search_excluded4(__u32 address)
{
	return search4(&more_excluded4, excluded4.count, address);
}

// find4 gives the index of an address, HASHED or NOWHERE.
static __always_inline __u32 find4(const volatile struct few4 *few, __u32 address)
{
	__u32 found;

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

static __always_inline __u32 monitored4_index(__u32 address)
{
	return monitored4.count > FEW ? search_monitored4(address) : find4(&monitored4, address);
}

static __always_inline int is_excluded4(__u32 address)
{
	return (excluded4.count > FEW ? search_excluded4(address) : find4(&excluded4, address)) != NOWHERE;
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

static __always_inline int search6(struct more6 *more, __u32 count, const struct address6 *address)
{
	__u32 at = 0, half;
	struct range6 *r;
	__u64 key;

#pragma unroll
	for (__u32 i = 0, size = count; i < STEPS; i++, size -= half) {
		half = size / 2;
		if (!half)
			break;
		key = KEY(at + half);
		r = bpf_map_lookup_elem(more, &key);
		if (r && !before(address, &r->first))
			at += half;
	}
	key = KEY(at);
	r = bpf_map_lookup_elem(more, &key);
	return r && within(address, r);
}

__noinline int search_monitored6(__u64 high, __u64 low)
{
	struct address6 address = {high, low};

	return search6(&more_monitored6, monitored6.count, &address);
}

__noinline int search_excluded6(__u64 high, __u64 low)
{
	struct address6 address = {high, low};

	return search6(&more_excluded6, excluded6.count, &address);
}

static __always_inline int find6(const volatile struct few6 *few, const struct address6 *address)
{
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
	return monitored6.count > FEW ? search_monitored6(a->high, a->low) : find6(&monitored6, a);
}

static __always_inline int is_excluded6(const struct address6 *a)
{
	return excluded6.count > FEW ? search_excluded6(a->high, a->low) : find6(&excluded6, a);
}
