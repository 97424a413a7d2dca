# SPDX-License-Identifier: MIT
################################################################################
#
# python-pymlk
#
################################################################################

PYTHON_PYMLK_VERSION = 0.1.0
PYTHON_PYMLK_SITE = $(BR2_EXTERNAL_PYMLK_PATH)/../..
PYTHON_PYMLK_SITE_METHOD = local
PYTHON_PYMLK_SETUP_TYPE = setuptools
PYTHON_PYMLK_LICENSE = MIT, MIT or GPL-2.0 (engine)
PYTHON_PYMLK_LICENSE_FILES = LICENSES/MIT.txt LICENSES/GPL-2.0-only.txt
PYTHON_PYMLK_DEPENDENCIES = host-python-cython
# a defconfig has what is off; what it does not name is on
PYTHON_PYMLK_ENV = PYMLK_CONFIG=$(@D)/buildroot.config

define PYTHON_PYMLK_CONFIGURE
	$(HOST_DIR)/bin/python3 $(@D)/scripts/defconfig.py \
		$(call qstrip,$(BR2_PACKAGE_PYTHON_PYMLK_CONFIG)) \
		$(@D)/buildroot.config
endef
PYTHON_PYMLK_PRE_BUILD_HOOKS += PYTHON_PYMLK_CONFIGURE

define PYTHON_PYMLK_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 755 $(@D)/packaging/busybox/S60pymlk \
		$(TARGET_DIR)/etc/init.d/S60pymlk
endef

define PYTHON_PYMLK_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 644 -t $(TARGET_DIR)/usr/lib/systemd/system \
		$(@D)/packaging/systemd/pymlk@.service \
		$(@D)/packaging/systemd/pymlk-proxy@.service
endef

$(eval $(python-package))
