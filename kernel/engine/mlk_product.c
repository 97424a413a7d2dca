// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Matrix products of int8 with packed weights: what FULLY_CONNECTED and CONV_2D
 * spend their time in. Arithmetic: tensorflow/lite/kernels/internal/reference/
 * integer_ops/{fully_connected,conv}.h. The input offset times the sum of a
 * row's weights is a constant, so the program carries it in the bias.
 */
#include "mlk_fixed.h"
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

/* Sums wrap modulo 2^32 like the reference's do on every target. */
static inline u32 mlk_dot4(u32 sum, const s8 *x, const s8 *w)
{
	return sum + (u32)((s32)x[0] * w[0] + (s32)x[1] * w[1] +
			   (s32)x[2] * w[2] + (s32)x[3] * w[3]);
}

static inline s8 mlk_product_output(const struct mlk_product *p, u32 acc, u32 i)
{
	u32 q = (u32)mlk_requant((s32)acc, p->multiplier[i], p->shift[i]);

	/* unsigned: hostile scales wrap, never overflow */
	q += (u32)p->out_zero_point;
	return (s8)mlk_clamp((s32)q, p->act_min, p->act_max);
}

/*
 * Four outputs of a row, @w at the first of them: an input byte is loaded once
 * for all. @rest holds what is left of the row behind its last whole four.
 */
static void mlk_product_4(const struct mlk_product *p, const s8 *in,
			  const s8 *rest, const s8 *w, u32 first, s8 *out)
{
	u32 a0 = (u32)p->bias[first], a1 = (u32)p->bias[first + 1];
	u32 a2 = (u32)p->bias[first + 2], a3 = (u32)p->bias[first + 3];
	u32 left = p->width - first, i;
	const s8 *end = in + (p->depth & ~3u);
	s8 q[4];

	for (; in < end; in += 4) {
		a0 = mlk_dot4(a0, in, w);
		a1 = mlk_dot4(a1, in, w + 4);
		a2 = mlk_dot4(a2, in, w + 8);
		a3 = mlk_dot4(a3, in, w + 12);
		w += MLK_BLOCK_OUTPUTS * MLK_BLOCK_INPUTS;
	}
	if (p->depth & 3) {
		a0 = mlk_dot4(a0, rest, w);
		a1 = mlk_dot4(a1, rest, w + 4);
		a2 = mlk_dot4(a2, rest, w + 8);
		a3 = mlk_dot4(a3, rest, w + 12);
	}
	q[0] = mlk_product_output(p, a0, first);
	if (left >= 4) {
		out[0] = q[0];
		out[1] = mlk_product_output(p, a1, first + 1);
		out[2] = mlk_product_output(p, a2, first + 2);
		out[3] = mlk_product_output(p, a3, first + 3);
		return;
	}
	q[1] = mlk_product_output(p, a1, first + 1);
	q[2] = mlk_product_output(p, a2, first + 2);
	for (i = 0; i < left; i++)
		out[i] = q[i];
}

void mlk_product_c(const struct mlk_product *p)
{
	size_t block = (size_t)mlk_input_blocks(p->depth) * MLK_BLOCK_OUTPUTS *
		       MLK_BLOCK_INPUTS;
	const s8 *in = p->in;
	s8 *out = p->out;
	u32 row, i;

	for (row = 0; row < p->rows; row++) {
		s8 rest[4] = { 0 };

		for (i = p->depth & ~3u; i < p->depth; i++)
			rest[i & 3] = in[i];
		for (i = 0; i < p->width; i += 4) {
			const s8 *w = p->packed;

			w += i / 16 * block;
			w += (size_t)(i % 16) * MLK_BLOCK_INPUTS;
			mlk_product_4(p, in, rest, w, i, out + i);
		}
		in += p->in_stride;
		out += p->out_stride;
	}
}
