# SPDX-License-Identifier: MIT
"""``pymlk completion``: print the script that ``make completion`` generated."""

from __future__ import annotations

import argparse
import json
import os


def main(options: argparse.Namespace) -> int:
    """Print the script."""
    path = os.path.join(os.path.dirname(__file__), "completion.bash")
    with open(path, encoding="utf-8") as file:
        script = file.read()
    print(json.dumps({"bash": script}) if options.json else script, end="")
    return 0
