// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Matrix products of int8 with packed weights: what FULLY_CONNECTED and CONV_2D
 * spend their time in. Arithmetic: tensorflow/lite/kernels/internal/reference/
 * integer_ops/{fully_connected,conv}.h. The input offset times the sum of a
 * row's weights is a constant, so the program carries it in the bias.
 */
#include "mlk_op.h"

#define MLK_BLOCK_BYTES (MLK_BLOCK_OUTPUTS * MLK_BLOCK_INPUTS)

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
		.line_stride = 0,
		.runs = 1,
		.run_stride = 0,
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
		.padded = 0,
		.readable = 0,
	};
}

/* The sums of four outputs, for as many inputs as they cannot overflow with. */
#define MLK_SUMS_INPUTS 0x10000u

#if __SIZEOF_POINTER__ == 8

/*
 * Two outputs share a word: one multiplication makes a product for both. That of
 * the second is in the upper half, from which the first's borrows if it is
 * negative. Weights have 128 added, so that each is a byte without a sign;
 * @added is the sum of the inputs, which tells how much too much that is.
 */
struct mlk_sums {
	u64 pair;
	u64 next;
	long added;
};

/* Four inputs times the weights of two outputs. */
static MLK_INLINE u64 mlk_mac_pair(const s8 *w, long x0, long x1, long x2,
				   long x3)
{
	const u64 bytes = 0x000000ff000000ff;
	u64 v;

	/* a load and never a call: blocks are aligned */
	__builtin_memcpy(&v, __builtin_assume_aligned(w, 8), 8);
	v ^= 0x8080808080808080;
	return (v & bytes) * (u64)x0 + (v >> 8 & bytes) * (u64)x1 +
	       (v >> 16 & bytes) * (u64)x2 + (v >> 24 & bytes) * (u64)x3;
}

static MLK_INLINE void mlk_mac(struct mlk_sums *sums, const s8 *w, long x0,
			       long x1, long x2, long x3)
{
	sums->pair += mlk_mac_pair(w, x0, x1, x2, x3);
	sums->next += mlk_mac_pair(w + 8, x0, x1, x2, x3);
	sums->added += x0 + x1 + x2 + x3;
}

static MLK_INLINE void mlk_add_pair(u32 *acc, u64 pair, u32 added)
{
	u32 first = (u32)pair;

	acc[0] += first - added;
	acc[1] += (u32)(pair >> 32) + (first >> 31) - added;
}

static MLK_INLINE void mlk_add_sums(u32 *acc, const struct mlk_sums *sums)
{
	u32 added = (u32)sums->added * 128;

	mlk_add_pair(acc, sums->pair, added);
	mlk_add_pair(acc + 2, sums->next, added);
}

#else /* multiplications of 64 bits are dear */

struct mlk_sums {
	u32 sum[4];
};

static MLK_INLINE u32 mlk_mac_one(const s8 *w, long x0, long x1, long x2,
				  long x3)
{
	return (u32)(x0 * w[0] + x1 * w[1] + x2 * w[2] + x3 * w[3]);
}

static MLK_INLINE void mlk_mac(struct mlk_sums *sums, const s8 *w, long x0,
			       long x1, long x2, long x3)
{
	sums->sum[0] += mlk_mac_one(w, x0, x1, x2, x3);
	sums->sum[1] += mlk_mac_one(w + 4, x0, x1, x2, x3);
	sums->sum[2] += mlk_mac_one(w + 8, x0, x1, x2, x3);
	sums->sum[3] += mlk_mac_one(w + 12, x0, x1, x2, x3);
}

static MLK_INLINE void mlk_add_sums(u32 *acc, const struct mlk_sums *sums)
{
	u32 i;

	for (i = 0; i < 4; i++)
		acc[i] += sums->sum[i];
}

#endif

/*
 * Up to MLK_SUMS_INPUTS of a row's inputs, times four outputs. Returns the
 * weights behind them.
 */
static MLK_INLINE const s8 *mlk_mac_run(u32 *acc, const s8 *w, const s8 *x,
					u32 run)
{
	struct mlk_sums sums = { 0 };

	for (; run >= 4; run -= 4, x += 4, w += MLK_BLOCK_BYTES)
		mlk_mac(&sums, w, x[0], x[1], x[2], x[3]);
	if (run) {
		mlk_mac(&sums, w, x[0], run > 1 ? x[1] : 0, run > 2 ? x[2] : 0,
			0);
		w += MLK_BLOCK_BYTES;
	}
	mlk_add_sums(acc, &sums);
	return w;
}

/*
 * Four outputs from number @i on, of which those that are there are stored. Sums
 * wrap modulo 2^32 like the reference's do on every target.
 */
static MLK_INLINE void mlk_product_four(const struct mlk_product *p,
					const s8 *in, const s8 *w, u32 i,
					s8 *out)
{
	u32 n = p->width - i;
	const s32 *bias = p->bias + i;
	u32 acc[4] = { (u32)bias[0], (u32)bias[1], (u32)bias[2], (u32)bias[3] };
	u32 line, run, k;

	for (line = 0; line < p->lines; line++, in += p->line_stride) {
		const s8 *x = in;

		for (run = 0; run < p->runs; run++, x += p->run_stride)
			for (k = 0; k < p->run; k += MLK_SUMS_INPUTS)
				w = mlk_mac_run(acc, w, x + k,
						p->run - k < MLK_SUMS_INPUTS ?
							p->run - k :
							MLK_SUMS_INPUTS);
	}
	out[i] = mlk_product_output(p, acc[0], i);
	if (n > 1)
		out[i + 1] = mlk_product_output(p, acc[1], i + 1);
	if (n > 2)
		out[i + 2] = mlk_product_output(p, acc[2], i + 2);
	if (n > 3)
		out[i + 3] = mlk_product_output(p, acc[3], i + 3);
}

static void mlk_product_row(const struct mlk_product *p, const s8 *in, s8 *out)
{
	size_t block = (size_t)mlk_input_blocks(p->depth) * MLK_BLOCK_BYTES;
	const s8 *w = p->packed;
	u32 i, j;

	for (i = 0; i < p->width; i += MLK_BLOCK_OUTPUTS, w += block)
		for (j = 0; j < MLK_BLOCK_OUTPUTS && i + j < p->width; j += 4)
			mlk_product_four(p, in, w + 4 * j, i + j, out);
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
