/* SPDX-License-Identifier: MIT */
/*
 * Loops of bench_proxy.py: what pymlk's extension does for a record and for an
 * answer, and the least that could be done, with nothing of Python between.
 */
#include "proxy_call.h"

int64_t bench_loop(int what, const void *base, size_t bytes, long count);

enum {
	TAKE,
	COPY,
	TAKE_AND_SEND,
	COPY_AND_WRITE
};

static void turn(int what, struct mlk_ring *ring, struct mlk_channel *channel,
		 struct mlk_slot *slot)
{
	int64_t value;

	if (ring->next > ring->records)
		ring->next = 1;
	if (what == TAKE || what == TAKE_AND_SEND)
		mlk_ring_next(ring, slot);
	else
		memcpy(slot, mlk_ring_at(ring, ring->next++),
		       ring->record_bytes);
	value = slot->value[0];
	if (what == TAKE_AND_SEND)
		mlk_channel_send(channel, &value, 1, 1000, slot->seq);
	else if (what == COPY_AND_WRITE && write(channel->fd, &channel->answer,
						 sizeof(channel->answer)) < 0)
		abort();
}

/* Nanoseconds that @count turns over a full ring took; -1 if it is none. */
int64_t bench_loop(int what, const void *base, size_t bytes, long count)
{
	struct mlk_channel channel = { .emulated = 0 };
	struct mlk_ring ring;
	struct mlk_slot slot;
	int64_t start;

	channel.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (channel.fd < 0 || mlk_ring_open(&ring, base, bytes))
		return -1;
	start = mlk_now();
	while (count-- > 0) {
		turn(what, &ring, &channel, &slot);
		/* each turn must happen */
		__asm__ volatile("" : : "r"(&slot) : "memory");
	}
	start = mlk_now() - start;
	close(channel.fd);
	return start;
}
