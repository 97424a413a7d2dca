// SPDX-License-Identifier: MIT
/*
 * Any bytes are refused by the verifier or can be run: nothing reads or writes
 * outside of program and arena, which lie in heap blocks of exactly their size
 * so that ASan sees the first byte beyond. Programs behind the first one are
 * looked for, by name and one after the other. libFuzzer's entry point; mutate.c
 * drives the same function without libFuzzer.
 */
#include <stdlib.h>
#include <string.h>

#include "mlk_engine.h"

int check_program(const uint8_t *data, size_t size, int patch);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a hurried caller would allow: hostile programs may ask for more. */
static const struct mlk_limits limits = { .arena_bytes = 1 << 20,
					  .macs = 1 << 20 };

/* Makes checksums right, so that damage reaches the checks behind them. */
static void patch_checksums(u8 *file, size_t size)
{
	struct mlk_header *h = (struct mlk_header *)file;
	const u8 *end = file + size;

	while (h) {
		size = (size_t)(end - (u8 *)h);
		if (size < sizeof(*h) || h->total_bytes < sizeof(*h) ||
		    h->total_bytes > size || h->total_bytes % 4)
			return;
		h->checksum = mlk_program_checksum(h);
		h = (struct mlk_header *)mlk_program_next(h, size);
	}
}

static void run(const u8 *program)
{
	const struct mlk_header *h = (const struct mlk_header *)program;
	u64 checksum = mlk_program_checksum(h);
	const struct mlk_speed fast = { 1, 1, 1 }, endless = { ~0u, ~0u, ~0u };
	u8 *arena = aligned_alloc(MLK_ARENA_ALIGN, h->arena_bytes);
	u32 i;

	if (mlk_program_cost(h, &fast) > mlk_program_cost(h, NULL) ||
	    mlk_program_cost(h, NULL) > mlk_program_cost(h, &endless))
		abort();
	if (h->arena_bytes && !arena)
		abort();
	for (i = 0; i < h->arena_bytes; i++)
		arena[i] = (u8)(i * 37 + (i >> 8));
	mlk_program_run(program, arena);
	mlk_program_reset(program, arena);
	mlk_program_run(program, arena);
	/* a run never changes its program */
	if (mlk_program_checksum(h) != checksum)
		abort();
	free(arena);
}

/* Is what is found by its name a whole program that has it? */
static void find(const u8 *file, size_t size, const char *name)
{
	const struct mlk_header *h = mlk_program_find(file, size, name);
	size_t at = (size_t)((const u8 *)h - file);

	if (!h)
		return;
	if (at % MLK_DATA_ALIGN || at >= size || h->total_bytes > size - at ||
	    strcmp(mlk_program_name(h), name))
		abort();
}

/* All programs of a file, up to the first one that is refused. */
static void walk(const u8 *file, size_t size)
{
	const u8 *program = file, *end = file + size;

	while (program) {
		size_t left = (size_t)(end - program);
		struct mlk_diag diag;

		if (mlk_program_verify(program, left, &limits, &diag))
			return;
		find(file, size, mlk_program_name((const void *)program));
		program = mlk_program_next(program, left);
	}
}

/* Returns what the verifier says; runs the program if that is 0. */
int check_program(const uint8_t *data, size_t size, int patch)
{
	struct mlk_diag diag = { .reason = -1 };
	u8 *program = malloc(size ? size : 1);
	int rc, again;

	if (!program)
		abort();
	memcpy(program, data, size);
	if (patch)
		patch_checksums(program, size);
	rc = mlk_program_verify(program, size, &limits, &diag);
	again = mlk_program_verify(program, size, &limits, NULL);
	if (rc != again || (rc == 0) != (diag.reason == MLK_REASON_NONE) ||
	    rc > 0)
		abort();
	if (diag.reason < 0 || diag.reason >= MLK_REASON_END ||
	    !*mlk_reason_text(diag.reason))
		abort();
	find(program, size, "sum");
	walk(program, size);
	if (rc == 0)
		run(program);
	free(program);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_program(data, size, 1);
	return 0;
}
