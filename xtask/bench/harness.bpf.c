// SPDX-License-Identifier: GPL-2.0
/*
 * Times an XDP program with BPF_PROG_TEST_RUN and many repetitions.
 *
 * TEST_RUN does not put the packet back between repetitions, and always sends the same one. So this
 * program runs in front: it restores what the one under test changes, picks the next flow and ends in the
 * one under test by a tail call. The same program in front of a trivial one is the floor to take off.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* What to send; the runner writes it. */
struct plan {
	__u64 flow_mask;	/* flow = f(sequence) & mask */
	__u32 scatter;		/* 0: flows in turn, 1: in pseudo-random order */
	__u32 pushed;		/* bytes that the program under test puts in front */
	__u32 length;		/* bytes of the packet */
	__u32 servers;		/* replies: servers, flow f is at number f % servers */
	__be32 virtual_address;
	__be32 first_server;	/* replies: address of server 0 */
	__be16 port;		/* of the service and the servers */
	__u16 reply;		/* 0: from client to the virtual address, 1: from server to client */
	__u32 pad;
	__u64 sequence;		/* packets so far */
	__u64 misshapen;	/* packets that did not come back as they should: the run is void */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} PLAN SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} TARGET SEC(".maps");

static __always_inline __u64 mix(__u64 x)
{
	x ^= x >> 31;
	x *= 0x9E3779B97F4A7C15ULL;
	x ^= x >> 29;
	return x;
}

SEC("xdp")
int harness(struct xdp_md *ctx)
{
	__u32 zero = 0, client;
	struct plan *plan = bpf_map_lookup_elem(&PLAN, &zero);
	void *data, *end;
	struct iphdr *ip;
	__be16 *ports, port;
	__u64 flow;

	if (!plan)
		return XDP_ABORTED;
	if (ctx->data_end - ctx->data != (long)plan->length + plan->pushed ||
	    (plan->pushed && bpf_xdp_adjust_head(ctx, plan->pushed))) {
		plan->misshapen++;
		return XDP_ABORTED;
	}
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	ip = data + sizeof(struct ethhdr);
	ports = (void *)(ip + 1);
	if ((void *)ports + 20 > end) {
		plan->misshapen++;
		return XDP_ABORTED;
	}
	*(volatile __u32 *)(data + 0) = bpf_htonl(0x02000000);
	*(volatile __u32 *)(data + 4) = bpf_htonl(0x00010200);
	*(volatile __u32 *)(data + 8) = bpf_htonl(0x00000002);
	*(volatile __u16 *)(data + 12) = bpf_htons(ETH_P_IP);
	flow = plan->sequence++;
	if (plan->scatter)
		flow = mix(flow + 1);
	flow &= plan->flow_mask;
	client = bpf_htonl(0x0a000000 | ((flow >> 14) & 0xffffff));
	port = bpf_htons(1024 + (flow & 0x3fff));
	ip->ttl = 64;
	if (plan->reply) {
		ip->saddr = bpf_htonl(bpf_ntohl(plan->first_server) + flow % (plan->servers ?: 1));
		ip->daddr = client;
		ports[0] = plan->port;
		ports[1] = port;
	} else {
		ip->saddr = client;
		ip->daddr = plan->virtual_address;
		ports[0] = port;
		ports[1] = plan->port;
	}
	bpf_tail_call(ctx, &TARGET, 0);
	plan->misshapen++;
	return XDP_ABORTED;
}

/* What is left when there is no director. */
SEC("xdp")
int floor_plain(struct xdp_md *ctx)
{
	return XDP_TX;
}

/* The same for one that puts an IP header in front. */
SEC("xdp")
int floor_push(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)) ? XDP_DROP : XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
