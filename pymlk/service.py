# SPDX-License-Identifier: MIT
"""What a service manager and a log want to hear of a run: small datagrams.

Both protocols are systemd's (sd_notify(3), "Native Journal Protocol") and need
nothing but a Unix socket, so a board without systemd carries nothing for them.
"""

from __future__ import annotations

import os
import time

JOURNAL_SOCKET = "/run/systemd/journal/socket"
# syslog(3)
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6


def _send(address: str, data: bytes) -> bool:
    """Send one datagram; False if nobody takes it now."""
    # the module behind `socket`: that one adds selectors, enum and 1 MB
    from _socket import AF_UNIX, SOCK_DGRAM, socket

    sender = socket(AF_UNIX, SOCK_DGRAM)
    try:
        sender.setblocking(False)
        sender.sendto(data, address)
    except OSError:
        return False
    finally:
        sender.close()
    return True


class Notifier:
    """Tells the service manager that the run is ready, alive, or stopping.

    Where ``NOTIFY_SOCKET`` is not set everything here does nothing.

    Parameters
    ----------
    environ : mapping of str to str
        The process's environment: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and
        ``WATCHDOG_PID`` are looked at.

    Attributes
    ----------
    interval_s : float
        How often `alive` should be called, in seconds; 0 if nobody waits for it.

    Thread safety
    -------------
    None; the loop's thread only. A full socket is no error: the manager then misses
    one message.

    Examples
    --------
    >>> Notifier({}).ready("1 device")
    """

    def __init__(self, environ: dict[str, str] | os._Environ[str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.interval_s = 0.0
        self._next = 0.0
        pid = environ.get("WATCHDOG_PID", "")
        if address and (not pid or pid == str(os.getpid())):
            # twice per deadline, as sd_watchdog_enabled(3) advises
            self.interval_s = int(environ.get("WATCHDOG_USEC") or 0) / 2e6

    def _tell(self, text: str) -> None:
        # nobody listens, or too slowly: no reason to stop
        if self._address:
            _send(self._address, text.encode())

    def ready(self, status: str) -> None:
        """Say that start-up is over.

        Parameters
        ----------
        status : str
            One line for ``systemctl status``.

        Thread safety
        -------------
        None.
        """
        self._tell(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog, if it is time to.

        Thread safety
        -------------
        None.
        """
        now = time.monotonic()
        if self.interval_s and now >= self._next:
            self._next = now + self.interval_s
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the run is about to end.

        Thread safety
        -------------
        None.
        """
        self._tell("STOPPING=1")


def _field(name: str, value: object) -> bytes:
    data = str(value).encode()
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    size = len(data).to_bytes(8, "little")
    return name.encode() + b"\n" + size + data + b"\n"


class Log:
    """Lines with fields, for journald where it reads standard error, else for people.

    Parameters
    ----------
    policy : str
        Name of the policy; a field of every line.
    path : str or None
        The journal's socket; None finds out whether standard error is the journal's.

    Thread safety
    -------------
    None; the loop's thread only. A line that the journal does not take is printed.
    """

    def __init__(self, policy: str, path: str | None = None) -> None:
        self._policy = policy
        self._path = path or (JOURNAL_SOCKET if _is_journal(2) else None)

    def write(self, priority: int, message: str, **fields: object) -> None:
        """Write one line.

        Parameters
        ----------
        priority : int
            As of syslog: `ERROR`, `WARNING`, `NOTICE` or `INFO`.
        message : str
            The text.
        **fields : object
            More of it; in the journal with the prefix ``PYMLK_``.

        Thread safety
        -------------
        None.
        """
        if self._path is not None:
            data = _field("MESSAGE", message) + _field("PRIORITY", priority)
            data += _field("SYSLOG_IDENTIFIER", "pymlk")
            data += _field("PYMLK_POLICY", self._policy)
            for name, value in fields.items():
                data += _field(f"PYMLK_{name.upper()}", value)
            if _send(self._path, data):
                return
        words = "".join(f" {name}={value}" for name, value in fields.items())
        os.write(2, f"pymlk: {self._policy}: {message}{words}\n".encode())


def _is_journal(fd: int) -> bool:
    """Is that descriptor the journal's? Then JOURNAL_STREAM has its device:inode."""
    try:
        stat = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"
