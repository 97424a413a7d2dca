/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What ARM's loops share. MLK_TARGET is the instruction set of the including
 * file: these functions are compiled for it too, and so can be inlined.
 */
#ifndef MLK_ARM_H
#define MLK_ARM_H

#include <arm_neon.h>

#include "mlk_arch.h"

/* What a newer instruction set does not do better. */
void mlk_binary_neon(const struct mlk_binary_row *row);
void mlk_depthwise_dotprod(const struct mlk_depthwise *d);

/* mlk_requant() of 4 sums */
MLK_TARGET static inline int32x4_t
mlk_requant4(int32x4_t x, int32x4_t multiplier, int32x4_t shift)
{
	const int32x4_t zero = vdupq_n_s32(0);
	const int32x4_t right = vminq_s32(shift, zero);

	x = vshlq_s32(x, vmaxq_s32(shift, zero));
	/* saturates only if both are the least number; a multiplier is >= 0 */
	x = vqrdmulhq_s32(x, multiplier);
	/* ties go up, so a negative number that is shifted starts one lower */
	x = vaddq_s32(x, vshrq_n_s32(vandq_s32(x, right), 31));
	return vrshlq_s32(x, right);
}

/*
 * 16 requantised numbers to bytes. Saturation on the way changes nothing,
 * because the range is that of bytes.
 */
MLK_TARGET static inline int8x16_t
mlk_narrow(const int32x4_t x[4], s32 zero_point, s32 least, s32 most)
{
	const int16x8_t offset = vdupq_n_s16((s16)zero_point);
	int16x8_t lo = vcombine_s16(vqmovn_s32(x[0]), vqmovn_s32(x[1]));
	int16x8_t hi = vcombine_s16(vqmovn_s32(x[2]), vqmovn_s32(x[3]));
	int8x16_t q = vcombine_s8(vqmovn_s16(vqaddq_s16(lo, offset)),
				  vqmovn_s16(vqaddq_s16(hi, offset)));

	q = vmaxq_s8(q, vdupq_n_s8((s8)least));
	return vminq_s8(q, vdupq_n_s8((s8)most));
}

/* 16 bytes, of which at least @n are there. */
MLK_TARGET static inline int8x16_t mlk_load16(const s8 *x, u32 n)
{
	s32 words[4] = { 0 };
	u32 i;

	if (n >= 16)
		return vld1q_s8(x);
	for (i = 0; i < n; i += 4)
		words[i / 4] = mlk_load_word(x + i, n - i);
	return vreinterpretq_s8_s32(vld1q_s32(words));
}

/* 16 bytes, of which @n may be written. */
MLK_TARGET static inline void mlk_store16(s8 *out, int8x16_t x, u32 n)
{
	s8 q[16];

	if (n >= 16) {
		vst1q_s8(out, x);
		return;
	}
	vst1q_s8(q, x);
	memcpy(out, q, n);
}

/* Sums of outputs from number @i on, of which @n may be written to @out. */
MLK_TARGET static inline void mlk_finish(const struct mlk_product *p,
					 const int32x4_t acc[4], u32 i, s8 *out,
					 u32 n)
{
	int32x4_t x[4];
	u32 j;

#pragma GCC unroll 4
	for (j = 0; j < 4; j++)
		x[j] = mlk_requant4(acc[j],
				    vld1q_s32(p->multiplier + i + 4 * j),
				    vld1q_s32(p->shift + i + 4 * j));
	mlk_store16(out,
		    mlk_narrow(x, p->out_zero_point, p->act_min, p->act_max),
		    n);
}

/* The block of a row at output @i. */
MLK_TARGET static inline void mlk_store(const struct mlk_product *p, s8 *out,
					const int32x4_t acc[4], u32 i)
{
	mlk_finish(p, acc, i, out + i, p->padded ? 16 : p->width - i);
}

/*
 * 16 channels of a depthwise filter, or fewer of several neighbouring pixels.
 * @w has 64 bytes for each four taps, as in the program: four for each channel.
 */
struct mlk_lanes {
	struct mlk_product p;
	s32 bias[16];
	s32 multiplier[16];
	s32 shift[16];
	s8 w[MLK_DEPTHWISE_TAPS * 16];
};

/* Channels from @first on; after @repeat lanes they begin again. */
static inline void mlk_lanes_of(struct mlk_lanes *l,
				const struct mlk_product *p, u32 first,
				u32 repeat)
{
	size_t step = (((size_t)p->width + 15) & ~(size_t)15) * 4;
	u32 i, tap;

	l->p = *p;
	l->p.bias = l->bias;
	l->p.multiplier = l->multiplier;
	l->p.shift = l->shift;
	for (i = 0; i < 16; i++) {
		u32 channel = first + i % repeat;
		const s8 *w = p->packed + (size_t)channel * 4;

		l->bias[i] = p->bias[channel];
		l->multiplier[i] = p->multiplier[channel];
		l->shift[i] = p->shift[channel];
		for (tap = 0; tap < p->depth; tap += 4, w += step)
			memcpy(l->w + 16 * tap + 4 * i, w, 4);
	}
}

/*
 * @run for all channels at all positions. @ready puts the lanes' weights into
 * another order; NULL leaves them.
 */
static MLK_INLINE void mlk_depthwise_lanes(
	const struct mlk_depthwise *d, void (*ready)(struct mlk_lanes *lanes),
	void (*run)(const void *lanes, const struct mlk_place *place))
{
	u32 width = d->p.width, pixels = 1, first;
	struct mlk_lanes lanes;

	if (width < 16) {
		/* an image of few channels is one of many; weights repeat */
		if (d->window->stride_w == 1)
			pixels = 16 / width;
		mlk_lanes_of(&lanes, &d->p, 0, width);
		if (ready)
			ready(&lanes);
		mlk_each_place(d, 0, width, pixels, run, &lanes);
		return;
	}
	for (first = 0; first < width; first += 16) {
		/* the last ones again rather than fewer */
		if (first + 16 > width)
			first = width - 16;
		mlk_lanes_of(&lanes, &d->p, first, 16);
		if (ready)
			ready(&lanes);
		mlk_each_place(d, first, 16, 1, run, &lanes);
	}
}

#endif /* MLK_ARM_H */
