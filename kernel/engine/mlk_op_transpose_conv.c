// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * TRANSPOSE_CONV of int8, with fused activation. The reference scatters each
 * input over the results; here each result gathers its inputs, which needs no
 * memory for sums.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/
 * transpose_conv.h.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_TRANSPOSE_CONV

int mlk_check_transpose_conv(struct mlk_check *c)
{
	const struct mlk_transpose_conv_params *p = &c->op->transpose_conv;
	const struct mlk_window *w = &p->window;
	u64 weights, taps;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_window_ok(w) || w->dilation_h != 1 || w->dilation_w != 1 ||
	    !p->channels || !p->width)
		return MLK_REASON_PARAM;
	if (!mlk_images_ok(c, w, p->channels, p->width))
		return MLK_REASON_OPERAND;

	weights = mlk_volume(p->width, w->filter_h, w->filter_w, p->channels);
	/* of the filter's taps only each stride-th meets an input */
	taps = mlk_volume((w->filter_h - 1) / w->stride_h + 1,
			  (w->filter_w - 1) / w->stride_w + 1, p->channels, 1);
	c->macs = taps * mlk_result(c, 0)->bytes;
	return mlk_check_filter(c, &p->filter, weights, p->width);
}

static u32 mlk_tc_dot(const s8 *x, const s8 *w, u32 n, s32 zero)
{
	u32 sum = 0, i;

	for (i = 0; i < n; i++)
		sum += (u32)((x[i] - zero) * w[i]);
	return sum;
}

/* Add one input pixel times one tap to results [first, first + n). */
static void mlk_tc_tap(const struct mlk_transpose_conv_params *p,
		       const s8 *pixel, const s8 *weights, u32 first, u32 n,
		       u32 *acc)
{
	size_t row =
		(size_t)p->window.filter_h * p->window.filter_w * p->channels;
	u32 i;

	weights += first * row;
	for (i = 0; i < n; i++, weights += row)
		acc[i] += mlk_tc_dot(pixel, weights, p->channels,
				     p->filter.in_zero_point);
}

/* Results [first, first + n) of the pixel at (y, x) of the padded result. */
static void mlk_tc_tile(const struct mlk_transpose_conv_params *p,
			const s8 *image, const s8 *weights, u32 y, u32 x,
			u32 first, u32 n, u32 *acc)
{
	const struct mlk_window *w = &p->window;
	u32 ky, kx;

	for (ky = y % w->stride_h; ky < w->filter_h && ky <= y;
	     ky += w->stride_h) {
		u32 from_y = (y - ky) / w->stride_h;

		if (from_y >= w->in_h)
			continue;
		for (kx = x % w->stride_w; kx < w->filter_w && kx <= x;
		     kx += w->stride_w) {
			u32 from_x = (x - kx) / w->stride_w;
			size_t pixel = (size_t)from_y * w->in_w + from_x;
			size_t tap = (size_t)ky * w->filter_w + kx;

			if (from_x < w->in_w)
				mlk_tc_tap(p, image + pixel * p->channels,
					   weights + tap * p->channels, first,
					   n, acc);
		}
	}
}

static void mlk_tc_pixel(const struct mlk_transpose_conv_params *p,
			 const u8 *program, const s8 *image, u32 y, u32 x,
			 s8 *out)
{
	const s8 *weights = (const s8 *)(program + p->filter.weights);
	u32 first, n;
	u32 acc[MLK_TILE];

	for (first = 0; first < p->width; first += n) {
		n = mlk_tile(p->width - first);
		mlk_filter_start(&p->filter, program, first, n, acc);
		mlk_tc_tile(p, image, weights, y, x, first, n, acc);
		mlk_filter_finish(&p->filter, program, first, n, acc,
				  out + first);
	}
}

void mlk_run_transpose_conv(const struct mlk_frame *f)
{
	const struct mlk_transpose_conv_params *p = &f->op->transpose_conv;
	const struct mlk_window *w = &p->window;
	const s8 *image = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 batch, y, x;

	for (batch = 0; batch < w->batches; batch++) {
		for (y = 0; y < w->out_h; y++) {
			for (x = 0; x < w->out_w; x++) {
				mlk_tc_pixel(p, f->program, image, y + w->pad_h,
					     x + w->pad_w, out);
				out += p->width;
			}
		}
		image += (size_t)w->in_h * w->in_w * p->channels;
	}
}

#endif /* MLK_CONFIG_TRANSPOSE_CONV */
