// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * AVX-512 with VNNI: a block of 16 outputs is one register, and vpdpbusd
 * multiplies its 16 x 4 weights with four input bytes. One side of it is unsigned,
 * so 128 is added there: to the inputs of a single row, which the second bias
 * makes good, or else to the weights.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "mlk_arch.h"

#define MLK_TARGET \
	__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define MLK_ROWS 4

/* mlk_requant(), the output offset and the clamp, for 16 outputs */
MLK_TARGET static inline __m512i mlk_finish(const struct mlk_product *p,
					    __m512i acc, u32 i)
{
	const __m512i one = _mm512_set1_epi32(1);
	const __m512i nudge = _mm512_set1_epi64(1 << 30);
	const __m512i m = _mm512_loadu_si512(p->multiplier + i);
	const __m512i shift = _mm512_loadu_si512(p->shift + i);
	const __m512i zero = _mm512_setzero_si512();
	const __m512i left = _mm512_max_epi32(shift, zero);
	const __m512i right =
		_mm512_max_epi32(_mm512_sub_epi32(zero, shift), zero);
	__m512i x = _mm512_sllv_epi32(acc, left);
	__m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, m), nudge);
	__m512i odd =
		_mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32),
						  _mm512_srli_epi64(m, 32)),
				 nudge);
	__m512i mask, remainder, threshold;

	/* bits 31 to 62 of each product */
	x = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 31),
				    _mm512_slli_epi64(odd, 1));
	/* the rounding shift, ties away from zero */
	mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, right), one);
	remainder = _mm512_and_si512(x, mask);
	threshold = _mm512_add_epi32(_mm512_srli_epi32(mask, 1),
				     _mm512_srli_epi32(x, 31));
	x = _mm512_srav_epi32(x, right);
	x = _mm512_mask_add_epi32(
		x, _mm512_cmpgt_epi32_mask(remainder, threshold), x, one);
	x = _mm512_add_epi32(x, _mm512_set1_epi32(p->out_zero_point));
	x = _mm512_max_epi32(x, _mm512_set1_epi32(p->act_min));
	return _mm512_min_epi32(x, _mm512_set1_epi32(p->act_max));
}

/* Four bytes of a row, in every lane; of the last ones only what is there. */
MLK_TARGET static inline __m512i mlk_load4(const s8 *in, u32 left)
{
	return _mm512_set1_epi32(mlk_load_word(in, left));
}

MLK_TARGET static inline void mlk_store(const struct mlk_product *p, s8 *out,
					__m512i x, u32 i)
{
	__m128i q = _mm512_cvtepi32_epi8(mlk_finish(p, x, i));
	u32 left = p->width - i;

	/* a masked store delays whoever reads it next */
	if (left >= 16 || p->padded)
		_mm_storeu_si128((__m128i *)(out + i), q);
	else
		_mm_mask_storeu_epi8(out + i, (__mmask16)((1u << left) - 1), q);
}

/* One block of one row; several sums, because one alone waits for itself. */
MLK_TARGET static inline __m512i mlk_block(const struct mlk_product *p,
					   const s8 *in, const s8 *w, u32 i)
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);
	__m512i a = _mm512_loadu_si512(p->bias_unsigned + i);
	__m512i b = _mm512_setzero_si512(), c = b, d = b;
	u32 k = 0;

	for (; k + 16 <= p->depth; k += 16, w += 256) {
		a = _mm512_dpbusd_epi32(
			a, _mm512_xor_si512(mlk_load4(in + k, 4), flip),
			_mm512_loadu_si512(w));
		b = _mm512_dpbusd_epi32(
			b, _mm512_xor_si512(mlk_load4(in + k + 4, 4), flip),
			_mm512_loadu_si512(w + 64));
		c = _mm512_dpbusd_epi32(
			c, _mm512_xor_si512(mlk_load4(in + k + 8, 4), flip),
			_mm512_loadu_si512(w + 128));
		d = _mm512_dpbusd_epi32(
			d, _mm512_xor_si512(mlk_load4(in + k + 12, 4), flip),
			_mm512_loadu_si512(w + 192));
	}
	for (; k < p->depth; k += 4, w += 64)
		a = _mm512_dpbusd_epi32(
			a,
			_mm512_xor_si512(mlk_load4(in + k, p->depth - k), flip),
			_mm512_loadu_si512(w));
	return _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d));
}

MLK_TARGET static void mlk_row(const struct mlk_product *p, const s8 *in,
			       s8 *out, size_t block)
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);
	const s8 *w = p->packed;
	u32 i = 0, k;

	for (; i + 64 <= p->width; i += 64, w += 4 * block) {
		__m512i a = _mm512_loadu_si512(p->bias_unsigned + i);
		__m512i b = _mm512_loadu_si512(p->bias_unsigned + i + 16);
		__m512i c = _mm512_loadu_si512(p->bias_unsigned + i + 32);
		__m512i d = _mm512_loadu_si512(p->bias_unsigned + i + 48);
		const s8 *v = w;

		for (k = 0; k < p->depth; k += 4, v += 64) {
			__m512i x = mlk_load4(in + k, p->depth - k);

			x = _mm512_xor_si512(x, flip);
			a = _mm512_dpbusd_epi32(a, x, _mm512_loadu_si512(v));
			b = _mm512_dpbusd_epi32(b, x,
						_mm512_loadu_si512(v + block));
			c = _mm512_dpbusd_epi32(
				c, x, _mm512_loadu_si512(v + 2 * block));
			d = _mm512_dpbusd_epi32(
				d, x, _mm512_loadu_si512(v + 3 * block));
		}
		mlk_store(p, out, a, i);
		mlk_store(p, out, b, i + 16);
		mlk_store(p, out, c, i + 32);
		mlk_store(p, out, d, i + 48);
	}
	for (; i < p->width; i += 16, w += block)
		mlk_store(p, out, mlk_block(p, in, w, i), i);
}

/* Minus 128 times the sum of a row, in every lane. */
MLK_TARGET static inline __m512i mlk_offset(const struct mlk_product *p,
					    const s8 *in)
{
	__m512i sum = _mm512_setzero_si512();
	u32 k = 0, left;

	for (; k + 64 <= p->depth; k += 64)
		sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8((char)128),
					  _mm512_loadu_si512(in + k));
	left = p->depth - k;
	if (left)
		sum = _mm512_dpbusd_epi32(
			sum, _mm512_set1_epi8((char)128),
			_mm512_maskz_loadu_epi8((1ull << left) - 1, in + k));
	return _mm512_set1_epi32(-_mm512_reduce_add_epi32(sum));
}

/*
 * Four rows times @n (one or two) blocks. A register of weights is loaded once
 * for all rows, and here it is the weights that 128 is added to: that is made
 * good once for each row.
 */
MLK_TARGET static inline __attribute__((always_inline)) void
mlk_step(__m512i acc[MLK_ROWS][2], const s8 *const in[MLK_ROWS], u32 k,
	 u32 left, const s8 *w, size_t block, u32 n)
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);
	__m512i v0 = _mm512_xor_si512(_mm512_loadu_si512(w), flip);
	__m512i v1 = v0;
	u32 r;

	if (n > 1)
		v1 = _mm512_xor_si512(_mm512_loadu_si512(w + block), flip);
#pragma GCC unroll 4
	for (r = 0; r < MLK_ROWS; r++) {
		__m512i x = mlk_load4(in[r] + k, left);

		acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], v0, x);
		if (n > 1)
			acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], v1, x);
	}
}

MLK_TARGET static inline __attribute__((always_inline)) void
mlk_tile(const struct mlk_product *p, const s8 *const in[MLK_ROWS], s8 *out,
	 const s8 *w, size_t block, u32 i, const __m512i offset[MLK_ROWS],
	 u32 n)
{
	const u32 whole = p->depth & ~3u;
	__m512i acc[MLK_ROWS][2];
	u32 k, r;

#pragma GCC unroll 4
	for (r = 0; r < MLK_ROWS; r++) {
		acc[r][0] = _mm512_add_epi32(offset[r],
					     _mm512_loadu_si512(p->bias + i));
		acc[r][1] = acc[r][0];
		if (n > 1)
			acc[r][1] = _mm512_add_epi32(
				offset[r],
				_mm512_loadu_si512(p->bias + i + 16));
	}
	for (k = 0; k < whole; k += 4, w += 64)
		mlk_step(acc, in, k, 4, w, block, n);
	if (k < p->depth)
		mlk_step(acc, in, k, p->depth - k, w, block, n);
#pragma GCC unroll 4
	for (r = 0; r < MLK_ROWS; r++) {
		mlk_store(p, out + r * p->out_stride, acc[r][0], i);
		if (n > 1)
			mlk_store(p, out + r * p->out_stride, acc[r][1],
				  i + 16);
	}
}

MLK_TARGET static void mlk_rows(const struct mlk_product *p, const s8 *first,
				s8 *out, size_t block)
{
	const s8 *in[MLK_ROWS];
	__m512i offset[MLK_ROWS];
	const s8 *w = p->packed;
	u32 i = 0, r;

	for (r = 0; r < MLK_ROWS; r++) {
		in[r] = first + r * p->in_stride;
		offset[r] = mlk_offset(p, in[r]);
	}
	for (; i + 16 < p->width; i += 32, w += 2 * block)
		mlk_tile(p, in, out, w, block, i, offset, 2);
	if (i < p->width)
		mlk_tile(p, in, out, w, block, i, offset, 1);
}

static void mlk_product_avx512vnni(const struct mlk_product *p)
{
	size_t block = (size_t)((p->depth + 3) / 4) * 64;
	const s8 *in = p->in;
	s8 *out = p->out;
	u32 row = 0;

	for (; row + MLK_ROWS <= p->rows; row += MLK_ROWS) {
		mlk_rows(p, in, out, block);
		in += MLK_ROWS * p->in_stride;
		out += MLK_ROWS * p->out_stride;
	}
	for (; row < p->rows; row++) {
		mlk_row(p, in, out, block);
		in += p->in_stride;
		out += p->out_stride;
	}
}

const struct mlk_simd mlk_simd_avx512vnni = {
	.name = "avx512vnni",
	.product = mlk_product_avx512vnni,
};

#endif /* __x86_64__ */
