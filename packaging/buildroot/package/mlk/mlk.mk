# SPDX-License-Identifier: MIT
################################################################################
#
# mlk
#
################################################################################

MLK_VERSION = 1.0
MLK_SITE = $(BR2_EXTERNAL_PYMLK_PATH)/../../kernel
MLK_SITE_METHOD = local
MLK_LICENSE = GPL-2.0
MLK_MODULE_MAKE_OPTS = CONFIG_MLK_SAMPLES=n

$(eval $(kernel-module))
$(eval $(generic-package))
