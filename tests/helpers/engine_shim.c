// SPDX-License-Identifier: MIT
/* Gives the inline arithmetic of mlk_fixed.h symbols that ctypes can call. */
#include "mlk_engine.h"
#include "mlk_fixed.h"

s32 shim_mul_high(s32 a, s32 b);
s32 shim_round_shift(s32 x, u32 exponent);
s32 shim_requant(s32 x, s32 multiplier, s32 shift);
s32 shim_clamp(s32 x, s32 lo, s32 hi);

s32 shim_mul_high(s32 a, s32 b)
{
	return mlk_mul_high(a, b);
}

s32 shim_round_shift(s32 x, u32 exponent)
{
	return mlk_round_shift(x, exponent);
}

s32 shim_requant(s32 x, s32 multiplier, s32 shift)
{
	return mlk_requant(x, multiplier, shift);
}

s32 shim_clamp(s32 x, s32 lo, s32 hi)
{
	return mlk_clamp(x, lo, hi);
}
