// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who decides. A mode changes in two parts: mlk_mode_set(), at once and in any
 * context, so that the next decision knows it; and mlk_mode_settle(), in
 * process context, which tells the client, user space and the static branch.
 */
#include <linux/string.h>

#include "mlk_core.h"
#include "mlk_trace.h"

/* counts the models that are in another mode than emergency */
DEFINE_STATIC_KEY_FALSE(mlk_engaged);
EXPORT_SYMBOL_GPL(mlk_engaged);

const char *const mlk_mode_words[] = {
	[MLK_EMERGENCY] = "emergency",
	[MLK_LEARNING] = "learning",
	[MLK_COLLABORATION] = "collaboration",
	[MLK_RECOMMENDATION] = "recommendation",
	[MLK_RECOMMENDATION + 1] = NULL,
};

const char *const mlk_why_words[] = {
#define MLK_WHY_WORD(number, NAME, word) [(number)] = word,
	MLK_WHYS(MLK_WHY_WORD)
#undef MLK_WHY_WORD
};

/* Under the lock; mlk_mode_settle() or mlk_kick() must follow. */
void mlk_mode_set(struct mlk_model *model, enum mlk_mode mode, enum mlk_why why)
{
	lockdep_assert_held(&model->lock);
	if (model->mode == mode)
		return;
	trace_mlk_mode(model->name, model->mode, mode, why);
	WRITE_ONCE(model->mode, mode);
	model->why = why;
	model->unsettled = true;
	model->stats.mode_changes++;
	mlk_score_restart(model);
	if (mode == MLK_EMERGENCY) {
		model->fell = true;
		mlk_guard_reset(model);
	}
}

/* To emergency, in any context; mlk_mode_settle() or mlk_kick() must follow. */
void mlk_mode_fail(struct mlk_model *model, enum mlk_why why)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&model->lock, flags);
	mlk_mode_set(model, MLK_EMERGENCY, why);
	raw_spin_unlock_irqrestore(&model->lock, flags);
}

/* By hand, under the mutex. */
int mlk_mode_request(struct mlk_model *model, enum mlk_mode mode)
{
	unsigned long flags;
	int err = 0;

	if (mlk_dead(model))
		return -ENODEV;
	raw_spin_lock_irqsave(&model->lock, flags);
	if (mode == MLK_EMERGENCY || model->state == MLK_RUNNING) {
		/* an owner is not to blame for the time when nobody asked it */
		if (model->mode == MLK_EMERGENCY)
			model->beat_ns = ktime_get_mono_fast_ns();
		mlk_mode_set(model, mode, MLK_WHY_REQUEST);
	} else {
		err = -EBUSY;
	}
	raw_spin_unlock_irqrestore(&model->lock, flags);
	mlk_mode_settle(model);
	return err;
}

static void mlk_mode_uevent(struct mlk_model *model, enum mlk_mode mode,
			    enum mlk_why why)
{
	char name[sizeof("MLK_MODEL=") + MLK_NAME_BYTES];
	char state[32], word[32], reason[32];
	char *env[] = { name, state, word, reason, NULL };

	snprintf(name, sizeof(name), "MLK_MODEL=%s", model->name);
	snprintf(state, sizeof(state), "MLK_STATE=%s",
		 mlk_state_words[model->state]);
	snprintf(word, sizeof(word), "MLK_MODE=%s", mlk_mode_words[mode]);
	snprintf(reason, sizeof(reason), "MLK_REASON=%s", mlk_why_words[why]);
	kobject_uevent_env(&model->kobj, KOBJ_CHANGE, env);
}

static void mlk_mode_engage(struct mlk_model *model, bool engage)
{
	if (engage == model->engaged)
		return;
	model->engaged = engage;
	if (engage)
		static_branch_inc(&mlk_engaged);
	else
		static_branch_dec(&mlk_engaged);
}

/* What a change of mode entails; under the mutex, more than once is fine. */
void mlk_mode_settle(struct mlk_model *model)
{
	const struct mlk_ops *ops = model->desc.ops;
	bool unsettled, fell;
	unsigned long flags;
	enum mlk_mode mode;
	enum mlk_why why;

	lockdep_assert_held(&model->mutex);
	raw_spin_lock_irqsave(&model->lock, flags);
	unsettled = model->unsettled;
	fell = model->fell;
	mode = model->mode;
	why = model->why;
	model->unsettled = false;
	model->fell = false;
	raw_spin_unlock_irqrestore(&model->lock, flags);
	if (!unsettled || mlk_dead(model))
		return;
	mlk_mode_engage(model, mode != MLK_EMERGENCY);
	if (fell && ops && ops->fallback)
		ops->fallback(model, why);
	mlk_owner_watch(model);
	mlk_mode_uevent(model, mode, why);
	sysfs_notify(&model->kobj, NULL, "mode");
	sysfs_notify(&model->kobj, NULL, "reason");
}

static void mlk_mode_work(struct work_struct *work)
{
	struct mlk_model *model = container_of(work, struct mlk_model, work);

	mutex_lock(&model->mutex);
	mlk_mode_settle(model);
	mutex_unlock(&model->mutex);
}

void mlk_mode_init(struct mlk_model *model)
{
	INIT_WORK(&model->work, mlk_mode_work);
}

/**
 * mlk_emergency - the client wants its default algorithm back
 * @model: the model
 *
 * From now on decisions are the default's, until somebody sets another mode.
 * The client's fallback() is called soon afterwards.
 *
 * Context: any but NMI.
 */
void mlk_emergency(struct mlk_model *model)
{
	mlk_mode_fail(model, MLK_WHY_CLIENT);
	mlk_kick(model);
}
EXPORT_SYMBOL_GPL(mlk_emergency);
