// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * L2_NORMALIZATION of int8 over the last dimension, to steps of 1/128.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/
 * l2normalization.h and GetInvSqrtQuantizedMultiplierExp in internal/common.h.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_L2_NORM

int mlk_check_l2_norm(struct mlk_check *c)
{
	const struct mlk_l2_norm_params *p = &c->op->l2_norm;

	c->used_words = sizeof(*p) / 4;
	if (!p->rows || !p->depth || p->depth > MLK_L2_NORM_MAX_DEPTH ||
	    !mlk_is_s8(p->in_zero_point))
		return MLK_REASON_PARAM;
	if (mlk_operand(c, 0)->bytes != (u64)p->rows * p->depth ||
	    mlk_result(c, 0)->bytes != mlk_operand(c, 0)->bytes)
		return MLK_REASON_OPERAND;
	return MLK_REASON_NONE;
}

/* A left shift of gemmlowp's fixed point, which saturates. */
static s32 mlk_shift_saturating(s32 x, u32 exponent)
{
	s64 wide = (s64)x * (1 << exponent);

	return wide > MLK_S32_MAX ? MLK_S32_MAX :
	       wide < MLK_S32_MIN ? MLK_S32_MIN :
				    (s32)wide;
}

/* Multiplier and shift of 1/sqrt(@x); the shift to the left. */
static s32 mlk_inverse_sqrt(u32 x, s32 *shift)
{
	const s32 three_halves = (1 << 28) + (1 << 27); /* as Q3.28 */
	const s32 half_sqrt_2 = 1518500250; /* as Q0.31 */
	s32 right = 11, half, y = 1 << 28;
	u32 pairs, i;

	*shift = 0;
	if (x <= 1)
		return MLK_S32_MAX;
	while (x >= 1u << 29) {
		x >>= 2;
		right++;
	}
	pairs = (mlk_clz32(x) - 1) / 2 - 1;
	right -= (s32)pairs;
	x <<= 2 * pairs;

	half = mlk_round_shift((s32)(x >> 1), 1);
	for (i = 0; i < 5; i++) {
		/* Q3.28 to the third is Q9.22, times another one Q6.25 */
		s32 cube = mlk_mul_high(mlk_mul_high(y, y), y);

		cube = mlk_shift_saturating(cube, 6);
		y = mlk_shift_saturating(mlk_mul_high(three_halves, y) -
						 mlk_mul_high(half, cube),
					 3);
	}
	y = mlk_mul_high(y, half_sqrt_2);
	if (right < 0) {
		y = (s32)((u32)y << -right);
		right = 0;
	}
	*shift = -right;
	return y;
}

void mlk_run_l2_norm(const struct mlk_frame *f)
{
	const struct mlk_l2_norm_params *p = &f->op->l2_norm;
	const s8 *in = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 row, i;

	for (row = 0; row < p->rows; row++) {
		u32 squares = 0;
		s32 multiplier, shift;

		for (i = 0; i < p->depth; i++) {
			s32 x = in[i] - p->in_zero_point;

			squares += (u32)(x * x);
		}
		multiplier = mlk_inverse_sqrt(squares, &shift);
		/* steps of 1/128 */
		shift += 7;
		for (i = 0; i < p->depth; i++) {
			s32 x = in[i] - p->in_zero_point;

			x = mlk_requant(x, multiplier, shift);
			out[i] = (s8)mlk_clamp(x, -128, 127);
		}
		in += p->depth;
		out += p->depth;
	}
}

#endif /* MLK_CONFIG_L2_NORM */
