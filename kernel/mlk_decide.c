// SPDX-License-Identifier: GPL-2.0-only
/* The hot path: samples, decisions and their scores. No sleep, no allocation. */
#include <linux/log2.h>
#include <linux/ktime.h>

#include "mlk_core.h"
#include "mlk_trace.h"

/* Counts a time in powers of two; clocks of two processors may differ a little. */
void mlk_stats_time(u32 *buckets, u64 since, u64 now)
{
	u64 ns = now > since ? now - since : 0;

	buckets[min(ns ? ilog2(ns) : 0, MLK_BUCKETS - 1)]++;
}

/**
 * mlk_push - record a sample
 * @model: the model
 * @features: as many values as were described
 *
 * Nothing is recorded before the model is started and after it is stopped.
 *
 * Context: any but NMI, also hard interrupt and with a run queue locked. Takes
 * the ring's raw spinlock for a few stores.
 * Return: number of the record, or 0.
 */
u64 mlk_push(struct mlk_model *model, const s64 *features)
{
	u32 state = READ_ONCE(model->state);
	u64 seq;

	if (state != MLK_STARTED && state != MLK_RUNNING)
		return 0;
	seq = mlk_ring_write(&model->ring, MLK_SAMPLE, features,
			     model->desc.n_features);
	mlk_kick(model);
	return seq;
}
EXPORT_SYMBOL_GPL(mlk_push);

/* Under the lock: is the next number of the lot below @permil? */
static bool mlk_draw(struct mlk_model *model, u32 permil)
{
	return ((u64)prandom_u32_state(&model->random) * 1000) >> 32 < permil;
}

/* Under the lock. Drawn whatever the answer is, so that it has no influence. */
static enum mlk_arm mlk_draw_arm(struct mlk_model *model)
{
	const struct mlk_options *options = &model->options;

	switch (model->mode) {
	case MLK_COLLABORATION:
		return mlk_draw(model, options->collaboration_permil) ?
			       MLK_ARM_MODEL :
			       MLK_ARM_DEFAULT;
	case MLK_RECOMMENDATION:
		return mlk_draw(model, options->holdout_permil) ?
			       MLK_ARM_DEFAULT :
			       MLK_ARM_MODEL;
	default:
		return MLK_ARM_DEFAULT;
	}
}

/* Under the lock. */
static void mlk_count_decision(struct mlk_stats *stats,
			       const struct mlk_decision *decision)
{
	u64 *const verdict[] = {
		[MLK_VERDICT_GOOD] = NULL,
		[MLK_VERDICT_BOUNDED] = &stats->bounded,
		[MLK_VERDICT_STEPPED] = &stats->stepped,
		[MLK_VERDICT_RATE] = &stats->rate,
		[MLK_VERDICT_NONE] = &stats->none,
		[MLK_VERDICT_STALE] = &stats->stale,
		[MLK_VERDICT_UNSURE] = &stats->unsure,
	};

	stats->decisions++;
	if (decision->arm == MLK_ARM_MODEL)
		stats->followed++;
	if (decision->arm == MLK_ARM_DEFAULT)
		stats->held_out++;
	if (verdict[decision->verdict])
		++*verdict[decision->verdict];
}

/* Under the lock. */
static void mlk_decide_now(struct mlk_model *model,
			   const struct mlk_answer *answer, u64 now,
			   struct mlk_decision *d)
{
	u32 i;

	/* tracepoints show these, also of a model without knobs */
	d->value[0] = 0;
	d->advice[0] = 0;
	d->generation = model->score.generation;
	d->verdict = mlk_guard_judge(model, answer, now, d->advice);
	d->arm = mlk_draw_arm(model);
	if (d->verdict >= MLK_VERDICT_NONE)
		d->arm = MLK_ARM_FALLBACK;
	if (d->arm == MLK_ARM_MODEL)
		mlk_guard_follow(model, d->advice, now);
	for (i = 0; i < model->desc.n_knobs; i++) {
		d->value[i] = d->arm == MLK_ARM_MODEL ?
				      d->advice[i] :
				      mlk_knob_at(model, i)->def;
		model->limit[i].applied = d->value[i];
	}
	mlk_count_decision(&model->stats, d);
}

bool __mlk_decide(struct mlk_model *model, u64 seq, const s64 *features,
		  struct mlk_decision *decision)
{
	struct mlk_answer answer;
	bool inferred, late = false;
	unsigned long flags;
	u64 start, now;

	if (READ_ONCE(model->mode) == MLK_EMERGENCY)
		return false;
	decision->seq = seq;
	start = ktime_get_mono_fast_ns();
	inferred = features && mlk_image_answer(model, features, &answer);
	now = ktime_get_mono_fast_ns();
	answer.time_ns = now;

	raw_spin_lock_irqsave(&model->lock, flags);
	if (model->mode != MLK_EMERGENCY)
		late = mlk_owner_late(model, now);
	if (model->mode != MLK_EMERGENCY) {
		mlk_decide_now(model, inferred ? &answer : &model->advice, now,
			       decision);
		model->stats.inferences += inferred;
		mlk_stats_time(model->stats.decision_latency, start, now);
	}
	raw_spin_unlock_irqrestore(&model->lock, flags);

	if (late)
		mlk_kick(model);
	if (decision->arm == MLK_ARM_NONE)
		return false;
	trace_mlk_decision(model->name, decision);
	return decision->arm == MLK_ARM_MODEL;
}
EXPORT_SYMBOL_GPL(__mlk_decide);

static void mlk_record_outcome(struct mlk_model *model,
			       const struct mlk_decision *decision, s64 score)
{
	s64 value[MLK_OUTCOME_APPLIED + 2 * MLK_MAX_KNOBS];
	u32 knobs = model->desc.n_knobs;

	value[MLK_OUTCOME_SEQ] = (s64)decision->seq;
	value[MLK_OUTCOME_ARM] = decision->arm;
	value[MLK_OUTCOME_VERDICT] = decision->verdict;
	value[MLK_OUTCOME_SCORE] = score;
	memcpy(value + MLK_OUTCOME_APPLIED, decision->value,
	       knobs * sizeof(s64));
	memcpy(value + MLK_OUTCOME_APPLIED + knobs, decision->advice,
	       knobs * sizeof(s64));
	mlk_ring_write(&model->ring, MLK_OUTCOME, value,
		       MLK_OUTCOME_APPLIED + 2 * knobs);
}

/* Under the lock: does a score of that decision still mean anything? */
static bool mlk_counts(const struct mlk_model *model,
		       const struct mlk_decision *decision)
{
	return model->mode != MLK_EMERGENCY &&
	       decision->generation == model->score.generation &&
	       decision->arm != MLK_ARM_FALLBACK;
}

void __mlk_report(struct mlk_model *model, const struct mlk_decision *decision,
		  s64 score)
{
	unsigned long flags;

	mlk_record_outcome(model, decision, score);
	raw_spin_lock_irqsave(&model->lock, flags);
	model->stats.reports++;
	if (mlk_counts(model, decision))
		mlk_score_add(model,
			      decision->arm == MLK_ARM_MODEL ?
				      &model->score.model :
				      &model->score.def,
			      score);
	raw_spin_unlock_irqrestore(&model->lock, flags);
	mlk_kick(model);
}
EXPORT_SYMBOL_GPL(__mlk_report);

/**
 * mlk_report_shadow - how good the model would have been
 * @model: the model
 * @decision: from mlk_decide()
 * @score: what the model's answer, decision.advice[], would have scored
 *
 * For clients that can tell, such as those whose answer is a prediction: it
 * lets the model be compared with the default in learning mode, in which the
 * default decides. Ignored in other modes. Call it besides mlk_report().
 *
 * Context: any but NMI.
 */
void mlk_report_shadow(struct mlk_model *model,
		       const struct mlk_decision *decision, s64 score)
{
	unsigned long flags;

	if (decision->arm != MLK_ARM_DEFAULT)
		return;
	raw_spin_lock_irqsave(&model->lock, flags);
	if (model->mode == MLK_LEARNING && mlk_counts(model, decision))
		mlk_score_add(model, &model->score.model, score);
	raw_spin_unlock_irqrestore(&model->lock, flags);
	mlk_kick(model);
}
EXPORT_SYMBOL_GPL(mlk_report_shadow);
