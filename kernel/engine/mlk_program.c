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

u32 mlk_operand_bytes(const struct mlk_check *c, u16 tensor)
{
	if (tensor >= c->header->n_tensors)
		return 0;
	return mlk_tensor_at(c->header, tensor)->bytes;
}

int mlk_data_ok(const struct mlk_check *c, u32 offset, u64 bytes)
{
	return offset >= c->header->data && offset % MLK_DATA_ALIGN == 0 &&
	       offset + bytes <= c->header->names;
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
	/* the last name, and so each, ends inside */
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
	    h->n_ops > MLK_MAX_OPS || !h->n_inputs || !h->n_outputs ||
	    h->n_inputs > h->n_tensors || h->n_outputs > h->n_tensors ||
	    h->arena_bytes > MLK_MAX_ARENA_BYTES ||
	    h->arena_bytes % MLK_ARENA_ALIGN)
		return MLK_REASON_COUNTS;
	return mlk_check_layout(h);
}

static int mlk_check_tensor(const struct mlk_header *h,
			    const struct mlk_tensor *t)
{
	u64 bytes = 1;
	s32 low;
	u32 i;

	if (t->dtype != MLK_INT8 && t->dtype != MLK_UINT8)
		return MLK_REASON_TENSOR;
	if (t->host_dtype != t->dtype && t->host_dtype != MLK_FLOAT32)
		return MLK_REASON_TENSOR;
	if (t->flags || t->rank > MLK_MAX_RANK)
		return MLK_REASON_TENSOR;
	low = t->dtype == MLK_INT8 ? -128 : 0;
	if (t->zero_point < low || t->zero_point > low + 255 || !t->scale ||
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
	if (t->bytes != bytes || t->offset % MLK_DATA_ALIGN ||
	    (u64)t->offset + t->bytes > h->arena_bytes ||
	    t->name >= h->total_bytes - h->names)
		return MLK_REASON_TENSOR;
	return MLK_REASON_NONE;
}

static int mlk_check_op(struct mlk_check *c)
{
	switch (c->op->opcode) {
	case MLK_OP_COPY:
		return mlk_check_copy(c);
#if MLK_CONFIG_LUT
	case MLK_OP_LUT:
		return mlk_check_lut(c);
#endif
#if MLK_CONFIG_FULLY_CONNECTED
	case MLK_OP_FULLY_CONNECTED:
		return mlk_check_fully_connected(c);
#endif
#if MLK_CONFIG_SOFTMAX
	case MLK_OP_SOFTMAX:
		return mlk_check_softmax(c);
#endif
	default:
		return MLK_REASON_OPCODE;
	}
}

int mlk_check_copy(struct mlk_check *c)
{
	u32 bytes = mlk_operand_bytes(c, c->op->in[0]);

	if (!bytes || bytes != mlk_operand_bytes(c, c->op->out[0]))
		return MLK_REASON_OPERAND;
	return MLK_REASON_NONE;
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
		for (w = 1; w < 4; w++)
			if (c.op->in[w] != MLK_NO_TENSOR)
				return MLK_REASON_RESERVED;
		if (c.op->out[1] != MLK_NO_TENSOR)
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
		if (io[i] >= h->n_tensors)
			return MLK_REASON_IO;

	return mlk_check_ops(h, diag);
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
		return -E2BIG;
	default:
		return -EINVAL;
	}
}
