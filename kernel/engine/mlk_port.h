/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The only place in the engine that knows where it is compiled: in the kernel
 * or anywhere else. It provides fixed-width types, memcpy/memset and nothing
 * more; the engine must not need more.
 */
#ifndef MLK_PORT_H
#define MLK_PORT_H

#ifdef __KERNEL__

#include <linux/errno.h>
#include <linux/string.h>
#include <linux/types.h>

#define mlk_clz32(x) ((u32)__builtin_clz(x))

#ifdef __CHECKER__ /* sparse does not know it */
#define __builtin_assume_aligned(pointer, bytes) (pointer)
#endif

#else

#include <stddef.h>
#include <stdint.h>

typedef int8_t s8;
typedef uint8_t u8;
typedef int16_t s16;
typedef uint16_t u16;
typedef int32_t s32;
typedef uint32_t u32;
typedef int64_t s64;
typedef uint64_t u64;

/* Values of include/uapi/asm-generic/errno*.h, so that no libc is needed. */
#ifndef E2BIG
#define E2BIG 7
#endif
#ifndef EINVAL
#define EINVAL 22
#endif
#ifndef ENOSPC
#define ENOSPC 28
#endif
#ifndef EBADMSG
#define EBADMSG 74
#endif
#ifndef EOPNOTSUPP
#define EOPNOTSUPP 95
#endif

/* The three functions every freestanding compiler may call by itself. */
void *memcpy(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
void *memmove(void *dst, const void *src, size_t n);

#define mlk_clz32(x) ((u32)__builtin_clz(x))

#endif /* __KERNEL__ */

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "programs are little-endian and used in place"
#endif

#endif /* MLK_PORT_H */
