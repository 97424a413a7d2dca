# SPDX-License-Identifier: MIT
"""``pymlk restore``: put knobs back that a killed run has left changed."""

from __future__ import annotations

import argparse
import json

from ..journal import restore_all
from . import OK, PARTLY, complain


def main(options: argparse.Namespace) -> int:
    """Restore, and say what was done."""
    done, failed = restore_all(options.state_dir)
    if options.json:
        print(json.dumps({"restored": done, "failed": failed}))
    else:
        for line in done or ["nothing to restore"] if not failed else done:
            print(line)
        for line in failed:
            complain(line)
    return PARTLY if failed else OK
