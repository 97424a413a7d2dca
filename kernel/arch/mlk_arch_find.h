/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Which inner loops this processor can run, for mlk_program_run_simd(). */
#ifndef MLK_ARCH_FIND_H
#define MLK_ARCH_FIND_H

#include "mlk_engine.h"

/**
 * mlk_arch_find - inner loops for this processor
 * @name: of an instruction set, or NULL for the best one
 * @simd: set to the loops, or to NULL for plain C
 *
 * Return: 0; -EINVAL for an unknown name; -EOPNOTSUPP if this processor (or this
 * build) cannot run it.
 */
int mlk_arch_find(const char *name, const struct mlk_simd **simd);

/**
 * mlk_arch_name - the names that mlk_arch_find() knows
 * @i: 0 and up, the best one first; the last is "c"
 * Return: a constant string, or NULL behind the last.
 */
const char *mlk_arch_name(unsigned int i);

#endif /* MLK_ARCH_FIND_H */
