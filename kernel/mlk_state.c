// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the proxy is doing. All changes go through one table, under the mutex;
 * the client is asked first, so a refusal leaves everything as it was.
 */
#include <linux/string.h>

#include "mlk_core.h"
#include "mlk_trace.h"

const char *const mlk_state_words[] = {
	[MLK_CREATED] = "created",  [MLK_INITIALIZED] = "initialized",
	[MLK_STARTED] = "started",  [MLK_RUNNING] = "running",
	[MLK_STOPPED] = "stopped",  [MLK_DESTROYED] = "destroyed",
	[MLK_DESTROYED + 1] = NULL,
};

#define FROM(state) BIT(MLK_##state)
#define FROM_ANY (BIT(MLK_DESTROYED) - 1)
#define STAYS (-1)

static int mlk_state_init(struct mlk_model *model)
{
	const struct mlk_ops *ops = model->desc.ops;

	return ops && ops->init ? ops->init(model) : 0;
}

static int mlk_state_start(struct mlk_model *model)
{
	const struct mlk_ops *ops = model->desc.ops;

	return ops && ops->start ? ops->start(model) : 0;
}

static int mlk_state_stop(struct mlk_model *model)
{
	const struct mlk_ops *ops = model->desc.ops;

	mlk_mode_fail(model, MLK_WHY_STOP);
	mlk_mode_settle(model);
	if (BIT(model->state) & (FROM(STARTED) | FROM(RUNNING)) && ops &&
	    ops->stop)
		ops->stop(model);
	return 0;
}

static int mlk_state_sample(struct mlk_model *model)
{
	const struct mlk_ops *ops = model->desc.ops;

	return ops && ops->sample ? ops->sample(model) : -EOPNOTSUPP;
}

static int mlk_state_discard(struct mlk_model *model)
{
	mlk_ring_discard(&model->ring);
	return 0;
}

static const struct {
	u8 from; /* states in which it is allowed */
	s8 to;
	int (*act)(struct mlk_model *model);
} mlk_commands[] = {
	[MLK_CMD_INIT] = { FROM(CREATED) | FROM(STOPPED), MLK_INITIALIZED,
			   mlk_state_init },
	[MLK_CMD_START] = { FROM(INITIALIZED), MLK_STARTED, mlk_state_start },
	[MLK_CMD_RUN] = { FROM(STARTED), MLK_RUNNING, NULL },
	[MLK_CMD_STOP] = { FROM(INITIALIZED) | FROM(STARTED) | FROM(RUNNING),
			   MLK_STOPPED, mlk_state_stop },
	[MLK_CMD_SAMPLE] = { FROM(STARTED) | FROM(RUNNING), STAYS,
			     mlk_state_sample },
	[MLK_CMD_DISCARD] = { FROM_ANY, STAYS, mlk_state_discard },
};

static void mlk_state_set(struct mlk_model *model, enum mlk_state state)
{
	unsigned long flags;

	trace_mlk_state(model->name, model->state, state);
	raw_spin_lock_irqsave(&model->lock, flags);
	WRITE_ONCE(model->state, state);
	if (state == MLK_INITIALIZED) {
		mlk_score_restart(model);
		model->score = (struct mlk_score){
			.generation = model->score.generation,
		};
		memset(&model->stats, 0, sizeof(model->stats));
		model->refused_row = 0;
		model->why = MLK_WHY_NEW;
	}
	raw_spin_unlock_irqrestore(&model->lock, flags);
}

/* Under the mutex. Returns 0, -EBUSY, -ENODEV or what the client says. */
int mlk_state_change(struct mlk_model *model, enum mlk_command command)
{
	int err;

	lockdep_assert_held(&model->mutex);
	if (mlk_dead(model))
		return -ENODEV;
	if (!(mlk_commands[command].from & BIT(model->state)))
		return -EBUSY;
	if (mlk_commands[command].act) {
		err = mlk_commands[command].act(model);
		if (err < 0)
			return err;
	}
	if (mlk_commands[command].to == STAYS)
		return 0;
	mlk_state_set(model, mlk_commands[command].to);
	sysfs_notify(&model->kobj, NULL, "state");
	return 0;
}

/* Whatever the state is: the client goes. */
void mlk_state_destroy(struct mlk_model *model)
{
	mutex_lock(&model->mutex);
	mlk_state_stop(model);
	mlk_state_set(model, MLK_DESTROYED);
	mutex_unlock(&model->mutex);
	wake_up_all(&model->wait);
}

/**
 * mlk_control - change what a proxy is doing
 * @model: the model
 * @command: what is wanted
 *
 * As the file "control" in sysfs. Clients that want to be in service without
 * anybody asking for it call it with MLK_CMD_INIT, MLK_CMD_START and
 * MLK_CMD_RUN; the mode stays emergency.
 *
 * Context: process; may sleep; calls the client's callbacks.
 * Return: 0; -EBUSY in the wrong state, nothing is changed; -EOPNOTSUPP
 * the client has no sample(); or the error of the client's callback.
 */
int mlk_control(struct mlk_model *model, enum mlk_command command)
{
	int err;

	if (command < 0 || command >= ARRAY_SIZE(mlk_commands))
		return -EINVAL;
	mutex_lock(&model->mutex);
	err = mlk_state_change(model, command);
	mutex_unlock(&model->mutex);
	return err;
}
EXPORT_SYMBOL_GPL(mlk_control);
