// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// The programs that a frame goes through. The verifier checks each of them by itself. Programs pass on what they know of a frame in the
// frame's control buffer, of which a socket filter may write 20 bytes.
//
//   ETHERNET or NETWORK -> STRIP -> MERGED -> ANY
//
// The first program counts nearly all frames; the others do not run for these. STRIP and MERGED alternate for the tunnels in a merged
// frame. All functions are inlined: before Linux 6.0, only kernels on x86-64 allow other functions together with tail calls.

enum stage {
	ETHERNET, // counts plain frames that begin with an Ethernet header
	NETWORK,  // counts plain frames that begin at the network layer (SOCK_DGRAM)
	STRIP,    // finds the IP header behind VLAN tags, LLC and others, a PPPoE session and MPLS labels
	MERGED,   // finds out what a merged frame counts as, one IP header at a time
	ANY,      // counts any frame with an IP header
	STAGES
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, STAGES);
} stages SEC(".maps");

// go_on runs another program (a tail call), and returns only if the map lacks that program. That never happens: Go fills the map before a
// socket has a filter, and closes all sockets before the map, which the kernel empties when it is closed.
//
// The last line keeps the compiler from merging two calls into one. With a constant stage, a call is a direct jump. Otherwise it is an
// indirect one, which takes 20 ns.
static __always_inline void go_on(struct __sk_buff *skb, const enum stage to)
{
	bpf_tail_call(skb, &stages, to);
	asm volatile("" : : "i"(to));
}

// The words of the control buffer. For a header, a word has its offset in the upper half, and its EtherType in the lower one.
enum {
	WORD_IP,      // the outermost IP header
	WORD_VLAN,    // the ID of the outermost VLAN tag in the frame; in the upper half the state of MERGED, see below
	WORD_BYTES,   // the bytes that a merged frame counts as; 0 if the frame was not merged
	WORD_PACKETS, // the packets that a merged frame counts as
	WORD_END,     // where the frame ends, without padding if an 802.3 length tells; for MERGED: where the outermost IP packet ends
	WORD_INNER = WORD_BYTES, // for MERGED: the IP header to look at
	WORD_NEXT = WORD_PACKETS, // for STRIP: the header to begin with
};

static __always_inline __u32 header_of(__u32 at, __u32 type)
{
	return at << 16 | type;
}

// The state of MERGED, by the lowest bit of each field: how many tunnels it has followed, which kind of tunnel it has tried at the last IP
// header, and the length of the jumbo payload option, which no packet on the wire has.
#define DEPTH_AT 16
#define TRIED_AT 20
#define JUMBO_AT 24

enum tried { NOTHING, GRE, GENEVE, VXLAN };

// to_strip goes on to STRIP, with the header that the link header announces. Only Ethernet has lengths in place of an EtherType.
static __always_inline void to_strip(struct __sk_buff *skb, const __u32 link, __u32 type)
{
	if (!link && type <= MAX_LENGTH)
		type = NO_ETHERTYPE;
	skb->cb[WORD_VLAN] = 0;
	skb->cb[WORD_NEXT] = header_of(link, type);
	go_on(skb, STRIP);
}

// to_any goes on with the outermost IP header, in a VLAN, of a frame that ends at end: to MERGED with a merged frame, else to ANY.
static __always_inline void to_any(struct __sk_buff *skb, __u32 at, __u32 type, __u32 vlan, __u32 end)
{
	__u64 merged = skb->gso_size;

	skb->cb[WORD_IP] = header_of(at, type);
	skb->cb[WORD_VLAN] = vlan;
	skb->cb[WORD_BYTES] = merged ? header_of(at, type) : 0;
	skb->cb[WORD_END] = end;
	if (merged)
		go_on(skb, MERGED);
	else
		go_on(skb, ANY);
}
