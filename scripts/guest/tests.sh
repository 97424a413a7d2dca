#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds the modules for a kernel, boots it, and runs tests/guest/inside and
# tests/proxy there.
#
#   scripts/guest/tests.sh KIND [ARGUMENT OF PYTEST...]      KIND: see kernel.sh
#
#   GUEST_CYCLES=10000   models that are registered and unregistered
#   GUEST_HAMMER=300     seconds of hostile writers
#   LIMIT=3600           seconds for all

set -eu
kind=${1:?usage: $0 KIND [ARGUMENT OF PYTEST...]}
shift
cd "$(dirname "$0")/../.."
scripts/guest/module.sh "$kind" >/dev/null
case " $* " in
*" tests/"*) ;;
*) set -- "$@" tests/guest/inside tests/proxy ;;
esac
LIMIT=${LIMIT:-3600} exec scripts/guest/run.sh "$kind" "build/guest/$kind" \
	env GUEST_CYCLES="${GUEST_CYCLES:-10000}" GUEST_HAMMER="${GUEST_HAMMER:-300}" \
	python -m pytest -p no:cacheprovider -q --tb=short "$@"
