/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* A depthwise filter for registers of 16 bytes. */
#ifndef MLK_LANES_H
#define MLK_LANES_H

#include "mlk_arch.h"

/* 16 bytes, of which @n are there, and zeros. */
static inline void mlk_load_words(s32 words[4], const s8 *x, u32 n)
{
	u32 i;

	for (i = 0; i < 4; i++)
		words[i] = 4 * i < n ? mlk_load_word(x + 4 * i, n - 4 * i) : 0;
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

#endif /* MLK_LANES_H */
