// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that is built in decides before there is any user space: KUnit runs
 * this while the kernel boots. It needs CONFIG_MLK_IMAGES with an image for the
 * model "builtin" as tests/guest/threshold.py writes it.
 */
#include <kunit/test.h>

#include "../mlk_core.h"
#include "mlk_kunit.h"

static const struct mlk_feature features[] = {
	{ "bytes", "bytes", MLK_GAUGE, 0, 65536 },
	{ "b", "", MLK_GAUGE, 0, 9 },
	{ "c", "", MLK_GAUGE, 0, 9 },
	{ "d", "", MLK_GAUGE, 0, 9 },
};

static const struct mlk_knob knobs[] = {
	{ "threshold", "bytes", 512, 65536, 512, 1024 },
};

static const struct mlk_desc desc = {
	.subsystem = "kunit",
	.name = "builtin",
	.features = features,
	.n_features = ARRAY_SIZE(features),
	.knobs = knobs,
	.n_knobs = ARRAY_SIZE(knobs),
	.records = 8,
};

static void builtin_decides(struct kunit *test)
{
	static const s64 rows[][4] = { { 0 }, { 2000 }, { 4000 } };
	static const s64 expected[] = { 512, 4096, 8192 };
	struct mlk_model *model = mlk_register(&desc);
	struct mlk_decision decision;
	int i, used = 0;

	KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(model), 0);
	test->priv = model;
	if (!model->program_id)
		kunit_skip(test, "no image for it in CONFIG_MLK_IMAGES");
	KUNIT_EXPECT_EQ(test, (int)model->state, MLK_RUNNING);
	KUNIT_EXPECT_EQ(test, (int)model->mode, MLK_RECOMMENDATION);
	for (i = 0; i < 300; i++) {
		u64 seq = mlk_push(model, rows[i % 3]);

		if (mlk_decide(model, seq, rows[i % 3], &decision)) {
			used++;
			KUNIT_EXPECT_EQ(test, decision.value[0],
					expected[i % 3]);
		}
		KUNIT_EXPECT_EQ(test, decision.advice[0], expected[i % 3]);
	}
	/* the default keeps a share, to be compared with */
	KUNIT_EXPECT_GT(test, used, 150);
	KUNIT_EXPECT_EQ(test, model->stats.inferences, 300ULL);
}

static void builtin_exit(struct kunit *test)
{
	mlk_unregister(test->priv);
}

static struct kunit_case builtin_cases[] = { KUNIT_CASE(builtin_decides), {} };

struct kunit_suite mlk_builtin_suite = {
	.name = "mlk_builtin",
	.exit = builtin_exit,
	.test_cases = builtin_cases,
};
EXPORT_SYMBOL_GPL(mlk_builtin_suite);
