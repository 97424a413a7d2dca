/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the operators on images share, private to the engine: checks of a
 * window, accumulators of some channels side by side, their last step to int8.
 */
#ifndef MLK_SPATIAL_H
#define MLK_SPATIAL_H

#include "mlk_op.h"

/* Accumulators on the stack: 256 bytes of it. */
#define MLK_TILE 64

/* Positions in an image, also outside of it, stay within +-2^31. */
#define MLK_MAX_REACH 0x20000000u

static inline u32 mlk_min_u32(u32 a, u32 b)
{
	return a < b ? a : b;
}

static inline u32 mlk_tile(u32 left)
{
	return mlk_min_u32(left, MLK_TILE);
}

/* A product of foreign numbers, or more than any tensor has. */
static inline u64 mlk_volume(u32 a, u32 b, u32 c, u32 d)
{
	u64 v = (u64)a * b;

	if (v <= MLK_MAX_ARENA_BYTES)
		v *= c;
	if (v <= MLK_MAX_ARENA_BYTES)
		v *= d;
	return v <= MLK_MAX_ARENA_BYTES ? v : (u64)MLK_MAX_ARENA_BYTES + 1;
}

static inline int mlk_axis_ok(u32 in, u32 out, u32 filter, u32 stride,
			      u32 dilation, u32 pad)
{
	return in && out && filter && stride && dilation &&
	       in <= MLK_MAX_REACH && stride <= MLK_MAX_REACH &&
	       dilation <= MLK_MAX_REACH && pad <= MLK_MAX_REACH &&
	       (u64)(out - 1) * stride <= MLK_MAX_REACH &&
	       (u64)(filter - 1) * dilation <= MLK_MAX_REACH;
}

/* Is nothing zero that must not be, and can no position overflow? */
static inline int mlk_window_ok(const struct mlk_window *w)
{
	return w->batches &&
	       mlk_axis_ok(w->in_h, w->out_h, w->filter_h, w->stride_h,
			   w->dilation_h, w->pad_h) &&
	       mlk_axis_ok(w->in_w, w->out_w, w->filter_w, w->stride_w,
			   w->dilation_w, w->pad_w);
}

/* Are operand and result what window and channels say? */
static inline int mlk_images_ok(const struct mlk_check *c,
				const struct mlk_window *w, u32 in_channels,
				u32 out_channels)
{
	return mlk_operand(c, 0)->bytes ==
		       mlk_volume(w->batches, w->in_h, w->in_w, in_channels) &&
	       mlk_result(c, 0)->bytes ==
		       mlk_volume(w->batches, w->out_h, w->out_w, out_channels);
}

/* Is [low, high] inside int8 and not empty? */
static inline int mlk_bounds_ok(s32 low, s32 high)
{
	return low >= -128 && high <= 127 && low <= high;
}

static inline int mlk_is_s8(s32 value)
{
	return value >= -128 && value <= 127;
}

/* Is all of a filter in the data, and in its range? Returns the reason. */
static inline int mlk_check_filter(const struct mlk_check *c,
				   const struct mlk_filter *filter, u64 weights,
				   u32 width)
{
	u64 words = (u64)width * 4;

	if (!mlk_data_ok(c, filter->weights, weights) ||
	    !mlk_data_ok(c, filter->bias, words) ||
	    !mlk_data_ok(c, filter->multiplier, words) ||
	    !mlk_data_ok(c, filter->shift, words))
		return MLK_REASON_DATA;
	if (!mlk_multipliers_ok(c, filter->multiplier, filter->shift, width) ||
	    !mlk_is_s8(filter->in_zero_point) ||
	    !mlk_is_s8(filter->out_zero_point) ||
	    !mlk_bounds_ok(filter->act_min, filter->act_max))
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

/* Start the sums of outputs [first, first + n). */
static inline void mlk_filter_start(const struct mlk_filter *filter,
				    const u8 *program, u32 first, u32 n,
				    u32 *acc)
{
	const s32 *bias = (const s32 *)(program + filter->bias) + first;
	u32 i;

	for (i = 0; i < n; i++)
		acc[i] = (u32)bias[i];
}

/* Turn their sums into @out. */
static inline void mlk_filter_finish(const struct mlk_filter *filter,
				     const u8 *program, u32 first, u32 n,
				     const u32 *acc, s8 *out)
{
	const s32 *multiplier = (const s32 *)(program + filter->multiplier);
	const s32 *shift = (const s32 *)(program + filter->shift);
	u32 i;

	for (i = 0; i < n; i++) {
		s32 q = mlk_scaled(acc[i], multiplier[first + i],
				   shift[first + i], filter->out_zero_point,
				   filter->act_min, filter->act_max);

		out[i] = (s8)q;
	}
}

#endif /* MLK_SPATIAL_H */
