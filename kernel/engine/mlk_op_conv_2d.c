// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * CONV_2D of int8: a matrix product whose input rows lie in the image, or where
 * the filter reaches beyond it, in a scratch tensor. That has the lines which
 * one line of outputs needs, with the zero point around the image.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/conv.h.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_CONV_2D

/* Columns from the first tap of a line of outputs to the last one. */
static u32 mlk_conv_columns(const struct mlk_window *w)
{
	return (w->out_w - 1) * w->stride_w +
	       (w->filter_w - 1) * w->dilation_w + 1;
}

/* Is a line of the filter contiguous in the image? */
static int mlk_conv_dense(const struct mlk_window *w)
{
	return w->dilation_w == 1 || w->filter_w == 1;
}

int mlk_check_conv_2d(struct mlk_check *c)
{
	const struct mlk_conv_params *p = &c->op->conv;
	const struct mlk_window *w = &p->window;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	u32 channels = in->rank == 4 ? in->dims[3] : 0;
	u64 run, scratch, copied;

	c->used_words = sizeof(*p) / 4;
	if (in->dtype != MLK_INT8 || out->dtype != MLK_INT8 || !channels)
		return MLK_REASON_OPERAND;
	if (!mlk_window_ok(w) || !mlk_is_s8(p->in_zero_point))
		return MLK_REASON_PARAM;
	if (!mlk_images_ok(c, w, channels, p->w.width))
		return MLK_REASON_OPERAND;

	/* anything too large is no place in a program or an arena */
	run = mlk_conv_dense(w) ? mlk_volume(w->filter_w, channels, 1, 1) :
				  channels;
	if (run > MLK_MAX_ARENA_BYTES)
		return MLK_REASON_PARAM;
	if (mlk_volume(w->filter_h, mlk_conv_dense(w) ? 1 : w->filter_w,
		       ((u32)run + 3) & ~3u, 1) != p->w.depth)
		return MLK_REASON_PARAM;
	scratch = mlk_volume(mlk_conv_columns(w), channels, w->filter_h, 1);
	if (scratch > mlk_result(c, 1)->bytes)
		return MLK_REASON_OPERAND;

	/* what is left out by huge strides is copied all the same */
	copied = scratch * w->out_h * w->batches;
	c->macs = (u64)out->bytes *
		  mlk_volume(w->filter_h, w->filter_w, channels, 1);
	if (c->macs < copied)
		c->macs = copied;
	return mlk_weights_ok(c, &p->w);
}

/* Do all taps of the line of outputs that begins at row @y lie in the image? */
static int mlk_conv_inside(const struct mlk_window *w, s32 y)
{
	return !w->pad_w && mlk_conv_columns(w) <= w->in_w && y >= 0 &&
	       (u32)y + (w->filter_h - 1) * w->dilation_h < w->in_h;
}

/*
 * One line of the image into the scratch tensor. memmove(), because a hostile
 * program may lay that over the image.
 */
static void mlk_conv_line(const struct mlk_window *w, const s8 *line,
			  u32 channels, s32 zero, s8 *to)
{
	u32 columns = mlk_conv_columns(w);
	u32 left = mlk_min_u32(w->pad_w, columns);
	u32 inside = mlk_min_u32(w->in_w, columns - left);
	u32 right = columns - left - inside;

	memset(to, zero, (size_t)left * channels);
	to += (size_t)left * channels;
	memmove(to, line, (size_t)inside * channels);
	to += (size_t)inside * channels;
	memset(to, zero, (size_t)right * channels);
}

/* All lines below the filter whose first tap is in row @y. */
static void mlk_conv_lines(const struct mlk_conv_params *p, const s8 *image,
			   u32 channels, s32 y, s8 *scratch)
{
	const struct mlk_window *w = &p->window;
	size_t bytes = (size_t)mlk_conv_columns(w) * channels;
	u32 i;

	for (i = 0; i < w->filter_h; i++, scratch += bytes) {
		u32 row = (u32)y + i * w->dilation_h;

		/* above the image is beyond it, too */
		if (row >= w->in_h)
			memset(scratch, p->in_zero_point, bytes);
		else
			mlk_conv_line(w,
				      image + (size_t)row * w->in_w * channels,
				      channels, p->in_zero_point, scratch);
	}
}

void mlk_run_conv_2d(const struct mlk_frame *f)
{
	const struct mlk_conv_params *p = &f->op->conv;
	const struct mlk_window *w = &p->window;
	u32 channels = f->tensors[f->op->in[0]].dims[3];
	size_t line = (size_t)w->in_w * channels;
	struct mlk_product product = mlk_product_of(f, &p->w);
	const s8 *image = product.in;
	s8 *scratch = mlk_out(f, 1);
	u32 batch, row;

	product.rows = w->out_w;
	product.in_stride = (size_t)w->stride_w * channels;
	product.lines = w->filter_h;
	product.run = channels;
	if (mlk_conv_dense(w)) {
		product.run *= w->filter_w;
	} else {
		product.runs = w->filter_w;
		product.run_stride = (size_t)w->dilation_w * channels;
	}
	for (batch = 0; batch < w->batches; batch++) {
		for (row = 0; row < w->out_h; row++) {
			s32 y = (s32)(row * w->stride_h - w->pad_h);

			if (mlk_conv_inside(w, y)) {
				product.in = image + (size_t)y * line;
				product.line_stride = w->dilation_h * line;
			} else {
				mlk_conv_lines(p, image, channels, y, scratch);
				product.in = scratch;
				product.line_stride =
					(size_t)mlk_conv_columns(w) * channels;
			}
			mlk_multiply(f, &product);
			product.out += (size_t)w->out_w * p->w.width;
		}
		image += w->in_h * line;
	}
}

#endif /* MLK_CONFIG_CONV_2D */
