# SPDX-License-Identifier: MIT
SUMMARY = "Kernel module: models that advise kernel subsystems"
DESCRIPTION = "Programs in the kernel and models in user space recommend, a guard decides"
SECTION = "kernel"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://../LICENSES/GPL-2.0-only.txt;md5=b234ee4d69f5fce4486a80fdaf4a4263"

SRC_URI = ""

inherit externalsrc module

EXTERNALSRC = "${@os.path.abspath(d.getVar('THISDIR') + '/../../../../kernel')}"

EXTRA_OEMAKE += "-C ${STAGING_KERNEL_DIR} M=${S} CONFIG_MLK_SAMPLES=n"

RPROVIDES:${PN} += "kernel-module-mlk"
