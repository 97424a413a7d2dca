#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh SECONDS: libFuzzer over verifier and operators, starting from corpus/ and
# from what earlier runs found (kept in build/fuzz, not committed). Needs clang with
# its sanitizers (Debian: clang libclang-rt-14-dev).
set -eu
seconds=${1:?usage: run.sh SECONDS}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
room=${FUZZ_ROOM:-$root/build/fuzz}
clang=${CLANG:-clang}
command -v "$clang" >/dev/null || {
	echo "run.sh: no $clang; on Debian: apt install clang libclang-rt-14-dev" >&2
	exit 2
}
mkdir -p "$room/found"
"$clang" -std=gnu11 -O1 -g -Wall -Wextra -Werror \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	-I "$root/kernel/engine" "$here/fuzz_program.c" "$root"/kernel/engine/mlk_*.c \
	-o "$room/fuzz_program"
exec "$room/fuzz_program" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
	-print_final_stats=1 -artifact_prefix="$room/" "$room/found" "$here/corpus"
