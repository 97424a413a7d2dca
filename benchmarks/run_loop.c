/* SPDX-License-Identifier: MIT */
/*
 * The limit of bench_engine.py: the engine called from C in a loop, with nothing
 * between the calls. With MLK_NO_SIMD it is bench_kernel.py's: plain C.
 */
#include <stdint.h>
#include <time.h>

#ifdef MLK_NO_SIMD
#include "mlk_engine.h"
#else
#include "mlk_arch.h"
#endif

int64_t mlk_run_loop(const void *program, void *arena, long count);

/* Nanoseconds that @count runs took. */
int64_t mlk_run_loop(const void *program, void *arena, long count)
{
	const struct mlk_simd *simd = NULL;
	struct timespec start, end;

#ifndef MLK_NO_SIMD
	mlk_arch_find(NULL, &simd);
#endif
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
