# SPDX-License-Identifier: MIT
"""The options of ``pymlk run``, and a reader of them for a board that boots.

argparse takes a slow board longer than all else that a run imports, so it reads only
what is not plain: help, mistakes, abbreviations. It is made from the same table.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn


def _expected(text: str, what: str) -> NoReturn:
    from argparse import ArgumentTypeError

    raise ArgumentTypeError(f"{text} found, {what} expected")


def positive(text: str) -> float:
    """Seconds, or whatever else is more than nothing.

    Parameters
    ----------
    text : str
        A word of the command line.

    Returns
    -------
    float
        Above 0, below 1e9.

    Raises
    ------
    ValueError, argparse.ArgumentTypeError
        It is something else.

    Thread safety
    -------------
    Pure function.
    """
    value = float(text)
    if not 0 < value < 1e9:
        _expected(text, "a positive number")
    return value


def count(text: str) -> int:
    """How many of something.

    Parameters
    ----------
    text : str
        A word of the command line.

    Returns
    -------
    int
        1 or more.

    Raises
    ------
    ValueError, argparse.ArgumentTypeError
        It is something else.

    Thread safety
    -------------
    Pure function.
    """
    value = int(text)
    if value < 1:
        _expected(text, "1 or more")
    return value


def _record_size(text: str) -> int:
    value = int(text)
    if not 128 <= value <= 1 << 21:
        _expected(text, f"128 to {1 << 21}")
    return value


JSON: dict[str, Any] = {"action": "store_true", "help": "print JSON for machines"}
ROOT: dict[str, Any] = {
    "default": "/",
    "metavar": "DIR",
    "help": "prefix of all attribute paths",
}
STATE_DIR: dict[str, Any] = {
    "metavar": "DIR",
    "help": "where the knob journal is kept (default: $PYMLK_STATE_DIR, else "
    "/run/pymlk for root, else $XDG_RUNTIME_DIR/pymlk)",
}
LEARNT_DIR: dict[str, Any] = {
    "metavar": "DIR",
    "help": "where what was learnt is kept (default: $PYMLK_LEARNT_DIR, else "
    "/var/lib/pymlk for root, else $XDG_STATE_HOME/pymlk)",
}
# What argparse's `add_argument` is given for each.
RUN: dict[str, dict[str, Any]] = {
    "--apply": {
        "action": "store_true",
        "help": "let the model change knobs (they are restored at exit)",
    },
    "--mode": {
        "choices": ("learning", "collaboration", "recommendation", "always"),
        "help": "with --apply, how far the measured gain over the default may lead: to "
        "nothing, to half of the time, to all but a tenth of it (the default); "
        "`always` follows the model at once and measures nothing",
    },
    "--quiet": {
        "action": "store_true",
        "help": "tell of changes only, in the log: for services",
    },
    "--seconds": {
        "type": positive,
        "metavar": "N",
        "help": "stop after so many seconds",
    },
    "--decisions": {
        "type": count,
        "metavar": "N",
        "help": "stop after so many decisions",
    },
    "--record": {
        "metavar": "DIR",
        "help": "record every decision in DIR/POLICY, for `pymlk replay`",
    },
    "--record-size": {
        "type": _record_size,
        "metavar": "KIB",
        "default": 8192,
        "help": "most KiB of a record (default: 8192); the oldest decisions go first",
    },
    "--root": ROOT,
    "--state-dir": STATE_DIR,
    "--learnt-dir": LEARNT_DIR,
}


class Options:
    """What argparse would call a namespace.

    Parameters
    ----------
    values : dict
        The attributes.

    Thread safety
    -------------
    None.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _field(name: str) -> str:
    return name[2:].replace("-", "_")


def read_run(words: Sequence[str]) -> Options | None:
    """Read the arguments of ``run`` if they are plain: whole options, right values.

    Parameters
    ----------
    words : sequence of str
        What follows ``run``.

    Returns
    -------
    Options or None
        As argparse would give them; None if it had better look itself.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> read_run(["--seconds", "6", "board.plan"]).seconds
    6.0
    >>> read_run(["--sec", "6", "board.plan"]) is None
    True
    """
    known = {"--json": JSON, **RUN}
    values = {
        _field(name): about.get("default", False if "action" in about else None)
        for name, about in known.items()
    }
    policies: list[str] = []
    together = True
    rest = iter(words)
    for word in rest:
        about = known.get(word)
        if about is None:
            if word.startswith("-") or not together:
                return None
            policies.append(word)
            continue
        together = not policies
        if "action" in about:
            values[_field(word)] = True
            continue
        text = next(rest, "-")
        try:
            value = about.get("type", str)(text)
        except Exception:  # argparse says what is wrong with it
            return None
        if text.startswith("-") or value not in about.get("choices", (value,)):
            return None
        values[_field(word)] = value
    if not policies:
        return None
    return Options({"module": "run", "policies": policies, **values})
