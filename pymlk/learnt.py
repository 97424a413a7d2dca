# SPDX-License-Identifier: MIT
"""What was learnt survives a loss of power: one small file per policy.

A file is replaced as a whole: written under another name, synced, renamed, and the
folder synced; so there is always the old one or the new one. It says for which policy
and which shipped program it is and carries a CRC-32; one that is damaged, of another
program or of another version of this format is refused, with a reason.
"""

from __future__ import annotations

import binascii
import os

from .errors import StateError
from .quickjson import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAGIC = "pymlk-learnt"
_FORMAT = 1
_SUFFIX = ".learnt"
_MOST_BYTES = 1 << 24
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz")
_OTHERS = _FIRST | frozenset("0123456789_-")


def _is_name(text: str) -> bool:
    """Whether a policy can have that name."""
    return 0 < len(text) <= 64 and text[0] in _FIRST and _OTHERS.issuperset(text)


def default_folder() -> str:
    """The folder for what was learnt: /var/lib/pymlk for root, else the user's own.

    Returns
    -------
    str
        ``$PYMLK_LEARNT_DIR`` if set.

    Thread safety
    -------------
    Reads the environment only.
    """
    if folder := os.environ.get("PYMLK_LEARNT_DIR"):
        return folder
    if os.geteuid() == 0:
        return "/var/lib/pymlk"
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "pymlk")


def identity(program: bytes) -> str:
    """Tell a program from all others.

    Parameters
    ----------
    program : bytes
        The shipped program.

    Returns
    -------
    str
        Its length, its CRC-32 and its own checksum.

    Thread safety
    -------------
    Pure function.
    """
    own = int.from_bytes(program[16:24], "little")
    return f"{len(program)}-{binascii.crc32(program):08x}-{own:016x}"


def names(folder: str | None = None) -> list[str]:
    """Policies of which something was learnt.

    Parameters
    ----------
    folder : str or None
        None takes `default_folder`.

    Returns
    -------
    list of str
        Their names, sorted.

    Thread safety
    -------------
    Reads only.
    """
    try:
        found = os.listdir(folder or default_folder())
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))
    return sorted(stem for stem in stems if _is_name(stem))


class Store:
    """The file of one policy.

    Parameters
    ----------
    policy : str
        The policy's name.
    folder : str or None
        None takes `default_folder`.

    Attributes
    ----------
    path : str
        The file.

    Raises
    ------
    ValueError
        If that is no name of a policy.

    Thread safety
    -------------
    One process writes, which the knob journal sees to; others may read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store("readahead", folder)
    ...     store.save(b"shipped program", {"updates": 3})
    ...     store.load(b"shipped program")
    ...     store.load(b"another one")[0] is None
    ({'updates': 3}, None)
    True
    """

    def __init__(self, policy: str, folder: str | None = None) -> None:
        if not _is_name(policy):
            raise ValueError(f"name of a policy expected, {policy!r} found")
        self._policy = policy
        self._folder = folder or default_folder()
        self.path = os.path.join(self._folder, policy + _SUFFIX)

    def save(self, program: bytes, content: dict[str, Any]) -> None:
        """Replace the file.

        Parameters
        ----------
        program : bytes
            The shipped program.
        content : dict
            Plain values.

        Raises
        ------
        StateError
            If the system refuses; the old file is still there.

        Thread safety
        -------------
        None.
        """
        head = {"policy": self._policy, "program": identity(program)}
        body = dumps(head | {"content": content}).encode()
        crc = binascii.crc32(body)
        text = f"{_MAGIC} {_FORMAT} {crc:08x} {len(body)}\n".encode() + body
        new = f"{self.path}.new"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(new, flags, 0o600), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
            self._sync_folder()
        except OSError as error:
            raise StateError(
                error.errno, f"cannot keep what was learnt: {error.strerror}", self.path
            ) from error

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self) -> tuple[dict[str, Any] | None, str | None]:
        """Read the file, whatever program it is for.

        Returns
        -------
        tuple of (dict or None, str or None)
            ``policy``, ``program`` and ``content``, or None and the reason; two times
            None if there is no file.

        Thread safety
        -------------
        Reads only.
        """
        try:
            with open(self.path, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None, None
        except OSError as error:
            return None, f"{self.path}: cannot be read: {error.strerror}"
        try:
            return self._parse(data), None
        except (ValueError, RecursionError) as error:
            return None, f"{self.path}: refused: {error}"

    def _parse(self, data: bytes) -> dict[str, Any]:
        head, _, body = data.partition(b"\n")
        words = head[:80].decode("ascii", "replace").split(" ")
        if len(words) != 4 or words[0] != _MAGIC:
            raise ValueError("not a file of what was learnt")
        if words[1] != str(_FORMAT):
            raise ValueError(f"format {words[1]} found, {_FORMAT} expected")
        if words[3] != str(len(body)):
            raise ValueError(f"{len(body)} bytes found, {words[3]} expected")
        crc = f"{binascii.crc32(body):08x}"
        if words[2] != crc:
            raise ValueError(f"damaged: CRC {crc} found, {words[2]} expected")
        found = loads(body)
        if not isinstance(found, dict) or not isinstance(found.get("content"), dict):
            raise ValueError("no content found")
        if found.get("policy") != self._policy:
            raise ValueError(f"it is of policy {found.get('policy')!r}")
        return found

    def load(self, program: bytes) -> tuple[dict[str, Any] | None, str | None]:
        """Read what was saved for a program.

        Parameters
        ----------
        program : bytes
            The shipped program.

        Returns
        -------
        tuple of (dict or None, str or None)
            What `save` was given, or None and the reason why it is not used; two times
            None if there is no file.

        Thread safety
        -------------
        Reads only.
        """
        found, reason = self.read()
        if found is None:
            return None, reason
        if found.get("program") != identity(program):
            return None, f"{self.path}: refused: learnt with another shipped program"
        content: dict[str, Any] = found["content"]
        return content, None

    def reset(self) -> bool:
        """Forget what was learnt.

        Returns
        -------
        bool
            False if there was nothing.

        Raises
        ------
        StateError
            If the system refuses.

        Thread safety
        -------------
        None. A running loop saves again: end it before.
        """
        try:
            os.unlink(self.path)
            self._sync_folder()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StateError(
                error.errno, f"cannot forget: {error.strerror}", self.path
            ) from error
        return True
