// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dataset. Writers take turns by a raw spinlock with interrupts off, so
 * that records become complete in the order of their numbers and each is a
 * handful of stores. Readers take no lock: they look at a record's number
 * before and after they copy it, as <uapi/linux/mlk.h> says.
 */
#include <linux/log2.h>
#include <linux/ktime.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "mlk_compat.h"
#include "mlk_ring.h"

#define MLK_MAX_RECORDS BIT(20)

static struct mlk_record *mlk_ring_slot(const struct mlk_ring *ring, u64 seq)
{
	return (void *)ring->dataset + PAGE_SIZE +
	       (size_t)((seq - 1) & ring->mask) * ring->record_bytes;
}

int mlk_ring_init(struct mlk_ring *ring, u32 records, u32 n_features,
		  u32 n_knobs)
{
	u32 values = max(n_features, MLK_OUTCOME_APPLIED + 2 * n_knobs);

	if (!is_power_of_2(records) || records > MLK_MAX_RECORDS)
		return -EINVAL;
	raw_spin_lock_init(&ring->lock);
	ring->record_bytes = sizeof(struct mlk_record) + values * sizeof(s64);
	ring->mask = records - 1;
	ring->bytes =
		PAGE_SIZE + PAGE_ALIGN((size_t)records * ring->record_bytes);
	ring->dataset = vmalloc_user(ring->bytes);
	if (!ring->dataset)
		return -ENOMEM;
	*ring->dataset = (struct mlk_dataset){
		.magic = MLK_DATASET_MAGIC,
		.version = MLK_ABI_VERSION,
		.header_bytes = sizeof(struct mlk_dataset),
		.data = PAGE_SIZE,
		.record_bytes = ring->record_bytes,
		.records = records,
		.n_features = n_features,
		.n_knobs = n_knobs,
	};
	return 0;
}

void mlk_ring_destroy(struct mlk_ring *ring)
{
	vfree(ring->dataset);
}

/* Returns the number of the record. */
u64 mlk_ring_write(struct mlk_ring *ring, u32 kind, const s64 *values, u32 n)
{
	struct mlk_dataset *dataset = ring->dataset;
	struct mlk_record *record;
	unsigned long flags;
	u64 seq;

	raw_spin_lock_irqsave(&ring->lock, flags);
	seq = dataset->head + 1;
	record = mlk_ring_slot(ring, seq);
	mlk_store_u64(&record->seq, 0);
	smp_wmb(); /* readers see 0 before any new value */
	record->time_ns = ktime_get_mono_fast_ns();
	record->kind = kind;
	record->n = n;
	memcpy(record->value, values, n * sizeof(*values));
	/* a reader that sees the number sees what is before it */
	mlk_store_u64(&record->seq, seq);
	/* and one that sees the head finds the number */
	mlk_store_u64(&dataset->head, seq);
	raw_spin_unlock_irqrestore(&ring->lock, flags);
	return seq;
}

/* The number of the oldest record, or of the next one if there is none. */
u64 mlk_ring_first(const struct mlk_ring *ring)
{
	u64 head = mlk_ring_head(ring);
	u64 kept = head > ring->mask ? head - ring->mask : 1;

	return max(kept, mlk_load_u64(&ring->dataset->discarded) + 1);
}

/* When a record was written; 0 if it is not there (any more). */
u64 mlk_ring_time(const struct mlk_ring *ring, u64 seq)
{
	const struct mlk_record *record = mlk_ring_slot(ring, seq);
	u64 time_ns;

	if (mlk_load_u64(&record->seq) != seq)
		return 0;
	time_ns = READ_ONCE(record->time_ns);
	smp_rmb(); /* the number again, behind the value */
	return mlk_load_u64(&record->seq) == seq ? time_ns : 0;
}

/* Was there ever a record of that number? It can be there before the head is. */
bool mlk_ring_had(const struct mlk_ring *ring, u64 seq)
{
	return seq <= mlk_ring_head(ring) || mlk_ring_time(ring, seq);
}

/*
 * Returns 0, -EFAULT, or -ESTALE if the record was overwritten: then what is
 * in @to is worth nothing.
 */
int mlk_ring_copy(const struct mlk_ring *ring, u64 seq, void __user *to)
{
	const struct mlk_record *record = mlk_ring_slot(ring, seq);

	if (mlk_load_u64(&record->seq) != seq)
		return -ESTALE;
	if (copy_to_user(to, record, ring->record_bytes))
		return -EFAULT;
	smp_rmb(); /* the number again, behind the values */
	return mlk_load_u64(&record->seq) == seq ? 0 : -ESTALE;
}

void mlk_ring_discard(struct mlk_ring *ring)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&ring->lock, flags);
	mlk_store_u64(&ring->dataset->discarded, ring->dataset->head);
	raw_spin_unlock_irqrestore(&ring->lock, flags);
}

/*
 * Pages stay until the last mapping is gone, also when the ring is destroyed
 * before: each mapped page has its own reference.
 */
int mlk_ring_mmap(const struct mlk_ring *ring, struct vm_area_struct *vma)
{
	if (vma->vm_flags & VM_WRITE)
		return -EPERM;
	vm_flags_clear(vma, VM_MAYWRITE);
	return remap_vmalloc_range(vma, ring->dataset, vma->vm_pgoff);
}
