// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * L2_NORMALIZATION of int8 over the last dimension, to steps of 1/128.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/
 * l2normalization.h.
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
