// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/mlk/SUBSYSTEM/MODEL. Every file is described in abi/. While one
 * of these functions runs its file cannot be removed, so the model is there
 * and registered.
 */
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "mlk_compat.h"
#include "mlk_core.h"

/**
 * struct mlk_attr - one file
 * @attr: name, mode
 * @show: gives the value
 * @store: sets it
 * @index: which of several: feature, knob, offset in a struct
 * @least: of an option
 * @most: of an option
 */
struct mlk_attr {
	struct attribute attr;
	ssize_t (*show)(struct mlk_model *model, const struct mlk_attr *attr,
			char *buf);
	int (*store)(struct mlk_model *model, const struct mlk_attr *attr,
		     const char *buf);
	u32 index;
	s32 least;
	s32 most;
};

#define MLK_RO(name) \
	static struct mlk_attr mlk_##name##_attr = { \
		.attr = { __stringify(name), 0444 }, \
		.show = mlk_##name##_show, \
	}

#define MLK_RW(name) \
	static struct mlk_attr mlk_##name##_attr = { \
		.attr = { __stringify(name), 0644 }, \
		.show = mlk_##name##_show, \
		.store = mlk_##name##_store, \
	}

static struct mlk_model *mlk_model_of(struct kobject *kobj)
{
	return container_of(kobj, struct mlk_model, kobj);
}

/* 64 bits that are written under the lock, at an offset in the model */
static u64 mlk_get_u64(struct mlk_model *model, size_t offset)
{
	unsigned long flags;
	u64 value;

	raw_spin_lock_irqsave(&model->lock, flags);
	value = *(u64 *)((void *)model + offset);
	raw_spin_unlock_irqrestore(&model->lock, flags);
	return value;
}

/* model directory */

static ssize_t mlk_state_show(struct mlk_model *model,
			      const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n",
			  mlk_state_words[READ_ONCE(model->state)]);
}

MLK_RO(state);

static const char *const mlk_command_words[] = {
	[MLK_CMD_INIT] = "init",     [MLK_CMD_START] = "start",
	[MLK_CMD_RUN] = "run",	     [MLK_CMD_STOP] = "stop",
	[MLK_CMD_SAMPLE] = "sample", [MLK_CMD_DISCARD] = "discard",
};

static int mlk_control_store(struct mlk_model *model,
			     const struct mlk_attr *attr, const char *buf)
{
	int command = sysfs_match_string(mlk_command_words, buf);

	return command < 0 ? command : mlk_control(model, command);
}

static struct mlk_attr mlk_control_attr = {
	.attr = { "control", 0200 },
	.store = mlk_control_store,
};

static ssize_t mlk_mode_show(struct mlk_model *model,
			     const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", mlk_mode_words[READ_ONCE(model->mode)]);
}

static int mlk_mode_store(struct mlk_model *model, const struct mlk_attr *attr,
			  const char *buf)
{
	int mode = __sysfs_match_string(mlk_mode_words, MLK_RECOMMENDATION + 1,
					buf);

	if (mode < 0)
		return mode;
	mutex_lock(&model->mutex);
	mode = mlk_mode_request(model, mode);
	mutex_unlock(&model->mutex);
	return mode;
}

MLK_RW(mode);

static ssize_t mlk_reason_show(struct mlk_model *model,
			       const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", mlk_why_words[READ_ONCE(model->why)]);
}

MLK_RO(reason);

static ssize_t mlk_owner_show(struct mlk_model *model,
			      const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(model->owner_pid));
}

MLK_RO(owner);

static ssize_t mlk_program_id_show(struct mlk_model *model,
				   const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", READ_ONCE(model->program_id));
}

MLK_RO(program_id);

static ssize_t mlk_program_diag_show(struct mlk_model *model,
				     const struct mlk_attr *attr, char *buf)
{
	ssize_t n;

	mutex_lock(&model->mutex);
	if (model->program_op < 0)
		n = sysfs_emit(buf, "%s\n", model->program_text);
	else
		n = sysfs_emit(buf, "operator %d: %s\n", model->program_op,
			       model->program_text);
	mutex_unlock(&model->mutex);
	return n;
}

MLK_RO(program_diag);

static struct attribute *mlk_model_attrs[] = {
	&mlk_state_attr.attr,	     &mlk_control_attr.attr,
	&mlk_mode_attr.attr,	     &mlk_reason_attr.attr,
	&mlk_owner_attr.attr,	     &mlk_program_id_attr.attr,
	&mlk_program_diag_attr.attr, NULL,
};

static const struct attribute_group mlk_model_group = {
	.attrs = mlk_model_attrs,
};

/* options directory */

static s32 *mlk_option_at(struct mlk_options *options,
			  const struct mlk_attr *attr)
{
	return (void *)options + attr->index;
}

static ssize_t mlk_option_show(struct mlk_model *model,
			       const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n",
			  READ_ONCE(*mlk_option_at(&model->options, attr)));
}

static bool mlk_options_ok(const struct mlk_options *options)
{
	return options->promote_permil > options->demote_permil &&
	       options->demote_permil >= options->fail_permil;
}

static int mlk_option_store(struct mlk_model *model,
			    const struct mlk_attr *attr, const char *buf)
{
	struct mlk_options options;
	unsigned long flags;
	s32 value;
	int err = kstrtos32(buf, 0, &value);

	if (err)
		return err;
	if (value < attr->least || value > attr->most)
		return -EINVAL;
	mutex_lock(&model->mutex);
	options = model->options;
	*mlk_option_at(&options, attr) = value;
	if (mlk_options_ok(&options)) {
		raw_spin_lock_irqsave(&model->lock, flags);
		model->options = options;
		raw_spin_unlock_irqrestore(&model->lock, flags);
		mlk_owner_watch(model);
	} else {
		err = -EINVAL;
	}
	mutex_unlock(&model->mutex);
	return err;
}

#define MLK_OPTION_ATTR(name, from, to, def) \
	static struct mlk_attr mlk_option_##name = { \
		.attr = { __stringify(name), 0644 }, \
		.show = mlk_option_show, \
		.store = mlk_option_store, \
		.index = offsetof(struct mlk_options, name), \
		.least = from, \
		.most = to, \
	};
MLK_OPTIONS(MLK_OPTION_ATTR)
#undef MLK_OPTION_ATTR

static struct attribute *mlk_option_attrs[] = {
#define MLK_OPTION_POINTER(name, from, to, def) &mlk_option_##name.attr,
	MLK_OPTIONS(MLK_OPTION_POINTER)
#undef MLK_OPTION_POINTER
		NULL
};

static const struct attribute_group mlk_option_group = {
	.name = "options",
	.attrs = mlk_option_attrs,
};

/* score directory */

static ssize_t mlk_score_show(struct mlk_model *model,
			      const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", mlk_get_u64(model, attr->index));
}

static ssize_t mlk_score_n_show(struct mlk_model *model,
				const struct mlk_attr *attr, char *buf)
{
	const u32 *n = (void *)model + attr->index;

	return sysfs_emit(buf, "%u\n", READ_ONCE(*n));
}

#define MLK_SCORE_ATTR(file, member, how) \
	static struct mlk_attr mlk_score_##file = { \
		.attr = { __stringify(file), 0444 }, \
		.show = how, \
		.index = offsetof(struct mlk_model, score.member), \
	}

MLK_SCORE_ATTR(default_samples, def.n, mlk_score_n_show);
MLK_SCORE_ATTR(model_samples, model.n, mlk_score_n_show);
MLK_SCORE_ATTR(default_mean, default_mean, mlk_score_show);
MLK_SCORE_ATTR(model_mean, model_mean, mlk_score_show);
MLK_SCORE_ATTR(gain_permil, gain_permil, mlk_score_show);
MLK_SCORE_ATTR(comparisons, comparisons, mlk_score_show);

static struct attribute *mlk_score_attrs[] = {
	&mlk_score_default_samples.attr,
	&mlk_score_model_samples.attr,
	&mlk_score_default_mean.attr,
	&mlk_score_model_mean.attr,
	&mlk_score_gain_permil.attr,
	&mlk_score_comparisons.attr,
	NULL,
};

static const struct attribute_group mlk_score_group = {
	.name = "score",
	.attrs = mlk_score_attrs,
};

/* stats directory */

static ssize_t mlk_stat_show(struct mlk_model *model,
			     const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", mlk_get_u64(model, attr->index));
}

#define MLK_STAT_ATTR(name) \
	static struct mlk_attr mlk_stat_##name = { \
		.attr = { __stringify(name), 0444 }, \
		.show = mlk_stat_show, \
		.index = offsetof(struct mlk_model, stats.name), \
	};
MLK_STATS(MLK_STAT_ATTR)
#undef MLK_STAT_ATTR

static ssize_t mlk_records_show(struct mlk_model *model,
				const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", mlk_ring_head(&model->ring));
}

MLK_RO(records);

static ssize_t mlk_histogram_show(struct mlk_model *model,
				  const struct mlk_attr *attr, char *buf)
{
	const u32 *bucket = (void *)model + attr->index;
	ssize_t n = 0;
	u32 i;

	for (i = 0; i < MLK_BUCKETS; i++)
		n += sysfs_emit_at(buf, n, "%u%c", READ_ONCE(bucket[i]),
				   i < MLK_BUCKETS - 1 ? ' ' : '\n');
	return n;
}

#define MLK_HISTOGRAM_ATTR(name) \
	static struct mlk_attr mlk_stat_##name = { \
		.attr = { __stringify(name), 0444 }, \
		.show = mlk_histogram_show, \
		.index = offsetof(struct mlk_model, stats.name), \
	}

MLK_HISTOGRAM_ATTR(answer_latency);
MLK_HISTOGRAM_ATTR(decision_latency);

static struct attribute *mlk_stat_attrs[] = {
#define MLK_STAT_POINTER(name) &mlk_stat_##name.attr,
	MLK_STATS(MLK_STAT_POINTER)
#undef MLK_STAT_POINTER
		& mlk_records_attr.attr,
	&mlk_stat_answer_latency.attr, &mlk_stat_decision_latency.attr, NULL
};

static const struct attribute_group mlk_stat_group = {
	.name = "stats",
	.attrs = mlk_stat_attrs,
};

static const struct attribute_group *mlk_model_groups[] = {
	&mlk_model_group,
	&mlk_option_group,
	&mlk_score_group,
	&mlk_stat_group,
	NULL,
};

/* features directory */

static ssize_t mlk_feature_type_show(struct mlk_model *model,
				     const struct mlk_attr *attr, char *buf)
{
	static const char *const kinds[] = {
		[MLK_GAUGE] = "gauge",
		[MLK_COUNTER] = "counter",
		[MLK_FLAG] = "flag",
	};
	const struct mlk_feature *f = &model->desc.features[attr->index];

	return sysfs_emit(buf, "%u:%s:%s:%lld:%lld\n", attr->index,
			  kinds[f->kind], f->unit, f->min, f->max);
}

/* knobs directory */

static ssize_t mlk_knob_type_show(struct mlk_model *model,
				  const struct mlk_attr *attr, char *buf)
{
	const struct mlk_knob *k = mlk_knob_at(model, attr->index);

	return sysfs_emit(buf, "%u:%s:%lld:%lld:%lld:%lld\n", attr->index,
			  k->unit, k->min, k->max, k->step, k->def);
}

static ssize_t mlk_knob_show(struct mlk_model *model,
			     const struct mlk_attr *attr, char *buf)
{
	struct mlk_limit *limit = &model->limit[attr->index];

	return sysfs_emit(buf, "%lld\n", READ_ONCE(limit->applied));
}

static ssize_t mlk_low_show(struct mlk_model *model,
			    const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", model->limit[attr->index].low);
}

static ssize_t mlk_high_show(struct mlk_model *model,
			     const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", model->limit[attr->index].high);
}

static ssize_t mlk_change_show(struct mlk_model *model,
			       const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", model->limit[attr->index].change);
}

static ssize_t mlk_interval_show(struct mlk_model *model,
				 const struct mlk_attr *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", model->limit[attr->index].interval_ms);
}

/* Both are values that the knob can have, the lower one first. */
static int mlk_bounds_set(struct mlk_model *model, u32 index, const char *buf,
			  bool is_low)
{
	struct mlk_limit *limit = &model->limit[index];
	unsigned long flags;
	s64 value;
	int err = kstrtos64(buf, 0, &value);

	if (err)
		return err;
	if (!mlk_knob_can(mlk_knob_at(model, index), value))
		return -ERANGE;
	raw_spin_lock_irqsave(&model->lock, flags);
	if (is_low ? value > limit->high : value < limit->low)
		err = -EINVAL;
	else if (is_low)
		limit->low = value;
	else
		limit->high = value;
	raw_spin_unlock_irqrestore(&model->lock, flags);
	return err;
}

static int mlk_low_store(struct mlk_model *model, const struct mlk_attr *attr,
			 const char *buf)
{
	return mlk_bounds_set(model, attr->index, buf, true);
}

static int mlk_high_store(struct mlk_model *model, const struct mlk_attr *attr,
			  const char *buf)
{
	return mlk_bounds_set(model, attr->index, buf, false);
}

static int mlk_change_store(struct mlk_model *model,
			    const struct mlk_attr *attr, const char *buf)
{
	s64 value;
	int err = kstrtos64(buf, 0, &value);

	if (err)
		return err;
	if (value < 0)
		return -EINVAL;
	WRITE_ONCE(model->limit[attr->index].change, value);
	return 0;
}

static int mlk_interval_store(struct mlk_model *model,
			      const struct mlk_attr *attr, const char *buf)
{
	u32 value;
	int err = kstrtou32(buf, 0, &value);

	if (!err)
		WRITE_ONCE(model->limit[attr->index].interval_ms, value);
	return err;
}

/* What there is of each knob: suffix of its name, functions */
static const struct {
	const char *suffix;
	ssize_t (*show)(struct mlk_model *model, const struct mlk_attr *attr,
			char *buf);
	int (*store)(struct mlk_model *model, const struct mlk_attr *attr,
		     const char *buf);
} mlk_knob_files[] = {
	{ "", mlk_knob_show, NULL },
	{ "_type", mlk_knob_type_show, NULL },
	{ "_low", mlk_low_show, mlk_low_store },
	{ "_high", mlk_high_show, mlk_high_store },
	{ "_change", mlk_change_show, mlk_change_store },
	{ "_interval_ms", mlk_interval_show, mlk_interval_store },
};

/* binary files */

static ssize_t mlk_dataset_read(struct file *file, struct kobject *kobj,
				MLK_BIN_CONST struct bin_attribute *attr,
				char *buf, loff_t at, size_t n)
{
	struct mlk_ring *ring = &mlk_model_of(kobj)->ring;

	return memory_read_from_buffer(buf, n, &at, ring->dataset, ring->bytes);
}

static int mlk_dataset_mmap(struct file *file, struct kobject *kobj,
			    MLK_BIN_MMAP_CONST struct bin_attribute *attr,
			    struct vm_area_struct *vma)
{
	return mlk_ring_mmap(&mlk_model_of(kobj)->ring, vma);
}

static ssize_t mlk_program_read(struct file *file, struct kobject *kobj,
				MLK_BIN_CONST struct bin_attribute *attr,
				char *buf, loff_t at, size_t n)
{
	struct mlk_model *model = mlk_model_of(kobj);
	ssize_t done;

	mutex_lock(&model->mutex);
	done = mlk_image_read(model, buf, at, n);
	mutex_unlock(&model->mutex);
	return done;
}

static ssize_t mlk_program_write(struct file *file, struct kobject *kobj,
				 MLK_BIN_CONST struct bin_attribute *attr,
				 char *buf, loff_t at, size_t n)
{
	struct mlk_model *model = mlk_model_of(kobj);
	ssize_t done;

	mutex_lock(&model->mutex);
	done = mlk_image_write(model, file, buf, at, n);
	mutex_unlock(&model->mutex);
	return done;
}

/* What depends on the client's description */

#define MLK_FILE_BYTES (MLK_NAME_BYTES + 16)

/**
 * struct mlk_sysfs - files of features and knobs
 * @dataset: binary file
 * @program: binary file
 * @features: directory
 * @knobs: directory
 * @pointers: what both directories point to: of features, NULL, of knobs, NULL
 * @files: the files, of features and then of knobs
 */
struct mlk_sysfs {
	struct bin_attribute dataset;
	struct bin_attribute program;
	struct attribute_group features;
	struct attribute_group knobs;
	struct attribute **pointers;
	struct {
		struct mlk_attr attr;
		char name[MLK_FILE_BYTES];
	} files[];
};

static void mlk_feature_file(struct mlk_model *model, struct mlk_sysfs *sysfs,
			     u32 i)
{
	struct mlk_attr *file = &sysfs->files[i].attr;

	snprintf(sysfs->files[i].name, MLK_FILE_BYTES, "%s_type",
		 model->desc.features[i].name);
	sysfs_attr_init(&file->attr);
	file->attr.name = sysfs->files[i].name;
	file->attr.mode = 0444;
	file->show = mlk_feature_type_show;
	file->index = i;
	sysfs->pointers[i] = &file->attr;
}

static void mlk_knob_file(struct mlk_model *model, struct mlk_sysfs *sysfs,
			  u32 at, u32 i)
{
	u32 kind = i % ARRAY_SIZE(mlk_knob_files);
	struct mlk_attr *file = &sysfs->files[at].attr;

	file->index = i / ARRAY_SIZE(mlk_knob_files);
	snprintf(sysfs->files[at].name, MLK_FILE_BYTES, "%s%s",
		 mlk_knob_at(model, file->index)->name,
		 mlk_knob_files[kind].suffix);
	sysfs_attr_init(&file->attr);
	file->attr.name = sysfs->files[at].name;
	file->attr.mode = mlk_knob_files[kind].store ? 0644 : 0444;
	file->show = mlk_knob_files[kind].show;
	file->store = mlk_knob_files[kind].store;
	/* behind the NULL that ends the features */
	sysfs->pointers[at + 1] = &file->attr;
}

static void mlk_binary_files(struct mlk_model *model, struct mlk_sysfs *sysfs)
{
	sysfs_bin_attr_init(&sysfs->dataset);
	sysfs->dataset.attr.name = "dataset";
	sysfs->dataset.attr.mode = 0400;
	sysfs->dataset.size = model->ring.bytes;
	sysfs->dataset.read = mlk_dataset_read;
	sysfs->dataset.mmap = mlk_dataset_mmap;
	sysfs_bin_attr_init(&sysfs->program);
	sysfs->program.attr.name = "program";
	sysfs->program.attr.mode = 0600;
	sysfs->program.read = mlk_program_read;
	sysfs->program.write = mlk_program_write;
}

static struct mlk_sysfs *mlk_sysfs_make(struct mlk_model *model)
{
	u32 n_features = model->desc.n_features;
	u32 n_knob_files = model->desc.n_knobs * ARRAY_SIZE(mlk_knob_files);
	u32 n = n_features + n_knob_files, i;
	struct mlk_sysfs *sysfs;

	sysfs = kzalloc(struct_size(sysfs, files, n), GFP_KERNEL);
	if (!sysfs)
		return NULL;
	sysfs->pointers = kcalloc(n + 2, sizeof(*sysfs->pointers), GFP_KERNEL);
	if (!sysfs->pointers) {
		kfree(sysfs);
		return NULL;
	}
	for (i = 0; i < n_features; i++)
		mlk_feature_file(model, sysfs, i);
	for (i = 0; i < n_knob_files; i++)
		mlk_knob_file(model, sysfs, n_features + i, i);
	sysfs->features.name = "features";
	sysfs->features.attrs = sysfs->pointers;
	sysfs->knobs.name = "knobs";
	sysfs->knobs.attrs = sysfs->pointers + n_features + 1;
	mlk_binary_files(model, sysfs);
	return sysfs;
}

/* The kobject is added. What fails leaves files: kobject_del() removes them. */
int mlk_sysfs_add(struct mlk_model *model)
{
	struct mlk_sysfs *sysfs = mlk_sysfs_make(model);
	int err;

	if (!sysfs)
		return -ENOMEM;
	model->sysfs = sysfs;
	err = sysfs_create_group(&model->kobj, &sysfs->features);
	if (!err && model->desc.n_knobs)
		err = sysfs_create_group(&model->kobj, &sysfs->knobs);
	if (!err)
		err = sysfs_create_bin_file(&model->kobj, &sysfs->dataset);
	if (!err)
		err = sysfs_create_bin_file(&model->kobj, &sysfs->program);
	return err;
}

void mlk_sysfs_free(struct mlk_model *model)
{
	if (model->sysfs)
		kfree(model->sysfs->pointers);
	kfree(model->sysfs);
}

static ssize_t mlk_attr_show(struct kobject *kobj, struct attribute *attr,
			     char *buf)
{
	const struct mlk_attr *file = container_of(attr, struct mlk_attr, attr);

	return file->show ? file->show(mlk_model_of(kobj), file, buf) : -EIO;
}

static ssize_t mlk_attr_store(struct kobject *kobj, struct attribute *attr,
			      const char *buf, size_t n)
{
	const struct mlk_attr *file = container_of(attr, struct mlk_attr, attr);
	int err = -EIO;

	/* a zero in the middle would end a word too early */
	if (strnlen(buf, n) != n)
		err = -EINVAL;
	else if (file->store)
		err = file->store(mlk_model_of(kobj), file, buf);
	return err ? err : n;
}

static const struct sysfs_ops mlk_sysfs_ops = {
	.show = mlk_attr_show,
	.store = mlk_attr_store,
};

const struct kobj_type mlk_model_ktype = {
	.release = mlk_model_release,
	.sysfs_ops = &mlk_sysfs_ops,
	.default_groups = mlk_model_groups,
};
