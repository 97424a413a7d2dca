// SPDX-License-Identifier: MIT
/*
 * LD_PRELOAD shim: counts heap allocations of a process. Built and read by
 * malloc_count.py.
 *
 * glibc's own names for its allocator are called directly: looking them up with
 * dlsym would allocate before the first allocation.
 */
#include <stddef.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static unsigned long count;

static void counted(void)
{
	__atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
}

unsigned long malloc_count(void)
{
	return __atomic_load_n(&count, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
	counted();
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	counted();
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	counted();
	return __libc_realloc(old, size);
}

void *memalign(size_t align, size_t size)
{
	counted();
	return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	counted();
	return __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
	counted();
	*out = __libc_memalign(align, size);
	return *out ? 0 : 12;
}
