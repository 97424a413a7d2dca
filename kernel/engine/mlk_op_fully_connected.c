// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* FULLY_CONNECTED of int8, and CONV_2D with a kernel of one pixel. */
#include "mlk_op.h"

#if MLK_CONFIG_FULLY_CONNECTED

int mlk_check_fully_connected(struct mlk_check *c)
{
	const struct mlk_fc_params *p = &c->op->fc;

	c->used_words = sizeof(*p) / 4;
	if (!p->rows || p->weight_offset < -127 || p->weight_offset > 128)
		return MLK_REASON_PARAM;
	if ((u64)p->rows * p->w.depth != mlk_operand(c, 0)->bytes ||
	    (u64)p->rows * p->w.width != mlk_result(c, 0)->bytes)
		return MLK_REASON_OPERAND;
	c->macs = (u64)p->rows * p->w.depth * p->w.width;
	return mlk_weights_ok(c, &p->w);
}

/*
 * Weights with a zero point add weight_offset * (sum of the inputs) to every
 * output of a row. That is a bias of the row's own: rare, so simply and slowly.
 */
static void mlk_fc_row_offset(const struct mlk_product *row, s32 weight_offset)
{
	struct mlk_product one = *row;
	u32 sum = 0;
	u32 i, j;

	for (i = 0; i < row->depth; i++) {
		s32 x = row->in[i];

		sum += (u32)x;
	}
	for (i = 0; i < row->width; i += MLK_BLOCK_OUTPUTS) {
		s32 bias[MLK_BLOCK_OUTPUTS];

		for (j = 0; j < MLK_BLOCK_OUTPUTS; j++)
			bias[j] = (s32)((u32)row->bias[i + j] +
					(u32)weight_offset * sum);
		one.bias = bias;
		one.multiplier = row->multiplier + i;
		one.shift = row->shift + i;
		one.width = row->width - i;
		if (one.width > MLK_BLOCK_OUTPUTS)
			one.width = MLK_BLOCK_OUTPUTS;
		one.out = row->out + i;
		mlk_product_c(&one);
		one.packed += (size_t)((row->depth + 3) / 4) *
			      MLK_BLOCK_OUTPUTS * MLK_BLOCK_INPUTS;
	}
}

void mlk_run_fully_connected(const struct mlk_frame *f)
{
	const struct mlk_fc_params *p = &f->op->fc;
	struct mlk_product product = mlk_product_of(f, &p->w);
	u32 row;

	product.in = mlk_in(f, 0);
	product.out = mlk_out(f, 0);
	product.rows = p->rows;
	/* tensors begin at multiples of 16, and the arena ends at one */
	product.padded = p->rows == 1;
	product.in_stride = p->w.depth;
	product.out_stride = p->w.width;
	if (!p->weight_offset) {
		mlk_multiply(f, &product);
		return;
	}
	product.rows = 1;
	for (row = 0; row < p->rows; row++) {
		mlk_fc_row_offset(&product, p->weight_offset);
		product.in += p->w.depth;
		product.out += p->w.width;
	}
}

#endif /* MLK_CONFIG_FULLY_CONNECTED */
