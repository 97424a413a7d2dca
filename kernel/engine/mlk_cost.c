// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What a run takes at most, told from what the program says it does: operators,
 * multiply-accumulates, and all other values that are computed or moved. Loops
 * have a start and an end, so a row of less than 16 counts as 16.
 *
 * Nothing here can overflow before it is added up: what the verifier let pass
 * has tensors, and so rows times their length, of at most 2^28.
 */
#include "mlk_spatial.h"

/**
 * struct mlk_work - what one operator does
 * @macs: multiply-accumulates
 * @items: other values, in steps of a simple one such as a table's
 */
struct mlk_work {
	u64 macs;
	u64 items;
};

static u64 mlk_padded(u64 length)
{
	return (length + 15) & ~15ull;
}

static u64 mlk_rows(u64 rows, u64 length)
{
	return rows * mlk_padded(length);
}

/* The same for all values of a tensor, in rows of a length that is not 0. */
static u64 mlk_in_rows(u32 values, u32 row)
{
	return mlk_rows(values / row, row);
}

/* Rows of so many bytes that are moved as a whole: 16 at once. */
static u64 mlk_blocks(u64 rows, u64 bytes)
{
	return mlk_rows(rows, bytes / 16 + 1);
}

/* @taps factors for each of the results; rescaling one is like four others. */
static struct mlk_work mlk_filter_work(u32 results, u32 width, u64 taps)
{
	u64 outputs = mlk_in_rows(results, width);

	return (struct mlk_work){ .macs = outputs * taps,
				  .items = 4 * outputs };
}

static struct mlk_work mlk_conv_work(const struct mlk_check *c)
{
	const struct mlk_conv_params *p = &c->op->conv;
	const struct mlk_window *w = &p->window;
	u32 results = mlk_result(c, 0)->bytes;
	struct mlk_work work;

	work = mlk_filter_work(results, p->w.width, mlk_padded(p->w.depth));
	/* for each line of results, lines of the image go into the scratch */
	work.items += (u64)w->batches * w->out_h *
		      (48 * (u64)w->filter_h + mlk_result(c, 1)->bytes / 16);
	return work;
}

static struct mlk_work mlk_pool_work(const struct mlk_pool_params *p,
				     u32 results)
{
	const struct mlk_window *w = &p->window;
	/* the part of the filter that is inside the image */
	u64 taps = (u64)mlk_min_u32(w->filter_h, w->in_h) *
		   mlk_min_u32(w->filter_w, w->in_w);

	return mlk_filter_work(results, p->channels, taps);
}

static struct mlk_work
mlk_transpose_conv_work(const struct mlk_transpose_conv_params *p, u32 results)
{
	const struct mlk_window *w = &p->window;
	u64 taps = (u64)((w->filter_h - 1) / w->stride_h + 1) *
		   ((w->filter_w - 1) / w->stride_w + 1);

	return (struct mlk_work){
		/* each channel of the result is a loop of its own */
		.macs = mlk_rows(results * taps, p->channels),
		.items = 4 * mlk_in_rows(results, p->width),
	};
}

static struct mlk_work mlk_conv_s16_work(const struct mlk_conv_s16_params *p,
					 u32 results)
{
	u64 taps = (u64)p->window.filter_h * p->window.filter_w;
	struct mlk_work work;

	/* a group of one channel is done a row of outputs at a time */
	if (p->groups == p->channels)
		return mlk_filter_work(results, p->width, taps);
	work.macs = mlk_rows(results * taps, p->channels / p->groups);
	work.items = 8 * (u64)results;
	return work;
}

static struct mlk_work mlk_svdf_work(const struct mlk_svdf_params *p)
{
	u64 filters = (u64)p->batches * p->units * p->rank;

	return (struct mlk_work){
		.macs = filters *
			(mlk_padded(p->inputs) + mlk_padded(p->memory)),
		.items = 8 * filters,
	};
}

static struct mlk_work mlk_lstm_work(const struct mlk_lstm_params *p)
{
	u64 cells = (u64)p->batches * p->steps * p->cells;

	return (struct mlk_work){
		.macs = cells * p->gates *
			(mlk_padded(p->inputs) + mlk_padded(p->cells)),
		/* five functions of 16 bits and some products each */
		.items = 64 * cells,
	};
}

static u64 mlk_move_items(const struct mlk_move_params *p)
{
	u64 rows = 1;
	u32 i;

	for (i = 0; i < MLK_MAX_RANK - 1; i++)
		rows *= p->dims[i];
	if (p->in_strides[i] == 1 && p->out_strides[i] == 1)
		return mlk_blocks(rows, (u64)p->dims[i] * p->item);
	return mlk_rows(rows, p->dims[i]);
}

/* Bytes of all operands and results. */
static u64 mlk_op_bytes(const struct mlk_check *c)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < MLK_OP_OPERANDS; i++)
		if (c->op->in[i] != MLK_NO_TENSOR)
			bytes += mlk_operand(c, i)->bytes;
	for (i = 0; i < MLK_OP_RESULTS; i++)
		if (c->op->out[i] != MLK_NO_TENSOR)
			bytes += mlk_result(c, i)->bytes;
	return bytes;
}

static struct mlk_work mlk_work_of(const struct mlk_check *c)
{
	const struct mlk_op *op = c->op;
	u32 results = mlk_result(c, 0)->bytes;
	u64 bytes = mlk_op_bytes(c);
	struct mlk_work work = { 0 };
	u32 row;

	switch (op->opcode) {
	case MLK_OP_COPY:
		work.items = mlk_blocks(1, results);
		break;
	case MLK_OP_LUT:
	case MLK_OP_FILL:
		work.items = results;
		break;
	case MLK_OP_REQUANTIZE:
	case MLK_OP_LUT_S16:
	case MLK_OP_SIGMOID_S16:
		work.items = 4 * bytes;
		break;
	case MLK_OP_FULLY_CONNECTED:
		work = mlk_filter_work(results, op->fc.w.width,
				       mlk_padded(op->fc.w.depth));
		break;
	case MLK_OP_CONV_2D:
		work = mlk_conv_work(c);
		break;
	case MLK_OP_DEPTHWISE_CONV:
		/* taps come in fours */
		work = mlk_filter_work(results, op->conv.w.width,
				       (u64)op->conv.w.depth + 3);
		break;
	case MLK_OP_TRANSPOSE_CONV:
		work = mlk_transpose_conv_work(&op->transpose_conv, results);
		break;
	case MLK_OP_POOL:
		work = mlk_pool_work(&op->pool, results);
		break;
	case MLK_OP_POOL_S16:
		work = mlk_pool_work(&op->pool, results / 2);
		break;
	case MLK_OP_CONV_S16:
		work = mlk_conv_s16_work(&op->conv_s16, results / 2);
		break;
	case MLK_OP_SVDF:
		work = mlk_svdf_work(&op->svdf);
		break;
	case MLK_OP_LSTM:
		work = mlk_lstm_work(&op->lstm);
		break;
	case MLK_OP_BATCH_MATMUL:
		work = mlk_filter_work(results, op->matmul.columns,
				       op->matmul.depth);
		break;
	case MLK_OP_REDUCE:
	case MLK_OP_ARG_EXTREME:
		work.items = 2 * bytes + mlk_rows(results, 1);
		break;
	case MLK_OP_SOFTMAX:
		work.items = 8 * mlk_rows(op->softmax.rows, op->softmax.depth);
		break;
	case MLK_OP_LOG_SOFTMAX:
		work.items = 8 * mlk_rows(op->log_softmax.rows,
					  op->log_softmax.depth);
		break;
	case MLK_OP_SOFTMAX_S16:
		work.items = 16 * mlk_rows(op->softmax_s16.rows,
					   op->softmax_s16.depth);
		break;
	case MLK_OP_RSQRT_S16:
		work.items = 16 * bytes;
		break;
	case MLK_OP_L2_NORM:
		work.items = 8 * mlk_rows(op->l2_norm.rows, op->l2_norm.depth);
		break;
	case MLK_OP_BINARY:
		row = op->binary.dims[MLK_MAX_RANK - 1];
		work.items = 8 * mlk_in_rows(results, row);
		break;
	case MLK_OP_MOVE:
		work.items = mlk_move_items(&op->move);
		break;
	case MLK_OP_TAKE:
		row = op->take.slice;
		work.items = row == 1 ? results + mlk_rows(op->take.outer, 1) :
					mlk_blocks(results / row, row);
		break;
	case MLK_OP_SPACE_BATCH:
		row = op->space_batch.depth;
		work.items = 2 * mlk_blocks((u32)bytes / row, row);
		break;
	case MLK_OP_RESIZE_BILINEAR:
		row = op->resize_bilinear.channels;
		work.items = 4 * mlk_in_rows(results, row);
		break;
	default:
		/* whatever it is: no row is longer than one */
		row = (u32)(op - mlk_op_at(c->header, 0));
		work.macs = 16 * mlk_program_op_macs(c->header, row);
		work.items = 16 * mlk_rows(bytes, 1);
		break;
	}
	return work;
}

static u64 mlk_add(u64 a, u64 b)
{
	return a + b < a ? ~0ull : a + b;
}

static u64 mlk_times(u64 a, u32 b)
{
	u64 high = (a >> 32) * b, low = (a & 0xffffffff) * b;

	return high >> 32 ? ~0ull : mlk_add(high << 32, low);
}

u64 mlk_program_cost(const void *program, const struct mlk_speed *speed)
{
	static const struct mlk_speed slow = MLK_SPEED_SLOW;
	struct mlk_check c = { .header = program };
	u64 ps = 0;
	u32 i;

	if (!speed)
		speed = &slow;
	for (i = c.header->n_init_ops; i < c.header->n_ops; i++) {
		struct mlk_work work;

		c.op = mlk_op_at(c.header, i);
		work = mlk_work_of(&c);
		ps = mlk_add(ps, speed->op_ps);
		ps = mlk_add(ps, mlk_times(work.macs, speed->mac_ps));
		ps = mlk_add(ps, mlk_times(work.items, speed->item_ps));
	}
	/* a little more than a thousandth, without a division of 64 bits */
	return ps == ~0ull ? ps : (ps >> 10) + (ps >> 15) + 1;
}
