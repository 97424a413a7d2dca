// SPDX-License-Identifier: MIT
/*
 * Counts what the engine does: each basic block that it enters, as compiled with
 * -fsanitize-coverage=trace-pc, and each 16 bytes that it hands to memcpy() and its
 * kin. This file itself is compiled without. Deterministic, unlike time.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mlk_engine.h"

void __sanitizer_cov_trace_pc(void);
void *counted_memcpy(void *dst, const void *src, size_t n);
void *counted_memmove(void *dst, const void *src, size_t n);
void *counted_memset(void *dst, int c, size_t n);
uint64_t steps_of(const void *program);

static uint64_t steps;

void __sanitizer_cov_trace_pc(void)
{
	steps++;
}

void *counted_memcpy(void *dst, const void *src, size_t n)
{
	steps += n / 16 + 1;
	return memcpy(dst, src, n);
}

void *counted_memmove(void *dst, const void *src, size_t n)
{
	steps += n / 16 + 1;
	return memmove(dst, src, n);
}

void *counted_memset(void *dst, int c, size_t n)
{
	steps += n / 16 + 1;
	return memset(dst, c, n);
}

/* Steps of one run on an arena of its own. */
uint64_t steps_of(const void *program)
{
	const struct mlk_header *h = program;
	u8 *arena = aligned_alloc(MLK_ARENA_ALIGN, h->arena_bytes + 16);
	u32 i;

	if (!arena)
		abort();
	mlk_program_reset(program, arena);
	for (i = 0; i < h->n_inputs; i++) {
		const struct mlk_tensor *t = mlk_input_at(h, i);
		u32 at;

		for (at = 0; at < t->bytes; at++)
			arena[t->offset + at] = (u8)(at * 37 + (at >> 8));
	}
	steps = 0;
	mlk_program_run(program, arena);
	free(arena);
	return steps;
}
