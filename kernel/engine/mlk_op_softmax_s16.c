// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * SOFTMAX of int16 over the last dimension: exponentials and the reciprocal of
 * their sum from interpolated tables. Arithmetic: SoftmaxInt16 in
 * tensorflow/lite/kernels/internal/reference/softmax.h.
 */
#include "mlk_op.h"

#if MLK_CONFIG_SOFTMAX_S16

/* A half as Q0.15: what the maximum's exponential, 1, is certainly above. */
#define MLK_SOFTMAX_S16_HALF 16384

int mlk_check_softmax_s16(struct mlk_check *c)
{
	const struct mlk_softmax_s16_params *p = &c->op->softmax_s16;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	const s16 *exps;
	u32 i;

	c->used_words = sizeof(*p) / 4;
	/* a sum of so many exponentials stays inside 31 bits */
	if (!p->rows || !p->depth || p->depth > MLK_SOFTMAX_S16_MAX_DEPTH ||
	    p->multiplier < 0 || p->shift < -31 || p->shift > 30)
		return MLK_REASON_PARAM;
	if (in->dtype != MLK_INT16 || out->dtype != MLK_INT16 ||
	    (u64)p->rows * p->depth * 2 != in->bytes || in->bytes != out->bytes)
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->exps, MLK_LUT_S16_ENTRIES * 2) ||
	    !mlk_data_ok(c, p->reciprocals, MLK_LUT_S16_ENTRIES * 2))
		return MLK_REASON_DATA;
	exps = (const s16 *)((const u8 *)c->header + p->exps);
	for (i = 0; i < MLK_LUT_S16_ENTRIES; i++)
		if (exps[i] < 0)
			return MLK_REASON_PARAM;
	/* the maximum's own term keeps every sum away from zero */
	if (exps[MLK_LUT_S16_ENTRIES - 2] < MLK_SOFTMAX_S16_HALF ||
	    exps[MLK_LUT_S16_ENTRIES - 1] < MLK_SOFTMAX_S16_HALF)
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

static void mlk_softmax_s16_row(const struct mlk_softmax_s16_params *p,
				const u8 *program, const s16 *in, s16 *out)
{
	const s16 *exps = (const s16 *)(program + p->exps);
	const s16 *reciprocals = (const s16 *)(program + p->reciprocals);
	s32 max = -32768, sum = 0, scale, x;
	u32 headroom, shift, i;

	for (i = 0; i < p->depth; i++)
		if (in[i] > max)
			max = in[i];
	for (i = 0; i < p->depth; i++) {
		x = mlk_requant(in[i] - max, p->multiplier, p->shift);
		/* too large a scale wraps, here and in the reference */
		x = x > 0 ? 32767 : x < -65535 ? -32768 : x + 32767;
		out[i] =
			mlk_interpolate(exps, (s16)mlk_clamp(x, -32768, 32767));
		sum += out[i];
	}
	/* sum = (1 + x) * 2^n, x in [0, 1): x as the table's operand */
	if (sum < MLK_SOFTMAX_S16_HALF) /* if operand and result overlap */
		sum = MLK_SOFTMAX_S16_HALF;
	headroom = mlk_clz32((u32)sum);
	x = (s32)((((s64)sum << (headroom - 1)) + (1 << 13)) >> 14);
	x -= (1 << 15) + (1 << 16);
	scale = mlk_interpolate(reciprocals, (s16)mlk_clamp(x, -32768, 32767));
	shift = 31 - headroom;
	for (i = 0; i < p->depth; i++) {
		s64 q = ((s64)out[i] * scale + (1ll << (shift - 1))) >> shift;

		out[i] = (s16)mlk_clamp((s32)q, 0, 32767);
	}
}

void mlk_run_softmax_s16(const struct mlk_frame *f)
{
	const struct mlk_softmax_s16_params *p = &f->op->softmax_s16;
	const s16 *in = mlk_in(f, 0);
	s16 *out = mlk_out(f, 0);
	u32 row;

	for (row = 0; row < p->rows; row++) {
		mlk_softmax_s16_row(p, f->program, in, out);
		in += p->depth;
		out += p->depth;
	}
}

#endif /* MLK_CONFIG_SOFTMAX_S16 */
