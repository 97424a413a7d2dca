// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * DEPTHWISE_CONV_2D of int8, with dilation and fused activation.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/
 * depthwise_conv.h. The bias holds what the input's zero point adds over all
 * taps; a tap beyond the border reads the zero point, so that it adds nothing.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_DEPTHWISE_CONV

int mlk_check_depthwise_conv(struct mlk_check *c)
{
	const struct mlk_depthwise_conv_params *p = &c->op->depthwise_conv;
	const struct mlk_window *w = &p->window;
	u64 width = (u64)p->channels * p->fold, taps;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_window_ok(w) || !p->channels || !p->fold)
		return MLK_REASON_PARAM;
	if (width > MLK_MAX_ARENA_BYTES ||
	    !mlk_images_ok(c, w, p->channels, (u32)width))
		return MLK_REASON_OPERAND;

	/* anything too large is no place in a program */
	taps = mlk_volume(w->filter_h, w->filter_w, 1, 1);
	c->macs = taps * mlk_result(c, 0)->bytes;
	return mlk_check_filter(c, &p->filter, taps * width, (u32)width);
}

/* One input value for all channels: a border, or an image with one channel. */
static void mlk_dw_constant(u32 *acc, s32 x, const s8 *w, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		acc[i] += (u32)(x * w[i]);
}

static void mlk_dw_direct(u32 *acc, const s8 *x, const s8 *w, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		acc[i] += (u32)((s32)x[i] * w[i]);
}

/* @fold outputs of each input, from output @first on. */
static void mlk_dw_folded(u32 *acc, const s8 *x, const s8 *w, u32 n, u32 first,
			  u32 fold)
{
	u32 phase = first % fold, i;

	x += first / fold;
	for (i = 0; i < n; i++) {
		acc[i] += (u32)((s32)*x * w[i]);
		if (++phase == fold) {
			phase = 0;
			x++;
		}
	}
}

/* Outputs [first, first + n) of the position whose first tap is at (y, x). */
static void mlk_dw_tile(const struct mlk_depthwise_conv_params *p,
			const s8 *image, const s8 *weights, s32 y0, s32 x0,
			u32 first, u32 n, u32 *acc)
{
	const struct mlk_window *w = &p->window;
	u32 width = p->channels * p->fold, ky, kx;

	weights += first;
	for (ky = 0; ky < w->filter_h; ky++) {
		u32 y = (u32)(y0 + (s32)(ky * w->dilation_h));

		for (kx = 0; kx < w->filter_w; kx++, weights += width) {
			u32 x = (u32)(x0 + (s32)(kx * w->dilation_w));
			const s8 *pixel;

			/* above or left of the image is beyond it, too */
			if (y >= w->in_h || x >= w->in_w) {
				mlk_dw_constant(acc, p->filter.in_zero_point,
						weights, n);
				continue;
			}
			pixel = image + ((size_t)y * w->in_w + x) * p->channels;
			if (p->fold == 1)
				mlk_dw_direct(acc, pixel + first, weights, n);
			else if (p->channels == 1)
				mlk_dw_constant(acc, *pixel, weights, n);
			else
				mlk_dw_folded(acc, pixel, weights, n, first,
					      p->fold);
		}
	}
}

/* All outputs of one position. */
static void mlk_dw_pixel(const struct mlk_depthwise_conv_params *p,
			 const u8 *program, const s8 *image, s32 y, s32 x,
			 s8 *out)
{
	const s8 *weights = (const s8 *)(program + p->filter.weights);
	u32 width = p->channels * p->fold, first, n;
	u32 acc[MLK_TILE];

	for (first = 0; first < width; first += n) {
		n = mlk_tile(width - first);
		mlk_filter_start(&p->filter, program, first, n, acc);
		mlk_dw_tile(p, image, weights, y, x, first, n, acc);
		mlk_filter_finish(&p->filter, program, first, n, acc,
				  out + first);
	}
}

void mlk_run_depthwise_conv(const struct mlk_frame *f)
{
	const struct mlk_depthwise_conv_params *p = &f->op->depthwise_conv;
	const struct mlk_window *w = &p->window;
	const s8 *image = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 batch, row, column;

	for (batch = 0; batch < w->batches; batch++) {
		for (row = 0; row < w->out_h; row++) {
			s32 y = (s32)(row * w->stride_h - w->pad_h);

			for (column = 0; column < w->out_w; column++) {
				s32 x = (s32)(column * w->stride_w - w->pad_w);

				mlk_dw_pixel(p, f->program, image, y, x, out);
				out += p->channels * p->fold;
			}
		}
		image += (size_t)w->in_h * w->in_w * p->channels;
	}
}

#endif /* MLK_CONFIG_DEPTHWISE_CONV */
