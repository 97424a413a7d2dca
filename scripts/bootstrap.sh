#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the virtual environment in which everything is built and run.
#
#   scripts/bootstrap.sh venv DIR          a venv in DIR, able to build extensions
#   scripts/bootstrap.sh need CMD PKG ...  Debian package PKG for each missing CMD;
#                                          only a warning where it cannot be had
#
# Needs a Python >= 3.11 and a C compiler. What Debian and Ubuntu split off from
# Python (venv, headers) is installed by apt-get when we may; otherwise the exact
# command is printed.

set -eu

say() { echo "  setup  $*" >&2; }
die() { echo "error: $*" >&2; exit 1; }

may_install() {
	command -v apt-get >/dev/null || return 1
	[ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Packages that could not be installed are the caller's problem: status 1.
install() {
	may_install || return 1
	say "apt-get install $*"
	log=$(mktemp)
	# tests run side by side, and apt-get does not wait for another one
	exec 9>>"${TMPDIR:-/tmp}/pymlk-apt.$(id -u)"
	flock 9
	export DEBIAN_FRONTEND=noninteractive
	as_root apt-get -qq install -y --no-install-recommends "$@" >"$log" 2>&1 </dev/null ||
		{
			# an old package list is the usual reason
			as_root apt-get -qq update >"$log" 2>&1 </dev/null &&
				as_root apt-get -qq install -y --no-install-recommends "$@" \
					>>"$log" 2>&1 </dev/null
		} || { cat "$log" >&2; rm -f "$log"; return 1; }
	rm -f "$log"
	flock -u 9
}

find_python() {
	for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
		path=$(command -v "$name") || continue
		"$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
			continue
		# the real path: neither a version manager's shim nor an active venv
		"$path" -c 'import os, sys
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))'
		return
	done
	die "no Python >= 3.11 found (tried python3, python3.14 ... python3.11);" \
		"on Debian 12 or later and Ubuntu 24.04 or later: apt-get install python3"
}

has_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

has_headers() {
	"$1" -c 'import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not os.path.exists(header))'
}

has_compiler() {
	echo '#include <stdio.h>' | ${CC:-cc} -E - >/dev/null 2>&1
}

make_venv() {
	python=$(find_python)
	version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
	missing=
	has_venv "$python" || missing="$missing $version-venv"
	has_headers "$python" || missing="$missing $version-dev"
	has_compiler || missing="$missing gcc libc6-dev"
	if [ -n "$missing" ]; then
		# shellcheck disable=SC2086 # a list of words
		install $missing || die "needed to build:$missing. Type:

    sudo apt-get update && sudo apt-get install$missing
"
		has_venv "$python" && has_headers "$python" && has_compiler ||
			die "$python still lacks venv, Python.h or a compiler" \
				"(it may not be the system's Python: try PYTHON=/usr/bin/python3)"
	fi
	say "virtual environment $1 ($("$python" --version), $python)"
	"$python" -m venv --clear "$1"
}

case "${1:-}" in
venv)
	make_venv "$2"
	;;
need)
	shift
	missing=
	while [ $# -gt 1 ]; do
		command -v "$1" >/dev/null || missing="$missing $2"
		shift 2
	done
	[ -z "$missing" ] && exit 0
	# shellcheck disable=SC2086 # a list of words
	install $missing ||
		say "not installed:$missing; what needs it is skipped." \
			"sudo apt-get install$missing"
	;;
*)
	die "usage: $0 venv DIR | need CMD PACKAGE ..."
	;;
esac
