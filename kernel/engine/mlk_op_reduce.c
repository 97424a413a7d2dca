// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * MEAN, SUM, REDUCE_MAX and REDUCE_MIN of int8 or int16 over any dimensions.
 * Arithmetic: QuantizedMeanOrSum and ReduceGeneric in tensorflow/lite/kernels/
 * internal/reference/reduce.h. A mean is a sum whose multiplier has the number
 * of values in it.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_REDUCE

/* The last element that the dimensions reach; @count: how many they are. */
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
	u32 dtype = mlk_operand(c, 0)->dtype;
	u32 item = dtype == MLK_INT16 ? 2 : 1;
	u32 in = mlk_items(mlk_operand(c, 0)->bytes, item);
	u32 out = mlk_items(mlk_result(c, 0)->bytes, item);
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
	if (mlk_result(c, 0)->dtype != dtype || keep != out ||
	    keep * over != in || reach >= in)
		return MLK_REASON_OPERAND;

	if (p->kind > MLK_REDUCE_MIN || p->is_unsigned > 1)
		return MLK_REASON_PARAM;
	if (p->multiplier < 0 || p->shift < -31 || p->shift > 30 ||
	    !mlk_is_s8(p->out_zero_point) || p->act_min > p->act_max)
		return MLK_REASON_PARAM;
	/* int16 has any bounds, so no zero point may move them */
	if (item == 1 ? p->act_min < -128 || p->act_max > 255 :
			p->out_zero_point != 0)
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

/* What an operand's elements are. */
enum mlk_reduce_form {
	MLK_REDUCE_S8,
	MLK_REDUCE_U8,
	MLK_REDUCE_S16,
};

static inline s32 mlk_reduce_value(const void *in, size_t i,
				   enum mlk_reduce_form form)
{
	if (form == MLK_REDUCE_S16)
		return ((const s16 *)in)[i];
	if (form == MLK_REDUCE_U8)
		return ((const u8 *)in)[i];
	return ((const s8 *)in)[i];
}

static inline s32 mlk_reduce_step(u32 kind, s32 acc, s32 x)
{
	if (kind == MLK_REDUCE_SUM)
		return (s32)((u32)acc + (u32)x);
	if (kind == MLK_REDUCE_MAX)
		return x > acc ? x : acc;
	return x < acc ? x : acc;
}

/* The innermost dimensions of both kinds, in the order of the elements. */
static MLK_INLINE void mlk_reduce_inner(const struct mlk_reduce_params *p,
					s32 *acc, const void *in, size_t start,
					u32 n, enum mlk_reduce_form form)
{
	u32 keep = p->keep_stride[2], over = p->over_stride[2], i, k;

	if (over == 1) {
		for (i = 0; i < n; i++, start += keep)
			for (k = 0; k < p->over[2]; k++) {
				s32 x = mlk_reduce_value(in, start + k, form);

				acc[i] = mlk_reduce_step(p->kind, acc[i], x);
			}
		return;
	}
	for (k = 0; k < p->over[2]; k++, start += over) {
		size_t at = start;

		for (i = 0; i < n; i++, at += keep) {
			s32 x = mlk_reduce_value(in, at, form);

			acc[i] = mlk_reduce_step(p->kind, acc[i], x);
		}
	}
}

/* All values of @n results of the innermost dimension that stays. */
static void mlk_reduce_values(const struct mlk_reduce_params *p, s32 *acc,
			      const void *in, size_t start, u32 n,
			      enum mlk_reduce_form form)
{
	u32 a, b;

	for (a = 0; a < p->over[0]; a++) {
		size_t at = start + (size_t)a * p->over_stride[0];

		for (b = 0; b < p->over[1]; b++, at += p->over_stride[1]) {
			/* a loop of its own for each */
			if (form == MLK_REDUCE_S16)
				mlk_reduce_inner(p, acc, in, at, n,
						 MLK_REDUCE_S16);
			else if (form == MLK_REDUCE_U8)
				mlk_reduce_inner(p, acc, in, at, n,
						 MLK_REDUCE_U8);
			else
				mlk_reduce_inner(p, acc, in, at, n,
						 MLK_REDUCE_S8);
		}
	}
}

/* So many results, from the value at @start on. */
static void mlk_reduce_tile(const struct mlk_reduce_params *p, const void *in,
			    size_t start, u32 n, enum mlk_reduce_form form,
			    s32 *acc)
{
	s32 first = p->kind == MLK_REDUCE_SUM ? 0 :
		    p->kind == MLK_REDUCE_MAX ? -32768 :
						32767;
	u32 i;

	for (i = 0; i < n; i++)
		acc[i] = first;
	mlk_reduce_values(p, acc, in, start, n, form);
	for (i = 0; p->kind == MLK_REDUCE_SUM && i < n; i++)
		acc[i] = mlk_scaled((u32)acc[i] + (u32)p->bias, p->multiplier,
				    p->shift, p->out_zero_point, p->act_min,
				    p->act_max);
}

/* The lower bits of each; bounds are what keeps them in range. */
static void mlk_reduce_store(void *out, size_t at, const s32 *acc, u32 n,
			     enum mlk_reduce_form form)
{
	u32 i;

	if (form == MLK_REDUCE_S16)
		for (i = 0; i < n; i++)
			((s16 *)out)[at + i] = (s16)acc[i];
	else
		for (i = 0; i < n; i++)
			((s8 *)out)[at + i] = (s8)acc[i];
}

void mlk_run_reduce(const struct mlk_frame *f)
{
	const struct mlk_reduce_params *p = &f->op->reduce;
	enum mlk_reduce_form form = p->is_unsigned ? MLK_REDUCE_U8 :
						     MLK_REDUCE_S8;
	const void *in = mlk_in(f, 0);
	void *out = mlk_out(f, 0);
	u32 a, b, first, n;
	s32 acc[MLK_TILE];
	size_t to = 0;

	if (f->tensors[f->op->in[0]].dtype == MLK_INT16)
		form = MLK_REDUCE_S16;
	for (a = 0; a < p->keep[0]; a++) {
		for (b = 0; b < p->keep[1]; b++) {
			size_t at = (size_t)a * p->keep_stride[0] +
				    (size_t)b * p->keep_stride[1];

			for (first = 0; first < p->keep[2]; first += n) {
				n = mlk_tile(p->keep[2] - first);
				mlk_reduce_tile(p, in, at, n, form, acc);
				mlk_reduce_store(out, to, acc, n, form);
				at += (size_t)n * p->keep_stride[2];
				to += n;
			}
		}
	}
}

#endif /* MLK_CONFIG_REDUCE */
