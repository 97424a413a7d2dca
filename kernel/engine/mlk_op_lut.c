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
	u32 bytes = mlk_operand_bytes(c, c->op->in[0]);

	c->used_words = sizeof(*p) / 4;
	if (!bytes || bytes != mlk_operand_bytes(c, c->op->out[0]))
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->table, 256))
		return MLK_REASON_DATA;
	return MLK_REASON_NONE;
}

void mlk_run_lut(const struct mlk_frame *f)
{
	const u8 *table = f->program + f->op->lut.table;
	const u8 *in = f->in;
	u8 *out = f->out;
	u32 i;

	for (i = 0; i < f->bytes; i++)
		out[i] = table[in[i]];
}

#endif /* MLK_CONFIG_LUT */
