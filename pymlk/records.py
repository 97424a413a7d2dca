# SPDX-License-Identifier: MIT
"""Read what `pymlk.record` wrote; whatever the bytes are, it ends and says where.

A segment is read up to its first damaged record: each row is written as a difference
to the one before, so nothing behind that can be trusted. The next segment begins
anew.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from .errors import RecordError
from .record import HEADER_BYTES, KINDS, MAGIC, MOST_BYTES, VERSION, segment_paths

_HEADER = struct.Struct("<4sHHQqqI")
_PLACE = struct.Struct("<QQ")
_DOUBLE = struct.Struct("<d")
_CRC = struct.Struct("<I")
# no record behind a segment's head is longer
_MOST_SMALL = 4096
_SMALL = ("decision", "effect", "event")
# A write that was cut ends the file; what follows damage in the middle is looked for
# in so many bytes.
_LOOK = 64 << 10

ASKED, KNOB_KNOWN, LIMITED, APPLY, CHANGED = 1, 2, 4, 8, 16
FRESH, PARTLY_VALID, HAS_ERRNO = 32, 64, 128
HAS_SECONDS, HAS_BEFORE, HAS_CHOICE, HAS_CONFIDENCE = 256, 512, 1024, 2048
HAS_WANTED, HELD_OUT = 4096, 8192

Small = Annotated[int, Meta(ge=0, le=64)]
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Natural = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Row = Annotated[list[Int64], Meta(max_length=64)]


class Damage(NamedTuple):
    """Where a segment stops making sense.

    Attributes
    ----------
    file : str
        The segment.
    offset : int
        Byte at which the first bad record begins.
    what : str
        What was found there.
    torn : bool
        True if only the end is missing: a write that power loss or a kill cut short.
    """

    file: str
    offset: int
    what: str
    torn: bool

    def __str__(self) -> str:
        """File, place and what was found, in one line."""
        kind = "torn end" if self.torn else "damaged"
        return f"{self.file}: byte {self.offset}: {kind}: {self.what}"


class Head(Struct):
    """The plan and circumstances of a segment.

    Attributes
    ----------
    plan : dict
        As `pymlk.policy.load` gave it, without the program.
    mode : str
        ``shadow``, ``apply`` or a proxy's mode when the segment began.
    boot, run : str
        Which boot and which run it belongs to.
    reasons : list of str
        What the numbers of reasons mean.
    missed, recorded : int
        Decisions and effects of the run before this segment.
    """

    plan: dict[str, Any]
    mode: str
    boot: str
    run: str
    reasons: Annotated[list[str], Meta(max_length=256)]
    missed: Natural
    recorded: Natural


class GuardState(Struct):
    """What a guard remembers; see `pymlk.guard.Guard.get_state`."""

    apply: bool
    last: Annotated[int, Meta(ge=-1, le=64)]
    repeated: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
    changed_ns: Int64
    expected: Int64
    original: Int64
    started: bool
    hands_off: bool


class StreamState(Struct):
    """A stream: what it is, and what it knew when this was written.

    Attributes
    ----------
    stream : int
        Its number in the records.
    device, mode : str
        Its name, and what it may do.
    fields : dict of str to tuple of (int, int)
        For each field its place in the row and its fixed-point scale.
    inputs, outputs : int
        Sizes of the model's rows.
    row, valid, seq, time_ns, current
        Of its last decision.
    features : list of float or None
        Their averages, then the peaks and troughs of those that have one.
    guard : GuardState
        Its guard's memory.
    history : str
        The last int8 rows of features, oldest first, in hexadecimal; empty if the model
        sees but one.
    """

    stream: Annotated[int, Meta(ge=0, le=1 << 20)]
    device: str
    mode: str
    fields: dict[
        str,
        tuple[
            Annotated[int, Meta(ge=0, lt=64)], Annotated[int, Meta(ge=1, le=1 << 62)]
        ],
    ]
    inputs: Annotated[int, Meta(ge=0, le=1024)]
    outputs: Small
    row: Row
    valid: Annotated[list[bool], Meta(max_length=64)]
    seq: Natural
    time_ns: Int64
    current: Int64
    features: Annotated[list[float | None], Meta(max_length=128)]
    guard: GuardState
    history: Annotated[str, Meta(pattern="^([0-9a-f]{2})*$", max_length=2048)] = ""


class Program(NamedTuple):
    """A program from the log: its version and bytes."""

    version: int
    data: bytes


class Event(Struct):
    """What is no decision: its time, a word, a text, and whom it concerns."""

    time_ns: Int64
    event: str
    text: str
    device: str


class Effect(NamedTuple):
    """What came of a decision."""

    stream: int
    seq: int
    value: float


class Decision(Struct):
    """One decision as it was recorded.

    Attributes
    ----------
    offset : int
        Byte in the segment.
    stream : int
        Number of its stream.
    flags : int
        What `pymlk.record` notes of it.
    seq, time_ns : int
        Number and CLOCK_MONOTONIC of the snapshot.
    seconds : float
        Since the row before; 0 if there is none.
    row, before : list of int
        Of the stream's own fields; what could not be read has whatever was there.
    valid, valid_before : list of bool
        Which could be read.
    current, target : int
        The knob's value before, and when all was done.
    reason : str
        One of `pymlk.guard.REASON_NAMES`.
    latency_ns : int
        From the start of the snapshot to the verdict.
    error : int
        An errno, or 0.
    version : int
        Of the program; 0 if it was not asked.
    inputs, outputs : bytes
        The model's int8 rows.
    judged_ns, judged_latency_ns : int
        Time and latency as the guard was given them.
    choice : int
        Place of the recommended value; -1 if it is the largest output.
    confidence : float or None
        None if it is that of the choice's output.
    wanted, changed_ns : int
        What the guard allowed, and when it was told of a change; 0 if it was not.
    """

    offset: int
    stream: int
    flags: int
    seq: int
    time_ns: int
    seconds: float
    row: list[int]
    before: list[int]
    valid: list[bool]
    valid_before: list[bool]
    current: int
    target: int
    reason: str
    latency_ns: int
    error: int = 0
    version: int = 0
    inputs: bytes = b""
    outputs: bytes = b""
    judged_ns: int = 0
    judged_latency_ns: int = 0
    choice: int = -1
    confidence: float | None = None
    wanted: int = 0
    changed_ns: int = 0

    def has(self, flag: int) -> bool:
        """Is that flag set?"""
        return bool(self.flags & flag)


Record = Head | Program | StreamState | Decision | Effect | Event
_JSON: dict[str, Any] = {
    "plan": msgspec.json.Decoder(Head),
    "stream": msgspec.json.Decoder(StreamState),
    "event": msgspec.json.Decoder(Event),
}


class _Bad(Exception):
    """A record whose content makes no sense."""


def wrap(value: int) -> int:
    """Take a number as int64 arithmetic has it: modulo 2^64, with a sign.

    Parameters
    ----------
    value : int
        Any.

    Returns
    -------
    int
        From -2^63 to 2^63 - 1.

    Thread safety
    -------------
    Pure function.
    """
    return ((value + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


class _Bytes:
    """A payload that is taken apart from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.raw(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & ((1 << 64) - 1)
            shift += 7
            if shift > 63:
                raise _Bad("a number of more than 64 bits")

    def natural(self, most: int = (1 << 63) - 1) -> int:
        value = self.varint()
        if value > most:
            raise _Bad(f"{value} found, at most {most} expected")
        return value

    def count(self, before: int) -> int:
        value = self.change(before)
        if value < 0:
            raise _Bad(f"a sequence number of {value}")
        return value

    def change(self, before: int) -> int:
        value = self.varint()
        return wrap(before + ((value >> 1) ^ -(value & 1)))

    def raw(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) != count:
            raise _Bad("it ends in the middle of a value")
        self._at += count
        return found

    def double(self) -> float:
        value: float = _DOUBLE.unpack(self.raw(8))[0]
        return value

    def bits(self, count: int) -> list[bool]:
        found = self.raw((count + 7) // 8)
        return [bool(found[i >> 3] >> (i & 7) & 1) for i in range(count)]

    def end(self) -> None:
        if self._at != len(self._data):
            raise _Bad(f"{len(self._data) - self._at} bytes too many")


class Segment:
    """One segment of a log, to be read once.

    Parameters
    ----------
    path : str
        The file.

    Attributes
    ----------
    path : str
        As given.
    number : int
        Its place in the log; 0 if the header is damaged.
    monotonic_ns, wall_ns : int
        CLOCK_MONOTONIC and CLOCK_REALTIME when it began.
    bytes : int
        Its size.
    damage : Damage or None
        Set when `records` came to its end.

    Raises
    ------
    RecordError
        If it is larger than any segment can be.
    OSError
        If it cannot be read.

    Thread safety
    -------------
    None.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                raise RecordError(
                    f"{path}: {size} bytes found, at most {MOST_BYTES} expected: no "
                    "segment of a log"
                )
            self._data = file.read(MOST_BYTES)
        self.bytes = len(self._data)
        self.number = self.monotonic_ns = self.wall_ns = 0
        self.damage: Damage | None = None
        self._streams: dict[int, StreamState] = {}
        self._reasons: list[str] = []
        self._at = self._header()

    def _header(self) -> int:
        if len(self._data) < HEADER_BYTES:
            return self._damaged(0, "shorter than a segment's header", torn=False)
        magic, version, size, number, monotonic, wall, crc = _HEADER.unpack_from(
            self._data
        )
        if magic != MAGIC:
            return self._damaged(0, f"{magic!r} found, {MAGIC!r} expected", torn=False)
        if crc != zlib.crc32(self._data[: HEADER_BYTES - 4]):
            return self._damaged(0, "the header's checksum is wrong", torn=False)
        if (version, size) != (VERSION, HEADER_BYTES):
            text = f"version {version} found, {VERSION} expected: written by another"
            return self._damaged(4, text, torn=False)
        self.number, self.monotonic_ns, self.wall_ns = number, monotonic, wall
        return HEADER_BYTES

    def _damaged(self, offset: int, what: str, *, torn: bool) -> int:
        self.damage = Damage(self.path, offset, what, torn)
        return len(self._data)

    def records(self) -> Iterator[Record]:
        """All records up to the first damage, which `damage` then has.

        Yields
        ------
        Head, Program, StreamState, Decision, Effect or Event
            In the order they were written; a head comes first.

        Thread safety
        -------------
        None.
        """
        while self._at < len(self._data):
            start = self._at
            try:
                kind, payload, end = self._frame(start)
                record = self._decode(kind, payload, start)
            except (_Bad, msgspec.MsgspecError, RecursionError) as error:
                torn = not self._goes_on(start)
                self._at = self._damaged(start, str(error) or repr(error), torn=torn)
                return
            self._at = end
            yield record

    def _frame(self, at: int) -> tuple[str, bytes, int]:
        """Kind and payload of the record at that place, and where the next one is."""
        head = _Bytes(self._data[at : at + 6])
        number = head.raw(1)[0]
        if not 0 < number < len(KINDS):
            raise _Bad(f"kind {number} found, 1 to {len(KINDS) - 1} expected")
        length = head.varint()
        begin = at + head._at
        end = begin + length
        if end + 4 > len(self._data):
            raise _Bad(
                f"a record of {length} bytes, {len(self._data) - begin} are there"
            )
        if KINDS[number] in _SMALL and length > _MOST_SMALL:
            raise _Bad(f"a {KINDS[number]} of {length} bytes, at most {_MOST_SMALL}")
        crc = zlib.crc32(_PLACE.pack(self.number, at))
        if zlib.crc32(self._data[at:end], crc) != _CRC.unpack_from(self._data, end)[0]:
            raise _Bad("the checksum is wrong")
        return KINDS[number], self._data[begin:end], end + 4

    def _goes_on(self, start: int) -> bool:
        """Is there a good record behind a bad one? Then it is no torn end."""
        for at in range(start + 1, min(start + _LOOK, len(self._data))):
            if self._data[at] >= len(KINDS) or KINDS[self._data[at]] not in _SMALL:
                continue
            try:
                self._frame(at)
                return True
            except _Bad:
                continue
        return len(self._data) - start > _LOOK and any(self._data[start + _LOOK :])

    def _decode(self, kind: str, payload: bytes, offset: int) -> Record:
        if kind in _JSON:
            record: Record = _JSON[kind].decode(payload)
            if isinstance(record, StreamState):
                self._add_stream(record)
            elif isinstance(record, Head):
                self._reasons = record.reasons
            return record
        data = _Bytes(payload)
        if kind == "program":
            version = data.varint()
            return Program(version, payload[data._at :])
        stream = data.varint()
        if stream not in self._streams:
            raise _Bad(f"stream {stream} is not in this segment")
        state = self._streams[stream]
        if kind == "effect":
            seq = data.count(state.seq)
            found: Record = Effect(stream, seq, data.double())
        else:
            found = self._decision(data, state, offset)
        data.end()
        return found

    def _add_stream(self, state: StreamState) -> None:
        if len(state.row) != len(state.valid) or any(
            place >= len(state.row) for place, _ in state.fields.values()
        ):
            raise _Bad("a stream whose fields do not fit its row")
        self._streams[state.stream] = msgspec.structs.replace(state)

    def _decision(self, data: _Bytes, state: StreamState, offset: int) -> Decision:
        n = len(state.row)
        flags = data.varint()
        seq = data.count(state.seq)
        time_ns = data.change(state.time_ns)
        seconds = 0.0 if flags & FRESH else float(time_ns - state.time_ns) * 1e-9
        if flags & HAS_SECONDS:
            seconds = data.double()
        valid = data.bits(n) if flags & PARTLY_VALID else [True] * n
        before, valid_before = state.row, state.valid
        if flags & HAS_BEFORE:
            before = [data.change(value) for value in state.row]
            valid_before = data.bits(n)
        row = [data.change(value) for value in state.row]
        current = data.change(state.current)
        reason = data.varint()
        if reason >= len(self._reasons):
            raise _Bad(f"reason {reason} found, below {len(self._reasons)} expected")
        decision = Decision(
            offset, state.stream, flags, seq, time_ns, seconds, row, before, valid,
            valid_before, current, data.change(current), self._reasons[reason],
            data.natural(),
        )  # fmt: skip
        if flags & HAS_ERRNO:
            decision.error = data.natural(4095)
        if flags & ASKED:
            self._answer(data, state, decision)
        decision.wanted = decision.target
        if flags & (CHANGED | HAS_WANTED):
            decision.wanted = data.change(decision.target)
        if flags & CHANGED:
            decision.changed_ns = data.change(time_ns)
        state.row, state.valid = row, valid
        state.seq, state.time_ns, state.current = seq, time_ns, current
        return decision

    def _answer(self, data: _Bytes, state: StreamState, decision: Decision) -> None:
        decision.version = data.natural((1 << 32) - 1)
        decision.inputs = data.raw(state.inputs)
        decision.outputs = data.raw(state.outputs)
        decision.judged_ns = data.change(decision.time_ns)
        decision.judged_latency_ns = data.change(decision.latency_ns)
        if decision.flags & HAS_CHOICE:
            decision.choice = data.natural(1 << 31)
        if decision.flags & HAS_CONFIDENCE:
            decision.confidence = data.double()


def open_log(path: str) -> Iterator[Segment]:
    """Open the segments of a log, one after the other.

    Parameters
    ----------
    path : str
        The folder, or one segment of it.

    Yields
    ------
    Segment
        Oldest first; one that a running recorder deletes meanwhile is left out.

    Raises
    ------
    RecordError
        If there is no segment.
    OSError
        If it cannot be read.

    Thread safety
    -------------
    Reads the file system only.
    """
    if not os.path.isdir(path):
        yield Segment(path)
        return
    paths = segment_paths(path)
    if not paths:
        raise RecordError(
            f"{path}: no decisions-NUMBER.mlkr found, a folder of `pymlk run --record` "
            "expected"
        )
    for _, name in paths:
        try:
            segment = Segment(name)
        except FileNotFoundError:
            continue
        yield segment
