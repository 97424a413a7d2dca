// SPDX-License-Identifier: GPL-2.0-only
/*
 * The user-space side of a model: one descriptor owns it, shows that it is
 * alive, and recommends. The kernel never waits for it; what it must not do is
 * be late, be gone, or be wrong too often.
 */
#include <linux/sched.h>
#include <linux/ktime.h>

#include "mlk_core.h"
#include "mlk_trace.h"

/* Under the mutex, like all that changes the owner. */
static void mlk_owner_change(struct mlk_model *model, struct mlk_reader *owner)
{
	unsigned long flags;

	model->owner_pid = owner ? task_tgid_nr(current) : 0;
	raw_spin_lock_irqsave(&model->lock, flags);
	model->owner = owner;
	model->beat_ns = ktime_get_mono_fast_ns();
	model->refused_row = 0;
	model->advice.time_ns = 0;
	if (!owner)
		mlk_mode_set(model, MLK_EMERGENCY, MLK_WHY_OWNER);
	raw_spin_unlock_irqrestore(&model->lock, flags);
	mlk_mode_settle(model);
	mlk_owner_watch(model);
}

/* Returns 0, -ENODEV, or -EBUSY if another one is the owner. */
int mlk_owner_set(struct mlk_model *model, struct mlk_reader *reader)
{
	int err = 0;

	mutex_lock(&model->mutex);
	if (mlk_dead(model))
		err = -ENODEV;
	else if (model->owner && model->owner != reader)
		err = -EBUSY;
	else if (!model->owner)
		mlk_owner_change(model, reader);
	mutex_unlock(&model->mutex);
	return err;
}

void mlk_owner_drop(struct mlk_model *model, struct mlk_reader *reader)
{
	mutex_lock(&model->mutex);
	if (model->owner == reader)
		mlk_owner_change(model, NULL);
	mutex_unlock(&model->mutex);
}

/* Takes no mutex: nothing that another one does may make an owner late. */
int mlk_owner_beat(struct mlk_model *model, struct mlk_reader *reader)
{
	unsigned long flags;
	int err = -EPERM;

	raw_spin_lock_irqsave(&model->lock, flags);
	if (model->state == MLK_DESTROYED) {
		err = -ENODEV;
	} else if (model->owner == reader) {
		model->beat_ns = ktime_get_mono_fast_ns();
		model->stats.heartbeats++;
		err = 0;
	}
	raw_spin_unlock_irqrestore(&model->lock, flags);
	return err;
}

/* Nanoseconds until the owner is late, or -1 if it cannot be. */
static s64 mlk_owner_time_left(const struct mlk_model *model, u64 now)
{
	u64 deadline = (u64)model->options.deadline_ms * NSEC_PER_MSEC;
	u64 silent = now > model->beat_ns ? now - model->beat_ns : 0;

	if (!model->owner || !deadline || model->mode == MLK_EMERGENCY)
		return -1;
	return silent < deadline ? deadline - silent : 0;
}

/* Under the lock. If so the mode is emergency, and mlk_kick() must follow. */
bool mlk_owner_late(struct mlk_model *model, u64 now)
{
	if (mlk_owner_time_left(model, now))
		return false;
	model->stats.missed++;
	mlk_mode_set(model, MLK_EMERGENCY, MLK_WHY_HEARTBEAT);
	return true;
}

static void mlk_owner_work(struct work_struct *work)
{
	struct mlk_model *model =
		container_of(work, struct mlk_model, deadline.work);
	unsigned long flags;
	s64 left;
	u64 now;

	raw_spin_lock_irqsave(&model->lock, flags);
	now = ktime_get_mono_fast_ns();
	mlk_owner_late(model, now);
	left = mlk_owner_time_left(model, now);
	raw_spin_unlock_irqrestore(&model->lock, flags);
	if (left >= 0)
		queue_delayed_work(mlk_wq, &model->deadline,
				   nsecs_to_jiffies(left) + 1);
	else
		queue_work(mlk_wq, &model->work);
}

/* Under the mutex: owner, mode or deadline have changed. */
void mlk_owner_watch(struct mlk_model *model)
{
	unsigned long flags;
	s64 left;

	lockdep_assert_held(&model->mutex);
	raw_spin_lock_irqsave(&model->lock, flags);
	left = mlk_owner_time_left(model, ktime_get_mono_fast_ns());
	raw_spin_unlock_irqrestore(&model->lock, flags);
	if (left >= 0 && !mlk_dead(model))
		mod_delayed_work(mlk_wq, &model->deadline,
				 nsecs_to_jiffies(left) + 1);
}

void mlk_owner_init(struct mlk_model *model)
{
	INIT_DELAYED_WORK(&model->deadline, mlk_owner_work);
}

static int mlk_recommendation_check(const struct mlk_model *model,
				    const struct mlk_recommendation *r)
{
	u32 i;

	if (r->version != MLK_ABI_VERSION || r->bytes != sizeof(*r) ||
	    r->n_knobs != model->desc.n_knobs || r->confidence_permil > 1000 ||
	    r->reserved[0] || r->reserved[1] || r->reserved[2] ||
	    !mlk_ring_had(&model->ring, r->seq))
		return -EINVAL;
	for (i = 0; i < r->n_knobs; i++)
		if (!mlk_knob_can(mlk_knob_at(model, i), r->value[i]))
			return -ERANGE;
	for (; i < MLK_MAX_KNOBS; i++)
		if (r->value[i])
			return -EINVAL;
	return 0;
}

/* Under the lock. */
static void mlk_recommendation_take(struct mlk_model *model,
				    const struct mlk_recommendation *r, u64 now)
{
	u64 asked = r->seq ? mlk_ring_time(&model->ring, r->seq) : 0;

	memcpy(model->advice.value, r->value, sizeof(r->value));
	model->advice.confidence_permil = r->confidence_permil;
	model->advice.time_ns = now;
	model->beat_ns = now;
	model->refused_row = 0;
	model->stats.recommendations++;
	if (asked)
		mlk_stats_time(model->stats.answer_latency, asked, now);
}

/* Under the lock. */
static void mlk_recommendation_refuse(struct mlk_model *model)
{
	model->stats.refused++;
	if (++model->refused_row >= model->options.max_refused)
		mlk_mode_set(model, MLK_EMERGENCY, MLK_WHY_GUARD);
}

/* Under the mutex. */
static int mlk_recommend(struct mlk_model *model, struct mlk_reader *reader,
			 const struct mlk_recommendation *r)
{
	const struct mlk_ops *ops = model->desc.ops;
	unsigned long flags;
	int err;

	if (mlk_dead(model))
		return -ENODEV;
	if (model->owner != reader)
		return -EPERM;
	if (model->state != MLK_RUNNING)
		return -EBUSY;
	err = mlk_recommendation_check(model, r);
	trace_mlk_recommendation(model->name, r->seq, r->value[0], err);
	raw_spin_lock_irqsave(&model->lock, flags);
	if (err)
		mlk_recommendation_refuse(model);
	else
		mlk_recommendation_take(model, r, ktime_get_mono_fast_ns());
	raw_spin_unlock_irqrestore(&model->lock, flags);
	mlk_mode_settle(model);
	if (!err && ops && ops->advised)
		ops->advised(model);
	return err;
}

/* Returns 0, -ENODEV, -EPERM, -EBUSY, -EINVAL or -ERANGE. */
int mlk_owner_recommend(struct mlk_model *model, struct mlk_reader *reader,
			const struct mlk_recommendation *r)
{
	int err;

	mutex_lock(&model->mutex);
	err = mlk_recommend(model, reader, r);
	mutex_unlock(&model->mutex);
	return err;
}
