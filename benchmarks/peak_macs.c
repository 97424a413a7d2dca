/* SPDX-License-Identifier: MIT */
/*
 * The physical limit of bench_models.py: how many multiply-accumulates of int8 an
 * instruction set does, with nothing to load or store and no sum that waits for
 * another. Measured, so that clock and ports are those of this machine.
 */
#include <stdint.h>
#include <string.h>
#include <time.h>

double mlk_peak_macs(const char *name);

#if defined(__x86_64__)

#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define CLOBBERED \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
		"xmm8", "xmm9", "xmm10", "xmm11", "xmm14"

#define AVX512VNNI(n) "vpdpbusd %%zmm12, %%zmm13, %%zmm" #n "\n"
#define AVXVNNI(n) "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #n "\n"
/* a product on its way to its sum lies in register 14 */
#define AVX2(n) \
	"vpmaddwd %%ymm12, %%ymm13, %%ymm14\n" \
	"vpaddd %%ymm14, %%ymm" #n ", %%ymm" #n "\n"
#define SSE2(n) \
	"movdqa %%xmm12, %%xmm14\n" \
	"pmaddwd %%xmm13, %%xmm14\n" \
	"paddd %%xmm14, %%xmm" #n "\n"

#define LOOP(name, X, end) \
	static void name(long count) \
	{ \
		while (count-- > 0) \
			__asm__ volatile(TWELVE(X) : : : CLOBBERED); \
		__asm__ volatile(end); \
	}

LOOP(avx512vnni, AVX512VNNI, "vzeroupper")
LOOP(avxvnni, AVXVNNI, "vzeroupper")
LOOP(avx2, AVX2, "vzeroupper")
LOOP(sse2, SSE2, "")

static const struct {
	const char *name;
	void (*loop)(long count);
	int macs; /* of one instruction */
} sets[] = {
	{ "avx512vnni", avx512vnni, 64 },
	{ "avxvnni", avxvnni, 32 },
	{ "avx2", avx2, 16 },
	{ "sse2", sse2, 8 },
};

/* Per nanosecond; 0 for an instruction set without vectors. */
double mlk_peak_macs(const char *name)
{
	const long count = 200000;
	unsigned int i;

	for (i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		struct timespec start, end;
		int64_t ns;

		if (strcmp(sets[i].name, name))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &start);
		sets[i].loop(count);
		clock_gettime(CLOCK_MONOTONIC, &end);
		ns = (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec -
		     start.tv_nsec;
		return 12.0 * sets[i].macs * count / ns;
	}
	return 0;
}

#else

double mlk_peak_macs(const char *name)
{
	(void)name;
	return 0;
}

#endif
