# SPDX-License-Identifier: MIT
"""What boots guests runs here, what is in inside/ runs in them."""

import os

IN_GUEST = "GUEST_KERNEL" in os.environ
collect_ignore = [] if IN_GUEST else ["inside"]
collect_ignore_glob = ["test_*.py"] if IN_GUEST else []
