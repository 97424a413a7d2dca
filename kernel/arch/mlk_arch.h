/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Inner loops for instruction sets, for user space: vector registers need care
 * in a kernel. Each is byte for byte the same as the plain C in kernel/engine.
 */
#ifndef MLK_ARCH_H
#define MLK_ARCH_H

#include "mlk_arch_find.h"
#include "mlk_op.h"

/* The build chooses loops with -DMLK_CONFIG_ARCH_<NAME>=0; all are on by default. */
#ifndef MLK_CONFIG_ARCH_AMX
#define MLK_CONFIG_ARCH_AMX 1
#endif
#ifndef MLK_CONFIG_ARCH_AVX512VNNI
#define MLK_CONFIG_ARCH_AVX512VNNI 1
#endif
#ifndef MLK_CONFIG_ARCH_AVXVNNI
#define MLK_CONFIG_ARCH_AVXVNNI 1
#endif
#ifndef MLK_CONFIG_ARCH_AVX2
#define MLK_CONFIG_ARCH_AVX2 1
#endif
#ifndef MLK_CONFIG_ARCH_SSE2
#define MLK_CONFIG_ARCH_SSE2 1
#endif
#ifndef MLK_CONFIG_ARCH_I8MM
#define MLK_CONFIG_ARCH_I8MM 1
#endif
#ifndef MLK_CONFIG_ARCH_DOTPROD
#define MLK_CONFIG_ARCH_DOTPROD 1
#endif
#ifndef MLK_CONFIG_ARCH_NEON
#define MLK_CONFIG_ARCH_NEON 1
#endif

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

/**
 * struct mlk_place - a position of a depthwise filter, or neighbours of it
 * @tap: the pixel below each tap; up to a multiple of four they are readable
 * @shift: to be added to each @tap
 * @bytes: how many outputs
 * @out: first output
 */
struct mlk_place {
	const s8 *tap[MLK_DEPTHWISE_TAPS];
	size_t shift;
	u32 bytes;
	s8 *out;
};

/*
 * The pixels below all taps of the position whose first one is (y, x). No
 * function of its own: it is called for each position at the border.
 */
static MLK_INLINE void mlk_place_at(const struct mlk_depthwise *d,
				    const s8 *image, u32 y, u32 x,
				    const s8 *border, struct mlk_place *place)
{
	const struct mlk_window *w = d->window;
	const size_t across = (size_t)w->dilation_w * d->p.width;
	const size_t down = (size_t)w->dilation_h * w->in_w * d->p.width;
	/* may be outside of the image, and is not followed there */
	size_t line = ((size_t)(s32)y * w->in_w + (size_t)(s32)x) * d->p.width;
	const s8 **tap = place->tap;
	u32 i, j, column;

	for (i = 0; i < w->filter_h; i++, y += w->dilation_h, line += down) {
		size_t at = line;

		for (j = 0, column = x; j < w->filter_w; j++) {
			/* above or left of the image is beyond it, too */
			*tap++ = y < w->in_h && column < w->in_w ? image + at :
								   border;
			column += w->dilation_w;
			at += across;
		}
	}
	/* these have no weights: read what is there */
	for (i = d->p.depth; i % 4; i++)
		*tap++ = place->tap[0];
	place->shift = 0;
}

/*
 * Call @run for channels [@first, @first + @lanes) at all positions. Where
 * @pixels is more than 1, so many neighbours at once if all their taps lie in
 * the image: an image of few channels is one of many, whose weights repeat.
 */
static MLK_INLINE void
mlk_each_place(const struct mlk_depthwise *d, u32 first, u32 lanes, u32 pixels,
	       void (*run)(const void *lanes, const struct mlk_place *place),
	       const void *context)
{
	const struct mlk_window *w = d->window;
	const u32 down = (w->filter_h - 1) * w->dilation_h;
	const u32 across = (w->filter_w - 1) * w->dilation_w;
	const s8 *image = d->p.in + first;
	struct mlk_place inner, outer;
	u32 batch, row, column, n, x;
	s8 *out = d->p.out + first;
	s8 border[64];

	memset(border, d->in_zero_point, sizeof(border));
	for (batch = 0; batch < w->batches; batch++) {
		for (row = 0; row < w->out_h; row++) {
			u32 y = row * w->stride_h - w->pad_h;
			u32 whole = y < w->in_h && y + down < w->in_h;
			u32 from = 0, known = 0;

			for (column = 0; column < w->out_w; column += n) {
				x = column * w->stride_w - w->pad_w;
				n = 1;
				if (!whole || x >= w->in_w ||
				    x + across >= w->in_w) {
					mlk_place_at(d, image, y, x, border,
						     &outer);
					outer.bytes = lanes;
					outer.out = out;
					run(context, &outer);
					out += d->p.width;
					continue;
				}
				if (!known) {
					mlk_place_at(d, image, y, x, border,
						     &inner);
					from = x;
					known = 1;
				}
				if (pixels > 1) {
					n = w->in_w - across - x;
					if (n > w->out_w - column)
						n = w->out_w - column;
					if (n > pixels)
						n = pixels;
				}
				inner.shift = (size_t)(x - from) * d->p.width;
				inner.bytes = lanes * n;
				inner.out = out;
				run(context, &inner);
				out += (size_t)n * d->p.width;
			}
		}
		image += (size_t)w->in_h * w->in_w * d->p.width;
	}
}

/*
 * What this compiler can make and the build wants. The larger sets take some loops
 * from the smaller ones, so they are there only with those, as in Kconfig.
 */
#if defined(__x86_64__) && MLK_CONFIG_ARCH_SSE2
#define MLK_ARCH_SSE2
extern const struct mlk_simd mlk_simd_sse2;

/* also for the instruction sets above */
void mlk_dots_s16_sse2(const struct mlk_dots_s16 *d);
#if MLK_CONFIG_ARCH_AVX2
#define MLK_ARCH_AVX2
extern const struct mlk_simd mlk_simd_avx2;
#if MLK_CONFIG_ARCH_AVXVNNI
#define MLK_ARCH_AVXVNNI
extern const struct mlk_simd mlk_simd_avxvnni;
#endif
#endif
#if MLK_CONFIG_ARCH_AVX512VNNI
#define MLK_ARCH_AVX512VNNI
extern const struct mlk_simd mlk_simd_avx512vnni;
#if MLK_CONFIG_ARCH_AMX
#define MLK_ARCH_AMX
extern const struct mlk_simd mlk_simd_amx;
#endif
#endif
#endif

/*
 * Every 64-bit ARM has NEON. For 32 bits only gcc compiles a function for it in
 * a file that is not; its floating point must be in registers.
 */
#if MLK_CONFIG_ARCH_NEON && \
	(defined(__aarch64__) || \
	 (defined(__arm__) && defined(__linux__) && \
	  (defined(__ARM_NEON) || \
	   (defined(__ARM_FP) && !defined(__clang__) && __ARM_ARCH >= 7 && \
	    __ARM_ARCH_PROFILE == 'A'))))
#define MLK_ARCH_NEON
extern const struct mlk_simd mlk_simd_neon;
#endif

/* older compilers lack these, or know them only for a whole file */
#if defined(MLK_ARCH_NEON) && MLK_CONFIG_ARCH_DOTPROD && \
	defined(__aarch64__) && defined(__linux__) && \
	((defined(__clang__) && __clang_major__ >= 16) || \
	 (!defined(__clang__) && __GNUC__ >= 10))
#define MLK_ARCH_DOTPROD
extern const struct mlk_simd mlk_simd_dotprod;
#if MLK_CONFIG_ARCH_I8MM
#define MLK_ARCH_I8MM
extern const struct mlk_simd mlk_simd_i8mm;
#endif
#endif

#endif /* MLK_ARCH_H */
