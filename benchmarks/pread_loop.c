// SPDX-License-Identifier: MIT
/*
 * The limit: what the kernel itself takes for a snapshot. One pread a file on
 * kept descriptors into one buffer, nothing parsed; or files that are opened in
 * kept directories, read and closed. Built by bench_attrs.py and bench_kmem.py.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static char text[1 << 20];

int64_t mlk_pread_loop(const int *fd, int n, int size)
{
	struct timespec a, b;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < n; i++)
		if (pread(fd[i], text, (size_t)size, 0) < 0)
			return -1;
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a.tv_sec) * INT64_C(1000000000) +
	       (b.tv_nsec - a.tv_nsec);
}

int64_t mlk_reopen_loop(const int *dir, const char *const *name, int n,
			int size)
{
	struct timespec a, b;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < n; i++) {
		int fd = openat(dir[i], name[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0 || pread(fd, text, (size_t)size, 0) < 0)
			return -1;
		close(fd);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (b.tv_sec - a.tv_sec) * INT64_C(1000000000) +
	       (b.tv_nsec - a.tv_nsec);
}
