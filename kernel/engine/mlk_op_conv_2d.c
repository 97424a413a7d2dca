// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * CONV_2D of int8: a matrix product whose input rows lie in the image or, where
 * the filter reaches beyond it, in a scratch tensor: that has the lines which
 * one line of outputs needs, with the zero point around the image. Of an image
 * with few channels, rows are gathered from there: long ones are multiplied
 * faster than many short pieces.
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

/* Bytes that are contiguous in the image and in the filter. */
static u64 mlk_conv_run(const struct mlk_window *w, u32 channels)
{
	return mlk_conv_dense(w) ? mlk_volume(w->filter_w, channels, 1, 1) :
				   channels;
}

/* Weights of one output: those of long pieces are padded. */
static u64 mlk_conv_depth(const struct mlk_window *w, u32 channels)
{
	u64 run = mlk_conv_run(w, channels);

	if (run > MLK_MAX_ARENA_BYTES)
		return run;
	if (run >= MLK_CONV_SHORT)
		run = (run + 3) & ~(u64)3;
	return mlk_volume(w->filter_h, mlk_conv_dense(w) ? 1 : w->filter_w,
			  (u32)run, 1);
}

/* Lines from the first tap of an output to the last one. */
static u32 mlk_conv_reach(const struct mlk_window *w)
{
	return (w->filter_h - 1) * w->dilation_h + 1;
}

/* Lines of the image, and beyond it, that any output looks at. */
static u32 mlk_conv_span(const struct mlk_window *w)
{
	return (w->out_h - 1) * w->stride_h + mlk_conv_reach(w);
}

/* Lines in the scratch tensor: one more, so that they are moved less often. */
static u32 mlk_conv_room(const struct mlk_window *w)
{
	return mlk_min_u32(mlk_conv_reach(w) + 1, mlk_conv_span(w));
}

/* Rows that are gathered at a time; loops like multiples of 16. */
static u32 mlk_conv_rows(u32 depth)
{
	u32 rows = MLK_CONV_GATHER / depth;

	if (rows > 16)
		rows &= ~15u;
	return rows < MLK_CONV_ROWS ? MLK_CONV_ROWS : rows;
}

/*
 * Scratch: lines, then gathered rows. Behind both is room for what is copied too
 * much: MLK_CONV_SHORT bytes of each piece, whatever its length.
 */
static u64 mlk_conv_scratch(const struct mlk_window *w, u32 channels, u32 depth)
{
	u64 bytes =
		mlk_volume(mlk_conv_room(w), mlk_conv_columns(w), channels, 1);

	if (mlk_conv_run(w, channels) < MLK_CONV_SHORT)
		bytes += MLK_CONV_SHORT +
			 mlk_volume(mlk_conv_rows(depth), depth, 1, 1);
	return bytes + MLK_CONV_SHORT;
}

int mlk_check_conv_2d(struct mlk_check *c)
{
	const struct mlk_conv_params *p = &c->op->conv;
	const struct mlk_window *w = &p->window;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	u32 channels = in->rank == 4 ? in->dims[3] : 0;
	u64 lines;

	c->used_words = sizeof(*p) / 4;
	if (in->dtype != MLK_INT8 || out->dtype != MLK_INT8 || !channels)
		return MLK_REASON_OPERAND;
	if (!mlk_window_ok(w) || !mlk_is_s8(p->in_zero_point))
		return MLK_REASON_PARAM;
	if (!mlk_images_ok(c, w, channels, p->w.width))
		return MLK_REASON_OPERAND;

	/* anything too large is no place in a program or an arena */
	if (mlk_conv_depth(w, channels) != p->w.depth)
		return MLK_REASON_PARAM;
	if (mlk_conv_scratch(w, channels, p->w.depth) > mlk_result(c, 1)->bytes)
		return MLK_REASON_OPERAND;

	c->macs = (u64)out->bytes *
		  mlk_volume(w->filter_h, w->filter_w, channels, 1);
	/* what is left out by huge strides is copied all the same */
	lines = mlk_volume(mlk_conv_span(w), mlk_conv_columns(w), channels, 1);
	lines *= w->batches;
	if (c->macs < lines)
		c->macs = lines;
	return mlk_weights_ok(c, &p->w);
}

/* Do all taps of the line of outputs that begins at row @y lie in the image? */
static int mlk_conv_inside(const struct mlk_window *w, s32 y)
{
	return !w->pad_w && mlk_conv_columns(w) <= w->in_w && y >= 0 &&
	       (u32)y + mlk_conv_reach(w) <= w->in_h;
}

/*
 * Line number @row of the image into the scratch tensor. memmove(), because a
 * hostile program may lay that over the image.
 */
static void mlk_conv_line(const struct mlk_conv_params *p, const s8 *image,
			  u32 channels, u32 row, s8 *to)
{
	const struct mlk_window *w = &p->window;
	u32 columns = mlk_conv_columns(w);
	u32 left = mlk_min_u32(w->pad_w, columns);
	u32 inside = mlk_min_u32(w->in_w, columns - left);
	u32 right = columns - left - inside;

	/* above the image is beyond it, too */
	if (row >= w->in_h) {
		memset(to, p->in_zero_point, (size_t)columns * channels);
		return;
	}
	memset(to, p->in_zero_point, (size_t)left * channels);
	to += (size_t)left * channels;
	memmove(to, image + (size_t)row * w->in_w * channels,
		(size_t)inside * channels);
	to += (size_t)inside * channels;
	memset(to, p->in_zero_point, (size_t)right * channels);
}

/* The scratch tensor's lines: which they are, counted from the first padding. */
struct mlk_lines {
	u32 first;
	u32 next;
};

/*
 * Have the lines of the outputs of line @row in the scratch tensor. Each is
 * copied once, and moved when the end is reached. Returns the first one.
 */
static const s8 *mlk_conv_lines(const struct mlk_conv_params *p,
				const s8 *image, u32 channels, u32 row,
				struct mlk_lines *have, s8 *scratch)
{
	const struct mlk_window *w = &p->window;
	size_t bytes = (size_t)mlk_conv_columns(w) * channels;
	u32 first = row * w->stride_h;
	u32 end = first + mlk_conv_reach(w);

	if (have->next < first) {
		have->first = first;
		have->next = first;
	}
	if (end - have->first > mlk_conv_room(w)) {
		memmove(scratch, scratch + (first - have->first) * bytes,
			(have->next - first) * bytes);
		have->first = first;
	}
	for (; have->next < end; have->next++)
		mlk_conv_line(p, image, channels, have->next - w->pad_h,
			      scratch + (have->next - have->first) * bytes);
	return scratch + (first - have->first) * bytes;
}

/* One image whose filter has long pieces. */
static void mlk_conv_image(const struct mlk_frame *f, const s8 *image,
			   u32 channels, struct mlk_product *product)
{
	const struct mlk_conv_params *p = &f->op->conv;
	const struct mlk_window *w = &p->window;
	size_t padded = (size_t)mlk_conv_columns(w) * channels;
	size_t line = (size_t)w->in_w * channels;
	struct mlk_lines have = { 0 };
	u32 row;

	product->rows = w->out_w;
	for (row = 0; row < w->out_h; row++) {
		u32 y = row * w->stride_h - w->pad_h;

		/* behind the last pixel there may be no word to read */
		if (product->run % 4 == 0 && mlk_conv_inside(w, (s32)y)) {
			product->in = image + y * line;
			product->line_stride = w->dilation_h * line;
		} else {
			product->in = mlk_conv_lines(p, image, channels, row,
						     &have, mlk_out(f, 1));
			product->line_stride = w->dilation_h * padded;
		}
		mlk_multiply(f, product);
		product->out += (size_t)w->out_w * p->w.width;
	}
}

/* Gather the row of the output whose first tap is at @from. */
static void mlk_conv_gather(const struct mlk_product *piece, const s8 *from,
			    s8 *to)
{
	u32 line, run;

	for (line = 0; line < piece->lines; line++) {
		const s8 *x = from;

		for (run = 0; run < piece->runs; run++) {
			/* of a known length, so that it is no call */
			memcpy(to, x, MLK_CONV_SHORT);
			x += piece->run_stride;
			to += piece->run;
		}
		from += piece->line_stride;
	}
}

/* One image whose filter has short pieces. */
static void mlk_conv_short_image(const struct mlk_frame *f, const s8 *image,
				 u32 channels, const struct mlk_product *piece)
{
	const struct mlk_conv_params *p = &f->op->conv;
	const struct mlk_window *w = &p->window;
	size_t padded = (size_t)mlk_conv_columns(w) * channels;
	struct mlk_product product = mlk_product_of(f, &p->w);
	struct mlk_lines have = { 0 };
	u32 most = mlk_conv_rows(p->w.depth);
	s8 *scratch = mlk_out(f, 1);
	s8 *rows = scratch + mlk_conv_room(w) * padded + MLK_CONV_SHORT;
	u32 row, column;

	product.in = rows;
	product.out = piece->out;
	product.readable = 1;
	product.rows = 0;
	for (row = 0; row < w->out_h; row++) {
		const s8 *from =
			mlk_conv_lines(p, image, channels, row, &have, scratch);

		for (column = 0; column < w->out_w; column++) {
			mlk_conv_gather(piece, from,
					rows + product.rows * p->w.depth);
			from += piece->in_stride;
			if (++product.rows < most)
				continue;
			mlk_multiply(f, &product);
			product.out += (size_t)product.rows * p->w.width;
			product.rows = 0;
		}
	}
	if (product.rows)
		mlk_multiply(f, &product);
}

void mlk_run_conv_2d(const struct mlk_frame *f)
{
	const struct mlk_conv_params *p = &f->op->conv;
	const struct mlk_window *w = &p->window;
	u32 channels = f->tensors[f->op->in[0]].dims[3];
	struct mlk_product product = mlk_product_of(f, &p->w);
	const s8 *image = product.in;
	u32 batch;

	product.in_stride = (size_t)w->stride_w * channels;
	product.lines = w->filter_h;
	product.line_stride =
		(size_t)mlk_conv_columns(w) * channels * w->dilation_h;
	product.run = (u32)mlk_conv_run(w, channels);
	product.readable = 1;
	if (!mlk_conv_dense(w)) {
		product.runs = w->filter_w;
		product.run_stride = (size_t)w->dilation_w * channels;
	}
	for (batch = 0; batch < w->batches; batch++) {
		if (product.run < MLK_CONV_SHORT) {
			mlk_conv_short_image(f, image, channels, &product);
			product.out += (size_t)w->out_h * w->out_w * p->w.width;
		} else {
			mlk_conv_image(f, image, channels, &product);
		}
		image += (size_t)w->in_h * w->in_w * channels;
	}
}

#endif /* MLK_CONFIG_CONV_2D */
