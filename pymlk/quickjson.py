# SPDX-License-Identifier: MIT
"""JSON for the loop: the C functions behind `json`, without its import.

That brings `re` and `enum` and compiles expressions: on a slow board a tenth of a
second before the first decision, and a megabyte afterwards.
"""

from __future__ import annotations

from _json import encode_basestring_ascii as _string
from _json import make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["dumps", "loads"]


class _Rules:
    """What a scanner looks up: those of `json.JSONDecoder()`."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = parse_constant = float
    parse_int = int


def _unknown(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} found, expected what JSON has")


# any object with these attributes, whatever its stub says
_scan = make_scanner(_Rules)  # type: ignore[arg-type]


def loads(data: bytes) -> Any:
    """Read a text that is one JSON value.

    Parameters
    ----------
    data : bytes
        UTF-8.

    Returns
    -------
    Any
        As of `json.loads`; the caller's.

    Raises
    ------
    ValueError
        If it is none.
    RecursionError
        If it is too deep.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> loads(b'{"values": [8, 1.5, null]}')
    {'values': [8, 1.5, None]}
    """
    text = data.decode().strip(" \t\n\r")
    try:
        value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    if end != len(text):
        raise ValueError(f"more than one JSON value: character {end}")
    return value


def dumps(value: object) -> str:
    """Write a value as JSON, in ASCII and on one line.

    Parameters
    ----------
    value : object
        Of dicts, lists, tuples, strings, numbers, bools and None.

    Returns
    -------
    str
        As of `json.dumps`.

    Raises
    ------
    TypeError
        If it has something else.
    ValueError
        If it holds itself.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> dumps({"knob": "read_ahead_kb", "to": None})
    '{"knob": "read_ahead_kb", "to": null}'
    """
    encode = make_encoder({}, _unknown, _string, None, ": ", ", ", False, False, True)
    return "".join(encode(value, 0))
