// SPDX-License-Identifier: GPL-2.0-only
/* Runs the KUnit suites of mlk.ko when it is loaded. */
#include <linux/module.h>

#include "mlk_kunit.h"

kunit_test_suites(&mlk_ring_suite, &mlk_guard_suite, &mlk_mode_suite,
		  &mlk_verifier_suite, &mlk_engine_suite, &mlk_builtin_suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit suites of mlk");
