// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Everything that only changes where elements lie (CONCATENATION, SPLIT, SLICE,
 * STRIDED_SLICE, TRANSPOSE, PACK, PAD, TILE, ...): a copy of up to six dimensions
 * with a stride for each on either side. The compiler merges dimensions, so that
 * the innermost is as long as it can be.
 */
#include "mlk_op.h"

#if MLK_CONFIG_MOVE

/* Are all elements that one side names among its tensor's @items? */
static int mlk_reach_ok(const u32 *dims, const s32 *strides, u32 start,
			u32 items)
{
	s64 low = start, high = start;
	u32 i;

	/* dims are below 2^28 here: six products do not fill 62 bits */
	for (i = 0; i < MLK_MAX_RANK; i++) {
		s64 reach = ((s64)dims[i] - 1) * strides[i];

		if (reach < 0)
			low += reach;
		else
			high += reach;
	}
	return low >= 0 && high < items;
}

int mlk_check_move(struct mlk_check *c)
{
	const struct mlk_move_params *p = &c->op->move;
	u32 in_items, out_items, i;
	u64 count = 1;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_item_ok(p->item))
		return MLK_REASON_PARAM;
	in_items = mlk_items(mlk_operand(c, 0)->bytes, p->item);
	out_items = mlk_items(mlk_result(c, 0)->bytes, p->item);
	if (!in_items || !out_items)
		return MLK_REASON_OPERAND;
	/* no more work than a copy of the whole result */
	for (i = 0; i < MLK_MAX_RANK; i++) {
		if (!p->dims[i] || p->dims[i] > out_items)
			return MLK_REASON_PARAM;
		count *= p->dims[i];
		if (count > out_items)
			return MLK_REASON_PARAM;
	}
	if (!mlk_reach_ok(p->dims, p->in_strides, p->in_start, in_items) ||
	    !mlk_reach_ok(p->dims, p->out_strides, p->out_start, out_items))
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

#define MLK_MOVE_ITEMS(name, type) \
	static void name(const void *from, void *to, s32 in_stride, \
			 s32 out_stride, s32 count) \
	{ \
		const type *in = from; \
		type *out = to; \
		s32 i; \
\
		for (i = 0; i < count; i++) \
			out[i * out_stride] = in[i * in_stride]; \
	}

MLK_MOVE_ITEMS(mlk_move_1, u8)
MLK_MOVE_ITEMS(mlk_move_2, u16)
MLK_MOVE_ITEMS(mlk_move_4, u32)
MLK_MOVE_ITEMS(mlk_move_8, u64)

/* The innermost dimension. */
static void mlk_move_run(const struct mlk_move_params *p, const u8 *in, u8 *out)
{
	s32 count = (s32)p->dims[MLK_MAX_RANK - 1];
	s32 in_stride = p->in_strides[MLK_MAX_RANK - 1];
	s32 out_stride = p->out_strides[MLK_MAX_RANK - 1];

	if (in_stride == 1 && out_stride == 1) {
		memmove(out, in, (u32)count * p->item);
		return;
	}
	switch (p->item) {
	case 1:
		mlk_move_1(in, out, in_stride, out_stride, count);
		break;
	case 2:
		mlk_move_2(in, out, in_stride, out_stride, count);
		break;
	case 4:
		mlk_move_4(in, out, in_stride, out_stride, count);
		break;
	default:
		mlk_move_8(in, out, in_stride, out_stride, count);
		break;
	}
}

void mlk_run_move(const struct mlk_frame *f)
{
	const struct mlk_move_params *p = &f->op->move;
	const u8 *in = mlk_in(f, 0);
	u8 *out = mlk_out(f, 0);
	s32 item = (s32)p->item;
	s32 in_at = (s32)p->in_start, out_at = (s32)p->out_start;
	u32 at[MLK_MAX_RANK - 1] = { 0 };
	int d;

	/*
	 * An odometer over the outer dimensions. A stride is added only where a
	 * next element is, so no sum leaves what was checked.
	 */
	do {
		mlk_move_run(p, in + in_at * item, out + out_at * item);
		for (d = MLK_MAX_RANK - 2; d >= 0; d--) {
			if (at[d] + 1 < p->dims[d]) {
				at[d]++;
				in_at += p->in_strides[d];
				out_at += p->out_strides[d];
				break;
			}
			in_at -= (s32)at[d] * p->in_strides[d];
			out_at -= (s32)at[d] * p->out_strides[d];
			at[d] = 0;
		}
	} while (d >= 0);
}

#endif /* MLK_CONFIG_MOVE */
