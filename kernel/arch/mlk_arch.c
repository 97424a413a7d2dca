// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Which inner loops this processor can run. */
#include "mlk_arch.h"

struct mlk_arch {
	const char *name;
	const struct mlk_simd *simd;
	int (*supported)(void);
};

/* of loops that the build leaves out */
#define MLK_MAYBE_UNUSED __attribute__((unused))

static int mlk_always(void)
{
	return 1;
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static MLK_MAYBE_UNUSED int mlk_has_avx512vnni(void)
{
	return __builtin_cpu_supports("avx512vnni") &&
	       __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl");
}

/*
 * AMX: CPUID 7.0 EDX bits 24 and 25. The system keeps its registers only for
 * processes that ask: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), see
 * Documentation/arch/x86/xstate.rst.
 */
static MLK_MAYBE_UNUSED int mlk_has_amx(void)
{
	unsigned int a, b, c, d;

	if (!mlk_has_avx512vnni() || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return 0;
	return (d >> 24 & 3) == 3 && !syscall(SYS_arch_prctl, 0x1023, 18);
}

/* CPUID 7.1 EAX bit 4; AVX2 stands for the system saving the registers. */
static MLK_MAYBE_UNUSED int mlk_has_avxvnni(void)
{
	unsigned int a, b, c, d;

	if (!__builtin_cpu_supports("avx2") ||
	    !__get_cpuid_count(7, 1, &a, &b, &c, &d))
		return 0;
	return a >> 4 & 1;
}

static MLK_MAYBE_UNUSED int mlk_has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

#endif

#if defined(__arm__) && defined(MLK_ARCH_NEON)

#include <sys/auxv.h>

static int mlk_has_neon(void)
{
	return getauxval(AT_HWCAP) >> 12 & 1;
}

#elif defined(MLK_ARCH_NEON)

#define mlk_has_neon mlk_always

#endif

#ifdef MLK_ARCH_DOTPROD

#include <sys/auxv.h>

static int mlk_has_dotprod(void)
{
	return getauxval(AT_HWCAP) >> 20 & 1;
}

static MLK_MAYBE_UNUSED int mlk_has_i8mm(void)
{
	return mlk_has_dotprod() && getauxval(AT_HWCAP2) >> 13 & 1;
}

#endif

static const struct mlk_arch archs[] = {
#ifdef MLK_ARCH_AMX
	{ "amx", &mlk_simd_amx, mlk_has_amx },
#endif
#ifdef MLK_ARCH_AVX512VNNI
	{ "avx512vnni", &mlk_simd_avx512vnni, mlk_has_avx512vnni },
#endif
#ifdef MLK_ARCH_AVXVNNI
	{ "avxvnni", &mlk_simd_avxvnni, mlk_has_avxvnni },
#endif
#ifdef MLK_ARCH_AVX2
	{ "avx2", &mlk_simd_avx2, mlk_has_avx2 },
#endif
#ifdef MLK_ARCH_SSE2
	{ "sse2", &mlk_simd_sse2, mlk_always },
#endif
#ifdef MLK_ARCH_I8MM
	{ "i8mm", &mlk_simd_i8mm, mlk_has_i8mm },
#endif
#ifdef MLK_ARCH_DOTPROD
	{ "dotprod", &mlk_simd_dotprod, mlk_has_dotprod },
#endif
#ifdef MLK_ARCH_NEON
	{ "neon", &mlk_simd_neon, mlk_has_neon },
#endif
	{ "c", NULL, mlk_always },
};

#define MLK_N_ARCHS (sizeof(archs) / sizeof(archs[0]))

static int mlk_same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* Of each: 1 it is supported, -1 it is not, 0 nobody has asked yet. */
static signed char answers[MLK_N_ARCHS];

/* Asking is slow in a virtual machine; whoever asks gets the same answer. */
static int mlk_supported(unsigned int i)
{
	signed char answer = __atomic_load_n(&answers[i], __ATOMIC_RELAXED);

	if (!answer) {
		answer = archs[i].supported() ? 1 : -1;
		__atomic_store_n(&answers[i], answer, __ATOMIC_RELAXED);
	}
	return answer > 0;
}

const char *mlk_arch_name(unsigned int i)
{
	return i < MLK_N_ARCHS ? archs[i].name : NULL;
}

int mlk_arch_find(const char *name, const struct mlk_simd **simd)
{
	unsigned int i;

	for (i = 0; i < MLK_N_ARCHS; i++) {
		if (name && !mlk_same(name, archs[i].name))
			continue;
		if (mlk_supported(i)) {
			*simd = archs[i].simd;
			return 0;
		}
		if (name)
			return -EOPNOTSUPP;
	}
	return -EINVAL;
}
