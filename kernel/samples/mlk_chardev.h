/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/* What user space may ask of the example driver, /dev/mlk_chardev. */
#ifndef MLK_CHARDEV_H
#define MLK_CHARDEV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MLK_CHARDEV_IOC 0xBD

/* Throw away what was written and not flushed */
#define MLK_CHARDEV_RESET _IO(MLK_CHARDEV_IOC, 0)
/* How many bytes wait to be flushed */
#define MLK_CHARDEV_GET_SIZE _IOR(MLK_CHARDEV_IOC, 1, __u32)
/* Flush whatever is there down to that many bytes: keep the newest of them */
#define MLK_CHARDEV_SET_SIZE _IOW(MLK_CHARDEV_IOC, 2, __u32)

#endif /* MLK_CHARDEV_H */
