/* SPDX-License-Identifier: MIT */
/*
 * A mapped dataset, read as <linux/mlk.h> says. Whoever wrote it is not trusted:
 * its header is copied and checked once, everything that is read later is either
 * a number that may be anything, or is bounded here before it is used.
 */
#ifndef PYMLK_PROXY_RING_H
#define PYMLK_PROXY_RING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <linux/mlk.h>

/* proxy.pyx is compiled for size; what is in here runs for every record. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O2")
#endif

/* outcomes are smaller than the largest sample */
#define MLK_RING_VALUES MLK_MAX_FEATURES
#define MLK_RING_RECORDS (1u << 20)
/* a peer that overwrites each record before it can be copied holds nobody up */
#define MLK_RING_TRIES 64

/* A record in memory of one's own: n is at most MLK_RING_VALUES */
struct mlk_slot {
	uint64_t seq;
	uint64_t time_ns;
	uint32_t kind;
	uint32_t n;
	int64_t value[MLK_RING_VALUES];
};

struct mlk_ring {
	const unsigned char *base;
	size_t bytes;
	uint32_t data;
	uint32_t record_bytes;
	uint32_t records;
	uint32_t n_features;
	uint32_t n_knobs;
	/* of the reader */
	uint64_t next;
	uint64_t lost;
	uint64_t malformed;
};

/* 64 bits with acquire, also where the processor loads them in two halves */
static inline uint64_t mlk_ring_load(const void *at)
{
#if __SIZEOF_POINTER__ >= 8
	return __atomic_load_n((const uint64_t *)at, __ATOMIC_ACQUIRE);
#else
	const volatile uint64_t *word = at;
	uint64_t value = *word, again;
	unsigned int tries = MLK_RING_TRIES;

	while ((again = *word) != value && --tries)
		value = again;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return value;
#endif
}

static inline void mlk_ring_store(void *at, uint64_t value)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
	*(volatile uint64_t *)at = value;
}

static inline uint64_t mlk_ring_head(const struct mlk_ring *ring)
{
	return mlk_ring_load(ring->base + offsetof(struct mlk_dataset, head));
}

/* What is wrong with a header, or NULL: then all records are inside the map. */
static const char *mlk_ring_open(struct mlk_ring *ring, const void *base,
				 size_t bytes)
{
	struct mlk_dataset header;
	uint32_t values;

	memset(ring, 0, sizeof(*ring));
	if (bytes < sizeof(header))
		return "it is smaller than a header";
	memcpy(&header, base, sizeof(header));
	if (header.magic != MLK_DATASET_MAGIC)
		return "it is not a dataset (bad magic)";
	if (header.version != MLK_ABI_VERSION ||
	    header.header_bytes != sizeof(header))
		return "its version is another one";
	if (!header.n_features || header.n_features > MLK_MAX_FEATURES ||
	    header.n_knobs > MLK_MAX_KNOBS)
		return "it has impossible numbers of features or knobs";
	values = MLK_OUTCOME_APPLIED + 2u * header.n_knobs;
	if (values < header.n_features)
		values = header.n_features;
	if (header.record_bytes % 8 ||
	    header.record_bytes < sizeof(struct mlk_record) + 8 * values ||
	    header.record_bytes > sizeof(struct mlk_slot))
		return "its records have an impossible size";
	if (!header.records || header.records > MLK_RING_RECORDS ||
	    header.records & (header.records - 1))
		return "its number of records is no power of 2 up to 2^20";
	if (header.data % 8 || header.data < sizeof(header) ||
	    header.data > bytes ||
	    (bytes - header.data) / header.record_bytes < header.records)
		return "its records are not inside of it";
	ring->base = base;
	ring->bytes = bytes;
	ring->data = header.data;
	ring->record_bytes = header.record_bytes;
	ring->records = header.records;
	ring->n_features = header.n_features;
	ring->n_knobs = header.n_knobs;
	ring->next = 1;
	return NULL;
}

static inline const unsigned char *mlk_ring_at(const struct mlk_ring *ring,
					       uint64_t seq)
{
	return ring->base + ring->data +
	       (size_t)((seq - 1) & (ring->records - 1)) * ring->record_bytes;
}

/* Go on with the oldest record that is still there. */
static inline void mlk_ring_catch_up(struct mlk_ring *ring, uint64_t head)
{
	uint64_t gone = mlk_ring_load(ring->base +
				      offsetof(struct mlk_dataset, discarded));

	/* what was discarded is not lost */
	if (gone >= ring->next && gone <= head)
		ring->next = gone + 1;
	if (head >= ring->records && head - ring->records >= ring->next) {
		gone = head - ring->records;
		ring->lost += gone + 1 - ring->next;
		ring->next = gone + 1;
	}
}

/* Copies record @next: 1 done, 0 overwritten, -1 it cannot be one. */
static inline int mlk_ring_copy(const struct mlk_ring *ring,
				struct mlk_slot *into)
{
	const unsigned char *at = mlk_ring_at(ring, ring->next);
	size_t head_bytes = offsetof(struct mlk_slot, value);
	uint32_t n;

	if (mlk_ring_load(at) != ring->next)
		return 0;
	memcpy(into, at, head_bytes);
	/* once: the peer may change it while it is looked at */
	n = *(volatile uint32_t *)&into->n;
	if (n <= (ring->record_bytes - head_bytes) / 8)
		memcpy(into->value, at + head_bytes, (size_t)n * 8);
	/* the number again, behind the values */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (mlk_ring_load(at) != ring->next)
		return 0;
	into->seq = ring->next;
	return n <= (ring->record_bytes - head_bytes) / 8 ? 1 : -1;
}

/* The next record: 1 got it, 0 there is none yet. */
static inline int mlk_ring_next(struct mlk_ring *ring, struct mlk_slot *into)
{
	unsigned int tries;
	int done;

	for (tries = 0; tries < MLK_RING_TRIES; tries++) {
		uint64_t head = mlk_ring_head(ring);

		mlk_ring_catch_up(ring, head);
		if (head < ring->next)
			return 0;
		done = mlk_ring_copy(ring, into);
		ring->next++;
		if (done > 0)
			return 1;
		if (done)
			ring->malformed++;
		else
			ring->lost++;
	}
	return 0;
}

/* Leave out all but the newest @n; these are not lost. */
static inline void mlk_ring_newest(struct mlk_ring *ring, uint64_t n)
{
	uint64_t head = mlk_ring_head(ring);

	if (head >= n && head - n >= ring->next)
		ring->next = head - n + 1;
}

/* The other side, for a stand-in of the kernel; one writer. Its number. */
static inline uint64_t mlk_ring_write(const struct mlk_ring *ring,
				      uint32_t kind, const int64_t *values,
				      uint32_t n)
{
	unsigned char *base = (unsigned char *)ring->base;
	uint64_t seq = mlk_ring_head(ring) + 1;
	struct mlk_record *record = (void *)mlk_ring_at(ring, seq);
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	*(volatile __u64 *)&record->seq = 0;
	/* readers see 0 before any new value */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	record->time_ns =
		(uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	record->kind = kind;
	record->n = n;
	memcpy(record->value, values, (size_t)n * 8);
	mlk_ring_store(&record->seq, seq);
	mlk_ring_store(base + offsetof(struct mlk_dataset, head), seq);
	return seq;
}

static inline void mlk_ring_discard(const struct mlk_ring *ring)
{
	mlk_ring_store((unsigned char *)ring->base +
			       offsetof(struct mlk_dataset, discarded),
		       mlk_ring_head(ring));
}

static inline uint64_t mlk_ring_time(const struct mlk_ring *ring, uint64_t seq)
{
	const struct mlk_record *record = (const void *)mlk_ring_at(ring, seq);

	return seq && mlk_ring_load(&record->seq) == seq ? record->time_ns : 0;
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

#endif /* PYMLK_PROXY_RING_H */
