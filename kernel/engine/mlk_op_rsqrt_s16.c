// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * RSQRT of int16. Arithmetic: RsqrtEvalQuantized in tensorflow/lite/micro/
 * kernels/elementwise.cc.
 */
#include "mlk_op.h"

#if MLK_CONFIG_RSQRT_S16

/* Bits behind the point of a root. */
#define MLK_RSQRT_FRACTION 20

int mlk_check_rsqrt_s16(struct mlk_check *c)
{
	const struct mlk_rsqrt_s16_params *p = &c->op->rsqrt_s16;

	c->used_words = sizeof(*p) / 4;
	if (!mlk_both_s16(c))
		return MLK_REASON_OPERAND;
	if (p->multiplier < 0 || p->shift < -31 || p->shift > 30)
		return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

/* What has no root gets the most, as 0 does: a run has no way to fail. */
static s16 mlk_rsqrt_one(const struct mlk_rsqrt_s16_params *p, s16 x)
{
	s32 multiplier, shift, root;

	if (x <= 0)
		return 32767;
	multiplier = mlk_inverse_sqrt((u32)x, &shift);
	root = mlk_requant(1, multiplier, shift + MLK_RSQRT_FRACTION);
	root = mlk_requant(root, p->multiplier, p->shift);
	return (s16)mlk_clamp(root, -32768, 32767);
}

void mlk_run_rsqrt_s16(const struct mlk_frame *f)
{
	const struct mlk_rsqrt_s16_params *p = &f->op->rsqrt_s16;
	u32 n = mlk_out_bytes(f, 0) / 2, i;
	const s16 *in = mlk_in(f, 0);
	s16 *out = mlk_out(f, 0);

	for (i = 0; i < n; i++)
		out[i] = mlk_rsqrt_one(p, in[i]);
}

#endif /* MLK_CONFIG_RSQRT_S16 */
