// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * AVERAGE_POOL_2D and MAX_POOL_2D of int8, with fused activation.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h.
 * Only what lies inside the image counts.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_POOL

/* Does each position of the filter have a tap inside the image? */
static int mlk_pool_meets(u32 in, u32 out, u32 filter, u32 stride, u32 pad)
{
	return pad < filter && (u64)(out - 1) * stride < (u64)in + pad;
}

int mlk_check_pool(struct mlk_check *c)
{
	const struct mlk_pool_params *p = &c->op->pool;
	const struct mlk_window *w = &p->window;
	u64 taps;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_window_ok(w) || w->dilation_h != 1 || w->dilation_w != 1 ||
	    !p->channels || p->kind > MLK_POOL_MAX ||
	    !mlk_bounds_ok(p->act_min, p->act_max) ||
	    !mlk_pool_meets(w->in_h, w->out_h, w->filter_h, w->stride_h,
			    w->pad_h) ||
	    !mlk_pool_meets(w->in_w, w->out_w, w->filter_w, w->stride_w,
			    w->pad_w))
		return MLK_REASON_PARAM;
	if (!mlk_images_ok(c, w, p->channels, p->channels))
		return MLK_REASON_OPERAND;

	/* a filter may be larger than the image, but that costs nothing */
	taps = mlk_volume(mlk_min_u32(w->filter_h, w->in_h),
			  mlk_min_u32(w->filter_w, w->in_w), 1, 1);
	if (taps > MLK_POOL_MAX_TAPS)
		return MLK_REASON_PARAM;
	c->macs = taps * mlk_result(c, 0)->bytes;
	return MLK_REASON_NONE;
}

/* The part of a filter that is inside the image: [begin, end) of its axis. */
struct mlk_span {
	u32 begin;
	u32 end;
};

static struct mlk_span mlk_inside(u32 at, u32 stride, u32 pad, u32 filter,
				  u32 in)
{
	s32 first = (s32)(at * stride - pad);
	s32 last = first + (s32)filter;
	struct mlk_span span = {
		.begin = first > 0 ? (u32)first : 0,
		.end = last < (s32)in ? (u32)last : in,
	};

	return span;
}

static void mlk_pool_sum(s32 *acc, const s8 *x, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		acc[i] += x[i];
}

static void mlk_pool_max(s32 *acc, const s8 *x, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		acc[i] = x[i] > acc[i] ? x[i] : acc[i];
}

static void mlk_pool_line_c(const struct mlk_pool_line *l)
{
	const s8 *x = l->x;
	u32 i;

	for (i = 0; i < l->pixels; i++, x += l->stride) {
		if (l->kind == MLK_POOL_MAX)
			mlk_pool_max(l->acc, x, l->channels);
		else
			mlk_pool_sum(l->acc, x, l->channels);
	}
}

/*
 * Round to the nearest, ties away from zero. A reciprocal instead of divisions
 * is exact while (128.5 * taps) * taps < 2^32.
 */
static void mlk_pool_divide(s32 *acc, u32 n, u32 taps)
{
	u32 half = taps / 2, reciprocal = 0xffffffffu / taps + 1, i;

	if (taps == 1)
		return;
	for (i = 0; i < n; i++) {
		u32 size = (u32)(acc[i] < 0 ? -acc[i] : acc[i]) + half;
		s32 q = (s32)(taps <= 4096 ? ((u64)size * reciprocal) >> 32 :
					     size / taps);

		acc[i] = acc[i] < 0 ? -q : q;
	}
}

/* All channels of one position. */
static void mlk_pool_pixel(const struct mlk_frame *f, const s8 *image,
			   struct mlk_span rows, struct mlk_span columns,
			   s8 *out)
{
	const struct mlk_pool_params *p = &f->op->pool;
	u32 taps = (rows.end - rows.begin) * (columns.end - columns.begin);
	s32 start = p->kind == MLK_POOL_MAX ? -128 : 0;
	s32 acc[MLK_POOL_CHANNELS];
	struct mlk_pool_line line = {
		.pixels = columns.end - columns.begin,
		.stride = p->channels,
		.acc = acc,
		.kind = p->kind,
	};
	u32 first, y, i;

	for (first = 0; first < p->channels; first += line.channels) {
		line.channels =
			mlk_min_u32(p->channels - first, MLK_POOL_CHANNELS);
		for (i = 0; i < line.channels; i++)
			acc[i] = start;
		for (y = rows.begin; y < rows.end; y++) {
			line.x = image + first +
				 ((size_t)y * p->window.in_w + columns.begin) *
					 p->channels;
			if (f->simd && f->simd->pool)
				f->simd->pool(&line);
			else
				mlk_pool_line_c(&line);
		}
		if (p->kind == MLK_POOL_AVERAGE)
			mlk_pool_divide(acc, line.channels, taps);
		for (i = 0; i < line.channels; i++)
			out[first + i] =
				(s8)mlk_clamp(acc[i], p->act_min, p->act_max);
	}
}

void mlk_run_pool(const struct mlk_frame *f)
{
	const struct mlk_pool_params *p = &f->op->pool;
	const struct mlk_window *w = &p->window;
	const s8 *image = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 batch, row, column;

	for (batch = 0; batch < w->batches; batch++) {
		for (row = 0; row < w->out_h; row++) {
			struct mlk_span rows = mlk_inside(row, w->stride_h,
							  w->pad_h, w->filter_h,
							  w->in_h);

			for (column = 0; column < w->out_w; column++) {
				mlk_pool_pixel(f, image, rows,
					       mlk_inside(column, w->stride_w,
							  w->pad_w, w->filter_w,
							  w->in_w),
					       out);
				out += p->channels;
			}
		}
		image += (size_t)w->in_h * w->in_w * p->channels;
	}
}

#endif /* MLK_CONFIG_POOL */
