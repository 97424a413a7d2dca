/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Inner loops for instruction sets, for user space: vector registers need care
 * in a kernel. Each is byte for byte the same as the plain C in kernel/engine.
 */
#ifndef MLK_ARCH_H
#define MLK_ARCH_H

#include "mlk_arch_find.h"
#include "mlk_engine.h"

/*
 * Four bytes of a row as a word; of its last ones only those that are there.
 * No memcpy() of a length that the compiler does not know: that is a call.
 */
static inline s32 mlk_load_word(const s8 *in, u32 left)
{
	u32 x;

	if (left >= 4) {
		memcpy(&x, in, 4);
		return (s32)x;
	}
	x = (u8)in[0];
	if (left > 1)
		x |= (u32)(u8)in[1] << 8;
	if (left > 2)
		x |= (u32)(u8)in[2] << 16;
	return (s32)x;
}

#if defined(__x86_64__)
extern const struct mlk_simd mlk_simd_avx512vnni;
extern const struct mlk_simd mlk_simd_avxvnni;
extern const struct mlk_simd mlk_simd_avx2;
extern const struct mlk_simd mlk_simd_sse2;
#endif

/*
 * Every 64-bit ARM has NEON. For 32 bits only gcc compiles a function for it in
 * a file that is not; its floating point must be in registers.
 */
#if defined(__aarch64__) || (defined(__arm__) && defined(__linux__) && \
			     (defined(__ARM_NEON) || \
			      (defined(__ARM_FP) && !defined(__clang__) && \
			       __ARM_ARCH >= 7 && __ARM_ARCH_PROFILE == 'A')))
#define MLK_ARCH_NEON
extern const struct mlk_simd mlk_simd_neon;
#endif

/* older compilers lack these, or know them only for a whole file */
#if defined(__aarch64__) && defined(__linux__) && \
	((defined(__clang__) && __clang_major__ >= 16) || \
	 (!defined(__clang__) && __GNUC__ >= 10))
#define MLK_ARCH_DOTPROD
extern const struct mlk_simd mlk_simd_dotprod;
extern const struct mlk_simd mlk_simd_i8mm;
#endif

#endif /* MLK_ARCH_H */
