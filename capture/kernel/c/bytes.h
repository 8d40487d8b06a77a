// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// The bytes of a frame. They are in a socket buffer, or still in the driver's memory (XDP).

// frame has one of the two, and 0 for the other. The compiler knows which one: all functions are inlined.
struct frame {
	struct __sk_buff *skb;
	struct xdp_md *xdp;
};

static __always_inline struct frame in_skb(struct __sk_buff *skb)
{
	return (struct frame){skb, 0};
}

static __always_inline struct frame in_driver(struct xdp_md *xdp)
{
	return (struct frame){0, xdp};
}

// several tells that a frame of the driver may be in several buffers: then the kernel has helpers for these (Linux 5.18).
volatile const __u32 several;

#define MAX_OFFSET 0xfff // where a header may begin in a frame of one buffer, which is smaller than a page

// load copies bytes of the frame. It returns another number than 0 if the frame does not have them.
static __always_inline int load(const struct frame f, __u32 at, void *to, const __u32 length)
{
	void *data, *end;

	if (f.skb)
		return bpf_skb_load_bytes(f.skb, at, to, length);
	if (several)
		return bpf_xdp_load_bytes(f.xdp, at, to, length);
	if (at > MAX_OFFSET)
		return -EFAULT;
	data = (void *)(long)f.xdp->data;
	end = (void *)(long)f.xdp->data_end;
	data += at & MAX_OFFSET;
	if (data + length > end)
		return -EFAULT;
	__builtin_memcpy(to, data, length);
	return 0;
}

// length_of returns the length of the frame in bytes.
static __always_inline __u64 length_of(const struct frame f)
{
	if (f.skb)
		return f.skb->len;
	if (several)
		return bpf_xdp_get_buff_len(f.xdp);
	return f.xdp->data_end - f.xdp->data;
}
