#!/bin/bash
# SPDX-License-Identifier: MIT
#
# In a guest whose kernel has mlk built in (make guest-builtin): its KUnit suites ran
# while it booted, and its samples are there and work.

status=0
fail() { echo "FAILED: $*"; status=1; }

for suite in ring guard mode verifier engine builtin; do
	results=/sys/kernel/debug/kunit/mlk_$suite/results
	grep -E '^ *(not )?ok ' $results || fail "no results of $suite"
	! grep -q 'not ok' $results || fail "$suite"
done

[ ! -e /sys/module/mlk/refcnt ] || fail "mlk is a module"
model=/sys/kernel/mlk/sample/chardev
[ -d /sys/kernel/mlk/block/slow ] || fail "mlk_blk is not there"
# its program was there before the first process: nobody has told it anything
[ "$(cat $model/state) $(cat $model/mode)" = "running recommendation" ] ||
	fail "$(cat $model/state) $(cat $model/mode)"
[ "$(cat $model/program_id)" = 77 ] || fail "program $(cat $model/program_id)"
for turn in {1..20}; do
	head -c 3000 /dev/zero >/dev/mlk_chardev || fail "write $turn"
done
[ "$(cat $model/stats/inferences)" = 20 ] || fail "$(cat $model/stats/inferences) inferences"
[ "$(cat $model/stats/decisions)" = 20 ] || fail "$(cat $model/stats/decisions) decisions"
[ "$(cat $model/stats/records)" -gt 20 ] || fail "$(cat $model/stats/records) records"
grep . $model/{state,mode,reason} $model/stats/{records,decisions,inferences,reports}
exit $status
