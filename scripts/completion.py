# SPDX-License-Identifier: MIT
"""Write pymlk/cli/completion.bash from the command's own parser."""

import argparse
import sys
from pathlib import Path

import shtab

from pymlk.cli.parser import make_parser

LICENCE = "# SPDX-License-Identifier: MIT\n"
# What an argument's name in the help says about what it may be completed with.
KINDS = {
    "FILE": shtab.FILE,
    "MODEL": shtab.FILE,
    "POLICY": shtab.FILE,
    "FIELD": shtab.FILE,
    "LOG": shtab.FILE,
    "DIR": shtab.DIRECTORY,
}


def mark(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Tell shtab which arguments are files; the command itself never imports it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                mark(command)
        elif action.metavar in KINDS:
            action.complete = KINDS[action.metavar]  # type: ignore[attr-defined]
    return parser


def main() -> int:
    """Write the file, or with --check only compare it."""
    path = Path(__file__).parent.parent / "pymlk" / "cli" / "completion.bash"
    script = LICENCE + shtab.complete(mark(make_parser()), shell="bash")
    if "--check" in sys.argv[1:]:
        return 0 if path.read_text() == script else 1
    path.write_text(script)
    return 0


if __name__ == "__main__":
    sys.exit(main())
