// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suites of mlk.ko, part of the module itself so that they reach what it
 * does not export; built with CONFIG_MLK_KUNIT_TEST. mlk_kunit_run.ko runs them:
 * KUnit runs a module's own suites before the module is initialised.
 */
#include <kunit/test.h>
#include <linux/export.h>
#include <linux/limits.h>
#include <linux/slab.h>
#include <linux/time64.h>
#include <linux/vmalloc.h>

#include "../engine/mlk_engine.h"
#include "../mlk_core.h"
#include "mlk_kunit.h"
#include "mlk_vectors.h"

static const struct mlk_feature features[] = {
	{ .name = "a", .unit = "", .kind = MLK_GAUGE, .min = 0, .max = 9 },
	{ .name = "b", .unit = "ns", .kind = MLK_COUNTER, .min = 0, .max = 9 },
};

static const struct mlk_knob knobs[] = {
	{ .name = "k", .unit = "", .min = 4, .max = 100, .step = 4, .def = 16 },
	{ .name = "l", .unit = "", .min = -5, .max = 5, .step = 1, .def = 0 },
};

static const struct mlk_desc desc = {
	.subsystem = "kunit",
	.name = "kunit",
	.features = features,
	.n_features = ARRAY_SIZE(features),
	.knobs = knobs,
	.n_knobs = ARRAY_SIZE(knobs),
	.records = 8,
};

/* Each case has a model of its own, in test->priv. */
static int model_init(struct kunit *test)
{
	struct mlk_model *model = mlk_register(&desc);

	KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(model), 0);
	test->priv = model;
	return 0;
}

static void model_exit(struct kunit *test)
{
	mlk_unregister(test->priv);
}

static void go(struct kunit *test, enum mlk_mode mode)
{
	struct mlk_model *model = test->priv;
	int err;

	KUNIT_ASSERT_EQ(test, mlk_control(model, MLK_CMD_INIT), 0);
	KUNIT_ASSERT_EQ(test, mlk_control(model, MLK_CMD_START), 0);
	KUNIT_ASSERT_EQ(test, mlk_control(model, MLK_CMD_RUN), 0);
	mutex_lock(&model->mutex);
	err = mlk_mode_request(model, mode);
	mutex_unlock(&model->mutex);
	KUNIT_ASSERT_EQ(test, err, 0);
}

/* As if an owner had said so just now. */
static void advise(struct mlk_model *model, s64 first, s64 second)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&model->lock, flags);
	model->advice.value[0] = first;
	model->advice.value[1] = second;
	model->advice.confidence_permil = 1000;
	model->advice.time_ns = ktime_get_mono_fast_ns();
	raw_spin_unlock_irqrestore(&model->lock, flags);
}

/* ring */

static void ring_sizes(struct kunit *test)
{
	static const u32 bad[] = { 3, 6, 7, (1 << 20) + 1, 1 << 21, U32_MAX };
	struct mlk_ring ring;
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_EQ(test, mlk_ring_init(&ring, bad[i], 1, 1),
				-EINVAL);
	KUNIT_ASSERT_EQ(test, mlk_ring_init(&ring, 4, 9, 2), 0);
	KUNIT_EXPECT_EQ(test, ring.record_bytes, 24 + 9 * 8);
	mlk_ring_destroy(&ring);
	/* an outcome of 8 knobs is longer than a sample of one feature */
	KUNIT_ASSERT_EQ(test, mlk_ring_init(&ring, 1, 1, 8), 0);
	KUNIT_EXPECT_EQ(test, ring.record_bytes, 24 + (4 + 16) * 8);
	mlk_ring_destroy(&ring);
}

static void ring_keeps_the_newest(struct kunit *test)
{
	struct mlk_ring ring;
	s64 row[2];
	u64 seq;

	KUNIT_ASSERT_EQ(test, mlk_ring_init(&ring, 4, 2, 0), 0);
	KUNIT_EXPECT_EQ(test, mlk_ring_first(&ring), 1ULL);
	for (seq = 1; seq <= 10; seq++) {
		row[0] = seq;
		row[1] = -seq;
		KUNIT_EXPECT_EQ(test, mlk_ring_write(&ring, MLK_SAMPLE, row, 2),
				seq);
		KUNIT_EXPECT_EQ(test, mlk_ring_head(&ring), seq);
		KUNIT_EXPECT_NE(test, mlk_ring_time(&ring, seq), 0ULL);
	}
	KUNIT_EXPECT_EQ(test, mlk_ring_first(&ring), 7ULL);
	KUNIT_EXPECT_EQ(test, mlk_ring_time(&ring, 6), 0ULL);
	KUNIT_EXPECT_EQ(test, mlk_ring_time(&ring, 11), 0ULL);
	mlk_ring_discard(&ring);
	KUNIT_EXPECT_EQ(test, mlk_ring_first(&ring), 11ULL);
	mlk_ring_destroy(&ring);
}

/* Where the upper half of a number changes, too */
static void ring_counts_beyond_32_bits(struct kunit *test)
{
	const u64 start = (1ULL << 32) - 6;
	struct mlk_ring ring;
	u64 seq;
	s64 row;

	KUNIT_ASSERT_EQ(test, mlk_ring_init(&ring, 4, 1, 0), 0);
	mlk_store_u64(&ring.dataset->head, start);
	for (seq = start + 1; seq < start + 12; seq++) {
		row = seq;
		KUNIT_EXPECT_EQ(
			test, mlk_ring_write(&ring, MLK_SAMPLE, &row, 1), seq);
		KUNIT_EXPECT_EQ(test, mlk_ring_head(&ring), seq);
		KUNIT_EXPECT_NE(test, mlk_ring_time(&ring, seq), 0ULL);
		KUNIT_EXPECT_TRUE(test, mlk_ring_had(&ring, seq));
		KUNIT_EXPECT_FALSE(test, mlk_ring_had(&ring, seq + 1));
	}
	KUNIT_EXPECT_EQ(test, mlk_ring_first(&ring), start + 8);
	mlk_ring_destroy(&ring);
}

/* A record is there a moment before the head says so. */
static void ring_knows_what_is_ahead_of_its_head(struct kunit *test)
{
	struct mlk_ring ring;
	s64 row = 1;

	KUNIT_ASSERT_EQ(test, mlk_ring_init(&ring, 4, 1, 0), 0);
	mlk_ring_write(&ring, MLK_SAMPLE, &row, 1);
	mlk_store_u64(&ring.dataset->head, 0);
	KUNIT_EXPECT_TRUE(test, mlk_ring_had(&ring, 1));
	KUNIT_EXPECT_FALSE(test, mlk_ring_had(&ring, 2));
	mlk_ring_destroy(&ring);
}

static struct kunit_case ring_cases[] = {
	KUNIT_CASE(ring_sizes),
	KUNIT_CASE(ring_keeps_the_newest),
	KUNIT_CASE(ring_counts_beyond_32_bits),
	KUNIT_CASE(ring_knows_what_is_ahead_of_its_head),
	{}
};

struct kunit_suite mlk_ring_suite = {
	.name = "mlk_ring",
	.test_cases = ring_cases,
};
EXPORT_SYMBOL_GPL(mlk_ring_suite);

/* guard */

static void guard_possible_values(struct kunit *test)
{
	static const struct mlk_knob wide = {
		.min = S64_MIN / 2,
		.max = S64_MAX / 2,
		.step = 1,
	};
	s64 value, nearest;

	for (value = -200; value < 300; value++) {
		bool can = value >= 4 && value <= 100 && value % 4 == 0;

		KUNIT_EXPECT_EQ(test, mlk_knob_can(&knobs[0], value), can);
		nearest = mlk_knob_nearest(&knobs[0], value);
		KUNIT_EXPECT_TRUE(test, mlk_knob_can(&knobs[0], nearest));
		if (value >= 4 && value <= 100)
			KUNIT_EXPECT_LE(test, abs(nearest - value), 2LL);
	}
	KUNIT_EXPECT_EQ(test, mlk_knob_nearest(&knobs[0], S64_MIN), 4LL);
	KUNIT_EXPECT_EQ(test, mlk_knob_nearest(&knobs[0], S64_MAX), 100LL);
	KUNIT_EXPECT_EQ(test, mlk_knob_nearest(&wide, S64_MAX), S64_MAX / 2);
	KUNIT_EXPECT_EQ(test, mlk_knob_nearest(&wide, 0), 0LL);
	KUNIT_EXPECT_FALSE(test, mlk_knob_can(&wide, S64_MAX));
}

static enum mlk_verdict judge(struct mlk_model *model, s64 value, u64 age,
			      u32 confidence, s64 *values)
{
	struct mlk_answer answer = {
		.value = { value, 0 },
		.confidence_permil = confidence,
		.time_ns = NSEC_PER_SEC,
	};
	enum mlk_verdict verdict;
	unsigned long flags;

	raw_spin_lock_irqsave(&model->lock, flags);
	verdict = mlk_guard_judge(model, &answer, NSEC_PER_SEC + age, values);
	raw_spin_unlock_irqrestore(&model->lock, flags);
	return verdict;
}

static void guard_verdicts(struct kunit *test)
{
	struct mlk_model *model = test->priv;
	struct mlk_limit *limit = &model->limit[0];
	s64 values[MLK_MAX_KNOBS];

	KUNIT_EXPECT_EQ(test, judge(model, 40, 0, 0, values), MLK_VERDICT_GOOD);
	KUNIT_EXPECT_EQ(test, values[0], 40LL);
	limit->low = 20;
	limit->high = 60;
	KUNIT_EXPECT_EQ(test, judge(model, 4, 0, 0, values),
			MLK_VERDICT_BOUNDED);
	KUNIT_EXPECT_EQ(test, values[0], 20LL);
	limit->change = 11; /* two whole steps */
	/* from the default moved inside the bounds: what is outside never is */
	KUNIT_EXPECT_EQ(test, judge(model, 60, 0, 0, values),
			MLK_VERDICT_STEPPED);
	KUNIT_EXPECT_EQ(test, values[0], 28LL);
	limit->change = 3; /* none */
	KUNIT_EXPECT_EQ(test, judge(model, 60, 0, 0, values),
			MLK_VERDICT_STEPPED);
	KUNIT_EXPECT_EQ(test, values[0], 20LL);
	limit->change = 11;
	limit->interval_ms = 10;
	limit->changed_ns = NSEC_PER_SEC;
	KUNIT_EXPECT_EQ(test, judge(model, 60, 9999999, 0, values),
			MLK_VERDICT_RATE);
	KUNIT_EXPECT_EQ(test, values[0], 20LL);
	/* another processor's decision was later than this one's look at the clock */
	limit->changed_ns = NSEC_PER_SEC + 5;
	KUNIT_EXPECT_EQ(test, judge(model, 60, 0, 0, values), MLK_VERDICT_RATE);
	limit->interval_ms = 0;
	KUNIT_EXPECT_EQ(test, judge(model, 60, 0, 0, values),
			MLK_VERDICT_STEPPED);
	limit->interval_ms = 10;
	limit->changed_ns = NSEC_PER_SEC;
	KUNIT_EXPECT_EQ(test, judge(model, 60, 10000000, 0, values),
			MLK_VERDICT_STEPPED);
	model->options.min_confidence_permil = 1;
	KUNIT_EXPECT_EQ(test, judge(model, 40, 0, 0, values),
			MLK_VERDICT_UNSURE);
	KUNIT_EXPECT_EQ(test, values[0], 16LL);
	model->options.max_age_ms = 1;
	KUNIT_EXPECT_EQ(test, judge(model, 40, 1000001, 0, values),
			MLK_VERDICT_STALE);
}

static struct kunit_case guard_cases[] = { KUNIT_CASE(guard_possible_values),
					   KUNIT_CASE(guard_verdicts),
					   {} };

struct kunit_suite mlk_guard_suite = {
	.name = "mlk_guard",
	.init = model_init,
	.exit = model_exit,
	.test_cases = guard_cases,
};
EXPORT_SYMBOL_GPL(mlk_guard_suite);

/* states and modes */

static void every_command_in_every_state(struct kunit *test)
{
	static const u8 way[] = { MLK_CMD_INIT, MLK_CMD_START, MLK_CMD_RUN,
				  MLK_CMD_STOP };
	/* what a state becomes by init, start, run, stop; 0 if that is refused */
	static const u8 next[][4] = {
		[MLK_CREATED] = { MLK_INITIALIZED, 0, 0, 0 },
		[MLK_INITIALIZED] = { 0, MLK_STARTED, 0, MLK_STOPPED },
		[MLK_STARTED] = { 0, 0, MLK_RUNNING, MLK_STOPPED },
		[MLK_RUNNING] = { 0, 0, 0, MLK_STOPPED },
		[MLK_STOPPED] = { MLK_INITIALIZED, 0, 0, 0 },
	};
	int state, command, step;

	for (state = MLK_CREATED; state <= MLK_STOPPED; state++) {
		for (command = 0; command < 4; command++) {
			struct mlk_model *model = test->priv;
			int after = next[state][command], err;

			mlk_unregister(model);
			model = mlk_register(&desc);
			test->priv = IS_ERR(model) ? NULL : model;
			KUNIT_ASSERT_NOT_NULL(test, test->priv);
			for (step = 0; step < state; step++)
				mlk_control(model, way[step]);
			KUNIT_ASSERT_EQ(test, (int)model->state, state);
			err = mlk_control(model, way[command]);
			KUNIT_EXPECT_EQ(test, err, after ? 0 : -EBUSY);
			KUNIT_EXPECT_EQ(test, (int)model->state,
					after ? after : state);
		}
	}
}

static void modes_decide(struct kunit *test)
{
	struct mlk_model *model = test->priv;
	struct mlk_decision d;

	KUNIT_EXPECT_FALSE(test, mlk_decide(model, 0, NULL, &d));
	KUNIT_EXPECT_EQ(test, (int)d.arm, MLK_ARM_NONE);
	go(test, MLK_LEARNING);
	KUNIT_EXPECT_TRUE(test, static_key_enabled(&mlk_engaged));
	KUNIT_EXPECT_FALSE(test, mlk_decide(model, 0, NULL, &d));
	KUNIT_EXPECT_EQ(test, (int)d.arm, MLK_ARM_FALLBACK);
	advise(model, 40, 3);
	KUNIT_EXPECT_FALSE(test, mlk_decide(model, 0, NULL, &d));
	KUNIT_EXPECT_EQ(test, (int)d.arm, MLK_ARM_DEFAULT);
	KUNIT_EXPECT_EQ(test, d.value[0], 16LL);
	KUNIT_EXPECT_EQ(test, d.advice[0], 40LL);
	mutex_lock(&model->mutex);
	model->options.holdout_permil = 0;
	mlk_mode_request(model, MLK_RECOMMENDATION);
	mutex_unlock(&model->mutex);
	KUNIT_EXPECT_TRUE(test, mlk_decide(model, 0, NULL, &d));
	KUNIT_EXPECT_EQ(test, d.value[0], 40LL);
	KUNIT_EXPECT_EQ(test, d.value[1], 3LL);
	mlk_emergency(model);
	KUNIT_EXPECT_FALSE(test, mlk_decide(model, 0, NULL, &d));
	flush_work(&model->work);
	KUNIT_EXPECT_EQ(test, (int)model->why, MLK_WHY_CLIENT);
	KUNIT_EXPECT_EQ(test, model->limit[0].applied, 16LL);
}

/* What tracepoints show of a decision is something that was decided. */
static void without_knobs_nothing_is_made_up(struct kunit *test)
{
	struct mlk_desc bare = desc;
	struct mlk_decision d;

	bare.n_knobs = 0;
	mlk_unregister(test->priv);
	test->priv = mlk_register(&bare);
	KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(test->priv), 0);
	go(test, MLK_LEARNING);
	memset(&d, 0x5a, sizeof(d));
	mlk_decide(test->priv, 0, NULL, &d);
	KUNIT_EXPECT_EQ(test, (int)d.arm, MLK_ARM_FALLBACK);
	KUNIT_EXPECT_EQ(test, d.value[0], 0LL);
	KUNIT_EXPECT_EQ(test, d.advice[0], 0LL);
}

/* Scores of both sides until they were compared, then what the mode is. */
static int mode_after(struct kunit *test, s64 model_score, s64 default_score)
{
	struct mlk_model *model = test->priv;
	u64 before = model->score.comparisons;
	struct mlk_decision d;
	int i;

	for (i = 0; i < 10000 && model->score.comparisons == before; i++) {
		mlk_decide(model, 0, NULL, &d);
		mlk_report(model, &d,
			   d.arm == MLK_ARM_MODEL ? model_score :
						    default_score);
	}
	KUNIT_EXPECT_EQ(test, model->score.comparisons, before + 1);
	flush_work(&model->work);
	return model->mode;
}

static void scores_change_modes(struct kunit *test)
{
	struct mlk_model *model = test->priv;

	go(test, MLK_COLLABORATION);
	model->options.auto_promote = 1;
	model->options.min_samples = 20;
	model->options.holdout_permil = 300;
	advise(model, 40, 3);
	KUNIT_EXPECT_EQ(test, mode_after(test, 1019, 1000), MLK_COLLABORATION);
	KUNIT_EXPECT_EQ(test, mode_after(test, 1020, 1000), MLK_RECOMMENDATION);
	KUNIT_EXPECT_EQ(test, mode_after(test, 980, 1000), MLK_RECOMMENDATION);
	KUNIT_EXPECT_EQ(test, mode_after(test, 979, 1000), MLK_COLLABORATION);
	KUNIT_EXPECT_EQ(test, mode_after(test, S64_MAX, S64_MAX),
			MLK_COLLABORATION);
	KUNIT_EXPECT_EQ(test, mode_after(test, S64_MIN, S64_MAX),
			MLK_EMERGENCY);
	KUNIT_EXPECT_EQ(test, (int)model->why, MLK_WHY_SCORE);
}

/* A score of what was decided before the mode changed counts for nothing. */
static void old_decisions_do_not_count(struct kunit *test)
{
	struct mlk_model *model = test->priv;
	struct mlk_decision d;

	go(test, MLK_RECOMMENDATION);
	model->options.holdout_permil = 0;
	advise(model, 40, 3);
	KUNIT_ASSERT_TRUE(test, mlk_decide(model, 0, NULL, &d));
	mlk_report(model, &d, 5);
	KUNIT_EXPECT_EQ(test, model->score.model.n, 1U);
	mutex_lock(&model->mutex);
	mlk_mode_request(model, MLK_LEARNING);
	mutex_unlock(&model->mutex);
	mlk_report(model, &d, 5);
	KUNIT_EXPECT_EQ(test, model->score.model.n, 0U);
}

/* Clocks of two processors may differ a little: that is no long time. */
static void times_are_counted_in_powers_of_two(struct kunit *test)
{
	u32 buckets[MLK_BUCKETS] = {};

	mlk_stats_time(buckets, 5, 4);
	mlk_stats_time(buckets, 5, 5);
	mlk_stats_time(buckets, 5, 6);
	KUNIT_EXPECT_EQ(test, buckets[0], 3U);
	mlk_stats_time(buckets, 1, 1 + 1023);
	mlk_stats_time(buckets, 1, 1 + 1024);
	KUNIT_EXPECT_EQ(test, buckets[9], 1U);
	KUNIT_EXPECT_EQ(test, buckets[10], 1U);
	mlk_stats_time(buckets, 0, U64_MAX);
	KUNIT_EXPECT_EQ(test, buckets[MLK_BUCKETS - 1], 1U);
}

static struct kunit_case mode_cases[] = {
	KUNIT_CASE(times_are_counted_in_powers_of_two),
	KUNIT_CASE(every_command_in_every_state),
	KUNIT_CASE(modes_decide),
	KUNIT_CASE(without_knobs_nothing_is_made_up),
	KUNIT_CASE(scores_change_modes),
	KUNIT_CASE(old_decisions_do_not_count),
	{}
};

struct kunit_suite mlk_mode_suite = {
	.name = "mlk_mode",
	.init = model_init,
	.exit = model_exit,
	.test_cases = mode_cases,
};
EXPORT_SYMBOL_GPL(mlk_mode_suite);

/* verifier and engine */

static int verify(const void *program, size_t bytes)
{
	return mlk_program_verify(program, bytes, NULL, NULL);
}

static void verifier_takes_whole_programs(struct kunit *test)
{
	u32 cut, i;

	for (i = 0; i < ARRAY_SIZE(mlk_vectors); i++) {
		const struct mlk_vector *v = &mlk_vectors[i];

		KUNIT_EXPECT_EQ_MSG(test, verify(v->program, v->bytes), 0, "%s",
				    v->name);
		for (cut = 0; cut < v->bytes; cut += 4)
			KUNIT_EXPECT_NE_MSG(test, verify(v->program, cut), 0,
					    "%s cut at %u", v->name, cut);
	}
}

static void verifier_sees_every_damaged_byte(struct kunit *test)
{
	u32 at, i;

	for (i = 0; i < ARRAY_SIZE(mlk_vectors); i++) {
		const struct mlk_vector *v = &mlk_vectors[i];
		u8 *copy = kunit_kmalloc(test, v->bytes, GFP_KERNEL);

		KUNIT_ASSERT_NOT_NULL(test, copy);
		memcpy(copy, v->program, v->bytes);
		for (at = 0; at < v->bytes; at++) {
			copy[at] ^= 0x10;
			KUNIT_EXPECT_NE_MSG(test, verify(copy, v->bytes), 0,
					    "%s at %u", v->name, at);
			copy[at] ^= 0x10;
		}
		kunit_kfree(test, copy);
	}
}

static void verifier_keeps_the_budget(struct kunit *test)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(mlk_vectors); i++) {
		const struct mlk_vector *v = &mlk_vectors[i];
		const struct mlk_header *h = (const void *)v->program;
		struct mlk_limits limits = { h->arena_bytes, h->macs };

		KUNIT_EXPECT_EQ(test,
				mlk_program_verify(h, v->bytes, &limits, NULL),
				0);
		limits.arena_bytes--;
		KUNIT_EXPECT_EQ(test,
				mlk_program_verify(h, v->bytes, &limits, NULL),
				-ENOSPC);
		if (!h->macs)
			continue;
		limits.arena_bytes++;
		limits.macs--;
		KUNIT_EXPECT_EQ(test,
				mlk_program_verify(h, v->bytes, &limits, NULL),
				-E2BIG);
	}
}

/* Inputs of all tensors lie one behind the other in a vector, as do outputs. */
static void engine_gives_the_same_bytes(struct kunit *test)
{
	u32 i, k;

	for (i = 0; i < ARRAY_SIZE(mlk_vectors); i++) {
		const struct mlk_vector *v = &mlk_vectors[i];
		const struct mlk_header *h = (const void *)v->program;
		const u8 *in = v->input, *out = v->output;
		/* exactly as large as asked for, so that KASAN guards its end */
		u8 *arena = vzalloc(h->arena_bytes);

		KUNIT_ASSERT_NOT_NULL(test, arena);
		mlk_program_reset(h, arena);
		for (k = 0; k < h->n_inputs; k++) {
			const struct mlk_tensor *t = mlk_input_at(h, k);

			memcpy(arena + t->offset, in, t->bytes);
			in += t->bytes;
		}
		mlk_program_run(h, arena);
		for (k = 0; k < h->n_outputs; k++) {
			const struct mlk_tensor *t = mlk_output_at(h, k);
			const u8 *from = t->flags & MLK_TENSOR_CONST ?
						 v->program :
						 arena;

			KUNIT_EXPECT_EQ_MSG(
				test, memcmp(from + t->offset, out, t->bytes),
				0, "%s output %u", v->name, k);
			out += t->bytes;
		}
		vfree(arena);
	}
}

static struct kunit_case verifier_cases[] = {
	KUNIT_CASE(verifier_takes_whole_programs),
	KUNIT_CASE(verifier_sees_every_damaged_byte),
	KUNIT_CASE(verifier_keeps_the_budget),
	{}
};

struct kunit_suite mlk_verifier_suite = {
	.name = "mlk_verifier",
	.test_cases = verifier_cases,
};
EXPORT_SYMBOL_GPL(mlk_verifier_suite);

static struct kunit_case engine_cases[] = {
	KUNIT_CASE(engine_gives_the_same_bytes), {}
};

struct kunit_suite mlk_engine_suite = {
	.name = "mlk_engine",
	.test_cases = engine_cases,
};
EXPORT_SYMBOL_GPL(mlk_engine_suite);
