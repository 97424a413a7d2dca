// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * SSE4.1: a block of 16 outputs is eight registers of two halves each. There
 * are no shifts by a number per lane, so the requantisation is the plain one.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "mlk_arch.h"

#define MLK_SSE41 __attribute__((target("sse4.1")))

/* Weights of four outputs times four inputs; each sum is left in two parts. */
MLK_SSE41 static inline void mlk_mac(__m128i acc[2], const s8 *w, __m128i x)
{
	__m128i v = _mm_loadu_si128((const __m128i *)w);
	__m128i lo = _mm_cvtepi8_epi16(v);
	__m128i hi = _mm_cvtepi8_epi16(_mm_srli_si128(v, 8));

	acc[0] = _mm_add_epi32(acc[0], _mm_madd_epi16(lo, x));
	acc[1] = _mm_add_epi32(acc[1], _mm_madd_epi16(hi, x));
}

/* One piece of a row. Returns the weights behind it. */
MLK_SSE41 static inline const s8 *mlk_mac_run(__m128i acc[8], const s8 *w,
					      const s8 *in, u32 run)
{
	u32 k;

	for (k = 0; k < run; k += 4, w += 64) {
		__m128i x = _mm_cvtepi8_epi16(
			_mm_cvtsi32_si128(mlk_load_word(in + k, run - k)));

		x = _mm_unpacklo_epi64(x, x);
		mlk_mac(acc, w, x);
		mlk_mac(acc + 2, w + 16, x);
		mlk_mac(acc + 4, w + 32, x);
		mlk_mac(acc + 6, w + 48, x);
	}
	return w;
}

MLK_SSE41 static void mlk_row(const struct mlk_product *p, const s8 *in,
			      s8 *out)
{
	const s8 *w = p->packed;
	u32 i, j, line, run, n;

	for (i = 0; i < p->width; i += 16) {
		__m128i acc[8];
		u32 sums[16];

		for (j = 0; j < 8; j++)
			acc[j] = _mm_setzero_si128();
		for (line = 0; line < p->lines; line++)
			for (run = 0; run < p->runs; run++)
				w = mlk_mac_run(acc, w,
						in + line * p->line_stride +
							run * p->run_stride,
						p->run);
		for (j = 0; j < 4; j++)
			_mm_storeu_si128((__m128i *)(sums + 4 * j),
					 _mm_hadd_epi32(acc[2 * j],
							acc[2 * j + 1]));
		n = p->width - i < 16 ? p->width - i : 16;
		for (j = 0; j < n; j++)
			out[i + j] = mlk_product_output(
				p, sums[j] + (u32)p->bias[i + j], i + j);
	}
}

static void mlk_product_sse41(const struct mlk_product *p)
{
	u32 row;

	for (row = 0; row < p->rows; row++)
		mlk_row(p, p->in + row * p->in_stride,
			p->out + row * p->out_stride);
}

const struct mlk_simd mlk_simd_sse41 = {
	.name = "sse41",
	.product = mlk_product_sse41,
};

#endif /* __x86_64__ */
