// SPDX-License-Identifier: MIT
/*
 * The user-space side of bench_kernel.py, in a guest:
 *
 *   owner DEVICE COUNT    answer that many samples of a model
 *   reader DEVICE COUNT   map its records and count them up to record COUNT;
 *                         prints how many were read, lost, and torn, and the
 *                         longest time in ns from one look to the next
 *   eventfd COUNT         two processes wake each other that often; prints ns
 *   poll COUNT            the same, and each sleeps in poll() as a loop would
 *   clock COUNT           read the clock that often; prints ns
 */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/mlk.h>

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int open_device(const char *path, struct mlk_info *info)
{
	int device = open(path, O_RDWR);

	if (device < 0 || ioctl(device, MLK_IOC_INFO, info)) {
		perror(path);
		exit(1);
	}
	return device;
}

static int owner(const char *path, long count)
{
	struct mlk_recommendation r = {
		.version = MLK_ABI_VERSION,
		.bytes = sizeof(r),
		.confidence_permil = 1000,
		.value = { 128 },
	};
	struct mlk_info info;
	int device = open_device(path, &info);
	struct mlk_wait wait = { .seq = info.head, .timeout_ns = -1 };
	__u32 yes = 1;

	r.n_knobs = info.n_knobs;
	if (ioctl(device, MLK_IOC_OWNER, &yes))
		return 1;
	puts("owner");
	fflush(stdout);
	while (count--) {
		if (ioctl(device, MLK_IOC_WAIT, &wait))
			return 2;
		wait.seq = wait.head;
		r.seq = wait.head;
		if (write(device, &r, sizeof(r)) != sizeof(r))
			return 3;
	}
	return 0;
}

/* A word that the kernel writes meanwhile, as <linux/mlk.h> says */
static uint64_t load(const __u64 *from)
{
#if __SIZEOF_POINTER__ == 8
	return __atomic_load_n(from, __ATOMIC_ACQUIRE);
#else
	const uint32_t *half = (const void *)from;
	uint64_t upper = __atomic_load_n(&half[1], __ATOMIC_ACQUIRE);

	return upper << 32 | __atomic_load_n(&half[0], __ATOMIC_ACQUIRE);
#endif
}

static int reader(const char *path, uint64_t last)
{
	uint64_t next = 1, lost = 0, wrong = 0;
	int64_t looked = now(), away = 0;
	const struct mlk_dataset *ring;
	struct mlk_info info;
	int device = open_device(path, &info);

	ring = mmap(NULL, info.dataset_bytes, PROT_READ, MAP_SHARED, device, 0);
	if (ring == MAP_FAILED)
		return 1;
	puts("reader");
	fflush(stdout);
	while (next <= last) {
		uint64_t head = load(&ring->head);
		struct mlk_wait wait = { .seq = head, .timeout_ns = 1000000 };
		int64_t time = now();

		away = time - looked > away && head ? time - looked : away;
		looked = time;
		if (head < next) {
			/* sleep until there is more, and a little for the rest */
			ioctl(device, MLK_IOC_WAIT, &wait);
			continue;
		}
		while (next <= head) {
			const struct mlk_record *record =
				(const void *)((const char *)ring + ring->data +
					       (next - 1) % ring->records *
						       ring->record_bytes);
			int64_t row[2];

			if (load(&record->seq) != next)
				break;
			memcpy(row, record->value, sizeof(row));
			__atomic_thread_fence(__ATOMIC_ACQUIRE);
			if (load(&record->seq) != next)
				break;
			wrong += row[1] != 2 * row[0];
			next++;
		}
		head = load(&ring->head);
		if (next + ring->records <= head) {
			lost += head - ring->records + 1 - next;
			next = head - ring->records + 1;
		}
	}
	printf("%llu %llu %llu %lld\n", (unsigned long long)(last - lost),
	       (unsigned long long)lost, (unsigned long long)wrong,
	       (long long)away);
	return 0;
}

static void turn(int mine, int other, long count, int first, int polls)
{
	struct pollfd waits = { .fd = mine, .events = POLLIN };
	uint64_t one = 1;

	if (first && write(other, &one, sizeof(one)) < 0)
		exit(1);
	while (count--) {
		if (polls && poll(&waits, 1, -1) < 0)
			exit(1);
		if (read(mine, &one, sizeof(one)) < 0)
			exit(1);
		one = 1;
		if ((!first || count) && write(other, &one, sizeof(one)) < 0)
			exit(1);
	}
}

static int ping(long count, int polls)
{
	int a = eventfd(0, 0), b = eventfd(0, 0);
	int64_t start;
	pid_t child = fork();

	if (!child) {
		turn(b, a, count, 0, polls);
		_exit(0);
	}
	start = now();
	turn(a, b, count, 1, polls);
	printf("%lld\n", (long long)(now() - start));
	waitpid(child, NULL, 0);
	return 0;
}

static int clocks(long count)
{
	int64_t start = now();

	while (count--)
		now();
	printf("%lld\n", (long long)(now() - start));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "owner"))
		return owner(argv[2], atol(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "reader"))
		return reader(argv[2], atol(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "eventfd"))
		return ping(atol(argv[2]), 0);
	if (argc == 3 && !strcmp(argv[1], "poll"))
		return ping(atol(argv[2]), 1);
	if (argc == 3 && !strcmp(argv[1], "clock"))
		return clocks(atol(argv[2]));
	return 9;
}
