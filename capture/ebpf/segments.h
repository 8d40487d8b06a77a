// What a merged frame (GRO, GSO, BIG TCP) counts for: the packets that it was or will be, each with all headers. A user of
// virtio_net_hdr is told where the innermost transport header is; a socket filter finds it.

#define MAX_TUNNELS 2

#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_IPV4 4
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_IPV6 41
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_GRE 47
#define PROTOCOL_DESTINATION 60
#define PROTOCOL_SCTP 132

#define ETHERTYPE_BRIDGING 0x6558 // Ethernet, where a tunnel says what it carries

#define UDP_LEN 8
#define TCP_LEN 20
#define SCTP_LEN 12 // the common header, which is what is repeated
#define JUMBO_LEN 8

// What gso_size says when the packets have sizes of their own, as SCTP's (include/linux/skbuff.h).
#define GSO_BY_FRAGS 0xffff

struct transport {
	__u32 at;
	__u32 protocol;
	__u32 jumbo; // bytes of a jumbo payload option that no packet on the wire has
};

static __always_inline void skip_extensions(struct __sk_buff *skb, __u32 payload, struct transport *t)
{
	__u32 length;
	__u8 e[8];

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (t->protocol != PROTOCOL_HOP_BY_HOP && t->protocol != PROTOCOL_ROUTING && t->protocol != PROTOCOL_FRAGMENT &&
		    t->protocol != PROTOCOL_DESTINATION)
			return;
		if (bpf_skb_load_bytes(skb, t->at, e, sizeof(e)))
			return;
		length = t->protocol == PROTOCOL_FRAGMENT ? sizeof(e) : sizeof(e) + e[1] * 8;
		if (t->protocol == PROTOCOL_HOP_BY_HOP && length == JUMBO_LEN && e[2] == 0xc2 && !payload)
			t->jumbo = JUMBO_LEN;
		t->protocol = e[0];
		t->at += length;
	}
}

// behind_ip finds what stands behind an IP header and its extensions, and the length that the header says.
static __noinline int behind_ip(struct __sk_buff *skb, const struct header *h, struct transport *t, __u32 *length)
{
	struct ipv4 v4;
	struct ipv6 v6;

	if (h->type == ETHERTYPE_IPV4) {
		if (bpf_skb_load_bytes(skb, h->at, &v4, sizeof(v4)) || v4.version_ihl >> 4 != 4 || (v4.version_ihl & 15) < 5)
			return -1;
		t->at = h->at + (v4.version_ihl & 15) * 4;
		t->protocol = v4.protocol;
		*length = bpf_ntohs(v4.total);
		return 0;
	}
	if (bpf_skb_load_bytes(skb, h->at, &v6, sizeof(v6)) || v6.version_class >> 4 != 6)
		return -1;
	t->at = h->at + sizeof(v6);
	t->protocol = v6.next;
	*length = v6.payload ? sizeof(v6) + bpf_ntohs(v6.payload) : 0;
	skip_extensions(skb, *length, t);
	return 0;
}

// open_inner goes from what a tunnel carries to the IP header in it.
static __always_inline int open_inner(struct __sk_buff *skb, struct header *h)
{
	__be16 type;

	if (h->type == ETHERTYPE_BRIDGING) {
		if (bpf_skb_load_bytes(skb, h->at + ETHERNET_LEN - sizeof(type), &type, sizeof(type)))
			return -1;
		h->type = bpf_ntohs(type);
		h->at += ETHERNET_LEN;
	}
	return unwrap(skb, h) == COUNTED ? 0 : -1;
}

// in_gre finds what GRE (RFC 2784, RFC 2890) carries.
static __always_inline int in_gre(struct __sk_buff *skb, __u32 at, struct header *h)
{
	__be16 gre[2];
	__u32 flags;

	if (bpf_skb_load_bytes(skb, at, gre, sizeof(gre)))
		return -1;
	flags = bpf_ntohs(gre[0]);
	if (flags & 7) // another version
		return -1;
	h->type = bpf_ntohs(gre[1]);
	h->at = at + sizeof(gre) + (flags >> 15 & 1) * 4 + (flags >> 13 & 1) * 4 + (flags >> 12 & 1) * 4; // checksum, key, sequence
	return open_inner(skb, h);
}

// reaches tells whether the packet that a tunnel carries ends where the frame does, or does not say (BIG TCP). It does not
// if it is UDP's payload that only looks like a tunnel: then it ends with the first of the merged packets.
static __noinline int reaches(struct __sk_buff *skb, struct header *h, __u32 end)
{
	struct transport t = {};
	__u32 length = 0;

	if (open_inner(skb, h) || behind_ip(skb, h, &t, &length))
		return 0;
	return !length || h->at + length == end;
}

// in_udp finds what VXLAN (RFC 7348, with its group policy and generic protocol extensions) or Geneve (RFC 8926) carry in UDP.
static __always_inline int in_udp(struct __sk_buff *skb, __u32 at, __u32 end, struct header *h)
{
	__u8 t[8];

	at += UDP_LEN;
	if (bpf_skb_load_bytes(skb, at, t, sizeof(t)) || t[7])
		return -1;
	h->at = at + sizeof(t);
	h->type = t[2] << 8 | t[3];
	if (!(t[0] >> 6) && !(t[1] & 0x3f) && h->type) {
		h->at += (t[0] & 0x3f) * 4;
		return reaches(skb, h, end) ? 0 : -1;
	}
	if (!(t[0] & 8))
		return -1;
	if (!(t[0] & 4))
		h->type = ETHERTYPE_BRIDGING;
	else if (t[3] == 1)
		h->type = ETHERTYPE_IPV4;
	else if (t[3] == 2)
		h->type = ETHERTYPE_IPV6;
	else
		h->type = ETHERTYPE_BRIDGING;
	return reaches(skb, h, end) ? 0 : -1;
}

// find_transport goes from an IP header to the innermost transport header, whose length it returns, or -1.
static __noinline int find_transport(struct __sk_buff *skb, struct header *h, __u32 end, struct transport *t)
{
	__u32 length = 0, jumbo;
	struct header inner = {};
	__u8 offset;

	for (int depth = 0; depth <= MAX_TUNNELS; depth++) {
		jumbo = t->jumbo;
		if (behind_ip(skb, h, t, &length))
			return -1;
		if (depth)
			t->jumbo = jumbo; // is the outermost header's
		inner.at = t->at;
		switch (t->protocol) {
		case PROTOCOL_TCP:
			if (bpf_skb_load_bytes(skb, t->at + 12, &offset, sizeof(offset)) || offset >> 4 < TCP_LEN / 4)
				return TCP_LEN;
			return (offset >> 4) * 4;
		case PROTOCOL_UDP:
			if (in_udp(skb, t->at, end, &inner))
				return UDP_LEN;
			break;
		case PROTOCOL_SCTP:
			return SCTP_LEN;
		case PROTOCOL_GRE:
			if (in_gre(skb, t->at, &inner))
				return -1;
			break;
		case PROTOCOL_IPV4:
			inner.type = ETHERTYPE_IPV4;
			break;
		case PROTOCOL_IPV6:
			inner.type = ETHERTYPE_IPV6;
			break;
		default:
			return -1;
		}
		*h = inner;
	}
	return -1;
}

// split turns a merged packet of total bytes, whose IP header is at h, into its packets.
static __always_inline enum outcome split(struct __sk_buff *skb, struct header h, __u32 total, struct packet *p)
{
	__u32 at = h.at, size = skb->gso_size, segments = skb->gso_segs, payload;
	struct transport t = {};
	int length = find_transport(skb, &h, at + total, &t);

	if (length < 0 || (t.protocol == PROTOCOL_SCTP) != (size == GSO_BY_FRAGS))
		return MALFORMED;
	p->bytes = total - t.jumbo;
	at += t.jumbo; // as if the option had never been there
	if (t.at < at || t.at - at >= p->bytes)
		return COUNTED;
	length += t.at - at;
	if (p->bytes <= (__u32)length)
		return COUNTED;
	payload = p->bytes - length;
	if (size != GSO_BY_FRAGS)
		segments = (payload - 1) / size + 1;
	if (segments > 1) {
		p->packets = segments;
		p->bytes += (__u64)(segments - 1) * length;
	}
	return COUNTED;
}
