// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * FULLY_CONNECTED, CONV_2D and DEPTHWISE_CONV_2D of int16 with int8 weights: a
 * window over images, whose channels may be in groups. A matrix product is a
 * window of one pixel, a depthwise convolution has as many groups as channels.
 * Arithmetic: {conv,depthwise_conv,fully_connected}.h of tensorflow/lite/
 * kernels/internal/reference/integer_ops. Activations have no zero point.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_CONV_S16

/* So many products of 16 by 9 bits fit into 32. */
#define MLK_S16_CHUNK 64

static int mlk_conv_s16_scales_ok(const struct mlk_check *c)
{
	const struct mlk_conv_s16_params *p = &c->op->conv_s16;
	const s32 *shift = (const s32 *)((const u8 *)c->header + p->shift);
	u32 i;

	if (!mlk_multipliers_ok(c, p->multiplier, p->shift, p->width))
		return 0;
	for (i = 0; p->wide && i < p->width; i++)
		if (shift[i] > MLK_WIDE_MAX_SHIFT)
			return 0;
	return 1;
}

int mlk_check_conv_s16(struct mlk_check *c)
{
	const struct mlk_conv_s16_params *p = &c->op->conv_s16;
	const struct mlk_window *w = &p->window;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	u64 depth, words = (u64)p->width * 4;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_window_ok(w) || !p->groups || !p->channels || !p->width ||
	    p->channels % p->groups || p->width % p->groups || p->wide > 1 ||
	    p->weight_offset < -127 || p->weight_offset > 128 ||
	    p->act_min < -32768 || p->act_max > 32767 ||
	    p->act_min > p->act_max)
		return MLK_REASON_PARAM;
	if (in->dtype != MLK_INT16 || out->dtype != MLK_INT16 ||
	    in->bytes !=
		    2 * mlk_volume(w->batches, w->in_h, w->in_w, p->channels) ||
	    out->bytes !=
		    2 * mlk_volume(w->batches, w->out_h, w->out_w, p->width))
		return MLK_REASON_OPERAND;

	/* anything too large is no place in a program */
	depth = mlk_volume(w->filter_h, w->filter_w, p->channels / p->groups,
			   1);
	c->macs = depth * (out->bytes / 2);
	if (!mlk_data_ok(c, p->weights, depth * p->width) ||
	    !mlk_data_ok(c, p->bias, words * 2) ||
	    !mlk_data_ok(c, p->multiplier, words) ||
	    !mlk_data_ok(c, p->shift, words))
		return MLK_REASON_DATA;
	return mlk_conv_s16_scales_ok(c) ? MLK_REASON_NONE : MLK_REASON_PARAM;
}

static inline s32 mlk_dot_short(const s16 *x, const s8 *w, s32 offset, u32 n)
{
	s32 sum = 0;
	u32 i;

	for (i = 0; i < n; i++)
		sum += x[i] * (w[i] + offset);
	return sum;
}

/* Rows of small networks: four at a time, for gcc does not do that with -O2. */
static inline s32 mlk_dot_few(const s16 *x, const s8 *w, s32 offset, u32 n)
{
	s32 sum = 0;

	for (; n >= 4; n -= 4, x += 4, w += 4)
		sum += x[0] * (w[0] + offset) + x[1] * (w[1] + offset) +
		       x[2] * (w[2] + offset) + x[3] * (w[3] + offset);
	return sum + mlk_dot_short(x, w, offset, n);
}

static u64 mlk_dot_s16(const s16 *x, const s8 *w, s32 offset, u32 n)
{
	u64 sum = 0;

	for (; n >= MLK_S16_CHUNK; n -= MLK_S16_CHUNK) {
		/* a number that the compiler knows makes a vector loop */
		sum += (u64)(s64)mlk_dot_short(x, w, offset, MLK_S16_CHUNK);
		x += MLK_S16_CHUNK;
		w += MLK_S16_CHUNK;
	}
	return sum + (u64)(s64)mlk_dot_few(x, w, offset, n);
}

/* One tap, groups of one channel: weights of all outputs are side by side. */
static void mlk_s16_channels(const struct mlk_conv_s16_params *p,
			     const s16 *pixel, const s8 *w, u32 first, u32 n,
			     u64 *acc)
{
	u32 fold = p->width / p->groups, phase = first % fold, i;

	pixel += first / fold;
	for (i = 0; i < n; i++) {
		acc[i] += (u64)(s64)(*pixel * (w[i] + p->weight_offset));
		if (++phase == fold) {
			phase = 0;
			pixel++;
		}
	}
}

/* One tap, larger groups: weights of an output's channels are side by side. */
static void mlk_s16_groups(const struct mlk_conv_s16_params *p,
			   const s16 *pixel, const s8 *w, u32 first, u32 n,
			   u64 *acc)
{
	u32 depth = p->channels / p->groups, fold = p->width / p->groups;
	u32 phase = first % fold, i;
	size_t step = (size_t)p->window.filter_h * p->window.filter_w * depth;

	pixel += (size_t)(first / fold) * depth;
	w += first * step;
	for (i = 0; i < n; i++, w += step) {
		acc[i] += mlk_dot_s16(pixel, w, p->weight_offset, depth);
		if (++phase == fold) {
			phase = 0;
			pixel += depth;
		}
	}
}

/* One tap, one group: each output has weights for all channels. */
static void mlk_s16_rows(const struct mlk_frame *f, const s16 *pixel,
			 const s8 *w, u32 first, u32 n, u64 *acc)
{
	const struct mlk_conv_s16_params *p = &f->op->conv_s16;
	struct mlk_dots_s16 d = { pixel, w, 0, p->channels, n, acc };
	u32 i;

	d.step = (size_t)p->window.filter_h * p->window.filter_w * p->channels;
	d.w += first * d.step;
	if (f->simd && f->simd->dots_s16 && !p->weight_offset) {
		f->simd->dots_s16(&d);
		return;
	}
	for (i = 0; i < n; i++, d.w += d.step)
		acc[i] += mlk_dot_s16(pixel, d.w, p->weight_offset, d.depth);
}

/* Outputs [first, first + n) of the position whose first tap is at (y, x). */
static void mlk_s16_tile(const struct mlk_frame *f, const s16 *image, s32 y0,
			 s32 x0, u32 first, u32 n, u64 *acc)
{
	const struct mlk_conv_s16_params *p = &f->op->conv_s16;
	const s8 *weights = (const s8 *)(f->program + p->weights);
	const struct mlk_window *w = &p->window;
	/* small networks feel a division */
	u32 depth = p->groups == 1 ? p->channels : p->channels / p->groups;
	size_t tap = 0;
	u32 ky, kx;

	for (ky = 0; ky < w->filter_h; ky++) {
		u32 y = (u32)(y0 + (s32)(ky * w->dilation_h));

		for (kx = 0; kx < w->filter_w; kx++, tap++) {
			u32 x = (u32)(x0 + (s32)(kx * w->dilation_w));
			const s16 *pixel;

			/* above or left of the image is beyond it, too */
			if (y >= w->in_h || x >= w->in_w)
				continue;
			pixel = image + ((size_t)y * w->in_w + x) * p->channels;
			if (depth == 1)
				mlk_s16_channels(p, pixel,
						 weights + tap * p->width +
							 first,
						 first, n, acc);
			else if (p->groups == 1)
				mlk_s16_rows(f, pixel, weights + tap * depth,
					     first, n, acc);
			else
				mlk_s16_groups(p, pixel, weights + tap * depth,
					       first, n, acc);
		}
	}
}

/* All outputs of one position. */
static void mlk_s16_pixel(const struct mlk_frame *f, const s16 *image, s32 y,
			  s32 x, s16 *out)
{
	const struct mlk_conv_s16_params *p = &f->op->conv_s16;
	const s32 *multiplier = (const s32 *)(f->program + p->multiplier);
	const s32 *shift = (const s32 *)(f->program + p->shift);
	const u64 *bias = (const u64 *)(f->program + p->bias);
	u32 first, n, i;
	u64 acc[MLK_TILE];

	for (first = 0; first < p->width; first += n) {
		n = mlk_tile(p->width - first);
		for (i = 0; i < n; i++)
			acc[i] = bias[first + i];
		mlk_s16_tile(f, image, y, x, first, n, acc);
		for (i = 0; i < n; i++) {
			s32 m = multiplier[first + i], s = shift[first + i];
			s32 q = p->wide ? mlk_requant_wide(acc[i], m, s) :
					  mlk_requant((s32)(u32)acc[i], m, s);

			out[first + i] =
				(s16)mlk_clamp(q, p->act_min, p->act_max);
		}
	}
}

void mlk_run_conv_s16(const struct mlk_frame *f)
{
	const struct mlk_conv_s16_params *p = &f->op->conv_s16;
	const struct mlk_window *w = &p->window;
	const s16 *image = mlk_in(f, 0);
	s16 *out = mlk_out(f, 0);
	u32 batch, row, column;

	for (batch = 0; batch < w->batches; batch++) {
		for (row = 0; row < w->out_h; row++) {
			s32 y = (s32)(row * w->stride_h - w->pad_h);

			for (column = 0; column < w->out_w; column++) {
				s32 x = (s32)(column * w->stride_w - w->pad_w);

				mlk_s16_pixel(f, image, y, x, out);
				out += p->width;
			}
		}
		image += (size_t)w->in_h * w->in_w * p->channels;
	}
}

#endif /* MLK_CONFIG_CONV_S16 */
