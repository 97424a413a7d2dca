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
#define MLK_CHUNK 64 /* rows whose sums are kept at a time */

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

/* Four bytes of a row, in every lane; of the last ones only what is there. */
MLK_TARGET static inline __m512i mlk_load4(const s8 *in, u32 left)
{
	return _mm512_set1_epi32(mlk_load_word(in, left));
}

/* For a single row: with 128 added. */
MLK_TARGET static inline __m512i mlk_load4_unsigned(const s8 *in, u32 left)
{
	return _mm512_xor_si512(mlk_load4(in, left),
				_mm512_set1_epi8((char)0x80));
}

/* How many outputs of the block at @i may be written. */
static inline u32 mlk_writable(const struct mlk_product *p, u32 i)
{
	return p->padded ? 16 : p->width - i;
}

MLK_TARGET static inline void mlk_finish(const struct mlk_product *p,
					 const struct mlk_range *r, s8 *out,
					 __m512i x, u32 i)
{
	struct mlk_scale s;

	mlk_scale_of(&s, _mm512_loadu_si512(p->multiplier + i),
		     _mm512_loadu_si512(p->shift + i));
	mlk_store16(r, out + i, mlk_requant16(&s, x), mlk_writable(p, i));
}

/*
 * A piece of one row times one block; several sums, because one alone waits for
 * itself. Returns the weights behind it.
 */
MLK_TARGET static inline const s8 *mlk_row_run(__m512i acc[4], const s8 *in,
					       u32 run, const s8 *w)
{
	u32 k = 0;

	for (; k + 16 <= run; k += 16, w += 256) {
		acc[0] = _mm512_dpbusd_epi32(acc[0],
					     mlk_load4_unsigned(in + k, 4),
					     _mm512_loadu_si512(w));
		acc[1] = _mm512_dpbusd_epi32(acc[1],
					     mlk_load4_unsigned(in + k + 4, 4),
					     _mm512_loadu_si512(w + 64));
		acc[2] = _mm512_dpbusd_epi32(acc[2],
					     mlk_load4_unsigned(in + k + 8, 4),
					     _mm512_loadu_si512(w + 128));
		acc[3] = _mm512_dpbusd_epi32(acc[3],
					     mlk_load4_unsigned(in + k + 12, 4),
					     _mm512_loadu_si512(w + 192));
	}
	for (; k < run; k += 4, w += 64)
		acc[0] = _mm512_dpbusd_epi32(
			acc[0], mlk_load4_unsigned(in + k, run - k),
			_mm512_loadu_si512(w));
	return w;
}

MLK_TARGET static inline __m512i mlk_row_block(const struct mlk_product *p,
					       const s8 *in, const s8 *w, u32 i)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i acc[4] = { _mm512_loadu_si512(p->bias_unsigned + i), zero, zero,
			   zero };
	u32 line, run;

	for (line = 0; line < p->lines; line++, in += p->line_stride)
		for (run = 0; run < p->runs; run++)
			w = mlk_row_run(acc, in + run * p->run_stride, p->run,
					w);
	return _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]),
				_mm512_add_epi32(acc[2], acc[3]));
}

/* A row of one piece times four blocks. */
MLK_TARGET static inline void mlk_row_blocks(const struct mlk_product *p,
					     const s8 *in, const s8 *w, u32 i,
					     size_t block, __m512i acc[4])
{
	u32 j, k;

	for (j = 0; j < 4; j++)
		acc[j] = _mm512_loadu_si512(p->bias_unsigned + i + 16 * j);
	for (k = 0; k < p->run; k += 4, w += 64) {
		__m512i x = mlk_load4_unsigned(in + k, p->run - k);

#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			acc[j] = _mm512_dpbusd_epi32(
				acc[j], x, _mm512_loadu_si512(w + j * block));
	}
}

MLK_TARGET static void mlk_row(const struct mlk_product *p,
			       const struct mlk_range *r, const s8 *in, s8 *out,
			       size_t block)
{
	const s8 *w = p->packed;
	u32 i = 0, j;

	if (p->lines == 1 && p->runs == 1)
		for (; i + 64 <= p->width; i += 64, w += 4 * block) {
			__m512i acc[4];

			mlk_row_blocks(p, in, w, i, block, acc);
			for (j = 0; j < 4; j++)
				mlk_finish(p, r, out, acc[j], i + 16 * j);
		}
	for (; i < p->width; i += 16, w += block)
		mlk_finish(p, r, out, mlk_row_block(p, in, w, i), i);
}

/* Minus 128 times the sum of a row. */
MLK_TARGET static s32 mlk_offset(const struct mlk_product *p, const s8 *in)
{
	const __m512i ones = _mm512_set1_epi8((char)128);
	__m512i sum = _mm512_setzero_si512();
	u32 line, run, k, left;

	for (line = 0; line < p->lines; line++, in += p->line_stride) {
		for (run = 0; run < p->runs; run++) {
			const s8 *x = in + run * p->run_stride;

			for (k = 0; k + 64 <= p->run; k += 64)
				sum = _mm512_dpbusd_epi32(
					sum, ones, _mm512_loadu_si512(x + k));
			left = p->run - k;
			if (left)
				sum = _mm512_dpbusd_epi32(
					sum, ones,
					_mm512_maskz_loadu_epi8(
						(1ull << left) - 1, x + k));
		}
	}
	return -_mm512_reduce_add_epi32(sum);
}

/*
 * Four inputs of @rows rows times @n (one or two) blocks. A register of weights
 * is loaded once for all rows, and here it is the weights that 128 is added to:
 * that is made good once for each row.
 */
MLK_TARGET static MLK_INLINE void mlk_step(__m512i acc[][2], const s8 *in,
					   size_t stride, u32 left, const s8 *w,
					   size_t block, u32 rows, u32 n)
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);
	__m512i v0 = _mm512_xor_si512(_mm512_loadu_si512(w), flip);
	__m512i v1 = v0;
	u32 r;

	if (n > 1)
		v1 = _mm512_xor_si512(_mm512_loadu_si512(w + block), flip);
#pragma GCC unroll 8
	for (r = 0; r < rows; r++) {
		__m512i x = mlk_load4(in + r * stride, left);

		acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], v0, x);
		if (n > 1)
			acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], v1, x);
	}
}

/* Two blocks of outputs: what they are scaled by, and where their weights are. */
struct mlk_columns {
	struct mlk_scale scale[2];
	struct mlk_range range;
	const s8 *w;
	size_t block;
	u32 i;
};

/* Requantised outputs of up to four rows, one block of each. */
MLK_TARGET static MLK_INLINE void mlk_store_rows(const struct mlk_product *p,
						 const struct mlk_columns *c,
						 u32 which, __m512i acc[][2],
						 u32 rows, s8 *out)
{
	u32 i = c->i + 16 * which;
	__m512i x;

	if (rows < 4 || p->width - i < 16) {
		u32 r;

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
			mlk_store16(&c->range, out + r * p->out_stride + i,
				    acc[r][which], p->width - i);
		return;
	}
	x = mlk_narrow(&c->range, acc[0][which], acc[1][which], acc[2][which],
		       acc[3][which]);
	/* each 128 bits have four outputs of each row: turn that round */
	x = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13,
						       2, 6, 10, 14, 3, 7, 11,
						       15),
				     x);
	out += i;
	_mm_storeu_si128((__m128i *)out, _mm512_castsi512_si128(x));
	_mm_storeu_si128((__m128i *)(out + p->out_stride),
			 _mm512_extracti32x4_epi32(x, 1));
	_mm_storeu_si128((__m128i *)(out + 2 * p->out_stride),
			 _mm512_extracti32x4_epi32(x, 2));
	_mm_storeu_si128((__m128i *)(out + 3 * p->out_stride),
			 _mm512_extracti32x4_epi32(x, 3));
}

/* @rows rows times @n blocks. */
MLK_TARGET static MLK_INLINE void mlk_tile(const struct mlk_product *p,
					   const struct mlk_columns *c,
					   const s8 *in, s8 *out,
					   const s32 *offset, u32 rows, u32 n)
{
	const u32 whole = p->run & ~3u;
	const s8 *w = c->w;
	__m512i acc[8][2];
	u32 line, run, k, r, j;

#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
#pragma GCC unroll 2
		for (j = 0; j < n; j++)
			acc[r][j] = _mm512_add_epi32(
				_mm512_set1_epi32(offset[r]),
				_mm512_loadu_si512(p->bias + c->i + 16 * j));
	for (line = 0; line < p->lines; line++, in += p->line_stride) {
		for (run = 0; run < p->runs; run++) {
			const s8 *x = in + run * p->run_stride;

			for (k = 0; k < whole; k += 4, w += 64)
				mlk_step(acc, x + k, p->in_stride, 4, w,
					 c->block, rows, n);
			if (k == p->run)
				continue;
			mlk_step(acc, x + k, p->in_stride, p->run - k, w,
				 c->block, rows, n);
			w += 64;
		}
	}
#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
#pragma GCC unroll 2
		for (j = 0; j < n; j++)
			acc[r][j] = mlk_requant16(&c->scale[j], acc[r][j]);
#pragma GCC unroll 2
	for (r = 0; r < rows; r += 4)
#pragma GCC unroll 2
		for (j = 0; j < n; j++)
			mlk_store_rows(p, c, j, acc + r,
				       rows - r < 4 ? rows - r : 4,
				       out + r * p->out_stride);
}

/* @rows rows times @n blocks. */
MLK_TARGET static MLK_INLINE void mlk_tiles(const struct mlk_product *p,
					    const struct mlk_columns *c,
					    const s8 *in, s8 *out,
					    const s32 *offset, u32 rows, u32 n)
{
	u32 r = 0;

	for (; r + 8 <= rows; r += 8)
		mlk_tile(p, c, in + r * p->in_stride, out + r * p->out_stride,
			 offset + r, 8, n);
	if (r + 4 <= rows) {
		mlk_tile(p, c, in + r * p->in_stride, out + r * p->out_stride,
			 offset + r, 4, n);
		r += 4;
	}
	for (; r < rows; r++)
		mlk_tile(p, c, in + r * p->in_stride, out + r * p->out_stride,
			 offset + r, 1, n);
}

/* Up to MLK_CHUNK rows. */
MLK_TARGET static void mlk_rows(const struct mlk_product *p,
				const struct mlk_range *range, const s8 *in,
				s8 *out, u32 rows, size_t block)
{
	struct mlk_columns c = {
		.range = *range,
		.w = p->packed,
		.block = block,
	};
	s32 offset[MLK_CHUNK];
	u32 r;

	for (r = 0; r < rows; r++)
		offset[r] = mlk_offset(p, in + r * p->in_stride);
	while (c.i < p->width) {
		mlk_scale_of(&c.scale[0],
			     _mm512_loadu_si512(p->multiplier + c.i),
			     _mm512_loadu_si512(p->shift + c.i));
		if (c.i + 16 >= p->width) {
			mlk_tiles(p, &c, in, out, offset, rows, 1);
			return;
		}
		mlk_scale_of(&c.scale[1],
			     _mm512_loadu_si512(p->multiplier + c.i + 16),
			     _mm512_loadu_si512(p->shift + c.i + 16));
		mlk_tiles(p, &c, in, out, offset, rows, 2);
		c.w += 2 * block;
		c.i += 32;
	}
}

MLK_TARGET static void mlk_product_avx512vnni(const struct mlk_product *p)
{
	const struct mlk_range range =
		mlk_range_of(p->out_zero_point, p->act_min, p->act_max);
	size_t block = (size_t)((p->depth + 3) / 4) * 64;
	const s8 *in = p->in;
	s8 *out = p->out;
	u32 row, n;

	for (row = 0; row < p->rows; row += n) {
		n = p->rows - row < MLK_CHUNK ? p->rows - row : MLK_CHUNK;
		if (n >= 4) {
			mlk_rows(p, &range, in, out, n, block);
		} else {
			mlk_row(p, &range, in, out, block);
			n = 1;
		}
		in += n * p->in_stride;
		out += n * p->out_stride;
	}
}

/*
 * 64 channels of a depthwise filter. Bytes of four taps are interleaved, which
 * leaves the channels in another order; narrowing the sums restores it.
 */
struct mlk_lanes {
	__m512i w[MLK_DEPTHWISE_TAPS / 4][4];
	__m512i bias[4];
	struct mlk_scale scale[4];
	struct mlk_range range;
	u32 groups;
};

/* Channels of which register @j has four in its 128 bits number @part. */
static inline u32 mlk_lane(u32 j, u32 part)
{
	return 16 * part + 4 * j;
}

MLK_TARGET static __m512i mlk_pick(const void *words, u32 first, u32 j,
				   u32 repeat)
{
	const s32 *from = (const s32 *)words + first;
	s32 picked[16];
	u32 part;

	for (part = 0; part < 4; part++)
		memcpy(picked + 4 * part, from + mlk_lane(j, part) % repeat,
		       16);
	return _mm512_loadu_si512(picked);
}

/* Channels from @first on; after @repeat lanes they begin again. */
MLK_TARGET static void mlk_lanes_of(struct mlk_lanes *l,
				    const struct mlk_product *p, u32 first,
				    u32 repeat)
{
	size_t step = (((size_t)p->width + 15) & ~(size_t)15) * 4;
	u32 g, j;

	l->groups = (p->depth + 3) / 4;
	l->range = mlk_range_of(p->out_zero_point, p->act_min, p->act_max);
	for (j = 0; j < 4; j++) {
		for (g = 0; g < l->groups; g++)
			l->w[g][j] = mlk_pick(p->packed + g * step, first, j,
					      repeat);
		l->bias[j] = mlk_pick(p->bias_unsigned, first, j, repeat);
		mlk_scale_of(&l->scale[j],
			     mlk_pick(p->multiplier, first, j, repeat),
			     mlk_pick(p->shift, first, j, repeat));
	}
}

MLK_TARGET static void mlk_lanes_run(const void *lanes,
				     const struct mlk_place *place)
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);
	const struct mlk_lanes *l = lanes;
	__mmask64 mask = ~0ull >> (64 - place->bytes);
	const s8 *const *tap = place->tap;
	__m512i acc[4], x[4], lo, hi, lo2, hi2;
	u32 g, j;

#pragma GCC unroll 4
	for (j = 0; j < 4; j++)
		acc[j] = l->bias[j];
	for (g = 0; g < l->groups; g++, tap += 4) {
#pragma GCC unroll 4
		for (j = 0; j < 4; j++)
			x[j] = _mm512_xor_si512(
				flip, _mm512_maskz_loadu_epi8(
					      mask, tap[j] + place->shift));
		lo = _mm512_unpacklo_epi8(x[0], x[1]);
		hi = _mm512_unpackhi_epi8(x[0], x[1]);
		lo2 = _mm512_unpacklo_epi8(x[2], x[3]);
		hi2 = _mm512_unpackhi_epi8(x[2], x[3]);
		acc[0] = _mm512_dpbusd_epi32(
			acc[0], _mm512_unpacklo_epi16(lo, lo2), l->w[g][0]);
		acc[1] = _mm512_dpbusd_epi32(
			acc[1], _mm512_unpackhi_epi16(lo, lo2), l->w[g][1]);
		acc[2] = _mm512_dpbusd_epi32(
			acc[2], _mm512_unpacklo_epi16(hi, hi2), l->w[g][2]);
		acc[3] = _mm512_dpbusd_epi32(
			acc[3], _mm512_unpackhi_epi16(hi, hi2), l->w[g][3]);
	}
#pragma GCC unroll 4
	for (j = 0; j < 4; j++)
		acc[j] = mlk_requant16(&l->scale[j], acc[j]);
	_mm512_mask_storeu_epi8(place->out, mask,
				mlk_narrow(&l->range, acc[0], acc[1], acc[2],
					   acc[3]));
}

static void mlk_depthwise_avx512vnni(const struct mlk_depthwise *d)
{
	u32 width = d->p.width, pixels = 1, first, n;
	struct mlk_lanes lanes;

	/* one image of few channels is one of many, whose weights repeat */
	if (width < 64 && 64 % width == 0 && width % 4 == 0 &&
	    d->window->stride_w == 1)
		pixels = 64 / width;
	for (first = 0; first < width; first += n) {
		n = width - first < 64 ? width - first : 64;
		mlk_lanes_of(&lanes, &d->p, first,
			     pixels > 1 ? width : (n + 15) & ~15u);
		mlk_each_place(d, first, n, pixels, mlk_lanes_run, &lanes);
	}
}

/* 16 elements of an operand on the common scale. */
MLK_TARGET static inline __m512i mlk_align(const struct mlk_scale *s, __m512i x,
					   u32 left)
{
	return mlk_requant16(s,
			     _mm512_sll_epi32(x, _mm_cvtsi32_si128((int)left)));
}

MLK_TARGET static inline __m512i mlk_load16(const s8 *x, u32 step, u32 i,
					    __mmask16 mask, s32 offset)
{
	__m128i bytes = step ? _mm_maskz_loadu_epi8(mask, x + i) :
			       _mm_set1_epi8(*x);

	return _mm512_add_epi32(_mm512_cvtepi8_epi32(bytes),
				_mm512_set1_epi32(offset));
}

MLK_TARGET static void mlk_binary_avx512(const struct mlk_binary_row *row)
{
	const struct mlk_binary_params *p = row->params;
	const struct mlk_range range =
		mlk_range_of(p->out_zero_point, p->act_min, p->act_max);
	struct mlk_scale first, second, result;
	u32 i, n;

	mlk_scale_of(&first, _mm512_set1_epi32(p->multiplier1),
		     _mm512_set1_epi32(p->shift1));
	mlk_scale_of(&second, _mm512_set1_epi32(p->multiplier2),
		     _mm512_set1_epi32(p->shift2));
	mlk_scale_of(&result, _mm512_set1_epi32(p->multiplier),
		     _mm512_set1_epi32(p->shift));
	for (i = 0; i < row->n; i += 16) {
		__mmask16 mask;
		__m512i x, y;

		n = row->n - i < 16 ? row->n - i : 16;
		mask = (__mmask16)(0xffffu >> (16 - n));
		x = mlk_load16(row->x, row->x_step, i, mask, p->offset1);
		y = mlk_load16(row->y, row->y_step, i, mask, p->offset2);
		if (p->kind == MLK_BINARY_MUL) {
			x = _mm512_mullo_epi32(x, y);
		} else {
			x = mlk_align(&first, x, p->left_shift);
			y = mlk_align(&second, y, p->left_shift);
			x = p->kind == MLK_BINARY_ADD ? _mm512_add_epi32(x, y) :
							_mm512_sub_epi32(x, y);
		}
		mlk_store16(&range, row->out + i, mlk_requant16(&result, x), n);
	}
}

const struct mlk_simd mlk_simd_avx512vnni = {
	.name = "avx512vnni",
	.product = mlk_product_avx512vnni,
	.depthwise = mlk_depthwise_avx512vnni,
	.binary = mlk_binary_avx512,
};

#endif /* __x86_64__ */
