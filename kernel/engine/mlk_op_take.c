// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Slices along one dimension by a list that was made with the program
 * (RESIZE_NEAREST_NEIGHBOR, MIRROR_PAD, GATHER): what no stride expresses.
 */
#include "mlk_op.h"

#if MLK_CONFIG_TAKE

int mlk_check_take(struct mlk_check *c)
{
	const struct mlk_take_params *p = &c->op->take;
	u32 in_bytes = mlk_operand(c, 0)->bytes;
	u32 out_bytes = mlk_result(c, 0)->bytes;
	u64 in_slices = (u64)p->outer * p->from;
	u64 out_slices = (u64)p->outer * p->count;
	const u32 *table;
	u32 i;

	c->used_words = sizeof(*p) / 4;
	if (!p->outer || !p->from || !p->count || !p->slice)
		return MLK_REASON_PARAM;
	/* then the products below stay inside 64 bits */
	if (in_slices > in_bytes || out_slices > out_bytes ||
	    in_slices * p->slice != in_bytes ||
	    out_slices * p->slice != out_bytes)
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->table, (u64)p->count * 4))
		return MLK_REASON_DATA;
	table = (const u32 *)((const u8 *)c->header + p->table);
	for (i = 0; i < p->count; i++)
		if (table[i] >= p->from)
			return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

/* memmove for a single byte would cost many times the byte */
static void mlk_take_bytes(const u8 *in, u8 *out, const u32 *table, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		out[i] = in[table[i]];
}

void mlk_run_take(const struct mlk_frame *f)
{
	const struct mlk_take_params *p = &f->op->take;
	const u32 *table = (const u32 *)(f->program + p->table);
	const u8 *in = mlk_in(f, 0);
	u8 *out = mlk_out(f, 0);
	u32 row, i;

	for (row = 0; row < p->outer; row++) {
		if (p->slice == 1)
			mlk_take_bytes(in, out, table, p->count);
		else
			for (i = 0; i < p->count; i++)
				memmove(out + i * p->slice,
					in + table[i] * p->slice, p->slice);
		in += p->from * p->slice;
		out += p->count * p->slice;
	}
}

#endif /* MLK_CONFIG_TAKE */
