// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND: an image's phases, each block_h-th
 * row and block_w-th column, become images of their own, and back.
 * Source: tensorflow/lite/kernels/internal/reference/space_to_batch_nd.h and
 * batch_to_space_nd.h.
 */
#include "mlk_spatial.h"

#if MLK_CONFIG_SPACE_BATCH

int mlk_check_space_batch(struct mlk_check *c)
{
	const struct mlk_space_batch_params *p = &c->op->space_batch;
	const struct mlk_tensor *space, *phases;
	u64 blocks;

	c->used_words = sizeof(*p) / 4;
	if (!p->batches || !p->space_h || !p->space_w || !p->block_h ||
	    !p->block_w || !p->cells_h || !p->cells_w || !p->depth ||
	    p->block_h > MLK_MAX_REACH || p->block_w > MLK_MAX_REACH ||
	    p->pad_h > MLK_MAX_REACH || p->pad_w > MLK_MAX_REACH ||
	    p->to_space > 1 || !mlk_is_s8(p->fill))
		return MLK_REASON_PARAM;

	space = p->to_space ? mlk_result(c, 0) : mlk_operand(c, 0);
	phases = p->to_space ? mlk_operand(c, 0) : mlk_result(c, 0);
	blocks = mlk_volume(p->batches, p->block_h, p->block_w, 1);
	if (space->bytes !=
		    mlk_volume(p->batches, p->space_h, p->space_w, p->depth) ||
	    phases->bytes !=
		    mlk_volume((u32)blocks, p->cells_h, p->cells_w, p->depth))
		return MLK_REASON_OPERAND;

	/* each pixel of the image must be in a cell, if cells are read */
	if (p->to_space &&
	    ((p->space_h - 1 + p->pad_h) / p->block_h >= p->cells_h ||
	     (p->space_w - 1 + p->pad_w) / p->block_w >= p->cells_w))
		return MLK_REASON_PARAM;
	/* and no position of a cell may overflow, if cells are written */
	if ((u64)p->cells_h * p->block_h > MLK_MAX_REACH ||
	    (u64)p->cells_w * p->block_w > MLK_MAX_REACH)
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

static void mlk_to_space(const struct mlk_space_batch_params *p, const s8 *in,
			 s8 *out)
{
	u32 batch, y, x;

	for (batch = 0; batch < p->batches; batch++) {
		for (y = p->pad_h; y < p->space_h + p->pad_h; y++) {
			u32 rows = (y % p->block_h) * p->block_w;

			for (x = p->pad_w; x < p->space_w + p->pad_w; x++) {
				size_t at = rows + x % p->block_w;

				at = at * p->batches + batch;
				at = at * p->cells_h + y / p->block_h;
				at = at * p->cells_w + x / p->block_w;
				memmove(out, in + at * p->depth, p->depth);
				out += p->depth;
			}
		}
	}
}

/* One phase of one image. */
static void mlk_to_phase(const struct mlk_space_batch_params *p,
			 const s8 *image, u32 phase_y, u32 phase_x, s8 *out)
{
	u32 cell_y, cell_x;

	for (cell_y = 0; cell_y < p->cells_h; cell_y++) {
		/* above or left of the image is beyond it, too */
		u32 y = cell_y * p->block_h + phase_y - p->pad_h;

		for (cell_x = 0; cell_x < p->cells_w; cell_x++) {
			u32 x = cell_x * p->block_w + phase_x - p->pad_w;
			size_t at = (size_t)y * p->space_w + x;

			if (y < p->space_h && x < p->space_w)
				memmove(out, image + at * p->depth, p->depth);
			else
				memset(out, p->fill, p->depth);
			out += p->depth;
		}
	}
}

void mlk_run_space_batch(const struct mlk_frame *f)
{
	const struct mlk_space_batch_params *p = &f->op->space_batch;
	size_t image = (size_t)p->space_h * p->space_w * p->depth;
	size_t phase = (size_t)p->cells_h * p->cells_w * p->depth;
	const s8 *in = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 y, x, batch;

	if (p->to_space) {
		mlk_to_space(p, in, out);
		return;
	}
	for (y = 0; y < p->block_h; y++) {
		for (x = 0; x < p->block_w; x++) {
			for (batch = 0; batch < p->batches; batch++) {
				mlk_to_phase(p, in + batch * image, y, x, out);
				out += phase;
			}
		}
	}
}

#endif /* MLK_CONFIG_SPACE_BATCH */
