// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * AVX-512 with VNNI: a block of 16 outputs is one register, and vpdpbusd
 * multiplies its 16 x 4 weights with four input bytes. One side of it is unsigned,
 * so 128 is added there: to the inputs of a single row, which the second bias
 * makes good, or else to the weights.
 */
#include "mlk_arch.h"

#ifdef MLK_ARCH_AVX512VNNI

#include <immintrin.h>

#include "mlk_x86_avx512.h"

#define MLK_CHUNK 64 /* rows whose sums are kept at a time */

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

/*
 * Bytes of a piece that are multiplied in whole words. Behind its end weights
 * are 0; with 128 added they count, in the sum of the row, too.
 */
static inline u32 mlk_whole_run(const struct mlk_product *p)
{
	return (p->readable ? p->run + 3 : p->run) & ~3u;
}

/* The sum of a row, in 16 parts. */
MLK_TARGET static inline __m512i mlk_row_sum(const struct mlk_product *p,
					     const s8 *in)
{
	const u32 length = p->readable ? mlk_whole_run(p) : p->run;
	const __m512i ones = _mm512_set1_epi8(1);
	__m512i sum = _mm512_setzero_si512();
	u32 line, run, k;

	for (line = 0; line < p->lines; line++, in += p->line_stride) {
		for (run = 0; run < p->runs; run++) {
			const s8 *x = in + run * p->run_stride;

			for (k = 0; k + 64 <= length; k += 64)
				sum = _mm512_dpbusd_epi32(
					sum, ones, _mm512_loadu_si512(x + k));
			if (k < length)
				sum = _mm512_dpbusd_epi32(
					sum, ones,
					_mm512_maskz_loadu_epi8(
						~0ull >> (64 - (length - k)),
						x + k));
		}
	}
	return sum;
}

/* Both halves of the parts of a sum added up. */
MLK_TARGET static inline __m256i mlk_half_sum(__m512i sum)
{
	return _mm256_add_epi32(_mm512_castsi512_si256(sum),
				_mm512_extracti64x4_epi64(sum, 1));
}

/* Minus 128 times the sums of four rows, of which @n count. */
MLK_TARGET static inline void mlk_offsets(const struct mlk_product *p,
					  const s8 *in, u32 n, s32 *offset)
{
	__m256i sum[4], ab, cd;
	__m128i x;
	u32 i;

#pragma GCC unroll 4
	for (i = 0; i < 4; i++)
		sum[i] = mlk_half_sum(
			mlk_row_sum(p, i < n ? in + i * p->in_stride : in));
	ab = _mm256_hadd_epi32(sum[0], sum[1]);
	cd = _mm256_hadd_epi32(sum[2], sum[3]);
	ab = _mm256_hadd_epi32(ab, cd);
	x = _mm_add_epi32(_mm256_castsi256_si128(ab),
			  _mm256_extracti128_si256(ab, 1));
	x = _mm_sub_epi32(_mm_setzero_si128(), _mm_slli_epi32(x, 7));
	_mm_storeu_si128((__m128i *)offset, x);
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

/* @rows rows times @n blocks. */
MLK_TARGET static MLK_INLINE void mlk_tile(const struct mlk_product *p,
					   const struct mlk_columns *c,
					   const s8 *in, s8 *out,
					   const s32 *offset, u32 rows, u32 n)
{
	const u32 whole = mlk_whole_run(p);
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
			if (k >= p->run)
				continue;
			mlk_step(acc, x + k, p->in_stride, p->run - k, w,
				 c->block, rows, n);
			w += 64;
		}
	}
	if (rows == 1) {
		for (j = 0; j < n; j++)
			mlk_store16(&c->range, out + c->i + 16 * j,
				    mlk_requant16(&c->scale[j], acc[0][j]),
				    p->width - c->i - 16 * j);
		return;
	}
#pragma GCC unroll 2
	for (r = 0; r < rows; r += 4)
#pragma GCC unroll 2
		for (j = 0; j < n; j++)
			mlk_store_rows(p, &c->scale[j], &c->range,
				       c->i + 16 * j, acc[r][j], acc[r + 1][j],
				       acc[r + 2][j], acc[r + 3][j],
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

	for (r = 0; r < rows; r += 4)
		mlk_offsets(p, in + r * p->in_stride, rows - r, offset + r);
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

/* How an operand gets to the common scale. */
struct mlk_align {
	struct mlk_scale scale;
	__m128i left;
	int half; /* one operand is just halved: its scale is the common one */
};

MLK_TARGET static inline void mlk_align_of(struct mlk_align *a, s32 multiplier,
					   s32 shift, u32 left)
{
	a->half = multiplier == 1 << 30 && !shift && left;
	a->left = _mm_cvtsi32_si128((int)(a->half ? left - 1 : left));
	mlk_scale_of(&a->scale, _mm512_set1_epi32(multiplier),
		     _mm512_set1_epi32(shift));
}

MLK_TARGET static inline __m512i mlk_align16(const struct mlk_align *a,
					     __m512i x)
{
	x = _mm512_sll_epi32(x, a->left);
	return a->half ? x : mlk_requant16(&a->scale, x);
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
	struct mlk_align first, second;
	struct mlk_scale result;
	u32 i, n;

	mlk_align_of(&first, p->multiplier1, p->shift1, p->left_shift);
	mlk_align_of(&second, p->multiplier2, p->shift2, p->left_shift);
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
			x = mlk_align16(&first, x);
			y = mlk_align16(&second, y);
			x = p->kind == MLK_BINARY_ADD ? _mm512_add_epi32(x, y) :
							_mm512_sub_epi32(x, y);
		}
		mlk_store16(&range, row->out + i, mlk_requant16(&result, x), n);
	}
}

MLK_TARGET static void mlk_pool_avx512(const struct mlk_pool_line *l)
{
	u32 first, i;

	for (first = 0; first < l->channels; first += 16) {
		u32 n = l->channels - first < 16 ? l->channels - first : 16;
		__mmask16 mask = (__mmask16)(0xffffu >> (16 - n));
		__m512i acc = _mm512_maskz_loadu_epi32(mask, l->acc + first);
		const s8 *x = l->x + first;

		for (i = 0; i < l->pixels; i++, x += l->stride) {
			__m512i v = _mm512_cvtepi8_epi32(
				_mm_maskz_loadu_epi8(mask, x));

			acc = l->kind == MLK_POOL_MAX ?
				      _mm512_max_epi32(acc, v) :
				      _mm512_add_epi32(acc, v);
		}
		_mm512_mask_storeu_epi32(l->acc + first, mask, acc);
	}
}

const struct mlk_simd mlk_simd_avx512vnni = {
	.name = "avx512vnni",
	.product = mlk_product_avx512vnni,
	.depthwise = mlk_depthwise_avx512vnni,
	.binary = mlk_binary_avx512,
	.pool = mlk_pool_avx512,
	.dots_s16 = mlk_dots_s16_sse2,
};

#endif /* MLK_ARCH_AVX512VNNI */
