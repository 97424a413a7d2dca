/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What ARM's loops share. MLK_TARGET is the instruction set of the including
 * file: these functions are compiled for it too, and so can be inlined.
 */
#ifndef MLK_ARM_H
#define MLK_ARM_H

#include <arm_neon.h>

#include "mlk_arch.h"

/* mlk_requant(), the output offset and the clamp, for 4 outputs */
MLK_TARGET static inline int32x4_t mlk_finish(const struct mlk_product *p,
					      int32x4_t x, u32 i)
{
	const int32x4_t zero = vdupq_n_s32(0);
	const int32x4_t shift = vld1q_s32(p->shift + i);
	const int32x4_t right = vminq_s32(shift, zero);

	x = vshlq_s32(x, vmaxq_s32(shift, zero));
	/* saturates only if both are the least number; a multiplier is >= 0 */
	x = vqrdmulhq_s32(x, vld1q_s32(p->multiplier + i));
	/* ties go up, so a negative number that is shifted starts one lower */
	x = vaddq_s32(x, vshrq_n_s32(vandq_s32(x, right), 31));
	x = vrshlq_s32(x, right);
	/* clamped first: no sum overflows */
	x = vmaxq_s32(x, vdupq_n_s32(p->act_min - p->out_zero_point));
	x = vminq_s32(x, vdupq_n_s32(p->act_max - p->out_zero_point));
	return vaddq_s32(x, vdupq_n_s32(p->out_zero_point));
}

/* Sixteen outputs of a row, of which the last block may have fewer. */
MLK_TARGET static inline void mlk_store(const struct mlk_product *p, s8 *out,
					const int32x4_t acc[4], u32 i)
{
	u32 left = p->width - i;
	int16x8_t lo, hi;
	int8x16_t x;
	s8 q[16];

	lo = vcombine_s16(vmovn_s32(mlk_finish(p, acc[0], i)),
			  vmovn_s32(mlk_finish(p, acc[1], i + 4)));
	hi = vcombine_s16(vmovn_s32(mlk_finish(p, acc[2], i + 8)),
			  vmovn_s32(mlk_finish(p, acc[3], i + 12)));
	x = vcombine_s8(vmovn_s16(lo), vmovn_s16(hi));
	if (left >= 16 || p->padded) {
		vst1q_s8(out + i, x);
		return;
	}
	vst1q_s8(q, x);
	memcpy(out + i, q, left);
}

#endif /* MLK_ARM_H */
