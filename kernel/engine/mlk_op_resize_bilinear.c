// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * RESIZE_BILINEAR of int8 or int16; which rows and columns are mixed is in two tables.
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
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);
	const struct mlk_header *h = c->header;
	u32 item = in->dtype == MLK_INT16 ? 2 : 1;

	c->used_words = sizeof(*p) / 4;
	if (!p->batches || !p->in_h || !p->in_w || !p->out_h || !p->out_w ||
	    !p->channels)
		return MLK_REASON_PARAM;
	if (in->dtype != out->dtype ||
	    in->bytes != item * mlk_volume(p->batches, p->in_h, p->in_w,
					   p->channels) ||
	    out->bytes != item * mlk_volume(p->batches, p->out_h, p->out_w,
					    p->channels))
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

/* The four pixels around a result, by their first elements, and their weights. */
struct mlk_lerp_corners {
	size_t at[4];
	s32 weight[4];
};

static struct mlk_lerp_corners mlk_corners(const struct mlk_lerp *row,
					   const struct mlk_lerp *column,
					   u32 width, u32 channels)
{
	size_t north = (size_t)row->lower * width;
	size_t south = (size_t)row->upper * width;
	s32 v = row->fraction, h = column->fraction;

	return (struct mlk_lerp_corners){
		.at = {
			(north + column->lower) * channels,
			(north + column->upper) * channels,
			(south + column->lower) * channels,
			(south + column->upper) * channels,
		},
		.weight = {
			(MLK_LERP_ONE - v) * (MLK_LERP_ONE - h),
			(MLK_LERP_ONE - v) * h,
			v * (MLK_LERP_ONE - h),
			v * h,
		},
	};
}

/*
 * Fractions are within +-1, so the sizes of the four weights add up to less
 * than 9 * 2^20 and a sum of products stays inside 31 bits.
 */
static void mlk_lerp_pixel(const struct mlk_lerp_corners *c, const s8 *in,
			   u32 channels, s8 *out)
{
	u32 i;

	for (i = 0; i < channels; i++, in++) {
		s32 sum = in[c->at[0]] * c->weight[0] +
			  in[c->at[1]] * c->weight[1] +
			  in[c->at[2]] * c->weight[2] +
			  in[c->at[3]] * c->weight[3];

		/* to the nearest, ties away from zero */
		out[i] = (s8)mlk_round_shift(sum, 20);
	}
}

static void mlk_lerp_wide(const struct mlk_lerp_corners *c, const s16 *in,
			  u32 channels, s16 *out)
{
	u32 i;

	for (i = 0; i < channels; i++, in++) {
		s64 sum = (s64)in[c->at[0]] * c->weight[0] +
			  (s64)in[c->at[1]] * c->weight[1] +
			  (s64)in[c->at[2]] * c->weight[2] +
			  (s64)in[c->at[3]] * c->weight[3];

		out[i] = (s16)((sum + (1 << 19) - (sum < 0)) >> 20);
	}
}

void mlk_run_resize_bilinear(const struct mlk_frame *f)
{
	const struct mlk_resize_bilinear_params *p = &f->op->resize_bilinear;
	const struct mlk_lerp *rows = mlk_lerps(f->program, p->rows);
	const struct mlk_lerp *columns = mlk_lerps(f->program, p->columns);
	int wide = f->tensors[f->op->in[0]].dtype == MLK_INT16;
	size_t image = (size_t)p->in_h * p->in_w * p->channels;
	const void *in = mlk_in(f, 0);
	void *out = mlk_out(f, 0);
	size_t from = 0, to = 0;
	u32 batch, y, x;

	for (batch = 0; batch < p->batches; batch++, from += image)
		for (y = 0; y < p->out_h; y++)
			for (x = 0; x < p->out_w; x++, to += p->channels) {
				struct mlk_lerp_corners c =
					mlk_corners(rows + y, columns + x,
						    p->in_w, p->channels);

				if (wide)
					mlk_lerp_wide(&c,
						      (const s16 *)in + from,
						      p->channels,
						      (s16 *)out + to);
				else
					mlk_lerp_pixel(&c,
						       (const s8 *)in + from,
						       p->channels,
						       (s8 *)out + to);
			}
}

#endif /* MLK_CONFIG_RESIZE_BILINEAR */
