// SPDX-License-Identifier: MIT
/*
 * Read 4 KiB pages of one file in a given order for a given time.
 *
 * usage: reader FILE PATTERN SECONDS SEED mmap|pread [REOPEN_MS]
 *
 * PATTERN: seq, rev, rand, runN (jump, then N pages in order), mixP (P % single
 * random pages, else runs of 64). Prints the seconds and the pages per second.
 * With REOPEN_MS the file is opened anew that often: the kernel copies the
 * read-ahead size into the file at open, so that only a new open sees a change.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define MIX_RUN 64
#define OPS_PER_CLOCK 16

static uint64_t state;

static uint64_t rnd(void) /* xorshift64 */
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	uint64_t pages, at, run = 0, ops = 0, sum = 0;
	double start, end, reopen = 0, opened;
	volatile unsigned char *map = NULL;
	const char *pattern;
	char page[PAGE];
	struct stat st;
	int fd, length = 0, percent = 0, use_map;

	if (argc < 6) {
		fprintf(stderr, "usage: reader FILE PATTERN SECONDS SEED "
				"mmap|pread [REOPEN_MS]\n");
		return 2;
	}
	pattern = argv[2];
	if (!strncmp(pattern, "run", 3))
		length = atoi(pattern + 3);
	else if (!strncmp(pattern, "mix", 3))
		percent = atoi(pattern + 3);
	use_map = !strcmp(argv[5], "mmap");
	if (argc > 6)
		reopen = atof(argv[6]) / 1e3;
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &st)) {
		perror(argv[1]);
		return 1;
	}
	pages = st.st_size / PAGE;
	if (pages <= 2 * MIX_RUN || pages <= 2 * (uint64_t)length) {
		fprintf(stderr, "%s: too small\n", argv[1]);
		return 1;
	}
	/* Spread small seeds over the whole state; it must not be 0. */
	state = (strtoull(argv[4], NULL, 0) + 1) * 0x9e3779b97f4a7c15ull;
	at = rnd() % pages;
	start = opened = now();
	end = start + atof(argv[3]);

	for (;; ops++) {
		if (ops % OPS_PER_CLOCK == 0) {
			double t = now();

			if (t >= end)
				break;
			if (reopen > 0 && t - opened >= reopen) {
				if (map)
					munmap((void *)map, st.st_size);
				map = NULL;
				close(fd);
				fd = open(argv[1], O_RDONLY);
				opened = t;
			}
			if (use_map && !map) {
				map = mmap(NULL, st.st_size, PROT_READ,
					   MAP_SHARED, fd, 0);
				if (map == MAP_FAILED) {
					perror("mmap");
					return 1;
				}
			}
		}
		if (!strcmp(pattern, "seq")) {
			at = (at + 1) % pages;
		} else if (!strcmp(pattern, "rev")) {
			at = (at + pages - 1) % pages;
		} else if (!length && !percent) {
			at = rnd() % pages;
		} else if (run) {
			at++;
			run--;
		} else {
			run = length ? length : MIX_RUN;
			if (percent && rnd() % 100 < (uint64_t)percent)
				run = 1;
			at = rnd() % (pages - run);
			run--;
		}
		if (use_map) {
			sum += map[at * PAGE];
		} else {
			if (pread(fd, page, PAGE, at * PAGE) != PAGE) {
				perror("pread");
				return 1;
			}
			sum += page[0];
		}
	}
	printf("%.3f %.1f\n", now() - start, ops / (now() - start));
	return sum == UINT64_MAX; /* keeps the loads from being left out */
}
