// SPDX-License-Identifier: MIT
/*
 * Preloaded: each reading of the wall clock is years away from the one before, ahead
 * or back; no other clock is touched.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long jump(void)
{
	static long turn;

	return (++turn & 1 ? 1 : -1) * (turn % 7) * 100000000;
}

int clock_gettime(clockid_t id, struct timespec *time)
{
	int error = (int)syscall(SYS_clock_gettime, id, time);

	if (!error && id == CLOCK_REALTIME)
		time->tv_sec += jump();
	return error;
}

int gettimeofday(struct timeval *time, void *zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *into)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (into)
		*into = now.tv_sec;
	return now.tv_sec;
}
