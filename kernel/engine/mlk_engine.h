/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The integer engine: the program format and the whole public API.
 *
 * A program is the flat, position-independent form of a quantised .tflite
 * model: header, tensor table, operator table, input/output lists and data
 * (weights, multipliers, tables), all little-endian, all offsets from its
 * first byte. It is used in place, never changed, and may be shared. What a
 * run needs besides is one arena that the caller owns.
 *
 * mlk_program_verify() is the only gate. After it returned 0, no input can make
 * mlk_program_run() touch memory outside of program and arena, loop without
 * bound or divide by zero, so run has no way to fail.
 */
#ifndef MLK_ENGINE_H
#define MLK_ENGINE_H

#include "mlk_port.h"

#define MLK_PROGRAM_MAGIC 0x504b4c4du /* "MLKP" */
#define MLK_PROGRAM_VERSION 1
#define MLK_PROGRAM_ALIGN 8 /* of the program's first byte */
#define MLK_DATA_ALIGN 16 /* of arrays inside the program, and of tensors */
#define MLK_ARENA_ALIGN 16

#define MLK_MAX_RANK 6
#define MLK_MAX_TENSORS 4096
#define MLK_MAX_OPS 4096
#define MLK_MAX_PROGRAM_BYTES 0x10000000u /* 256 MiB */
#define MLK_MAX_ARENA_BYTES 0x10000000u /* 256 MiB */
#define MLK_NO_TENSOR 0xffffu

/* Values of TensorType in tensorflow/lite/schema/schema.fbs */
enum mlk_dtype {
	MLK_FLOAT32 = 0, /* only as host_dtype: the engine has no float */
	MLK_INT32 = 2,
	MLK_UINT8 = 3,
	MLK_INT64 = 4,
	MLK_INT16 = 7,
	MLK_INT8 = 9,
};

/* What may be in struct mlk_tensor's flags */
enum mlk_tensor_flag {
	MLK_TENSOR_CONST = 1, /* lies in the program's data, never written */
};

/*
 * What the engine executes: number, name, function, operands at least and at
 * most, results. One list for the format, the verifier and the run.
 *
 * Elementwise functions of one int8 operand are all one 256-entry table made
 * with the program; reshapes cost no operator.
 */
#define MLK_OPS(X) \
	X(1, COPY, copy, 1, 1, 1) \
	X(2, LUT, lut, 1, 1, 1) \
	X(3, FULLY_CONNECTED, fully_connected, 1, 1, 1) \
	X(4, SOFTMAX, softmax, 1, 1, 1) \
	X(30, BINARY, binary, 2, 2, 1) \
	X(31, LOG_SOFTMAX, log_softmax, 1, 1, 1) \
	X(32, BATCH_MATMUL, batch_matmul, 2, 2, 1) \
	X(33, REQUANTIZE, requantize, 1, 1, 1) \
	X(34, LUT_S16, lut_s16, 1, 1, 1) \
	X(35, SIGMOID_S16, sigmoid_s16, 1, 1, 1) \
	X(36, SOFTMAX_S16, softmax_s16, 1, 1, 1)

enum mlk_opcode {
#define MLK_OP_ENUM(number, NAME, name, least, most, results) \
	MLK_OP_##NAME = (number),
	MLK_OPS(MLK_OP_ENUM)
#undef MLK_OP_ENUM
};

/**
 * struct mlk_header - the first bytes of a program
 * @magic: MLK_PROGRAM_MAGIC
 * @version: MLK_PROGRAM_VERSION; any other is refused
 * @header_bytes: size of this struct
 * @total_bytes: size of the whole program
 * @reserved0: zero
 * @checksum: of all bytes behind it, see mlk_program_checksum()
 * @macs: multiply-accumulates of one run
 * @arena_bytes: what a run needs, a multiple of MLK_ARENA_ALIGN
 * @source_crc: CRC-32 of the .tflite it was made from, to tell a stale program
 * @tensors: offset of @n_tensors struct mlk_tensor
 * @ops: offset of @n_ops struct mlk_op
 * @io: offset of @n_inputs, then @n_outputs, u16 tensor numbers
 * @data: offset of the data, where every array an operator names lies
 * @names: offset of tensor names (zero-terminated UTF-8) up to @total_bytes
 * @n_tensors: number of tensors
 * @n_ops: number of operators
 * @n_inputs: number of inputs of the model
 * @n_outputs: number of outputs of the model
 * @n_init_ops: so many operators from the first on run at a reset, not in a run
 * @reserved: zero
 */
struct mlk_header {
	u32 magic;
	u16 version;
	u16 header_bytes;
	u32 total_bytes;
	u32 reserved0;
	u64 checksum;
	u64 macs;
	u32 arena_bytes;
	u32 source_crc;
	u32 tensors;
	u32 ops;
	u32 io;
	u32 data;
	u32 names;
	u16 n_tensors;
	u16 n_ops;
	u16 n_inputs;
	u16 n_outputs;
	u16 n_init_ops;
	u16 reserved;
};

/**
 * struct mlk_tensor - an array: where it lies and what it means
 * @dtype: enum mlk_dtype of the bytes in the arena
 * @host_dtype: dtype in the .tflite; FLOAT32 where the model's border was float
 *	and user space converts, else equal to @dtype
 * @rank: number of dimensions in use
 * @flags: of enum mlk_tensor_flag
 * @offset: of its first byte, a multiple of MLK_DATA_ALIGN: in the arena, or, if
 *	constant, in the program
 * @bytes: its size, equal to the product of @dims and the size of an element
 * @zero_point: quantisation: real = scale * (q - zero_point); a value of @dtype
 * @scale: the bits of an IEEE-754 single, positive and finite; information for
 *	those who use the tensor, the engine itself has no float
 * @name: offset of its name from the header's @names
 * @dims: shape, outermost first
 */
struct mlk_tensor {
	u8 dtype;
	u8 host_dtype;
	u8 rank;
	u8 flags;
	u32 offset;
	u32 bytes;
	s32 zero_point;
	u32 scale;
	u32 name;
	u32 dims[MLK_MAX_RANK];
};

/**
 * struct mlk_lut_params - MLK_OP_LUT: out[i] = table[in[i] as u8]
 * @table: offset of 256 bytes; MLK_OP_LUT_S16: of s16 [MLK_LUT_S16_ENTRIES],
 *	128 input steps apart
 */
struct mlk_lut_params {
	u32 table;
};

/**
 * struct mlk_fc_params - MLK_OP_FULLY_CONNECTED
 * @rows: independent input rows (batch)
 * @depth: inputs of one row
 * @width: outputs of one row
 * @stride: bytes from one output's weights to the next, >= @depth
 * @weights: offset of s8 [@width][@stride]
 * @bias: offset of s32 [@width]; holds input offset * sum of weights too
 * @multiplier: offset of s32 [@width], each >= 0
 * @shift: offset of s32 [@width], each in [-31, 30], > 0 is a left shift
 * @weight_offset: minus the weights' zero point, nearly always 0
 * @out_zero_point: added after the multiplication
 * @act_min: lower bound of the fused activation
 * @act_max: upper bound of the fused activation
 */
struct mlk_fc_params {
	u32 rows;
	u32 depth;
	u32 width;
	u32 stride;
	u32 weights;
	u32 bias;
	u32 multiplier;
	u32 shift;
	s32 weight_offset;
	s32 out_zero_point;
	s32 act_min;
	s32 act_max;
};

/**
 * struct mlk_softmax_params - MLK_OP_SOFTMAX over the last dimension
 * @rows: independent rows
 * @depth: length of a row, at most MLK_SOFTMAX_MAX_DEPTH
 * @table: offset of s32 [256]: exp(-difference to the row's maximum) as Q0.31
 * @entries: differences from here on give the lowest output
 */
struct mlk_softmax_params {
	u32 rows;
	u32 depth;
	u32 table;
	u32 entries;
};

/* Keeps the sum of Q12.19 exponentials inside 31 bits. */
#define MLK_SOFTMAX_MAX_DEPTH 4095
/* exp(0) as gemmlowp gives it; any lesser first entry is no softmax table. */
#define MLK_SOFTMAX_ONE 0x7fffffff

/* What an MLK_OP_BINARY does; those before MINIMUM end in a rescaling. */
enum mlk_binary_kind {
	MLK_BINARY_ADD = 0,
	MLK_BINARY_SUB = 1,
	MLK_BINARY_MUL = 2,
	MLK_BINARY_SQUARED_DIFFERENCE = 3,
	MLK_BINARY_MINIMUM = 4,
	MLK_BINARY_MAXIMUM = 5,
	MLK_BINARY_PRELU = 6,
	/* int16 with scales that are powers of two */
	MLK_BINARY_SHIFT_ADD = 7,
	MLK_BINARY_SHIFT_SUB = 8,
	MLK_BINARY_KINDS
};

/**
 * struct mlk_binary_params - MLK_OP_BINARY: two int8 or two int16 operands
 * @kind: enum mlk_binary_kind
 * @dims: the result's shape, outermost first; neighbours may be merged
 * @repeat1: bit i set where the first operand has 1 instead of @dims[i]
 * @repeat2: the same for the second operand
 * @offset1: minus the first operand's zero point
 * @offset2: minus the second operand's zero point
 * @left_shift: of both operands before they are rescaled, at most 20 (int16: 15)
 * @multiplier1: of the first operand (PRELU: where it is not negative), >= 0
 * @shift1: belongs to @multiplier1, in [-31, 30]
 * @multiplier2: of the second operand, >= 0
 * @shift2: belongs to @multiplier2, in [-31, 30]
 * @multiplier: of the result (PRELU: where the operand is negative), >= 0
 * @shift: belongs to @multiplier, in [-31, 30]
 * @out_zero_point: added at the end
 * @act_min: lower bound of the fused activation
 * @act_max: upper bound of the fused activation
 *
 * A kind does not look at what it does not need. The SHIFT kinds have no
 * multipliers; their @shift1 and @shift2 are <= 0.
 */
struct mlk_binary_params {
	u32 kind;
	u32 dims[MLK_MAX_RANK];
	u32 repeat1;
	u32 repeat2;
	s32 offset1;
	s32 offset2;
	u32 left_shift;
	s32 multiplier1;
	s32 shift1;
	s32 multiplier2;
	s32 shift2;
	s32 multiplier;
	s32 shift;
	s32 out_zero_point;
	s32 act_min;
	s32 act_max;
};

/**
 * struct mlk_log_softmax_params - MLK_OP_LOG_SOFTMAX over the last dimension
 * @rows: independent rows
 * @depth: length of a row, at most MLK_SOFTMAX_MAX_DEPTH
 * @exps: offset of s32 [256]: exp(-difference to the maximum) as Q12.19
 * @differences: offset of s32 [256]: minus that difference as Q5.26
 * @entries: differences from here on do not count in the sum
 * @reverse_multiplier: from Q5.26 to input steps, >= 0
 * @reverse_shift: belongs to it, in [-31, 0]
 */
struct mlk_log_softmax_params {
	u32 rows;
	u32 depth;
	u32 exps;
	u32 differences;
	u32 entries;
	s32 reverse_multiplier;
	s32 reverse_shift;
};

#define MLK_MATMUL_BATCH_RANK 4

/**
 * struct mlk_matmul_params - MLK_OP_BATCH_MATMUL of int8
 * @batch: the result's batch dimensions, outermost first
 * @repeat1: bit i set where the first operand has 1 instead of @batch[i]
 * @repeat2: the same for the second operand
 * @rows: of the first operand and of the result
 * @depth: columns of the first operand, rows of the second
 * @columns: of the second operand and of the result
 * @transposed1: 1 if the first operand lies as [@depth][@rows]
 * @transposed2: 1 if the second operand lies as [@columns][@depth]
 * @offset1: minus the first operand's zero point
 * @offset2: minus the second operand's zero point
 * @multiplier: of the sums, >= 0
 * @shift: belongs to @multiplier, in [-31, 30]
 * @out_zero_point: added at the end
 */
struct mlk_matmul_params {
	u32 batch[MLK_MATMUL_BATCH_RANK];
	u32 repeat1;
	u32 repeat2;
	u32 rows;
	u32 depth;
	u32 columns;
	u32 transposed1;
	u32 transposed2;
	s32 offset1;
	s32 offset2;
	s32 multiplier;
	s32 shift;
	s32 out_zero_point;
};

/**
 * struct mlk_requantize_params - MLK_OP_REQUANTIZE between int8, 16 and 32
 * @in_zero_point: subtracted first
 * @positive_multiplier: of what is >= 0 then, >= 0
 * @positive_shift: belongs to it, in [-31, 30]
 * @negative_multiplier: of what is < 0, >= 0
 * @negative_shift: belongs to it, in [-31, 30]
 * @out_zero_point: added at the end
 * @act_min: lower bound, within the result's dtype
 * @act_max: upper bound, within the result's dtype
 */
struct mlk_requantize_params {
	s32 in_zero_point;
	s32 positive_multiplier;
	s32 positive_shift;
	s32 negative_multiplier;
	s32 negative_shift;
	s32 out_zero_point;
	s32 act_min;
	s32 act_max;
};

/* Entries of a table that is interpolated; the last ends the last line. */
#define MLK_LUT_S16_ENTRIES 513

/**
 * struct mlk_sigmoid_params - MLK_OP_SIGMOID_S16: LOGISTIC and TANH of int16
 * @table: offset of u16 [256]: the logistic function of i/24 as Q0.16
 * @multiplier: of the operand, at most 32767
 * @shift: to the right afterwards, at most 30
 * @tanh: 1 for TANH
 */
struct mlk_sigmoid_params {
	u32 table;
	u32 multiplier;
	u32 shift;
	u32 tanh;
};

/**
 * struct mlk_softmax_s16_params - MLK_OP_SOFTMAX_S16 over the last dimension
 * @rows: independent rows
 * @depth: length of a row, at most MLK_SOFTMAX_S16_MAX_DEPTH
 * @exps: offset of s16 [MLK_LUT_S16_ENTRIES]: exp(x) on [-10, 0] as Q0.15
 * @reciprocals: offset of s16 [MLK_LUT_S16_ENTRIES]: 1/(1+x) on [0, 1]
 * @multiplier: from input steps to 65535ths of 10, >= 0
 * @shift: belongs to @multiplier, in [-31, 30]
 */
struct mlk_softmax_s16_params {
	u32 rows;
	u32 depth;
	u32 exps;
	u32 reciprocals;
	s32 multiplier;
	s32 shift;
};

#define MLK_SOFTMAX_S16_MAX_DEPTH 65535

#define MLK_OP_PARAM_WORDS 24
#define MLK_OP_OPERANDS 4
#define MLK_OP_RESULTS 2

/**
 * struct mlk_op - one step of a program
 * @opcode: enum mlk_opcode
 * @source: BuiltinOperator of the .tflite it came from, 0xffff for none;
 *	information only
 * @in: tensor numbers, MLK_NO_TENSOR where unused
 * @out: tensor numbers, MLK_NO_TENSOR where unused
 * @words: the parameters as words; zero behind the operator's own struct
 * @lut: MLK_OP_LUT and MLK_OP_LUT_S16
 * @fc: MLK_OP_FULLY_CONNECTED
 * @softmax: MLK_OP_SOFTMAX
 * @binary: MLK_OP_BINARY
 * @log_softmax: MLK_OP_LOG_SOFTMAX
 * @matmul: MLK_OP_BATCH_MATMUL
 * @requantize: MLK_OP_REQUANTIZE
 * @sigmoid: MLK_OP_SIGMOID_S16
 * @softmax_s16: MLK_OP_SOFTMAX_S16
 */
struct mlk_op {
	u16 opcode;
	u16 source;
	u16 in[MLK_OP_OPERANDS];
	u16 out[MLK_OP_RESULTS];
	union {
		u32 words[MLK_OP_PARAM_WORDS];
		struct mlk_lut_params lut;
		struct mlk_fc_params fc;
		struct mlk_softmax_params softmax;
		struct mlk_binary_params binary;
		struct mlk_log_softmax_params log_softmax;
		struct mlk_matmul_params matmul;
		struct mlk_requantize_params requantize;
		struct mlk_sigmoid_params sigmoid;
		struct mlk_softmax_s16_params softmax_s16;
	};
};

/* Why a program was refused: enumerator, text. One list for C and for people. */
#define MLK_REASONS(X) \
	X(NONE, "no error") \
	X(ALIGN, "program is not aligned to 8 bytes") \
	X(SHORT, "shorter than its header says") \
	X(MAGIC, "not a program (bad magic)") \
	X(VERSION, "made for another program version") \
	X(CHECKSUM, "checksum does not match: damaged") \
	X(LAYOUT, "sections overlap, are misaligned or lie outside") \
	X(RESERVED, "a reserved field is not zero") \
	X(COUNTS, "too many or too few tensors, operators, inputs or outputs") \
	X(TENSOR, "bad tensor entry (dtype, shape, size or place)") \
	X(IO, "input or output list names no tensor") \
	X(OPCODE, "operator unknown or not built in") \
	X(OPERAND, \
	  "operator names no tensor, or one of the wrong size or dtype") \
	X(PARAM, "operator parameter out of range") \
	X(DATA, "operator names data outside the program") \
	X(MACS, "multiply-accumulates differ from the header") \
	X(ARENA_LIMIT, "arena larger than the caller allows") \
	X(MACS_LIMIT, "more multiply-accumulates than the caller allows")

enum mlk_reason {
#define MLK_REASON_ENUM(name, text) MLK_REASON_##name,
	MLK_REASONS(MLK_REASON_ENUM)
#undef MLK_REASON_ENUM
	MLK_REASON_END
};

/**
 * struct mlk_diag - where and why a program was refused
 * @reason: enum mlk_reason
 * @op: number of the operator, or -1
 * @tensor: number of the tensor, or -1
 */
struct mlk_diag {
	s32 reason;
	s32 op;
	s32 tensor;
};

/**
 * struct mlk_limits - what a caller can afford
 * @arena_bytes: largest arena
 * @macs: most multiply-accumulates of one run
 */
struct mlk_limits {
	u32 arena_bytes;
	u64 macs;
};

/**
 * mlk_program_verify - the only gate between foreign bytes and a run
 * @program: aligned to MLK_PROGRAM_ALIGN; must not change afterwards
 * @bytes: how many may be read there; more than the program's own are ignored
 * @limits: what the caller can afford, or NULL
 * @diag: told where and why on an error, or NULL
 *
 * Time is linear in @bytes and in the MACs, which @limits bounds: operators
 * may share arrays, so @bytes alone is no bound. Stack use is small and constant.
 *
 * Context: any; reads only @program.
 * Return: 0; -EBADMSG no program or damaged; -EINVAL inconsistent; -EOPNOTSUPP
 * an operator that is not built in; -E2BIG or -ENOSPC beyond @limits (MACs,
 * arena).
 */
int mlk_program_verify(const void *program, size_t bytes,
		       const struct mlk_limits *limits, struct mlk_diag *diag);

/**
 * mlk_program_run - one inference
 * @program: as verified
 * @arena: header's arena_bytes, aligned to MLK_ARENA_ALIGN, exclusively the
 *	caller's meanwhile; inputs are read from it and outputs left in it.
 *	Made ready by mlk_program_reset() before its first use.
 *
 * Context: any, also hard interrupt; no locks, no sleep, no float.
 */
void mlk_program_run(const void *program, void *arena);

/**
 * mlk_program_reset - make an arena as it must be before the first run
 * @program: as verified
 * @arena: as for mlk_program_run()
 *
 * Everything becomes zero, then variables get their first values.
 *
 * Context: any.
 */
void mlk_program_reset(const void *program, void *arena);

/**
 * mlk_program_checksum - two running sums over the words behind the checksum
 * @program: at least total_bytes long, total_bytes a multiple of 4
 *
 * Return: (sum of sums << 32) | sum, each modulo 2^32; finds any single damaged
 * word and any two swapped ones, at a speed that a load can afford.
 */
u64 mlk_program_checksum(const struct mlk_header *program);

/**
 * mlk_reason_text - a refusal in words
 * @reason: enum mlk_reason
 * Return: a constant string; "unknown reason" for other numbers.
 */
const char *mlk_reason_text(int reason);

static inline const struct mlk_tensor *mlk_tensor_at(const struct mlk_header *h,
						     u32 i)
{
	return (const struct mlk_tensor *)((const u8 *)h + h->tensors) + i;
}

static inline const struct mlk_op *mlk_op_at(const struct mlk_header *h, u32 i)
{
	return (const struct mlk_op *)((const u8 *)h + h->ops) + i;
}

static inline const struct mlk_tensor *mlk_input_at(const struct mlk_header *h,
						    u32 i)
{
	return mlk_tensor_at(h, ((const u16 *)((const u8 *)h + h->io))[i]);
}

static inline const struct mlk_tensor *mlk_output_at(const struct mlk_header *h,
						     u32 i)
{
	return mlk_input_at(h, h->n_inputs + i);
}

#endif /* MLK_ENGINE_H */
