// SPDX-License-Identifier: MIT
/*
 * Read 4 KiB pages of one file in a given order for a given time.
 *
 * usage: reader FILE PATTERN[,PATTERN...] SECONDS SEED mmap|pread
 *
 * PATTERN: seq, rev, rand, runN (jump, then N pages in order), mixP (P % single
 * random pages, else runs of 64). Each takes SECONDS, in one process that keeps the
 * file open. Prints the seconds and the pages per second of each as it ends.
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

struct file {
	int fd;
	uint64_t pages;
	volatile unsigned char *map; /* NULL: pread */
};

static uint64_t sum; /* keeps the loads from being left out */

static int touch(const struct file *file, uint64_t at)
{
	char page[PAGE];

	if (file->map) {
		sum += file->map[at * PAGE];
		return 0;
	}
	if (pread(file->fd, page, PAGE, at * PAGE) != PAGE) {
		perror("pread");
		return 1;
	}
	sum += page[0];
	return 0;
}

static int phase(const struct file *file, const char *pattern, double seconds)
{
	uint64_t pages = file->pages, at = rnd() % pages, run = 0, ops;
	double start = now(), end = start + seconds;
	int length = 0, percent = 0;

	if (!strncmp(pattern, "run", 3))
		length = atoi(pattern + 3);
	else if (!strncmp(pattern, "mix", 3))
		percent = atoi(pattern + 3);
	if (pages <= 2 * MIX_RUN || pages <= 2 * (uint64_t)length) {
		fprintf(stderr, "%s: the file is too small\n", pattern);
		return 1;
	}
	for (ops = 0; ops % OPS_PER_CLOCK || now() < end; ops++) {
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
		if (touch(file, at))
			return 1;
	}
	printf("%.3f %.1f\n", now() - start, ops / (now() - start));
	return fflush(stdout);
}

int main(int argc, char **argv)
{
	struct file file = { 0 };
	char *pattern, *rest;
	struct stat st;

	if (argc != 6) {
		fprintf(stderr,
			"usage: reader FILE PATTERN[,PATTERN...] SECONDS "
			"SEED mmap|pread\n");
		return 2;
	}
	file.fd = open(argv[1], O_RDONLY);
	if (file.fd < 0 || fstat(file.fd, &st)) {
		perror(argv[1]);
		return 1;
	}
	file.pages = st.st_size / PAGE;
	if (!strcmp(argv[5], "mmap")) {
		file.map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED,
				file.fd, 0);
		if (file.map == MAP_FAILED) {
			perror("mmap");
			return 1;
		}
	}
	/* Spread small seeds over the whole state; it must not be 0. */
	state = (strtoull(argv[4], NULL, 0) + 1) * 0x9e3779b97f4a7c15ull;
	rest = argv[2];
	while ((pattern = strsep(&rest, ",")))
		if (phase(&file, pattern, atof(argv[3])))
			return 1;
	return sum == UINT64_MAX;
}
