// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * AVERAGE_POOL_2D and MAX_POOL_2D of int16, with fused activation.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h.
 * Only what lies inside the image counts.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_POOL_S16

int mlk_check_pool_s16(struct mlk_check *c)
{
	const struct mlk_pool_params *p = &c->op->pool;
	const struct mlk_window *w = &p->window;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	u64 taps;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_window_ok(w) || w->dilation_h != 1 || w->dilation_w != 1 ||
	    !p->channels || p->kind > MLK_POOL_MAX || p->act_min < -32768 ||
	    p->act_max > 32767 || p->act_min > p->act_max)
		return MLK_REASON_PARAM;
	taps = mlk_volume(w->filter_h, w->filter_w, 1, 1);
	if (taps > MLK_POOL_S16_MAX_TAPS)
		return MLK_REASON_PARAM;
	if (in->dtype != MLK_INT16 || out->dtype != MLK_INT16 ||
	    in->bytes !=
		    2 * mlk_volume(w->batches, w->in_h, w->in_w, p->channels) ||
	    out->bytes !=
		    2 * mlk_volume(w->batches, w->out_h, w->out_w, p->channels))
		return MLK_REASON_OPERAND;
	c->macs = taps * (out->bytes / 2);
	return MLK_REASON_NONE;
}

/* 2^48 / @taps, rounded up, by divisions of 32 bits. */
static u64 mlk_pool_reciprocal(u32 taps)
{
	u32 high = 0xffffffffu / taps;
	u32 rest = 0xffffffffu - high * taps + 1; /* at most taps */

	return ((u64)high << 16) + (rest << 16) / taps + 1;
}

/* Round to the nearest, ties away from zero; exact for sums of @taps values. */
static void mlk_pool_s16_divide(s32 *acc, u32 n, u32 taps)
{
	u64 reciprocal;
	u32 i;

	if (taps < 2)
		return;
	reciprocal = mlk_pool_reciprocal(taps);
	for (i = 0; i < n; i++) {
		u32 size = (u32)(acc[i] < 0 ? -acc[i] : acc[i]) + taps / 2;
		s32 q = (s32)((size * reciprocal) >> 48);

		acc[i] = acc[i] < 0 ? -q : q;
	}
}

/* One more value for each of @n channels. */
static void mlk_pool_s16_tap(u32 kind, s32 *acc, const s16 *x, u32 n)
{
	u32 i;

	if (kind == MLK_POOL_MAX)
		for (i = 0; i < n; i++)
			acc[i] = x[i] > acc[i] ? x[i] : acc[i];
	else
		for (i = 0; i < n; i++)
			acc[i] += x[i];
}

/* Channels [first, first + n) of the position that begins at (y0, x0). */
static void mlk_pool_s16_tile(const struct mlk_pool_params *p, const s16 *image,
			      s32 y0, s32 x0, u32 first, u32 n, s16 *out)
{
	const struct mlk_window *w = &p->window;
	s32 start = p->kind == MLK_POOL_MAX ? -32768 : 0;
	u32 taps = 0, ky, kx, i;
	s32 acc[MLK_TILE];

	for (i = 0; i < n; i++)
		acc[i] = start;
	for (ky = 0; ky < w->filter_h; ky++) {
		u32 y = (u32)(y0 + (s32)ky);

		for (kx = 0; kx < w->filter_w; kx++) {
			u32 x = (u32)(x0 + (s32)kx);

			/* above or left of the image is beyond it, too */
			if (y >= w->in_h || x >= w->in_w)
				continue;
			taps++;
			mlk_pool_s16_tap(p->kind, acc,
					 image + first +
						 ((size_t)y * w->in_w + x) *
							 p->channels,
					 n);
		}
	}
	if (p->kind == MLK_POOL_AVERAGE)
		mlk_pool_s16_divide(acc, n, taps);
	for (i = 0; i < n; i++)
		out[i] = (s16)mlk_clamp(acc[i], p->act_min, p->act_max);
}

void mlk_run_pool_s16(const struct mlk_frame *f)
{
	const struct mlk_pool_params *p = &f->op->pool;
	const struct mlk_window *w = &p->window;
	const s16 *image = mlk_in(f, 0);
	s16 *out = mlk_out(f, 0);
	u32 batch, row, column, first, n;

	for (batch = 0; batch < w->batches; batch++) {
		for (row = 0; row < w->out_h; row++) {
			s32 y = (s32)(row * w->stride_h - w->pad_h);

			for (column = 0; column < w->out_w; column++) {
				s32 x = (s32)(column * w->stride_w - w->pad_w);

				for (first = 0; first < p->channels;
				     first += n) {
					n = mlk_tile(p->channels - first);
					mlk_pool_s16_tile(p, image, y, x, first,
							  n, out + first);
				}
				out += p->channels;
			}
		}
		image += (size_t)w->in_h * w->in_w * p->channels;
	}
}

#endif /* MLK_CONFIG_POOL_S16 */
