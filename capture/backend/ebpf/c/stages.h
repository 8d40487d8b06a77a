// The programs that a frame goes through, each verified by itself. What one knows of a frame is in its control buffer, of which a socket
// filter may write 20 bytes.
//
//   ETHERNET or NETWORK -> STRIP -> MERGED -> ANY
//
// The first counts nearly all frames, and leaves nothing for the others. STRIP and MERGED take turns with the tunnels in a merged frame.
// No program has a function that is not inlined: kernels on other processors than x86-64 did not allow that beside tail calls before 6.0.

enum stage {
	ETHERNET, // counts plain frames that begin with an Ethernet header,
	NETWORK,  // or at the network layer (SOCK_DGRAM)
	STRIP,    // finds the IP header behind tags, a session and labels
	MERGED,   // finds out what a merged frame counts for, an IP header at a time
	ANY,      // counts whatever has an IP header
	STAGES
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, STAGES);
} stages SEC(".maps");

// go_on does not return, unless there is no such program: but Go puts all there before a socket has any, and sockets are closed before the
// map is, which the kernel then empties. The last line keeps the
// compiler from making one call of two: with a constant it is a jump, else an indirect one, which takes 20 ns.
static __always_inline void go_on(struct __sk_buff *skb, const enum stage to)
{
	bpf_tail_call(skb, &stages, to);
	asm volatile("" : : "i"(to));
}

// What is in the words of the control buffer. A header is its place in the upper half of a word, and its EtherType in the lower one.
enum {
	WORD_IP,      // the outermost IP header
	WORD_VLAN,    // the ID of the outermost VLAN tag in the frame; in the upper half what MERGED knows of tunnels, see below
	WORD_BYTES,   // what a merged frame counts for; 0 is for one that was not merged
	WORD_PACKETS, //
	WORD_END,     // for MERGED: where the outermost IP packet ends
	WORD_INNER = WORD_BYTES, // for MERGED: the IP header that is looked at
	WORD_NEXT = WORD_PACKETS, // for STRIP: what to begin with
};

static __always_inline __u32 header_of(__u32 at, __u32 type)
{
	return at << 16 | type;
}

// What MERGED knows of tunnels: how many it has followed, what has been tried at the last IP header, and how long the option is that
// no packet on the wire has.
#define DEPTH_AT 16
#define TRIED_AT 20
#define JUMBO_AT 24

enum tried { NOTHING, GRE, GENEVE, VXLAN };

// to_strip goes on with what a link header says that it has.
static __always_inline void to_strip(struct __sk_buff *skb, __u32 at, __u32 type)
{
	skb->cb[WORD_VLAN] = 0;
	skb->cb[WORD_NEXT] = header_of(at, type);
	go_on(skb, STRIP);
}

// to_any goes on with the outermost IP header, in a VLAN.
static __always_inline void to_any(struct __sk_buff *skb, __u32 at, __u32 type, __u32 vlan)
{
	__u64 merged = skb->gso_size;

	skb->cb[WORD_IP] = header_of(at, type);
	skb->cb[WORD_VLAN] = vlan;
	skb->cb[WORD_BYTES] = merged ? header_of(at, type) : 0;
	if (merged)
		go_on(skb, MERGED);
	else
		go_on(skb, ANY);
}
