// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * smmla of ARMv8.6: two rows times two outputs, each of 8 inputs. So it takes
 * four rows at a time; what is left of them is done by sdot.
 */
#include "mlk_arch.h"

#ifdef MLK_ARCH_I8MM

#ifdef __ARM_FEATURE_MATMUL_INT8
#define MLK_TARGET
#else
#define MLK_TARGET __attribute__((target("arch=armv8.2-a+i8mm")))
#endif
#define MLK_ROWS 4

#include "mlk_arm.h"

/* The sums of two rows by two outputs, for eight pairs of outputs. */
struct mlk_pair {
	int32x4_t acc[8];
};

/* @w: 16 outputs by 4 inputs; @next: by the next 4 inputs, or NULL for none */
MLK_TARGET static inline void mlk_step(struct mlk_pair sums[2], const s8 *w,
				       const s8 *next, int8x16_t x0,
				       int8x16_t x1)
{
	u32 j;

#pragma GCC unroll 4
	for (j = 0; j < 4; j++) {
		int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(w + 16 * j));
		int32x4_t b = vdupq_n_s32(0);
		int8x16_t lo, hi;

		if (next)
			b = vreinterpretq_s32_s8(vld1q_s8(next + 16 * j));
		lo = vreinterpretq_s8_s32(vzip1q_s32(a, b));
		hi = vreinterpretq_s8_s32(vzip2q_s32(a, b));
		sums[0].acc[2 * j] = vmmlaq_s32(sums[0].acc[2 * j], x0, lo);
		sums[0].acc[2 * j + 1] =
			vmmlaq_s32(sums[0].acc[2 * j + 1], x0, hi);
		sums[1].acc[2 * j] = vmmlaq_s32(sums[1].acc[2 * j], x1, lo);
		sums[1].acc[2 * j + 1] =
			vmmlaq_s32(sums[1].acc[2 * j + 1], x1, hi);
	}
}

/* Eight inputs of two rows, of which the last may have fewer. */
MLK_TARGET static inline int8x16_t mlk_inputs(const s8 *a, const s8 *b,
					      u32 left)
{
	int32x4_t x = vdupq_n_s32(0);

	if (left >= 8)
		return vcombine_s8(vld1_s8(a), vld1_s8(b));
	x = vsetq_lane_s32(mlk_load_word(a, left), x, 0);
	x = vsetq_lane_s32(mlk_load_word(b, left), x, 2);
	if (left > 4) {
		x = vsetq_lane_s32(mlk_load_word(a + 4, left - 4), x, 1);
		x = vsetq_lane_s32(mlk_load_word(b + 4, left - 4), x, 3);
	}
	return vreinterpretq_s8_s32(x);
}

/* Two rows: their sums apart, and the bias. */
MLK_TARGET static inline void mlk_store_pair(const struct mlk_product *p,
					     s8 *out,
					     const struct mlk_pair *sums, u32 i)
{
	int32x4_t a[4], b[4];
	u32 j;

#pragma GCC unroll 4
	for (j = 0; j < 4; j++) {
		const int32x4_t bias = vld1q_s32(p->bias + i + 4 * j);
		int32x4_t lo = sums->acc[2 * j], hi = sums->acc[2 * j + 1];

		a[j] = vcombine_s32(vget_low_s32(lo), vget_low_s32(hi));
		a[j] = vaddq_s32(a[j], bias);
		b[j] = vcombine_s32(vget_high_s32(lo), vget_high_s32(hi));
		b[j] = vaddq_s32(b[j], bias);
	}
	mlk_store(p, out, a, i);
	mlk_store(p, out + p->out_stride, b, i);
}

/* One piece of four rows. Returns the weights behind it. */
MLK_TARGET static inline const s8 *mlk_run(struct mlk_pair sums[2],
					   const struct mlk_product *p,
					   const s8 *in, const s8 *w)
{
	const s8 *in1 = in + p->in_stride;
	const s8 *in2 = in1 + p->in_stride;
	const s8 *in3 = in2 + p->in_stride;
	u32 k, left;

	for (k = 0; k + 8 <= p->run; k += 8, w += 128)
		mlk_step(sums, w, w + 64, mlk_inputs(in + k, in1 + k, 8),
			 mlk_inputs(in2 + k, in3 + k, 8));
	left = p->run - k;
	if (!left)
		return w;
	mlk_step(sums, w, left > 4 ? w + 64 : NULL,
		 mlk_inputs(in + k, in1 + k, left),
		 mlk_inputs(in2 + k, in3 + k, left));
	return w + (left > 4 ? 128 : 64);
}

/* Four rows times a block. Returns the next block's weights. */
MLK_TARGET static const s8 *mlk_tile(const struct mlk_product *p, const s8 *in,
				     s8 *out, const s8 *w, u32 i)
{
	struct mlk_pair sums[2];
	u32 line, run, j;

#pragma GCC unroll 8
	for (j = 0; j < 8; j++) {
		sums[0].acc[j] = vdupq_n_s32(0);
		sums[1].acc[j] = vdupq_n_s32(0);
	}
	for (line = 0; line < p->lines; line++, in += p->line_stride)
		for (run = 0; run < p->runs; run++)
			w = mlk_run(sums, p, in + run * p->run_stride, w);
	mlk_store_pair(p, out, &sums[0], i);
	mlk_store_pair(p, out + 2 * p->out_stride, &sums[1], i);
	return w;
}

MLK_TARGET static void mlk_product_i8mm(const struct mlk_product *p)
{
	struct mlk_product rest = *p;
	const s8 *w;
	u32 i;

	for (; rest.rows >= MLK_ROWS; rest.rows -= MLK_ROWS) {
		for (i = 0, w = p->packed; i < p->width; i += 16)
			w = mlk_tile(p, rest.in, rest.out, w, i);
		rest.in += MLK_ROWS * p->in_stride;
		rest.out += MLK_ROWS * p->out_stride;
	}
	if (rest.rows)
		mlk_simd_dotprod.product(&rest);
}

const struct mlk_simd mlk_simd_i8mm = {
	.name = "i8mm",
	.product = mlk_product_i8mm,
	.depthwise = mlk_depthwise_dotprod,
	.binary = mlk_binary_neon,
	.pool = mlk_pool_neon,
};

#endif /* MLK_ARCH_I8MM */
