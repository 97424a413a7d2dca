// SPDX-License-Identifier: GPL-2.0-only
/*
 * Example client: a character device that gathers what is written to it and
 * flushes it, checksummed, to a store from which it is read back. When to flush
 * is the knob: a low threshold costs many flushes, a high one lets data wait.
 * Before each write the model is asked for the threshold; a flush is scored by
 * what it cost, in its own time and in the time that data waited.
 *
 * Everything that concerns mlk is between the two lines "mlk".
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/crc32.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kfifo.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/miscdevice.h>
#include <linux/mlk.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "mlk_chardev.h"

#define BUFFER_BYTES 65536
#define DEFAULT_THRESHOLD 4096

/**
 * struct chardev - the device
 * @lock: serialises everything here
 * @pending: written, not flushed
 * @pending_bytes: how much of it
 * @store: flushed, not read; the oldest makes room
 * @oldest_ns: since when the first pending byte waits
 * @wrote_ns: when the last write was
 * @flush_ns: when the last flush was
 * @crc: of all that was flushed
 * @opens: how often it was opened
 * @reads: calls of read()
 * @writes: calls of write()
 * @flushes: how often it was flushed
 * @model: its proxy
 * @decision: what holds for the next flush
 */
static struct chardev {
	struct mutex lock; /* see above */
	u8 *pending;
	u32 pending_bytes;
	DECLARE_KFIFO_PTR(store, u8);
	u64 oldest_ns;
	u64 wrote_ns;
	u64 flush_ns;
	u32 crc;
	u64 opens;
	u64 reads;
	u64 writes;
	u64 flushes;
	struct mlk_model *model;
	struct mlk_decision decision;
} dev;

/* mlk */

static const struct mlk_feature chardev_features[] = {
	{ "write_bytes", "bytes", MLK_GAUGE, 0, BUFFER_BYTES },
	{ "pending_bytes", "bytes", MLK_GAUGE, 0, BUFFER_BYTES },
	{ "since_write", "us", MLK_GAUGE, 0, 1000000 },
	{ "since_flush", "us", MLK_GAUGE, 0, 1000000 },
};

static const struct mlk_knob chardev_knobs[] = {
	{ "flush_bytes", "bytes", 512, BUFFER_BYTES, 512, DEFAULT_THRESHOLD },
};

/* The threshold for this write */
static u32 chardev_decide(u32 n, u64 now)
{
	s64 row[ARRAY_SIZE(chardev_features)] = {
		n,
		dev.pending_bytes,
		div_u64(now - dev.wrote_ns, NSEC_PER_USEC),
		div_u64(now - dev.flush_ns, NSEC_PER_USEC),
	};
	u64 seq = mlk_push(dev.model, row);

	if (mlk_decide(dev.model, seq, row, &dev.decision))
		return dev.decision.value[0];
	return DEFAULT_THRESHOLD;
}

/* Lower cost is a greater score: nanoseconds for a KiB, waiting counts 1/16. */
static void chardev_report(u32 bytes, u64 cost_ns, u64 waited_ns)
{
	u64 cost = (cost_ns + (waited_ns >> 4)) * 1024;

	mlk_report(dev.model, &dev.decision, -(s64)div_u64(cost, bytes));
}

static const struct mlk_desc chardev_desc = {
	.subsystem = "sample",
	.name = "chardev",
	.features = chardev_features,
	.n_features = ARRAY_SIZE(chardev_features),
	.knobs = chardev_knobs,
	.n_knobs = ARRAY_SIZE(chardev_knobs),
};

/* mlk */

/* Under the lock: the oldest @bytes go to the store. */
static void chardev_flush(u32 bytes)
{
	u64 start = ktime_get_ns(), now;
	u32 room = kfifo_avail(&dev.store);

	if (!bytes)
		return;
	if (bytes > room) {
		/* a place behind the last byte to keep */
		for (room = bytes - room; room; room--)
			kfifo_skip(&dev.store);
	}
	dev.crc = crc32(dev.crc, dev.pending, bytes);
	kfifo_in(&dev.store, dev.pending, bytes);
	dev.pending_bytes -= bytes;
	memmove(dev.pending, dev.pending + bytes, dev.pending_bytes);
	dev.flushes++;
	now = ktime_get_ns();
	chardev_report(bytes, now - start, start - dev.oldest_ns);
	dev.flush_ns = now;
	dev.oldest_ns = now;
}

static ssize_t chardev_write(struct file *file, const char __user *from,
			     size_t n, loff_t *at)
{
	u64 now = ktime_get_ns();
	u32 threshold;

	n = min_t(size_t, n, BUFFER_BYTES);
	if (!n)
		return 0;
	if (mutex_lock_interruptible(&dev.lock))
		return -ERESTARTSYS;
	threshold = chardev_decide(n, now);
	if (n > BUFFER_BYTES - dev.pending_bytes)
		chardev_flush(dev.pending_bytes);
	if (copy_from_user(dev.pending + dev.pending_bytes, from, n)) {
		mutex_unlock(&dev.lock);
		return -EFAULT;
	}
	if (!dev.pending_bytes)
		dev.oldest_ns = now;
	dev.pending_bytes += n;
	dev.wrote_ns = now;
	dev.writes++;
	if (dev.pending_bytes >= threshold)
		chardev_flush(dev.pending_bytes);
	mutex_unlock(&dev.lock);
	return n;
}

static ssize_t chardev_read(struct file *file, char __user *to, size_t n,
			    loff_t *at)
{
	unsigned int copied;
	int err;

	if (mutex_lock_interruptible(&dev.lock))
		return -ERESTARTSYS;
	dev.reads++;
	err = kfifo_to_user(&dev.store, to, n, &copied);
	mutex_unlock(&dev.lock);
	return err ? err : copied;
}

static int chardev_open(struct inode *inode, struct file *file)
{
	mutex_lock(&dev.lock);
	dev.opens++;
	mutex_unlock(&dev.lock);
	return stream_open(inode, file);
}

static int chardev_set_size(u32 bytes)
{
	if (bytes > dev.pending_bytes)
		return -EINVAL;
	chardev_flush(dev.pending_bytes - bytes);
	return 0;
}

static long chardev_ioctl(struct file *file, unsigned int command,
			  unsigned long argument)
{
	u32 __user *arg = (u32 __user *)argument;
	u32 bytes = 0;
	int err = 0;

	if (command == MLK_CHARDEV_SET_SIZE && get_user(bytes, arg))
		return -EFAULT;
	mutex_lock(&dev.lock);
	switch (command) {
	case MLK_CHARDEV_RESET:
		dev.pending_bytes = 0;
		break;
	case MLK_CHARDEV_GET_SIZE:
		bytes = dev.pending_bytes;
		break;
	case MLK_CHARDEV_SET_SIZE:
		err = chardev_set_size(bytes);
		break;
	default:
		err = -ENOTTY;
	}
	mutex_unlock(&dev.lock);
	if (command == MLK_CHARDEV_GET_SIZE)
		err = put_user(bytes, arg);
	return err;
}

static const struct file_operations chardev_fops = {
	.owner = THIS_MODULE,
	.open = chardev_open,
	.read = chardev_read,
	.write = chardev_write,
	.unlocked_ioctl = chardev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* What sysfs and /proc show */
#define CHARDEV_VALUES(X) \
	X(buffer_bytes, (u64)BUFFER_BYTES) \
	X(pending_bytes, (u64)dev.pending_bytes) \
	X(stored_bytes, (u64)kfifo_len(&dev.store)) \
	X(crc32, (u64)dev.crc) \
	X(opens, dev.opens) \
	X(reads, dev.reads) \
	X(writes, dev.writes) \
	X(flushes, dev.flushes)

#define CHARDEV_ATTR(name, value) \
	static ssize_t name##_show(struct device *device, \
				   struct device_attribute *attr, char *buf) \
	{ \
		u64 now; \
		mutex_lock(&dev.lock); \
		now = value; \
		mutex_unlock(&dev.lock); \
		return sysfs_emit(buf, "%llu\n", now); \
	} \
	static DEVICE_ATTR_RO(name);
CHARDEV_VALUES(CHARDEV_ATTR)
#undef CHARDEV_ATTR

static struct attribute *chardev_attrs[] = {
#define CHARDEV_POINTER(name, value) &dev_attr_##name.attr,
	CHARDEV_VALUES(CHARDEV_POINTER)
#undef CHARDEV_POINTER
		NULL
};
ATTRIBUTE_GROUPS(chardev);

static int chardev_proc_show(struct seq_file *file, void *unused)
{
	mutex_lock(&dev.lock);
#define CHARDEV_LINE(name, value) \
	seq_printf(file, "%-16s%llu\n", __stringify(name) ":", value);
	CHARDEV_VALUES(CHARDEV_LINE)
#undef CHARDEV_LINE
	mutex_unlock(&dev.lock);
	return 0;
}

static struct miscdevice chardev_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mlk_chardev",
	.fops = &chardev_fops,
	.groups = chardev_groups,
	.mode = 0600,
};

static int __init chardev_init(void)
{
	int err;

	mutex_init(&dev.lock);
	dev.wrote_ns = ktime_get_ns();
	dev.flush_ns = dev.wrote_ns;
	dev.pending = vmalloc(BUFFER_BYTES);
	if (!dev.pending)
		return -ENOMEM;
	err = kfifo_alloc(&dev.store, BUFFER_BYTES, GFP_KERNEL);
	if (err)
		goto err_pending;
	dev.model = mlk_register(&chardev_desc);
	err = PTR_ERR_OR_ZERO(dev.model);
	if (err)
		goto err_store;
	err = misc_register(&chardev_misc);
	if (err)
		goto err_model;
	if (!proc_create_single("mlk_chardev", 0444, NULL, chardev_proc_show)) {
		err = -ENOMEM;
		goto err_misc;
	}
	return 0;

err_misc:
	misc_deregister(&chardev_misc);
err_model:
	mlk_unregister(dev.model);
err_store:
	kfifo_free(&dev.store);
err_pending:
	vfree(dev.pending);
	return err;
}

static void __exit chardev_exit(void)
{
	remove_proc_entry("mlk_chardev", NULL);
	misc_deregister(&chardev_misc);
	mlk_unregister(dev.model);
	kfifo_free(&dev.store);
	vfree(dev.pending);
}

module_init(chardev_init);
module_exit(chardev_exit);

MODULE_DESCRIPTION("Example client of mlk: a character device");
MODULE_LICENSE("GPL");
