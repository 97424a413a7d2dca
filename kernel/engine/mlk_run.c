// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* One inference: the operators in their order. */
#include "mlk_op.h"

void mlk_program_run_ops(const void *program, void *arena, u32 first, u32 end,
			 const struct mlk_simd *simd)
{
	const struct mlk_header *h = program;
	struct mlk_frame f = {
		.program = program,
		.arena = arena,
		.tensors = mlk_tensor_at(h, 0),
		.simd = simd,
	};
	u32 i;

	for (i = first; i < end; i++) {
		f.op = mlk_op_at(h, i);
		/* a switch: indirect calls are dear where retpolines are on */
		switch (f.op->opcode) {
#define MLK_OP_CASE(number, NAME, name, least, most, results) \
	case MLK_OP_##NAME: \
		if (MLK_CONFIG_##NAME) \
			mlk_run_##name(&f); \
		break;
			MLK_OPS(MLK_OP_CASE)
#undef MLK_OP_CASE
		default:
			break;
		}
	}
}

void mlk_program_run(const void *program, void *arena)
{
	const struct mlk_header *h = program;

	mlk_program_run_ops(h, arena, h->n_init_ops, h->n_ops, NULL);
}

void mlk_program_run_simd(const void *program, void *arena,
			  const struct mlk_simd *simd)
{
	const struct mlk_header *h = program;

	mlk_program_run_ops(h, arena, h->n_init_ops, h->n_ops, simd);
}

void mlk_program_reset(const void *program, void *arena)
{
	const struct mlk_header *h = program;

	memset(arena, 0, h->arena_bytes);
	mlk_program_run_ops(h, arena, 0, h->n_init_ops, NULL);
}
