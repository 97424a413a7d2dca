/* SPDX-License-Identifier: GPL-2.0-only */
/* The dataset: a ring of records that user space maps read-only. */
#ifndef MLK_RING_H
#define MLK_RING_H

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
int mlk_ring_copy(const struct mlk_ring *ring, u64 seq, void __user *to);
void mlk_ring_discard(struct mlk_ring *ring);
int mlk_ring_mmap(const struct mlk_ring *ring, struct vm_area_struct *vma);

static inline u64 mlk_ring_head(const struct mlk_ring *ring)
{
	/* pairs with mlk_ring_write() */
	return smp_load_acquire(&ring->dataset->head);
}

#endif /* MLK_RING_H */
