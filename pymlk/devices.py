# SPDX-License-Identifier: MIT
"""Which devices a policy decides on."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase


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
        if fnmatchcase(name, names)
        and not any(fnmatchcase(name, s) for s in skip)
        and os.path.isdir(os.path.join(place, name))
    ]
