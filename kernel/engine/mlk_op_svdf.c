// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * SVDF: a dense layer whose results of the last few runs are weighed by time.
 * Arithmetic: EvalIntegerSVDF in tensorflow/lite/kernels/internal/reference/
 * svdf.h. The state is shifted before its last column is written, as in
 * tensorflow/lite/micro/kernels/svdf_common.cc, not behind: results are the
 * same, and what falls out need not be a zero.
 */
#include "mlk_fixed.h"
#include "mlk_op.h"

#if MLK_CONFIG_SVDF

int mlk_check_svdf(struct mlk_check *c)
{
	const struct mlk_svdf_params *p = &c->op->svdf;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	const struct mlk_tensor *state = mlk_result(c, 1);
	u64 filters = (u64)p->units * p->rank;
	u32 item = state->dtype == MLK_INT16 ? 2 : 1;
	u64 taps;

	c->used_words = sizeof(*p) / 4;
	if (state->dtype != MLK_INT8 && state->dtype != MLK_INT16)
		return MLK_REASON_OPERAND;
	/* then no product below leaves 64 bits */
	if (filters > MLK_MAX_ARENA_BYTES)
		return MLK_REASON_PARAM;
	taps = filters * p->memory;
	if (taps > MLK_MAX_ARENA_BYTES)
		return MLK_REASON_PARAM;
	if ((u64)p->batches * p->inputs != in->bytes ||
	    (u64)p->batches * p->units != out->bytes ||
	    taps * p->batches * item != state->bytes)
		return MLK_REASON_OPERAND;
	if (p->feature_multiplier < 0 || p->feature_shift < -31 ||
	    p->feature_shift > 30 || p->multiplier < 0 || p->shift < -31 ||
	    p->shift > 30 || p->state_zero_point < -128 ||
	    p->state_zero_point > 127 || p->out_zero_point < -128 ||
	    p->out_zero_point > 127)
		return MLK_REASON_PARAM;
	if (!mlk_data_ok(c, p->feature, filters * p->inputs) ||
	    !mlk_data_ok(c, p->feature_bias, filters * 4) ||
	    !mlk_data_ok(c, p->time, taps * item) ||
	    !mlk_data_ok(c, p->bias, (u64)p->units * 4))
		return MLK_REASON_DATA;
	c->macs = (filters * p->inputs + taps) * p->batches;
	return MLK_REASON_NONE;
}

/* The newest column: what each filter makes of the input now. */
static s32 mlk_svdf_feature(const struct mlk_svdf_params *p, const s8 *in,
			    const s8 *weights, s32 bias, s32 low, s32 high)
{
	u32 sum = (u32)bias + mlk_dot_s8(in, weights, p->inputs);

	return mlk_scaled(sum, p->feature_multiplier, p->feature_shift,
			  p->state_zero_point, low, high);
}

/* Sums wrap as the reference's do on every machine that it runs on. */
static u32 mlk_svdf_time_s16(const s16 *state, const s16 *weights, u32 count)
{
	u32 sum = 0;
	u32 i;

	for (i = 0; i < count; i++)
		sum += (u32)(state[i] * weights[i]);
	return sum;
}

static void mlk_svdf_remember(const struct mlk_frame *f, const s8 *in,
			      void *state)
{
	const struct mlk_svdf_params *p = &f->op->svdf;
	const s8 *weights = (const s8 *)(f->program + p->feature);
	const s32 *bias = (const s32 *)(f->program + p->feature_bias);
	u32 wide = f->tensors[f->op->out[1]].dtype == MLK_INT16;
	u32 filters = p->units * p->rank;
	s32 most = wide ? 32767 : 127;
	u32 at = p->memory - 1;
	u32 i;

	/* all rows at once: what crosses from row to row is overwritten */
	memmove(state, (u8 *)state + (1u << wide),
		(filters * p->memory - 1) << wide);
	for (i = 0; i < filters; i++) {
		s32 x = mlk_svdf_feature(p, in, weights, bias[i], -most - 1,
					 most);

		if (wide)
			((s16 *)state)[at] = (s16)x;
		else
			((s8 *)state)[at] = (s8)x;
		weights += p->inputs;
		at += p->memory;
	}
}

void mlk_run_svdf(const struct mlk_frame *f)
{
	const struct mlk_svdf_params *p = &f->op->svdf;
	const s32 *bias = (const s32 *)(f->program + p->bias);
	u32 wide = f->tensors[f->op->out[1]].dtype == MLK_INT16;
	/* the filters of a unit lie behind each other */
	u32 taps = p->rank * p->memory;
	const s8 *in = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u8 *state = mlk_out(f, 1);
	u32 b, u;

	for (b = 0; b < p->batches; b++) {
		const u8 *time = f->program + p->time;

		mlk_svdf_remember(f, in, state);
		for (u = 0; u < p->units; u++) {
			u32 sum = (u32)bias[u];

			if (wide)
				sum += mlk_svdf_time_s16((const s16 *)state,
							 (const s16 *)time,
							 taps);
			else
				sum += mlk_dot_s8((const s8 *)state,
						  (const s8 *)time, taps);
			*out++ = (s8)mlk_scaled(sum, p->multiplier, p->shift,
						p->out_zero_point, -128, 127);
			state += taps << wide;
			time += taps << wide;
		}
		in += p->inputs;
	}
}

#endif /* MLK_CONFIG_SVDF */
