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
	X(5, CONV_2D, conv_2d, 1, 1, 2) \
	X(10, MOVE, move, 1, 1, 1) \
	X(11, FILL, fill, 0, 0, 1) \
	X(12, TAKE, take, 1, 1, 1) \
	X(20, DEPTHWISE_CONV, depthwise_conv, 1, 1, 1) \
	X(21, POOL, pool, 1, 1, 1) \
	X(22, REDUCE, reduce, 1, 1, 1) \
	X(23, ARG_EXTREME, arg_extreme, 1, 1, 1) \
	X(24, TRANSPOSE_CONV, transpose_conv, 1, 1, 1) \
	X(25, RESIZE_BILINEAR, resize_bilinear, 1, 1, 1) \
	X(26, SPACE_BATCH, space_batch, 1, 1, 1) \
	X(27, L2_NORM, l2_norm, 1, 1, 1) \
	X(30, BINARY, binary, 2, 2, 1) \
	X(31, LOG_SOFTMAX, log_softmax, 1, 1, 1) \
	X(32, BATCH_MATMUL, batch_matmul, 2, 2, 1) \
	X(33, REQUANTIZE, requantize, 1, 1, 1) \
	X(34, LUT_S16, lut_s16, 1, 1, 1) \
	X(35, SIGMOID_S16, sigmoid_s16, 1, 1, 1) \
	X(36, SOFTMAX_S16, softmax_s16, 1, 1, 1) \
	X(40, CONV_S16, conv_s16, 1, 1, 1) \
	X(41, POOL_S16, pool_s16, 1, 1, 1) \
	X(42, RSQRT_S16, rsqrt_s16, 1, 1, 1) \
	X(50, SVDF, svdf, 1, 1, 2) \
	X(51, LSTM, lstm, 2, 2, 2)

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
 * @names: offset of the names, zero-terminated UTF-8, up to @total_bytes: the
 *	program's own, which may be empty, then those of tensors
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

/*
 * Weights of a matrix product are packed in blocks of 16 outputs by 4 inputs,
 * [(width + 15) / 16][(depth + 3) / 4][16][4], padded with zeros: what one
 * vector instruction of any set multiplies lies side by side. Arrays with an
 * entry per output are padded to a multiple of 16 entries, too.
 */
#define MLK_BLOCK_OUTPUTS 16u
#define MLK_BLOCK_INPUTS 4u

/**
 * struct mlk_weights - the constant side of a matrix product
 * @depth: inputs of one row
 * @width: outputs of one row
 * @packed: offset of the packed s8 weights
 * @bias: offset of s32 per output; holds input offset * sum of weights too
 * @bias_unsigned: the same for inputs with 128 added: bias - 128 * sum of weights
 * @multiplier: offset of s32 per output, each >= 0
 * @shift: offset of s32 per output, each in [-31, 30], > 0 is a left shift
 * @out_zero_point: added after the multiplication
 * @act_min: lower bound of the fused activation
 * @act_max: upper bound of the fused activation
 */
struct mlk_weights {
	u32 depth;
	u32 width;
	u32 packed;
	u32 bias;
	u32 bias_unsigned;
	u32 multiplier;
	u32 shift;
	s32 out_zero_point;
	s32 act_min;
	s32 act_max;
};

/**
 * struct mlk_fc_params - MLK_OP_FULLY_CONNECTED
 * @w: weights
 * @rows: independent input rows (batch)
 * @weight_offset: minus the weights' zero point, nearly always 0
 */
struct mlk_fc_params {
	struct mlk_weights w;
	u32 rows;
	s32 weight_offset;
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

/**
 * struct mlk_move_params - MLK_OP_MOVE: a strided copy; starts and strides count
 *	items of @item bytes, whatever the tensors' dtype
 * @dims: of what is copied, outermost first, 1 where unused
 * @in_strides: from one element to the next in the operand; 0 repeats it
 * @out_strides: the same in the result
 * @in_start: first element in the operand
 * @out_start: first element in the result
 * @item: 1, 2, 4 or 8
 */
struct mlk_move_params {
	u32 dims[MLK_MAX_RANK];
	s32 in_strides[MLK_MAX_RANK];
	s32 out_strides[MLK_MAX_RANK];
	u32 in_start;
	u32 out_start;
	u32 item;
};

/**
 * struct mlk_fill_params - MLK_OP_FILL: items @start to @start + @count - 1 get a
 *	value
 * @item: bytes of one: 1, 2, 4 or 8
 * @start: the first
 * @count: how many
 * @low: the value's lower 32 bits
 * @high: the upper ones, 0 unless @item is 8
 */
struct mlk_fill_params {
	u32 item;
	u32 start;
	u32 count;
	u32 low;
	u32 high;
};

/**
 * struct mlk_take_params - MLK_OP_TAKE: out[o][i] = in[o][table[i]], each of
 *	@slice bytes
 * @outer: how often that is done
 * @from: slices of the operand in one @outer
 * @count: slices of the result in one @outer
 * @slice: bytes
 * @table: offset of u32 [@count], each below @from
 */
struct mlk_take_params {
	u32 outer;
	u32 from;
	u32 count;
	u32 slice;
	u32 table;
};

/**
 * struct mlk_window - how a filter moves over images of NHWC
 * @batches: independent images
 * @in_h: height of the operand
 * @in_w: width of the operand
 * @out_h: height of the result
 * @out_w: width of the result
 * @filter_h: rows of the filter
 * @filter_w: columns of the filter
 * @stride_h: rows from one position of the filter to the next
 * @stride_w: columns from one position of the filter to the next
 * @dilation_h: rows from one tap to the next
 * @dilation_w: columns from one tap to the next
 * @pad_h: rows of the first position above the image
 * @pad_w: columns of the first position left of the image
 *
 * With TRANSPOSE_CONV the filter moves over the result instead.
 */
struct mlk_window {
	u32 batches;
	u32 in_h;
	u32 in_w;
	u32 out_h;
	u32 out_w;
	u32 filter_h;
	u32 filter_w;
	u32 stride_h;
	u32 stride_w;
	u32 dilation_h;
	u32 dilation_w;
	u32 pad_h;
	u32 pad_w;
};

/**
 * struct mlk_conv_params - MLK_OP_CONV_2D and MLK_OP_DEPTHWISE_CONV
 * @w: weights. CONV_2D: a row of inputs is what the filter covers, in pieces
 *	that are contiguous in the image (a line of the filter, or a pixel if
 *	@window's dilation_w is not 1). Pieces of MLK_CONV_SHORT inputs or more
 *	are padded to a multiple of 4.
 *	DEPTHWISE_CONV: each output has the taps of its own channel as inputs,
 *	and blocks of outputs come after blocks of taps:
 *	[(taps + 3) / 4][(width + 15) / 16][16][4]
 * @window: the filter's way
 * @in_zero_point: what stands for zero in the operand
 *
 * Result 1 of CONV_2D is scratch: the input lines of one line of outputs and one
 * more (if there is one), with what lies beyond the image; for shorter pieces
 * MLK_CONV_GATHER bytes of input rows (a multiple of 16 of them, if that is less;
 * at least MLK_CONV_ROWS); and MLK_CONV_SHORT bytes behind either.
 */
struct mlk_conv_params {
	struct mlk_weights w;
	struct mlk_window window;
	s32 in_zero_point;
};

/* Bytes in a piece of a filter that is worth a product of its own. */
#define MLK_CONV_SHORT 16
/* Bytes of inputs that are gathered from shorter ones at a time, or rows. */
#define MLK_CONV_GATHER 1024
#define MLK_CONV_ROWS 8

/**
 * struct mlk_filter - the constant side of a filter on images
 * @weights: offset of s8 weights
 * @bias: offset of an s32 per output channel
 * @multiplier: offset of an s32 per output channel, each >= 0
 * @shift: offset of an s32 per output channel, each in [-31, 30]
 * @in_zero_point: what stands for zero in the operand
 * @out_zero_point: added after the multiplication
 * @act_min: lower bound of the fused activation
 * @act_max: upper bound of the fused activation
 */
struct mlk_filter {
	u32 weights;
	u32 bias;
	u32 multiplier;
	u32 shift;
	s32 in_zero_point;
	s32 out_zero_point;
	s32 act_min;
	s32 act_max;
};

/* What MLK_OP_POOL makes of the values below its filter. */
enum mlk_pool_kind {
	MLK_POOL_AVERAGE = 0,
	MLK_POOL_MAX = 1,
};

/**
 * struct mlk_pool_params - MLK_OP_POOL and MLK_OP_POOL_S16
 * @window: the filter's way; dilations are 1, each position meets the image
 * @channels: of operand and result
 * @kind: enum mlk_pool_kind
 * @act_min: lower bound of the fused activation
 * @act_max: upper bound of the fused activation
 */
struct mlk_pool_params {
	struct mlk_window window;
	u32 channels;
	u32 kind;
	s32 act_min;
	s32 act_max;
};

/* Keeps the sum of a pool's values, and half their number, inside 31 bits. */
#define MLK_POOL_MAX_TAPS 0x800000u
#define MLK_POOL_S16_MAX_TAPS 0xffffu

/* What MLK_OP_REDUCE makes of the values of one result. */
enum mlk_reduce_kind {
	MLK_REDUCE_SUM = 0,
	MLK_REDUCE_MAX = 1,
	MLK_REDUCE_MIN = 2,
};

#define MLK_REDUCE_DIMS 3 /* dimensions of a kind, neighbours counted as one */

/**
 * struct mlk_reduce_params - MLK_OP_REDUCE over any dimensions
 * @keep: dimensions that stay, outermost first; 1 where there are less
 * @keep_stride: elements of the operand from one to the next in each of them
 * @over: dimensions that are reduced, outermost first; 1 where there are less
 * @over_stride: elements of the operand from one to the next in each of them
 * @kind: enum mlk_reduce_kind
 * @is_unsigned: bytes of the operand count as 0 to 255; not of int16
 * @bias: SUM: added to the sum; minus zero point times number of values
 * @multiplier: SUM: >= 0; what the sum is scaled by
 * @shift: SUM: in [-31, 30]
 * @out_zero_point: SUM: added after the multiplication; 0 with int16
 * @act_min: SUM: lower bound of the result
 * @act_max: SUM: upper bound of the result; up to 255, low byte is stored
 *	(int16: any, low half is stored)
 */
struct mlk_reduce_params {
	u32 keep[MLK_REDUCE_DIMS];
	u32 keep_stride[MLK_REDUCE_DIMS];
	u32 over[MLK_REDUCE_DIMS];
	u32 over_stride[MLK_REDUCE_DIMS];
	u32 kind;
	u32 is_unsigned;
	s32 bias;
	s32 multiplier;
	s32 shift;
	s32 out_zero_point;
	s32 act_min;
	s32 act_max;
};

/**
 * struct mlk_arg_extreme_params - MLK_OP_ARG_EXTREME: where the extreme is
 * @outer: product of the dimensions before the one that is searched
 * @depth: length of the one that is searched
 * @inner: product of the dimensions behind it
 * @is_min: the first of the least instead of the first of the greatest
 *
 * The result is int32 or int64, as its tensor says.
 */
struct mlk_arg_extreme_params {
	u32 outer;
	u32 depth;
	u32 inner;
	u32 is_min;
};

/**
 * struct mlk_transpose_conv_params - MLK_OP_TRANSPOSE_CONV
 * @window: the filter's way; dilations are 1
 * @channels: of the operand
 * @width: channels of the result
 * @filter: weights are [@width][filter_h][filter_w][@channels]
 */
struct mlk_transpose_conv_params {
	struct mlk_window window;
	u32 channels;
	u32 width;
	struct mlk_filter filter;
};

/**
 * struct mlk_lerp - between which two rows or columns a result lies
 * @lower: the one before it
 * @upper: the one behind it
 * @fraction: its distance to @lower in steps of 1/MLK_LERP_ONE
 */
struct mlk_lerp {
	u32 lower;
	u32 upper;
	s32 fraction;
};

#define MLK_LERP_ONE 1024

/**
 * struct mlk_resize_bilinear_params - MLK_OP_RESIZE_BILINEAR
 * @batches: independent images
 * @in_h: height of the operand
 * @in_w: width of the operand
 * @out_h: height of the result
 * @out_w: width of the result
 * @channels: of operand and result
 * @rows: offset of struct mlk_lerp [@out_h]
 * @columns: offset of struct mlk_lerp [@out_w]
 */
struct mlk_resize_bilinear_params {
	u32 batches;
	u32 in_h;
	u32 in_w;
	u32 out_h;
	u32 out_w;
	u32 channels;
	u32 rows;
	u32 columns;
};

/**
 * struct mlk_space_batch_params - MLK_OP_SPACE_BATCH: images <-> their phases
 * @batches: images
 * @space_h: height of an image
 * @space_w: width of an image
 * @block_h: phases per column; batches on the other side are
 *	@block_h * @block_w * @batches
 * @block_w: phases per row
 * @cells_h: height of a phase
 * @cells_w: width of a phase
 * @pad_h: rows of the first cell above the image
 * @pad_w: columns of the first cell left of the image
 * @depth: bytes of a pixel
 * @fill: what stands beyond the border of the image
 * @to_space: from phases to images, else from images to phases
 */
struct mlk_space_batch_params {
	u32 batches;
	u32 space_h;
	u32 space_w;
	u32 block_h;
	u32 block_w;
	u32 cells_h;
	u32 cells_w;
	u32 pad_h;
	u32 pad_w;
	u32 depth;
	s32 fill;
	u32 to_space;
};

/**
 * struct mlk_l2_norm_params - MLK_OP_L2_NORM over the last dimension
 * @rows: independent rows
 * @depth: length of a row, at most MLK_L2_NORM_MAX_DEPTH
 * @in_zero_point: subtracted from the operand
 */
struct mlk_l2_norm_params {
	u32 rows;
	u32 depth;
	s32 in_zero_point;
};

/* Keeps the sum of squares inside 31 bits. */
#define MLK_L2_NORM_MAX_DEPTH 32768

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
 * struct mlk_matmul_params - MLK_OP_BATCH_MATMUL of int8 or int16
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
 *
 * With int16 there are no zero points, sums have 64 bits, @multiplier is Q0.15
 * and @shift at most MLK_WIDE_MAX_SHIFT.
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
 * @absolute: 1 to turn what is < 0 round before it is multiplied
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
	u32 absolute;
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

/**
 * struct mlk_conv_s16_params - MLK_OP_CONV_S16: int16 with int8 weights
 * @window: the filter's way
 * @channels: of the operand
 * @width: channels of the result
 * @groups: output o sees the channels of group o / (@width / @groups) only
 * @weights: offset of s8 [@width][filter_h][filter_w][@channels / @groups]; if a
 *	group is one channel, of [filter_h][filter_w][@width]
 * @bias: offset of an s64 per output channel
 * @multiplier: offset of an s32 per output channel, each >= 0
 * @shift: offset of an s32 per output channel, each in [-31, 30]; @wide: at
 *	most MLK_WIDE_MAX_SHIFT
 * @weight_offset: minus the weights' zero point, nearly always 0
 * @act_min: lower bound of the fused activation
 * @act_max: upper bound of the fused activation
 * @wide: sums have 64 bits, multipliers are Q0.15; else 32 bits and Q0.31
 */
struct mlk_conv_s16_params {
	struct mlk_window window;
	u32 channels;
	u32 width;
	u32 groups;
	u32 weights;
	u32 bias;
	u32 multiplier;
	u32 shift;
	s32 weight_offset;
	s32 act_min;
	s32 act_max;
	u32 wide;
};

/* Keeps the rounding of a 64-bit sum a shift to the right. */
#define MLK_WIDE_MAX_SHIFT 14

/**
 * struct mlk_rsqrt_s16_params - MLK_OP_RSQRT_S16
 * @multiplier: from 1/sqrt(operand) as Q11.20 to output steps, >= 0
 * @shift: belongs to @multiplier, in [-31, 30]
 */
struct mlk_rsqrt_s16_params {
	s32 multiplier;
	s32 shift;
};

/**
 * struct mlk_svdf_params - MLK_OP_SVDF; result 1 is the state, which is read, too:
 *	[@batches][@units][@rank][@memory] of s8 or s16, oldest first
 * @batches: independent rows
 * @inputs: of a row
 * @units: outputs of a row
 * @rank: filters of a unit
 * @memory: runs that count
 * @feature: offset of s8 [@units * @rank][@inputs]
 * @feature_bias: offset of s32 [@units * @rank]: minus the operand's zero point
 *	times the sum of weights
 * @time: offset of [@units * @rank][@memory] like the state
 * @bias: offset of s32 [@units]; holds minus the state's zero point times the sum
 *	of weights, too
 * @feature_multiplier: of the filters, >= 0
 * @feature_shift: belongs to @feature_multiplier, in [-31, 30]
 * @state_zero_point: added to what is kept
 * @multiplier: of the result, >= 0
 * @shift: belongs to @multiplier, in [-31, 30]
 * @out_zero_point: added at the end
 */
struct mlk_svdf_params {
	u32 batches;
	u32 inputs;
	u32 units;
	u32 rank;
	u32 memory;
	u32 feature;
	u32 feature_bias;
	u32 time;
	u32 bias;
	s32 feature_multiplier;
	s32 feature_shift;
	s32 state_zero_point;
	s32 multiplier;
	s32 shift;
	s32 out_zero_point;
};

/**
 * struct mlk_lstm_params - MLK_OP_LSTM; operand 1 is the state before the first
 *	step, s8 [@batches][@cells], which another step must renew; result 1 is the
 *	cells' state, s16 [@batches][@cells], which is read, too
 * @batches: independent sequences
 * @steps: of a sequence
 * @inputs: of a step
 * @cells: outputs of a step
 * @time_major: 0 for [@batches][@steps][...], 1 for [@steps][@batches][...]
 * @gates: 4: forget, cell, output, input; or 3, if the input gate is what the
 *	forget gate leaves
 * @input_weights: offset of s8 [@gates][@cells][@inputs]
 * @state_weights: offset of s8 [@gates][@cells][@cells]
 * @input_bias: offset of s32 [@gates][@cells]; holds minus the operand's zero
 *	point times the sum of weights, too
 * @state_bias: the same for the state
 * @multipliers: offset of s32 [@gates][2]: of operand and state, each >= 0
 * @shifts: offset of s32 [@gates][2], each in [-31, 30]
 * @cell_bits: integer bits of the cells' state, at most 6
 * @clip: the cells' state stays in [-@clip, @clip]; 0 for no bound; at most 32767
 * @multiplier: of the result, >= 0
 * @shift: belongs to @multiplier, in [-31, 30]
 * @out_zero_point: added at the end
 */
struct mlk_lstm_params {
	u32 batches;
	u32 steps;
	u32 inputs;
	u32 cells;
	u32 time_major;
	u32 gates;
	u32 input_weights;
	u32 state_weights;
	u32 input_bias;
	u32 state_bias;
	u32 multipliers;
	u32 shifts;
	u32 cell_bits;
	u32 clip;
	s32 multiplier;
	s32 shift;
	s32 out_zero_point;
};

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
 * @fc: MLK_OP_FULLY_CONNECTED
 * @conv: MLK_OP_CONV_2D, MLK_OP_DEPTHWISE_CONV
 * @softmax: MLK_OP_SOFTMAX
 * @move: MLK_OP_MOVE
 * @fill: MLK_OP_FILL
 * @take: MLK_OP_TAKE
 * @pool: MLK_OP_POOL and MLK_OP_POOL_S16
 * @reduce: MLK_OP_REDUCE
 * @arg_extreme: MLK_OP_ARG_EXTREME
 * @transpose_conv: MLK_OP_TRANSPOSE_CONV
 * @resize_bilinear: MLK_OP_RESIZE_BILINEAR
 * @space_batch: MLK_OP_SPACE_BATCH
 * @l2_norm: MLK_OP_L2_NORM
 * @lut: MLK_OP_LUT and MLK_OP_LUT_S16
 * @binary: MLK_OP_BINARY
 * @log_softmax: MLK_OP_LOG_SOFTMAX
 * @matmul: MLK_OP_BATCH_MATMUL
 * @requantize: MLK_OP_REQUANTIZE
 * @sigmoid: MLK_OP_SIGMOID_S16
 * @softmax_s16: MLK_OP_SOFTMAX_S16
 * @conv_s16: MLK_OP_CONV_S16
 * @rsqrt_s16: MLK_OP_RSQRT_S16
 * @svdf: MLK_OP_SVDF
 * @lstm: MLK_OP_LSTM
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
		struct mlk_conv_params conv;
		struct mlk_softmax_params softmax;
		struct mlk_move_params move;
		struct mlk_fill_params fill;
		struct mlk_take_params take;
		struct mlk_pool_params pool;
		struct mlk_reduce_params reduce;
		struct mlk_arg_extreme_params arg_extreme;
		struct mlk_transpose_conv_params transpose_conv;
		struct mlk_resize_bilinear_params resize_bilinear;
		struct mlk_space_batch_params space_batch;
		struct mlk_l2_norm_params l2_norm;
		struct mlk_binary_params binary;
		struct mlk_log_softmax_params log_softmax;
		struct mlk_matmul_params matmul;
		struct mlk_requantize_params requantize;
		struct mlk_sigmoid_params sigmoid;
		struct mlk_softmax_s16_params softmax_s16;
		struct mlk_conv_s16_params conv_s16;
		struct mlk_rsqrt_s16_params rsqrt_s16;
		struct mlk_svdf_params svdf;
		struct mlk_lstm_params lstm;
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
	X(MACS_LIMIT, "more multiply-accumulates than the caller allows") \
	X(TIME_LIMIT, "a run may take longer than the caller allows")

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
 * struct mlk_speed - how long a processor takes at most, in picoseconds
 * @op_ps: for an operator, besides what follows
 * @mac_ps: for a multiply-accumulate
 * @item_ps: for any other value that is computed or moved, such as one that is
 *	looked up in a table
 *
 * A caller measures its own once: programs of one operator, at the clock and
 * with the caches that it can count on.
 */
struct mlk_speed {
	u32 op_ps;
	u32 mac_ps;
	u32 item_ps;
};

/* Plain C on a core of 1 GHz, with room for cold caches. */
#define MLK_SPEED_SLOW { .op_ps = 1000000, .mac_ps = 6000, .item_ps = 12000 }

/**
 * struct mlk_limits - what a caller can afford
 * @arena_bytes: largest arena
 * @macs: most multiply-accumulates of one run
 * @ns: most nanoseconds of one run, as mlk_program_cost() tells them; 0 for any
 * @speed: for @ns; NULL for MLK_SPEED_SLOW
 */
struct mlk_limits {
	u32 arena_bytes;
	u64 macs;
	u64 ns;
	const struct mlk_speed *speed;
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
 * an operator that is not built in; -E2BIG or -ENOSPC beyond @limits (MACs and
 * time, arena).
 */
int mlk_program_verify(const void *program, size_t bytes,
		       const struct mlk_limits *limits, struct mlk_diag *diag);

/**
 * struct mlk_product - rows times packed weights, requantised
 * @in: first input row
 * @out: first output row
 * @rows: how many
 * @in_stride: bytes from one input row to the next
 * @out_stride: bytes from one output row to the next, >= @width
 * @lines: an input row is @lines times @runs pieces of @run bytes
 * @line_stride: bytes from one line to the next
 * @runs: pieces in a line
 * @run_stride: bytes from one piece to the next
 * @run: bytes of a piece; its weights are padded to a multiple of 4 inputs
 * @depth: inputs that an output has weights for, see struct mlk_weights
 * @width: outputs of a row
 * @packed: packed weights
 * @bias: per output
 * @bias_unsigned: per output, for inputs with 128 added
 * @multiplier: per output
 * @shift: per output
 * @out_zero_point: added after the multiplication
 * @act_min: lower bound of the fused activation
 * @act_max: upper bound of the fused activation
 * @padded: the only row of @out may be written up to the next multiple of 16
 * @readable: pieces may be read up to the next multiple of 4, to no effect; else
 *	not a byte behind them
 */
struct mlk_product {
	const s8 *in;
	s8 *out;
	u32 rows;
	size_t in_stride;
	size_t out_stride;
	u32 lines;
	size_t line_stride;
	u32 runs;
	size_t run_stride;
	u32 run;
	u32 depth;
	u32 width;
	const s8 *packed;
	const s32 *bias;
	const s32 *bias_unsigned;
	const s32 *multiplier;
	const s32 *shift;
	s32 out_zero_point;
	s32 act_min;
	s32 act_max;
	u32 padded;
	u32 readable;
};

/**
 * struct mlk_depthwise - a filter for each channel of images
 * @p: weights, requantisation, first operand and result; depth is the number of
 *	taps, width that of the channels. Rows, strides and pieces are not used.
 * @window: the filter's way
 * @in_zero_point: what stands for zero in the operand
 */
struct mlk_depthwise {
	struct mlk_product p;
	const struct mlk_window *window;
	s32 in_zero_point;
};

/* What a struct mlk_simd's depthwise can do at most. */
#define MLK_DEPTHWISE_TAPS 64

/**
 * struct mlk_binary_row - neighbouring elements of MLK_OP_BINARY
 * @params: what to do; kind is ADD, SUB or MUL
 * @x: of the first operand
 * @y: of the second operand
 * @x_step: 1, or 0 if there is just one element of @x
 * @y_step: the same for @y
 * @out: of the result; may be @x or @y
 * @n: how many
 */
struct mlk_binary_row {
	const struct mlk_binary_params *params;
	const s8 *x;
	const s8 *y;
	u32 x_step;
	u32 y_step;
	s8 *out;
	u32 n;
};

/**
 * struct mlk_pool_line - neighbouring pixels below the filter of MLK_OP_POOL
 * @x: some channels of the first pixel
 * @pixels: how many
 * @stride: bytes from one pixel to the next
 * @channels: how many; at most MLK_POOL_CHANNELS
 * @acc: for each of them, what the values are added to, or the greatest so far
 * @kind: enum mlk_pool_kind
 */
struct mlk_pool_line {
	const s8 *x;
	u32 pixels;
	size_t stride;
	u32 channels;
	s32 *acc;
	u32 kind;
};

#define MLK_POOL_CHANNELS 64

/**
 * struct mlk_dots_s16 - a row of int16 times rows of int8 weights
 * @x: the row
 * @w: the first row of weights
 * @step: bytes from one row of weights to the next
 * @depth: how many products make a sum
 * @rows: how many sums
 * @acc: what each sum is added to
 */
struct mlk_dots_s16 {
	const s16 *x;
	const s8 *w;
	size_t step;
	u32 depth;
	u32 rows;
	u64 *acc;
};

/**
 * struct mlk_simd - inner loops for one instruction set, see kernel/arch
 * @name: of the instruction set
 * @product: computes a matrix product, byte for byte as mlk_product_c()
 * @depthwise: DEPTHWISE_CONV of up to MLK_DEPTHWISE_TAPS taps; or NULL
 * @binary: MLK_OP_BINARY's ADD, SUB and MUL of int8; or NULL
 * @pool: the values below a line of MLK_OP_POOL's filter; or NULL
 * @dots_s16: sums of MLK_OP_CONV_S16; or NULL
 */
struct mlk_simd {
	const char *name;
	void (*product)(const struct mlk_product *p);
	void (*depthwise)(const struct mlk_depthwise *d);
	void (*binary)(const struct mlk_binary_row *r);
	void (*pool)(const struct mlk_pool_line *l);
	void (*dots_s16)(const struct mlk_dots_s16 *d);
};

/**
 * mlk_product_c - the matrix product in plain C
 * @p: what to multiply
 */
void mlk_product_c(const struct mlk_product *p);

/**
 * mlk_program_run_simd - one inference with faster inner loops
 * @program: as verified
 * @arena: as for mlk_program_run()
 * @simd: inner loops that this processor can run, or NULL
 *
 * Context: any in which the processor's vector registers may be used.
 */
void mlk_program_run_simd(const void *program, void *arena,
			  const struct mlk_simd *simd);

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
 * mlk_program_run_ops - some operators of a run, to measure or watch them
 * @program: as verified
 * @arena: as for mlk_program_run()
 * @first: number of the first operator
 * @end: one more than the last one's, at most the header's n_ops
 * @simd: inner loops that this processor can run, or NULL
 *
 * From n_init_ops to n_ops in steps of any size is one run.
 *
 * Context: as for mlk_program_run().
 */
void mlk_program_run_ops(const void *program, void *arena, u32 first, u32 end,
			 const struct mlk_simd *simd);

/**
 * mlk_program_op_macs - the cost of one operator
 * @program: as verified
 * @op: its number, less than the header's n_ops
 *
 * Context: any; reads only @program.
 * Return: its share of the header's macs.
 */
u64 mlk_program_op_macs(const void *program, u32 op);

/**
 * mlk_program_cost - how long one run takes at most
 * @program: as verified
 * @speed: of the processor, or NULL for MLK_SPEED_SLOW
 *
 * An upper bound from what the program does, whatever its inputs, for loops in
 * plain C; not counted are interrupts, and waiting for others. Integers only.
 *
 * Context: any; reads only @program and @speed.
 * Return: nanoseconds; U64_MAX for more than can be counted.
 */
u64 mlk_program_cost(const void *program, const struct mlk_speed *speed);

/**
 * mlk_program_next - the program behind another one, where a file has several
 * @program: as verified
 * @bytes: how many may be read from @program's first byte on
 *
 * Programs lie behind each other, each at a multiple of MLK_DATA_ALIGN from the
 * first one. What is returned is not verified yet; as many fewer of @bytes may
 * be read there as it lies behind @program.
 *
 * Context: any; reads only @program's header.
 * Return: the next program's first byte, or NULL if there is nothing behind.
 */
const void *mlk_program_next(const void *program, size_t bytes);

/**
 * mlk_program_find - a program by its name, where a file has several
 * @file: aligned to MLK_PROGRAM_ALIGN; any bytes
 * @bytes: how many may be read there
 * @name: of the program
 *
 * Headers, checksums and names are checked on the way, which ends at the first
 * program that is damaged. What is returned is not verified yet; as many fewer
 * of @bytes may be read there as it lies behind @file.
 *
 * Context: any; reads only @file and @name.
 * Return: the first program with that name, or NULL.
 */
const void *mlk_program_find(const void *file, size_t bytes, const char *name);

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

/* The program's name; empty if it was given none. */
static inline const char *mlk_program_name(const struct mlk_header *h)
{
	return (const char *)h + h->names;
}

#endif /* MLK_ENGINE_H */
