# SPDX-License-Identifier: MIT
"""Datasets: what a policy would have seen, run by run, in one file that lasts.

A file is a header and chunks, each checked by CRC-32s that know its place, so that
whatever the bytes are reading ends and says what is wrong, and a power loss costs
what was not on the disk yet. ``docs/dataset.md`` describes the format.
"""

from __future__ import annotations

import fcntl
import math
import os
import stat
import struct
import zlib
from array import array
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from . import rows as _rows
from .errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    import numpy as np

MAGIC = b"MLKD"
VERSION = 1
_HEADER = struct.Struct("<4sHHQ")  # and its CRC
_CHUNK = struct.Struct("<3sBII")  # and its CRC
_PLACE = struct.Struct("<QQ")
_CRC = struct.Struct("<I")
_HEADER_BYTES = 24
_CHUNK_BYTES = 16
_MARK = b"mlk"
PLAN, BEGIN, ROWS, END = 1, 2, 3, 4
# the most bytes of a chunk, by kind; all of it is in memory at once
_MOST = {PLAN: 1 << 20, BEGIN: 1 << 16, ROWS: _rows.MAX_BLOCK, END: 1 << 12}
# How many places that look like a chunk are tried behind a damaged one.
_TRIES = 1 << 16
_WINDOW = 1 << 20

Text = Annotated[str, Meta(max_length=1000)]
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Natural = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class _Head(Struct):
    plan: dict[str, Any]
    fields: Annotated[list[Text], Meta(min_length=1, max_length=_rows.MAX_FIELDS)]
    scales: list[Annotated[int, Meta(ge=1, le=1 << 62)]]


class _Begin(Struct, kw_only=True):
    number: Natural
    workload: Text
    device: Text
    group: Text = ""
    label: Text | None = None
    knob: Int64 | None = None
    seed: Int64 = 0
    started_ns: Natural = 0
    tags: Annotated[dict[Text, Text], Meta(max_length=64)] = {}


class _End(Struct, kw_only=True):
    number: Natural
    score: float | None = None
    seconds: Annotated[float, Meta(ge=0.0)] = 0.0
    rows: Natural = 0
    missed: Natural = 0
    fault: Text = ""


class Run(_Begin, kw_only=True):
    """One run of a workload, as one device saw it.

    Attributes
    ----------
    number : int
        Its number in the file, from 0.
    workload : str
        What ran.
    device : str
        Whose fields the rows have.
    group : str
        What must be left out as a whole besides the workload when a model is tested: a
        device profile, a board.
    label : str or None
        What the rows are an example of, if that was said.
    knob : int or None
        The knob's value in force; None if it was not swept.
    seed : int
        Of the workload.
    started_ns : int
        CLOCK_REALTIME when it began.
    tags : dict of str to str
        Whatever else was said of it.
    score : float or None
        What the workload was worth; more is better.
    seconds : float
        How long it took.
    rows, missed : int
        Snapshots that were taken, and that should have been but were not.
    fault : str
        Why it is no good run; empty if it is.
    """

    score: float | None = None
    seconds: float = 0.0
    rows: int = 0
    missed: int = 0
    fault: str = ""


class _Place(NamedTuple):
    """A good block of rows in the file."""

    at: int
    length: int
    rows: int


class _Bad(Exception):
    """Bytes that make no sense; the text says how."""


_JSON: dict[int, msgspec.json.Decoder[Any]] = {
    BEGIN: msgspec.json.Decoder(_Begin),
    END: msgspec.json.Decoder(_End),
}


def _padded(length: int) -> int:
    return (length + 7) & ~7


class Dataset:
    """A dataset file, to be read: its runs at once, their rows when asked for.

    Parameters
    ----------
    path : str
        The file. Every byte of it is checked, a chunk at a time.

    Attributes
    ----------
    path : str
        As given.
    plan : dict
        The policy after all checks, as `pymlk.policy.load` gives it, without program.
    fields : list of str
        Names of a row's values.
    scales : list of int
        For each of them what stands for 1.
    runs : list of Run
        Those that are whole and good, in the order they began.
    rejected : list of Run
        The others; `Run.fault` says why.
    torn : bool
        True if the file ends with a chunk that is not whole: a write that power loss
        or a kill cut short.
    damage : list of str
        One line for each place that makes no sense: file, byte, what was found.
    end : int
        Where the last whole chunk ends.

    Raises
    ------
    DatasetError
        If it has no good header and plan.
    OSError
        If it cannot be read.

    Thread safety
    -------------
    None.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "x.mlkd")
    >>> with Writer(path, {"name": "x"}, ["reads"], [1]) as writer:
    ...     run = writer.begin(workload="seq", device="vda", label="sequential")
    ...     writer.rows(run, [1000, 2000], [[5], [9]], [[True], [True]])
    ...     writer.end(run, score=4.0, seconds=1.0)
    >>> with Dataset(path) as dataset:
    ...     [run] = dataset.runs
    ...     t, values, valid = dataset.table(run)
    >>> run.label, run.rows, values.tolist()
    ('sequential', 2, [[5], [9]])
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.torn = False
        self.damage: list[str] = []
        self._runs: dict[int, Run] = {}
        self._places: dict[int, list[_Place]] = {}
        self._ended: set[int] = set()
        self._tries = _TRIES
        # a pipe of that name must not hold us up
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            info = os.fstat(self._fd)
            if not stat.S_ISREG(info.st_mode):
                raise DatasetError(f"{path}: is no file")
            self._size = info.st_size
            self._id = self._header()
            head = self._plan()
            self.plan, self.fields, self.scales = head.plan, head.fields, head.scales
            self.end = self._scan(self._next)
        except BaseException:
            self.close()
            raise
        self._judge()

    # ---------------------------------------------------------------- what is there

    def _read(self, at: int, length: int) -> bytes:
        return os.pread(self._fd, length, at)

    def _header(self) -> int:
        data = self._read(0, _HEADER_BYTES)
        if data[:4] != MAGIC:
            raise DatasetError(
                f"{self.path}: byte 0: {data[:4]!r} found, {MAGIC!r} expected: no "
                "dataset"
            )
        if len(data) < _HEADER_BYTES:
            raise DatasetError(f"{self.path}: byte 0: ends inside its header")
        _, version, size, number = _HEADER.unpack_from(data)
        if data[_HEADER.size :] != _header_end(data[: _HEADER.size]):
            raise DatasetError(f"{self.path}: byte 0: the header's checksum is wrong")
        if (version, size) != (VERSION, _HEADER_BYTES):
            raise DatasetError(
                f"{self.path}: byte 4: version {version} found, {VERSION} expected: "
                "written by another pymlk"
            )
        return int(number)

    def _plan(self) -> _Head:
        try:
            kind, payload, self._next = self._chunk(_HEADER_BYTES)
            if kind != PLAN:
                raise _Bad(f"a chunk of kind {kind} found, the plan expected")
            head = msgspec.json.decode(payload, type=_Head)
            if len(head.scales) != len(head.fields):
                raise _Bad("fields and scales are not as many")
            if len(set(head.fields)) != len(head.fields):
                raise _Bad("two fields have the same name")
        except (_Bad, msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise DatasetError(
                f"{self.path}: byte {_HEADER_BYTES}: no plan: {error}"
            ) from error
        return head

    def _frame(self, at: int, head: bytes) -> tuple[int, int, int]:
        """Kind, length and checksum of the payload behind a chunk's header."""
        if len(head) < _CHUNK_BYTES:
            raise _Bad("ends inside the header of a chunk")
        mark, kind, length, crc = _CHUNK.unpack_from(head)
        if mark != _MARK or kind not in _MOST:
            raise _Bad("no chunk begins here")
        if _chunk_end(self._id, at, head[: _CHUNK.size]) != head[_CHUNK.size :]:
            raise _Bad("the checksum of a chunk's header is wrong")
        if length > _MOST[kind]:
            raise _Bad(f"a chunk of {length} bytes found, at most {_MOST[kind]}")
        return kind, length, crc

    def _chunk(self, at: int) -> tuple[int, bytes, int]:
        """Kind and payload of the chunk at that place, and where the next one is."""
        kind, length, crc = self._frame(at, self._read(at, _CHUNK_BYTES))
        self._next = at + _CHUNK_BYTES + _padded(length)
        payload = self._read(at + _CHUNK_BYTES, _padded(length))
        if len(payload) < _padded(length):
            self._next = self._size + 1
            raise _Bad(f"a chunk of {length} bytes of which {len(payload)} are there")
        if zlib.crc32(payload) != crc:
            raise _Bad("the checksum of a chunk is wrong")
        return kind, payload[:length], self._next

    def _scan(self, at: int) -> int:
        """Index all chunks; where the last whole one ends."""
        while at < self._size:
            self._next = 0
            try:
                kind, payload, after = self._chunk(at)
                self._index(kind, payload, at)
            except (
                _Bad, DatasetError, msgspec.MsgspecError, RecursionError, UnicodeError,
            ) as error:  # fmt: skip
                # the length is known if the chunk's header was good
                after = self._next or self._search(at + 8)
                self.torn = after > self._size
                word = "torn end" if self.torn else "damaged"
                self.damage.append(f"{self.path}: byte {at}: {word}: {error}")
                if self.torn:
                    return at
            at = after
        return at

    def _search(self, at: int) -> int:
        """Where the next header of a chunk is; behind the file if there is none."""
        while at < self._size:
            window = self._read(at, _WINDOW + _CHUNK_BYTES)
            found = window.find(_MARK)
            while 0 <= found < _WINDOW and self._tries:
                if found % 8 == 0:
                    self._tries -= 1
                    with suppress(_Bad):
                        head = window[found : found + _CHUNK_BYTES]
                        self._frame(at + found, head)
                        return at + found
                found = window.find(_MARK, found + 1)
            at += _WINDOW
        return self._size + 1

    def _index(self, kind: int, payload: bytes, at: int) -> None:
        if kind == ROWS:
            number, count = _rows.head(payload)
            if number not in self._runs or number in self._ended:
                raise _Bad(f"rows of run {number}, which is not open")
            place = _Place(at + _CHUNK_BYTES, len(payload), count)
            self._places[number].append(place)
            return
        if kind not in _JSON:
            raise _Bad("a second plan")
        said: Any = _JSON[kind].decode(payload)
        if kind == BEGIN:
            if said.number in self._runs:
                raise _Bad(f"a second run of number {said.number}")
            self._runs[said.number] = Run(**msgspec.structs.asdict(said))
            self._places[said.number] = []
            return
        if said.number not in self._runs or said.number in self._ended:
            raise _Bad(f"the end of run {said.number}, which is not open")
        self._ended.add(said.number)
        for name, value in msgspec.structs.asdict(said).items():
            setattr(self._runs[said.number], name, value)

    def _judge(self) -> None:
        """Which runs are whole."""
        for number, run in self._runs.items():
            found = sum(place.rows for place in self._places[number])
            if number not in self._ended:
                run.rows, run.fault = found, "it has no end"
            elif run.rows != found:
                lost = f"{found} rows found, {run.rows} expected"
                run.rows, run.fault = found, f"{run.fault}; {lost}".removeprefix("; ")
        self.runs = [run for run in self._runs.values() if not run.fault]
        self.rejected = [run for run in self._runs.values() if run.fault]

    # ------------------------------------------------------------------------ rows

    def blocks(self, run: Run) -> Iterator[tuple[bytearray, bytearray, bytearray]]:
        """The rows of a run, some thousands at a time, without numpy.

        Parameters
        ----------
        run : Run
            One of `runs` or `rejected`.

        Yields
        ------
        tuple of (bytearray, bytearray, bytearray)
            As `pymlk.rows.decode`: times, values, which are valid.

        Raises
        ------
        DatasetError
            If they are damaged; the text names file and byte.

        Thread safety
        -------------
        None.
        """
        for place in self._places[run.number]:
            payload = self._read(place.at, place.length)
            try:
                yield _rows.decode(payload, len(self.fields))
            except DatasetError as error:
                at = place.at - _CHUNK_BYTES
                raise DatasetError(f"{self.path}: byte {at}: {error}") from error

    def table(
        self, run: Run
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The rows of a run.

        Parameters
        ----------
        run : Run
            One of `runs` or `rejected`.

        Returns
        -------
        tuple of (numpy.ndarray, numpy.ndarray, numpy.ndarray)
            CLOCK_MONOTONIC in nanoseconds, int64 of (rows,); the fixed-point values,
            int64 of (rows, fields), 0 where invalid; whether they could be read, bool
            of (rows, fields). Owned by the caller.

        Raises
        ------
        DatasetError
            If they are damaged; the text names file and byte.

        Thread safety
        -------------
        None.
        """
        import numpy as np

        parts = list(self.blocks(run))
        t, values, valid = (
            (b"".join(part) for part in zip(*parts, strict=True))
            if (parts)
            else (b"", b"", b"")
        )
        n = len(self.fields)
        return (
            np.frombuffer(t, np.int64),
            np.frombuffer(values, np.int64).reshape(-1, n),
            np.frombuffer(valid, np.bool_).reshape(-1, n),
        )

    def close(self) -> None:
        """Close the file; `blocks` and `table` no longer work.

        Thread safety
        -------------
        None. Closing twice does nothing.
        """
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

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


def _header_end(data: bytes) -> bytes:
    """Zeros up to the CRC, and the CRC."""
    return bytes(4) + _CRC.pack(zlib.crc32(data))


def _chunk_end(number: int, at: int, head: bytes) -> bytes:
    """The CRC of a chunk's header, which is good in its file and place only."""
    return _CRC.pack(zlib.crc32(head, zlib.crc32(_PLACE.pack(number, at))))


def _specs(plan: dict[str, Any]) -> Any:
    return plan.get("fields")


def _knob(plan: dict[str, Any]) -> Any:
    knob = plan.get("knob")
    return knob.get("path") if isinstance(knob, dict) else None


def _packed(values: Any, kind: str) -> bytes:
    """As bytes of an array of that kind: a buffer of it as it is, numbers converted."""
    try:
        view = memoryview(values)
    except TypeError:
        return array(kind, values).tobytes()
    if view.itemsize != array(kind).itemsize or view.format not in ("q", "l", "?", "B"):
        raise ValueError(f"an array of {view.format!r} found, int64 and bool expected")
    return view.tobytes()


def _flat(rows: Any) -> Any:
    """Rows behind each other."""
    try:
        return memoryview(rows)
    except TypeError:
        return list(chain.from_iterable(rows))


class Writer:
    """Writes a dataset; one at a time has a file.

    Parameters
    ----------
    path : str
        The file. It is new, unless `append` is true.
    plan : dict
        What `pymlk.policy.load` gave.
    fields : sequence of str
        Names of a row's values, 1 to 64.
    scales : sequence of int
        For each of them what stands for 1.
    append : bool
        Go on behind the last whole chunk of a file with the same fields and knob; the
        plan that is in it stays.

    Raises
    ------
    DatasetError
        If the file is there and `append` is not said, is another policy's, or is
        being written.
    OSError
        If it cannot be written. What was not whole is taken back.

    Thread safety
    -------------
    None.
    """

    def __init__(
        self,
        path: str,
        plan: dict[str, Any],
        fields: Sequence[str],
        scales: Sequence[int],
        *,
        append: bool = False,
    ) -> None:
        self.path = path
        self.fields, self.scales = list(fields), list(scales)
        self._plan = {key: value for key, value in plan.items() if key != "program"}
        self._counts: dict[int, int] = {}
        self._number = 0
        self._fd = -1
        if not os.path.lexists(path):
            self._create()
        elif not append:
            raise DatasetError(f"{path}: is there already: append to it, or remove it")
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _create(self) -> None:
        """A file with header and plan, whole or not at all."""
        self._id = int.from_bytes(os.urandom(8), "little")
        head = _HEADER.pack(MAGIC, VERSION, _HEADER_BYTES, self._id)
        said = {"plan": self._plan, "fields": self.fields, "scales": self.scales}
        # what cannot be read again is never written
        payload = msgspec.json.encode(said)
        msgspec.json.decode(payload, type=_Head)
        head += _header_end(head)
        head += self._framed(PLAN, payload, len(head))
        unfinished = f"{self.path}.part"
        with open(unfinished, "wb") as file:
            file.write(head)
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, self.path)
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(
                f"{self.path}: another process is writing it: wait, or write to a file "
                "of its own"
            ) from error
        with Dataset(self.path) as found:
            self._same("fields", found.fields, self.fields)
            self._same("scales", found.scales, self.scales)
            for key, of in (("[fields]", _specs), ("knob.path", _knob)):
                self._same(f"the policy's {key}", of(found.plan), of(self._plan))
            self._id, self._used = found._id, found.end
            self._number = max(found._runs, default=-1) + 1
        # behind a torn end
        os.ftruncate(self._fd, self._used)

    def _same(self, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            raise DatasetError(
                f"{self.path}: {what}: {found!r} found, {expected!r} expected: it is "
                "another policy's dataset"
            )

    def _framed(self, kind: int, payload: bytes, at: int) -> bytes:
        if len(payload) > _MOST[kind]:
            raise DatasetError(
                f"{self.path}: a chunk of {len(payload)} bytes, at most {_MOST[kind]} "
                "fit"
            )
        padded = payload + bytes(_padded(len(payload)) - len(payload))
        head = _CHUNK.pack(_MARK, kind, len(payload), zlib.crc32(padded))
        return head + _chunk_end(self._id, at, head) + padded

    def _add(self, kind: int, payload: bytes) -> None:
        left = memoryview(self._framed(kind, payload, self._used))
        total = len(left)
        at = self._used
        try:
            while left:
                done = os.pwrite(self._fd, left, at)
                left, at = left[done:], at + done
        except OSError:
            os.ftruncate(self._fd, self._used)
            raise
        self._used += total

    def begin(
        self,
        *,
        workload: str,
        device: str,
        group: str = "",
        label: str | None = None,
        knob: int | None = None,
        seed: int = 0,
        started_ns: int = 0,
        tags: dict[str, str] | None = None,
    ) -> int:
        """Begin a run; several may be open at once.

        Parameters
        ----------
        workload, device, group, label, knob, seed, started_ns, tags
            As in `Run`.

        Returns
        -------
        int
            The run's number.

        Raises
        ------
        DatasetError
            If a text is too long or a number too large.
        OSError
            If it cannot be written.

        Thread safety
        -------------
        None.
        """
        said = _Begin(
            number=self._number, workload=workload, device=device, group=group,
            label=label, knob=knob, seed=seed, started_ns=started_ns, tags=tags or {},
        )  # fmt: skip
        self._add(BEGIN, self._checked(said, BEGIN))
        self._counts[self._number] = 0
        self._number += 1
        return self._number - 1

    def _checked(self, said: _Begin | _End, kind: int) -> bytes:
        """What can be read again."""
        try:
            payload = msgspec.json.encode(said)
            _JSON[kind].decode(payload)
        except (msgspec.MsgspecError, OverflowError, UnicodeError) as error:
            raise DatasetError(
                f"{self.path}: a run cannot be noted: {error}"
            ) from error
        return payload

    def rows(self, run: int, t_ns: Any, values: Any, valid: Any) -> None:
        """Add rows to a run.

        Parameters
        ----------
        run : int
            What `begin` gave.
        t_ns : sequence of int or int64 buffer
            CLOCK_MONOTONIC in nanoseconds.
        values, valid : sequence of sequences, or buffers of int64 and bool
            Of each row the fixed-point values, and whether they could be read.

        Raises
        ------
        ValueError
            If their sizes do not go together.
        OSError
            If they cannot be written.

        Thread safety
        -------------
        None.
        """
        blocks = _rows.encode(
            run,
            len(self.fields),
            _packed(t_ns, "q"),
            _packed(_flat(values), "q"),
            _packed(_flat(valid), "B"),
        )
        for block in blocks:
            self.block(block)

    def block(self, payload: bytes) -> None:
        """Add a block of rows as `pymlk.rows` makes it.

        Parameters
        ----------
        payload : bytes
            The block.

        Raises
        ------
        DatasetError
            If its run is not open.
        OSError
            If it cannot be written.

        Thread safety
        -------------
        None.
        """
        number, count = _rows.head(payload)
        if number not in self._counts:
            raise DatasetError(f"{self.path}: run {number} is not open")
        self._add(ROWS, payload)
        self._counts[number] += count

    def count(self, run: int) -> int:
        """How many rows an open run has.

        Parameters
        ----------
        run : int
            What `begin` gave.

        Returns
        -------
        int
            Rows.

        Raises
        ------
        KeyError
            If it is not open.

        Thread safety
        -------------
        None.
        """
        return self._counts[run]

    def end(
        self,
        run: int,
        *,
        score: float | None = None,
        seconds: float = 0.0,
        missed: int = 0,
        fault: str = "",
    ) -> None:
        """End a run.

        Parameters
        ----------
        run : int
            What `begin` gave.
        score, seconds, missed, fault
            As in `Run`.

        Raises
        ------
        DatasetError
            If it is not open, or its score is no finite number.
        OSError
            If it cannot be written.

        Thread safety
        -------------
        None.
        """
        if run not in self._counts:
            raise DatasetError(f"{self.path}: run {run} is not open")
        if score is not None and not math.isfinite(score):
            raise DatasetError(
                f"{self.path}: a score of {score} found, a number expected"
            )
        said = _End(
            number=run, score=score, seconds=seconds, rows=self._counts[run],
            missed=missed, fault=fault[:1000],
        )  # fmt: skip
        self._add(END, self._checked(said, END))
        del self._counts[run]

    def sync(self) -> None:
        """Wait until all that was written is on the disk.

        Raises
        ------
        OSError
            If it cannot be.

        Thread safety
        -------------
        None.
        """
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Sync and close; runs that have no end are not good ones.

        Thread safety
        -------------
        None. Closing twice does nothing.
        """
        if self._fd < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._fd)
            self._fd = -1

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
