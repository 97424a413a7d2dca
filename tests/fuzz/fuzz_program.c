// SPDX-License-Identifier: MIT
/*
 * Any bytes are refused by the verifier or can be run: nothing reads or writes
 * outside of program and arena, which lie in heap blocks of exactly their size
 * so that ASan sees the first byte beyond. libFuzzer's entry point; mutate.c
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

/* Makes the checksum right, so that damage reaches the checks behind it. */
static void patch_checksum(u8 *program, size_t size)
{
	struct mlk_header *h = (struct mlk_header *)program;

	if (size >= sizeof(*h) && h->total_bytes >= sizeof(*h) &&
	    h->total_bytes <= size && h->total_bytes % 4 == 0)
		h->checksum = mlk_program_checksum(h);
}

static void run(const u8 *program)
{
	const struct mlk_header *h = (const struct mlk_header *)program;
	u64 checksum = mlk_program_checksum(h);
	u8 *arena = aligned_alloc(MLK_ARENA_ALIGN, h->arena_bytes);
	u32 i;

	if (h->arena_bytes && !arena)
		abort();
	for (i = 0; i < h->arena_bytes; i++)
		arena[i] = (u8)(i * 37 + (i >> 8));
	mlk_program_run(program, arena);
	mlk_program_run(program, arena);
	/* a run never changes its program */
	if (mlk_program_checksum(h) != checksum)
		abort();
	free(arena);
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
		patch_checksum(program, size);
	rc = mlk_program_verify(program, size, &limits, &diag);
	again = mlk_program_verify(program, size, &limits, NULL);
	if (rc != again || (rc == 0) != (diag.reason == MLK_REASON_NONE) ||
	    rc > 0)
		abort();
	if (diag.reason < 0 || diag.reason >= MLK_REASON_END ||
	    !*mlk_reason_text(diag.reason))
		abort();
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
