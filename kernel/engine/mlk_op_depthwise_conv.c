// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * DEPTHWISE_CONV_2D of int8, one output for each channel, with dilation and fused
 * activation. Arithmetic: tensorflow/lite/kernels/internal/reference/
 * integer_ops/depthwise_conv.h. The bias holds what the input's zero point adds
 * over all taps; a tap beyond the border reads the zero point, so that it adds
 * nothing.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_DEPTHWISE_CONV

int mlk_check_depthwise_conv(struct mlk_check *c)
{
	const struct mlk_conv_params *p = &c->op->conv;
	const struct mlk_window *w = &p->window;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_window_ok(w) || !mlk_is_s8(p->in_zero_point))
		return MLK_REASON_PARAM;
	if (!mlk_images_ok(c, w, p->w.width, p->w.width))
		return MLK_REASON_OPERAND;
	/* anything too large is no place in a program */
	if (mlk_volume(w->filter_h, w->filter_w, 1, 1) != p->w.depth)
		return MLK_REASON_PARAM;
	c->macs = (u64)p->w.depth * mlk_result(c, 0)->bytes;
	return mlk_weights_ok(c, &p->w);
}

/* Where the filter stands: the image, its first tap there, its next tap. */
struct mlk_dw_place {
	const s8 *image;
	u32 y;
	u32 x;
	u32 down;
	u32 across;
};

/* The pixel below the next tap, or @border if that is beyond the image. */
static const s8 *mlk_dw_next(const struct mlk_depthwise *d,
			     struct mlk_dw_place *at, u32 first,
			     const s8 *border)
{
	const struct mlk_window *w = d->window;
	u32 y = at->y + at->down * w->dilation_h;
	u32 x = at->x + at->across * w->dilation_w;
	u32 last = at->down == w->filter_h;

	if (++at->across == w->filter_w) {
		at->across = 0;
		at->down++;
	}
	/* above or left of the image is beyond it, too */
	if (last || y >= w->in_h || x >= w->in_w)
		return border;
	return at->image + ((size_t)y * w->in_w + x) * d->p.width + first;
}

/* Outputs [first, first + n) of one position. */
static void mlk_dw_tile(const struct mlk_depthwise *d, struct mlk_dw_place *at,
			const s8 *border, u32 first, u32 n, s8 *out)
{
	const s8 *w = d->p.packed + (size_t)first * 4;
	size_t step = (((size_t)d->p.width + 15) & ~(size_t)15) * 4;
	u32 acc[MLK_TILE];
	u32 tap, i;

	at->down = 0;
	at->across = 0;
	for (i = 0; i < n; i++)
		acc[i] = (u32)d->p.bias[first + i];
	for (tap = 0; tap < d->p.depth; tap += 4, w += step) {
		const s8 *x0 = mlk_dw_next(d, at, first, border);
		const s8 *x1 = mlk_dw_next(d, at, first, border);
		const s8 *x2 = mlk_dw_next(d, at, first, border);
		const s8 *x3 = mlk_dw_next(d, at, first, border);

		for (i = 0; i < n; i++)
			acc[i] +=
				(u32)(x0[i] * w[4 * i] + x1[i] * w[4 * i + 1] +
				      x2[i] * w[4 * i + 2] +
				      x3[i] * w[4 * i + 3]);
	}
	for (i = 0; i < n; i++)
		out[first + i] = mlk_product_output(&d->p, acc[i], first + i);
}

static void mlk_depthwise_c(const struct mlk_depthwise *d)
{
	const struct mlk_window *w = d->window;
	struct mlk_dw_place at = { .image = d->p.in };
	u32 batch, row, column, first, n;
	s8 border[MLK_TILE];
	s8 *out = d->p.out;

	memset(border, d->in_zero_point, sizeof(border));
	for (batch = 0; batch < w->batches; batch++) {
		for (row = 0; row < w->out_h; row++) {
			at.y = row * w->stride_h - w->pad_h;
			for (column = 0; column < w->out_w; column++) {
				at.x = column * w->stride_w - w->pad_w;
				for (first = 0; first < d->p.width;
				     first += n) {
					n = mlk_tile(d->p.width - first);
					mlk_dw_tile(d, &at, border, first, n,
						    out);
				}
				out += d->p.width;
			}
		}
		at.image += (size_t)w->in_h * w->in_w * d->p.width;
	}
}

void mlk_run_depthwise_conv(const struct mlk_frame *f)
{
	const struct mlk_conv_params *p = &f->op->conv;
	struct mlk_depthwise d = {
		.p = mlk_product_of(f, &p->w),
		.window = &p->window,
		.in_zero_point = p->in_zero_point,
	};

	if (f->simd && f->simd->depthwise && d.p.depth <= MLK_DEPTHWISE_TAPS)
		f->simd->depthwise(&d);
	else
		mlk_depthwise_c(&d);
}

#endif /* MLK_CONFIG_DEPTHWISE_CONV */
