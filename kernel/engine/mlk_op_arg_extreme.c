// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * ARG_MAX and ARG_MIN of int8: the index of the first extreme value.
 * Source: tensorflow/lite/kernels/internal/reference/arg_min_max.h.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_ARG_EXTREME

int mlk_check_arg_extreme(struct mlk_check *c)
{
	const struct mlk_arg_extreme_params *p = &c->op->arg_extreme;
	const struct mlk_tensor *result = mlk_result(c, 0);
	u32 item;

	c->used_words = sizeof(*p) / 4;
	if (!p->outer || !p->depth || !p->inner || p->is_min > 1)
		return MLK_REASON_PARAM;
	if (result->dtype != MLK_INT32 && result->dtype != MLK_INT64)
		return MLK_REASON_OPERAND;
	item = result->dtype == MLK_INT64 ? 8 : 4;
	if (mlk_operand(c, 0)->bytes !=
		    mlk_volume(p->outer, p->depth, p->inner, 1) ||
	    result->bytes != mlk_volume(p->outer, p->inner, item, 1))
		return MLK_REASON_OPERAND;
	return MLK_REASON_NONE;
}

static u32 mlk_arg(const s8 *in, u32 depth, u32 stride, s32 sign)
{
	s32 best = sign * in[0];
	u32 at = 0, i;

	for (i = 1; i < depth; i++) {
		in += stride;
		if (sign * *in > best) {
			best = sign * *in;
			at = i;
		}
	}
	return at;
}

void mlk_run_arg_extreme(const struct mlk_frame *f)
{
	const struct mlk_arg_extreme_params *p = &f->op->arg_extreme;
	int wide = f->tensors[f->op->out[0]].dtype == MLK_INT64;
	s32 sign = p->is_min ? -1 : 1;
	const s8 *in = mlk_in(f, 0);
	void *out = mlk_out(f, 0);
	u32 row, column, i = 0;

	for (row = 0; row < p->outer; row++) {
		for (column = 0; column < p->inner; column++, i++) {
			u32 at = mlk_arg(in + column, p->depth, p->inner, sign);

			if (wide)
				((s64 *)out)[i] = at;
			else
				((s32 *)out)[i] = (s32)at;
		}
		in += (size_t)p->depth * p->inner;
	}
}

#endif /* MLK_CONFIG_ARG_EXTREME */
