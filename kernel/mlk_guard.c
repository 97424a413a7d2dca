// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of an answer may be applied: values that a knob can have, inside its
 * limits, no further and no sooner than allowed. All under the model's lock.
 */
#include <linux/math64.h>
#include <linux/time64.h>

#include "mlk_core.h"

/* As much of @distance as whole steps are */
static u64 mlk_whole_steps(const struct mlk_knob *knob, u64 distance)
{
	return div64_u64(distance, knob->step) * knob->step;
}

/* Is it one of min, min + step, ... max? */
bool mlk_knob_can(const struct mlk_knob *knob, s64 value)
{
	u64 above = (u64)value - (u64)knob->min;

	return value >= knob->min && value <= knob->max &&
	       mlk_whole_steps(knob, above) == above;
}

s64 mlk_knob_nearest(const struct mlk_knob *knob, s64 value)
{
	u64 above, half = (u64)knob->step >> 1;

	value = clamp(value, knob->min, knob->max);
	above = (u64)value - (u64)knob->min;
	return knob->min + (s64)mlk_whole_steps(knob, above + half);
}

void mlk_guard_init(struct mlk_model *model)
{
	u32 i;

	for (i = 0; i < model->desc.n_knobs; i++) {
		model->limit[i].low = mlk_knob_at(model, i)->min;
		model->limit[i].high = mlk_knob_at(model, i)->max;
	}
	mlk_guard_reset(model);
}

/* Knobs are where the default has them, and the owner has said nothing. */
void mlk_guard_reset(struct mlk_model *model)
{
	u32 i;

	for (i = 0; i < model->desc.n_knobs; i++) {
		model->limit[i].applied = mlk_knob_at(model, i)->def;
		model->limit[i].last = mlk_knob_at(model, i)->def;
		model->limit[i].changed_ns = 0;
	}
	model->advice.time_ns = 0;
}

static enum mlk_verdict mlk_guard_usable(const struct mlk_model *model,
					 const struct mlk_answer *answer,
					 u64 now)
{
	const struct mlk_options *options = &model->options;
	u64 max_age = (u64)options->max_age_ms * NSEC_PER_MSEC;

	if (!answer->time_ns)
		return MLK_VERDICT_NONE;
	if (max_age && now > answer->time_ns && now - answer->time_ns > max_age)
		return MLK_VERDICT_STALE;
	if (answer->confidence_permil < options->min_confidence_permil)
		return MLK_VERDICT_UNSURE;
	return MLK_VERDICT_GOOD;
}

static enum mlk_verdict mlk_guard_knob(const struct mlk_knob *knob,
				       const struct mlk_limit *limit, u64 now,
				       s64 *value)
{
	u64 interval = (u64)limit->interval_ms * NSEC_PER_MSEC;
	s64 bounded = clamp(*value, limit->low, limit->high);
	/* bounds are kept whatever was before them: the default, another bound */
	s64 last = clamp(limit->last, limit->low, limit->high);
	enum mlk_verdict verdict = bounded == *value ? MLK_VERDICT_GOOD :
						       MLK_VERDICT_BOUNDED;
	s64 change;

	*value = bounded;
	if (bounded == last)
		return verdict;
	if (interval && limit->changed_ns &&
	    now < limit->changed_ns + interval) {
		*value = last;
		return MLK_VERDICT_RATE;
	}
	if (!limit->change)
		return verdict;
	/* differences fit: the range of a knob is less than 2^63 */
	change = mlk_whole_steps(knob, limit->change);
	if (abs(bounded - last) <= change)
		return verdict;
	*value = last + (bounded > last ? change : -change);
	return MLK_VERDICT_STEPPED;
}

/*
 * Sets @values to what may be applied of @answer, or to the defaults if that
 * is nothing, and returns what was done to it.
 */
enum mlk_verdict mlk_guard_judge(struct mlk_model *model,
				 const struct mlk_answer *answer, u64 now,
				 s64 *values)
{
	enum mlk_verdict worst = mlk_guard_usable(model, answer, now);
	u32 i;

	for (i = 0; i < model->desc.n_knobs; i++)
		values[i] = worst >= MLK_VERDICT_NONE ?
				    mlk_knob_at(model, i)->def :
				    answer->value[i];
	if (worst >= MLK_VERDICT_NONE)
		return worst;
	for (i = 0; i < model->desc.n_knobs; i++)
		worst = max(worst,
			    mlk_guard_knob(mlk_knob_at(model, i),
					   &model->limit[i], now, &values[i]));
	return worst;
}

/* The decision follows the model. */
void mlk_guard_follow(struct mlk_model *model, const s64 *values, u64 now)
{
	u32 i;

	for (i = 0; i < model->desc.n_knobs; i++) {
		if (values[i] == model->limit[i].last)
			continue;
		model->limit[i].last = values[i];
		model->limit[i].changed_ns = now;
	}
}
