#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A kernel to build the module for or to boot, made once and kept.
#
#   scripts/guest/kernel.sh KIND      prints the folder, which has
#       kdir      what `make -C kdir M=...` takes
#       image     what boots (not for headers alone)
#       root      the unpacked packages (Debian's kernels)
#
# KIND
#   uml-debug, uml-fast      User-Mode Linux from Debian's source, with and without checkers
#   uml-builtin              the same with mlk of this tree built in, its samples and tests
#   x86-debug                x86-64 SMP with every checker, for QEMU
#   stock, stock-new         Debian's own 6.1 and the newest that apt has
#   stock-arm64, stock-arm   Debian's 6.1 for 64-bit and 32-bit ARM
#   x86-clang                no more than what modules need, configured for clang
#   source                   Debian's source alone, with checkpatch
#   busybox                  no kernel, but what its initial ramdisk has: bin/busybox
#   python-amd64, python-arm64, python-armhf
#                            no kernel, but Debian's Python with its headers, what it
#                            needs, and busybox, for that architecture
#
# Nothing is installed: packages are fetched by name and unpacked. They are kept in
# PYMLK_CACHE (default: $XDG_CACHE_HOME/pymlk/kernels), one folder for each version,
# configuration and compiler, so nothing is built twice.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${PYMLK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pymlk/kernels}
kind=${1:?usage: $0 KIND}
jobs=${JOBS:-$(nproc)}
# the tree's own make may be running us: its flags are not the kernel's
unset MAKEFLAGS MAKELEVEL MAKEOVERRIDES ARCH CROSS_COMPILE

say() { echo "  guest  $*" >&2; }
die() { echo "error: $*" >&2; exit 1; }

# Only its end, and only when it fails.
quietly() {
	"$@" >>"$log" 2>&1 && return
	tail -n 40 "$log" >&2
	die "failed: $* (more in $log)"
}

# candidate PACKAGE: the version that apt would take
candidate() {
	version=$(apt-cache "${apt[@]}" policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
	case "$version" in
	'' | '(none)') return 1 ;;
	esac
	echo "$version"
}

# own_lists NAME: fetch package lists, for us alone; the machine's stay as they are
own_lists() {
	mkdir -p "$cache/apt-$1/partial"
	apt+=(-o Dir::State::lists="$cache/apt-$1")
	# several kinds may need the same lists at a time
	exec 7>"$cache/.lock-apt-$1"
	flock 7
	# a mirror may miss one list of many; what is needed of them is looked for later
	apt-get "${apt[@]}" update >>"$log" 2>&1 || true
	flock -u 7
}

# depends PACKAGE PATTERN: its first dependency of that form, without an architecture
depends() {
	apt-cache "${apt[@]}" depends "$1" |
		sed -nE "s/^[ |]*((Pre)?Depends: )?<?($2)(:[a-z0-9]+)?>?\$/\3/p" | head -n 1
}

# unpack ROOT PACKAGE...: without installing anything
unpack() {
	root=$1
	shift
	packages=$(mktemp -d)
	chmod 755 "$packages" # apt may drop its privileges
	(cd "$packages" && quietly apt-get "${apt[@]}" download "$@")
	mkdir -p "$root"
	for package in "$packages"/*.deb; do
		dpkg -x "$package" "$root"
	done
	rm -r "$packages"
}

# The source of Debian's kernel, without what no configuration here compiles.
linux_source() {
	exec 8>"$cache/.lock-tree"
	flock 8
	[ -e "$tree/.complete" ] && return
	say "unpacking $source $version"
	rm -rf "$tree"
	unpack "$tree.packages" "$source"
	mkdir -p "$tree"
	tar -C "$tree" --strip-components=1 --exclude='*/drivers/gpu/drm/amd/*.[ch]' \
		--exclude='*/Documentation/*/*' --exclude='*/sound/*.[ch]' \
		--exclude='*/arch/*/boot/dts/*.dts*' --exclude='*/tools/testing/*' \
		-xf "$tree.packages/usr/src/$source".tar.*
	rm -r "$tree.packages"
	# UML keeps a process's vector registers in 2696 bytes, and the host refuses to take
	# less than all of them back: 11 KB on a processor with AMX.
	sed -i 's/HOST_FP_SIZE, 2696/HOST_FP_SIZE, 12288/' "$tree/arch/x86/um/user-offsets.c"
	touch "$tree/.complete"
}

find_source() {
	version=$(candidate $source) || die "apt knows no $source (apt-get update?)"
	tree=$cache/$source-$version
}

# A tree of links to the source, with kernel/ in it; kernel_tree.sh changes no other file.
in_tree() {
	[ -e "$out/tree/Makefile" ] || cp -rs "$tree" "$out/tree"
	quietly "$top/scripts/kernel_tree.sh" "$out/tree"
	tree=$out/tree
}

# build ARCH IMAGE TARGETS FRAGMENT...: from tinyconfig and these fragments
build() {
	arch=$1 image=$2 targets=$3
	shift 3
	find_source
	key=$(cat "$@" <(echo "$arch $version $(gcc -dumpfullversion)") | sha256sum | cut -c1-10)
	out=$cache/$kind-${version%%-*}-$key
	# what is built in changes with this tree
	[ -e "$out/.complete" ] && [ "$kind" != uml-builtin ] && return
	"$top/scripts/bootstrap.sh" need flex flex bison bison bc bc xz xz-utils kmod kmod
	linux_source
	say "building $kind of $source $version in $out"
	[ -e "$out/.complete" ] || rm -rf "$out"
	mkdir -p "$out/kdir"
	[ "$kind" != uml-builtin ] || in_tree
	make=(make -s -C "$tree" O="$out/kdir" ARCH="$arch" LLVM="$llvm" KBUILD_BUILD_TIMESTAMP=2025-01-01
		KBUILD_BUILD_USER=mlk KBUILD_BUILD_HOST=mlk)
	quietly "${make[@]}" tinyconfig
	(cd "$out/kdir" && quietly "$tree/scripts/kconfig/merge_config.sh" -m -O . .config "$@")
	quietly "${make[@]}" olddefconfig
	# shellcheck disable=SC2086 # a list of words
	quietly "${make[@]}" -j"$jobs" $targets
	[ -z "$image" ] || ln -sfn "kdir/$image" "$out/image"
	touch "$out/.complete"
}

# headers META ARCH [IMAGE [PACKAGE]]: Debian's headers below one root, ready to build with
headers() {
	headers=$1 suffix=$2 image=${3:-} more=${4:-}
	version=$(candidate "$headers$suffix") || die "apt knows no $headers$suffix"
	release=${headers#linux-headers-}
	out=$cache/$kind-$release
	[ -e "$out/.complete" ] && { [ -z "$image" ] || [ -e "$out/image" ]; } && return
	say "unpacking $headers $version"
	rm -rf "$out"
	mkdir -p "$out"
	common=$(depends "$headers$suffix" 'linux-headers-[^:<>]*-common')
	kbuild=$(depends "$headers$suffix" 'linux-kbuild-[^:<>]*')
	[ "$common" ] && [ "$kbuild" ] || die "$headers: no common headers or kbuild package"
	unpack "$out/root" "$headers$suffix" "$common" ${image:+"$image"} ${more:+"$more"}
	# kbuild's programs run here, whatever the headers are for
	apt=("${native[@]}")
	unpack "$out/root" "$kbuild"
	src=$out/root/usr/src
	# these name the place where dpkg would put them
	sed -i "s#/usr/src/#$src/#g" "$src/$headers/Makefile"
	for dir in "$src/$headers" "$src/$common"; do
		for tools in scripts tools; do
			ln -sfn "$out/root/usr/lib/$kbuild/$tools" "$dir/$tools"
		done
	done
	ln -s "root/usr/src/$headers" "$out/kdir"
	if [ "$image" ]; then
		ln -s "root/boot/vmlinuz-$release" "$out/image"
		quietly /sbin/depmod -b "$out/root" "$release"
	fi
	touch "$out/.complete"
}

# know ARCHITECTURE: with lists of packages for it
know() {
	apt+=(-o APT::Architectures::=amd64 -o "APT::Architectures::=$1")
	own_lists "$1"
}

# foreign ARCHITECTURE FLAVOUR: headers and kernel for another architecture
foreign() {
	know "$1"
	meta=$(depends "linux-headers-$2:$1" 'linux-headers-6[^:<>]*')
	[ "$meta" ] || die "apt knows no linux-headers-$2:$1"
	headers "$meta" ":$1" "linux-image-${meta#linux-headers-}:$1" "busybox-static:$1"
}

# python ARCHITECTURE: the folder's name has the version
python() {
	[ "$1" = amd64 ] || know "$1"
	minimal=$(depends "python3-minimal:$1" 'python3[.][0-9]+-minimal')
	[ "$minimal" ] || die "apt knows no python3-minimal:$1"
	library=lib${minimal%-minimal}
	out=$cache/$kind-$(candidate "$minimal:$1")
	[ -e "$out/.complete" ] && return
	say "unpacking $minimal for $1"
	rm -rf "$out"
	mkdir -p "$out"
	unpack "$out/root" "$minimal:$1" "$library-minimal:$1" "$library-stdlib:$1" \
		"$library-dev:$1" "libc6:$1" "libgcc-s1:$1" "libexpat1:$1" "zlib1g:$1" \
		"busybox-static:$1"
	touch "$out/.complete"
}

# The newest amd64 kernel that apt has, if it is not the one of "stock".
newest() {
	apt-cache pkgnames linux-headers-6 | sed -n 's/^linux-headers-\(.*-amd64\)$/\1/p' |
		grep -Ev -- '-(cloud|rt)-amd64$' | sort -V | tail -n 1
}

command -v apt-get >/dev/null || die "kernels are made from Debian's packages: no apt-get here"
mkdir -p "$cache"
exec 9>"$cache/.lock-$kind"
flock 9
llvm=
log=$cache/$kind.log
source=linux-source-6.1
: >"$log"
apt=(-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
# an image of a system often has no lists at all
candidate $source >/dev/null || own_lists machine
native=("${apt[@]}")
case $kind in
uml-debug) build um linux all "$here/guest.config" "$here/debug.config" ;;
x86-clang)
	"$top/scripts/bootstrap.sh" need clang clang ld.lld lld llvm-ar llvm
	llvm=1
	build x86_64 "" modules_prepare "$here/guest.config" "$here/x86.config"
	;;
busybox)
	out=$cache/busybox
	[ -e "$out/bin/busybox" ] || unpack "$out" busybox-static
	;;
source)
	find_source
	linux_source
	out=$tree
	;;
uml-fast) build um linux all "$here/guest.config" ;;
uml-builtin) build um linux linux "$here/guest.config" "$here/builtin.config" ;;
x86-debug)
	build x86_64 arch/x86/boot/bzImage "bzImage modules" \
		"$here/guest.config" "$here/x86.config" "$here/debug.config"
	;;
stock)
	meta=$(depends linux-headers-amd64 'linux-headers-6[^:<>]*') || true
	[ "$meta" ] || die "apt knows no linux-headers-amd64 (apt-get update?)"
	headers "$meta" "" "linux-image-${meta#linux-headers-}"
	;;
stock-new)
	release=$(newest)
	headers "linux-headers-$release" "" "linux-image-$release-unsigned"
	;;
stock-arm64) foreign arm64 arm64 ;;
stock-arm) foreign armhf armmp ;;
python-*) python "${kind#python-}" ;;
*) die "no such kernel: $kind" ;;
esac
echo "$out"
