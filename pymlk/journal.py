# SPDX-License-Identifier: MIT
"""The knob journal: whatever ends a run, its knobs can be put back.

Before a run changes a knob for the first time it notes the knob's original value
here, and before each change the value that it is about to write. A run that ends
takes its journal along; one that was killed leaves it to the next start or to
``pymlk restore``.

A journal is a text file of JSON lines padded to a fixed width, so that a line is
replaced by one write. It need not be synced to disk: a crashed process loses
nothing that it has written, and a crashed kernel has forgotten the knobs too
(entries of another boot are dropped).
"""

from __future__ import annotations

import errno
import fcntl
import os

from .errors import JournalError
from .quickjson import dumps, loads

_WIDTH = 1024
_SUFFIX = ".journal"


def default_folder() -> str:
    """The folder for journals: /run/pymlk for root, else the user's own.

    Returns
    -------
    str
        ``$PYMLK_STATE_DIR`` if set.

    Thread safety
    -------------
    Reads the environment only.
    """
    if folder := os.environ.get("PYMLK_STATE_DIR"):
        return folder
    if os.geteuid() == 0:
        return "/run/pymlk"
    base = os.environ.get("XDG_RUNTIME_DIR") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "pymlk")


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # the name before the last ')' may hold anything
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _read_knob(path: str) -> int:
    with open(path, "rb", buffering=0) as file:
        return int(file.read(64))


def _write_knob(path: str, value: int) -> None:
    # never creates: a device that is gone must not come back as a plain file
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d\n" % value)
    finally:
        os.close(fd)


def _refresh(path: str) -> str | None:
    """Open files take the value that a knob got back."""
    from .openfiles import refresh

    try:
        return refresh(path)[1]
    except OSError:
        return None  # the device is gone


class _Entry:
    """One knob of one run."""

    __slots__ = ("original", "path", "previous", "wrote")

    def __init__(self, path: str, original: int, previous: int, wrote: int) -> None:
        self.path = path
        self.original = original
        self.previous = previous
        self.wrote = wrote

    def line(self) -> bytes:
        text = dumps([self.path, self.original, self.previous, self.wrote])
        if len(text) >= _WIDTH:
            raise JournalError(
                errno.ENAMETOOLONG, "path too long for the journal", self.path
            )
        return text.ljust(_WIDTH - 1).encode() + b"\n"

    def put_back(self, reach: str | None) -> str | None:
        """Restore one knob; None if that is done, else what is to be said."""
        if self.original == self.previous == self.wrote:
            return None  # claimed, never changed
        return self._put_back() or (_refresh(self.path) if reach else None)

    def _put_back(self) -> str | None:
        try:
            current = _read_knob(self.path)
        except FileNotFoundError:
            return None  # the device is gone, and its knob with it
        except (OSError, ValueError) as error:
            return f"{self.path}: cannot be read ({error}); was {self.original}"
        if current == self.original:
            return None
        if current not in (self.wrote, self.previous):
            return (
                f"{self.path}: somebody else set it to {current} (the run wrote "
                f"{self.wrote}): left alone; was {self.original}"
            )
        try:
            _write_knob(self.path, self.original)
            current = _read_knob(self.path)
        except (OSError, ValueError) as error:
            return f"{self.path}: not restored to {self.original}: {error}"
        if current != self.original:
            return f"{self.path}: reads {current} after {self.original} was written"
        return None


class _Locked:
    """The folder's lock, so that two starts cannot both think they are alone."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "lock")
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise JournalError(
            error.errno, f"cannot keep a journal: {error.strerror}", folder
        ) from error


class _File:
    """A journal on disk, read back."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
        head = loads(lines[0])
        self.pid, self.start = int(head["pid"]), str(head["start"])
        self.boot, self.policy = str(head["boot"]), str(head["policy"])
        self.reach = head.get("reach")
        self.entries = []
        for line in lines[1:]:
            try:
                self.entries.append(_Entry(*loads(line)))
            except (ValueError, TypeError):
                continue  # a line whose write was cut short names no change yet

    def is_alive(self) -> bool:
        return self.boot == _boot_id() and _start_time(self.pid) == self.start


def _journals(folder: str) -> list[_File]:
    found = []
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    for name in names:
        if name.endswith(_SUFFIX):
            try:
                found.append(_File(os.path.join(folder, name)))
            except (ValueError, KeyError, OSError):
                continue  # killed before its first line was whole: no change yet
    return found


class Journal:
    """The journal of one run.

    Parameters
    ----------
    policy : str
        Name of the policy, for messages.
    folder : str or None
        Where journals are kept; None takes `default_folder`.
    reach : str or None
        As in the policy's knob: what else has to take a value that is put back.

    Raises
    ------
    JournalError
        If the folder cannot be written.

    Thread safety
    -------------
    None; the loop's thread only.
    """

    def __init__(
        self, policy: str, folder: str | None = None, reach: str | None = None
    ) -> None:
        self.folder = folder or default_folder()
        self._reach = reach
        _make_folder(self.folder)
        pid = os.getpid()
        self.path = os.path.join(self.folder, f"{policy}-{pid}{_SUFFIX}")
        head = {
            "pid": pid,
            "start": _start_time(pid),
            "boot": _boot_id(),
            "policy": policy,
            "reach": reach,
        }
        self._entries: dict[str, tuple[int, _Entry]] = {}
        try:
            self._fd = os.open(
                self.path,
                os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
                0o600,
            )
            os.write(self._fd, dumps(head).ljust(_WIDTH - 1).encode() + b"\n")
        except OSError as error:
            raise JournalError(
                error.errno, f"cannot write the journal: {error.strerror}", self.path
            ) from error

    def claim(self, paths: list[str]) -> None:
        """Refuse knobs that another living run may change, before anything starts.

        Parameters
        ----------
        paths : list of str
            Knob paths.

        Raises
        ------
        JournalError
            If another run has one of them; the text names it.

        Thread safety
        -------------
        Guarded by a lock file against other processes.
        """
        with _Locked(self.folder):
            for other in _journals(self.folder):
                if other.path == self.path or not other.is_alive():
                    continue
                shared = {entry.path for entry in other.entries} & set(paths)
                if shared:
                    raise JournalError(
                        errno.EBUSY,
                        f"policy {other.policy} of process {other.pid} has this knob",
                        min(shared),
                    )
            for path in paths:
                value = _read_knob(path)
                self.note(path, value, value)

    def note(self, path: str, previous: int, target: int) -> None:
        """Note a change before it is made.

        Parameters
        ----------
        path : str
            The knob.
        previous : int
            Its value now; the first one noted is the original.
        target : int
            What is about to be written.

        Raises
        ------
        JournalError
            If the note cannot be written: then the knob must not be, either.

        Thread safety
        -------------
        None.
        """
        place, entry = self._entries.get(path, (len(self._entries) + 1, None))
        if entry is None:
            entry = _Entry(path, previous, previous, target)
        entry.previous, entry.wrote = previous, target
        try:
            os.pwrite(self._fd, entry.line(), place * _WIDTH)
        except OSError as error:
            raise JournalError(
                error.errno, f"cannot write the journal: {error.strerror}", self.path
            ) from error
        self._entries[path] = place, entry

    def restore(self) -> list[str]:
        """Put every noted knob back and end the journal.

        Returns
        -------
        list of str
            One line for each knob that was not put back. The journal stays if one
            of them may still be.

        Thread safety
        -------------
        None. Calling it again does nothing.
        """
        if self._fd < 0:
            return []
        messages = [entry.put_back(self._reach) for _, entry in self._entries.values()]
        os.close(self._fd)
        self._fd = -1
        said = [message for message in messages if message is not None]
        if not any("not restored" in message for message in said):
            os.unlink(self.path)
        self._entries.clear()
        return said


def restore_all(folder: str | None = None) -> tuple[list[str], list[str]]:
    """Put back what runs that were killed have left changed.

    Parameters
    ----------
    folder : str or None
        Where journals are kept; None takes `default_folder`.

    Returns
    -------
    tuple of (list of str, list of str)
        Lines about what was done, and lines about what could not be.

    Thread safety
    -------------
    Guarded by a lock file; journals of living runs are left alone.
    """
    folder = folder or default_folder()
    done: list[str] = []
    failed: list[str] = []
    if not os.path.isdir(folder):
        return done, failed
    with _Locked(folder):
        for journal in _journals(folder):
            if journal.is_alive():
                done.append(
                    f"policy {journal.policy} of process {journal.pid} is running: "
                    "left alone"
                )
            elif journal.boot != _boot_id():
                os.unlink(journal.path)
            else:
                _restore_one(journal, done, failed)
    return done, failed


def _restore_one(journal: _File, done: list[str], failed: list[str]) -> None:
    keep = False
    for entry in journal.entries:
        message = entry.put_back(journal.reach)
        if message is None:
            done.append(f"{entry.path}: {entry.original}")
        else:
            failed.append(message)
            keep = keep or "not restored" in message
    if not keep:
        os.unlink(journal.path)
