/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Two operands that are repeated along dimensions of the result, private to the
 * engine: bit i of a "repeat" is set where the operand has 1 instead of dims[i].
 */
#ifndef MLK_REPEAT_H
#define MLK_REPEAT_H

#include "mlk_op.h"

/* Elements of an operand; 0 for more than a tensor has. */
static inline u64 mlk_repeat_elements(const u32 *dims, u32 rank, u32 repeat)
{
	u64 elements = 1;
	u32 i;

	for (i = 0; i < rank; i++) {
		if (!(repeat >> i & 1))
			elements *= dims[i];
		if (elements > MLK_MAX_ARENA_BYTES)
			return 0;
	}
	return elements;
}

/* Elements of an operand from one index of each dimension to the next. */
static inline void mlk_repeat_strides(u32 *strides, const u32 *dims, u32 rank,
				      u32 repeat)
{
	u32 elements = 1, i;

	for (i = rank; i-- > 0;) {
		u32 repeated = repeat >> i & 1;

		strides[i] = repeated ? 0 : elements;
		elements *= repeated ? 1 : dims[i];
	}
}

/**
 * struct mlk_walk - a way through both operands in the order of the result
 * @index: of the outer dimensions
 * @step1: of the first operand from one index to the next
 * @step2: the same of the second operand
 * @at1: element of the first operand
 * @at2: element of the second operand
 */
struct mlk_walk {
	u32 index[MLK_MAX_RANK];
	u32 step1[MLK_MAX_RANK];
	u32 step2[MLK_MAX_RANK];
	u32 at1;
	u32 at2;
};

/* On to the next index of the first @outer dimensions; 0 behind the last one. */
static inline int mlk_walk_next(struct mlk_walk *walk, const u32 *dims,
				u32 outer)
{
	u32 i;

	for (i = outer; i-- > 0;) {
		walk->at1 += walk->step1[i];
		walk->at2 += walk->step2[i];
		if (++walk->index[i] < dims[i])
			return 1;
		walk->at1 -= walk->step1[i] * dims[i];
		walk->at2 -= walk->step2[i] * dims[i];
		walk->index[i] = 0;
	}
	return 0;
}

#endif /* MLK_REPEAT_H */
