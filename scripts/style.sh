#!/bin/sh
# SPDX-License-Identifier: MIT
#
# All style checks over the whole tree; nothing is changed.
#
#   scripts/style.sh           check
#   scripts/style.sh --fix     let the formatters and ruff's safe fixes write
#
# checkpatch runs too if it can be had: CHECKPATCH=path, or an unpacked
# linux-source package (it is over 130 MB, so nothing installs it).

set -u
cd "$(dirname "$0")/.." || exit 1
bin=.venv/bin
# cython-lint looks for pycodestyle
PATH=$PWD/$bin:$PATH
fix=
[ "${1:-}" = --fix ] && fix=1
failed=

# Quiet when it passes.
check() {
	name=$1
	shift
	if output=$("$@" 2>&1); then
		echo "  style  $name"
	else
		echo "  style  $name FAILED"
		printf '%s\n' "$output"
		failed=1
	fi
}

# Names only: a file has many lines that --fix would change.
c_format() {
	status=0
	for file; do
		$bin/clang-format --dry-run -Werror "$file" 2>/dev/null && continue
		echo "Would reformat: $file"
		status=1
	done
	return $status
}

python_files=$(find pymlk models scripts benchmarks tests setup.py \
	-name '*.py' -o -name '*.pyi')
cython_files=$(find pymlk tests -name '*.pyx' -o -name '*.pxd')
c_files=$(find kernel pymlk models benchmarks tests -name '*.[ch]')
kernel_files=$(find kernel -name '*.[ch]')

# shellcheck disable=SC2086 # lists of files without spaces
{
	if [ "$fix" ]; then
		$bin/ruff check -q --fix-only $python_files
		$bin/ruff format -q $python_files
		$bin/clang-format -i $c_files
	fi
	check "ruff check" $bin/ruff check -q $python_files
	check "ruff format" $bin/ruff format --check $python_files
	check "cython-lint" $bin/cython-lint $cython_files
	check "codespell" $bin/codespell
	check "clang-format" c_format $c_files
	# The recipes are typed for numpy 1.26, which tflite-runtime needs; numpy 2
	# (Python >= 3.12) types the same calls otherwise.
	if $bin/python -c 'import numpy, sys; sys.exit(numpy.__version__ < "2")' \
		2>/dev/null; then
		check "mypy (without models/: numpy 2)" \
			$bin/mypy pymlk scripts benchmarks tests/typing
	else
		check "mypy" $bin/mypy
	fi
}

checkpatch=${CHECKPATCH:-}
for found in /usr/src/linux-source-*/scripts/checkpatch.pl; do
	[ -z "$checkpatch" ] && [ -e "$found" ] && checkpatch=$found
done
if [ "$checkpatch" ]; then
	# shellcheck disable=SC2086 # a list of files without spaces
	check "checkpatch" perl "$checkpatch" --strict --no-tree --terse -q \
		--no-summary -f $kernel_files
else
	echo "  style  checkpatch not found, left out (CHECKPATCH=path/checkpatch.pl)"
fi

[ -z "$failed" ]
