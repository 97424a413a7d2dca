// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Elementwise operators of two int8 or int16 operands, either of which may be
 * repeated along any dimension. Arithmetic: reference/add.h, sub.h,
 * integer_ops/mul.h, maximum_minimum.h, prelu.h in tensorflow/lite/kernels/
 * internal, and kernels/squared_difference.cc.
 *
 * A row is done in blocks that are widened to 32 bits first: so each kind needs
 * one short loop, whatever the width of its operands and who is repeated.
 */
#include "mlk_repeat.h"

#if MLK_CONFIG_BINARY

#define MLK_BINARY_BLOCK 64

static int mlk_binary_scale_ok(s32 multiplier, s32 shift, s32 most)
{
	return multiplier >= 0 && shift >= -31 && shift <= most;
}

static int mlk_binary_params_ok(const struct mlk_binary_params *p, u32 wide)
{
	s32 low = wide ? -32768 : -128, high = wide ? 32767 : 127;
	/* int16 has no zero points */
	s32 zero_low = wide ? 0 : -128, zero_high = wide ? 0 : 127;
	s32 most = 30;

	if (p->kind >= MLK_BINARY_KINDS ||
	    (p->repeat1 | p->repeat2) >> MLK_MAX_RANK)
		return 0;
	if (p->kind == MLK_BINARY_SHIFT_ADD || p->kind == MLK_BINARY_SHIFT_SUB)
		most = 0;
	return p->offset1 >= -zero_high && p->offset1 <= -zero_low &&
	       p->offset2 >= -zero_high && p->offset2 <= -zero_low &&
	       p->left_shift <= (wide ? 15u : 20u) &&
	       mlk_binary_scale_ok(p->multiplier1, p->shift1, most) &&
	       mlk_binary_scale_ok(p->multiplier2, p->shift2, most) &&
	       mlk_binary_scale_ok(p->multiplier, p->shift, 30) &&
	       p->out_zero_point >= zero_low &&
	       p->out_zero_point <= zero_high && p->act_min >= low &&
	       p->act_max <= high && p->act_min <= p->act_max;
}

int mlk_check_binary(struct mlk_check *c)
{
	const struct mlk_binary_params *p = &c->op->binary;
	const struct mlk_tensor *a = mlk_operand(c, 0);
	const struct mlk_tensor *b = mlk_operand(c, 1);
	const struct mlk_tensor *out = mlk_result(c, 0);
	u32 wide = out->dtype == MLK_INT16;
	u32 item = wide ? 2 : 1;

	c->used_words = sizeof(*p) / 4;
	if ((!wide && out->dtype != MLK_INT8) || a->dtype != out->dtype ||
	    b->dtype != out->dtype)
		return MLK_REASON_OPERAND;
	if (!mlk_binary_params_ok(p, wide))
		return MLK_REASON_PARAM;
	if (mlk_repeat_elements(p->dims, MLK_MAX_RANK, 0) * item !=
		    out->bytes ||
	    mlk_repeat_elements(p->dims, MLK_MAX_RANK, p->repeat1) * item !=
		    a->bytes ||
	    mlk_repeat_elements(p->dims, MLK_MAX_RANK, p->repeat2) * item !=
		    b->bytes)
		return MLK_REASON_OPERAND;
	return MLK_REASON_NONE;
}

/* @step is 1, or 0 for an operand that is repeated along the row. */
static void mlk_binary_load(s32 *to, const void *from, u32 at, u32 step, u32 n,
			    u32 wide)
{
	u32 i;

	if (wide) {
		const s16 *x = (const s16 *)from + at;

		for (i = 0; i < n; i++)
			to[i] = x[i * step];
	} else {
		const s8 *x = (const s8 *)from + at;

		for (i = 0; i < n; i++)
			to[i] = x[i * step];
	}
}

static void mlk_binary_store(void *to, u32 at, const s32 *x, u32 n, u32 wide)
{
	u32 i;

	if (wide) {
		s16 *out = (s16 *)to + at;

		for (i = 0; i < n; i++)
			out[i] = (s16)x[i];
	} else {
		s8 *out = (s8 *)to + at;

		for (i = 0; i < n; i++)
			out[i] = (s8)x[i];
	}
}

static void mlk_binary_rescale(s32 *x, u32 n, s32 offset, u32 left,
			       s32 multiplier, s32 shift)
{
	u32 i;

	for (i = 0; i < n; i++)
		x[i] = mlk_requant((s32)((u32)(x[i] + offset) << left),
				   multiplier, shift);
}

/* Both operands on a common scale; sums wrap where a program is hostile. */
static void mlk_binary_align(const struct mlk_binary_params *p, s32 *x, s32 *y,
			     u32 n)
{
	mlk_binary_rescale(x, n, p->offset1, p->left_shift, p->multiplier1,
			   p->shift1);
	mlk_binary_rescale(y, n, p->offset2, p->left_shift, p->multiplier2,
			   p->shift2);
}

static void mlk_binary_add(s32 *x, const s32 *y, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		x[i] = (s32)((u32)x[i] + (u32)y[i]);
}

static void mlk_binary_sub(s32 *x, const s32 *y, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		x[i] = (s32)((u32)x[i] - (u32)y[i]);
}

static void mlk_binary_prelu(const struct mlk_binary_params *p, s32 *x,
			     const s32 *y, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		s32 value = x[i] + p->offset1;

		if (value >= 0)
			x[i] = mlk_requant(value, p->multiplier1, p->shift1);
		else
			x[i] = mlk_requant(value * (y[i] + p->offset2),
					   p->multiplier, p->shift);
	}
}

/* 16 bits with scales that are powers of two: one operand is shifted right. */
static void mlk_binary_shift(const struct mlk_binary_params *p, s32 *x, s32 *y,
			     u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		x[i] = mlk_round_shift(x[i], (u32)-p->shift1);
		y[i] = mlk_round_shift(y[i], (u32)-p->shift2);
	}
}

static void mlk_binary_block(const struct mlk_binary_params *p, s32 *x, s32 *y,
			     u32 n)
{
	u32 i;

	switch (p->kind) {
	case MLK_BINARY_ADD:
		mlk_binary_align(p, x, y, n);
		mlk_binary_add(x, y, n);
		break;
	case MLK_BINARY_SUB:
		mlk_binary_align(p, x, y, n);
		mlk_binary_sub(x, y, n);
		break;
	case MLK_BINARY_SQUARED_DIFFERENCE:
		mlk_binary_align(p, x, y, n);
		mlk_binary_sub(x, y, n);
		for (i = 0; i < n; i++)
			x[i] = (s32)((u32)x[i] * (u32)x[i]);
		break;
	case MLK_BINARY_MUL:
		for (i = 0; i < n; i++)
			x[i] = (x[i] + p->offset1) * (y[i] + p->offset2);
		break;
	case MLK_BINARY_MINIMUM:
		for (i = 0; i < n; i++)
			x[i] = x[i] < y[i] ? x[i] : y[i];
		break;
	case MLK_BINARY_MAXIMUM:
		for (i = 0; i < n; i++)
			x[i] = x[i] > y[i] ? x[i] : y[i];
		break;
	case MLK_BINARY_PRELU:
		mlk_binary_prelu(p, x, y, n);
		break;
	case MLK_BINARY_SHIFT_ADD:
		mlk_binary_shift(p, x, y, n);
		mlk_binary_add(x, y, n);
		break;
	default: /* MLK_BINARY_SHIFT_SUB */
		mlk_binary_shift(p, x, y, n);
		mlk_binary_sub(x, y, n);
		break;
	}
	if (p->kind < MLK_BINARY_MINIMUM)
		mlk_binary_rescale(x, n, 0, 0, p->multiplier, p->shift);
	for (i = 0; i < n; i++)
		x[i] = mlk_offset_clamped(x[i], p->out_zero_point, p->act_min,
					  p->act_max);
}

/* What a row works on: where its operands and its result begin, and steps. */
struct mlk_binary_place {
	const void *x;
	const void *y;
	void *out;
	struct mlk_walk walk;
	u32 at;
};

static void mlk_binary_row(const struct mlk_binary_params *p,
			   const struct mlk_binary_place *row, u32 wide)
{
	u32 step1 = row->walk.step1[MLK_MAX_RANK - 1];
	u32 step2 = row->walk.step2[MLK_MAX_RANK - 1];
	u32 length = p->dims[MLK_MAX_RANK - 1], i, n;
	s32 x[MLK_BINARY_BLOCK], y[MLK_BINARY_BLOCK];

	for (i = 0; i < length; i += n) {
		n = length - i;
		if (n > MLK_BINARY_BLOCK)
			n = MLK_BINARY_BLOCK;
		mlk_binary_load(x, row->x, row->walk.at1 + i * step1, step1, n,
				wide);
		mlk_binary_load(y, row->y, row->walk.at2 + i * step2, step2, n,
				wide);
		mlk_binary_block(p, x, y, n);
		mlk_binary_store(row->out, row->at + i, x, n, wide);
	}
}

/* With the processor's own loop; bytes only. */
static void mlk_binary_row_simd(const struct mlk_simd *simd,
				const struct mlk_binary_params *p,
				const struct mlk_binary_place *row)
{
	const struct mlk_binary_row r = {
		.params = p,
		.x = (const s8 *)row->x + row->walk.at1,
		.y = (const s8 *)row->y + row->walk.at2,
		.x_step = row->walk.step1[MLK_MAX_RANK - 1],
		.y_step = row->walk.step2[MLK_MAX_RANK - 1],
		.out = (s8 *)row->out + row->at,
		.n = p->dims[MLK_MAX_RANK - 1],
	};

	simd->binary(&r);
}

void mlk_run_binary(const struct mlk_frame *f)
{
	const struct mlk_binary_params *p = &f->op->binary;
	u32 wide = f->tensors[f->op->out[0]].dtype == MLK_INT16;
	int fast = !wide && p->kind <= MLK_BINARY_MUL && f->simd &&
		   f->simd->binary;
	const u32 last = MLK_MAX_RANK - 1;
	struct mlk_binary_place row = {
		.x = mlk_in(f, 0),
		.y = mlk_in(f, 1),
		.out = mlk_out(f, 0),
	};

	mlk_repeat_strides(row.walk.step1, p->dims, MLK_MAX_RANK, p->repeat1);
	mlk_repeat_strides(row.walk.step2, p->dims, MLK_MAX_RANK, p->repeat2);
	do {
		if (fast)
			mlk_binary_row_simd(f->simd, p, &row);
		else
			mlk_binary_row(p, &row, wide);
		row.at += p->dims[last];
	} while (mlk_walk_next(&row.walk, p->dims, last));
}

#endif /* MLK_CONFIG_BINARY */
