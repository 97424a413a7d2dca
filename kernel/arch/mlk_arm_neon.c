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

/* From four taps of each channel to 16 channels of each tap. */
MLK_TARGET static void mlk_lanes_ready(struct mlk_lanes *l)
{
	u32 tap;

	for (tap = 0; tap < l->p.depth; tap += 4) {
		int8x16x4_t w = vld4q_s8(l->w + 16 * tap);

		vst1q_s8(l->w + 16 * tap, w.val[0]);
		vst1q_s8(l->w + 16 * tap + 16, w.val[1]);
		vst1q_s8(l->w + 16 * tap + 32, w.val[2]);
		vst1q_s8(l->w + 16 * tap + 48, w.val[3]);
	}
}

/* The @n outputs of a place. */
MLK_TARGET static MLK_INLINE void
mlk_lanes_place(const struct mlk_lanes *l, const struct mlk_place *place, u32 n)
{
	int32x4_t acc[4];
	u32 j, tap;

#pragma GCC unroll 4
	for (j = 0; j < 4; j++)
		acc[j] = vld1q_s32(l->bias + 4 * j);
	for (tap = 0; tap < l->p.depth; tap++) {
		int8x16_t x = mlk_load16(place->tap[tap] + place->shift, n);
		int8x16_t w = vld1q_s8(l->w + 16 * tap);
		int16x8_t lo = vmull_s8(vget_low_s8(x), vget_low_s8(w));
		int16x8_t hi = vmull_s8(vget_high_s8(x), vget_high_s8(w));

		acc[0] = vaddw_s16(acc[0], vget_low_s16(lo));
		acc[1] = vaddw_s16(acc[1], vget_high_s16(lo));
		acc[2] = vaddw_s16(acc[2], vget_low_s16(hi));
		acc[3] = vaddw_s16(acc[3], vget_high_s16(hi));
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

static void mlk_depthwise_neon(const struct mlk_depthwise *d)
{
	mlk_depthwise_lanes(d, mlk_lanes_ready, mlk_lanes_run);
}

/* 16 elements with their offset; there may be just one, for all. */
MLK_TARGET static inline int16x8x2_t mlk_operand16(const s8 *x, u32 step, u32 i,
						   u32 n, s32 offset)
{
	int8x16_t bytes = step ? mlk_load16(x + i, n) : vdupq_n_s8(*x);
	int16x8_t add = vdupq_n_s16((s16)offset);
	int16x8x2_t wide;

	wide.val[0] = vaddw_s8(add, vget_low_s8(bytes));
	wide.val[1] = vaddw_s8(add, vget_high_s8(bytes));
	return wide;
}

/* Four elements of an operand on the common scale. */
MLK_TARGET static inline int32x4_t mlk_align(const struct mlk_binary_params *p,
					     int16x4_t x, s32 multiplier,
					     s32 shift)
{
	int32x4_t left = vdupq_n_s32((s32)p->left_shift);

	return mlk_requant4(vshlq_s32(vmovl_s16(x), left),
			    vdupq_n_s32(multiplier), vdupq_n_s32(shift));
}

MLK_TARGET static inline int32x4_t
mlk_binary4(const struct mlk_binary_params *p, int16x4_t x, int16x4_t y)
{
	int32x4_t result;

	if (p->kind == MLK_BINARY_MUL) {
		result = vmull_s16(x, y);
	} else {
		int32x4_t a = mlk_align(p, x, p->multiplier1, p->shift1);
		int32x4_t b = mlk_align(p, y, p->multiplier2, p->shift2);

		result = p->kind == MLK_BINARY_ADD ? vaddq_s32(a, b) :
						     vsubq_s32(a, b);
	}
	return mlk_requant4(result, vdupq_n_s32(p->multiplier),
			    vdupq_n_s32(p->shift));
}

MLK_TARGET void mlk_binary_neon(const struct mlk_binary_row *row)
{
	const struct mlk_binary_params *p = row->params;
	u32 i, j;

	for (i = 0; i < row->n; i += 16) {
		u32 n = row->n - i;
		int16x8x2_t x =
			mlk_operand16(row->x, row->x_step, i, n, p->offset1);
		int16x8x2_t y =
			mlk_operand16(row->y, row->y_step, i, n, p->offset2);
		int32x4_t sums[4];

#pragma GCC unroll 2
		for (j = 0; j < 2; j++) {
			sums[2 * j] = mlk_binary4(p, vget_low_s16(x.val[j]),
						  vget_low_s16(y.val[j]));
			sums[2 * j + 1] = mlk_binary4(p,
						      vget_high_s16(x.val[j]),
						      vget_high_s16(y.val[j]));
		}
		mlk_store16(row->out + i,
			    mlk_narrow(sums, p->out_zero_point, p->act_min,
				       p->act_max),
			    n);
	}
}

/* Four channels of a pixel, added or compared. */
MLK_TARGET static inline int32x4_t mlk_pool4(int32x4_t acc, int16x4_t x,
					     u32 kind)
{
	return kind == MLK_POOL_MAX ? vmaxq_s32(acc, vmovl_s16(x)) :
				      vaddw_s16(acc, x);
}

MLK_TARGET void mlk_pool_neon(const struct mlk_pool_line *l)
{
	u32 first, i, j;

	for (first = 0; first < l->channels; first += 16) {
		u32 n = l->channels - first < 16 ? l->channels - first : 16;
		const s8 *x = l->x + first;
		s32 some[16] = { 0 };
		int32x4_t acc[4];

		memcpy(some, l->acc + first, n * sizeof(*some));
#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			acc[j] = vld1q_s32(some + 4 * j);
		for (i = 0; i < l->pixels; i++, x += l->stride) {
			int8x16_t v = mlk_load16(x, n);
			int16x8_t lo = vmovl_s8(vget_low_s8(v));
			int16x8_t hi = vmovl_s8(vget_high_s8(v));

			acc[0] = mlk_pool4(acc[0], vget_low_s16(lo), l->kind);
			acc[1] = mlk_pool4(acc[1], vget_high_s16(lo), l->kind);
			acc[2] = mlk_pool4(acc[2], vget_low_s16(hi), l->kind);
			acc[3] = mlk_pool4(acc[3], vget_high_s16(hi), l->kind);
		}
#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			vst1q_s32(some + 4 * j, acc[j]);
		memcpy(l->acc + first, some, n * sizeof(*some));
	}
}

const struct mlk_simd mlk_simd_neon = {
	.name = "neon",
	.product = mlk_product_neon,
	.depthwise = mlk_depthwise_neon,
	.binary = mlk_binary_neon,
	.pool = mlk_pool_neon,
};

#endif /* MLK_ARCH_NEON */
