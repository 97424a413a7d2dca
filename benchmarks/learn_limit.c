/* SPDX-License-Identifier: MIT */
/*
 * The physical limit of bench_learn.py: the multiply-adds of one update, on floats
 * that lie in the cache, and nothing else.
 */
#include <stdint.h>
#include <time.h>

double mlk_learn_limit(int width, long times);

double mlk_learn_limit(int width, long times)
{
	static float x[256], shared[256], own[256];
	static volatile float sink;
	struct timespec start, end;
	long turn;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (turn = 0; turn < times; turn++) {
		float norm = 1, guess = 0, step;

		for (i = 0; i < width; i++) {
			norm += x[i] * x[i];
			guess += x[i] * (shared[i] + own[i]);
		}
		step = guess / norm;
		for (i = 0; i < width; i++) {
			shared[i] += step * x[i];
			own[i] = 0.99f * own[i] + step * x[i];
		}
		sink = own[width - 1];
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	return ((double)(end.tv_sec - start.tv_sec) * 1e9 +
		(double)(end.tv_nsec - start.tv_nsec)) /
	       (double)times;
}
