// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * NEON, of 64-bit ARM and of ARMv7: products of bytes fit into 16 bits, and two
 * neighbours at a time are added to a sum of 32.
 */
#include "mlk_arch.h"

#ifdef MLK_ARCH_NEON

#ifdef __ARM_NEON
#define MLK_TARGET
#else
#define MLK_TARGET __attribute__((target("fpu=neon")))
#endif

#include "mlk_arm.h"

/* Weights of four outputs times four inputs; each sum is left in two parts. */
MLK_TARGET static inline void mlk_mac(int32x4_t acc[2], const s8 *w, int8x8_t x)
{
	acc[0] = vpadalq_s16(acc[0], vmull_s8(vld1_s8(w), x));
	acc[1] = vpadalq_s16(acc[1], vmull_s8(vld1_s8(w + 8), x));
}

/* The two parts of four sums added up, and their bias. */
MLK_TARGET static inline int32x4_t mlk_join(const s32 *bias,
					    const int32x4_t acc[2])
{
	int32x2_t lo = vpadd_s32(vget_low_s32(acc[0]), vget_high_s32(acc[0]));
	int32x2_t hi = vpadd_s32(vget_low_s32(acc[1]), vget_high_s32(acc[1]));

	return vaddq_s32(vcombine_s32(lo, hi), vld1q_s32(bias));
}

/* One piece of a row. Returns the weights behind it. */
MLK_TARGET static inline const s8 *mlk_run(int32x4_t acc[8], const s8 *in,
					   u32 run, const s8 *w)
{
	u32 k;

	for (k = 0; k < run; k += 4, w += 64) {
		int8x8_t x = vreinterpret_s8_s32(
			vdup_n_s32(mlk_load_word(in + k, run - k)));

		mlk_mac(acc, w, x);
		mlk_mac(acc + 2, w + 16, x);
		mlk_mac(acc + 4, w + 32, x);
		mlk_mac(acc + 6, w + 48, x);
	}
	return w;
}

MLK_TARGET static void mlk_row(const struct mlk_product *p, const s8 *in,
			       s8 *out)
{
	const int32x4_t zero = vdupq_n_s32(0);
	const s8 *w = p->packed;
	u32 i, line, run;

	for (i = 0; i < p->width; i += 16) {
		int32x4_t acc[8] = { zero, zero, zero, zero,
				     zero, zero, zero, zero };
		int32x4_t sums[4];
		const s8 *x = in;

		for (line = 0; line < p->lines; line++, x += p->line_stride)
			for (run = 0; run < p->runs; run++)
				w = mlk_run(acc, x + run * p->run_stride,
					    p->run, w);
		sums[0] = mlk_join(p->bias + i, acc);
		sums[1] = mlk_join(p->bias + i + 4, acc + 2);
		sums[2] = mlk_join(p->bias + i + 8, acc + 4);
		sums[3] = mlk_join(p->bias + i + 12, acc + 6);
		mlk_store(p, out, sums, i);
	}
}

static void mlk_product_neon(const struct mlk_product *p)
{
	u32 row;

	for (row = 0; row < p->rows; row++)
		mlk_row(p, p->in + row * p->in_stride,
			p->out + row * p->out_stride);
}

const struct mlk_simd mlk_simd_neon = {
	.name = "neon",
	.product = mlk_product_neon,
};

#endif /* MLK_ARCH_NEON */
