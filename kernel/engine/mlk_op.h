/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the operators share, private to the engine. Each operator has a check,
 * called once by the verifier, and a run, which relies on all that was checked.
 */
#ifndef MLK_OP_H
#define MLK_OP_H

#include "mlk_engine.h"
#include "mlk_fixed.h"

/* Loops that are inlined: for each constant they get, or to keep sums in registers. */
#define MLK_INLINE inline __attribute__((always_inline))

/*
 * The build chooses operators with -DMLK_CONFIG_<OP>=0; everything is on by
 * default.
 */
#ifndef MLK_CONFIG_CONV_2D
#define MLK_CONFIG_CONV_2D 1
#endif
#ifndef MLK_CONFIG_LUT
#define MLK_CONFIG_LUT 1
#endif
#ifndef MLK_CONFIG_FULLY_CONNECTED
#define MLK_CONFIG_FULLY_CONNECTED 1
#endif
#ifndef MLK_CONFIG_SOFTMAX
#define MLK_CONFIG_SOFTMAX 1
#endif
#ifndef MLK_CONFIG_MOVE
#define MLK_CONFIG_MOVE 1
#endif
#ifndef MLK_CONFIG_FILL
#define MLK_CONFIG_FILL 1
#endif
#ifndef MLK_CONFIG_TAKE
#define MLK_CONFIG_TAKE 1
#endif
#ifndef MLK_CONFIG_DEPTHWISE_CONV
#define MLK_CONFIG_DEPTHWISE_CONV 1
#endif
#ifndef MLK_CONFIG_POOL
#define MLK_CONFIG_POOL 1
#endif
#ifndef MLK_CONFIG_REDUCE
#define MLK_CONFIG_REDUCE 1
#endif
#ifndef MLK_CONFIG_ARG_EXTREME
#define MLK_CONFIG_ARG_EXTREME 1
#endif
#ifndef MLK_CONFIG_TRANSPOSE_CONV
#define MLK_CONFIG_TRANSPOSE_CONV 1
#endif
#ifndef MLK_CONFIG_RESIZE_BILINEAR
#define MLK_CONFIG_RESIZE_BILINEAR 1
#endif
#ifndef MLK_CONFIG_SPACE_BATCH
#define MLK_CONFIG_SPACE_BATCH 1
#endif
#ifndef MLK_CONFIG_L2_NORM
#define MLK_CONFIG_L2_NORM 1
#endif
#ifndef MLK_CONFIG_BINARY
#define MLK_CONFIG_BINARY 1
#endif
#ifndef MLK_CONFIG_LOG_SOFTMAX
#define MLK_CONFIG_LOG_SOFTMAX 1
#endif
#ifndef MLK_CONFIG_BATCH_MATMUL
#define MLK_CONFIG_BATCH_MATMUL 1
#endif
#ifndef MLK_CONFIG_REQUANTIZE
#define MLK_CONFIG_REQUANTIZE 1
#endif
#ifndef MLK_CONFIG_LUT_S16
#define MLK_CONFIG_LUT_S16 1
#endif
#ifndef MLK_CONFIG_SIGMOID_S16
#define MLK_CONFIG_SIGMOID_S16 1
#endif
#ifndef MLK_CONFIG_SOFTMAX_S16
#define MLK_CONFIG_SOFTMAX_S16 1
#endif
#ifndef MLK_CONFIG_CONV_S16
#define MLK_CONFIG_CONV_S16 1
#endif
#ifndef MLK_CONFIG_POOL_S16
#define MLK_CONFIG_POOL_S16 1
#endif
#ifndef MLK_CONFIG_RSQRT_S16
#define MLK_CONFIG_RSQRT_S16 1
#endif
#ifndef MLK_CONFIG_SVDF
#define MLK_CONFIG_SVDF 1
#endif
#ifndef MLK_CONFIG_LSTM
#define MLK_CONFIG_LSTM 1
#endif

#define MLK_CONFIG_COPY 1

/**
 * struct mlk_check - what a check of one operator may look at
 * @header: the program; tensors and layout are already verified, and every
 *	operand and result that the operator must have is there
 * @op: the operator
 * @macs: multiply-accumulates of this operator, set by its check
 * @used_words: parameter words that belong to the operator, set by its check
 */
struct mlk_check {
	const struct mlk_header *header;
	const struct mlk_op *op;
	u64 macs;
	u32 used_words;
};

/* Each returns an enum mlk_reason. */
#define MLK_OP_CHECK(number, NAME, name, least, most, results) \
	int mlk_check_##name(struct mlk_check *c);
MLK_OPS(MLK_OP_CHECK)
#undef MLK_OP_CHECK

/* For checks: an operand, or NULL if it is left out. */
static inline const struct mlk_tensor *mlk_operand(const struct mlk_check *c,
						   u32 i)
{
	if (c->op->in[i] == MLK_NO_TENSOR)
		return NULL;
	return mlk_tensor_at(c->header, c->op->in[i]);
}

/* For checks: a result. */
static inline const struct mlk_tensor *mlk_result(const struct mlk_check *c,
						  u32 i)
{
	return mlk_tensor_at(c->header, c->op->out[i]);
}

/* For checks: is [offset, offset + bytes) inside the data, and aligned? */
static inline int mlk_data_ok(const struct mlk_check *c, u32 offset, u64 bytes)
{
	return offset >= c->header->data && offset % MLK_DATA_ALIGN == 0 &&
	       offset + bytes <= c->header->names;
}

/* For checks: is that the size of an integer? */
static inline int mlk_item_ok(u32 item)
{
	return item == 1 || item == 2 || item == 4 || item == 8;
}

/* For checks: how many such items are that; 0 if not a whole number. */
static inline u32 mlk_items(u32 bytes, u32 item)
{
	return bytes & (item - 1) ? 0 : bytes >> (31 - mlk_clz32(item));
}

/* For checks: are operand and result int16 of the same size? */
static inline int mlk_both_s16(const struct mlk_check *c)
{
	const struct mlk_tensor *in = mlk_operand(c, 0);
	const struct mlk_tensor *out = mlk_result(c, 0);

	return in->dtype == MLK_INT16 && out->dtype == MLK_INT16 &&
	       in->bytes == out->bytes;
}

/* For checks: all of @count multipliers are >= 0, all shifts in [-31, 30]? */
int mlk_multipliers_ok(const struct mlk_check *c, u32 multiplier, u32 shift,
		       u32 count);

/**
 * struct mlk_frame - what a run of one operator works on
 * @program: first byte of the program, for offsets into its data
 * @arena: first byte of the arena
 * @tensors: the program's tensors
 * @op: the operator
 * @simd: faster inner loops, or NULL
 */
struct mlk_frame {
	const u8 *program;
	u8 *arena;
	const struct mlk_tensor *tensors;
	const struct mlk_op *op;
	const struct mlk_simd *simd;
};

/* For runs: first byte of an operand that is there, in arena or program. */
static inline const void *mlk_in(const struct mlk_frame *f, u32 i)
{
	const struct mlk_tensor *t = f->tensors + f->op->in[i];

	return (t->flags & MLK_TENSOR_CONST ? f->program : f->arena) +
	       t->offset;
}

/* For runs: first byte of a result. */
static inline void *mlk_out(const struct mlk_frame *f, u32 i)
{
	return f->arena + f->tensors[f->op->out[i]].offset;
}

/* For runs: size of a result. */
static inline u32 mlk_out_bytes(const struct mlk_frame *f, u32 i)
{
	return f->tensors[f->op->out[i]].bytes;
}

/* For checks: are packed weights and all that belongs to them in the data? */
int mlk_weights_ok(const struct mlk_check *c, const struct mlk_weights *w);

/* For runs: a product whose rows are still to be set. */
struct mlk_product mlk_product_of(const struct mlk_frame *f,
				  const struct mlk_weights *w);

/* For runs: compute it, with the fastest loop there is. */
static inline void mlk_multiply(const struct mlk_frame *f,
				const struct mlk_product *p)
{
	if (f->simd)
		f->simd->product(p);
	else
		mlk_product_c(p);
}

/* For runs: a sum of products, modulo 2^32. */
static inline u32 mlk_dot_s8(const s8 *a, const s8 *b, u32 count)
{
	u32 sum = 0;
	u32 i;

	for (i = 0; i < count; i++)
		sum += (u32)(a[i] * b[i]);
	return sum;
}

/* For runs: turn the sum of output number @i into what is stored. */
static inline s8 mlk_product_output(const struct mlk_product *p, u32 sum, u32 i)
{
	s32 q = mlk_requant((s32)sum, p->multiplier[i], p->shift[i]);

	/* bounds are read last, so that fewer registers are in use before */
	return (s8)mlk_offset_clamped(q, p->out_zero_point, p->act_min,
				      p->act_max);
}

#define MLK_OP_RUN(number, NAME, name, least, most, results) \
	void mlk_run_##name(const struct mlk_frame *f);
MLK_OPS(MLK_OP_RUN)
#undef MLK_OP_RUN

#endif /* MLK_OP_H */
