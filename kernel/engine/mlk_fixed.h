/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Fixed-point arithmetic, bit for bit that of gemmlowp/fixedpoint/fixedpoint.h
 * and tensorflow/lite/kernels/internal/common.h with double rounding (the form
 * tflite-runtime's reference kernels use).
 */
#ifndef MLK_FIXED_H
#define MLK_FIXED_H

#include "mlk_port.h"

#define MLK_S32_MAX 0x7fffffff
#define MLK_S32_MIN (-MLK_S32_MAX - 1)

static inline s32 mlk_clamp(s32 x, s32 lo, s32 hi)
{
	return x < lo ? lo : x > hi ? hi : x;
}

/*
 * SaturatingRoundingDoublingHighMul. The original adds a nudge of +-2^30 and
 * divides, truncating, by 2^31; adding 2^30 and shifting is the same number for
 * either sign.
 */
static inline s32 mlk_mul_high(s32 a, s32 b)
{
	if (a == MLK_S32_MIN && b == MLK_S32_MIN)
		return MLK_S32_MAX;
	return (s32)(((s64)a * b + (1 << 30)) >> 31);
}

/* RoundingDivideByPOT: ties away from zero; exponent in [0, 31]. */
static inline s32 mlk_round_shift(s32 x, u32 exponent)
{
	s32 half = (s32)((1u << exponent) >> 1);

	/* Without this, exponent 0 would subtract one from negatives. */
	return (s32)(((s64)x + half - (exponent && x < 0)) >> exponent);
}

/*
 * MultiplyByQuantizedMultiplier for multiplier >= 0 and shift in [-31, 30];
 * @left and @right are max(shift, 0) and max(-shift, 0).
 */
static inline s32 mlk_requant(s32 x, s32 multiplier, s32 shift)
{
	u32 left = shift > 0 ? (u32)shift : 0;
	u32 right = shift > 0 ? 0 : (u32)-shift;
	s32 scaled = (s32)((u32)x << left);

	/* multiplier >= 0, so the saturating case of mlk_mul_high cannot be */
	scaled = (s32)(((s64)scaled * multiplier + (1 << 30)) >> 31);
	return mlk_round_shift(scaled, right);
}

#endif /* MLK_FIXED_H */
