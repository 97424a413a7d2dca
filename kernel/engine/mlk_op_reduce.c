// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * MEAN, SUM, REDUCE_MAX and REDUCE_MIN of int8 over any dimensions.
 * Arithmetic: QuantizedMeanOrSum and ReduceGeneric in tensorflow/lite/kernels/
 * internal/reference/reduce.h. A mean is a sum whose multiplier has the number
 * of values in it.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_REDUCE

/* The last byte that the dimensions reach; @count: how many they are. */
static u64 mlk_reduce_reach(const u32 *dims, const u32 *strides, u64 *count)
{
	u64 reach = 0;
	u32 i;

	*count = mlk_volume(dims[0], dims[1], dims[2], 1);
	for (i = 0; i < MLK_REDUCE_DIMS; i++)
		reach += (u64)(dims[i] - 1) * strides[i];
	return reach;
}

int mlk_check_reduce(struct mlk_check *c)
{
	const struct mlk_reduce_params *p = &c->op->reduce;
	u64 keep, over, reach;
	u32 i;

	c->used_words = sizeof(*p) / 4;
	/* strides below 2^29: the sum of six products stays inside 64 bits */
	for (i = 0; i < MLK_REDUCE_DIMS; i++)
		if (!p->keep[i] || !p->over[i] ||
		    p->keep_stride[i] > MLK_MAX_REACH ||
		    p->over_stride[i] > MLK_MAX_REACH)
			return MLK_REASON_PARAM;
	reach = mlk_reduce_reach(p->keep, p->keep_stride, &keep);
	reach += mlk_reduce_reach(p->over, p->over_stride, &over);
	if (keep != mlk_result(c, 0)->bytes ||
	    keep * over != mlk_operand(c, 0)->bytes ||
	    reach >= mlk_operand(c, 0)->bytes)
		return MLK_REASON_OPERAND;

	if (p->kind > MLK_REDUCE_MIN || p->is_unsigned > 1)
		return MLK_REASON_PARAM;
	if (p->multiplier < 0 || p->shift < -31 || p->shift > 30 ||
	    !mlk_is_s8(p->out_zero_point) || p->act_min < -128 ||
	    p->act_max > 255 || p->act_min > p->act_max)
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

/* Value of a byte that counts from -128, or from 0 if @flip is 0x80. */
static inline s32 mlk_reduce_value(s8 x, u32 flip)
{
	return (s32)(((u32)x & 0xff) ^ 0x80 ^ flip) - 128 + (s32)flip;
}

static inline s32 mlk_reduce_step(u32 kind, s32 acc, s32 x)
{
	if (kind == MLK_REDUCE_SUM)
		return (s32)((u32)acc + (u32)x);
	if (kind == MLK_REDUCE_MAX)
		return x > acc ? x : acc;
	return x < acc ? x : acc;
}

/* One value more for each of @n results that lie side by side. */
static void mlk_reduce_row(const struct mlk_reduce_params *p, s32 *acc,
			   const s8 *in, u32 n)
{
	u32 flip = p->is_unsigned ? 0x80 : 0, stride = p->keep_stride[2], i;

	for (i = 0; i < n; i++, in += stride)
		acc[i] = mlk_reduce_step(p->kind, acc[i],
					 mlk_reduce_value(*in, flip));
}

/* All values of the innermost reduced dimension for one result. */
static s32 mlk_reduce_run(const struct mlk_reduce_params *p, s32 acc,
			  const s8 *in)
{
	u32 flip = p->is_unsigned ? 0x80 : 0, i;

	for (i = 0; i < p->over[2]; i++)
		acc = mlk_reduce_step(p->kind, acc,
				      mlk_reduce_value(in[i], flip));
	return acc;
}

/* The innermost dimensions of both kinds, in the order of the bytes. */
static void mlk_reduce_inner(const struct mlk_reduce_params *p, s32 *acc,
			     const s8 *in, u32 n)
{
	u32 i;

	if (p->over_stride[2] == 1) {
		for (i = 0; i < n; i++, in += p->keep_stride[2])
			acc[i] = mlk_reduce_run(p, acc[i], in);
		return;
	}
	for (i = 0; i < p->over[2]; i++, in += p->over_stride[2])
		mlk_reduce_row(p, acc, in, n);
}

/* Results of [first, first + n) of the innermost dimension that stays. */
static void mlk_reduce_tile(const struct mlk_reduce_params *p, const s8 *in,
			    u32 n, s8 *out)
{
	s32 start = p->kind == MLK_REDUCE_SUM ? 0 :
		    p->kind == MLK_REDUCE_MAX ? -128 :
						255;
	s32 acc[MLK_TILE];
	u32 a, b, i;

	for (i = 0; i < n; i++)
		acc[i] = start;
	for (a = 0; a < p->over[0]; a++) {
		const s8 *row = in + (size_t)a * p->over_stride[0];

		for (b = 0; b < p->over[1]; b++) {
			mlk_reduce_inner(p, acc, row, n);
			row += p->over_stride[1];
		}
	}
	for (i = 0; i < n; i++) {
		s32 q = acc[i];

		if (p->kind == MLK_REDUCE_SUM)
			q = mlk_scaled((u32)q + (u32)p->bias, p->multiplier,
				       p->shift, p->out_zero_point, p->act_min,
				       p->act_max);
		out[i] = (s8)q;
	}
}

void mlk_run_reduce(const struct mlk_frame *f)
{
	const struct mlk_reduce_params *p = &f->op->reduce;
	const s8 *in = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 a, b, first, n;

	for (a = 0; a < p->keep[0]; a++) {
		for (b = 0; b < p->keep[1]; b++) {
			const s8 *at = in + (size_t)a * p->keep_stride[0] +
				       (size_t)b * p->keep_stride[1];

			for (first = 0; first < p->keep[2]; first += n) {
				n = mlk_tile(p->keep[2] - first);
				mlk_reduce_tile(p, at, n, out);
				at += (size_t)n * p->keep_stride[2];
				out += n;
			}
		}
	}
}

#endif /* MLK_CONFIG_REDUCE */
