# SPDX-License-Identifier: MIT
"""The kernel module's interface without the kernel: a folder, sockets, shared memory.

ROOT/sys/kernel/mlk/SUBSYSTEM/MODEL has the files that kernel/abi describes; ``dataset``
is a link to sealed shared memory, all others are plain text that follows the model.
ROOT/dev/mlk/MODEL is a socket instead of a device. A message to it has two 32-bit
numbers, what is asked and an argument, and the same structs as the ioctls and writes of
kernel/include/uapi/linux/mlk.h; the answer has errno, zero, and what was asked for.
`Proxy` finds out by itself which of both it talks to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shutil
import socket
import struct
import tempfile
import threading
import time

from .emulated import Decision, Model
from .image import MAGIC as IMAGE_MAGIC
from .proxy import Feature, Knob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from .emulated import Ops

__all__ = ["Decision", "Emulator", "Feature", "Knob", "Model"]

# What is asked; proxy_call.h has the same numbers.
INFO, OWNER, HEARTBEAT, LOAD, MODE = 0, 1, 2, 4, 5
OPEN, RECOMMEND, ATTRIBUTE, PROGRAM = 16, 17, 18, 19

_ASKED = struct.Struct("<II")
_INFO = struct.Struct("<HH9I4QI5I32s32s")
_RECOMMENDATION_BYTES = 96
_MESSAGE_BYTES = 1 << 16


class _Reader:
    """An open connection: what an open descriptor of the device is."""

    def __init__(self, talk: socket.socket, model: Model) -> None:
        self.talk = talk
        self.model = model
        self.bell = -1
        self.writable = False
        self.image = b""
        credentials = talk.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        (self.pid, _, _) = struct.unpack("3i", credentials)

    def ring(self) -> None:
        """Tell that there is a record, or that there will be none any more."""
        if self.bell >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self.bell, 1)

    def close(self) -> None:
        """No more: who waits finds out."""
        self.talk.close()
        self.ring()
        if self.bell >= 0:
            os.close(self.bell)
        self.bell = -1


class _Entry:
    """A model with its files and connections."""

    def __init__(self, model: Model, folder: str, device: str) -> None:
        self.model = model
        self.folder = folder
        self.device = device
        self.listener: socket.socket | None = None
        self.readers: list[_Reader] = []
        self.written: dict[str, bytes] = {}

    def write(self, name: str, text: str) -> None:
        """Let a file say something else; readers see all of it or what was before."""
        data = text.encode() + b"\n"
        before = self.written.get(name)
        if before == data:
            return
        self.written[name] = data
        handle = os.open(f"{self.folder}/{name}", os.O_WRONLY | os.O_CREAT, 0o444)
        try:
            os.pwrite(handle, data, 0)
            if before and len(data) < len(before):
                os.ftruncate(handle, len(data))
        finally:
            os.close(handle)

    def make_files(self) -> None:
        """The folder as it is when the model is registered."""
        for name in ("features", "knobs", "options", "score", "stats"):
            os.makedirs(f"{self.folder}/{name}", exist_ok=True)
        if not self.model.knobs:
            os.rmdir(f"{self.folder}/knobs")
        for name, text in (*self.model.fixed_texts(), *self.model.texts()):
            self.write(name, text)
        for name in ("control", "program"):
            os.close(os.open(f"{self.folder}/{name}", os.O_WRONLY | os.O_CREAT, 0o200))
        memory = f"/proc/{os.getpid()}/fd/{self.model.memory}"
        os.symlink(memory, f"{self.folder}/dataset")


@contextlib.contextmanager
def _short(path: str):  # type: ignore[no-untyped-def]  # needs typing at run time
    """A socket's path of any length: below a descriptor of its folder."""
    folder, name = os.path.split(path)
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)


class Emulator:
    """Registered models in a folder, served by a thread of this process.

    Parameters
    ----------
    folder : str or path-like, optional
        Where the tree is made; without one a temporary folder that goes at the end.

    Attributes
    ----------
    root : str
        What `discover` and `Proxy` take.

    Raises
    ------
    OSError
        The folder cannot be made.

    Notes
    -----
    What is written to the text files themselves changes nothing, other than in the
    kernel: use `Proxy.write_attr`. There is no read() of records; they are mapped.

    Thread safety
    -------------
    Safe. Callbacks run in whatever thread made the change, one at a time.

    Source
    ------
    kernel/include/linux/mlk.h, kernel/include/uapi/linux/mlk.h, kernel/abi,
    docs/kernel.md.

    Examples
    --------
    >>> from pymlk.proxy import Feature, Knob, Proxy
    >>> with Emulator() as kernel:
    ...     model = kernel.register("test", "one", [Feature("load")],
    ...                             [Knob("batch", "", 1, 64, 1, 8)])
    ...     Proxy("one", root=kernel.root).state
    'created'
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._temporary = folder is None
        self.root = os.path.abspath(folder or tempfile.mkdtemp(prefix="mlk-"))
        for name in ("sys/kernel/mlk", "dev/mlk"):
            os.makedirs(f"{self.root}/{name}", exist_ok=True)
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._wake_up)
        self._end = self._roused = False
        self._thread = threading.Thread(
            target=self._serve, name="mlk-emulator", daemon=True
        )
        self._thread.start()

    # for the kernel's clients

    def register(
        self,
        subsystem: str,
        name: str,
        features: Sequence[Feature],
        knobs: Sequence[Knob],
        *,
        ops: Ops | None = None,
        records: int = 1024,
        max_macs: int = 65536,
        max_arena_bytes: int = 16384,
        max_image_bytes: int = 262144,
    ) -> Model:
        """Add a model, see mlk_register() and struct mlk_desc.

        Parameters
        ----------
        subsystem, name : str
            Its names; no two models have the same second one.
        features : sequence of Feature
            1 to 64.
        knobs : sequence of Knob
            Up to 8.
        ops : mapping of str to callable, optional
            ``init``, ``start``, ``stop``, ``sample``, ``advised``, ``fallback``: called
            with the model. OSError from the first two refuses the change.
        records : int, optional
            Of the ring, a power of 2.
        max_macs, max_arena_bytes, max_image_bytes : int, optional
            What a program may cost.

        Returns
        -------
        Model
            In the state created.

        Raises
        ------
        OSError
            EEXIST: the name is taken; EINVAL: a description that cannot be.

        Thread safety
        -------------
        Safe.
        """
        limits = (records, max_macs, max_arena_bytes, max_image_bytes)
        with self._lock:
            if self._end:
                raise OSError(errno.ESHUTDOWN, "the emulator is closed")
            if name in self._entries:
                raise OSError(errno.EEXIST, f"there is a model {name}")
            what = (subsystem, name, features, knobs, ops or {}, limits)
            model = Model(self._lock, self._changed, *what)
            folder = f"{self.root}/sys/kernel/mlk/{subsystem}/{name}"
            entry = _Entry(model, folder, f"{self.root}/dev/mlk/{name}")
            try:
                self._add(entry)
            except OSError:
                self._remove(entry)
                os.close(model.memory)
                raise
            self._entries[name] = entry
        return model

    def _add(self, entry: _Entry) -> None:
        # what a killed emulator left
        shutil.rmtree(entry.folder, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry.device)
        entry.make_files()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        entry.listener = listener
        with _short(entry.device) as path:
            listener.bind(path)
        listener.listen(16)
        self._watch(listener, lambda: self._accept(entry))

    def _remove(self, entry: _Entry) -> None:
        if entry.listener:
            self._forget(entry.listener)
            entry.listener = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry.device)
        shutil.rmtree(entry.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            # other models may be there
            os.rmdir(os.path.dirname(entry.folder))

    def suspend(self) -> None:
        """The system goes to sleep: every model to emergency.

        Thread safety
        -------------
        Safe.
        """
        with self._lock:
            for entry in self._entries.values():
                entry.model.fail("suspend")

    def close(self) -> None:
        """Unregister all models and end the thread; a temporary folder goes.

        Thread safety
        -------------
        Safe; may be called again.
        """
        with self._lock:
            if self._end:
                return
            for entry in list(self._entries.values()):
                entry.model.unregister()
            self._end = True
            self._rouse()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        if self._temporary:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    # the thread that answers

    def _watch(self, source: socket.socket, act: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, act)
        self._rouse()

    def _forget(self, source: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)
        source.close()

    def _rouse(self) -> None:
        """Let the thread look anew at what it waits for."""
        if not self._roused and threading.current_thread() is not self._thread:
            self._roused = True
            self._wake.send(b"\1")

    def _wake_up(self) -> None:
        self._woken.recv(1)
        self._roused = False

    def _changed(self, model: Model, is_record: bool) -> None:
        """A model tells that its files are out of date, or of a record."""
        entry = self._entries.get(model.name)
        if entry is None or entry.model is not model:
            return
        if model.state == 5:
            self._gone(entry)
            return
        if is_record:
            for reader in entry.readers:
                reader.ring()
            entry.write("stats/records", str(model.head))
            return
        for name, text in model.texts():
            entry.write(name, text)
        # deadlines may have moved
        self._rouse()

    def _gone(self, entry: _Entry) -> None:
        self._remove(entry)
        for reader in list(entry.readers):
            self._leave(entry, reader)
        del self._entries[entry.model.name]

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self._end:
                    break
                timeout = self._look_at_clocks()
            for key, _ in self._selector.select(timeout):
                with self._lock:
                    # an event before may have closed it
                    if self._selector.get_map().get(key.fd) is key:
                        key.data()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self._wake.close()

    def _look_at_clocks(self) -> float | None:
        """Emergency for owners that are late; seconds until the next one may be."""
        now = time.monotonic_ns()
        left = []
        for entry in list(self._entries.values()):
            entry.model.look_at_clock(now)
            time_left = entry.model.time_left(now)
            if time_left is not None:
                left.append(time_left)
        return min(left) / 1e9 + 1e-4 if left else None

    def _accept(self, entry: _Entry) -> None:
        assert entry.listener is not None
        talk, _ = entry.listener.accept()
        reader = _Reader(talk, entry.model)
        entry.readers.append(reader)
        self._watch(talk, lambda: self._hear(entry, reader))

    def _hear(self, entry: _Entry, reader: _Reader) -> None:
        try:
            message = reader.talk.recv(_MESSAGE_BYTES)
        except OSError:
            message = b""
        if not message:
            self._leave(entry, reader)
            return
        fds: list[int] = []
        try:
            answer = _ASKED.pack(0, 0) + self._answer(reader, message, fds)
        except OSError as error:
            answer = _ASKED.pack(error.errno or errno.EIO, 0)
        except (struct.error, UnicodeDecodeError):
            answer = _ASKED.pack(errno.EINVAL, 0)
        try:
            socket.send_fds(reader.talk, [answer], fds, socket.MSG_NOSIGNAL)
        except OSError:
            self._leave(entry, reader)

    def _leave(self, entry: _Entry, reader: _Reader) -> None:
        """The descriptor was closed, its process is dead, or the model is gone."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(reader.talk)
        if reader in entry.readers:
            entry.readers.remove(reader)
        reader.model.drop_owner(reader)
        reader.close()

    def _answer(self, reader: _Reader, message: bytes, fds: list[int]) -> bytes:
        """One question; OSError is the kernel's refusal."""
        what, argument = _ASKED.unpack_from(message)
        payload = message[_ASKED.size :]
        model = reader.model
        model.alive()
        if what == OPEN:
            self._open(reader, argument, fds)
        elif what == INFO:
            return _info(reader)
        elif what == OWNER:
            self._own(reader, argument)
        elif what == HEARTBEAT:
            model.beat(reader)
        elif what == RECOMMEND:
            if not reader.writable:
                raise OSError(errno.EBADF, "opened for reading")
            if not payload or len(payload) % _RECOMMENDATION_BYTES:
                raise OSError(errno.EINVAL, "not a whole recommendation")
            for at in range(0, len(payload), _RECOMMENDATION_BYTES):
                model.recommend(reader, payload[at : at + _RECOMMENDATION_BYTES])
        elif what == MODE:
            self._needs_owner(reader)
            if argument > 3:
                raise OSError(errno.EINVAL, f"no mode {argument}")
            model.request_mode(argument)
        elif what == ATTRIBUTE:
            name, _, text = payload.partition(b"\0")
            model.write_attribute(name.decode(), text.decode())
        elif what in (LOAD, PROGRAM):
            self._load(reader, what, argument, payload)
        else:
            raise OSError(errno.ENOTTY, f"no question {what}")
        return b""

    def _needs_owner(self, reader: _Reader) -> None:
        if reader.model.owner is not reader:
            raise OSError(errno.EPERM, "not the owner")

    def _open(self, reader: _Reader, writable: int, fds: list[int]) -> None:
        if reader.bell >= 0:
            raise OSError(errno.EBUSY, "it is open")
        reader.writable = bool(writable)
        reader.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        fds += [reader.model.memory, reader.bell]
        if reader.model.head:
            reader.ring()

    def _own(self, reader: _Reader, take: int) -> None:
        if not reader.writable:
            raise OSError(errno.EPERM, "opened for reading")
        if take > 1:
            raise OSError(errno.EINVAL, f"{take} found, 0 or 1 expected")
        if take:
            reader.model.set_owner(reader, reader.pid)
        else:
            reader.model.drop_owner(reader)

    def _load(self, reader: _Reader, what: int, at: int, payload: bytes) -> None:
        model = reader.model
        (total,) = struct.unpack_from("<I", payload)
        piece = payload[4:]
        if what == LOAD:
            self._needs_owner(reader)
        if not at:
            reader.image = b""
            if total < 48 or piece[:4] != IMAGE_MAGIC.to_bytes(4, "little"):
                raise model.refuse_image(errno.EBADMSG, "not an image (bad magic)")
            if total > model.max_image_bytes:
                raise model.refuse_image(errno.E2BIG, "image is too large")
        if at != len(reader.image) or len(piece) > total - at:
            raise model.refuse_image(errno.EINVAL, "pieces do not fit")
        reader.image += piece
        if len(reader.image) == total:
            image, reader.image = reader.image, b""
            model.load_image(image)


def _info(reader: _Reader) -> bytes:
    model = reader.model
    sizes = (len(model.features), len(model.knobs), model.record_bytes, model.records)
    return _INFO.pack(
        *(1, _INFO.size, model.state, model.mode, model.why, *sizes),
        *(model.dataset_bytes, model.options["deadline_ms"], model.head, 0),
        *(model.program_id, model.program_swaps, model.owner is reader, 0, 0, 0, 0, 0),
        *(model.subsystem.encode(), model.name.encode()),
    )
