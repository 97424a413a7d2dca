// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * FULLY_CONNECTED of int8, per-tensor and per-channel, with fused activation.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/
 * fully_connected.h. The input offset times the sum of a row's weights is a
 * constant, so the program carries it in the bias.
 */
#include "mlk_fixed.h"
#include "mlk_op.h"

#if MLK_CONFIG_FULLY_CONNECTED

int mlk_check_fully_connected(struct mlk_check *c)
{
	const struct mlk_fc_params *p = &c->op->fc;
	u64 words;

	c->used_words = sizeof(*p) / 4;
	if (!p->rows || !p->depth || !p->width || p->stride < p->depth)
		return MLK_REASON_PARAM;
	if ((u64)p->rows * p->depth != mlk_operand(c, 0)->bytes ||
	    (u64)p->rows * p->width != mlk_result(c, 0)->bytes)
		return MLK_REASON_OPERAND;

	words = (u64)p->width * 4;
	if (!mlk_data_ok(c, p->weights, (u64)p->width * p->stride) ||
	    !mlk_data_ok(c, p->bias, words) ||
	    !mlk_data_ok(c, p->multiplier, words) ||
	    !mlk_data_ok(c, p->shift, words))
		return MLK_REASON_DATA;

	if (!mlk_multipliers_ok(c, p->multiplier, p->shift, p->width))
		return MLK_REASON_PARAM;
	if (p->weight_offset < -127 || p->weight_offset > 128 ||
	    p->out_zero_point < -128 || p->out_zero_point > 127 ||
	    p->act_min < -128 || p->act_max > 127 || p->act_min > p->act_max)
		return MLK_REASON_PARAM;

	c->macs = (u64)p->rows * p->depth * p->width;
	return MLK_REASON_NONE;
}

/* Sums wrap modulo 2^32 like the reference's do on every target. */
static inline u32 mlk_mac(u32 sum, s8 a, s8 b)
{
	return sum + (u32)((s32)a * b);
}

static u32 mlk_sum(const s8 *a, u32 n)
{
	u32 sum = 0, i;

	for (i = 0; i < n; i++)
		sum = mlk_mac(sum, a[i], 1);
	return sum;
}

static inline s8 mlk_fc_output(const struct mlk_fc_params *p, u32 acc,
			       s32 multiplier, s32 shift)
{
	u32 q = (u32)mlk_requant((s32)acc, multiplier, shift);

	/* unsigned: hostile scales wrap, never overflow */
	q += (u32)p->out_zero_point;
	return (s8)mlk_clamp((s32)q, p->act_min, p->act_max);
}

static void mlk_fc_row(const struct mlk_fc_params *p, const u8 *program,
		       const s8 *in, s8 *out)
{
	const s8 *w = (const s8 *)(program + p->weights);
	const s32 *bias = (const s32 *)(program + p->bias);
	const s32 *multiplier = (const s32 *)(program + p->multiplier);
	const s32 *shift = (const s32 *)(program + p->shift);
	u32 common = 0, i, j;

	if (p->weight_offset)
		common = (u32)p->weight_offset * mlk_sum(in, p->depth);

	/* four outputs side by side: an input byte is loaded once for all */
	for (i = 0; p->width - i >= 4; i += 4) {
		const s8 *w1 = w + p->stride;
		const s8 *w2 = w1 + p->stride;
		const s8 *w3 = w2 + p->stride;
		u32 a0 = (u32)bias[i] + common;
		u32 a1 = (u32)bias[i + 1] + common;
		u32 a2 = (u32)bias[i + 2] + common;
		u32 a3 = (u32)bias[i + 3] + common;

		for (j = 0; j < p->depth; j++) {
			a0 = mlk_mac(a0, in[j], w[j]);
			a1 = mlk_mac(a1, in[j], w1[j]);
			a2 = mlk_mac(a2, in[j], w2[j]);
			a3 = mlk_mac(a3, in[j], w3[j]);
		}
		out[i] = mlk_fc_output(p, a0, multiplier[i], shift[i]);
		out[i + 1] =
			mlk_fc_output(p, a1, multiplier[i + 1], shift[i + 1]);
		out[i + 2] =
			mlk_fc_output(p, a2, multiplier[i + 2], shift[i + 2]);
		out[i + 3] =
			mlk_fc_output(p, a3, multiplier[i + 3], shift[i + 3]);
		w = w3 + p->stride;
	}
	for (; i < p->width; i++) {
		u32 acc = (u32)bias[i] + common;

		for (j = 0; j < p->depth; j++)
			acc = mlk_mac(acc, in[j], w[j]);
		out[i] = mlk_fc_output(p, acc, multiplier[i], shift[i]);
		w += p->stride;
	}
}

void mlk_run_fully_connected(const struct mlk_frame *f)
{
	const struct mlk_fc_params *p = &f->op->fc;
	const s8 *in = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 row;

	for (row = 0; row < p->rows; row++) {
		mlk_fc_row(p, f->program, in, out);
		in += p->depth;
		out += p->width;
	}
}

#endif /* MLK_CONFIG_FULLY_CONNECTED */
