// SPDX-License-Identifier: GPL-2.0-only
/*
 * Example client: two models for a disk, without a change of the block layer.
 * Its requests are seen by tracepoints.
 *
 *   slow       Asked for each request when it is issued: will it be slow? An
 *              answer is a prediction and changes nothing, so it is scored in
 *              learning mode, too: 1000 if it was right, else 0. The default
 *              says never. Features are of requests of the same kind, reads
 *              or writes: what is in flight, as in LinnOS the last four times,
 *              and since when nothing has ended.
 *   readahead  Asked every period_ms: how much is to be read ahead? Scored by
 *              what was read until the next time. The default is what the disk
 *              had before: it comes back whenever the model is not followed.
 *
 * The disk is named when the module is loaded and found by its first request. Its
 * driver cannot be unloaded from then on, as long as this module is there.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/backing-dev.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/hash.h>
#include <linux/ktime.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/mlk.h>
#include <linux/module.h>
#include <linux/tracepoint.h>
#include <linux/workqueue.h>

static char *disk = "vda";
module_param(disk, charp, 0444);
MODULE_PARM_DESC(disk, "name of the disk, as in /sys/block");

static unsigned int slow_us = 1000;
module_param(slow_us, uint, 0644);
MODULE_PARM_DESC(slow_us, "a request that takes longer is slow");

static unsigned int period_ms = 100;
module_param(period_ms, uint, 0644);
MODULE_PARM_DESC(period_ms, "how often readahead is decided");

#define SLOT_BITS 8
#define LAST 4
#define MOST_US 1000000

/* A request that is in flight */
struct blk_slot {
	struct request *rq;
	u64 issued_ns;
	u64 sector;
	struct mlk_decision decision;
};

/* Reads, or writes */
struct blk_kind {
	u32 inflight;
	u32 last_us[LAST]; /* the newest first */
	u64 end_ns; /* of the last one */
	u64 busy_ns; /* since when one or more are in flight */
};

/* What happened since readahead was decided */
struct blk_window {
	u64 reads;
	u64 bytes;
	u64 sequential;
	u64 time_us;
};

/**
 * struct blk - the disk
 * @gendisk: set once by its first request, with a reference to it
 * @slow: model
 * @readahead: model
 * @lock: guards all below; taken in whatever context requests are seen
 * @slot: requests in flight, by hash: of two in one the later is forgotten
 * @kind: reads and writes
 * @next_sector: where a sequential read would go on
 * @window: since readahead was decided
 * @work: decides
 * @decision: the last one; as all below, only in @work or while it is stopped
 * @known: @original and @ours are valid
 * @original: pages that the disk read ahead before
 * @ours: pages that were set last
 */
static struct blk {
	struct gendisk *gendisk;
	struct mlk_model *slow;
	struct mlk_model *readahead;
	raw_spinlock_t lock; /* see above */
	struct blk_slot slot[1 << SLOT_BITS];
	struct blk_kind kind[2];
	u64 next_sector;
	struct blk_window window;
	struct delayed_work work;
	struct mlk_decision decision;
	bool known;
	unsigned long original;
	unsigned long ours;
} blk;

/* Times are logarithms to base 2 of microseconds, in sixteenths: blk_log2(). */
static const struct mlk_feature slow_features[] = {
	{ "inflight", "", MLK_GAUGE, 0, 1024 },
	{ "since", "", MLK_GAUGE, 0, 320 },
	{ "still", "", MLK_GAUGE, 0, 320 },
	{ "last_1", "", MLK_GAUGE, 0, 320 },
	{ "last_2", "", MLK_GAUGE, 0, 320 },
	{ "last_3", "", MLK_GAUGE, 0, 320 },
	{ "last_4", "", MLK_GAUGE, 0, 320 },
};

static const struct mlk_knob slow_knobs[] = {
	{ "slow", "", 0, 1, 1, 0 },
};

static const struct mlk_feature readahead_features[] = {
	{ "reads", "", MLK_GAUGE, 0, 1000000 },
	{ "read_bytes", "bytes", MLK_GAUGE, 0, 1 << 30 },
	{ "sequential", "permil", MLK_GAUGE, 0, 1000 },
	{ "latency", "us", MLK_GAUGE, 0, 1000000 },
	{ "readahead", "KiB", MLK_GAUGE, 0, 4096 },
};

static const struct mlk_knob readahead_knobs[] = {
	{ "read_ahead_kb", "KiB", 0, 4096, 4, 128 },
};

static struct blk_slot *blk_slot_of(struct request *rq)
{
	return &blk.slot[hash_ptr(rq, SLOT_BITS)];
}

static bool blk_is_ours(const struct request *rq)
{
	return rq->q->disk && rq->q->disk == READ_ONCE(blk.gendisk);
}

static void blk_forget(struct gendisk *old)
{
	struct module *driver = old->fops->owner;

	put_device(disk_to_dev(old));
	module_put(driver);
}

/* The first request of that name; later ones of another disk are not ours. */
static bool blk_find(const struct request *rq)
{
	struct gendisk *found = rq->q->disk;

	if (!found || READ_ONCE(blk.gendisk) || strcmp(found->disk_name, disk))
		return false;
	/* its release calls the driver: a reference to the disk is not enough */
	if (!try_module_get(found->fops->owner))
		return false;
	get_device(disk_to_dev(found));
	if (!cmpxchg(&blk.gendisk, NULL, found))
		return true;
	blk_forget(found);
	return false;
}

static u32 blk_log2(u64 us)
{
	u64 n = min_t(u64, us, MOST_US) + 1;
	u32 whole = ilog2(n);

	return 16 * whole + ((n << 4 >> whole) & 15);
}

/* The clock may go back a little. */
static u32 blk_since(u64 now, u64 before)
{
	return now > before ? blk_log2(div_u64(now - before, NSEC_PER_USEC)) :
			      0;
}

/* Under the lock, when the request is in flight. */
static void blk_look(const struct blk_kind *kind, u64 now, s64 *row)
{
	u32 i;

	row[0] = kind->inflight;
	row[1] = blk_since(now, kind->end_ns);
	/* while another one is in flight: how long nothing has ended */
	row[2] = kind->inflight > 1 ?
			 blk_since(now, max(kind->end_ns, kind->busy_ns)) :
			 0;
	for (i = 0; i < LAST; i++)
		row[3 + i] = blk_log2(kind->last_us[i]);
}

static void blk_issue(void *unused, struct request *rq)
{
	struct blk_kind *kind = &blk.kind[op_is_write(req_op(rq))];
	struct blk_slot *slot = blk_slot_of(rq);
	struct mlk_decision decision;
	s64 row[ARRAY_SIZE(slow_features)];
	unsigned long flags;
	u64 seq, now;

	if (!blk_is_ours(rq) && !blk_find(rq))
		return;
	raw_spin_lock_irqsave(&blk.lock, flags);
	now = ktime_get_mono_fast_ns();
	if (!kind->inflight)
		kind->busy_ns = now;
	/* one that is issued again was counted before */
	kind->inflight += slot->rq != rq;
	blk_look(kind, now, row);
	raw_spin_unlock_irqrestore(&blk.lock, flags);
	seq = mlk_push(blk.slow, row);
	mlk_decide(blk.slow, seq, row, &decision);

	raw_spin_lock_irqsave(&blk.lock, flags);
	slot->rq = rq;
	slot->issued_ns = ktime_get_mono_fast_ns();
	slot->sector = blk_rq_pos(rq);
	slot->decision = decision;
	raw_spin_unlock_irqrestore(&blk.lock, flags);
}

/* Under the lock. */
static void blk_account(const struct request *rq, const struct blk_slot *slot,
			u32 bytes, u32 took_us)
{
	struct blk_kind *kind = &blk.kind[op_is_write(req_op(rq))];

	memmove(kind->last_us + 1, kind->last_us,
		sizeof(kind->last_us) - sizeof(kind->last_us[0]));
	kind->last_us[0] = took_us;
	if (op_is_write(req_op(rq)))
		return;
	blk.window.reads++;
	blk.window.bytes += bytes;
	blk.window.time_us += took_us;
	blk.window.sequential += slot->sector == blk.next_sector;
	blk.next_sector = slot->sector + (bytes >> SECTOR_SHIFT);
}

static void blk_complete(void *unused, struct request *rq, blk_status_t status,
			 unsigned int bytes)
{
	struct blk_kind *kind = &blk.kind[op_is_write(req_op(rq))];
	struct blk_slot *slot = blk_slot_of(rq);
	struct mlk_decision decision;
	unsigned long flags;
	bool known, slow;
	u32 took_us;

	/* a part of a request is not its end */
	if (!blk_is_ours(rq) || bytes < blk_rq_bytes(rq))
		return;
	raw_spin_lock_irqsave(&blk.lock, flags);
	if (kind->inflight)
		kind->inflight--;
	kind->end_ns = ktime_get_mono_fast_ns();
	known = slot->rq == rq;
	if (known) {
		took_us =
			div_u64(kind->end_ns - slot->issued_ns, NSEC_PER_USEC);
		blk_account(rq, slot, bytes, took_us);
		decision = slot->decision;
		slot->rq = NULL;
	}
	raw_spin_unlock_irqrestore(&blk.lock, flags);
	if (!known || decision.arm == MLK_ARM_NONE)
		return;
	slow = took_us > READ_ONCE(slow_us);
	mlk_report(blk.slow, &decision, decision.value[0] == slow ? 1000 : 0);
	mlk_report_shadow(blk.slow, &decision,
			  decision.advice[0] == slow ? 1000 : 0);
}

static void blk_set_readahead(unsigned long pages)
{
	struct backing_dev_info *bdi = blk.gendisk->bdi;

	/* what somebody else has set since is the default from now on */
	if (!blk.known || bdi->ra_pages != blk.ours)
		blk.original = bdi->ra_pages;
	blk.known = true;
	blk.ours = pages;
	bdi->ra_pages = pages;
}

static void blk_restore(void)
{
	if (blk.known && blk.gendisk->bdi->ra_pages == blk.ours)
		blk.gendisk->bdi->ra_pages = blk.original;
	blk.known = false;
}

static void blk_decide(const struct blk_window *window)
{
	u64 reads = max_t(u64, window->reads, 1);
	s64 row[ARRAY_SIZE(readahead_features)] = {
		window->reads,
		window->bytes,
		div64_u64(window->sequential * 1000, reads),
		div64_u64(window->time_us, reads),
		blk.gendisk->bdi->ra_pages << (PAGE_SHIFT - 10),
	};
	u64 seq;

	/* the window is the effect of the decision before */
	if (window->reads)
		mlk_report(blk.readahead, &blk.decision, window->bytes >> 10);
	seq = mlk_push(blk.readahead, row);
	if (mlk_decide(blk.readahead, seq, row, &blk.decision))
		blk_set_readahead(blk.decision.value[0] >> (PAGE_SHIFT - 10));
	else
		blk_restore();
}

static void blk_work(struct work_struct *work)
{
	struct blk_window window;
	unsigned long flags;

	raw_spin_lock_irqsave(&blk.lock, flags);
	window = blk.window;
	blk.window = (struct blk_window){};
	raw_spin_unlock_irqrestore(&blk.lock, flags);
	/* set once, by cmpxchg() */
	if (READ_ONCE(blk.gendisk))
		blk_decide(&window);
	queue_delayed_work(system_unbound_wq, &blk.work,
			   msecs_to_jiffies(max(READ_ONCE(period_ms), 1u)));
}

static int readahead_start(struct mlk_model *model)
{
	WRITE_ONCE(blk.readahead, model);
	queue_delayed_work(system_unbound_wq, &blk.work, 0);
	return 0;
}

static void readahead_stop(struct mlk_model *model)
{
	cancel_delayed_work_sync(&blk.work);
	blk.decision.arm = MLK_ARM_NONE;
	blk_restore();
}

/* At once, not only when the next decision is due */
static void readahead_fallback(struct mlk_model *model, enum mlk_why why)
{
	mod_delayed_work(system_unbound_wq, &blk.work, 0);
}

static const struct mlk_ops readahead_ops = {
	.start = readahead_start,
	.stop = readahead_stop,
	.fallback = readahead_fallback,
};

static const struct mlk_desc slow_desc = {
	.subsystem = "block",
	.name = "slow",
	.features = slow_features,
	.n_features = ARRAY_SIZE(slow_features),
	.knobs = slow_knobs,
	.n_knobs = ARRAY_SIZE(slow_knobs),
};

static const struct mlk_desc readahead_desc = {
	.subsystem = "block",
	.name = "readahead",
	.features = readahead_features,
	.n_features = ARRAY_SIZE(readahead_features),
	.knobs = readahead_knobs,
	.n_knobs = ARRAY_SIZE(readahead_knobs),
	.ops = &readahead_ops,
};

/* The block layer does not export its tracepoints, but they can be found. */
static struct {
	const char *name;
	void *probe;
	struct tracepoint *point;
} probes[] = {
	{ "block_rq_issue", blk_issue },
	{ "block_rq_complete", blk_complete },
};

static void probe_find(struct tracepoint *point, void *unused)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (!strcmp(point->name, probes[i].name))
			probes[i].point = point;
}

/* The first @n of them; afterwards none of them runs any more. */
static void probes_remove(u32 n)
{
	while (n--)
		tracepoint_probe_unregister(probes[n].point, probes[n].probe,
					    NULL);
	tracepoint_synchronize_unregister();
}

static int probes_add(void)
{
	u32 i;
	int err;

	for_each_kernel_tracepoint(probe_find, NULL);
	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		err = probes[i].point ?
			      tracepoint_probe_register(probes[i].point,
							probes[i].probe, NULL) :
			      -ENOENT;
		if (err) {
			probes_remove(i);
			return err;
		}
	}
	return 0;
}

static int __init blk_init(void)
{
	int err;

	raw_spin_lock_init(&blk.lock);
	INIT_DELAYED_WORK(&blk.work, blk_work);
	blk.slow = mlk_register(&slow_desc);
	if (IS_ERR(blk.slow))
		return PTR_ERR(blk.slow);
	blk.readahead = mlk_register(&readahead_desc);
	if (IS_ERR(blk.readahead)) {
		err = PTR_ERR(blk.readahead);
		goto err_slow;
	}
	err = probes_add();
	if (err)
		goto err_readahead;
	return 0;

err_readahead:
	mlk_unregister(blk.readahead);
err_slow:
	mlk_unregister(blk.slow);
	return err;
}

static void __exit blk_exit(void)
{
	probes_remove(ARRAY_SIZE(probes));
	mlk_unregister(blk.readahead);
	mlk_unregister(blk.slow);
	if (blk.gendisk)
		blk_forget(blk.gendisk);
}

module_init(blk_init);
module_exit(blk_exit);

MODULE_DESCRIPTION("Example client of mlk: a disk");
MODULE_LICENSE("GPL");
