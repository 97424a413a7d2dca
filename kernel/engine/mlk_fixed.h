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
	x = x < lo ? lo : x;
	return x > hi ? hi : x;
}

/*
 * @x + @offset inside [@lo, @hi], of which each plus or minus an offset fits.
 * Clamped first, so that the sum cannot overflow whatever @x is.
 */
static inline s32 mlk_offset_clamped(s32 x, s32 offset, s32 lo, s32 hi)
{
	return mlk_clamp(x, lo - offset, hi - offset) + offset;
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
 * MultiplyByQuantizedMultiplier for multiplier >= 0 and shift in [-31, 30]:
 * mlk_mul_high(), whose saturating case cannot be, then mlk_round_shift(). A
 * shift of a shift is one of both, so there is one for both roundings.
 */
static inline s32 mlk_requant(s32 x, s32 multiplier, s32 shift)
{
	s64 product;

	if (shift >= 0)
		x = (s32)((u32)x << shift);
	product = (s64)x * multiplier + (1 << 30);
	if (shift >= 0)
		return (s32)(product >> 31);
	/* ties of negative ones go away from zero */
	product += product >> 63 & -(s64)0x80000000;
	return (s32)(((product >> (30 - shift)) + 1) >> 1);
}

/* A sum, rescaled, as an output with its zero point, inside [@low, @high]. */
static inline s32 mlk_scaled(u32 acc, s32 multiplier, s32 shift, s32 zero,
			     s32 low, s32 high)
{
	return mlk_offset_clamped(mlk_requant((s32)acc, multiplier, shift),
				  zero, low, high);
}

/*
 * MultiplyByQuantizedMultiplier of a 64-bit sum: @multiplier is Q0.15 and >= 0,
 * @shift in [-31, MLK_WIDE_MAX_SHIFT]. Unsigned: hostile sums wrap.
 */
static inline s32 mlk_requant_wide(u64 x, s32 multiplier, s32 shift)
{
	u32 right = (u32)(15 - shift);

	x = x * (u64)multiplier + ((u64)1 << (right - 1));
	return (s32)((s64)x >> right);
}

/*
 * one_over_one_plus_x_for_x_in_0_1: three Newton-Raphson steps on 1/(1+x), @x
 * and the result as Q0.31.
 */
static inline s32 mlk_reciprocal_1p(s32 x)
{
	const s32 c48_17 = 1515870810; /* 48/17 as Q2.29 */
	const s32 cm32_17 = -1010580540; /* -32/17 as Q2.29 */
	s32 half = (s32)(((s64)x + MLK_S32_MAX + 1) >> 1); /* (1 + x) / 2 */
	s32 y = c48_17 + mlk_mul_high(half, cm32_17);
	int i;

	for (i = 0; i < 3; i++) {
		s32 residue = (1 << 29) - mlk_mul_high(half, y);

		/* Q2.29 * Q2.29 is Q4.27: back to Q2.29 */
		y += (s32)((u32)mlk_mul_high(y, residue) << 2);
	}
	/* half reciprocal, Q2.29 -> Q0.31 of 1/(1+x) */
	return y >= (1 << 30) ? MLK_S32_MAX : (s32)((u32)y << 1);
}

/* A left shift of gemmlowp's fixed point, which saturates. */
static inline s32 mlk_shift_saturating(s32 x, u32 exponent)
{
	s64 wide = (s64)x * (1 << exponent);

	return wide > MLK_S32_MAX ? MLK_S32_MAX :
	       wide < MLK_S32_MIN ? MLK_S32_MIN :
				    (s32)wide;
}

/*
 * GetInvSqrtQuantizedMultiplierExp: multiplier and shift of 1/sqrt(@x); the shift
 * is to the left.
 */
static inline s32 mlk_inverse_sqrt(u32 x, s32 *shift)
{
	const s32 three_halves = (1 << 28) + (1 << 27); /* as Q3.28 */
	const s32 half_sqrt_2 = 1518500250; /* as Q0.31 */
	s32 right = 11, half, y = 1 << 28;
	u32 pairs, i;

	*shift = 0;
	if (x <= 1)
		return MLK_S32_MAX;
	while (x >= 1u << 29) {
		x >>= 2;
		right++;
	}
	pairs = (mlk_clz32(x) - 1) / 2 - 1;
	right -= (s32)pairs;
	x <<= 2 * pairs;

	half = mlk_round_shift((s32)(x >> 1), 1);
	for (i = 0; i < 5; i++) {
		/* Q3.28 to the third is Q9.22, times another one Q6.25 */
		s32 cube = mlk_mul_high(mlk_mul_high(y, y), y);

		cube = mlk_shift_saturating(cube, 6);
		y = mlk_shift_saturating(mlk_mul_high(three_halves, y) -
						 mlk_mul_high(half, cube),
					 3);
	}
	y = mlk_mul_high(y, half_sqrt_2);
	if (right < 0) {
		y = (s32)((u32)y << -right);
		right = 0;
	}
	*shift = -right;
	return y;
}

/*
 * LUTLookup of int16: @table has 513 entries, 128 steps of @x apart, with
 * straight lines between them.
 */
static inline s16 mlk_interpolate(const s16 *table, s16 x)
{
	const s16 *at = table + 256 + (x >> 7);
	s16 slope = (s16)(at[1] - at[0]);

	return (s16)(at[0] + ((slope * (x & 0x7f) + 64) >> 7));
}

#endif /* MLK_FIXED_H */
