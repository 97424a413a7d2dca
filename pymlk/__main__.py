# SPDX-License-Identifier: MIT
"""``python -m pymlk`` is the command ``pymlk``."""

import sys

from .cli import main

sys.exit(main())
