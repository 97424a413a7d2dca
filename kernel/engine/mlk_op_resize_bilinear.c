// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * RESIZE_BILINEAR of int8; which rows and columns are mixed is in two tables.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/resize_bilinear.h.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_RESIZE_BILINEAR

static const struct mlk_lerp *mlk_lerps(const void *program, u32 offset)
{
	return (const struct mlk_lerp *)((const u8 *)program + offset);
}

static int mlk_lerps_ok(const struct mlk_lerp *lerp, u32 count, u32 in)
{
	u32 i;

	for (i = 0; i < count; i++)
		if (lerp[i].lower >= in || lerp[i].upper >= in ||
		    lerp[i].fraction < -MLK_LERP_ONE ||
		    lerp[i].fraction > MLK_LERP_ONE)
			return 0;
	return 1;
}

int mlk_check_resize_bilinear(struct mlk_check *c)
{
	const struct mlk_resize_bilinear_params *p = &c->op->resize_bilinear;
	const struct mlk_header *h = c->header;

	c->used_words = sizeof(*p) / 4;
	if (!p->batches || !p->in_h || !p->in_w || !p->out_h || !p->out_w ||
	    !p->channels)
		return MLK_REASON_PARAM;
	if (mlk_operand(c, 0)->bytes !=
		    mlk_volume(p->batches, p->in_h, p->in_w, p->channels) ||
	    mlk_result(c, 0)->bytes !=
		    mlk_volume(p->batches, p->out_h, p->out_w, p->channels))
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->rows, (u64)p->out_h * sizeof(struct mlk_lerp)) ||
	    !mlk_data_ok(c, p->columns,
			 (u64)p->out_w * sizeof(struct mlk_lerp)))
		return MLK_REASON_DATA;
	if (!mlk_lerps_ok(mlk_lerps(h, p->rows), p->out_h, p->in_h) ||
	    !mlk_lerps_ok(mlk_lerps(h, p->columns), p->out_w, p->in_w))
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

/*
 * Fractions are within +-1, so the sizes of the four weights add up to less
 * than 9 * 2^20 and a sum of products stays inside 31 bits.
 */
static void mlk_lerp_pixel(const s8 *const *from, s32 v, s32 h, u32 channels,
			   s8 *out)
{
	const s8 *nw = from[0], *ne = from[1], *sw = from[2], *se = from[3];
	s32 weight_nw = (MLK_LERP_ONE - v) * (MLK_LERP_ONE - h);
	s32 weight_ne = (MLK_LERP_ONE - v) * h;
	s32 weight_sw = v * (MLK_LERP_ONE - h);
	s32 weight_se = v * h;
	u32 i;

	for (i = 0; i < channels; i++) {
		s32 sum = nw[i] * weight_nw + ne[i] * weight_ne +
			  sw[i] * weight_sw + se[i] * weight_se;

		/* to the nearest, ties away from zero */
		out[i] = (s8)mlk_round_shift(sum, 20);
	}
}

void mlk_run_resize_bilinear(const struct mlk_frame *f)
{
	const struct mlk_resize_bilinear_params *p = &f->op->resize_bilinear;
	const struct mlk_lerp *rows = mlk_lerps(f->program, p->rows);
	const struct mlk_lerp *columns = mlk_lerps(f->program, p->columns);
	size_t pitch = (size_t)p->in_w * p->channels;
	const s8 *image = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 batch, y, x;

	for (batch = 0; batch < p->batches; batch++) {
		for (y = 0; y < p->out_h; y++) {
			const s8 *north = image + rows[y].lower * pitch;
			const s8 *south = image + rows[y].upper * pitch;

			for (x = 0; x < p->out_w; x++) {
				size_t west =
					(size_t)columns[x].lower * p->channels;
				size_t east =
					(size_t)columns[x].upper * p->channels;
				const s8 *const from[] = {
					north + west,
					north + east,
					south + west,
					south + east,
				};

				mlk_lerp_pixel(from, rows[y].fraction,
					       columns[x].fraction, p->channels,
					       out);
				out += p->channels;
			}
		}
		image += p->in_h * pitch;
	}
}

#endif /* MLK_CONFIG_RESIZE_BILINEAR */
