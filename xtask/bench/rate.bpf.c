// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0
/*
 * A source of small packets and two ends for them.
 *
 * BPF_PROG_TEST_RUN with live frames puts every repetition of `source` on the wire. Frames are recycled,
 * and whoever had one before may have written to it, so all headers are put down afresh.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* What to send; the runner writes it. */
struct plan {
	__u64 flow_mask;	/* flow = (first flow + sequence) & mask */
	__u64 first_flow;
	__u64 sequence;		/* packets so far */
	__u64 last;		/* sequence of the last one */
	__u64 began;		/* when the first one was made, in nanoseconds */
	__u64 ended;		/* and the last one; by then the others are through, but for some hundreds */
	__u32 ifindex;		/* where they leave */
	__be32 destination;
	__be16 port;
	__u16 pad;
	__u32 macs[3];		/* destination and source, as on the wire */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} PLAN SEC(".maps");

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

/* A datagram of zeros, from a client and port that the flow's number gives, to the planned destination. */
SEC("xdp")
int source(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0, client, length = end - data;
	struct plan *plan = bpf_map_lookup_elem(&PLAN, &zero);
	__u16 port, check;
	__u64 flow;

	if (!plan || data + 60 > end)
		return XDP_ABORTED;
	if (plan->sequence == 0)
		plan->began = bpf_ktime_get_ns();
	if (plan->sequence == plan->last)
		plan->ended = bpf_ktime_get_ns();
	flow = (plan->first_flow + plan->sequence++) & plan->flow_mask;
	client = bpf_htonl(0x0a100000 + ((flow >> 14) & 0xfffff));
	length -= ETH_HLEN;

	*(__u32 *)data = plan->macs[0];
	*(__u32 *)(data + 4) = plan->macs[1];
	*(__u32 *)(data + 8) = plan->macs[2];
	*(__u16 *)(data + 12) = bpf_htons(ETH_P_IP);
	*(__u32 *)(data + 14) = 0x45u | (__u32)bpf_htons(length) << 16;
	*(__u32 *)(data + 18) = 0;
	*(__u32 *)(data + 22) = 64 | IPPROTO_UDP << 8;
	*(__u32 *)(data + 26) = client;
	*(__u32 *)(data + 30) = plan->destination;
	*(__u16 *)(data + 24) = ~fold(0x45ull + bpf_htons(length) + (64 | IPPROTO_UDP << 8) + client +
				      plan->destination);
	length -= 20;
	port = bpf_htons(1024 + (flow & 0x3fff));
	check = ~fold(0ull + client + plan->destination + bpf_htons(IPPROTO_UDP) +
		      2 * bpf_htons(length) + port + plan->port);
	*(__u16 *)(data + 34) = port;
	*(__u16 *)(data + 36) = plan->port;
	*(__u16 *)(data + 38) = bpf_htons(length);
	*(__u16 *)(data + 40) = check ? check : 0xffff;
	return bpf_redirect(plan->ifindex, 0);
}

/* The sink. The interface's own counter has counted the packet already. */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	return XDP_DROP;
}

/* Where `relay` sends everything. */
struct way {
	__u32 ifindex;
	__u32 macs[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct way);
} WAY SEC(".maps");

/* The least that a director on XDP can do: new MAC addresses and out by the other interface. */
SEC("xdp")
int relay(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0;
	struct way *way = bpf_map_lookup_elem(&WAY, &zero);

	if (!way || data + ETH_HLEN > end)
		return XDP_ABORTED;
	*(__u32 *)data = way->macs[0];
	*(__u32 *)(data + 4) = way->macs[1];
	*(__u32 *)(data + 8) = way->macs[2];
	return bpf_redirect(way->ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
