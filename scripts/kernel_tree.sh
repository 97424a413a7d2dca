#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Puts mlk into a kernel tree, as lib/mlk, to be built with it.
#
#   scripts/kernel_tree.sh TREE
#
# Files are linked, not copied, so that changes on either side are one; again after
# files have come or gone. Then: CONFIG_MLK=m or y, see lib/mlk/Kconfig. The KUnit
# suites (CONFIG_MLK_KUNIT_TEST) need vectors from the engine in Python, which are
# written if `make build` was there before.

set -eu
tree=${1:?usage: $0 TREE}
top=$(cd "$(dirname "$0")/.." && pwd)
[ -f "$tree/lib/Kconfig" ] || {
	echo "error: $tree is not a kernel tree" >&2
	exit 1
}

rm -rf "$tree/lib/mlk"
mkdir "$tree/lib/mlk"
cp -rs "$top/kernel/." "$tree/lib/mlk"
# user space only
rm -r "$tree/lib/mlk/arch" "$tree/lib/mlk/engine/Makefile" "$tree/lib/mlk/engine/example"
# the same operators as those of the project's own configuration
sed -n '/^menu "Engine operators"/,/^endmenu/p' "$top/Kconfig" \
	>"$tree/lib/mlk/Kconfig.operators"

python=$top/.venv/bin/python
[ ! -x "$python" ] || {
	"$python" -P "$top/tests/guest/vectors.py" >"$tree/lib/mlk/tests/mlk_vectors.h"
	"$python" -P "$top/tests/guest/threshold.py" "$tree/lib/mlk/tests/threshold.image"
}

# new files, not longer ones: the tree may be one of links
grep -q lib/mlk "$tree/lib/Kconfig" ||
	sed -i '$a source "lib/mlk/Kconfig"' "$tree/lib/Kconfig"
# shellcheck disable=SC2016 # make's variable
grep -q mlk "$tree/lib/Makefile" ||
	sed -i '$a obj-$(CONFIG_MLK) += mlk/' "$tree/lib/Makefile"
