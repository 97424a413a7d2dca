/* SPDX-License-Identifier: GPL-2.0-only */
/* The suites that mlk_kunit_run.ko runs. */
#ifndef MLK_KUNIT_H
#define MLK_KUNIT_H

#include <kunit/test.h>

extern struct kunit_suite mlk_ring_suite;
extern struct kunit_suite mlk_guard_suite;
extern struct kunit_suite mlk_mode_suite;
extern struct kunit_suite mlk_verifier_suite;
extern struct kunit_suite mlk_engine_suite;
extern struct kunit_suite mlk_builtin_suite;

#endif /* MLK_KUNIT_H */
