// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * UNIDIRECTIONAL_SEQUENCE_LSTM of int8 with a cell state of int16. Arithmetic:
 * LstmStepInteger8x8_16 in tensorflow/lite/kernels/lstm_eval.cc; logistic and
 * tanh are those of gemmlowp/fixedpoint/fixedpoint.h on 16 bits, whose every
 * step counts, unlike what a table of MLK_OP_SIGMOID_S16 gives.
 */
#include "mlk_fixed.h"
#include "mlk_op.h"

#if MLK_CONFIG_LSTM

/* The order of the gates; the last one may be left out. */
enum mlk_lstm_gate {
	MLK_LSTM_FORGET,
	MLK_LSTM_CELL,
	MLK_LSTM_OUTPUT,
	MLK_LSTM_INPUT,
	MLK_LSTM_GATES
};

int mlk_check_lstm(struct mlk_check *c)
{
	const struct mlk_lstm_params *p = &c->op->lstm;
	u64 rows = (u64)p->batches * p->steps;
	u64 width = (u64)p->gates * p->cells;
	const struct mlk_tensor *cell = mlk_result(c, 1);
	u32 out_bytes = mlk_result(c, 0)->bytes;

	c->used_words = sizeof(*p) / 4;
	if ((p->gates != MLK_LSTM_GATES && p->gates != MLK_LSTM_GATES - 1) ||
	    p->time_major > 1 || p->cell_bits > 6 || p->clip > 32767 ||
	    p->multiplier < 0 || p->shift < -31 || p->shift > 30 ||
	    p->out_zero_point < -128 || p->out_zero_point > 127)
		return MLK_REASON_PARAM;
	/* then no product below leaves 64 bits */
	if (rows > out_bytes || p->cells > out_bytes ||
	    rows * p->cells != out_bytes ||
	    rows * p->inputs != mlk_operand(c, 0)->bytes)
		return MLK_REASON_OPERAND;
	if (cell->dtype != MLK_INT16 ||
	    (u64)p->batches * p->cells != mlk_operand(c, 1)->bytes ||
	    (u64)p->batches * p->cells * 2 != cell->bytes)
		return MLK_REASON_OPERAND;
	if (!mlk_data_ok(c, p->input_weights, width * p->inputs) ||
	    !mlk_data_ok(c, p->state_weights, width * p->cells) ||
	    !mlk_data_ok(c, p->input_bias, width * 4) ||
	    !mlk_data_ok(c, p->state_bias, width * 4) ||
	    !mlk_data_ok(c, p->multipliers, p->gates * 8) ||
	    !mlk_data_ok(c, p->shifts, p->gates * 8))
		return MLK_REASON_DATA;
	if (!mlk_multipliers_ok(c, p->multipliers, p->shifts, p->gates * 2))
		return MLK_REASON_PARAM;
	/* a byte of the arena for each row, cell and input; so 64 bits do */
	c->macs = rows * p->cells * ((u64)p->gates * (p->inputs + p->cells));
	return MLK_REASON_NONE;
}

static s32 mlk_saturate_s16(s32 x)
{
	return mlk_clamp(x, -32768, 32767);
}

/* SaturatingRoundingDoublingHighMul of two s16. */
static s32 mlk_mul_high_s16(s32 a, s32 b)
{
	return mlk_saturate_s16((a * b + (1 << 14)) >> 15);
}

/* exp on [-1/4, 0) as Q0.15: a Taylor series around -1/8. */
static s32 mlk_exp_quarter_s16(s32 a)
{
	const s32 constant = 28918; /* exp(-1/8) */
	const s32 third = 10923;
	s32 x = a + (1 << 12);
	s32 x2 = mlk_mul_high_s16(x, x);
	s32 x3 = mlk_mul_high_s16(x2, x);
	s32 x4 = mlk_mul_high_s16(x2, x2);
	s32 rest = mlk_mul_high_s16(mlk_round_shift(x4, 2) + x3, third);

	rest = mlk_round_shift(rest + x2, 1);
	return mlk_saturate_s16(constant +
				mlk_mul_high_s16(constant, x + rest));
}

/* exp_on_negative_values: @a <= 0 with @bits integer bits; result as Q0.15. */
static s32 mlk_exp_negative_s16(s32 a, u32 bits)
{
	/* exp(-1/4), exp(-1/2), exp(-1) and so on as Q0.15 */
	static const s16 factor[7] = { 25520, 19875, 12055, 4435, 600, 11, 0 };
	s32 quarter = 1 << (13 - bits);
	s32 rest = (a & (quarter - 1)) - quarter;
	s32 whole = rest - a;
	s32 result;
	u32 i;

	if (!a)
		return 32767;
	/* minus 32, the least that the factors reach */
	if (bits > 5 && a < -(quarter << 7))
		return 0;
	result = mlk_exp_quarter_s16(rest * (1 << bits));
	for (i = 0; i < 7 && i < bits + 2; i++)
		if (whole & (quarter << i))
			result = mlk_mul_high_s16(result, factor[i]);
	return result;
}

/* Newton-Raphson steps of 2 / (1 + a): @a as Q0.15, the result as Q2.13. */
static s32 mlk_newton_s16(s32 a)
{
	s32 half = (a + 32768) >> 1;
	s32 y = 23130 + mlk_mul_high_s16(half, -15420); /* 48/17, -32/17 */
	int i;

	for (i = 0; i < 3; i++) {
		s32 residue = (1 << 13) - mlk_mul_high_s16(half, y);

		y += mlk_saturate_s16(mlk_mul_high_s16(y, residue) * 4);
	}
	return y;
}

/* logistic() of an s16 with 3 integer bits, as Q0.15. */
static s32 mlk_lstm_logistic(s32 a)
{
	s32 y;

	if (!a)
		return 1 << 14;
	y = mlk_newton_s16(mlk_exp_negative_s16(a > 0 ? -a : a, 3));
	y = mlk_saturate_s16(y * 2);
	return a > 0 ? y : 32767 - y;
}

/* tanh() of an s16 with @bits integer bits, as Q0.15. */
static s32 mlk_lstm_tanh(s32 a, u32 bits)
{
	s32 y;

	if (!a)
		return 0;
	y = mlk_newton_s16(mlk_exp_negative_s16(a > 0 ? -a : a, bits + 1));
	y = mlk_saturate_s16((y - (1 << 13)) * 4);
	return a > 0 ? y : -y;
}

/* What a gate makes of one input row and one row of the state. */
static s32 mlk_lstm_gate(const struct mlk_frame *f, u32 gate, u32 cell,
			 const s8 *in, const s8 *state)
{
	const struct mlk_lstm_params *p = &f->op->lstm;
	const s32 *multiplier = (const s32 *)(f->program + p->multipliers);
	const s32 *shift = (const s32 *)(f->program + p->shifts);
	u32 row = gate * p->cells + cell;
	const s8 *w = (const s8 *)(f->program + p->input_weights);
	const s8 *r = (const s8 *)(f->program + p->state_weights);
	u32 from_in = (u32)((const s32 *)(f->program + p->input_bias))[row];
	u32 from_state = (u32)((const s32 *)(f->program + p->state_bias))[row];
	s32 sum;

	from_in += mlk_dot_s8(in, w + (size_t)row * p->inputs, p->inputs);
	from_state += mlk_dot_s8(state, r + (size_t)row * p->cells, p->cells);
	multiplier += 2 * gate;
	shift += 2 * gate;
	sum = mlk_requant((s32)from_in, multiplier[0], shift[0]);
	sum = mlk_saturate_s16(sum);
	from_state = (u32)mlk_requant((s32)from_state, multiplier[1], shift[1]);
	sum = (s32)(from_state + (u32)sum);
	return mlk_saturate_s16(sum);
}

/* One cell's step: its state changes, its output is returned. */
static s8 mlk_lstm_cell(const struct mlk_frame *f, u32 cell, const s8 *in,
			const s8 *state, s16 *cell_state)
{
	const struct mlk_lstm_params *p = &f->op->lstm;
	s32 gate[MLK_LSTM_GATES];
	s32 now, output;
	u32 i;

	for (i = 0; i < p->gates; i++) {
		s32 x = mlk_lstm_gate(f, i, cell, in, state);

		gate[i] = i == MLK_LSTM_CELL ? mlk_lstm_tanh(x, 3) :
					       mlk_lstm_logistic(x);
	}
	if (p->gates < MLK_LSTM_GATES)
		gate[MLK_LSTM_INPUT] = 32767 - gate[MLK_LSTM_FORGET];

	now = gate[MLK_LSTM_INPUT] * gate[MLK_LSTM_CELL];
	now = (s16)mlk_round_shift(now, 15 + p->cell_bits);
	now += mlk_round_shift(gate[MLK_LSTM_FORGET] * cell_state[cell], 15);
	now = mlk_saturate_s16(now);
	if (p->clip)
		now = mlk_clamp(now, -(s32)p->clip, (s32)p->clip);
	cell_state[cell] = (s16)now;

	output = gate[MLK_LSTM_OUTPUT] * mlk_lstm_tanh(now, p->cell_bits);
	output = mlk_requant(output, p->multiplier, p->shift);
	output = (s32)((u32)output + (u32)p->out_zero_point);
	return (s8)mlk_clamp(output, -128, 127);
}

void mlk_run_lstm(const struct mlk_frame *f)
{
	const struct mlk_lstm_params *p = &f->op->lstm;
	size_t next = p->time_major ? p->batches : 1;
	const s8 *in = mlk_in(f, 0);
	const s8 *first = mlk_in(f, 1);
	s8 *out = mlk_out(f, 0);
	s16 *cell_state = mlk_out(f, 1);
	u32 b, t, i;

	for (b = 0; b < p->batches; b++) {
		size_t row = p->time_major ? b : (size_t)b * p->steps;
		/* a step's output is the state that the next one sees */
		const s8 *state = first;

		for (t = 0; t < p->steps; t++) {
			s8 *to = out + row * p->cells;

			for (i = 0; i < p->cells; i++)
				to[i] = mlk_lstm_cell(f, i,
						      in + row * p->inputs,
						      state, cell_state);
			state = to;
			row += next;
		}
		first += p->cells;
		cell_state += p->cells;
	}
}

#endif /* MLK_CONFIG_LSTM */
