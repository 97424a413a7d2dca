// SPDX-License-Identifier: MIT
/*
 * The user-space sides of tests/guest/figures.py:
 *   round_trip answer MODEL     answers every sample until the model goes
 *   round_trip eventfd COUNT    nanoseconds of one ping-pong between two processes
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../kernel/include/uapi/linux/mlk.h"

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int answer(const char *model)
{
	struct mlk_recommendation r = {
		.version = MLK_ABI_VERSION,
		.bytes = sizeof(r),
		.n_knobs = 1,
		.confidence_permil = 1000,
		.value = { 128 },
	};
	struct mlk_wait wait = { .timeout_ns = -1 };
	uint32_t take = 1;
	char path[64];
	int device;

	snprintf(path, sizeof(path), "/dev/mlk/%s", model);
	device = open(path, O_RDWR);
	if (device < 0 || ioctl(device, MLK_IOC_OWNER, &take))
		return 1;
	puts("ready");
	fflush(stdout);
	while (!ioctl(device, MLK_IOC_WAIT, &wait)) {
		r.seq = wait.seq = wait.head;
		if (write(device, &r, sizeof(r)) != sizeof(r))
			return 1;
	}
	return 0;
}

static int ping_pong(int64_t count)
{
	int ping = eventfd(0, 0), pong = eventfd(0, 0);
	uint64_t one = 1, value;
	int64_t start, i;
	pid_t child = fork();

	if (child == 0) {
		while (read(ping, &value, 8) == 8 &&
		       write(pong, &one, 8) == 8)
			;
		_exit(1);
	}
	start = now_ns();
	for (i = 0; i < count; i++)
		if (write(ping, &one, 8) != 8 || read(pong, &value, 8) != 8)
			return 1;
	printf("%lld\n", (long long)((now_ns() - start) / count));
	kill(child, 9);
	waitpid(child, NULL, 0);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "answer"))
		return answer(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "eventfd"))
		return ping_pong(atoll(argv[2]));
	return 2;
}
