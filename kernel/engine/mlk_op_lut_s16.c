// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * An elementwise function of int16 from 513 samples, with straight lines
 * between them. Arithmetic: LUTLookup in tensorflow/lite/kernels/internal/
 * common.h; the table was filled when the program was made.
 */
#include "mlk_op.h"

#if MLK_CONFIG_LUT_S16

int mlk_check_lut_s16(struct mlk_check *c)
{
	const struct mlk_lut_params *p = &c->op->lut;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_both_s16(c))
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->table, MLK_LUT_S16_ENTRIES * 2))
		return MLK_REASON_DATA;
	return MLK_REASON_NONE;
}

void mlk_run_lut_s16(const struct mlk_frame *f)
{
	const s16 *table = (const s16 *)(f->program + f->op->lut.table);
	const s16 *in = mlk_in(f, 0);
	s16 *out = mlk_out(f, 0);
	u32 elements = mlk_out_bytes(f, 0) / 2;
	u32 i;

	for (i = 0; i < elements; i++)
		out[i] = mlk_interpolate(table, in[i]);
}

#endif /* MLK_CONFIG_LUT_S16 */
