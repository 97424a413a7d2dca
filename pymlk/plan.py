# SPDX-License-Identifier: MIT
"""Prepared policies: a plan in one file, checked where it was made.

A device that runs it needs neither the validation library nor the compiler, and starts
in a fraction of the time. The form: a line with version and CRC-32, then JSON.
"""

from __future__ import annotations

import binascii

from . import __version__
from .errors import PolicyError
from .quickjson import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SUFFIX", "read_plan", "write_plan"]

SUFFIX = ".plan"
_MAGIC = b"pymlk-plan"


def _head(content: bytes) -> bytes:
    crc = binascii.crc32(content)
    return b"%s %s %08x\n" % (_MAGIC, __version__.encode(), crc)


def write_plan(plan: dict[str, Any]) -> bytes:
    """Put a plan into the form of a file.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` returned.

    Returns
    -------
    bytes
        For `read_plan` of the same version of pymlk.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> from pymlk.policy import load
    >>> write_plan(load("readahead")).partition(b" ")[0]
    b'pymlk-plan'
    """
    import json

    program = binascii.b2a_base64(plan["program"], newline=False).decode()
    kept = {**plan, "program": program}
    content = json.dumps(kept, separators=(",", ":"), sort_keys=True).encode()
    return _head(content) + content


def read_plan(path: str) -> dict[str, Any]:
    """Read a prepared policy.

    Parameters
    ----------
    path : str
        A file that `pymlk compile POLICY.toml` wrote.

    Returns
    -------
    dict
        The plan for a `pymlk.loop.Loop`; the caller's.

    Raises
    ------
    PolicyError
        It is no such file, is damaged, or comes from another version of pymlk.
    OSError
        It cannot be read.

    Thread safety
    -------------
    Pure function of the file.

    Examples
    --------
    >>> import os, tempfile
    >>> from pymlk.policy import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "readahead.plan")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(write_plan(load("readahead")))
    ...     read_plan(path)["knob"]["values"]
    [8, 32, 128, 512, 2048]
    """
    with open(path, "rb") as file:
        head, _, content = file.read().partition(b"\n")
    words = head.split(b" ")
    if words[0] != _MAGIC or len(words) != 3:
        raise PolicyError(
            f"{path}: {head[:20]!r} found, expected a prepared policy: `pymlk compile "
            "POLICY.toml` makes one"
        )
    version = words[1].decode(errors="replace")
    if version != __version__:
        raise PolicyError(
            f"{path}: made by pymlk {version}, expected {__version__}: `pymlk compile "
            "POLICY.toml` makes it anew"
        )
    if head + b"\n" != _head(content):
        raise PolicyError(f"{path}: checksum does not match: damaged; copy it again")
    try:
        plan: dict[str, Any] = loads(content)
        plan["program"] = binascii.a2b_base64(plan["program"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PolicyError(f"{path}: {error} found, expected a plan") from error
    plan["file"] = path
    return plan
