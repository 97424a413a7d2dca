// SPDX-License-Identifier: GPL-2.0-only
/*
 * Model against default. Which of them decides is drawn by lot before the
 * outcome is known, so their mean scores can be compared; that is done whenever
 * both have enough of them, and then all starts anew. All under the lock.
 */
#include <linux/math64.h>

#include "mlk_core.h"
#include "mlk_trace.h"

/* Sums of 2^20 scores, and 1000 times a difference of means, fit in 63 bits. */
#define MLK_MAX_SCORE ((s64)BIT_ULL(42))

/* What was decided before does not count any more. */
void mlk_score_restart(struct mlk_model *model)
{
	model->score.generation++;
	model->score.model = (struct mlk_sum){};
	model->score.def = (struct mlk_sum){};
}

static void mlk_score_judge(struct mlk_model *model)
{
	const struct mlk_options *options = &model->options;
	s64 gain = model->score.gain_permil;
	enum mlk_mode mode = model->mode;

	if (mode > MLK_LEARNING && gain < options->fail_permil)
		mode = MLK_EMERGENCY;
	else if (mode > MLK_LEARNING && gain < options->demote_permil)
		mode--;
	else if (mode < MLK_RECOMMENDATION && options->auto_promote &&
		 gain >= options->promote_permil)
		mode++;
	mlk_mode_set(model, mode, MLK_WHY_SCORE);
}

/* mlk_kick() must follow. */
void mlk_score_add(struct mlk_model *model, struct mlk_sum *sum, s64 value)
{
	struct mlk_score *score = &model->score;
	u32 enough = model->options.min_samples;
	u64 base;

	lockdep_assert_held(&model->lock);
	/* the other side may take long: what is enough is enough */
	if (sum->n >= 1 << 20)
		return;
	sum->sum += clamp(value, -MLK_MAX_SCORE, MLK_MAX_SCORE);
	sum->n++;
	if (score->model.n < enough || score->def.n < enough)
		return;
	score->model_mean = div_s64(score->model.sum, score->model.n);
	score->default_mean = div_s64(score->def.sum, score->def.n);
	base = max_t(u64, abs(score->default_mean), 1);
	score->gain_permil = score->model_mean - score->default_mean;
	score->gain_permil = div64_s64(score->gain_permil * 1000, base);
	score->comparisons++;
	score->model = (struct mlk_sum){};
	score->def = (struct mlk_sum){};
	trace_mlk_score(model->name, score->model_mean, score->default_mean,
			score->gain_permil);
	mlk_score_judge(model);
}
