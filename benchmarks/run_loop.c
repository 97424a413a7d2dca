/* SPDX-License-Identifier: MIT */
/*
 * The limit of bench_engine.py: the engine called from C in a loop, with nothing
 * between the calls.
 */
#include <stdint.h>
#include <time.h>

#include "mlk_arch.h"

int64_t mlk_run_loop(const void *program, void *arena, long count);

/* Nanoseconds that @count runs took. */
int64_t mlk_run_loop(const void *program, void *arena, long count)
{
	const struct mlk_simd *simd = NULL;
	struct timespec start, end;

	mlk_arch_find(NULL, &simd);
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (count-- > 0) {
		mlk_program_run_simd(program, arena, simd);
		/* each run must happen */
		__asm__ volatile("" : : "r"(arena) : "memory");
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	return (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec -
	       start.tv_nsec;
}
