#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Builds the kernel modules for one kernel.
#
#   scripts/guest/module.sh KIND [ARGUMENT OF MAKE...]     KIND: see kernel.sh
#   KDIR=/lib/modules/6.1.0-56-amd64/build scripts/guest/module.sh local
#
# Prints the folder with the modules, build/kernel/KIND: the sources are linked there,
# so that a tree can be built for many kernels. BUILD= names another one.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
kind=${1:?usage: $0 KIND [ARGUMENT OF MAKE...]}
shift
unset MAKEFLAGS MAKELEVEL MAKEOVERRIDES
build=${BUILD:-$top/build/kernel/$kind}
arguments=()
case $kind in
uml-*) arguments=(ARCH=um) ;;
*-arm64) arguments=(ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-) ;;
*-arm) arguments=(ARCH=arm CROSS_COMPILE=arm-linux-gnueabihf-) ;;
# no kernel was linked there, so nobody knows which symbols it has
*-clang) arguments=(LLVM=1 KBUILD_MODPOST_WARN=1) ;;
esac
[ "${KDIR:-}" ] || KDIR=$("$here/kernel.sh" "$kind")/kdir

mkdir -p "$build"
find "$build" -xtype l -delete
cp -rsf "$top/kernel/." "$build"
[ "$kind" = local ] || arguments+=(CONFIG_MLK_TESTS=m)
case $kind in
*-debug)
	# KUnit suites are part of the module, with vectors from the engine in Python
	vectors=$build/tests/mlk_vectors.h
	"$top/.venv/bin/python" -P "$top/tests/guest/vectors.py" >"$vectors.new"
	cmp -s "$vectors.new" "$vectors" || mv "$vectors.new" "$vectors"
	rm -f "$vectors.new"
	arguments+=(CONFIG_MLK_KUNIT_TEST=y)
	;;
esac
make -s -C "$KDIR" M="$build" -j"${JOBS:-$(nproc)}" "${arguments[@]}" "$@" modules >&2
case $kind in
stock | stock-new | x86-debug)
	# for the test of 32-bit user space; needs no 32-bit headers or libraries
	gcc -m32 -O2 -static -nostdlib -fno-pie -no-pie -fno-stack-protector \
		-isystem "$top/kernel/include/uapi" -isystem "/usr/include/$(gcc -print-multiarch)" \
		-o "$build/user32" "$top/tests/guest/user32.c"
	;;
esac
echo "$build"
