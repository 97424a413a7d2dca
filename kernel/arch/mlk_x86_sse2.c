// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * SSE2, which every x86-64 has. Bytes are multiplied as words of 16 bits, those
 * at even places apart from those at odd ones: that needs no instruction that
 * widens, and the four products of an output meet in one sum. There are no
 * shifts by a number per lane, so the requantisation is the plain one.
 */
#include "mlk_arch.h"

#ifdef MLK_ARCH_SSE2

#include <emmintrin.h>

#include "mlk_lanes.h"

#define MLK_ROWS 2

static inline __m128i mlk_even(__m128i x)
{
	return _mm_srai_epi16(_mm_slli_epi16(x, 8), 8);
}

static inline __m128i mlk_odd(__m128i x)
{
	return _mm_srai_epi16(x, 8);
}

/* Four sums, each of four products, of which half are at even places. */
static inline __m128i mlk_dot(__m128i acc, __m128i even, __m128i odd,
			      __m128i x_even, __m128i x_odd)
{
	__m128i sum = _mm_add_epi32(_mm_madd_epi16(even, x_even),
				    _mm_madd_epi16(odd, x_odd));

	return _mm_add_epi32(acc, sum);
}

/* Sums of outputs from number @i on, of which @n may be written to @out. */
static inline void mlk_finish(const struct mlk_product *p, const __m128i acc[4],
			      u32 i, s8 *out, u32 n)
{
	u32 sums[16];
	u32 j;

	for (j = 0; j < 4; j++)
		_mm_storeu_si128((__m128i *)(sums + 4 * j), acc[j]);
	for (j = 0; j < n; j++)
		out[j] = mlk_product_output(p, sums[j], i + j);
}

/* One piece of @rows rows. Returns the weights behind it. */
static MLK_INLINE const s8 *mlk_run(__m128i acc[MLK_ROWS][4],
				    const struct mlk_product *p, const s8 *in,
				    const s8 *w, u32 rows)
{
	__m128i even[MLK_ROWS], odd[MLK_ROWS];
	u32 j, k, r;

	for (k = 0; k < p->run; k += 4, w += 64) {
#pragma GCC unroll 2
		for (r = 0; r < rows; r++) {
			__m128i x = _mm_set1_epi32(mlk_load_word(
				in + r * p->in_stride + k, p->run - k));

			even[r] = mlk_even(x);
			odd[r] = mlk_odd(x);
		}
#pragma GCC unroll 4
		for (j = 0; j < 4; j++) {
			__m128i v =
				_mm_loadu_si128((const __m128i *)(w + 16 * j));
			__m128i a = mlk_even(v), b = mlk_odd(v);

#pragma GCC unroll 2
			for (r = 0; r < rows; r++)
				acc[r][j] = mlk_dot(acc[r][j], a, b, even[r],
						    odd[r]);
		}
	}
	return w;
}

/*
 * @rows rows (one or MLK_ROWS) times a block; weights are widened once for all.
 * Returns the next block's weights.
 */
static MLK_INLINE const s8 *mlk_tile(const struct mlk_product *p, const s8 *in,
				     s8 *out, const s8 *w, u32 i, u32 rows)
{
	__m128i acc[MLK_ROWS][4];
	u32 line, run, j, r;

#pragma GCC unroll 2
	for (r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			acc[r][j] = _mm_loadu_si128(
				(const __m128i *)(p->bias + i + 4 * j));
	for (line = 0; line < p->lines; line++, in += p->line_stride)
		for (run = 0; run < p->runs; run++)
			w = mlk_run(acc, p, in + run * p->run_stride, w, rows);
#pragma GCC unroll 2
	for (r = 0; r < rows; r++)
		mlk_finish(p, acc[r], i, out + r * p->out_stride + i,
			   p->width - i < 16 ? p->width - i : 16);
	return w;
}

static void mlk_product_sse2(const struct mlk_product *p)
{
	const s8 *in = p->in, *w;
	s8 *out = p->out;
	u32 row = 0, i;

	for (; row + MLK_ROWS <= p->rows; row += MLK_ROWS) {
		for (i = 0, w = p->packed; i < p->width; i += 16)
			w = mlk_tile(p, in, out, w, i, MLK_ROWS);
		in += MLK_ROWS * p->in_stride;
		out += MLK_ROWS * p->out_stride;
	}
	for (; row < p->rows; row++) {
		for (i = 0, w = p->packed; i < p->width; i += 16)
			w = mlk_tile(p, in, out, w, i, 1);
		in += p->in_stride;
		out += p->out_stride;
	}
}

/* 16 bytes, of which at least @n are there. */
static inline __m128i mlk_load16(const s8 *x, u32 n)
{
	s32 words[4];

	if (n >= 16)
		return _mm_loadu_si128((const __m128i *)x);
	mlk_load_words(words, x, n);
	return _mm_loadu_si128((const __m128i *)words);
}

/* The @n outputs of a place: bytes of four taps are interleaved. */
static MLK_INLINE void mlk_lanes_place(const struct mlk_lanes *l,
				       const struct mlk_place *place, u32 n)
{
	__m128i acc[4], x[4], lo, hi, lo2, hi2;
	u32 j, tap;

#pragma GCC unroll 4
	for (j = 0; j < 4; j++)
		acc[j] = _mm_loadu_si128((const __m128i *)(l->bias + 4 * j));
	for (tap = 0; tap < l->p.depth; tap += 4) {
		const s8 *w = l->w + 16 * tap;

#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			x[j] = mlk_load16(place->tap[tap + j] + place->shift,
					  n);
		lo = _mm_unpacklo_epi8(x[0], x[1]);
		hi = _mm_unpackhi_epi8(x[0], x[1]);
		lo2 = _mm_unpacklo_epi8(x[2], x[3]);
		hi2 = _mm_unpackhi_epi8(x[2], x[3]);
		x[0] = _mm_unpacklo_epi16(lo, lo2);
		x[1] = _mm_unpackhi_epi16(lo, lo2);
		x[2] = _mm_unpacklo_epi16(hi, hi2);
		x[3] = _mm_unpackhi_epi16(hi, hi2);
#pragma GCC unroll 4
		for (j = 0; j < 4; j++) {
			__m128i v = _mm_loadu_si128((const __m128i *)w + j);

			acc[j] = mlk_dot(acc[j], mlk_even(v), mlk_odd(v),
					 mlk_even(x[j]), mlk_odd(x[j]));
		}
	}
	mlk_finish(&l->p, acc, 0, place->out, n);
}

static void mlk_lanes_run(const void *lanes, const struct mlk_place *place)
{
	/* nearly always all of them: then there is nothing to ask */
	if (place->bytes == 16)
		mlk_lanes_place(lanes, place, 16);
	else
		mlk_lanes_place(lanes, place, place->bytes);
}

static void mlk_depthwise_sse2(const struct mlk_depthwise *d)
{
	mlk_depthwise_lanes(d, NULL, mlk_lanes_run);
}

/* The sum of so many products of 16 by 8 bits fits into 32. */
#define MLK_DOTS_CHUNK 256

/* Eight bytes as words of 16 bits. */
static inline __m128i mlk_widen(__m128i bytes)
{
	return _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
}

static inline __m128i mlk_madd8(__m128i acc, __m128i x, __m128i bytes)
{
	return _mm_add_epi32(acc, _mm_madd_epi16(x, mlk_widen(bytes)));
}

static inline s32 mlk_sum4(__m128i x)
{
	x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

/* @n < 8 bytes, and zeros. */
static inline __m128i mlk_load_few(const s8 *w, u32 n)
{
	s32 hi = n > 4 ? mlk_load_word(w + 4, n - 4) : 0;

	return _mm_unpacklo_epi32(_mm_cvtsi32_si128(mlk_load_word(w, n)),
				  _mm_cvtsi32_si128(hi));
}

/* @n products of each sum. */
static void mlk_dots_piece(const struct mlk_dots_s16 *d, u32 from, u32 n)
{
	const s16 *x = d->x + from;
	const s8 *w = d->w + from;
	u32 few = n % 8, i, row;
	s16 last[8] = { 0 };
	__m128i rest;

	for (i = 0; i < few; i++)
		last[i] = x[n - few + i];
	rest = _mm_loadu_si128((const __m128i *)last);
	for (row = 0; row < d->rows; row++, w += d->step) {
		__m128i acc = _mm_setzero_si128();

		for (i = 0; i + 8 <= n; i += 8)
			acc = mlk_madd8(
				acc, _mm_loadu_si128((const __m128i *)(x + i)),
				_mm_loadl_epi64((const __m128i *)(w + i)));
		if (few)
			acc = mlk_madd8(acc, rest, mlk_load_few(w + i, few));
		d->acc[row] += (u64)(s64)mlk_sum4(acc);
	}
}

void mlk_dots_s16_sse2(const struct mlk_dots_s16 *d)
{
	u32 from, n;

	for (from = 0; from < d->depth; from += n) {
		n = d->depth - from;
		if (n > MLK_DOTS_CHUNK)
			n = MLK_DOTS_CHUNK;
		mlk_dots_piece(d, from, n);
	}
}

const struct mlk_simd mlk_simd_sse2 = {
	.name = "sse2",
	.product = mlk_product_sse2,
	.depthwise = mlk_depthwise_sse2,
	.dots_s16 = mlk_dots_s16_sse2,
};

#endif /* MLK_ARCH_SSE2 */
