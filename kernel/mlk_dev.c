// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/mlk/MODEL. Memory of user space is only touched without the model's
 * locks held: a page fault may take as long as user space likes.
 */
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "mlk_core.h"

/**
 * struct mlk_reader - an open descriptor
 * @model: what it is of; kept as long as this is
 * @lock: serialises read()
 * @next: number of the record that is read next
 * @lost: records that were overwritten before they were read
 */
struct mlk_reader {
	struct mlk_model *model;
	struct mutex lock; /* see above */
	u64 next;
	u64 lost;
};

static int mlk_open(struct inode *inode, struct file *file)
{
	/* the misc device stays while its lock is held, which it is here */
	struct mlk_model *model =
		container_of(file->private_data, struct mlk_model, misc);
	struct mlk_reader *reader;

	reader = kzalloc(sizeof(*reader), GFP_KERNEL);
	if (!reader)
		return -ENOMEM;
	mutex_init(&reader->lock);
	kobject_get(&model->kobj);
	reader->model = model;
	reader->next = mlk_ring_first(&model->ring);
	file->private_data = reader;
	return stream_open(inode, file);
}

static int mlk_release(struct inode *inode, struct file *file)
{
	struct mlk_reader *reader = file->private_data;
	struct mlk_model *model = reader->model;

	mlk_owner_drop(model, reader);
	kfree(reader);
	kobject_put(&model->kobj);
	return 0;
}

static bool mlk_readable(const struct mlk_reader *reader)
{
	return mlk_ring_head(&reader->model->ring) >=
	       mlk_load_u64(&reader->next);
}

/* Go on with the oldest record, if that is behind the next one. */
static void mlk_skip(struct mlk_reader *reader)
{
	struct mlk_model *model = reader->model;
	u64 first = mlk_ring_first(&model->ring);
	u64 skipped;
	unsigned long flags;

	if (first <= reader->next)
		return;
	/* what was discarded is not lost */
	skipped = first - reader->next;
	mlk_store_u64(&reader->next, first);
	if (first == mlk_load_u64(&model->ring.dataset->discarded) + 1)
		return;
	mlk_store_u64(&reader->lost, reader->lost + skipped);
	raw_spin_lock_irqsave(&model->lock, flags);
	model->stats.lost += skipped;
	raw_spin_unlock_irqrestore(&model->lock, flags);
}

/* As many whole records as there are, up to @n bytes. */
static ssize_t mlk_read_records(struct mlk_reader *reader, char __user *to,
				size_t n)
{
	const struct mlk_ring *ring = &reader->model->ring;
	size_t done = 0;
	int err;

	while (n - done >= ring->record_bytes && mlk_readable(reader)) {
		mlk_skip(reader);
		if (!mlk_readable(reader))
			break;
		err = mlk_ring_copy(ring, reader->next, to + done);
		if (err == -ESTALE)
			continue; /* mlk_skip() counts it */
		if (err)
			return done ? done : err;
		mlk_store_u64(&reader->next, reader->next + 1);
		done += ring->record_bytes;
		if (signal_pending(current))
			break;
		cond_resched();
	}
	return done;
}

/* Is there a record, or will there never be one? */
static bool mlk_come(const struct mlk_reader *reader)
{
	return mlk_readable(reader) || mlk_dead(reader->model);
}

static ssize_t mlk_read(struct file *file, char __user *to, size_t n,
			loff_t *at)
{
	struct mlk_reader *reader = file->private_data;
	struct mlk_model *model = reader->model;
	ssize_t done;
	int err;

	if (n < model->ring.record_bytes)
		return -EINVAL;
	for (;;) {
		if (mlk_dead(model))
			return -ENODEV;
		if (mutex_lock_interruptible(&reader->lock))
			return -ERESTARTSYS;
		done = mlk_read_records(reader, to, n);
		mutex_unlock(&reader->lock);
		if (done)
			return done;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		err = wait_event_interruptible(model->wait, mlk_come(reader));
		if (err)
			return err;
	}
}

static ssize_t mlk_write(struct file *file, const char __user *from, size_t n,
			 loff_t *at)
{
	struct mlk_reader *reader = file->private_data;
	struct mlk_recommendation r;
	size_t done;
	int err;

	if (!n || n % sizeof(r))
		return -EINVAL;
	for (done = 0; done < n; done += sizeof(r)) {
		err = copy_from_user(&r, from + done, sizeof(r)) ? -EFAULT : 0;
		if (!err)
			err = mlk_owner_recommend(reader->model, reader, &r);
		if (err)
			return done ? done : err;
		if (signal_pending(current))
			return done + sizeof(r);
	}
	return done;
}

static __poll_t mlk_poll(struct file *file, poll_table *wait)
{
	struct mlk_reader *reader = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &reader->model->wait, wait);
	if (mlk_dead(reader->model))
		return EPOLLHUP | EPOLLERR;
	if (mlk_readable(reader))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(reader->model->owner) == reader)
		mask |= EPOLLOUT | EPOLLWRNORM;
	return mask;
}

static int mlk_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct mlk_reader *reader = file->private_data;

	if (mlk_dead(reader->model))
		return -ENODEV;
	return mlk_ring_mmap(&reader->model->ring, vma);
}

static int mlk_ioctl_info(struct mlk_reader *reader, void __user *to)
{
	struct mlk_model *model = reader->model;
	struct mlk_info info = {
		.version = MLK_ABI_VERSION,
		.bytes = sizeof(info),
		.record_bytes = model->ring.record_bytes,
		.records = model->ring.mask + 1,
		.dataset_bytes = model->ring.bytes,
		.n_features = model->ring.dataset->n_features,
		.n_knobs = model->ring.dataset->n_knobs,
		.head = mlk_ring_head(&model->ring),
		.lost = mlk_load_u64(&reader->lost),
	};
	unsigned long flags;

	memcpy(info.subsystem, model->subsystem, sizeof(info.subsystem));
	memcpy(info.model, model->name, sizeof(info.model));
	mutex_lock(&model->mutex);
	info.program_id = model->program_id;
	info.program_swaps = model->program_swaps;
	raw_spin_lock_irqsave(&model->lock, flags);
	info.state = model->state;
	info.mode = model->mode;
	info.why = model->why;
	info.deadline_ms = model->options.deadline_ms;
	info.owner = model->owner == reader;
	raw_spin_unlock_irqrestore(&model->lock, flags);
	mutex_unlock(&model->mutex);
	return copy_to_user(to, &info, sizeof(info)) ? -EFAULT : 0;
}

static int mlk_ioctl_owner(struct file *file, const u32 __user *from)
{
	struct mlk_reader *reader = file->private_data;
	u32 take;

	if (!(file->f_mode & FMODE_WRITE))
		return -EPERM;
	if (get_user(take, from))
		return -EFAULT;
	if (take > 1)
		return -EINVAL;
	if (take)
		return mlk_owner_set(reader->model, reader);
	mlk_owner_drop(reader->model, reader);
	return 0;
}

static bool mlk_beyond(const struct mlk_model *model, u64 seq)
{
	return mlk_ring_head(&model->ring) > seq || mlk_dead(model);
}

/* It has the records up to @seq by its mapping: poll() tells of later ones. */
static int mlk_seen(struct mlk_reader *reader, u64 seq)
{
	u64 seen = min(seq, mlk_ring_head(&reader->model->ring));

	if (mutex_lock_interruptible(&reader->lock))
		return -ERESTARTSYS;
	if (reader->next <= seen)
		mlk_store_u64(&reader->next, seen + 1);
	mutex_unlock(&reader->lock);
	return 0;
}

static int mlk_ioctl_wait(struct mlk_reader *reader,
			  struct mlk_wait __user *arg)
{
	struct mlk_model *model = reader->model;
	struct mlk_wait wait;
	ktime_t timeout;
	int err;

	if (copy_from_user(&wait, arg, sizeof(wait)))
		return -EFAULT;
	if (wait.reserved)
		return -EINVAL;
	err = mlk_seen(reader, wait.seq);
	if (err)
		return err;
	timeout = wait.timeout_ns < 0 ? KTIME_MAX : wait.timeout_ns;
	/* clang-format off */
	err = wait_event_interruptible_hrtimeout(model->wait,
						 mlk_beyond(model, wait.seq),
						 timeout);
	/* clang-format on */
	if (mlk_dead(model))
		return -ENODEV;
	if (err)
		return err == -ETIME ? -ETIMEDOUT : err;
	return put_user(mlk_ring_head(&model->ring), &arg->head);
}

static int mlk_ioctl_load(struct mlk_reader *reader,
			  const struct mlk_load __user *arg)
{
	struct mlk_model *model = reader->model;
	struct mlk_load load;
	void *image;
	int err;

	if (copy_from_user(&load, arg, sizeof(load)))
		return -EFAULT;
	if (load.reserved[0] || load.reserved[1] || load.reserved[2])
		return -EINVAL;
	if (load.bytes < sizeof(struct mlk_image))
		return -EBADMSG;
	if (load.bytes > model->desc.max_image_bytes)
		return -E2BIG;
	image = vmalloc(load.bytes);
	if (!image)
		return -ENOMEM;
	if (copy_from_user(image, u64_to_user_ptr(load.address), load.bytes)) {
		vfree(image);
		return -EFAULT;
	}
	mutex_lock(&model->mutex);
	err = mlk_dead(model) ? -ENODEV : model->owner != reader ? -EPERM : 0;
	if (!err)
		err = mlk_image_load(model, image, load.bytes);
	else
		vfree(image);
	mutex_unlock(&model->mutex);
	return err;
}

static int mlk_ioctl_mode(struct mlk_reader *reader, const u32 __user *from)
{
	struct mlk_model *model = reader->model;
	u32 mode;
	int err;

	if (get_user(mode, from))
		return -EFAULT;
	if (mode > MLK_RECOMMENDATION)
		return -EINVAL;
	mutex_lock(&model->mutex);
	err = model->owner == reader ? mlk_mode_request(model, mode) : -EPERM;
	mutex_unlock(&model->mutex);
	return err;
}

static long mlk_ioctl(struct file *file, unsigned int command,
		      unsigned long argument)
{
	struct mlk_reader *reader = file->private_data;
	void __user *arg = (void __user *)argument;

	if (mlk_dead(reader->model))
		return -ENODEV;
	switch (command) {
	case MLK_IOC_INFO:
		return mlk_ioctl_info(reader, arg);
	case MLK_IOC_OWNER:
		return mlk_ioctl_owner(file, arg);
	case MLK_IOC_HEARTBEAT:
		return mlk_owner_beat(reader->model, reader);
	case MLK_IOC_WAIT:
		return mlk_ioctl_wait(reader, arg);
	case MLK_IOC_LOAD:
		return mlk_ioctl_load(reader, arg);
	case MLK_IOC_MODE:
		return mlk_ioctl_mode(reader, arg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations mlk_fops = {
	.owner = THIS_MODULE,
	.open = mlk_open,
	.release = mlk_release,
	.read = mlk_read,
	.write = mlk_write,
	.poll = mlk_poll,
	.mmap = mlk_mmap,
	.unlocked_ioctl = mlk_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

int mlk_dev_add(struct mlk_model *model)
{
	snprintf(model->misc_name, sizeof(model->misc_name), "mlk!%s",
		 model->name);
	model->misc = (struct miscdevice){
		.minor = MISC_DYNAMIC_MINOR,
		.name = model->misc_name,
		.fops = &mlk_fops,
		.mode = 0600,
	};
	return misc_register(&model->misc);
}

void mlk_dev_del(struct mlk_model *model)
{
	misc_deregister(&model->misc);
}
