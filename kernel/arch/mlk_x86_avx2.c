// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * AVX2, and AVX-VNNI, which differs only in how four bytes are multiplied: a
 * block of 16 outputs is two registers of 8.
 */
#include "mlk_arch.h"

#ifdef MLK_ARCH_AVX2

#include <immintrin.h>

#define MLK_AVX2 __attribute__((target("avx2")))
#define MLK_AVXVNNI __attribute__((target("avx2,avxvnni")))

/* mlk_requant() of 8 sums */
MLK_AVX2 static inline __m256i mlk_requant8(__m256i x, __m256i m, __m256i shift)
{
	const __m256i one = _mm256_set1_epi32(1);
	const __m256i nudge = _mm256_set1_epi64x(1 << 30);
	const __m256i zero = _mm256_setzero_si256();
	const __m256i left = _mm256_max_epi32(shift, zero);
	const __m256i right =
		_mm256_max_epi32(_mm256_sub_epi32(zero, shift), zero);
	__m256i even, odd, mask, remainder, threshold;

	x = _mm256_sllv_epi32(x, left);
	even = _mm256_add_epi64(_mm256_mul_epi32(x, m), nudge);
	odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32),
						_mm256_srli_epi64(m, 32)),
			       nudge);
	/* bits 31 to 62 of each product */
	x = _mm256_blend_epi32(_mm256_srli_epi64(even, 31),
			       _mm256_slli_epi64(odd, 1), 0xaa);
	/* the rounding shift, ties away from zero */
	mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right), one);
	remainder = _mm256_and_si256(x, mask);
	threshold = _mm256_add_epi32(_mm256_srli_epi32(mask, 1),
				     _mm256_srli_epi32(x, 31));
	return _mm256_sub_epi32(_mm256_srav_epi32(x, right),
				_mm256_cmpgt_epi32(remainder, threshold));
}

/*
 * 16 requantised numbers to bytes, of which @n are stored. Saturation on the way
 * changes nothing, because the range is that of bytes.
 */
MLK_AVX2 static inline void mlk_store16(s8 *out, __m256i lo, __m256i hi, u32 n,
					s32 zero_point, s32 least, s32 most)
{
	__m256i x = _mm256_packs_epi32(lo, hi);
	__m128i bytes;
	s8 q[16];

	x = _mm256_adds_epi16(x, _mm256_set1_epi16((short)zero_point));
	x = _mm256_packs_epi16(x, x);
	/* packing works in halves of a register: put them in order */
	x = _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 0, 4,
							     1, 5));
	bytes = _mm256_castsi256_si128(x);
	bytes = _mm_max_epi8(bytes, _mm_set1_epi8((char)least));
	bytes = _mm_min_epi8(bytes, _mm_set1_epi8((char)most));
	if (n >= 16) {
		_mm_storeu_si128((__m128i *)out, bytes);
		return;
	}
	_mm_storeu_si128((__m128i *)q, bytes);
	memcpy(out, q, n);
}

MLK_AVX2 static inline __m256i mlk_load8(const s32 *words)
{
	return _mm256_loadu_si256((const __m256i *)words);
}

/* The sums of block @i, of which the last one may have fewer outputs. */
MLK_AVX2 static inline void mlk_store(const struct mlk_product *p, s8 *out,
				      __m256i lo, __m256i hi, u32 i)
{
	lo = mlk_requant8(lo, mlk_load8(p->multiplier + i),
			  mlk_load8(p->shift + i));
	hi = mlk_requant8(hi, mlk_load8(p->multiplier + i + 8),
			  mlk_load8(p->shift + i + 8));
	mlk_store16(out + i, lo, hi, p->padded ? 16 : p->width - i,
		    p->out_zero_point, p->act_min, p->act_max);
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

#ifdef MLK_ARCH_AVXVNNI

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

static void mlk_product_avxvnni(const struct mlk_product *p)
{
	u32 row;

	for (row = 0; row < p->rows; row++)
		mlk_row_avxvnni(p, p->in + row * p->in_stride,
				p->out + row * p->out_stride);
}

#endif /* MLK_ARCH_AVXVNNI */

static void mlk_product_avx2(const struct mlk_product *p)
{
	u32 row;

	for (row = 0; row < p->rows; row++)
		mlk_row_avx2(p, p->in + row * p->in_stride,
			     p->out + row * p->out_stride);
}

/*
 * 16 channels of a depthwise filter: weights of two taps at a time, widened, and
 * what the sums of 16 lanes are scaled by.
 */
struct mlk_lanes {
	s16 w[MLK_DEPTHWISE_TAPS / 2][32];
	s32 bias[16];
	s32 multiplier[16];
	s32 shift[16];
	struct mlk_product p; /* of these lanes */
	u32 pairs;
};

/* Channels from @first on; after @repeat lanes they begin again. */
static void mlk_lanes_of(struct mlk_lanes *l, const struct mlk_product *p,
			 u32 first, u32 repeat)
{
	size_t step = (((size_t)p->width + 15) & ~(size_t)15) * 4;
	u32 i, tap;

	l->pairs = (p->depth + 1) / 2;
	for (i = 0; i < 16; i++) {
		u32 channel = first + i % repeat;

		for (tap = 0; tap < 2 * l->pairs; tap++)
			l->w[tap / 2][2 * i + tap % 2] =
				p->packed[tap / 4 * step + 4 * channel +
					  tap % 4];
		l->bias[i] = p->bias[channel];
		l->multiplier[i] = p->multiplier[channel];
		l->shift[i] = p->shift[channel];
	}
	l->p = *p;
	l->p.multiplier = l->multiplier;
	l->p.shift = l->shift;
}

MLK_AVX2 static inline __m128i mlk_load_some(const s8 *x, u32 n)
{
	s8 some[16] = { 0 };

	if (n >= 16)
		return _mm_loadu_si128((const __m128i *)x);
	memcpy(some, x, n);
	return _mm_loadu_si128((const __m128i *)some);
}

MLK_AVX2 static void mlk_lanes_run(const void *lanes,
				   const struct mlk_place *place)
{
	const struct mlk_lanes *l = lanes;
	struct mlk_product p = l->p;
	__m256i lo = mlk_load8(l->bias), hi = mlk_load8(l->bias + 8);
	u32 i;

	for (i = 0; i < l->pairs; i++) {
		const __m256i *w = (const __m256i *)l->w[i];
		__m128i a = mlk_load_some(place->tap[2 * i] + place->shift,
					  place->bytes);
		__m128i b = mlk_load_some(place->tap[2 * i + 1] + place->shift,
					  place->bytes);
		__m256i x = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
		__m256i y = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b));

		lo = _mm256_add_epi32(
			lo, _mm256_madd_epi16(x, _mm256_loadu_si256(w)));
		hi = _mm256_add_epi32(
			hi, _mm256_madd_epi16(y, _mm256_loadu_si256(w + 1)));
	}
	p.width = place->bytes;
	mlk_store(&p, place->out, lo, hi, 0);
}

static void mlk_depthwise_avx2(const struct mlk_depthwise *d)
{
	u32 width = d->p.width, pixels = 1, first, n;
	struct mlk_lanes lanes;

	/* one image of few channels is one of many, whose weights repeat */
	if (width < 16 && 16 % width == 0 && d->window->stride_w == 1)
		pixels = 16 / width;
	for (first = 0; first < width; first += n) {
		n = width - first < 16 ? width - first : 16;
		mlk_lanes_of(&lanes, &d->p, first, pixels > 1 ? width : 16);
		mlk_each_place(d, first, n, pixels, mlk_lanes_run, &lanes);
	}
}

/* What an operand of MLK_OP_BINARY is scaled by. */
struct mlk_operand_scale {
	s32 offset;
	u32 left;
	s32 multiplier;
	s32 shift;
};

MLK_AVX2 static inline __m256i mlk_align8(const struct mlk_operand_scale *s,
					  __m256i x)
{
	x = _mm256_sll_epi32(x, _mm_cvtsi32_si128((int)s->left));
	return mlk_requant8(x, _mm256_set1_epi32(s->multiplier),
			    _mm256_set1_epi32(s->shift));
}

MLK_AVX2 static inline __m256i
mlk_combine8(const struct mlk_binary_params *p,
	     const struct mlk_operand_scale *first, __m256i x,
	     const struct mlk_operand_scale *second, __m256i y)
{
	x = _mm256_add_epi32(x, _mm256_set1_epi32(first->offset));
	y = _mm256_add_epi32(y, _mm256_set1_epi32(second->offset));
	if (p->kind == MLK_BINARY_MUL) {
		x = _mm256_mullo_epi32(x, y);
	} else {
		x = mlk_align8(first, x);
		y = mlk_align8(second, y);
		x = p->kind == MLK_BINARY_ADD ? _mm256_add_epi32(x, y) :
						_mm256_sub_epi32(x, y);
	}
	return mlk_requant8(x, _mm256_set1_epi32(p->multiplier),
			    _mm256_set1_epi32(p->shift));
}

MLK_AVX2 static inline __m128i mlk_load_operand(const s8 *x, u32 step, u32 i,
						u32 n)
{
	return step ? mlk_load_some(x + i, n) : _mm_set1_epi8(*x);
}

MLK_AVX2 static void mlk_binary_avx2(const struct mlk_binary_row *row)
{
	const struct mlk_binary_params *p = row->params;
	const struct mlk_operand_scale first = { p->offset1, p->left_shift,
						 p->multiplier1, p->shift1 };
	const struct mlk_operand_scale second = { p->offset2, p->left_shift,
						  p->multiplier2, p->shift2 };
	u32 i, n;

	for (i = 0; i < row->n; i += 16) {
		__m128i x, y;
		__m256i lo, hi;

		n = row->n - i;
		x = mlk_load_operand(row->x, row->x_step, i, n);
		y = mlk_load_operand(row->y, row->y_step, i, n);
		lo = mlk_combine8(p, &first, _mm256_cvtepi8_epi32(x), &second,
				  _mm256_cvtepi8_epi32(y));
		x = _mm_srli_si128(x, 8);
		y = _mm_srli_si128(y, 8);
		hi = mlk_combine8(p, &first, _mm256_cvtepi8_epi32(x), &second,
				  _mm256_cvtepi8_epi32(y));
		mlk_store16(row->out + i, lo, hi, n, p->out_zero_point,
			    p->act_min, p->act_max);
	}
}

MLK_AVX2 static void mlk_pool_avx2(const struct mlk_pool_line *l)
{
	u32 first, i;

	for (first = 0; first < l->channels; first += 8) {
		u32 n = l->channels - first < 8 ? l->channels - first : 8;
		s32 some[8] = { 0 };
		const s8 *x = l->x + first;
		__m256i acc;

		memcpy(some, l->acc + first, n * sizeof(*some));
		acc = mlk_load8(some);
		for (i = 0; i < l->pixels; i++, x += l->stride) {
			__m256i v = _mm256_cvtepi8_epi32(
				n < 8 ? mlk_load_some(x, n) :
					_mm_loadl_epi64((const __m128i *)x));

			acc = l->kind == MLK_POOL_MAX ?
				      _mm256_max_epi32(acc, v) :
				      _mm256_add_epi32(acc, v);
		}
		_mm256_storeu_si256((__m256i *)some, acc);
		memcpy(l->acc + first, some, n * sizeof(*some));
	}
}

const struct mlk_simd mlk_simd_avx2 = {
	.name = "avx2",
	.product = mlk_product_avx2,
	.depthwise = mlk_depthwise_avx2,
	.binary = mlk_binary_avx2,
	.pool = mlk_pool_avx2,
	.dots_s16 = mlk_dots_s16_sse2,
};

#ifdef MLK_ARCH_AVXVNNI
const struct mlk_simd mlk_simd_avxvnni = {
	.name = "avxvnni",
	.product = mlk_product_avxvnni,
	.depthwise = mlk_depthwise_avx2,
	.binary = mlk_binary_avx2,
	.pool = mlk_pool_avx2,
	.dots_s16 = mlk_dots_s16_sse2,
};
#endif

#endif /* MLK_ARCH_AVX2 */
