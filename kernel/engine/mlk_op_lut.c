// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Every elementwise function of one 8-bit operand (LOGISTIC, TANH, RELU family,
 * QUANTIZE between 8-bit types): the table was filled when the program was made.
 */
#include "mlk_op.h"

#if MLK_CONFIG_LUT

int mlk_check_lut(struct mlk_check *c)
{
	const struct mlk_lut_params *p = &c->op->lut;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);

	c->used_words = sizeof(*p) / 4;
	if (in->bytes != out->bytes)
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->table, 256))
		return MLK_REASON_DATA;
	return MLK_REASON_NONE;
}

void mlk_run_lut(const struct mlk_frame *f)
{
	const u8 *table = f->program + f->op->lut.table;
	const u8 *in = mlk_in(f, 0);
	u8 *out = mlk_out(f, 0);
	u32 bytes = mlk_out_bytes(f, 0);
	u32 i;

	for (i = 0; i < bytes; i++)
		out[i] = table[in[i]];
}

#endif /* MLK_CONFIG_LUT */
