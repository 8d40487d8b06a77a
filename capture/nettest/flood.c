//go:build ignore

// flood turns the one frame that it is run on into many: each leaves by an interface, from a source address at random.

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Set before the program is loaded, in the byte order of the machine.
volatile const __u32 outgoing;	 // index of the interface
volatile const bool ipv6;	 // random in the lower half of the source address; the rest below is for IPv4
volatile const __u32 first_host; // address
volatile const __u32 hosts = 1;	 // addresses from the first one on
volatile const __u32 header_sum; // of the 16-bit words of the IPv4 header, but for source address and checksum

// The kernel hands out frames again as they were left, so that nothing may be assumed of the fields that are set here.

static bool random4(struct iphdr *ip, void *end)
{
	if ((void *)(ip + 1) > end)
		return false;

	__u32 source = first_host + bpf_get_prandom_u32() % hosts;
	__u32 sum = header_sum + (source >> 16) + (source & 0xffff);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->saddr = bpf_htonl(source);
	ip->check = bpf_htons(~sum & 0xffff);
	return true;
}

static bool random6(struct ipv6hdr *ip, void *end)
{
	if ((void *)(ip + 1) > end)
		return false;
	ip->saddr.in6_u.u6_addr32[2] = bpf_get_prandom_u32();
	ip->saddr.in6_u.u6_addr32[3] = bpf_get_prandom_u32();
	return true;
}

SEC("xdp")
int flood(struct xdp_md *context)
{
	void *packet = (void *)(long)context->data + sizeof(struct ethhdr);
	void *end = (void *)(long)context->data_end;

	if (!(ipv6 ? random6(packet, end) : random4(packet, end)))
		return XDP_ABORTED;
	return bpf_redirect(outgoing, 0);
}

char flood_license[] SEC("license") = "Apache-2.0";
