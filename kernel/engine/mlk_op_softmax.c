// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * SOFTMAX of int8 over the last dimension, in gemmlowp's fixed point; the result
 * is int8, or int16 for more digits.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/softmax.h and
 * gemmlowp/fixedpoint/fixedpoint.h. An int8 row has 256 possible differences to
 * its maximum, so the program carries their exponentials.
 */
#include "mlk_op.h"

#if MLK_CONFIG_SOFTMAX

/* Exponentials are Q0.31; their sum has 12 integer bits. */
#define MLK_SUM_INTEGER_BITS 12

int mlk_check_softmax(struct mlk_check *c)
{
	const struct mlk_softmax_params *p = &c->op->softmax;
	u32 bytes = mlk_operand(c, 0)->bytes;
	const struct mlk_tensor *out = mlk_result(c, 0);
	u64 item = out->dtype == MLK_INT16 ? 2 : 1;
	const s32 *table;
	u32 i;

	c->used_words = sizeof(*p) / 4;
	if (!p->rows || !p->depth || p->depth > MLK_SOFTMAX_MAX_DEPTH ||
	    !p->entries || p->entries > 256)
		return MLK_REASON_PARAM;
	if ((u64)p->rows * p->depth != bytes || bytes * item != out->bytes)
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->table, 256 * 4))
		return MLK_REASON_DATA;
	table = (const s32 *)((const u8 *)c->header + p->table);
	/* The maximum's own term keeps every sum above zero. */
	if (table[0] != MLK_SOFTMAX_ONE)
		return MLK_REASON_PARAM;
	for (i = 1; i < 256; i++)
		if (table[i] < 0)
			return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

/*
 * The last step. From a sum of 512 on @exponent exceeds 31, which the
 * reference leaves undefined: where it runs, such shifts count modulo 32 and
 * the result is always rounded up. That makes every class certain, but to be
 * the reference bit for bit is the contract.
 */
static s32 mlk_softmax_scale(s32 product, u32 exponent)
{
	if (exponent > 31)
		return (product >> (exponent - 32)) + 1;
	return mlk_round_shift(product, exponent);
}

/* One of the two results is written. */
static void mlk_softmax_row(const s8 *in, s8 *out, s16 *wide, u32 depth,
			    const s32 *table, u32 entries)
{
	u32 bits = wide ? 16 : 8;
	s32 max = -128, scale;
	s32 half = 1 << (bits - 1);
	u32 sum = 0, headroom, i;

	for (i = 0; i < depth; i++)
		if (in[i] > max)
			max = in[i];
	for (i = 0; i < depth; i++) {
		u32 difference = (u32)(max - in[i]);

		if (difference < entries)
			sum += (u32)mlk_round_shift(table[difference],
						    MLK_SUM_INTEGER_BITS);
	}
	/* GetReciprocal: sum = (1 + x) * 2^(12 - headroom), x in [0, 1) */
	headroom = mlk_clz32(sum);
	scale = mlk_reciprocal_1p((s32)((sum << headroom) - (1u << 31)));
	for (i = 0; i < depth; i++) {
		u32 difference = (u32)(max - in[i]);
		u32 exponent = MLK_SUM_INTEGER_BITS - headroom + 31 - bits;
		s32 product = 0;

		if (difference < entries) {
			product = mlk_mul_high(scale, table[difference]);
			product = mlk_softmax_scale(product, exponent);
		}
		product = mlk_clamp(product - half, -half, half - 1);
		if (wide)
			wide[i] = (s16)product;
		else
			out[i] = (s8)product;
	}
}

void mlk_run_softmax(const struct mlk_frame *f)
{
	const struct mlk_softmax_params *p = &f->op->softmax;
	const s32 *table = (const s32 *)(f->program + p->table);
	u32 is_wide = f->tensors[f->op->out[0]].dtype == MLK_INT16;
	const s8 *in = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	s16 *wide = is_wide ? mlk_out(f, 0) : NULL;
	u32 row;

	for (row = 0; row < p->rows; row++) {
		mlk_softmax_row(in, out, wide, p->depth, table, p->entries);
		in += p->depth;
		if (wide)
			wide += p->depth;
		else
			out += p->depth;
	}
}

#endif /* MLK_CONFIG_SOFTMAX */
