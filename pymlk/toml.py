# SPDX-License-Identifier: MIT
"""Read a TOML file into a checked struct; errors name file, key, found, expected."""

import re
import tomllib
from typing import Any, TypeVar

import msgspec

from .errors import PolicyError

T = TypeVar("T", bound=msgspec.Struct)


def read_toml(path: str, kind: type[T]) -> T:
    """Read a file.

    Parameters
    ----------
    path : str
        The file.
    kind : type
        The struct that it must fit.

    Returns
    -------
    Struct
        Of that kind.

    Raises
    ------
    PolicyError
        If it cannot be read, is no TOML, or does not fit.

    Thread safety
    -------------
    Pure function of the file.
    """
    try:
        with open(path, "rb") as file:
            raw = tomllib.load(file)
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: is no UTF-8 text: {error}") from error
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise PolicyError(_explain(path, raw, str(error))) from error


def _explain(path: str, raw: Any, text: str) -> str:
    """Turn ``Expected `int` - at `$.guard.settle``` into file, key, found, expected."""
    what, _, where = text.partition(" - at `$.")
    key = where.rstrip("`")
    found = raw
    for part in re.findall(r"[^.\[\]]+", key):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return f"{path}: {key}: {what}"
    if not key or isinstance(found, dict):
        return f"{path}: {key + ': ' if key else ''}{what}"
    return f"{path}: {key}: {what}; found {found!r}"
