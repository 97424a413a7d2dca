# SPDX-License-Identifier: MIT
include $(sort $(wildcard $(BR2_EXTERNAL_PYMLK_PATH)/package/*/*.mk))
