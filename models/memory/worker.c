// SPDX-License-Identifier: MIT
/*
 * A service with anonymous memory and files: so many requests a second are offered,
 * each touches one page. Prints how many were served.
 *
 *   worker FILE ANON_MB HOT_MB FILE_MB PERCENT seq|rand map|read SECONDS SEED
 *
 * ANON_MB are written once; PERCENT of requests then touch a page of the first HOT_MB,
 * the others a page of the file's first FILE_MB, in order or at random, mapped or read.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
	OFFERED = 20000, /* requests a second */
	BATCH = 20, /* between two looks at the clock */
	PAGE = 4096,
	MB = 1 << 20,
};

static uint64_t state = 88172645463325252ull;

static uint32_t draw(void) /* xorshift64 */
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 32;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void *map(size_t bytes, int prot, int flags, int fd)
{
	void *p = mmap(NULL, bytes, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		err(1, "mmap of %zu bytes", bytes);
	return p;
}

int main(int argc, char **argv)
{
	static char buffer[PAGE];
	size_t anon, hot, file, place = 0;
	int64_t begin, end, due;
	uint64_t served = 0;
	int percent, in_order, mapped, fd;
	volatile char sink;
	char *a, *f;

	if (argc != 10)
		errx(2, "nine arguments expected");
	anon = strtoul(argv[2], NULL, 10) * MB / PAGE;
	hot = strtoul(argv[3], NULL, 10) * MB / PAGE;
	file = strtoul(argv[4], NULL, 10) * MB / PAGE;
	percent = atoi(argv[5]);
	in_order = !strcmp(argv[6], "seq");
	mapped = !strcmp(argv[7], "map");
	state += strtoul(argv[9], NULL, 10) * 7919;
	if (!anon || !hot || hot > anon || !file)
		errx(2, "sizes: 1 or more, HOT_MB within ANON_MB expected");

	fd = open(argv[1], O_RDONLY);
	if (fd < 0)
		err(1, "%s", argv[1]);
	a = map(anon * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1);
	f = map(file * PAGE, PROT_READ, MAP_SHARED, fd);
	madvise(a, anon * PAGE, MADV_NOHUGEPAGE);
	if (!in_order) {
		madvise(f, file * PAGE, MADV_RANDOM);
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	}
	/* zram would do away with equal pages */
	for (size_t i = 0; i < anon * PAGE; i += sizeof(uint32_t))
		memcpy(a + i, &(uint32_t){ draw() }, sizeof(uint32_t));

	begin = due = now_ns();
	end = begin + (int64_t)(atof(argv[8]) * 1e9);
	for (int64_t now = begin; now < end; now = now_ns()) {
		if (now <
		    due) { /* an idle service: nothing more is offered yet */
			usleep((due - now) / 1000);
			continue;
		}
		for (int i = 0; i < BATCH; i++) {
			if ((int)(draw() % 100) < percent) {
				a[draw() % hot * PAGE]++;
				continue;
			}
			place = in_order ? (place + 1) % file : draw() % file;
			if (mapped)
				sink = f[place * PAGE];
			else if (pread(fd, buffer, PAGE, (off_t)place * PAGE) <
				 0)
				err(1, "%s", argv[1]);
		}
		served += BATCH;
		/* what could not be served in time is lost, not made up for */
		due += BATCH * 1000000000ll / OFFERED;
		if (due < now - 100000000)
			due = now;
	}
	(void)sink;
	printf("served %.1f per second\n", served * 1e9 / (now_ns() - begin));
	return 0;
}
