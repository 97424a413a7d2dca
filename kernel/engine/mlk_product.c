// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Matrix products of int8 with packed weights: what FULLY_CONNECTED and CONV_2D
 * spend their time in. Arithmetic: tensorflow/lite/kernels/internal/reference/
 * integer_ops/{fully_connected,conv}.h. The input offset times the sum of a
 * row's weights is a constant, so the program carries it in the bias.
 */
#include "mlk_op.h"

static u32 mlk_output_blocks(u32 width)
{
	return width / 16 + (width % 16 != 0);
}

static u32 mlk_input_blocks(u32 depth)
{
	return depth / 4 + (depth % 4 != 0);
}

int mlk_weights_ok(const struct mlk_check *c, const struct mlk_weights *w)
{
	u64 blocks = mlk_output_blocks(w->width);
	u64 words = blocks * MLK_BLOCK_OUTPUTS * 4;
	u64 packed = blocks * mlk_input_blocks(w->depth) * MLK_BLOCK_OUTPUTS *
		     MLK_BLOCK_INPUTS;

	if (!w->depth || !w->width || w->out_zero_point < -128 ||
	    w->out_zero_point > 127 || w->act_min < -128 || w->act_max > 127 ||
	    w->act_min > w->act_max)
		return MLK_REASON_PARAM;
	if (!mlk_data_ok(c, w->packed, packed) ||
	    !mlk_data_ok(c, w->bias, words) ||
	    !mlk_data_ok(c, w->bias_unsigned, words) ||
	    !mlk_data_ok(c, w->multiplier, words) ||
	    !mlk_data_ok(c, w->shift, words))
		return MLK_REASON_DATA;
	if (!mlk_multipliers_ok(c, w->multiplier, w->shift,
				(u32)blocks * MLK_BLOCK_OUTPUTS))
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

struct mlk_product mlk_product_of(const struct mlk_frame *f,
				  const struct mlk_weights *w)
{
	const u8 *base = f->program;

	return (struct mlk_product){
		.in = mlk_in(f, 0),
		.out = mlk_out(f, 0),
		.rows = 1,
		.in_stride = w->depth,
		.out_stride = w->width,
		.lines = 1,
		.runs = 1,
		.run = w->depth,
		.depth = w->depth,
		.width = w->width,
		.packed = (const s8 *)(base + w->packed),
		.bias = (const s32 *)(base + w->bias),
		.bias_unsigned = (const s32 *)(base + w->bias_unsigned),
		.multiplier = (const s32 *)(base + w->multiplier),
		.shift = (const s32 *)(base + w->shift),
		.out_zero_point = w->out_zero_point,
		.act_min = w->act_min,
		.act_max = w->act_max,
	};
}

/*
 * The first @lanes outputs of a block times four inputs. Sums wrap modulo 2^32
 * like the reference's do on every target.
 */
static inline void mlk_mac_block(u32 *acc, const s8 *w, const s8 *x, u32 lanes)
{
	s32 x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
	u32 i;

	for (i = 0; i < lanes; i++, w += MLK_BLOCK_INPUTS)
		acc[i] += (u32)(x0 * w[0] + x1 * w[1] + x2 * w[2] + x3 * w[3]);
}

/*
 * One piece of an input row, and zeros behind its end. Returns the weights
 * behind it.
 */
static inline const s8 *mlk_mac_run(u32 *acc, const s8 *w, const s8 *x, u32 run,
				    u32 lanes)
{
	const u32 step = MLK_BLOCK_OUTPUTS * MLK_BLOCK_INPUTS;
	s8 rest[MLK_BLOCK_INPUTS] = { 0 };
	u32 k;

	for (k = 0; k + 4 <= run; k += 4, w += step)
		mlk_mac_block(acc, w, x + k, lanes);
	if (k == run)
		return w;
	for (; k < run; k++)
		rest[k & 3] = x[k];
	mlk_mac_block(acc, w, rest, lanes);
	return w + step;
}

/*
 * Up to @lanes outputs from number @i on. Inlined for each number of lanes, so
 * that the sums stay in registers.
 */
static inline __attribute__((always_inline)) void
mlk_product_block(const struct mlk_product *p, const s8 *in, const s8 *w, u32 i,
		  s8 *out, u32 lanes)
{
	u32 n = p->width - i < lanes ? p->width - i : lanes;
	u32 acc[MLK_BLOCK_OUTPUTS];
	u32 line, run, j;

	for (j = 0; j < lanes; j++)
		acc[j] = (u32)p->bias[i + j];
	for (line = 0; line < p->lines; line++, in += p->line_stride) {
		const s8 *x = in;

		for (run = 0; run < p->runs; run++, x += p->run_stride)
			w = mlk_mac_run(acc, w, x, p->run, lanes);
	}
	for (j = 0; j < n; j++)
		out[i + j] = mlk_product_output(p, acc[j], i + j);
}

static void mlk_product_row(const struct mlk_product *p, const s8 *in, s8 *out)
{
	size_t block = (size_t)mlk_input_blocks(p->depth) * MLK_BLOCK_OUTPUTS *
		       MLK_BLOCK_INPUTS;
	const s8 *w = p->packed;
	u32 i;

	for (i = 0; i < p->width; i += MLK_BLOCK_OUTPUTS, w += block) {
		if (p->width - i > 8)
			mlk_product_block(p, in, w, i, out, 16);
		else if (p->width - i > 4)
			mlk_product_block(p, in, w, i, out, 8);
		else
			mlk_product_block(p, in, w, i, out, 4);
	}
}

void mlk_product_c(const struct mlk_product *p)
{
	const s8 *in = p->in;
	s8 *out = p->out;
	u32 row;

	for (row = 0; row < p->rows; row++) {
		mlk_product_row(p, in, out);
		in += p->in_stride;
		out += p->out_stride;
	}
}
