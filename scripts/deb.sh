#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Debian packages: built, checked by lintian, installed, tested, upgraded and removed in
# a tree that debootstrap makes.
#
#   scripts/deb.sh source      the source package alone, in build/deb
#   scripts/deb.sh try         what was built before: installed, tested, upgraded, removed
#   scripts/deb.sh             all of it; the packages end in dist/
#
# The tree (Debian 13: older ones lack Cython 3) is made once, as a folder of
# PYMLK_CACHE; each use has a copy of it that goes again. Needs root.

set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cache=${PYMLK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pymlk/kernels}
work=$top/build/deb
suite=trixie
needs="build-essential debhelper dh-python dh-dkms dkms python3-all-dev cython3
	python3-setuptools python3-flatbuffers python3-msgspec lintian
	linux-headers-amd64 kmod systemd-standalone-sysusers"

say() { echo "  deb    $*" >&2; }
die() { echo "error: $*" >&2; exit 1; }
log=$work/log
quietly() {
	"$@" >>"$log" 2>&1 && return
	tail -n 60 "$log" >&2
	die "failed: $* (more in $log)"
}

source_package() {
	rm -rf "$work/source"
	mkdir -p "$work/source"
	: >"$log"
	python=$top/.venv/bin/python
	version=$(sed -n 's/^version = //p' "$top/setup.cfg")
	SOURCE_DATE_EPOCH=$("$python" -P "$top/scripts/package.py" epoch)
	export SOURCE_DATE_EPOCH
	(cd "$top" && quietly "$python" -P scripts/package.py sdist "$work/source")
	(
		cd "$work/source"
		mv "pymlk-$version.tar.gz" "pymlk_$version.orig.tar.gz"
		tar -xf "pymlk_$version.orig.tar.gz"
		cp -r "$top/packaging/debian" "pymlk-$version/debian"
		cd "pymlk-$version"
		quietly dpkg-source -b .
	)
	say "build/deb/source/pymlk_$version-1.dsc"
}

# One tree for all; complete only when it says so.
base() {
	tree=$cache/debian-$suite
	[ -e "$tree/.complete" ] && return
	say "debootstrap $suite (minutes)"
	rm -rf "$tree"
	quietly debootstrap --variant=minbase "$suite" "$tree" http://deb.debian.org/debian
	cp /etc/resolv.conf "$tree/etc/resolv.conf"
	root=$tree
	mount -t proc proc "$root/proc"
	# shellcheck disable=SC2086 # a list of words
	in_tree apt-get -q -y install --no-install-recommends $needs
	in_tree apt-get clean
	umount "$root/proc"
	touch "$tree/.complete"
}

# fresh NAME: a copy of the tree in $root
fresh() {
	root=$work/$1
	gone "$root"
	mkdir -p "$root"
	cp -a "$tree/." "$root"
	mount -t proc proc "$root/proc"
	mounted+=("$root")
}

gone() {
	! mountpoint -q "$1/proc" || umount "$1/proc"
	rm -rf "$1"
}

finish() {
	for root in "${mounted[@]}"; do
		gone "$root"
	done
}

in_tree() {
	quietly chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
		LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

build() {
	fresh build
	cp -r "$work/source" "$root/build"
	say "dpkg-buildpackage"
	in_tree sh -c "cd /build/pymlk-$version && dpkg-buildpackage -b -us -uc"
	say "lintian"
	in_tree sh -c 'cd /build && lintian --allow-root --fail-on error,warning \
		--suppress-tags initial-upload-closes-no-bugs *.changes *.dsc'
	mkdir -p "$top/dist" "$work/debs"
	rm -f "$work/debs"/*
	cp "$root"/build/*.deb "$work/debs"
	cp "$root"/build/*.deb "$top/dist"
}

# All files that are there, but for what dpkg, apt, ldconfig and DKMS (a key to sign
# with, made once) keep for themselves.
files() {
	(cd "$root" && find . -xdev -not -path './proc/*' -not -path './tmp/*' \
		-not -path './var/cache/*' -not -path './var/log/*' \
		-not -path './var/lib/dpkg/*' -not -path './var/lib/dkms/mok.*' -not -path './debs*' -not -name '__pycache__' \
		-not -name '*.pyc' -not -path './etc/*-' | LC_ALL=C sort)
}

try() {
	fresh try
	files >"$work/before"
	cp -r "$work/debs" "$root/debs"
	say "install; DKMS builds the module"
	in_tree sh -c 'dpkg -i /debs/python3-pymlk_*.deb /debs/pymlk-tools_*.deb /debs/mlk-dkms_*.deb'
	in_tree sh -c 'dkms status | grep "^mlk/1.0.*installed"'
	in_tree sh -c 'release=$(ls /lib/modules | head -n 1) && modinfo -k $release mlk'
	say "test"
	in_tree sh -c 'cd /tmp && pymlk --version && pymlk attrs "/proc/loadavg[0]" &&
		pymlk inspect --kconfig /usr/lib/python3/dist-packages/pymlk/models/readahead/model.tflite &&
		pymlk compile /usr/lib/python3/dist-packages/pymlk/models/readahead/policy.toml -o r.plan &&
		mkdir -p fake/sys/block/vda/queue fake/proc &&
		echo "9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9" >fake/sys/block/vda/stat &&
		echo 128 >fake/sys/block/vda/queue/read_ahead_kb &&
		printf "pgfault 1\npgmajfault 2\nworkingset_refault_file 3\n" >fake/proc/vmstat &&
		pymlk run r.plan --decisions 3 --root fake'
	in_tree sh -c 'getent passwd pymlk && getent group mlk'
	say "upgrade"
	for deb in "$root"/debs/*.deb; do
		quietly dpkg-deb -R "$deb" "$root/new"
		sed -i 's/^\(Version: .*\)-1$/\1-2/' "$root/new/DEBIAN/control"
		quietly dpkg-deb -b "$root/new" "${deb%.deb}.new"
		rm -r "$root/new"
	done
	in_tree sh -c 'dpkg -i /debs/*.new && dpkg-query -W -f "\${Version}\n" mlk-dkms | grep -e -2 &&
		dkms status | grep "^mlk/1.0.*installed"'
	say "remove"
	in_tree dpkg -P mlk-dkms pymlk-tools python3-pymlk
	rm -rf "$root/debs" "$root/tmp/"*
	files >"$work/after"
	diff "$work/before" "$work/after" >"$work/left" ||
		{ cat "$work/left"; die "something is left behind"; }
}

mounted=()
trap finish EXIT
[ "$(id -u)" = 0 ] || [ "${1:-}" = source ] || die "needs root, for chroot"
mkdir -p "$work"
"$top/scripts/bootstrap.sh" need dpkg-source dpkg-dev debootstrap debootstrap
if [ "${1:-}" != try ]; then
	source_package
	[ "${1:-}" != source ] || exit 0
fi
base
[ "${1:-}" = try ] || build
try
say "dist/: $(cd "$work/debs" && echo *.deb)"
