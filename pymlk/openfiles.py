# SPDX-License-Identifier: MIT
"""Open files take a device's present read-ahead size.

The kernel copies the read-ahead size into a file when it is opened, so a program that
keeps its files open never notices a change. ``posix_fadvise(POSIX_FADV_NORMAL)``
copies it again; `refresh` gives that advice on the descriptors of all processes, which
``pidfd_getfd(2)`` (Linux 5.6) lends to root. It also takes back a hint that a program
gave itself (``POSIX_FADV_RANDOM``, ``SEQUENTIAL``): none can be seen from outside.
"""

from __future__ import annotations

import os

from .fadvise import renew


def device_folder(knob: str) -> str | None:
    """The folder of the block device that a knob belongs to.

    Parameters
    ----------
    knob : str
        Path of the knob, such as ``/sys/block/sda/queue/read_ahead_kb``.

    Returns
    -------
    str or None
        The nearest folder above with a file ``dev``; None if there is none.

    Thread safety
    -------------
    Reads the file system only.
    """
    folder = os.path.dirname(knob)
    while folder not in ("/", ""):
        if os.path.isfile(os.path.join(folder, "dev")):
            return folder
        folder = os.path.dirname(folder)
    return None


def _devices(folder: str) -> list[int]:
    """Numbers of a block device and of its partitions."""
    found = []
    for path in (folder, *(e.path for e in os.scandir(folder) if e.is_dir())):
        try:
            with open(os.path.join(path, "dev")) as file:
                major, _, minor = file.read().partition(":")
        except (FileNotFoundError, NotADirectoryError):
            continue
        found.append(os.makedev(int(major), int(minor)))
    return found


def refresh(knob: str, timeout_s: float = 0.1) -> tuple[int, str | None]:
    """Let open files on a knob's device take its present read-ahead size.

    Parameters
    ----------
    knob : str
        Path of the knob, such as ``/sys/block/sda/queue/read_ahead_kb``.
    timeout_s : float
        Stop after so many seconds; about 1 us goes for each descriptor there is.

    Returns
    -------
    tuple of (int, str or None)
        How many descriptors took it, and what was in the way of the others.

    Raises
    ------
    OSError
        If the device went away.

    Thread safety
    -------------
    Any thread; the search runs without the GIL.

    Notes
    -----
    Files of file systems that span several devices (btrfs) have no device number of
    their own and are not found, nor are files that are only mapped and closed.

    Examples
    --------
    >>> refresh("/sys/kernel/no/such/queue/read_ahead_kb")
    (0, '/sys/kernel/no/such/queue/read_ahead_kb: belongs to no block device')
    """
    folder = device_folder(knob)
    if folder is None:
        return 0, f"{knob}: belongs to no block device"
    files, refused, error, late = renew(_devices(folder), timeout_s)
    if refused:
        return files, (
            f"{folder}: {refused} open files keep their read-ahead size: "
            f"{os.strerror(error)}"
        )
    if late:
        return files, (
            f"{folder}: some open files may keep their read-ahead size: not all were "
            f"found within {timeout_s:g} s"
        )
    return files, None
