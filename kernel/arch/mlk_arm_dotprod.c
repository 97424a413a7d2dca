// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * sdot of ARMv8.2: a quarter of a block, four outputs by four inputs, is one
 * register, and so are the next 16 inputs of a row, of which it takes four.
 */
#include "mlk_arch.h"

#ifdef MLK_ARCH_DOTPROD

#ifdef __ARM_FEATURE_DOTPROD
#define MLK_TARGET
#else
#define MLK_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
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

/*
 * The @n outputs of a place: bytes of four taps are interleaved, which is how
 * sdot takes them.
 */
MLK_TARGET static MLK_INLINE void
mlk_lanes_place(const struct mlk_lanes *l, const struct mlk_place *place, u32 n)
{
	int32x4_t acc[4];
	int8x16_t x[4];
	u32 j, tap;

#pragma GCC unroll 4
	for (j = 0; j < 4; j++)
		acc[j] = vld1q_s32(l->bias + 4 * j);
	for (tap = 0; tap < l->p.depth; tap += 4) {
		int16x8_t lo, hi, lo2, hi2;

#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			x[j] = mlk_load16(place->tap[tap + j] + place->shift,
					  n);
		lo = vreinterpretq_s16_s8(vzip1q_s8(x[0], x[1]));
		hi = vreinterpretq_s16_s8(vzip2q_s8(x[0], x[1]));
		lo2 = vreinterpretq_s16_s8(vzip1q_s8(x[2], x[3]));
		hi2 = vreinterpretq_s16_s8(vzip2q_s8(x[2], x[3]));
		x[0] = vreinterpretq_s8_s16(vzip1q_s16(lo, lo2));
		x[1] = vreinterpretq_s8_s16(vzip2q_s16(lo, lo2));
		x[2] = vreinterpretq_s8_s16(vzip1q_s16(hi, hi2));
		x[3] = vreinterpretq_s8_s16(vzip2q_s16(hi, hi2));
#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			acc[j] = vdotq_s32(acc[j], x[j],
					   vld1q_s8(l->w + 16 * tap + 16 * j));
	}
	mlk_finish(&l->p, acc, 0, place->out, n);
}

MLK_TARGET static void mlk_lanes_run(const void *lanes,
				     const struct mlk_place *place)
{
	/* nearly always all of them: then there is nothing to ask */
	if (place->bytes == 16)
		mlk_lanes_place(lanes, place, 16);
	else
		mlk_lanes_place(lanes, place, place->bytes);
}

void mlk_depthwise_dotprod(const struct mlk_depthwise *d)
{
	mlk_depthwise_lanes(d, NULL, mlk_lanes_run);
}

const struct mlk_simd mlk_simd_dotprod = {
	.name = "dotprod",
	.product = mlk_product_dotprod,
	.depthwise = mlk_depthwise_dotprod,
	.binary = mlk_binary_neon,
	.pool = mlk_pool_neon,
};

#endif /* MLK_ARCH_DOTPROD */
