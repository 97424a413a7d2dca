// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * AMX: a tile of 16 rows by 64 inputs times one of 64 inputs by 16 outputs. A
 * block of packed weights is just such a tile, and inputs are signed as they are.
 * Narrow products are left to AVX-512, which every such processor has.
 */
#include "mlk_arch.h"

#ifdef MLK_ARCH_AMX

#include "mlk_x86_avx512.h"

/* Tiles: sums of two blocks, inputs, weights of two blocks; and at an end. */
#define MLK_SUMS 0
#define MLK_INPUTS 2
#define MLK_WEIGHTS 3
#define MLK_END_INPUTS 5
#define MLK_END_WEIGHTS 6

#define MLK_ROWS 16
#define MLK_DEPTH 64

/* What LDTILECFG loads. */
struct mlk_tiles {
	u8 palette;
	u8 start_row;
	u8 reserved[14];
	u16 bytes[16];
	u8 rows[16];
} __attribute__((aligned(64)));

/* No intrinsics: those of some compilers hide that tiles are memory's. */
#define MLK_LOAD(tile, from, stride) \
	asm volatile("tileloadd (%0,%1,1), %%tmm%c2" \
		     : \
		     : "r"(from), "r"(stride), "i"(tile) \
		     : "memory")
#define MLK_STORE(tile, to, stride) \
	asm volatile("tilestored %%tmm%c2, (%0,%1,1)" \
		     : \
		     : "r"(to), "r"(stride), "i"(tile) \
		     : "memory")
#define MLK_DOT(sums, inputs, weights) \
	asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" \
		     : \
		     : "i"(sums), "i"(inputs), "i"(weights))

/* Bytes of a piece, with those that have no weights. */
static u32 mlk_whole_run(const struct mlk_product *p)
{
	return (p->run + 3) & ~3u;
}

static void mlk_configure(const struct mlk_product *p, u32 rows)
{
	u8 end = (u8)(mlk_whole_run(p) % MLK_DEPTH);
	struct mlk_tiles tiles = { .palette = 1 };
	u32 i;

	for (i = 0; i < 2; i++) {
		tiles.rows[MLK_SUMS + i] = (u8)rows;
		tiles.bytes[MLK_SUMS + i] = 64;
		tiles.rows[MLK_WEIGHTS + i] = MLK_DEPTH / 4;
		tiles.bytes[MLK_WEIGHTS + i] = 64;
		tiles.rows[MLK_END_WEIGHTS + i] = end / 4;
		tiles.bytes[MLK_END_WEIGHTS + i] = 64;
	}
	tiles.rows[MLK_INPUTS] = (u8)rows;
	tiles.bytes[MLK_INPUTS] = MLK_DEPTH;
	tiles.rows[MLK_END_INPUTS] = (u8)rows;
	tiles.bytes[MLK_END_INPUTS] = end;
	if (!end) {
		/* a tile without rows must not have columns either */
		tiles.rows[MLK_END_INPUTS] = 0;
		tiles.bytes[MLK_END_WEIGHTS] = 0;
		tiles.bytes[MLK_END_WEIGHTS + 1] = 0;
	}
	asm volatile("ldtilecfg %0" : : "m"(tiles));
}

/* One piece of the rows times @n blocks. Returns the weights behind it. */
static MLK_INLINE const s8 *mlk_run(const struct mlk_product *p, const s8 *in,
				    const s8 *w, size_t block, u32 n)
{
	u32 length = mlk_whole_run(p), k;

	for (k = 0; k + MLK_DEPTH <= length; k += MLK_DEPTH) {
		MLK_LOAD(MLK_INPUTS, in + k, p->in_stride);
		MLK_LOAD(MLK_WEIGHTS, w, 64ul);
		MLK_DOT(MLK_SUMS, MLK_INPUTS, MLK_WEIGHTS);
		if (n > 1) {
			MLK_LOAD(MLK_WEIGHTS + 1, w + block, 64ul);
			MLK_DOT(MLK_SUMS + 1, MLK_INPUTS, MLK_WEIGHTS + 1);
		}
		w += 16 * MLK_DEPTH;
	}
	if (k == length)
		return w;
	MLK_LOAD(MLK_END_INPUTS, in + k, p->in_stride);
	MLK_LOAD(MLK_END_WEIGHTS, w, 64ul);
	MLK_DOT(MLK_SUMS, MLK_END_INPUTS, MLK_END_WEIGHTS);
	if (n > 1) {
		MLK_LOAD(MLK_END_WEIGHTS + 1, w + block, 64ul);
		MLK_DOT(MLK_SUMS + 1, MLK_END_INPUTS, MLK_END_WEIGHTS + 1);
	}
	return w + 16 * (length - k);
}

/* Requantise and store the sums of the block at @i. */
MLK_TARGET static void mlk_finish(const struct mlk_product *p, u32 i,
				  s32 sums[MLK_ROWS][16], u32 rows, s8 *out)
{
	const struct mlk_range range =
		mlk_range_of(p->out_zero_point, p->act_min, p->act_max);
	struct mlk_scale scale;
	u32 r = 0;

	mlk_scale_of(&scale, _mm512_loadu_si512(p->multiplier + i),
		     _mm512_loadu_si512(p->shift + i));
	for (; r + 4 <= rows; r += 4)
		mlk_store_rows(p, &scale, &range, i, _mm512_load_si512(sums[r]),
			       _mm512_load_si512(sums[r + 1]),
			       _mm512_load_si512(sums[r + 2]),
			       _mm512_load_si512(sums[r + 3]),
			       out + r * p->out_stride);
	for (; r < rows; r++)
		mlk_store16(&range, out + r * p->out_stride + i,
			    mlk_requant16(&scale, _mm512_load_si512(sums[r])),
			    p->width - i);
}

/* As many rows as the tiles are configured for times @n blocks. */
static MLK_INLINE void mlk_tile(const struct mlk_product *p, const s8 *in,
				s8 *out, const s8 *w, size_t block, u32 i,
				u32 rows, u32 n)
{
	s32 sums[2][MLK_ROWS][16] __attribute__((aligned(64)));
	u32 line, run;

	/* all rows begin with the same biases */
	MLK_LOAD(MLK_SUMS, p->bias + i, 0ul);
	if (n > 1)
		MLK_LOAD(MLK_SUMS + 1, p->bias + i + 16, 0ul);
	for (line = 0; line < p->lines; line++, in += p->line_stride)
		for (run = 0; run < p->runs; run++)
			w = mlk_run(p, in + run * p->run_stride, w, block, n);
	MLK_STORE(MLK_SUMS, sums[0], 64ul);
	if (n > 1)
		MLK_STORE(MLK_SUMS + 1, sums[1], 64ul);
	mlk_finish(p, i, sums[0], rows, out);
	if (n > 1)
		mlk_finish(p, i + 16, sums[1], rows, out);
}

/* As many rows as the tiles are configured for. */
static void mlk_rows(const struct mlk_product *p, const s8 *in, s8 *out,
		     u32 rows)
{
	size_t block = (size_t)((p->depth + 3) / 4) * 64;
	const s8 *w = p->packed;
	u32 i = 0;

	for (; i + 16 < p->width; i += 32, w += 2 * block)
		mlk_tile(p, in, out, w, block, i, rows, 2);
	if (i < p->width)
		mlk_tile(p, in, out, w, block, i, rows, 1);
}

static void mlk_product_amx(const struct mlk_product *p)
{
	u32 whole = p->rows - p->rows % MLK_ROWS, row;

	/* tiles read whole words, and take some time to set up */
	if (p->rows < 8 || p->run < 8 || (p->run % 4 && !p->readable)) {
		mlk_simd_avx512vnni.product(p);
		return;
	}
	if (whole)
		mlk_configure(p, MLK_ROWS);
	for (row = 0; row < whole; row += MLK_ROWS)
		mlk_rows(p, p->in + row * p->in_stride,
			 p->out + row * p->out_stride, MLK_ROWS);
	if (row < p->rows) {
		mlk_configure(p, p->rows - row);
		mlk_rows(p, p->in + row * p->in_stride,
			 p->out + row * p->out_stride, p->rows - row);
	}
	asm volatile("tilerelease");
}

static void mlk_depthwise_amx(const struct mlk_depthwise *d)
{
	mlk_simd_avx512vnni.depthwise(d);
}

static void mlk_binary_amx(const struct mlk_binary_row *r)
{
	mlk_simd_avx512vnni.binary(r);
}

static void mlk_pool_amx(const struct mlk_pool_line *l)
{
	mlk_simd_avx512vnni.pool(l);
}

const struct mlk_simd mlk_simd_amx = {
	.name = "amx",
	.product = mlk_product_amx,
	.depthwise = mlk_depthwise_amx,
	.binary = mlk_binary_amx,
	.pool = mlk_pool_amx,
	.dots_s16 = mlk_dots_s16_sse2,
};

#endif /* MLK_ARCH_AMX */
