// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The verifier. Order matters: each step relies only on what the steps before
 * it have proved.
 */
#include "mlk_op.h"

const char *mlk_reason_text(int reason)
{
	static const char *const text[] = {
#define MLK_REASON_TEXT(name, words) words,
		MLK_REASONS(MLK_REASON_TEXT)
#undef MLK_REASON_TEXT
	};

	if (reason < 0 || reason >= MLK_REASON_END)
		return "unknown reason";
	return text[reason];
}

u64 mlk_program_checksum(const struct mlk_header *program)
{
	const u32 *word = (const u32 *)&program->macs;
	const u32 *end =
		(const u32 *)((const u8 *)program + program->total_bytes);
	u32 sum = 0, sums = 0;

	for (; word < end; word++) {
		sum += *word;
		sums += sum;
	}
	return (u64)sums << 32 | sum;
}

int mlk_multipliers_ok(const struct mlk_check *c, u32 multiplier, u32 shift,
		       u32 count)
{
	const u8 *base = (const u8 *)c->header;
	const s32 *m = (const s32 *)(base + multiplier);
	const s32 *s = (const s32 *)(base + shift);
	u32 i;

	for (i = 0; i < count; i++)
		if (m[i] < 0 || s[i] < -31 || s[i] > 30)
			return 0;
	return 1;
}

/* The bits of a single: everything below, save 0, is positive and finite. */
#define MLK_FLOAT_INFINITY 0x7f800000u

/* Sections lie behind each other in this order, so none can overlap. */
static int mlk_check_layout(const struct mlk_header *h)
{
	u64 io_words = (u64)h->n_inputs + h->n_outputs;

	if (h->tensors < sizeof(*h) || h->tensors % 8 ||
	    h->ops < h->tensors +
			     (u64)h->n_tensors * sizeof(struct mlk_tensor) ||
	    h->ops % 8 ||
	    h->io < h->ops + (u64)h->n_ops * sizeof(struct mlk_op) ||
	    h->io % 2 || h->data < h->io + io_words * 2 ||
	    h->data % MLK_DATA_ALIGN || h->names < h->data ||
	    h->names >= h->total_bytes)
		return MLK_REASON_LAYOUT;
	/* there is one, and the last, and so each, ends inside */
	if (((const u8 *)h)[h->total_bytes - 1])
		return MLK_REASON_LAYOUT;
	return MLK_REASON_NONE;
}

static int mlk_check_header(const struct mlk_header *h, size_t bytes)
{
	if ((uintptr_t)h % MLK_PROGRAM_ALIGN)
		return MLK_REASON_ALIGN;
	if (bytes < sizeof(*h))
		return MLK_REASON_SHORT;
	if (h->magic != MLK_PROGRAM_MAGIC)
		return MLK_REASON_MAGIC;
	if (h->version != MLK_PROGRAM_VERSION || h->header_bytes != sizeof(*h))
		return MLK_REASON_VERSION;
	if (h->total_bytes > bytes || h->total_bytes < sizeof(*h))
		return MLK_REASON_SHORT;
	if (h->total_bytes > MLK_MAX_PROGRAM_BYTES || h->total_bytes % 4)
		return MLK_REASON_LAYOUT;
	if (h->checksum != mlk_program_checksum(h))
		return MLK_REASON_CHECKSUM;
	if (h->reserved0 || h->reserved)
		return MLK_REASON_RESERVED;
	if (!h->n_tensors || h->n_tensors > MLK_MAX_TENSORS ||
	    h->n_ops > MLK_MAX_OPS || h->n_init_ops > h->n_ops ||
	    !h->n_inputs || !h->n_outputs || h->n_inputs > h->n_tensors ||
	    h->n_outputs > h->n_tensors ||
	    h->arena_bytes > MLK_MAX_ARENA_BYTES ||
	    h->arena_bytes % MLK_ARENA_ALIGN)
		return MLK_REASON_COUNTS;
	return mlk_check_layout(h);
}

/* Bytes of an element; 0 for a dtype that the engine does not know. */
static u32 mlk_element_bytes(u32 dtype)
{
	switch (dtype) {
	case MLK_INT8:
	case MLK_UINT8:
		return 1;
	case MLK_INT16:
		return 2;
	case MLK_INT32:
		return 4;
	case MLK_INT64:
		return 8;
	default:
		return 0;
	}
}

static int mlk_zero_point_ok(u32 dtype, s32 zero_point)
{
	switch (dtype) {
	case MLK_INT8:
		return zero_point >= -128 && zero_point <= 127;
	case MLK_UINT8:
		return zero_point >= 0 && zero_point <= 255;
	case MLK_INT16:
		return zero_point >= -32768 && zero_point <= 32767;
	default:
		return zero_point == 0;
	}
}

/* Does the tensor lie where its flags say? */
static int mlk_place_ok(const struct mlk_header *h, const struct mlk_tensor *t)
{
	u64 end = (u64)t->offset + t->bytes;

	if (t->offset % MLK_DATA_ALIGN)
		return 0;
	if (t->flags & MLK_TENSOR_CONST)
		return t->offset >= h->data && end <= h->names;
	return end <= h->arena_bytes;
}

static int mlk_check_tensor(const struct mlk_header *h,
			    const struct mlk_tensor *t)
{
	u64 bytes = mlk_element_bytes(t->dtype);
	u32 i;

	if (!bytes || t->flags & ~(u32)MLK_TENSOR_CONST ||
	    t->rank > MLK_MAX_RANK)
		return MLK_REASON_TENSOR;
	if (t->host_dtype != t->dtype && t->host_dtype != MLK_FLOAT32)
		return MLK_REASON_TENSOR;
	if (!mlk_zero_point_ok(t->dtype, t->zero_point) || !t->scale ||
	    t->scale >= MLK_FLOAT_INFINITY)
		return MLK_REASON_TENSOR;
	for (i = 0; i < MLK_MAX_RANK; i++) {
		if (i >= t->rank ? t->dims[i] != 0 : t->dims[i] == 0)
			return MLK_REASON_TENSOR;
		if (i < t->rank)
			bytes *= t->dims[i];
		if (bytes > MLK_MAX_ARENA_BYTES)
			return MLK_REASON_TENSOR;
	}
	if (t->bytes != bytes || !mlk_place_ok(h, t) ||
	    t->name >= h->total_bytes - h->names)
		return MLK_REASON_TENSOR;
	return MLK_REASON_NONE;
}

/* Operands at least @least and at most @most, results @results: all there? */
static int mlk_check_operands(const struct mlk_check *c, u32 least, u32 most,
			      u32 results)
{
	const u16 *in = c->op->in, *out = c->op->out;
	u32 i;

	for (i = 0; i < MLK_OP_OPERANDS; i++) {
		if (in[i] == MLK_NO_TENSOR ? i < least : i >= most)
			return MLK_REASON_OPERAND;
		if (in[i] != MLK_NO_TENSOR && in[i] >= c->header->n_tensors)
			return MLK_REASON_OPERAND;
	}
	for (i = 0; i < MLK_OP_RESULTS; i++) {
		if ((out[i] == MLK_NO_TENSOR) != (i >= results))
			return MLK_REASON_OPERAND;
		if (i >= results)
			continue;
		/* the program is never written */
		if (out[i] >= c->header->n_tensors ||
		    mlk_result(c, i)->flags & MLK_TENSOR_CONST)
			return MLK_REASON_OPERAND;
	}
	return MLK_REASON_NONE;
}

static int mlk_check_op(struct mlk_check *c)
{
	int reason;

	switch (c->op->opcode) {
#define MLK_OP_CASE(number, NAME, name, least, most, results) \
	case MLK_OP_##NAME: \
		if (!MLK_CONFIG_##NAME) \
			return MLK_REASON_OPCODE; \
		reason = mlk_check_operands(c, least, most, results); \
		return reason ? reason : mlk_check_##name(c);
		MLK_OPS(MLK_OP_CASE)
#undef MLK_OP_CASE
	default:
		return MLK_REASON_OPCODE;
	}
}

u64 mlk_program_op_macs(const void *program, u32 op)
{
	struct mlk_check c = {
		.header = program,
		.op = mlk_op_at(program, op),
	};

	return mlk_check_op(&c) ? 0 : c.macs;
}

static int mlk_check_ops(const struct mlk_header *h, struct mlk_diag *diag)
{
	struct mlk_check c = { .header = h };
	u64 macs = 0;
	u32 i, w;
	int reason;

	for (i = 0; i < h->n_ops; i++) {
		diag->op = (s32)i;
		c.op = mlk_op_at(h, i);
		c.macs = 0;
		c.used_words = 0;
		reason = mlk_check_op(&c);
		if (reason)
			return reason;
		for (w = c.used_words; w < MLK_OP_PARAM_WORDS; w++)
			if (c.op->words[w])
				return MLK_REASON_RESERVED;
		/* no more work goes into a program than it says that it costs */
		macs += c.macs;
		if (macs > h->macs)
			break;
	}
	diag->op = -1;
	return macs == h->macs ? MLK_REASON_NONE : MLK_REASON_MACS;
}

static int mlk_check_all(const struct mlk_header *h, size_t bytes,
			 const struct mlk_limits *limits, struct mlk_diag *diag)
{
	int reason = mlk_check_header(h, bytes);
	const u16 *io;
	u32 i;

	if (reason)
		return reason;
	if (limits && h->arena_bytes > limits->arena_bytes)
		return MLK_REASON_ARENA_LIMIT;
	if (limits && h->macs > limits->macs)
		return MLK_REASON_MACS_LIMIT;
	for (i = 0; i < h->n_tensors; i++) {
		diag->tensor = (s32)i;
		reason = mlk_check_tensor(h, mlk_tensor_at(h, i));
		if (reason)
			return reason;
	}
	diag->tensor = -1;

	io = (const u16 *)((const u8 *)h + h->io);
	for (i = 0; i < (u32)h->n_inputs + h->n_outputs; i++)
		if (io[i] >= h->n_tensors ||
		    mlk_tensor_at(h, io[i])->flags & MLK_TENSOR_CONST)
			return MLK_REASON_IO;

	reason = mlk_check_ops(h, diag);
	if (!reason && limits && limits->ns &&
	    mlk_program_cost(h, limits->speed) > limits->ns)
		reason = MLK_REASON_TIME_LIMIT;
	return reason;
}

int mlk_program_verify(const void *program, size_t bytes,
		       const struct mlk_limits *limits, struct mlk_diag *diag)
{
	struct mlk_diag own;

	if (!diag)
		diag = &own;
	diag->op = -1;
	diag->tensor = -1;
	diag->reason = mlk_check_all(program, bytes, limits, diag);
	switch (diag->reason) {
	case MLK_REASON_NONE:
		return 0;
	case MLK_REASON_SHORT:
	case MLK_REASON_MAGIC:
	case MLK_REASON_VERSION:
	case MLK_REASON_CHECKSUM:
		return -EBADMSG;
	case MLK_REASON_OPCODE:
		return -EOPNOTSUPP;
	case MLK_REASON_ARENA_LIMIT:
		return -ENOSPC;
	case MLK_REASON_MACS_LIMIT:
	case MLK_REASON_TIME_LIMIT:
		return -E2BIG;
	default:
		return -EINVAL;
	}
}

const void *mlk_program_next(const void *program, size_t bytes)
{
	const struct mlk_header *h = program;
	u32 size = (h->total_bytes + MLK_DATA_ALIGN - 1) / MLK_DATA_ALIGN *
		   MLK_DATA_ALIGN;

	return size < bytes ? (const u8 *)program + size : NULL;
}

static int mlk_same_text(const char *a, const char *b)
{
	for (; *a && *a == *b; a++)
		b++;
	return *a == *b;
}

const void *mlk_program_find(const void *file, size_t bytes, const char *name)
{
	const struct mlk_header *h = file;
	const u8 *end = (const u8 *)file + bytes;

	while (h && !mlk_check_header(h, (size_t)(end - (const u8 *)h))) {
		if (mlk_same_text(mlk_program_name(h), name))
			return h;
		h = mlk_program_next(h, (size_t)(end - (const u8 *)h));
	}
	return NULL;
}
