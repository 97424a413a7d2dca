// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* run PROGRAM.mlk [INPUTS]: one inference; inputs are a file's bytes, or zeros */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "mlk.h"

int main(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	FILE *in = argc > 2 ? fopen(argv[2], "rb") : NULL;
	const struct mlk_header *h;
	const struct mlk_simd *simd;
	const struct mlk_tensor *t;
	struct mlk_diag diag = { .reason = MLK_REASON_SHORT };
	struct stat st;
	u8 *arena;

	if (fd < 0 || fstat(fd, &st) || (argc > 2 && !in))
		err(1, "%s PROGRAM.mlk [INPUTS]", argv[0]);
	h = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (h == MAP_FAILED || mlk_program_verify(h, st.st_size, NULL, &diag))
		errx(1, "%s: %s", argv[1], mlk_reason_text(diag.reason));
	arena = aligned_alloc(MLK_ARENA_ALIGN, h->arena_bytes);
	if (!arena)
		err(1, "arena");
	mlk_arch_find(NULL, &simd);
	mlk_program_reset(h, arena);
	for (u32 i = 0; t = mlk_input_at(h, i), in && i < h->n_inputs; i++)
		if (!fread(arena + t->offset, t->bytes, 1, in))
			errx(1, "%s: too short", argv[2]);
	mlk_program_run_simd(h, arena, simd);
	for (u32 i = 0; i < h->n_outputs; i++, putchar('\n'))
		for (u32 j = 0; t = mlk_output_at(h, i), j < t->bytes; j++)
			printf(j ? " %d" : "%d", (s8)arena[t->offset + j]);
}
