// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * CONV_2D of int8: the input pixels under the kernel are gathered into rows of a
 * scratch tensor, a tile of outputs at a time, and multiplied with the weights.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/conv.h.
 * A kernel of one pixel needs no gathering; it is a FULLY_CONNECTED.
 */
#include "mlk_op.h"

#if MLK_CONFIG_CONV_2D

/* Keeps every coordinate, at most 2 * MAX * MAX, inside 31 bits. */
#define MLK_CONV_MAX 0x7fffu

static int mlk_in_range(u32 x, u32 least)
{
	return x >= least && x <= MLK_CONV_MAX;
}

int mlk_check_conv_2d(struct mlk_check *c)
{
	const struct mlk_conv_params *p = &c->op->conv;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	u64 taps;
	u32 i;

	c->used_words = sizeof(*p) / 4;
	if (in->rank != 4 || out->rank != 4 || in->dims[0] != out->dims[0] ||
	    in->dtype != MLK_INT8 || out->dtype != MLK_INT8)
		return MLK_REASON_OPERAND;
	for (i = 1; i < 4; i++)
		if (in->dims[i] > MLK_CONV_MAX || out->dims[i] > MLK_CONV_MAX)
			return MLK_REASON_OPERAND;
	if (!mlk_in_range(p->kernel_h, 1) || !mlk_in_range(p->kernel_w, 1) ||
	    !mlk_in_range(p->stride_h, 1) || !mlk_in_range(p->stride_w, 1) ||
	    !mlk_in_range(p->dilation_h, 1) ||
	    !mlk_in_range(p->dilation_w, 1) || !mlk_in_range(p->pad_top, 0) ||
	    !mlk_in_range(p->pad_left, 0) || p->in_zero_point < -128 ||
	    p->in_zero_point > 127 || !p->tile)
		return MLK_REASON_PARAM;
	/* at most 2^48 */
	taps = (u64)p->kernel_h * p->kernel_w * in->dims[3];
	if (taps != p->w.depth || p->w.width != out->dims[3])
		return MLK_REASON_PARAM;
	if ((u64)p->tile * p->w.depth > mlk_result(c, 1)->bytes)
		return MLK_REASON_OPERAND;
	/* the outputs, at most 2^28, times at most 2^32 */
	c->macs = (u64)out->bytes * p->w.depth;
	return mlk_weights_ok(c, &p->w);
}

/*
 * One row of the kernel at (@y, @x) of the image @in, into @to; the part of it
 * that lies outside of the image is zero. memmove(), because a hostile program
 * may lay the scratch tensor over the image.
 */
static void mlk_gather_row(const struct mlk_conv_params *p,
			   const struct mlk_tensor *t, const s8 *in, s32 y,
			   s32 x, s8 *to)
{
	s32 height = (s32)t->dims[1], width = (s32)t->dims[2];
	u32 channels = t->dims[3];
	u32 i;

	if (y < 0 || y >= height) {
		memset(to, p->in_zero_point, (size_t)p->kernel_w * channels);
		return;
	}
	in += (size_t)y * t->dims[2] * channels;
	if (p->dilation_w == 1 && x >= 0 && x + (s32)p->kernel_w <= width) {
		memmove(to, in + (size_t)x * channels,
			(size_t)p->kernel_w * channels);
		return;
	}
	for (i = 0; i < p->kernel_w; i++) {
		if (x >= 0 && x < width)
			memmove(to, in + (size_t)x * channels, channels);
		else
			memset(to, p->in_zero_point, channels);
		to += channels;
		x += (s32)p->dilation_w;
	}
}

/* All pixels under the kernel for output number @n of an image. */
static void mlk_gather(const struct mlk_conv_params *p,
		       const struct mlk_tensor *t, const s8 *in, u32 out_y,
		       u32 out_x, s8 *to)
{
	s32 y = (s32)(out_y * p->stride_h) - (s32)p->pad_top;
	s32 x = (s32)(out_x * p->stride_w) - (s32)p->pad_left;
	u32 i;

	for (i = 0; i < p->kernel_h; i++) {
		mlk_gather_row(p, t, in, y, x, to);
		to += (size_t)p->kernel_w * t->dims[3];
		y += (s32)p->dilation_h;
	}
}

void mlk_run_conv_2d(const struct mlk_frame *f)
{
	const struct mlk_conv_params *p = &f->op->conv;
	const struct mlk_tensor *in = f->tensors + f->op->in[0];
	const struct mlk_tensor *out = f->tensors + f->op->out[0];
	size_t image = (size_t)in->dims[1] * in->dims[2] * in->dims[3];
	struct mlk_product product = mlk_product_of(f, &p->w);
	const s8 *from = mlk_in(f, 0);
	s8 *scratch = mlk_out(f, 1);
	u32 batch, y, x;

	product.in = scratch;
	product.out = mlk_out(f, 0);
	product.in_stride = p->w.depth;
	product.out_stride = p->w.width;
	product.rows = 0;
	for (batch = 0; batch < out->dims[0]; batch++, from += image)
		for (y = 0; y < out->dims[1]; y++)
			for (x = 0; x < out->dims[2]; x++) {
				mlk_gather(p, in, from, y, x,
					   scratch + (size_t)product.rows *
							     p->w.depth);
				if (++product.rows < p->tile)
					continue;
				mlk_multiply(f, &product);
				product.out +=
					(size_t)product.rows * p->w.width;
				product.rows = 0;
			}
	if (product.rows)
		mlk_multiply(f, &product);
}

#endif /* MLK_CONFIG_CONV_2D */
