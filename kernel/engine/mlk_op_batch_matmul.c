// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * BATCH_MATMUL of int8 or int16: matrices times matrices, either side transposed,
 * batches repeated as needed. Arithmetic: tensorflow/lite/kernels/internal/
 * reference/batch_matmul.h.
 */
#include "mlk_repeat.h"

#if MLK_CONFIG_BATCH_MATMUL

/* So many columns are summed side by side. */
#define MLK_MATMUL_COLUMNS 8

/* Is that the size of these matrices? No product leaves 64 bits. */
static int mlk_matmul_size_ok(const u32 *batch, u32 repeat, u32 rows,
			      u32 columns, const struct mlk_tensor *t)
{
	u64 batches = mlk_repeat_elements(batch, MLK_MATMUL_BATCH_RANK, repeat);
	u64 matrix = (u64)rows * columns;
	u32 item = t->dtype == MLK_INT16 ? 2 : 1;

	return matrix <= MLK_MAX_ARENA_BYTES &&
	       batches * matrix * item == t->bytes;
}

/* What int16 has not: zero points, and sums that are shifted to the left. */
static int mlk_matmul_wide_ok(const struct mlk_matmul_params *p)
{
	return !p->offset1 && !p->offset2 && !p->out_zero_point &&
	       p->shift <= MLK_WIDE_MAX_SHIFT;
}

int mlk_check_batch_matmul(struct mlk_check *c)
{
	const struct mlk_matmul_params *p = &c->op->matmul;
	const struct mlk_tensor *a = mlk_operand(c, 0);
	const struct mlk_tensor *b = mlk_operand(c, 1);
	const struct mlk_tensor *out = mlk_result(c, 0);
	int wide = a->dtype == MLK_INT16;

	c->used_words = sizeof(*p) / 4;
	if (!p->depth || p->transposed1 > 1 || p->transposed2 > 1 ||
	    (p->repeat1 | p->repeat2) >> MLK_MATMUL_BATCH_RANK ||
	    p->offset1 < -127 || p->offset1 > 128 || p->offset2 < -127 ||
	    p->offset2 > 128 || p->multiplier < 0 || p->shift < -31 ||
	    p->shift > 30 || p->out_zero_point < -128 ||
	    p->out_zero_point > 127)
		return MLK_REASON_PARAM;
	if ((a->dtype != MLK_INT8 && !wide) || b->dtype != a->dtype ||
	    out->dtype != a->dtype ||
	    !mlk_matmul_size_ok(p->batch, p->repeat1, p->rows, p->depth, a) ||
	    !mlk_matmul_size_ok(p->batch, p->repeat2, p->depth, p->columns,
				b) ||
	    !mlk_matmul_size_ok(p->batch, 0, p->rows, p->columns, out))
		return MLK_REASON_OPERAND;
	c->macs = (u64)mlk_items(out->bytes, wide ? 2 : 1) * p->depth;
	return wide && !mlk_matmul_wide_ok(p) ? MLK_REASON_PARAM :
						MLK_REASON_NONE;
}

/* One row of a result; @step is from one of its factors in @a to the next. */
static void mlk_matmul_row(const struct mlk_matmul_params *p, const s8 *a,
			   u32 step, const s8 *b, s8 *out)
{
	/* from one factor to the next, from one column to the next */
	u32 down = p->transposed2 ? 1 : p->columns;
	u32 right = p->transposed2 ? p->depth : 1;
	u32 i, j, k, n;

	for (j = 0; j < p->columns; j += n) {
		u32 sum[MLK_MATMUL_COLUMNS] = { 0 };
		const s8 *from = b + j * right;

		n = p->columns - j;
		if (n > MLK_MATMUL_COLUMNS)
			n = MLK_MATMUL_COLUMNS;
		for (k = 0; k < p->depth; k++) {
			s32 factor = a[k * step] + p->offset1;

			for (i = 0; i < n; i++)
				sum[i] += (u32)(factor *
						(from[i * right] + p->offset2));
			from += down;
		}
		for (i = 0; i < n; i++)
			out[j + i] = (s8)mlk_scaled(sum[i], p->multiplier,
						    p->shift, p->out_zero_point,
						    -128, 127);
	}
}

/* The same of int16, with sums of 64 bits. */
static void mlk_matmul_row_s16(const struct mlk_matmul_params *p, const s16 *a,
			       u32 step, const s16 *b, s16 *out)
{
	u32 down = p->transposed2 ? 1 : p->columns;
	u32 right = p->transposed2 ? p->depth : 1;
	u32 i, j, k, n;

	for (j = 0; j < p->columns; j += n) {
		u64 sum[MLK_MATMUL_COLUMNS] = { 0 };
		const s16 *from = b + j * right;

		n = p->columns - j;
		if (n > MLK_MATMUL_COLUMNS)
			n = MLK_MATMUL_COLUMNS;
		for (k = 0; k < p->depth; k++) {
			s32 factor = a[k * step];

			for (i = 0; i < n; i++)
				sum[i] += (u64)(s64)(factor * from[i * right]);
			from += down;
		}
		for (i = 0; i < n; i++) {
			s32 q = mlk_requant_wide(sum[i], p->multiplier,
						 p->shift);

			out[j + i] = (s16)mlk_clamp(q, -32768, 32767);
		}
	}
}

/* The matrices that begin with so many elements. */
static void mlk_matmul_matrix(const struct mlk_frame *f, u32 at1, u32 at2,
			      u32 at)
{
	const struct mlk_matmul_params *p = &f->op->matmul;
	u32 step = p->transposed1 ? p->rows : 1, row;
	int wide = f->tensors[f->op->in[0]].dtype == MLK_INT16;

	for (row = 0; row < p->rows; row++) {
		if (wide)
			mlk_matmul_row_s16(p, (const s16 *)mlk_in(f, 0) + at1,
					   step,
					   (const s16 *)mlk_in(f, 1) + at2,
					   (s16 *)mlk_out(f, 0) + at);
		else
			mlk_matmul_row(p, (const s8 *)mlk_in(f, 0) + at1, step,
				       (const s8 *)mlk_in(f, 1) + at2,
				       (s8 *)mlk_out(f, 0) + at);
		at1 += p->transposed1 ? 1 : p->depth;
		at += p->columns;
	}
}

void mlk_run_batch_matmul(const struct mlk_frame *f)
{
	const struct mlk_matmul_params *p = &f->op->matmul;
	const u32 size1 = p->rows * p->depth, size2 = p->depth * p->columns;
	struct mlk_walk walk = { 0 };
	u32 at = 0;

	mlk_repeat_strides(walk.step1, p->batch, MLK_MATMUL_BATCH_RANK,
			   p->repeat1);
	mlk_repeat_strides(walk.step2, p->batch, MLK_MATMUL_BATCH_RANK,
			   p->repeat2);
	do {
		mlk_matmul_matrix(f, walk.at1 * size1, walk.at2 * size2, at);
		at += p->rows * p->columns;
	} while (mlk_walk_next(&walk, p->batch, MLK_MATMUL_BATCH_RANK));
}

#endif /* MLK_CONFIG_BATCH_MATMUL */
