# SPDX-License-Identifier: MIT
SUMMARY = "Models that help the kernel decide"
DESCRIPTION = "Attributes in, a small int8 model, a guarded recommendation out"
SECTION = "devel/python"
LICENSE = "MIT & (GPL-2.0-only | MIT)"
LIC_FILES_CHKSUM = "file://LICENSES/MIT.txt;md5=10e41da097cca4f750270a8188b7380c"

DEPENDS = "python3-cython-native"

SRC_URI = ""

inherit externalsrc python_setuptools_build_meta systemd

# this layer lies in pymlk's own tree
EXTERNALSRC = "${@os.path.abspath(d.getVar('THISDIR') + '/../../../..')}"
EXTERNALSRC_BUILD = "${EXTERNALSRC}"

# a defconfig of pymlk's: what goes in
PYMLK_DEFCONFIG ?= "${S}/configs/board_defconfig"

SYSTEMD_SERVICE:${PN} = "pymlk@.service"
SYSTEMD_AUTO_ENABLE = "disable"

do_configure:append() {
    python3 ${S}/scripts/defconfig.py ${PYMLK_DEFCONFIG} ${WORKDIR}/pymlk.config
}

do_compile:prepend() {
    export PYMLK_CONFIG=${WORKDIR}/pymlk.config
}

do_install:append() {
    install -D -m 0755 ${S}/packaging/busybox/S60pymlk ${D}${sysconfdir}/init.d/S60pymlk
    install -D -m 0644 ${S}/packaging/systemd/pymlk@.service ${D}${systemd_system_unitdir}/pymlk@.service
}

RDEPENDS:${PN} = "\
    python3-core \
    python3-fcntl \
    python3-io \
    python3-json \
"
