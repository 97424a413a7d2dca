# SPDX-License-Identifier: MIT
# Everything happens in .venv and build/; `make help` lists the targets.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.NOTPARALLEL:

VENV    := .venv
PY      := $(VENV)/bin/python
STAMPS  := $(VENV)/stamps
CONFIG  ?= .config
SECONDS ?= 10
POLICY  ?= readahead
ARCH    ?= x86_64
ARGS    ?=

# What is installed in .venv is what runs: neither the user's packages nor the source
# tree, which the current folder would bring into every Python.
export PYTHONNOUSERSITE := 1
export PYTHONSAFEPATH := 1
unexport PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# only errors: which packages come is said by the lines of this file
PIP := $(PY) -m pip -qq --no-input
say = @echo "  $(1)"
# boots a kernel and runs the tests that are for inside; ARGS="-k owner" for some
GUEST = scripts/guest/tests.sh

# Whatever ends in the wheel. The list is a file of its own, so that adding or
# removing one (or .config), or PYMLK_DEBUG, also rebuilds.
SOURCES := $(sort $(wildcard setup.py setup.cfg pyproject.toml README.md $(CONFIG)) \
	$(shell find pymlk kernel models -name __pycache__ -prune -o -type f \
		\( -name '*.py' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \
		-o -name '*.c' -o -name '*.h' -o -name '*.toml' -o -name '*.tflite' \
		-o -name '*.mlk' -o -name '*.bash' -o -name '*.md' -o -name py.typed \) -print))
LIST := $(SOURCES) debug=$(PYMLK_DEBUG)
$(shell mkdir -p build; echo '$(LIST)' | cmp -s - build/sources.list || \
	echo '$(LIST)' >build/sources.list)

# A moved checkout has a broken .venv: its scripts name the old place.
ifneq ($(shell cat $(STAMPS)/venv 2>/dev/null),$(CURDIR))
$(STAMPS)/venv: FORCE
endif

.PHONY: help
help: ## list the targets
	@echo "Targets (variables: PYTHON=, SECONDS=10, POLICY=readahead, ARGS=, CONFIG=.config):"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | \
		while IFS='	' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

.PHONY: run
run: $(STAMPS)/package $(STAMPS)/tflite ## build, then run the policy in shadow mode under a load
	@$(PY) scripts/demo.py --seconds $(SECONDS) \
		$(VENV)/bin/pymlk run $(POLICY) --seconds $(SECONDS) $(ARGS)

.PHONY: test
test: $(STAMPS)/package $(STAMPS)/tests ## everything a machine can check: style, then all tests (ARGS="-n 0 -k guard")
	@scripts/style.sh
	$(call say,test   pytest)
	@$(PY) -m pytest --numprocesses=logical $(ARGS)

.PHONY: exact
exact: $(STAMPS)/package $(STAMPS)/tests ## all test models against the references (ARGS="--rows 1000 --jobs 2 --write")
	@$(PY) tests/exactness.py $(ARGS)

.PHONY: bench
bench: $(STAMPS)/package $(STAMPS)/bench ## all benchmarks (ARGS="--rounds 50 --json FILE")
	@$(PY) benchmarks $(ARGS)

.PHONY: table
table: $(STAMPS)/package $(STAMPS)/tests ## KML's experiment: readahead on slow disks (root, 45 minutes, a quiet machine; ARGS="--seeds 1")
	@scripts/bootstrap.sh need fio fio db_bench rocksdb-tools
	@$(PY) benchmarks/readahead/table.py --work build/readahead/work $(ARGS)

.PHONY: build
build: $(STAMPS)/package ## build the extensions and install pymlk into .venv

.PHONY: clib
clib: ## libmlk.a, mlk.h and an example in build/clib (CC=, CROSS_COMPILE=)
	@$(MAKE) -C kernel/engine O=$(CURDIR)/build/clib CONFIG=$(abspath $(CONFIG)) \
		lib example size

.PHONY: firmware
firmware: $(STAMPS)/package $(STAMPS)/kconfig $(STAMPS)/cross ## an image with pymlk, booted by QEMU (ARCH=x86_64|arm64|arm, ARGS="CONFIG= POLICY= MODELS= ROUNDS=3 CLOCK=instructions")
	$(call say,image  build/firmware/$(ARCH))
	@$(PY) scripts/firmware.py build $(ARCH) $(ARGS)
	$(call say,boot   $(ARCH))
	@$(PY) scripts/firmware.py boot $(ARCH) $(ARGS)

.PHONY: sbom
sbom: $(STAMPS)/tests ## what is in an image, as SPDX (ARCH=), after make firmware
	@$(PY) scripts/sbom.py $(ARCH)

.PHONY: deb
deb: $(STAMPS)/build ## Debian packages: built, checked, installed, upgraded and removed in a tree (root)
	@scripts/deb.sh

.PHONY: wheels
wheels: $(STAMPS)/build $(STAMPS)/cross ## wheels for Debian's Python on x86-64, arm64 and armhf, in dist/
	@for arch in amd64 arm64 armhf; do PYMLK_CONFIG=$(CONFIG) $(PY) scripts/package.py cross $$arch dist || exit 1; done

.PHONY: kernel
kernel: $(STAMPS)/package ## mlk.ko and samples for Debian's kernel (KDIR=/lib/modules/VERSION/build)
	@scripts/guest/module.sh $(if $(KDIR),local,stock)

.PHONY: guest
guest: $(STAMPS)/package $(STAMPS)/tests ## all tests of mlk.ko in User-Mode Linux with KASAN, lockdep, kmemleak
	@$(GUEST) uml-debug $(ARGS)

.PHONY: guest-stock
guest-stock: $(STAMPS)/package $(STAMPS)/tests ## the same in Debian's kernel, emulated (KERNEL=stock-new: its newest)
	@$(GUEST) $(or $(KERNEL),stock) $(ARGS)

.PHONY: guest-debug
guest-debug: $(STAMPS)/package $(STAMPS)/tests ## the same in an x86 SMP kernel with all checkers (builds it: half an hour)
	@$(GUEST) x86-debug $(ARGS)

.PHONY: guest-builtin
guest-builtin: $(STAMPS)/package ## mlk built into a kernel in its own tree, booted, with its KUnit suites (builds it: minutes)
	@scripts/guest/run.sh uml-builtin build/guest/uml-builtin scripts/guest/builtin.sh

.PHONY: docs
docs: $(STAMPS)/package ## write docs/operators.md anew
	@$(PY) scripts/operators.py

.PHONY: style
style: $(STAMPS)/package $(STAMPS)/tests ## formatters (check only), linters, type checks
	@scripts/style.sh $(ARGS)

.PHONY: fuzz
fuzz: $(STAMPS)/package $(STAMPS)/tests ## fuzz engine and compiler, each for SECONDS=10
	@scripts/bootstrap.sh need clang "clang libclang-rt-dev"
	@tests/fuzz/run.sh $(SECONDS)
	@$(PIP) install 'atheris>=2.3' || echo "  fuzz   no atheris for this Python: compiler not fuzzed"
	@! $(PY) -c 'import atheris' 2>/dev/null || \
		$(PY) tests/fuzz/fuzz_schema.py -max_total_time=$(SECONDS) build/fuzz/schema

.PHONY: defconfig
defconfig: $(STAMPS)/kconfig ## .config = defaults (CONFIG_FROM=configs/tiny_defconfig: that one)
	@$(PY) scripts/kconfig.py defconfig $(CONFIG) $(CONFIG_FROM)

.PHONY: menuconfig
menuconfig: $(STAMPS)/kconfig ## choose operators and parts in a menu
	@$(PY) scripts/kconfig.py menuconfig $(CONFIG)

.PHONY: size
size: $(STAMPS)/package $(STAMPS)/kconfig ## what each option costs in bytes (ARGS=PYMLK_LEARN: that one); minutes, once
	@$(PY) scripts/size.py $(ARGS)

.PHONY: savedefconfig
savedefconfig: $(STAMPS)/kconfig ## write what differs from the defaults to ./defconfig
	@$(PY) scripts/kconfig.py savedefconfig $(CONFIG) defconfig

.PHONY: sdist
sdist: $(STAMPS)/build ## source archive in dist/
	$(call say,sdist  dist/)
	@$(PY) scripts/package.py sdist dist

.PHONY: wheel
wheel: $(STAMPS)/build ## wheel in dist/
	$(call say,wheel  dist/)
	@PYMLK_CONFIG=$(CONFIG) $(PY) scripts/package.py wheel dist

.PHONY: clean
clean: ## remove .venv, build/, dist/ and caches; keeps .config
	rm -rf $(VENV) build dist pymlk.egg-info pymlk/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: FORCE
FORCE:

$(STAMPS)/venv:
	@scripts/bootstrap.sh venv $(VENV)
	@mkdir -p $(STAMPS)
	@echo $(CURDIR) >$@

# What pyproject.toml asks for, so that the build needs no isolation (and can
# reuse its objects).
$(STAMPS)/build: $(STAMPS)/venv pyproject.toml
	$(call say,pip    build requirements)
	@$(PY) scripts/package.py requires build >build/requires-build.txt
	@$(PIP) install -r build/requires-build.txt
	@touch $@

$(STAMPS)/package: $(STAMPS)/build build/sources.list $(SOURCES)
	$(call say,build  pymlk)
	@PYMLK_CONFIG=$(CONFIG) $(PIP) install --no-build-isolation .
# so that `import pymlk` also works from inside the checkout, where Python finds
# the sources first
	@rm -f pymlk/*.so && cp build/lib.*/pymlk/*.so pymlk/
	@touch $@

$(STAMPS)/tflite: $(STAMPS)/venv setup.cfg
	$(call say,pip    extra tflite)
	@$(PY) scripts/package.py requires tflite >build/requires-tflite.txt
	@$(PIP) install -r build/requires-tflite.txt
	@touch $@

$(STAMPS)/tests: $(STAMPS)/venv $(STAMPS)/kconfig $(STAMPS)/cross tests/requirements.txt
	$(call say,pip    test requirements)
	@scripts/bootstrap.sh need ip iproute2 strace strace losetup mount clang clang \
		systemd-analyze systemd setpriv util-linux \
		g++ g++ sparse sparse
	@$(PIP) install -r tests/requirements.txt
	@touch $@

# compilers for ARM and what runs their programs; pulls in no library of another kind
$(STAMPS)/cross: $(STAMPS)/venv
	@scripts/bootstrap.sh need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu \
		arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf \
		qemu-aarch64 "qemu-user libc6-dev-arm64-cross libc6-dev-armhf-cross" \
		qemu-system-x86_64 qemu-system-x86 qemu-system-aarch64 qemu-system-arm \
		modprobe kmod
	@touch $@

$(STAMPS)/bench: $(STAMPS)/tests benchmarks/requirements.txt
	$(call say,pip    rivals for the benchmarks)
	@$(PIP) install -r benchmarks/requirements.txt
	@touch $@

$(STAMPS)/kconfig: $(STAMPS)/venv
	$(call say,pip    esp-idf-kconfig)
	@$(PIP) install 'esp-idf-kconfig>=3.14,<4'
	@touch $@
