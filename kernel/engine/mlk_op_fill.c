// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* One value all over a tensor or a part of it: what PAD puts around its operand. */
#include "mlk_op.h"

#if MLK_CONFIG_FILL

int mlk_check_fill(struct mlk_check *c)
{
	const struct mlk_fill_params *p = &c->op->fill;
	u32 items;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_item_ok(p->item))
		return MLK_REASON_PARAM;
	items = mlk_items(mlk_result(c, 0)->bytes, p->item);
	if (!items)
		return MLK_REASON_OPERAND;
	if (!p->count || (u64)p->start + p->count > items)
		return MLK_REASON_PARAM;
	/* no bits that would be lost */
	if ((p->item < 8 && p->high) ||
	    (p->item < 4 && p->low >> (8 * p->item)))
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

static void mlk_fill_2(u16 *out, u32 value, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		out[i] = (u16)value;
}

static void mlk_fill_4(u32 *out, u32 value, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		out[i] = value;
}

static void mlk_fill_8(u64 *out, u64 value, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		out[i] = value;
}

void mlk_run_fill(const struct mlk_frame *f)
{
	const struct mlk_fill_params *p = &f->op->fill;
	void *start = (u8 *)mlk_out(f, 0) + p->start * p->item;

	switch (p->item) {
	case 1:
		memset(start, (int)p->low, p->count);
		break;
	case 2:
		mlk_fill_2(start, p->low, p->count);
		break;
	case 4:
		mlk_fill_4(start, p->low, p->count);
		break;
	default:
		mlk_fill_8(start, (u64)p->high << 32 | p->low, p->count);
		break;
	}
}

#endif /* MLK_CONFIG_FILL */
