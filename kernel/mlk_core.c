// SPDX-License-Identifier: GPL-2.0-only
/*
 * Models come and go here.
 *
 * Locks, in the order in which they may be taken:
 *
 *   mlk_registry   mutex: the list of models and the folders of subsystems. Held
 *                  while one is added, removed, or all are told of a suspend.
 *   model->mutex   all that may sleep: state, owner, program, and the client's
 *                  callbacks. Never held while user memory is touched, nor
 *                  while files are removed (whose users may wait for it).
 *   model->lock    raw spinlock, interrupts off: what a decision reads and
 *                  writes. Held for a bounded number of steps; nothing is called
 *                  under it that takes another lock, tracepoints excepted.
 *   ring->lock     raw spinlock, interrupts off: writers of the dataset. Never
 *                  taken under model->lock, nor the other way round.
 *
 * State and owner change under both mutex and lock, so either is enough to read
 * them. Readers of the dataset take no lock, runs of a program only RCU.
 *
 * Lifetime: a model's memory is that of its kobject. Registration holds one
 * reference, each open descriptor of the device another one; sysfs files need
 * none, since removing them waits for their users. mlk_unregister() sets the
 * state destroyed, under the mutex; from then on nothing calls the client or
 * looks at its description, and whatever waits for the model is woken up.
 */
#include <linux/ctype.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/suspend.h>
#include <linux/wait_bit.h>

#include "mlk_core.h"

#define CREATE_TRACE_POINTS
#include "mlk_trace.h"

#define MLK_DEFAULT_RECORDS 1024
#define MLK_DEFAULT_MACS (64 << 10)
#define MLK_DEFAULT_ARENA (16 << 10)
#define MLK_DEFAULT_IMAGE (256 << 10)

/* A folder below /sys/kernel/mlk, there while it has models */
struct mlk_folder {
	struct list_head list;
	struct kobject *kobj;
	unsigned int users;
};

static DEFINE_MUTEX(mlk_registry);
static LIST_HEAD(mlk_models);
static LIST_HEAD(mlk_folders);
static struct kset *mlk_kset;
static atomic_t mlk_unreleased = ATOMIC_INIT(0);
struct workqueue_struct *mlk_wq;

static void mlk_kick_now(struct mlk_model *model)
{
	wake_up(&model->wait);
	if (READ_ONCE(model->unsettled))
		queue_work(mlk_wq, &model->work);
}

static void mlk_kick_irq(struct irq_work *work)
{
	mlk_kick_now(container_of(work, struct mlk_model, irq_work));
}

/*
 * There is a new record, or the mode has changed: get others to look. Whoever
 * has interrupts off may hold a lock of the scheduler and must not wake up
 * anybody; an interrupt of its own does it instead. PREEMPT_RT has locks that
 * sleep in wait queues, and a thread for such interrupts.
 */
void mlk_kick(struct mlk_model *model)
{
	if (!wq_has_sleeper(&model->wait) && !READ_ONCE(model->unsettled))
		return;
	if (IS_ENABLED(CONFIG_PREEMPT_RT) || irqs_disabled())
		irq_work_queue(&model->irq_work);
	else
		mlk_kick_now(model);
}

static bool mlk_name_ok(const char *name)
{
	size_t n = name ? strnlen(name, MLK_NAME_BYTES) : 0;
	size_t i;

	for (i = 0; i < n; i++)
		if (!isalnum(name[i]) && name[i] != '_' && name[i] != '-')
			return false;
	return n && n < MLK_NAME_BYTES;
}

/* Has no feature or knob before number @i the same name? */
#define mlk_is_new(item, i) \
	({ \
		u32 __j; \
		for (__j = 0; __j < (i); __j++) \
			if (!strcmp((item)[__j].name, (item)[i].name)) \
				break; \
		__j == (i); \
	})

static bool mlk_features_ok(const struct mlk_desc *desc)
{
	const struct mlk_feature *f = desc->features;
	u32 i;

	if (!f || !desc->n_features || desc->n_features > MLK_MAX_FEATURES)
		return false;
	for (i = 0; i < desc->n_features; i++)
		if (!mlk_name_ok(f[i].name) || !f[i].unit ||
		    f[i].kind > MLK_FLAG || f[i].min > f[i].max ||
		    !mlk_is_new(f, i))
			return false;
	return true;
}

static bool mlk_knobs_ok(const struct mlk_desc *desc)
{
	const struct mlk_knob *k = desc->knobs;
	s64 range;
	u32 i;

	if (desc->n_knobs > MLK_MAX_KNOBS || (desc->n_knobs && !k))
		return false;
	for (i = 0; i < desc->n_knobs; i++)
		if (!mlk_name_ok(k[i].name) || !k[i].unit || k[i].step < 1 ||
		    k[i].min > k[i].max ||
		    check_sub_overflow(k[i].max, k[i].min, &range) ||
		    !mlk_knob_can(&k[i], k[i].max) ||
		    !mlk_knob_can(&k[i], k[i].def) || !mlk_is_new(k, i))
			return false;
	return true;
}

static bool mlk_desc_ok(const struct mlk_desc *desc)
{
	return mlk_name_ok(desc->subsystem) && mlk_name_ok(desc->name) &&
	       mlk_features_ok(desc) && mlk_knobs_ok(desc);
}

/* Under mlk_registry. */
static struct mlk_model *mlk_find(const char *name)
{
	struct mlk_model *model;

	list_for_each_entry(model, &mlk_models, list)
		if (!strcmp(model->name, name))
			return model;
	return NULL;
}

/* Under mlk_registry. */
static struct mlk_folder *mlk_folder_get(const char *name)
{
	struct mlk_folder *folder;

	list_for_each_entry(folder, &mlk_folders, list) {
		if (strcmp(kobject_name(folder->kobj), name))
			continue;
		folder->users++;
		return folder;
	}
	folder = kzalloc(sizeof(*folder), GFP_KERNEL);
	if (!folder)
		return NULL;
	folder->kobj = kobject_create_and_add(name, &mlk_kset->kobj);
	if (!folder->kobj) {
		kfree(folder);
		return NULL;
	}
	folder->users = 1;
	list_add(&folder->list, &mlk_folders);
	return folder;
}

/* Under mlk_registry. */
static void mlk_folder_put(struct mlk_folder *folder)
{
	if (--folder->users)
		return;
	list_del(&folder->list);
	/* at once, so that the name is free whoever still has a reference */
	kobject_del(folder->kobj);
	kobject_put(folder->kobj);
	kfree(folder);
}

void mlk_model_release(struct kobject *kobj)
{
	struct mlk_model *model = container_of(kobj, struct mlk_model, kobj);

	mlk_ring_destroy(&model->ring);
	mlk_sysfs_free(model);
	kfree(model);
	if (atomic_dec_and_test(&mlk_unreleased))
		wake_up_var(&mlk_unreleased);
}

static struct mlk_model *mlk_model_new(const struct mlk_desc *desc)
{
	static const struct mlk_options options = {
#define MLK_OPTION_DEFAULT(name, least, most, def) .name = def,
		MLK_OPTIONS(MLK_OPTION_DEFAULT)
#undef MLK_OPTION_DEFAULT
	};
	struct mlk_model *model;

	model = kzalloc(struct_size(model, limit, desc->n_knobs), GFP_KERNEL);
	if (!model)
		return NULL;
	atomic_inc(&mlk_unreleased);
	kobject_init(&model->kobj, &mlk_model_ktype);
	model->desc = *desc;
	model->desc.records = desc->records ?: MLK_DEFAULT_RECORDS;
	model->desc.max_macs = desc->max_macs ?: MLK_DEFAULT_MACS;
	model->desc.max_arena_bytes = desc->max_arena_bytes ?:
							      MLK_DEFAULT_ARENA;
	model->desc.max_image_bytes = desc->max_image_bytes ?:
							      MLK_DEFAULT_IMAGE;
	strscpy(model->subsystem, desc->subsystem, sizeof(model->subsystem));
	strscpy(model->name, desc->name, sizeof(model->name));
	model->options = options;
	model->program_text = "no error";
	model->program_op = -1;
	mutex_init(&model->mutex);
	raw_spin_lock_init(&model->lock);
	init_waitqueue_head(&model->wait);
	init_irq_work(&model->irq_work, mlk_kick_irq);
	mlk_mode_init(model);
	mlk_owner_init(model);
	mlk_guard_init(model);
	prandom_seed_state(&model->random, get_random_u64());
	return model;
}

/* Nothing runs on its own account any more; the state is destroyed. */
static void mlk_model_quiet(struct mlk_model *model)
{
	irq_work_sync(&model->irq_work);
	cancel_delayed_work_sync(&model->deadline);
	cancel_work_sync(&model->work);
	mlk_image_unload(model);
}

/* Under mlk_registry; if it fails nothing is left of it. */
static int mlk_model_add(struct mlk_model *model)
{
	int err;

	if (mlk_find(model->name))
		return -EEXIST;
	err = mlk_ring_init(&model->ring, model->desc.records,
			    model->desc.n_features, model->desc.n_knobs);
	if (err)
		return err;
	model->folder = mlk_folder_get(model->subsystem);
	if (!model->folder)
		return -ENOMEM;
	model->kobj.kset = mlk_kset;
	err = kobject_add(&model->kobj, model->folder->kobj, "%s", model->name);
	if (err)
		goto err_folder;
	err = mlk_sysfs_add(model);
	if (err)
		goto err_kobject;
	err = mlk_dev_add(model);
	if (err)
		goto err_kobject;
	list_add(&model->list, &mlk_models);
	kobject_uevent(&model->kobj, KOBJ_ADD);
	return 0;

err_kobject:
	mlk_state_destroy(model);
	kobject_del(&model->kobj);
	mlk_model_quiet(model);
err_folder:
	mlk_folder_put(model->folder);
	return err;
}

/**
 * mlk_register - a client offers a model
 * @desc: what it is; must stay until mlk_unregister()
 *
 * Files and device appear, the state is created, the mode emergency. Whoever
 * controls the model may do so before this has returned, so callbacks should
 * use the model that they are given.
 *
 * Context: process; may sleep; not from a callback of mlk.
 * Return: the model; or ERR_PTR: -EINVAL the description is wrong, -EEXIST
 * there is a model of that name, -ENODEV mlk is not there yet, -ENOMEM.
 */
struct mlk_model *mlk_register(const struct mlk_desc *desc)
{
	struct mlk_model *model;
	int err;

	if (!mlk_kset)
		return ERR_PTR(-ENODEV);
	if (!mlk_desc_ok(desc))
		return ERR_PTR(-EINVAL);
	model = mlk_model_new(desc);
	if (!model)
		return ERR_PTR(-ENOMEM);
	mutex_lock(&mlk_registry);
	err = mlk_model_add(model);
	mutex_unlock(&mlk_registry);
	if (!err) {
		mlk_builtin_load(model);
		return model;
	}
	kobject_put(&model->kobj);
	return ERR_PTR(err);
}
EXPORT_SYMBOL_GPL(mlk_register);

/**
 * mlk_unregister - a model goes
 * @model: from mlk_register(); an error pointer or NULL is ignored
 *
 * The client must not be in any function of mlk for that model, in any context,
 * nor call one any more. Descriptors that user space has open stay, without a
 * model behind them: calls give ENODEV, mappings keep their last records.
 *
 * Context: process; may sleep; not from a callback of mlk.
 */
void mlk_unregister(struct mlk_model *model)
{
	if (IS_ERR_OR_NULL(model))
		return;
	mlk_state_destroy(model);
	mlk_dev_del(model);
	mutex_lock(&mlk_registry);
	kobject_del(&model->kobj);
	mlk_model_quiet(model);
	mlk_folder_put(model->folder);
	list_del(&model->list);
	mutex_unlock(&mlk_registry);
	kobject_put(&model->kobj);
}
EXPORT_SYMBOL_GPL(mlk_unregister);

/**
 * mlk_data - what belongs to a model
 * @model: the model
 *
 * Context: any.
 * Return: what its description has as data.
 */
void *mlk_data(struct mlk_model *model)
{
	return model->desc.data;
}
EXPORT_SYMBOL_GPL(mlk_data);

/* Before the system sleeps: no model decides what nobody can look after. */
static int mlk_suspend(struct notifier_block *block, unsigned long event,
		       void *unused)
{
	struct mlk_model *model;

	if (event != PM_SUSPEND_PREPARE && event != PM_HIBERNATION_PREPARE)
		return NOTIFY_DONE;
	mutex_lock(&mlk_registry);
	list_for_each_entry(model, &mlk_models, list) {
		mutex_lock(&model->mutex);
		mlk_mode_fail(model, MLK_WHY_SUSPEND);
		mlk_mode_settle(model);
		mutex_unlock(&model->mutex);
	}
	mutex_unlock(&mlk_registry);
	return NOTIFY_OK;
}

static struct notifier_block mlk_pm = { .notifier_call = mlk_suspend };

static int __init mlk_init(void)
{
	int err;

	mlk_wq = alloc_workqueue("mlk",
				 WQ_UNBOUND | WQ_HIGHPRI | WQ_MEM_RECLAIM, 0);
	if (!mlk_wq)
		return -ENOMEM;
	mlk_kset = kset_create_and_add("mlk", NULL, kernel_kobj);
	if (!mlk_kset) {
		err = -ENOMEM;
		goto err_wq;
	}
	err = register_pm_notifier(&mlk_pm);
	if (err)
		goto err_kset;
	return 0;

err_kset:
	kset_unregister(mlk_kset);
err_wq:
	destroy_workqueue(mlk_wq);
	return err;
}

/* No client can be left: each one uses symbols of this module. */
static void __exit mlk_exit(void)
{
	unregister_pm_notifier(&mlk_pm);
	wait_var_event(&mlk_unreleased, !atomic_read(&mlk_unreleased));
	kset_unregister(mlk_kset);
	destroy_workqueue(mlk_wq);
}

subsys_initcall(mlk_init); /* before its clients, where all is built in */
module_exit(mlk_exit);

MODULE_DESCRIPTION("Models that advise kernel subsystems");
MODULE_LICENSE("GPL");
