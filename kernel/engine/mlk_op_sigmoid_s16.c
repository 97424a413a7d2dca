// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * LOGISTIC and TANH of int16: one table of the logistic function's upper half,
 * interpolated. Arithmetic: tensorflow/lite/kernels/internal/reference/
 * integer_ops/logistic.h and tanh.h.
 */
#include "mlk_op.h"

#if MLK_CONFIG_SIGMOID_S16

int mlk_check_sigmoid_s16(struct mlk_check *c)
{
	const struct mlk_sigmoid_params *p = &c->op->sigmoid;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_both_s16(c))
		return MLK_REASON_OPERAND;
	/* so that every product and its rounding stay inside 31 bits */
	if (p->multiplier > 32767 || p->shift > 30 || p->tanh > 1)
		return MLK_REASON_PARAM;
	if (!mlk_data_ok(c, p->table, 256 * 2))
		return MLK_REASON_DATA;
	return MLK_REASON_NONE;
}

/* @x in steps of 1/24 of @bits fraction bits; result in 16 + @bits bits. */
static u32 mlk_sigmoid_half(const u16 *table, u32 x, u32 bits, u32 most)
{
	u32 i = x >> bits;

	if (i >= 255)
		return most;
	return ((u32)table[i] << bits) +
	       (x & ((1u << bits) - 1)) * ((u32)table[i + 1] - table[i]);
}

static s16 mlk_logistic_s16(const u16 *table, s32 x)
{
	u32 half = mlk_sigmoid_half(table, (u32)(x < 0 ? -x : x), 9,
				    0x7fffu << 10);

	half = x < 0 ? (1u << 25) - half + (1u << 9) - 1 : half + (1u << 9);
	return (s16)(half >> 10);
}

static s16 mlk_tanh_s16(const u16 *table, s32 x)
{
	u32 half =
		mlk_sigmoid_half(table, (u32)(x < 0 ? -x : x), 8, 0xffffu << 8);

	half -= 1u << 23;
	half = x < 0 ? (1u << 7) - 1 - half : half + (1u << 7);
	return (s16)((s32)half >> 8);
}

void mlk_run_sigmoid_s16(const struct mlk_frame *f)
{
	const struct mlk_sigmoid_params *p = &f->op->sigmoid;
	const u16 *table = (const u16 *)(f->program + p->table);
	s32 round = (s32)((1u << p->shift) >> 1);
	const s16 *in = mlk_in(f, 0);
	s16 *out = mlk_out(f, 0);
	u32 elements = mlk_out_bytes(f, 0) / 2;
	u32 i;

	for (i = 0; i < elements; i++) {
		s32 x = (in[i] * (s32)p->multiplier + round) >> p->shift;

		out[i] = p->tanh ? mlk_tanh_s16(table, x) :
				   mlk_logistic_s16(table, x);
	}
}

#endif /* MLK_CONFIG_SIGMOID_S16 */
