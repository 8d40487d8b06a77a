// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// What was counted. Totals only grow. Every processor that was online at the start has a row of its own: it needs no atomic operation, and
// no two processors write the same cache line. If the kernel allows for more processors, those that come later share one more row, and add
// to it by atomic operations.

struct size {
	__u64 bytes, packets;
};

enum direction { RECEIVE, TRANSMIT, DIRECTIONS };

volatile const __u32 rows; // processors with a lower number have a row each

// Numbers have 64 bits even where 32 are enough: the instructions that old kernels verify best have only those.

// processor is bpf_get_smp_processor_id.
static __u64 (*processor)(void) = (void *)BPF_FUNC_get_smp_processor_id;

// SHARED_ROW stands for the row of processors that have none of their own.
#define SHARED_ROW 0xffffffff

// row_here returns the row of the processor that this runs on.
static __always_inline __u64 row_here(void)
{
	__u64 cpu = processor();

	return cpu < rows ? cpu : SHARED_ROW;
}

static __always_inline void add(struct size *s, __u64 row, __u64 bytes, __u64 packets)
{
	if (row != SHARED_ROW) {
		s->bytes += bytes;
		s->packets += packets;
	} else {
		__sync_fetch_and_add(&s->bytes, bytes);
		__sync_fetch_and_add(&s->packets, packets);
	}
}

// sums has what a row counts apart from single addresses: SUMS sizes for each interface, which fill two cache lines. There is one for each
// outcome, then one for each direction of the addresses that found no slot.
enum sum { SUM_OTHER = OUTCOMES, SUMS = 8 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct size);
	__uint(max_entries, 1);
} sums SEC(".maps");

// interface_slots has the number of an interface in sums, by its index, if there may be more than one interface.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} interface_slots SEC(".maps");

volatile const __u32 interfaces;

#define NO_INTERFACE 0xffffffff

// interface_of returns the number of a frame's interface in sums. It returns NO_INTERFACE in XDP if the interface is none of those: it went to
// another network namespace just now, and its driver still runs the program.
static __always_inline __u64 interface_of(const struct frame f)
{
	__u64 key, of = 0;
	__u32 *slot;

	if (interfaces > 1) {
		key = KEY(f.skb ? f.skb->ifindex : f.xdp->ingress_ifindex);
		slot = bpf_map_lookup_elem(&interface_slots, &key);
		if (slot)
			of = *slot;
		else if (f.xdp)
			of = NO_INTERFACE;
	}
	return of;
}

// add_sum adds to one of the sums of an interface.
static __always_inline void add_sum(__u64 row, __u64 interface, __u64 sum, __u64 bytes, __u64 packets)
{
	__u64 at = row != SHARED_ROW ? row : rows, key = KEY((at * interfaces + interface) * SUMS + sum);
	struct size *s = bpf_map_lookup_elem(&sums, &key);

	if (s)
		add(s, row, bytes, packets);
}

// half has the low or the high halves of a size.
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

// low and high have what addresses moved: by row, then by direction, then by slot. Halves save cache, which matters most with many
// addresses: a packet needs the 8 bytes of low, and those of high only once in 4 GiB.
struct halves low SEC(".maps"), high SEC(".maps");

// shared_row is the row that processors share. It has whole sizes, as no atomic operation adds to two halves.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct size);
	__uint(max_entries, 1);
} shared_row SEC(".maps");

// An address in an indexed range has the slot of its index. All other addresses share the slots from first_shared on. The slots of series
// follow, if totals are kept by labels.
volatile const __u32 slots, first_shared;

// add_slot adds to what the address of a slot moved. For OTHER, it adds to the sum of all addresses without a slot.
static __always_inline void add_slot(__u64 row, __u64 interface, __u64 slot, enum direction d, __u64 bytes, __u64 packets)
{
	struct half *l, *h;
	struct size *s;
	__u64 key;

	if (slot == OTHER) {
		add_sum(row, interface, SUM_OTHER + d, bytes, packets);
		return;
	}
	if (row == SHARED_ROW) {
		key = KEY(d * slots + slot);
		s = bpf_map_lookup_elem(&shared_row, &key);
		if (s)
			add(s, row, bytes, packets);
		return;
	}
	key = KEY((row * DIRECTIONS + d) * slots + slot);
	l = bpf_map_lookup_elem(&low, &key);
	if (!l)
		return; // never: the slot is within the map
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

// ends has the slots of a packet's source and destination, or values of no_slot.
struct ends {
	__u64 from, to;
};

// add_ends adds a packet to the totals of those of its addresses that are monitored.
static __always_inline enum outcome add_ends(__u64 row, __u64 interface, const struct ends *e, __u64 bytes, __u64 packets)
{
	if (e->from != NOWHERE)
		add_slot(row, interface, e->from, TRANSMIT, bytes, packets);
	if (e->to != NOWHERE)
		add_slot(row, interface, e->to, RECEIVE, bytes, packets);
	return e->from == NOWHERE && e->to == NOWHERE ? UNMONITORED : COUNTED;
}
