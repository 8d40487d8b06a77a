// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// What is dropped at a mirror port, once it was counted: frames for other machines, which the kernel would throw away later.

volatile const __u32 mirror;

#define GROUP 0x0100 // the bit of multicast and broadcast, in the first word of an address

// stations has the address of each interface, by its number in sums. EVERYBODY's frames pass where they may be somebody's.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} stations SEC(".maps");

enum station { EVERYBODY };

// is_for_others tells whether a frame is of no use to this machine.
static __always_inline int is_for_others(struct xdp_md *xdp, __u64 interface)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__u64 key = KEY(interface), *station, to;
	struct ethernet *eth = data;

	if (!mirror || (void *)(eth + 1) > end || eth->destination[0] & bpf_htons(GROUP))
		return 0;
	station = bpf_map_lookup_elem(&stations, &key);
	to = (__u64)eth->destination[0] << 32 | *(__u32 *)&eth->destination[1]; // an IP header that is aligned makes that aligned, too
	return station && *station != EVERYBODY && *station != to;
}
