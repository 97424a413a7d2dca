// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* One inference: the operators in their order. */
#include "mlk_op.h"

void mlk_program_run(const void *program, void *arena)
{
	const struct mlk_header *h = program;
	const struct mlk_tensor *tensors = mlk_tensor_at(h, 0);
	const struct mlk_op *op = mlk_op_at(h, 0);
	const struct mlk_op *end = op + h->n_ops;
	struct mlk_frame f = { .program = program };

	for (; op < end; op++) {
		f.op = op;
		f.in = (u8 *)arena + tensors[op->in[0]].offset;
		f.out = (u8 *)arena + tensors[op->out[0]].offset;
		f.bytes = tensors[op->out[0]].bytes;
		/* a switch: indirect calls are dear where retpolines are on */
		switch (op->opcode) {
		case MLK_OP_COPY:
			memmove(f.out, f.in, f.bytes);
			break;
#if MLK_CONFIG_LUT
		case MLK_OP_LUT:
			mlk_run_lut(&f);
			break;
#endif
#if MLK_CONFIG_FULLY_CONNECTED
		case MLK_OP_FULLY_CONNECTED:
			mlk_run_fully_connected(&f);
			break;
#endif
#if MLK_CONFIG_SOFTMAX
		case MLK_OP_SOFTMAX:
			mlk_run_softmax(&f);
			break;
#endif
		default:
			break;
		}
	}
}
