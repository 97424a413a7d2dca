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
 * struct mlk_attr - one file, or the same file of each feature or knob
 * @attr: name, or what follows a feature's or knob's name; mode
 * @show: gives the value
 * @store: sets it
 * @offset: where the value is, in the struct that the file is about
 * @least: of an option
 * @most: of an option
 *
 * The number that both functions get is that of the feature or knob, else 0.
 */
struct mlk_attr {
	struct attribute attr;
	ssize_t (*show)(struct mlk_model *model, const struct mlk_attr *attr,
			u32 i, char *buf);
	int (*store)(struct mlk_model *model, const struct mlk_attr *attr,
		     u32 i, const char *buf);
	u32 offset;
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

/* 64 bits of the model that are written under the lock */
static u64 mlk_get_u64(struct mlk_model *model, const void *at)
{
	unsigned long flags;
	u64 value;

	raw_spin_lock_irqsave(&model->lock, flags);
	value = *(const u64 *)at;
	raw_spin_unlock_irqrestore(&model->lock, flags);
	return value;
}

/* model directory */

static ssize_t mlk_state_show(struct mlk_model *model,
			      const struct mlk_attr *attr, u32 i, char *buf)
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
			     const struct mlk_attr *attr, u32 i,
			     const char *buf)
{
	int command = sysfs_match_string(mlk_command_words, buf);

	return command < 0 ? command : mlk_control(model, command);
}

static struct mlk_attr mlk_control_attr = {
	.attr = { "control", 0200 },
	.store = mlk_control_store,
};

static ssize_t mlk_mode_show(struct mlk_model *model,
			     const struct mlk_attr *attr, u32 i, char *buf)
{
	return sysfs_emit(buf, "%s\n", mlk_mode_words[READ_ONCE(model->mode)]);
}

static int mlk_mode_store(struct mlk_model *model, const struct mlk_attr *attr,
			  u32 i, const char *buf)
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
			       const struct mlk_attr *attr, u32 i, char *buf)
{
	return sysfs_emit(buf, "%s\n", mlk_why_words[READ_ONCE(model->why)]);
}

MLK_RO(reason);

static ssize_t mlk_owner_show(struct mlk_model *model,
			      const struct mlk_attr *attr, u32 i, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(model->owner_pid));
}

MLK_RO(owner);

static ssize_t mlk_program_id_show(struct mlk_model *model,
				   const struct mlk_attr *attr, u32 i,
				   char *buf)
{
	u64 id;

	mutex_lock(&model->mutex);
	id = model->program_id;
	mutex_unlock(&model->mutex);
	return sysfs_emit(buf, "%llu\n", id);
}

MLK_RO(program_id);

static ssize_t mlk_program_diag_show(struct mlk_model *model,
				     const struct mlk_attr *attr, u32 i,
				     char *buf)
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
	return (void *)options + attr->offset;
}

static ssize_t mlk_option_show(struct mlk_model *model,
			       const struct mlk_attr *attr, u32 i, char *buf)
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
			    const struct mlk_attr *attr, u32 i, const char *buf)
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
		.offset = offsetof(struct mlk_options, name), \
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
			      const struct mlk_attr *attr, u32 i, char *buf)
{
	return sysfs_emit(buf, "%lld\n",
			  mlk_get_u64(model, (void *)model + attr->offset));
}

static ssize_t mlk_score_n_show(struct mlk_model *model,
				const struct mlk_attr *attr, u32 i, char *buf)
{
	const u32 *n = (void *)model + attr->offset;

	return sysfs_emit(buf, "%u\n", READ_ONCE(*n));
}

#define MLK_SCORE_ATTR(file, member, how) \
	static struct mlk_attr mlk_score_##file = { \
		.attr = { __stringify(file), 0444 }, \
		.show = how, \
		.offset = offsetof(struct mlk_model, score.member), \
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
			     const struct mlk_attr *attr, u32 i, char *buf)
{
	return sysfs_emit(buf, "%llu\n",
			  mlk_get_u64(model, (void *)model + attr->offset));
}

#define MLK_STAT_ATTR(name) \
	static struct mlk_attr mlk_stat_##name = { \
		.attr = { __stringify(name), 0444 }, \
		.show = mlk_stat_show, \
		.offset = offsetof(struct mlk_model, stats.name), \
	};
MLK_STATS(MLK_STAT_ATTR)
#undef MLK_STAT_ATTR

static ssize_t mlk_records_show(struct mlk_model *model,
				const struct mlk_attr *attr, u32 i, char *buf)
{
	return sysfs_emit(buf, "%llu\n", mlk_ring_head(&model->ring));
}

MLK_RO(records);

static ssize_t mlk_histogram_show(struct mlk_model *model,
				  const struct mlk_attr *attr, u32 i, char *buf)
{
	const u32 *bucket = (void *)model + attr->offset;
	ssize_t n = 0;
	u32 b;

	for (b = 0; b < MLK_BUCKETS; b++)
		n += sysfs_emit_at(buf, n, "%u%c", READ_ONCE(bucket[b]),
				   b < MLK_BUCKETS - 1 ? ' ' : '\n');
	return n;
}

#define MLK_HISTOGRAM_ATTR(name) \
	static struct mlk_attr mlk_stat_##name = { \
		.attr = { __stringify(name), 0444 }, \
		.show = mlk_histogram_show, \
		.offset = offsetof(struct mlk_model, stats.name), \
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
				     const struct mlk_attr *attr, u32 i,
				     char *buf)
{
	static const char *const kinds[] = {
		[MLK_GAUGE] = "gauge",
		[MLK_COUNTER] = "counter",
		[MLK_FLAG] = "flag",
	};
	const struct mlk_feature *f = &model->desc.features[i];

	return sysfs_emit(buf, "%u:%s:%s:%lld:%lld\n", i, kinds[f->kind],
			  f->unit, f->min, f->max);
}

/* knobs directory */

static ssize_t mlk_knob_type_show(struct mlk_model *model,
				  const struct mlk_attr *attr, u32 i, char *buf)
{
	const struct mlk_knob *k = mlk_knob_at(model, i);

	return sysfs_emit(buf, "%u:%s:%lld:%lld:%lld:%lld\n", i, k->unit,
			  k->min, k->max, k->step, k->def);
}

/* A value of a knob's limit */
static ssize_t mlk_limit_show(struct mlk_model *model,
			      const struct mlk_attr *attr, u32 i, char *buf)
{
	const void *limit = &model->limit[i];

	return sysfs_emit(buf, "%lld\n",
			  mlk_get_u64(model, limit + attr->offset));
}

static ssize_t mlk_interval_show(struct mlk_model *model,
				 const struct mlk_attr *attr, u32 i, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(model->limit[i].interval_ms));
}

/* Both are values that the knob can have, the lower one first. */
static int mlk_bounds_set(struct mlk_model *model, u32 i, const char *buf,
			  bool is_low)
{
	struct mlk_limit *limit = &model->limit[i];
	unsigned long flags;
	s64 value;
	int err = kstrtos64(buf, 0, &value);

	if (err)
		return err;
	if (!mlk_knob_can(mlk_knob_at(model, i), value))
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
			 u32 i, const char *buf)
{
	return mlk_bounds_set(model, i, buf, true);
}

static int mlk_high_store(struct mlk_model *model, const struct mlk_attr *attr,
			  u32 i, const char *buf)
{
	return mlk_bounds_set(model, i, buf, false);
}

static int mlk_change_store(struct mlk_model *model,
			    const struct mlk_attr *attr, u32 i, const char *buf)
{
	unsigned long flags;
	s64 value;
	int err = kstrtos64(buf, 0, &value);

	if (err)
		return err;
	if (value < 0)
		return -EINVAL;
	raw_spin_lock_irqsave(&model->lock, flags);
	model->limit[i].change = value;
	raw_spin_unlock_irqrestore(&model->lock, flags);
	return 0;
}

static int mlk_interval_store(struct mlk_model *model,
			      const struct mlk_attr *attr, u32 i,
			      const char *buf)
{
	u32 value;
	int err = kstrtou32(buf, 0, &value);

	if (!err)
		WRITE_ONCE(model->limit[i].interval_ms, value);
	return err;
}

/* What there is of each feature, and of each knob */
static const struct mlk_attr mlk_feature_file = {
	.attr = { "_type", 0444 },
	.show = mlk_feature_type_show,
};

#define MLK_LIMIT_FILE(suffix, access, member, set) \
	{ \
		.attr = { suffix, access }, \
		.show = mlk_limit_show, \
		.store = set, \
		.offset = offsetof(struct mlk_limit, member), \
	}

static const struct mlk_attr mlk_knob_files[] = {
	MLK_LIMIT_FILE("", 0444, applied, NULL),
	{ .attr = { "_type", 0444 }, .show = mlk_knob_type_show },
	MLK_LIMIT_FILE("_low", 0644, low, mlk_low_store),
	MLK_LIMIT_FILE("_high", 0644, high, mlk_high_store),
	MLK_LIMIT_FILE("_change", 0644, change, mlk_change_store),
	{
		.attr = { "_interval_ms", 0644 },
		.show = mlk_interval_show,
		.store = mlk_interval_store,
	},
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

static struct bin_attribute mlk_program_file = {
	.attr = { "program", 0600 },
	.read = mlk_program_read,
	.write = mlk_program_write,
};

/* What depends on the client's description */

/**
 * struct mlk_sysfs - files of features and knobs
 * @dataset: binary file
 * @attr: a name and a mode each, of features and then of knobs; names follow
 *
 * What such a file does is found by its place, see mlk_file_at().
 */
struct mlk_sysfs {
	struct bin_attribute dataset;
	struct attribute attr[];
};

/* A file: what it does, and of which feature or knob */
struct mlk_file {
	const struct mlk_attr *what;
	u32 i;
};

static u32 mlk_files(const struct mlk_model *model)
{
	return model->desc.n_features +
	       model->desc.n_knobs * ARRAY_SIZE(mlk_knob_files);
}

static struct mlk_file mlk_file_at(const struct mlk_model *model, u32 at)
{
	struct mlk_file file = { &mlk_feature_file, at };

	if (at < model->desc.n_features)
		return file;
	at -= model->desc.n_features;
	file.what = &mlk_knob_files[at % ARRAY_SIZE(mlk_knob_files)];
	file.i = at / ARRAY_SIZE(mlk_knob_files);
	return file;
}

/* Returns the length of the name, with its end, also of one that is cut off. */
static size_t mlk_file_name(const struct mlk_model *model, u32 at, char *name,
			    size_t room)
{
	struct mlk_file file = mlk_file_at(model, at);
	const char *of = at < model->desc.n_features ?
				 model->desc.features[file.i].name :
				 mlk_knob_at(model, file.i)->name;

	return snprintf(name, room, "%s%s", of, file.what->attr.name) + 1;
}

static struct mlk_sysfs *mlk_sysfs_make(struct mlk_model *model)
{
	u32 n = mlk_files(model), i;
	size_t names = 0, bytes;
	struct mlk_sysfs *sysfs;
	char *name;

	for (i = 0; i < n; i++)
		names += mlk_file_name(model, i, NULL, 0);
	sysfs = kzalloc(struct_size(sysfs, attr, n) + names, GFP_KERNEL);
	if (!sysfs)
		return NULL;
	name = (char *)&sysfs->attr[n];
	for (i = 0; i < n; i++) {
		bytes = mlk_file_name(model, i, name, names);
		sysfs_attr_init(&sysfs->attr[i]);
		sysfs->attr[i].name = name;
		sysfs->attr[i].mode = mlk_file_at(model, i).what->attr.mode;
		name += bytes;
		names -= bytes;
	}
	sysfs_bin_attr_init(&sysfs->dataset);
	sysfs->dataset.attr.name = "dataset";
	sysfs->dataset.attr.mode = 0400;
	sysfs->dataset.size = model->ring.bytes;
	sysfs->dataset.read = mlk_dataset_read;
	sysfs->dataset.mmap = mlk_dataset_mmap;
	return sysfs;
}

/* A directory with the files from number @first on; none if they are none. */
static int mlk_group_add(struct mlk_model *model, const char *name, u32 first,
			 u32 n)
{
	struct attribute_group group = { .name = name };
	int err;
	u32 i;

	if (!n)
		return 0;
	/* nobody looks at the list again once the files are there */
	group.attrs = kcalloc(n + 1, sizeof(*group.attrs), GFP_KERNEL);
	if (!group.attrs)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		group.attrs[i] = &model->sysfs->attr[first + i];
	err = sysfs_create_group(&model->kobj, &group);
	kfree(group.attrs);
	return err;
}

/* The kobject is added. What fails leaves files: kobject_del() removes them. */
int mlk_sysfs_add(struct mlk_model *model)
{
	u32 n_features = model->desc.n_features;
	int err;

	model->sysfs = mlk_sysfs_make(model);
	if (!model->sysfs)
		return -ENOMEM;
	err = mlk_group_add(model, "features", 0, n_features);
	if (!err)
		err = mlk_group_add(model, "knobs", n_features,
				    mlk_files(model) - n_features);
	if (!err)
		err = sysfs_create_bin_file(&model->kobj,
					    &model->sysfs->dataset);
	if (!err)
		err = sysfs_create_bin_file(&model->kobj, &mlk_program_file);
	return err;
}

void mlk_sysfs_free(struct mlk_model *model)
{
	kfree(model->sysfs);
}

static struct mlk_file mlk_file_of(const struct mlk_model *model,
				   const struct attribute *attr)
{
	const struct mlk_sysfs *sysfs = model->sysfs;

	/* files of all models can be used before there are those of this one */
	if (sysfs && attr >= sysfs->attr &&
	    attr < sysfs->attr + mlk_files(model))
		return mlk_file_at(model, attr - sysfs->attr);
	return (struct mlk_file){
		.what = container_of(attr, struct mlk_attr, attr),
	};
}

static ssize_t mlk_attr_show(struct kobject *kobj, struct attribute *attr,
			     char *buf)
{
	struct mlk_model *model = mlk_model_of(kobj);
	struct mlk_file file = mlk_file_of(model, attr);

	if (!file.what->show)
		return -EIO;
	return file.what->show(model, file.what, file.i, buf);
}

static ssize_t mlk_attr_store(struct kobject *kobj, struct attribute *attr,
			      const char *buf, size_t n)
{
	struct mlk_model *model = mlk_model_of(kobj);
	struct mlk_file file = mlk_file_of(model, attr);
	int err = -EIO;

	/* a zero in the middle would end a word too early */
	if (strnlen(buf, n) != n)
		err = -EINVAL;
	else if (file.what->store)
		err = file.what->store(model, file.what, file.i, buf);
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
