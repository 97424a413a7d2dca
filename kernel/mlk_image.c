// SPDX-License-Identifier: GPL-2.0-only
/*
 * The program that runs in the kernel. An image is checked as a whole before
 * anything uses it, then replaces the one before by a pointer under RCU. Each
 * CPU has an arena of its own, and interrupts are off during a run: so nothing
 * else can run in the same arena, whatever the context of the caller is.
 */
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/ktime.h>
#include <linux/vmalloc.h>

#include "engine/mlk_engine.h"
#include "mlk_core.h"
#include "mlk_trace.h"

/**
 * struct mlk_engine - a loaded image
 * @image: its bytes, never changed
 * @program: in @image
 * @in: in @image: how features become inputs
 * @out: in @image: how outputs become knobs, if LINEAR
 * @choice: in @image: knobs of each output, if CHOICES
 * @input: the program's only input
 * @output: the program's only output
 * @arena: one for each possible CPU
 */
struct mlk_engine {
	const struct mlk_image *image;
	const struct mlk_header *program;
	const struct mlk_scale *in;
	const struct mlk_scale *out;
	const s64 *choice;
	const struct mlk_tensor *input;
	const struct mlk_tensor *output;
	u8 *arena[];
};

static void mlk_engine_free(struct mlk_engine *engine)
{
	int cpu;

	if (!engine)
		return;
	for_each_possible_cpu(cpu)
		kvfree(engine->arena[cpu]);
	vfree(engine->image);
	kfree(engine);
}

/* Why an image was refused that never came to the engine's verifier. */
static int mlk_refuse(struct mlk_model *model, int err, const char *text)
{
	model->program_text = text;
	model->program_op = -1;
	return err;
}

static bool mlk_scale_ok(const struct mlk_scale *scale, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		if (scale[i].multiplier < 0 || scale[i].shift > 62)
			return false;
	return true;
}

static bool mlk_choices_ok(const struct mlk_model *model, const s64 *choice,
			   u32 n)
{
	u32 knobs = model->desc.n_knobs, i;

	for (i = 0; i < n * knobs; i++)
		if (!mlk_knob_can(mlk_knob_at(model, i % knobs), choice[i]))
			return false;
	return true;
}

/* Bytes of the tables between an image's header and its program */
static u32 mlk_tables_bytes(const struct mlk_image *image)
{
	u32 bytes = image->n_features * sizeof(struct mlk_scale);

	if (image->head == MLK_HEAD_CHOICES)
		bytes += image->n_choices * image->n_knobs * sizeof(s64);
	if (image->head == MLK_HEAD_LINEAR)
		bytes += image->n_knobs * sizeof(struct mlk_scale);
	return bytes;
}

/* Are the numbers in the header this model's, and small? */
static bool mlk_counts_ok(const struct mlk_model *model,
			  const struct mlk_image *image)
{
	if (image->head == MLK_HEAD_RAW)
		return !image->n_features && !image->n_knobs &&
		       !image->n_choices;
	if (!image->n_knobs || image->n_knobs != model->desc.n_knobs ||
	    image->n_features != model->desc.n_features)
		return false;
	if (image->head == MLK_HEAD_CHOICES)
		return image->n_choices && image->n_choices <= MLK_MAX_CHOICES;
	return image->head == MLK_HEAD_LINEAR && !image->n_choices;
}

static int mlk_image_check(struct mlk_model *model, struct mlk_engine *engine,
			   u32 bytes)
{
	const struct mlk_image *image = engine->image;
	const void *tables = image + 1;
	u32 end;

	if (bytes < sizeof(*image) || image->magic != MLK_IMAGE_MAGIC)
		return mlk_refuse(model, -EBADMSG, "not an image (bad magic)");
	if (image->version != MLK_ABI_VERSION ||
	    image->header_bytes != sizeof(*image) ||
	    image->total_bytes != bytes)
		return mlk_refuse(model, -EBADMSG,
				  "made for another version, or cut short");
	if (image->reserved[0] || image->reserved[1] ||
	    !mlk_counts_ok(model, image))
		return mlk_refuse(model, -EINVAL, "not made for this model");
	end = sizeof(*image) + mlk_tables_bytes(image);
	if (image->program != ALIGN(end, MLK_DATA_ALIGN) ||
	    image->program >= bytes ||
	    memchr_inv((const u8 *)image + end, 0, image->program - end))
		return mlk_refuse(model, -EINVAL,
				  "program is not in its place");

	engine->in = tables;
	tables += image->n_features * sizeof(*engine->in);
	engine->out = tables;
	engine->choice = tables;
	if (!mlk_scale_ok(engine->in, image->n_features) ||
	    (image->head == MLK_HEAD_LINEAR &&
	     !mlk_scale_ok(engine->out, image->n_knobs)))
		return mlk_refuse(model, -EINVAL, "bad multiplier or shift");
	if (!mlk_choices_ok(model, engine->choice, image->n_choices))
		return mlk_refuse(model, -ERANGE,
				  "a choice that its knob cannot have");
	return 0;
}

/* Does the program take one int8 row and give one, of the right length? */
static bool mlk_borders_ok(const struct mlk_engine *engine)
{
	const struct mlk_image *image = engine->image;
	u32 outputs = image->head == MLK_HEAD_CHOICES ? image->n_choices :
							image->n_knobs;

	return engine->program->n_inputs == 1 &&
	       engine->program->n_outputs == 1 &&
	       engine->input->dtype == MLK_INT8 &&
	       engine->output->dtype == MLK_INT8 &&
	       (image->head == MLK_HEAD_RAW ||
		(engine->input->bytes == image->n_features &&
		 engine->output->bytes == outputs));
}

static int mlk_program_check(struct mlk_model *model, struct mlk_engine *engine)
{
	const struct mlk_image *image = engine->image;
	u32 bytes = image->total_bytes - image->program;
	const struct mlk_limits limits = {
		.arena_bytes = model->desc.max_arena_bytes,
		.macs = model->desc.max_macs,
	};
	struct mlk_diag diag;
	int err;

	engine->program = (const void *)image + image->program;
	err = mlk_program_verify(engine->program, bytes, &limits, &diag);
	if (err) {
		model->program_text = mlk_reason_text(diag.reason);
		model->program_op = diag.op;
		return err;
	}
	engine->input = mlk_input_at(engine->program, 0);
	engine->output = mlk_output_at(engine->program, 0);
	if (engine->program->total_bytes != bytes)
		return mlk_refuse(model, -EINVAL, "bytes behind the program");
	/* each CPU would have its own ones */
	if (engine->program->n_init_ops)
		return mlk_refuse(model, -EOPNOTSUPP, "program has variables");
	if (!mlk_borders_ok(engine))
		return mlk_refuse(model, -EINVAL,
				  "inputs or outputs are not this model's");
	return 0;
}

static int mlk_engine_arenas(struct mlk_engine *engine)
{
	/* a power of 2 is aligned to itself, also by slab debugging */
	size_t least =
		max_t(size_t, engine->program->arena_bytes, MLK_ARENA_ALIGN);
	size_t bytes = roundup_pow_of_two(least);
	int cpu;

	for_each_possible_cpu(cpu) {
		engine->arena[cpu] =
			kvzalloc_node(bytes, GFP_KERNEL, cpu_to_node(cpu));
		if (!engine->arena[cpu])
			return -ENOMEM;
		mlk_program_reset(engine->program, engine->arena[cpu]);
	}
	return 0;
}

static int mlk_engine_prepare(struct mlk_model *model,
			      struct mlk_engine *engine, u32 bytes)
{
	int err = mlk_image_check(model, engine, bytes);

	if (!err)
		err = mlk_program_check(model, engine);
	if (!err)
		err = mlk_engine_arenas(engine);
	return err;
}

/* Under the mutex: what is loaded from now on; waits for runs of the last. */
static void mlk_engine_swap(struct mlk_model *model, struct mlk_engine *engine)
{
	struct mlk_engine *old;
	unsigned long flags;

	old = rcu_replace_pointer(model->engine, engine,
				  lockdep_is_held(&model->mutex));
	raw_spin_lock_irqsave(&model->lock, flags);
	mlk_score_restart(model);
	raw_spin_unlock_irqrestore(&model->lock, flags);
	if (!old)
		return;
	synchronize_rcu();
	mlk_engine_free(old);
}

/* Under the mutex; takes @image, which is vmalloc'ed, in any case. */
int mlk_image_load(struct mlk_model *model, void *image, u32 bytes)
{
	struct mlk_engine *engine;
	unsigned long flags;
	int err = -ENOMEM;

	lockdep_assert_held(&model->mutex);
	engine = kzalloc(struct_size(engine, arena, nr_cpu_ids), GFP_KERNEL);
	if (!engine) {
		vfree(image);
		return -ENOMEM;
	}
	engine->image = image;
	err = mlk_engine_prepare(model, engine, bytes);
	trace_mlk_program(model->name, err ? 0 : engine->image->id, err);
	raw_spin_lock_irqsave(&model->lock, flags);
	if (!err) {
		model->stats.programs++;
	} else if (err != -ENOMEM) {
		model->stats.bad_programs++;
		mlk_mode_set(model, MLK_EMERGENCY, MLK_WHY_PROGRAM);
	}
	raw_spin_unlock_irqrestore(&model->lock, flags);
	if (err) {
		mlk_engine_free(engine);
		mlk_mode_settle(model);
		return err;
	}
	mlk_refuse(model, 0, mlk_reason_text(MLK_REASON_NONE));
	model->program_id = engine->image->id;
	model->program_swaps++;
	mlk_engine_swap(model, engine);
	sysfs_notify(&model->kobj, NULL, "program_id");
	return 0;
}

static void mlk_staging_end(struct mlk_model *model)
{
	vfree(model->staging);
	model->staging = NULL;
	model->staging_file = NULL;
	model->staging_bytes = 0;
}

/* The first piece says how many bytes there will be. */
static int mlk_staging_begin(struct mlk_model *model, struct file *file,
			     const char *buf, size_t n)
{
	const struct mlk_image *image = (const void *)buf;

	mlk_staging_end(model);
	if (n < sizeof(*image) || image->magic != MLK_IMAGE_MAGIC)
		return mlk_refuse(model, -EBADMSG, "not an image (bad magic)");
	if (image->total_bytes < sizeof(*image))
		return mlk_refuse(model, -EBADMSG, "cut short");
	if (image->total_bytes > model->desc.max_image_bytes)
		return mlk_refuse(model, -E2BIG, "image is too large");
	model->staging = vmalloc(image->total_bytes);
	if (!model->staging)
		return -ENOMEM;
	model->staging_file = file;
	return 0;
}

/*
 * A piece of an image, under the mutex. A write from the first byte on starts
 * anew, so that one that was given up can block nobody.
 */
ssize_t mlk_image_write(struct mlk_model *model, struct file *file,
			const char *buf, loff_t at, size_t n)
{
	const struct mlk_image *image;
	void *whole;
	int err;

	if (!at) {
		err = mlk_staging_begin(model, file, buf, n);
		if (err)
			return err;
	}
	if (model->staging_file != file)
		return -EBUSY;
	/* the first piece of it is there */
	image = at ? model->staging : (const void *)buf;
	if (at != model->staging_bytes || n > image->total_bytes - at) {
		mlk_staging_end(model);
		return mlk_refuse(model, -EINVAL, "pieces do not fit");
	}
	memcpy(model->staging + at, buf, n);
	model->staging_bytes += n;
	if (model->staging_bytes < image->total_bytes)
		return n;
	whole = model->staging;
	model->staging = NULL;
	err = mlk_image_load(model, whole, model->staging_bytes);
	mlk_staging_end(model);
	return err ? err : n;
}

/* Under the mutex. */
ssize_t mlk_image_read(struct mlk_model *model, char *buf, loff_t at, size_t n)
{
	const struct mlk_engine *engine;

	engine = rcu_dereference_protected(model->engine,
					   lockdep_is_held(&model->mutex));
	if (!engine)
		return 0;
	return memory_read_from_buffer(buf, n, &at, engine->image,
				       engine->image->total_bytes);
}

/* The last one, when nobody can call any more. */
void mlk_image_unload(struct mlk_model *model)
{
	mutex_lock(&model->mutex);
	mlk_staging_end(model);
	mlk_engine_swap(model, NULL);
	mutex_unlock(&model->mutex);
}

/* The arithmetic of struct mlk_scale; the result fits in 63 bits. */
static s64 mlk_scaled_number(const struct mlk_scale *scale, s64 x)
{
	u64 size = x < 0 ? -(u64)x : x;
	u32 excess = size >> 32 ? fls64(size) - 32 : 0;
	u32 shift = scale->shift;

	if (excess > shift)
		size = S64_MAX;
	else if (excess)
		size >>= excess;
	if (excess <= shift) {
		shift -= excess;
		size *= scale->multiplier;
		size += (1ULL << shift) >> 1;
		size >>= shift;
	}
	return x < 0 ? -(s64)size : (s64)size;
}

static s64 mlk_add_saturated(s64 a, s64 b)
{
	s64 sum;

	if (!check_add_overflow(a, b, &sum))
		return sum;
	return a < 0 ? S64_MIN : S64_MAX;
}

static s8 mlk_quantize(const struct mlk_scale *scale, s64 feature, s32 zero)
{
	s64 x, q;

	if (check_sub_overflow(feature, scale->offset, &x))
		x = feature < 0 ? S64_MIN : S64_MAX;
	q = mlk_add_saturated(mlk_scaled_number(scale, x), zero);
	return clamp_t(s64, q, S8_MIN, S8_MAX);
}

/* The greatest of @n, the first of equals */
static u32 mlk_greatest(const s8 *out, u32 n)
{
	u32 best = 0, i;

	for (i = 1; i < n; i++)
		if (out[i] > out[best])
			best = i;
	return best;
}

static void mlk_read_answer(const struct mlk_model *model,
			    const struct mlk_engine *engine, const s8 *out,
			    struct mlk_answer *answer)
{
	u32 knobs = model->desc.n_knobs, best, k;

	if (engine->image->head == MLK_HEAD_CHOICES) {
		best = mlk_greatest(out, engine->image->n_choices);
		answer->confidence_permil = (u32)(out[best] + 128) * 1000 / 255;
		memcpy(answer->value, engine->choice + best * knobs,
		       knobs * sizeof(s64));
		return;
	}
	answer->confidence_permil = 1000;
	for (k = 0; k < knobs; k++) {
		const struct mlk_scale *scale = &engine->out[k];
		s32 q = out[k] - engine->output->zero_point;
		s64 value = mlk_add_saturated(scale->offset,
					      mlk_scaled_number(scale, q));

		answer->value[k] =
			mlk_knob_nearest(mlk_knob_at(model, k), value);
	}
}

/* What the loaded program says; false if there is none for that. Any context. */
bool mlk_image_answer(struct mlk_model *model, const s64 *features,
		      struct mlk_answer *answer)
{
	const struct mlk_engine *engine;
	unsigned long flags;
	u8 *arena;
	s8 *in;
	u32 i;

	rcu_read_lock();
	engine = rcu_dereference(model->engine);
	if (!engine || engine->image->head == MLK_HEAD_RAW) {
		rcu_read_unlock();
		return false;
	}
	local_irq_save(flags);
	arena = engine->arena[smp_processor_id()];
	in = (s8 *)arena + engine->input->offset;
	for (i = 0; i < engine->image->n_features; i++)
		in[i] = mlk_quantize(&engine->in[i], features[i],
				     engine->input->zero_point);
	mlk_program_run(engine->program, arena);
	mlk_read_answer(model, engine,
			(const s8 *)arena + engine->output->offset, answer);
	local_irq_restore(flags);
	rcu_read_unlock();
	return true;
}

/**
 * mlk_infer - run the loaded program as it is
 * @model: the model
 * @in: the input row, quantised
 * @n_in: its length
 * @out: the output row, quantised
 * @n_out: its length
 *
 * For clients that know what their programs mean: no scaling, no guard, no
 * score. Interrupts are off during the run.
 *
 * Context: any but NMI.
 * Return: 0; -ENODATA no program is loaded; -EINVAL it has rows of other
 * lengths.
 */
int mlk_infer(struct mlk_model *model, const s8 *in, size_t n_in, s8 *out,
	      size_t n_out)
{
	const struct mlk_engine *engine;
	unsigned long flags;
	u8 *arena;
	int err = 0;

	rcu_read_lock();
	engine = rcu_dereference(model->engine);
	if (!engine)
		err = -ENODATA;
	else if (n_in != engine->input->bytes || n_out != engine->output->bytes)
		err = -EINVAL;
	if (!err) {
		local_irq_save(flags);
		arena = engine->arena[smp_processor_id()];
		memcpy(arena + engine->input->offset, in, n_in);
		mlk_program_run(engine->program, arena);
		memcpy(out, arena + engine->output->offset, n_out);
		local_irq_restore(flags);
	}
	rcu_read_unlock();
	return err;
}
EXPORT_SYMBOL_GPL(mlk_infer);
