# SPDX-License-Identifier: MIT
"""Which devices a policy decides on."""

from __future__ import annotations

import os


def _matches(name: str, pattern: str) -> bool:
    """As of `fnmatch.fnmatchcase`, whose import makes a slow board wait."""
    if "?" in pattern or "[" in pattern:
        from fnmatch import fnmatchcase

        return fnmatchcase(name, pattern)
    head, *middle = pattern.split("*")
    if not middle:
        return name == head
    tail = middle.pop()
    if not name.startswith(head):
        return False
    at = len(head)
    for part in middle:
        at = name.find(part, at) + len(part)
        if at < len(part):
            return False
    return name.endswith(tail) and at + len(tail) <= len(name)


def is_wanted(name: str, pattern: str, skip: list[str]) -> bool:
    """Whether a policy is for a device or a model in the kernel.

    Parameters
    ----------
    name : str
        Its name.
    pattern : str
        What it must match, with ``*``, ``?`` and ``[...]`` as of `fnmatch.fnmatchcase`.
    skip : list of str
        Patterns of which it must match none.

    Returns
    -------
    bool
        True if it is.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> is_wanted("sda", "*", ["loop*"]), is_wanted("loop0", "*", ["loop*"])
    (True, False)
    """
    return _matches(name, pattern) and not any(_matches(name, s) for s in skip)


def find_devices(
    pattern: str | None, skip: list[str], root: str = "/"
) -> list[tuple[str, str]]:
    """List the devices that match a policy's pattern: folders, not files beside them.

    Parameters
    ----------
    pattern : str or None
        A path whose last part may hold ``*`` and ``?``; None stands for a policy that
        decides on the machine as a whole.
    skip : list of str
        Patterns of names that are left out.
    root : str
        Prefix of the path.

    Returns
    -------
    list of tuple of (str, str)
        Name and path (without `root`) of each, sorted by name; one pair with the name
        ``machine`` for no pattern.

    Thread safety
    -------------
    Reads one directory, keeps nothing.

    Examples
    --------
    >>> find_devices(None, [])
    [('machine', '')]
    """
    if pattern is None:
        return [("machine", "")]
    folder, _, names = pattern.rpartition("/")
    place = os.path.join(root, folder.lstrip("/"))
    try:
        found = os.listdir(place)
    except OSError:
        return []
    return [
        (name, f"{folder}/{name}")
        for name in sorted(found)
        if is_wanted(name, names, skip) and os.path.isdir(os.path.join(place, name))
    ]
