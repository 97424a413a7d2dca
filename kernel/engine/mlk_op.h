/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the operators share, private to the engine. Each operator has a check,
 * called once by the verifier, and a run, which relies on all that was checked.
 */
#ifndef MLK_OP_H
#define MLK_OP_H

#include "mlk_engine.h"

/*
 * The build chooses operators with -DMLK_CONFIG_<OP>=0; everything is on by
 * default.
 */
#ifndef MLK_CONFIG_LUT
#define MLK_CONFIG_LUT 1
#endif
#ifndef MLK_CONFIG_FULLY_CONNECTED
#define MLK_CONFIG_FULLY_CONNECTED 1
#endif
#ifndef MLK_CONFIG_SOFTMAX
#define MLK_CONFIG_SOFTMAX 1
#endif

/**
 * struct mlk_check - what a check of one operator may look at
 * @header: the program; tensors and layout are already verified
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
int mlk_check_copy(struct mlk_check *c);
int mlk_check_lut(struct mlk_check *c);
int mlk_check_fully_connected(struct mlk_check *c);
int mlk_check_softmax(struct mlk_check *c);

/* For checks: the operand's size in bytes, or 0 if there is no such tensor. */
u32 mlk_operand_bytes(const struct mlk_check *c, u16 tensor);
/* For checks: is [offset, offset + bytes) inside the data, and aligned? */
int mlk_data_ok(const struct mlk_check *c, u32 offset, u64 bytes);

/**
 * struct mlk_frame - what a run of one operator works on
 * @program: first byte of the program, for offsets
 * @op: the operator
 * @in: first byte of operand 0 in the arena
 * @out: first byte of result 0 in the arena
 * @bytes: size of result 0
 */
struct mlk_frame {
	const u8 *program;
	const struct mlk_op *op;
	const void *in;
	void *out;
	u32 bytes;
};

void mlk_run_lut(const struct mlk_frame *f);
void mlk_run_fully_connected(const struct mlk_frame *f);
void mlk_run_softmax(const struct mlk_frame *f);

#endif /* MLK_OP_H */
