/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Requantisation with AVX-512: what all loops end with that have it. */
#ifndef MLK_X86_AVX512_H
#define MLK_X86_AVX512_H

#include <immintrin.h>

#include "mlk_arch.h"

#define MLK_TARGET \
	__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

/*
 * What 16 outputs are scaled by. Both roundings of mlk_requant() are one shift
 * of a 64-bit product, so there is one half for even outputs, one for odd ones.
 */
struct mlk_scale {
	__m512i left;
	__m512i multiplier[2];
	__m512i add[2]; /* halves of both roundings */
	__m512i away[2]; /* for negative ones: ties of the second go away from 0 */
	__m512i right[2];
};

MLK_TARGET static inline void mlk_scale_half(struct mlk_scale *s, u32 i,
					     __m512i right)
{
	const __m512i one = _mm512_set1_epi64(1);
	const __m512i nudge = _mm512_set1_epi64(1 << 30);
	__mmask8 rounds = _mm512_test_epi64_mask(right, right);

	s->right[i] = _mm512_add_epi64(right, _mm512_set1_epi64(31));
	s->add[i] = _mm512_mask_add_epi64(
		nudge, rounds, nudge,
		_mm512_sllv_epi64(
			one, _mm512_add_epi64(right, _mm512_set1_epi64(30))));
	s->away[i] = _mm512_maskz_set1_epi64(rounds, 1ll << 31);
}

MLK_TARGET static inline void mlk_scale_of(struct mlk_scale *s,
					   __m512i multiplier, __m512i shift)
{
	const __m512i zero = _mm512_setzero_si512();
	const __m512i right =
		_mm512_max_epi32(_mm512_sub_epi32(zero, shift), zero);

	s->left = _mm512_max_epi32(shift, zero);
	s->multiplier[0] = multiplier;
	s->multiplier[1] = _mm512_srli_epi64(multiplier, 32);
	mlk_scale_half(s, 0, _mm512_maskz_mov_epi32(0x5555, right));
	mlk_scale_half(s, 1, _mm512_srli_epi64(right, 32));
}

MLK_TARGET static inline __m512i mlk_requant_half(const struct mlk_scale *s,
						  u32 i, __m512i x)
{
	__m512i product = _mm512_mul_epi32(x, s->multiplier[i]);
	__mmask8 negative =
		_mm512_cmplt_epi64_mask(product, _mm512_setzero_si512());

	product = _mm512_add_epi64(product, s->add[i]);
	product = _mm512_mask_sub_epi64(product, negative, product, s->away[i]);
	return _mm512_srav_epi64(product, s->right[i]);
}

/* mlk_requant() of 16 sums */
MLK_TARGET static inline __m512i mlk_requant16(const struct mlk_scale *s,
					       __m512i x)
{
	__m512i even, odd;

	x = _mm512_sllv_epi32(x, s->left);
	even = mlk_requant_half(s, 0, x);
	odd = mlk_requant_half(s, 1, _mm512_shuffle_epi32(x, _MM_PERM_DDBB));
	return _mm512_mask_shuffle_epi32(even, 0xaaaa, odd, _MM_PERM_CCAA);
}

/* What becomes of requantised numbers, for 64 bytes. */
struct mlk_range {
	__m512i zero_point;
	__m512i least;
	__m512i most;
};

MLK_TARGET static inline struct mlk_range mlk_range_of(s32 zero_point,
						       s32 least, s32 most)
{
	return (struct mlk_range){
		.zero_point = _mm512_set1_epi16((short)zero_point),
		.least = _mm512_set1_epi8((char)least),
		.most = _mm512_set1_epi8((char)most),
	};
}

/*
 * Four registers of requantised numbers to bytes: each 128 bits of the result
 * have four numbers of each register. Saturation on the way changes nothing,
 * because the range is that of bytes.
 */
MLK_TARGET static inline __m512i mlk_narrow(const struct mlk_range *r,
					    __m512i a, __m512i b, __m512i c,
					    __m512i d)
{
	__m512i lo = _mm512_adds_epi16(_mm512_packs_epi32(a, b), r->zero_point);
	__m512i hi = _mm512_adds_epi16(_mm512_packs_epi32(c, d), r->zero_point);
	__m512i x = _mm512_packs_epi16(lo, hi);

	return _mm512_min_epi8(_mm512_max_epi8(x, r->least), r->most);
}

/* One register of requantised numbers to 16 bytes, of which @n count. */
MLK_TARGET static inline void mlk_store16(const struct mlk_range *r, s8 *out,
					  __m512i x, u32 n)
{
	__m256i wide = _mm256_adds_epi16(_mm512_cvtsepi32_epi16(x),
					 _mm512_castsi512_si256(r->zero_point));
	__m128i q = _mm256_cvtsepi16_epi8(wide);

	q = _mm_max_epi8(q, _mm512_castsi512_si128(r->least));
	q = _mm_min_epi8(q, _mm512_castsi512_si128(r->most));
	/* a masked store delays whoever reads it next */
	if (n >= 16)
		_mm_storeu_si128((__m128i *)out, q);
	else
		_mm_mask_storeu_epi8(out, (__mmask16)((1u << n) - 1), q);
}

/*
 * Sums of four rows, requantised: outputs of the block at @i, behind which the
 * rows may end.
 */
MLK_TARGET static inline void mlk_store_rows(const struct mlk_product *p,
					     const struct mlk_scale *scale,
					     const struct mlk_range *range,
					     u32 i, __m512i a, __m512i b,
					     __m512i c, __m512i d, s8 *out)
{
	const __m512i turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6,
					       10, 14, 3, 7, 11, 15);
	__m512i x = mlk_narrow(range, mlk_requant16(scale, a),
			       mlk_requant16(scale, b), mlk_requant16(scale, c),
			       mlk_requant16(scale, d));
	u32 left = p->width - i;
	__mmask16 mask = (__mmask16)(left < 16 ? (1u << left) - 1 : 0xffff);
	__m128i row[4];
	u32 r;

	/* each 128 bits have four outputs of each row: turn that round */
	x = _mm512_permutexvar_epi32(turn, x);
	row[0] = _mm512_castsi512_si128(x);
	row[1] = _mm512_extracti32x4_epi32(x, 1);
	row[2] = _mm512_extracti32x4_epi32(x, 2);
	row[3] = _mm512_extracti32x4_epi32(x, 3);
	out += i;
#pragma GCC unroll 4
	for (r = 0; r < 4; r++) {
		if (left >= 16)
			_mm_storeu_si128((__m128i *)out, row[r]);
		else
			_mm_mask_storeu_epi8(out, mask, row[r]);
		out += p->out_stride;
	}
}

#endif /* MLK_X86_AVX512_H */
