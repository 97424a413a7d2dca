// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * LOG_SOFTMAX of int8 over the last dimension, in gemmlowp's fixed point.
 * Arithmetic: tensorflow/lite/kernels/internal/reference/integer_ops/
 * log_softmax.h; the logarithm is log_x_for_x_greater_than_or_equal_to_1_impl
 * of kernels/internal/common.h. A row has 256 possible differences to its
 * maximum, so the program carries what belongs to each of them.
 */
#include "mlk_op.h"

#if MLK_CONFIG_LOG_SOFTMAX

/* Exponentials and their sum are Q12.19, logarithms Q5.26. */
#define MLK_SUM_INTEGER_BITS 12
#define MLK_LOG_INTEGER_BITS 5
/* One bit of headroom while the logarithm is put together. */
#define MLK_WORK_INTEGER_BITS (MLK_LOG_INTEGER_BITS + 1)
/* Outputs are steps of 1/16: Q4.27 has this many bits more than int8. */
#define MLK_LOG_OUTPUT_SHIFT (31 - MLK_LOG_INTEGER_BITS - 4)
#define MLK_LOG_ZERO_POINT 127

int mlk_check_log_softmax(struct mlk_check *c)
{
	const struct mlk_log_softmax_params *p = &c->op->log_softmax;
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const s32 *exps, *differences;
	u32 i;

	c->used_words = sizeof(*p) / 4;
	if (!p->rows || !p->depth || p->depth > MLK_SOFTMAX_MAX_DEPTH ||
	    !p->entries || p->entries > 256 || p->reverse_multiplier < 0 ||
	    p->reverse_shift < -31 || p->reverse_shift > 0)
		return MLK_REASON_PARAM;
	if (in->dtype != MLK_INT8 || mlk_result(c, 0)->dtype != MLK_INT8 ||
	    (u64)p->rows * p->depth != in->bytes ||
	    in->bytes != mlk_result(c, 0)->bytes)
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->exps, 256 * 4) ||
	    !mlk_data_ok(c, p->differences, 256 * 4))
		return MLK_REASON_DATA;
	exps = (const s32 *)((const u8 *)c->header + p->exps);
	differences = (const s32 *)((const u8 *)c->header + p->differences);
	/* The maximum's own term is 1; so each sum is in [1, depth]. */
	if (exps[0] != 1 << (31 - MLK_SUM_INTEGER_BITS))
		return MLK_REASON_PARAM;
	for (i = 0; i < 256; i++)
		if (exps[i] < 0 || exps[i] > exps[0] || differences[i] > 0)
			return MLK_REASON_PARAM;
	return MLK_REASON_NONE;
}

/* SaturatingRoundingMultiplyByPOTParam for a left shift. */
static s32 mlk_saturating_shift(s32 x, u32 exponent)
{
	s64 wide = (s64)x * (1ll << exponent);

	return wide > MLK_S32_MAX ? MLK_S32_MAX :
	       wide < MLK_S32_MIN ? MLK_S32_MIN :
				    (s32)wide;
}

/* The logarithm of @x >= 1 in Q12.19, as Q5.26. */
static s32 mlk_log(s32 x)
{
	/* as Q0.31 */
	const s32 log_2 = 1488522236;
	const s32 sqrt_sqrt_half = 1805811301;
	const s32 sqrt_half = 1518500250;
	const s32 alpha_n = 117049297;
	const s32 alpha_d = 127690142;
	const s32 alpha_i = 1057819769;
	const s32 alpha_f = 638450708;
	const s32 quarter = 1 << (29 - MLK_WORK_INTEGER_BITS);
	const u32 one = 31 - MLK_WORK_INTEGER_BITS;
	/* normalised as it is (a), and times sqrt(1/2) (b) */
	u32 shift_a = mlk_clz32((u32)x) - 1;
	s32 r_a = mlk_saturating_shift(x, shift_a);
	u32 shift_b = mlk_clz32((u32)mlk_mul_high(x, sqrt_half)) - 1;
	s32 r_b = mlk_saturating_shift(x, shift_b);
	s32 power_a = (MLK_SUM_INTEGER_BITS - 1 - (s32)shift_a) * (1 << one);
	s32 power_b = (MLK_SUM_INTEGER_BITS - (s32)shift_b) * (1 << one);
	s32 power, r, p, q, square, numerator, denominator, log;

	r_a = mlk_saturating_shift(mlk_mul_high(r_a, sqrt_half), 1);
	power_a += quarter;
	power_b -= quarter;
	r = r_a < r_b ? r_a : r_b;
	power = power_a > power_b ? power_a : power_b;

	/* both terms are positive */
	p = (s32)(((s64)r + sqrt_sqrt_half + 1) / 2);
	q = (r - sqrt_sqrt_half) * 2;
	square = mlk_mul_high(q, q);
	numerator = mlk_mul_high(q, r) +
		    mlk_mul_high(mlk_mul_high(q, square), alpha_n);
	denominator =
		mlk_mul_high(p, alpha_i + q + mlk_mul_high(alpha_d, square)) +
		mlk_mul_high(alpha_f, q);
	numerator = mlk_round_shift(numerator, MLK_WORK_INTEGER_BITS);
	log = mlk_mul_high(power, log_2) +
	      mlk_mul_high(numerator, mlk_reciprocal_1p(denominator));
	return mlk_saturating_shift(log, 1);
}

static void mlk_log_softmax_row(const struct mlk_log_softmax_params *p,
				const u8 *program, const s8 *in, s8 *out)
{
	const s32 *exps = (const s32 *)(program + p->exps);
	const s32 *differences = (const s32 *)(program + p->differences);
	s32 max = -128, least, log;
	u32 sum = 0, i;

	for (i = 0; i < p->depth; i++)
		if (in[i] > max)
			max = in[i];
	for (i = 0; i < p->depth; i++)
		if ((u32)(max - in[i]) < p->entries)
			sum += (u32)exps[max - in[i]];
	log = mlk_log((s32)sum);
	/* from here on down the result is below what Q5.26 can hold */
	least = mlk_requant(log + MLK_S32_MIN, p->reverse_multiplier,
			    p->reverse_shift);
	if (least < -(s32)p->entries)
		least = -(s32)p->entries;
	for (i = 0; i < p->depth; i++) {
		u32 difference = (u32)(max - in[i]);
		s64 q5;

		/* the first holds unless operand and result overlap */
		if (difference > 255 || -(s32)difference <= least) {
			out[i] = -128;
			continue;
		}
		q5 = (s64)differences[difference] - log;
		if (q5 < MLK_S32_MIN)
			q5 = MLK_S32_MIN;
		out[i] = (s8)mlk_clamp(mlk_round_shift((s32)q5,
						       MLK_LOG_OUTPUT_SHIFT) +
					       MLK_LOG_ZERO_POINT,
				       -128, 127);
	}
}

void mlk_run_log_softmax(const struct mlk_frame *f)
{
	const struct mlk_log_softmax_params *p = &f->op->log_softmax;
	const s8 *in = mlk_in(f, 0);
	s8 *out = mlk_out(f, 0);
	u32 row;

	for (row = 0; row < p->rows; row++) {
		mlk_log_softmax_row(p, f->program, in, out);
		in += p->depth;
		out += p->depth;
	}
}

#endif /* MLK_CONFIG_LOG_SOFTMAX */
