/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What ARM's loops share. MLK_TARGET is the instruction set of the including
 * file: these functions are compiled for it too, and so can be inlined.
 */
#ifndef MLK_ARM_H
#define MLK_ARM_H

#include <arm_neon.h>

#include "mlk_lanes.h"

/* What a newer instruction set does not do better. */
void mlk_binary_neon(const struct mlk_binary_row *row);
void mlk_pool_neon(const struct mlk_pool_line *l);
void mlk_depthwise_dotprod(const struct mlk_depthwise *d);

/* mlk_requant() of 4 sums */
MLK_TARGET static inline int32x4_t
mlk_requant4(int32x4_t x, int32x4_t multiplier, int32x4_t shift)
{
	const int32x4_t zero = vdupq_n_s32(0);
	const int32x4_t right = vminq_s32(shift, zero);

	x = vshlq_s32(x, vmaxq_s32(shift, zero));
	/* saturates only if both are the least number; a multiplier is >= 0 */
	x = vqrdmulhq_s32(x, multiplier);
	/* ties go up, so a negative number that is shifted starts one lower */
	x = vaddq_s32(x, vshrq_n_s32(vandq_s32(x, right), 31));
	return vrshlq_s32(x, right);
}

/*
 * 16 requantised numbers to bytes. Saturation on the way changes nothing,
 * because the range is that of bytes.
 */
MLK_TARGET static inline int8x16_t
mlk_narrow(const int32x4_t x[4], s32 zero_point, s32 least, s32 most)
{
	const int16x8_t offset = vdupq_n_s16((s16)zero_point);
	int16x8_t lo = vcombine_s16(vqmovn_s32(x[0]), vqmovn_s32(x[1]));
	int16x8_t hi = vcombine_s16(vqmovn_s32(x[2]), vqmovn_s32(x[3]));
	int8x16_t q = vcombine_s8(vqmovn_s16(vqaddq_s16(lo, offset)),
				  vqmovn_s16(vqaddq_s16(hi, offset)));

	q = vmaxq_s8(q, vdupq_n_s8((s8)least));
	return vminq_s8(q, vdupq_n_s8((s8)most));
}

/* 16 bytes, of which at least @n are there. */
MLK_TARGET static inline int8x16_t mlk_load16(const s8 *x, u32 n)
{
	s32 words[4];

	if (n >= 16)
		return vld1q_s8(x);
	mlk_load_words(words, x, n);
	return vreinterpretq_s8_s32(vld1q_s32(words));
}

/* 16 bytes, of which @n may be written. */
MLK_TARGET static inline void mlk_store16(s8 *out, int8x16_t x, u32 n)
{
	s8 q[16];

	if (n >= 16) {
		vst1q_s8(out, x);
		return;
	}
	vst1q_s8(q, x);
	memcpy(out, q, n);
}

/* Sums of outputs from number @i on, of which @n may be written to @out. */
MLK_TARGET static inline void mlk_finish(const struct mlk_product *p,
					 const int32x4_t acc[4], u32 i, s8 *out,
					 u32 n)
{
	int32x4_t x[4];
	u32 j;

#pragma GCC unroll 4
	for (j = 0; j < 4; j++)
		x[j] = mlk_requant4(acc[j],
				    vld1q_s32(p->multiplier + i + 4 * j),
				    vld1q_s32(p->shift + i + 4 * j));
	mlk_store16(out,
		    mlk_narrow(x, p->out_zero_point, p->act_min, p->act_max),
		    n);
}

/* The block of a row at output @i. */
MLK_TARGET static inline void mlk_store(const struct mlk_product *p, s8 *out,
					const int32x4_t acc[4], u32 i)
{
	mlk_finish(p, acc, i, out + i, p->padded ? 16 : p->width - i);
}

#endif /* MLK_ARM_H */
