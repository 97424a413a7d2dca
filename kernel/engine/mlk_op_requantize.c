// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What a table is too small for: QUANTIZE, ABS, LEAKY_RELU and the RELU family of
 * 16- or 32-bit operands, and from 8 bits to 16. Arithmetic: reference/
 * requantize.h and leaky_relu.h in tensorflow/lite/kernels/internal.
 */
#include "mlk_op.h"

#if MLK_CONFIG_REQUANTIZE

/* Power of two of an element's bytes; more for what has no place here. */
static u32 mlk_requantize_log(u32 dtype)
{
	switch (dtype) {
	case MLK_INT8:
		return 0;
	case MLK_INT16:
		return 1;
	case MLK_INT32:
		return 2;
	default:
		return 3;
	}
}

int mlk_check_requantize(struct mlk_check *c)
{
	const struct mlk_requantize_params *p = &c->op->requantize;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	u32 from = mlk_requantize_log(in->dtype);
	u32 to = mlk_requantize_log(out->dtype);
	s32 half = 1;

	c->used_words = sizeof(*p) / 4;
	if (from > 2 || to > 2 || in->bytes >> from != out->bytes >> to)
		return MLK_REASON_OPERAND;
	/* half of what the result's dtype holds on either side of 0 */
	half <<= (8u << to) - 2;
	if (p->positive_multiplier < 0 || p->positive_shift < -31 ||
	    p->positive_shift > 30 || p->negative_multiplier < 0 ||
	    p->negative_shift < -31 || p->negative_shift > 30)
		return MLK_REASON_PARAM;
	if (p->in_zero_point < -32768 || p->in_zero_point > 32767 ||
	    p->out_zero_point < -32768 || p->out_zero_point > 32767 ||
	    p->absolute > 1 || p->act_min > p->act_max ||
	    p->act_min < -half - half || p->act_max > half - 1 + half)
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

static s32 mlk_requantize_one(const struct mlk_requantize_params *p, s32 x)
{
	/* unsigned: 32-bit operands may wrap */
	s32 value = (s32)((u32)x - (u32)p->in_zero_point);
	u32 q;

	if (value >= 0)
		q = (u32)mlk_requant(value, p->positive_multiplier,
				     p->positive_shift);
	else if (p->absolute)
		q = (u32)mlk_requant((s32)(0 - (u32)value),
				     p->negative_multiplier, p->negative_shift);
	else
		q = (u32)mlk_requant(value, p->negative_multiplier,
				     p->negative_shift);
	return mlk_clamp((s32)(q + (u32)p->out_zero_point), p->act_min,
			 p->act_max);
}

static s32 mlk_requantize_load(const void *in, u32 dtype, u32 i)
{
	switch (dtype) {
	case MLK_INT8:
		return ((const s8 *)in)[i];
	case MLK_INT16:
		return ((const s16 *)in)[i];
	default:
		return ((const s32 *)in)[i];
	}
}

void mlk_run_requantize(const struct mlk_frame *f)
{
	const struct mlk_requantize_params *p = &f->op->requantize;
	u32 from = f->tensors[f->op->in[0]].dtype;
	u32 to = f->tensors[f->op->out[0]].dtype;
	u32 elements = mlk_out_bytes(f, 0) >> mlk_requantize_log(to);
	const void *in = mlk_in(f, 0);
	void *out = mlk_out(f, 0);
	u32 i;

	for (i = 0; i < elements; i++) {
		s32 q = mlk_requantize_one(p, mlk_requantize_load(in, from, i));

		if (to == MLK_INT8)
			((s8 *)out)[i] = (s8)q;
		else if (to == MLK_INT16)
			((s16 *)out)[i] = (s16)q;
		else
			((s32 *)out)[i] = q;
	}
}

#endif /* MLK_CONFIG_REQUANTIZE */
