// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * AVX2, and AVX-VNNI, which differs only in how four bytes are multiplied: a
 * block of 16 outputs is two registers of 8.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "mlk_arch.h"

#define MLK_AVX2 __attribute__((target("avx2")))
#define MLK_AVXVNNI __attribute__((target("avx2,avxvnni")))

/* mlk_requant(), the output offset and the clamp, for 8 outputs */
MLK_AVX2 static inline __m256i mlk_finish(const struct mlk_product *p,
					  __m256i acc, u32 i)
{
	const __m256i one = _mm256_set1_epi32(1);
	const __m256i nudge = _mm256_set1_epi64x(1 << 30);
	const __m256i zero = _mm256_setzero_si256();
	const __m256i m =
		_mm256_loadu_si256((const __m256i *)(p->multiplier + i));
	const __m256i shift =
		_mm256_loadu_si256((const __m256i *)(p->shift + i));
	const __m256i left = _mm256_max_epi32(shift, zero);
	const __m256i right =
		_mm256_max_epi32(_mm256_sub_epi32(zero, shift), zero);
	__m256i x = _mm256_sllv_epi32(acc, left);
	__m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, m), nudge);
	__m256i odd =
		_mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32),
						  _mm256_srli_epi64(m, 32)),
				 nudge);
	__m256i mask, remainder, threshold;

	/* bits 31 to 62 of each product */
	x = _mm256_blend_epi32(_mm256_srli_epi64(even, 31),
			       _mm256_slli_epi64(odd, 1), 0xaa);
	/* the rounding shift, ties away from zero */
	mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right), one);
	remainder = _mm256_and_si256(x, mask);
	threshold = _mm256_add_epi32(_mm256_srli_epi32(mask, 1),
				     _mm256_srli_epi32(x, 31));
	x = _mm256_sub_epi32(_mm256_srav_epi32(x, right),
			     _mm256_cmpgt_epi32(remainder, threshold));
	/* clamped first: no sum overflows */
	x = _mm256_max_epi32(x,
			     _mm256_set1_epi32(p->act_min - p->out_zero_point));
	x = _mm256_min_epi32(x,
			     _mm256_set1_epi32(p->act_max - p->out_zero_point));
	return _mm256_add_epi32(x, _mm256_set1_epi32(p->out_zero_point));
}

/* Sixteen finished outputs, of which the last block may have fewer. */
MLK_AVX2 static inline void mlk_store(const struct mlk_product *p, s8 *out,
				      __m256i lo, __m256i hi, u32 i)
{
	u32 left = p->width - i;
	__m256i x = _mm256_packs_epi32(mlk_finish(p, lo, i),
				       mlk_finish(p, hi, i + 8));
	s8 q[16];

	/* packing works in halves of a register: put them in order */
	x = _mm256_permute4x64_epi64(x, 0xd8);
	x = _mm256_packs_epi16(x, x);
	x = _mm256_permute4x64_epi64(x, 0x08);
	if (left >= 16 || p->padded) {
		_mm_storeu_si128((__m128i *)(out + i),
				 _mm256_castsi256_si128(x));
		return;
	}
	_mm_storeu_si128((__m128i *)q, _mm256_castsi256_si128(x));
	memcpy(out + i, q, left);
}

/*
 * Weights of four outputs, widened, times four inputs: each output's sum is
 * left in two parts.
 */
MLK_AVX2 static inline __m256i mlk_mac(__m256i acc, const s8 *w, __m256i x)
{
	__m128i v = _mm_loadu_si128((const __m128i *)w);

	return _mm256_add_epi32(acc,
				_mm256_madd_epi16(_mm256_cvtepi8_epi16(v), x));
}

/* The two parts of 8 sums added up, and their bias. */
MLK_AVX2 static inline __m256i mlk_join(const s32 *bias, __m256i a, __m256i b)
{
	__m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8);

	return _mm256_add_epi32(sum, _mm256_loadu_si256((const __m256i *)bias));
}

/* One piece of a row. Returns the weights behind it. */
MLK_AVX2 static inline const s8 *mlk_run_avx2(__m256i acc[4], const s8 *in,
					      u32 run, const s8 *w)
{
	u32 j, k;

	for (k = 0; k < run; k += 4, w += 64) {
		__m128i bytes =
			_mm_cvtsi32_si128(mlk_load_word(in + k, run - k));
		__m256i x = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(bytes));

#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			acc[j] = mlk_mac(acc[j], w + 16 * j, x);
	}
	return w;
}

MLK_AVX2 static void mlk_row_avx2(const struct mlk_product *p, const s8 *in,
				  s8 *out)
{
	const s8 *w = p->packed;
	u32 i, line, run;

	for (i = 0; i < p->width; i += 16) {
		const __m256i zero = _mm256_setzero_si256();
		__m256i acc[4] = { zero, zero, zero, zero };
		const s8 *x = in;

		for (line = 0; line < p->lines; line++, x += p->line_stride)
			for (run = 0; run < p->runs; run++)
				w = mlk_run_avx2(acc, x + run * p->run_stride,
						 p->run, w);
		mlk_store(p, out, mlk_join(p->bias + i, acc[0], acc[1]),
			  mlk_join(p->bias + i + 8, acc[2], acc[3]), i);
	}
}

/* One piece of a row. Returns the weights behind it. */
MLK_AVXVNNI static inline const s8 *
mlk_run_avxvnni(__m256i acc[2], const s8 *in, u32 run, const s8 *w)
{
	const __m256i flip = _mm256_set1_epi8((char)0x80);
	u32 k;

	for (k = 0; k < run; k += 4, w += 64) {
		const __m256i *v = (const __m256i *)w;
		__m256i x = _mm256_set1_epi32(mlk_load_word(in + k, run - k));

		x = _mm256_xor_si256(x, flip);
		acc[0] = _mm256_dpbusd_avx_epi32(acc[0], x,
						 _mm256_loadu_si256(v));
		acc[1] = _mm256_dpbusd_avx_epi32(acc[1], x,
						 _mm256_loadu_si256(v + 1));
	}
	return w;
}

MLK_AVXVNNI static void mlk_row_avxvnni(const struct mlk_product *p,
					const s8 *in, s8 *out)
{
	const s8 *w = p->packed;
	u32 i, line, run;

	for (i = 0; i < p->width; i += 16) {
		const __m256i *bias = (const __m256i *)(p->bias_unsigned + i);
		__m256i acc[2] = { _mm256_loadu_si256(bias),
				   _mm256_loadu_si256(bias + 1) };
		const s8 *x = in;

		for (line = 0; line < p->lines; line++, x += p->line_stride)
			for (run = 0; run < p->runs; run++)
				w = mlk_run_avxvnni(acc,
						    x + run * p->run_stride,
						    p->run, w);
		mlk_store(p, out, acc[0], acc[1], i);
	}
}

static void mlk_product_avx2(const struct mlk_product *p)
{
	u32 row;

	for (row = 0; row < p->rows; row++)
		mlk_row_avx2(p, p->in + row * p->in_stride,
			     p->out + row * p->out_stride);
}

static void mlk_product_avxvnni(const struct mlk_product *p)
{
	u32 row;

	for (row = 0; row < p->rows; row++)
		mlk_row_avxvnni(p, p->in + row * p->in_stride,
				p->out + row * p->out_stride);
}

const struct mlk_simd mlk_simd_avx2 = {
	.name = "avx2",
	.product = mlk_product_avx2,
};

const struct mlk_simd mlk_simd_avxvnni = {
	.name = "avxvnni",
	.product = mlk_product_avxvnni,
};

#endif /* __x86_64__ */
