/* SPDX-License-Identifier: GPL-2.0-only */
/* The dataset: a ring of records that user space maps read-only. */
#ifndef MLK_RING_H
#define MLK_RING_H

#include <linux/kernel.h>
#include <linux/spinlock.h>
#include <uapi/linux/mlk.h>

struct vm_area_struct;

/**
 * struct mlk_ring - the kernel's side of a dataset
 * @lock: serialises writers
 * @dataset: what is mapped: a page, then records
 * @bytes: size of @dataset, whole pages
 * @record_bytes: size of a record
 * @mask: number of records - 1
 *
 * User space cannot write to @dataset, so the kernel may trust it.
 */
struct mlk_ring {
	raw_spinlock_t lock;
	struct mlk_dataset *dataset;
	size_t bytes;
	u32 record_bytes;
	u32 mask;
};

int mlk_ring_init(struct mlk_ring *ring, u32 records, u32 n_features,
		  u32 n_knobs);
void mlk_ring_destroy(struct mlk_ring *ring);
u64 mlk_ring_write(struct mlk_ring *ring, u32 kind, const s64 *values, u32 n);
u64 mlk_ring_first(const struct mlk_ring *ring);
u64 mlk_ring_time(const struct mlk_ring *ring, u64 seq);
bool mlk_ring_had(const struct mlk_ring *ring, u64 seq);
int mlk_ring_copy(const struct mlk_ring *ring, u64 seq, void __user *to);
void mlk_ring_discard(struct mlk_ring *ring);
int mlk_ring_mmap(const struct mlk_ring *ring, struct vm_area_struct *vma);

/*
 * 64 bits that somebody reads without a lock while they grow: what is stored
 * before is seen by whoever sees them. With 32-bit words in halves, as
 * <uapi/linux/mlk.h> says: a reader gets what was stored or, while the upper
 * half changes, less; never more.
 */
#ifdef CONFIG_64BIT
static inline void mlk_store_u64(u64 *to, u64 value)
{
	/* pairs with mlk_load_u64() and with user space */
	smp_store_release(to, value);
}

static inline u64 mlk_load_u64(const u64 *from)
{
	/* pairs with mlk_store_u64() */
	return smp_load_acquire(from);
}
#else
static inline void mlk_store_u64(u64 *to, u64 value)
{
	u32 *half = (u32 *)to; /* little-endian, as programs are */

	/* pairs with mlk_load_u64() and with user space */
	smp_store_release(&half[0], lower_32_bits(value));
	/* whoever sees this half sees the other one, too */
	smp_store_release(&half[1], upper_32_bits(value));
}

static inline u64 mlk_load_u64(const u64 *from)
{
	const u32 *half = (const u32 *)from;
	u32 lower, upper;

	/* both pair with mlk_store_u64() */
	upper = smp_load_acquire(&half[1]);
	/* and this one comes second */
	lower = smp_load_acquire(&half[0]);
	return (u64)upper << 32 | lower;
}
#endif

static inline u64 mlk_ring_head(const struct mlk_ring *ring)
{
	return mlk_load_u64(&ring->dataset->head);
}

#endif /* MLK_RING_H */
