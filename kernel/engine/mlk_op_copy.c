// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* A result that must not share its operand's memory. */
#include "mlk_op.h"

int mlk_check_copy(struct mlk_check *c)
{
	if (mlk_operand(c, 0)->bytes != mlk_result(c, 0)->bytes)
		return MLK_REASON_OPERAND;
	return MLK_REASON_NONE;
}

void mlk_run_copy(const struct mlk_frame *f)
{
	memmove(mlk_out(f, 0), mlk_in(f, 0), mlk_out_bytes(f, 0));
}
