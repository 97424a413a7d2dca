/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between the kernels that mlk is built for: 6.1 and later. */
#ifndef MLK_COMPAT_H
#define MLK_COMPAT_H

#include <linux/mm.h>
#include <linux/sysfs.h>
#include <linux/version.h>

#if defined(CONFIG_ARM) && __LINUX_ARM_ARCH__ < 7
#error "mlk needs ARMv7 or later: older caches hide new records from a mapping"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_clear(struct vm_area_struct *vma,
				  unsigned long flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* Callbacks of binary attributes take a constant attribute from then on. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define MLK_BIN_MMAP_CONST const
#else
#define MLK_BIN_MMAP_CONST
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#define MLK_BIN_CONST const
#else
#define MLK_BIN_CONST
#endif

#endif /* MLK_COMPAT_H */
