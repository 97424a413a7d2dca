// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * sdot of ARMv8.2: a quarter of a block, four outputs by four inputs, is one
 * register, and so are the next 16 inputs of a row, of which it takes four.
 */
#include "mlk_arch.h"

#ifdef MLK_ARCH_DOTPROD

#define MLK_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define MLK_ROWS 4

#include "mlk_arm.h"

/* One piece of @rows rows. Returns the weights behind it. */
MLK_TARGET static MLK_INLINE const s8 *mlk_run(int32x4_t acc[MLK_ROWS][4],
					       const struct mlk_product *p,
					       const s8 *in, const s8 *w,
					       u32 rows)
{
	const u32 run = p->run;
	u32 k = 0, j, r;

	for (; k + 16 <= run; k += 16, w += 256)
#pragma GCC unroll 4
		for (j = 0; j < 4; j++) {
			int8x16_t a = vld1q_s8(w + 16 * j);
			int8x16_t b = vld1q_s8(w + 16 * j + 64);
			int8x16_t c = vld1q_s8(w + 16 * j + 128);
			int8x16_t d = vld1q_s8(w + 16 * j + 192);

#pragma GCC unroll 4
			for (r = 0; r < rows; r++) {
				int8x16_t x =
					vld1q_s8(in + r * p->in_stride + k);
				int32x4_t sum = acc[r][j];

				sum = vdotq_laneq_s32(sum, a, x, 0);
				sum = vdotq_laneq_s32(sum, b, x, 1);
				sum = vdotq_laneq_s32(sum, c, x, 2);
				acc[r][j] = vdotq_laneq_s32(sum, d, x, 3);
			}
		}
	for (; k < run; k += 4, w += 64)
#pragma GCC unroll 4
		for (r = 0; r < rows; r++) {
			s32 word = mlk_load_word(in + r * p->in_stride + k,
						 run - k);
			int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(word));

#pragma GCC unroll 4
			for (j = 0; j < 4; j++)
				acc[r][j] = vdotq_s32(acc[r][j],
						      vld1q_s8(w + 16 * j), x);
		}
	return w;
}

/*
 * @rows rows (one or MLK_ROWS) times a block; weights are loaded once for all.
 * Returns the next block's weights.
 */
MLK_TARGET static MLK_INLINE const s8 *mlk_tile(const struct mlk_product *p,
						const s8 *in, s8 *out,
						const s8 *w, u32 i, u32 rows)
{
	int32x4_t acc[MLK_ROWS][4];
	u32 line, run, j, r;

#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			acc[r][j] = vld1q_s32(p->bias + i + 4 * j);
	for (line = 0; line < p->lines; line++, in += p->line_stride)
		for (run = 0; run < p->runs; run++)
			w = mlk_run(acc, p, in + run * p->run_stride, w, rows);
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		mlk_store(p, out + r * p->out_stride, acc[r], i);
	return w;
}

MLK_TARGET static void mlk_product_dotprod(const struct mlk_product *p)
{
	const s8 *in = p->in, *w;
	s8 *out = p->out;
	u32 row = 0, i;

	for (; row + MLK_ROWS <= p->rows; row += MLK_ROWS) {
		for (i = 0, w = p->packed; i < p->width; i += 16)
			w = mlk_tile(p, in, out, w, i, MLK_ROWS);
		in += MLK_ROWS * p->in_stride;
		out += MLK_ROWS * p->out_stride;
	}
	for (; row < p->rows; row++) {
		for (i = 0, w = p->packed; i < p->width; i += 16)
			w = mlk_tile(p, in, out, w, i, 1);
		in += p->in_stride;
		out += p->out_stride;
	}
}

const struct mlk_simd mlk_simd_dotprod = {
	.name = "dotprod",
	.product = mlk_product_dotprod,
};

#endif /* MLK_ARCH_DOTPROD */
