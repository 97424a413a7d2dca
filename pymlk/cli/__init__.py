# SPDX-License-Identifier: MIT
"""The command ``pymlk``: which module runs which command, and how it ends.

Each command's module is imported only when it runs.
"""

from __future__ import annotations

import os
import sys

from ..errors import MlkError
from .plain import read_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

OK = 0
PARTLY = 1
USAGE = 2
BAD_INPUT = 3
SYSTEM = 4
INTERRUPTED = 130


def complain(error: object) -> None:
    """Print an error for people on standard error.

    Parameters
    ----------
    error : object
        Its text is printed.

    Thread safety
    -------------
    As of `print`.
    """
    print(f"pymlk: {error}", file=sys.stderr)


def _read(words: list[str]) -> Any:
    options = read_run(words[1:]) if words[:1] == ["run"] else None
    if options is not None:
        return options
    from .parser import make_parser

    return make_parser(*words[:1]).parse_args(words)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str or None
        Arguments without the program's name; None takes the process's own.

    Returns
    -------
    int
        The exit code; see ``pymlk --help``.

    Thread safety
    -------------
    The main thread only (signals).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # a workload's own options are none of ours
    end = words.index("--") if words[:1] == ["collect"] and "--" in words else None
    options = _read(words[:end])
    options.command = words[end + 1 :] if end is not None else []
    try:
        command = __import__(f"{__name__}.{options.module}", fromlist=["main"])
        code: int = command.main(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # whoever read the output is gone, as in `pymlk run ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except ModuleNotFoundError as error:
        complain(f"not in this installation: {error.name}")
        return BAD_INPUT
    except OSError as error:
        # AttrError and JournalError name their path themselves
        is_plain = type(error).__module__ == "builtins" and error.filename
        complain(f"{error.filename}: {error.strerror}" if is_plain else error)
        return SYSTEM
    except (MlkError, ValueError) as error:
        complain(error)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
