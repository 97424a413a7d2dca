# SPDX-License-Identifier: MIT
"""Recorder: every decision to a bounded, append-only log that survives power loss.

A log is a folder of segments. Each begins with a head that is on the disk before
the segment has its name: the plan, the program, and the state of every stream, so
that a segment can be replayed alone. Then come records, each written by one
``write()`` and checked by a CRC. ``docs/record.md`` describes the format;
`pymlk.records` reads it, `pymlk.replay` computes it again.
"""

import fcntl
import os
import time

from libc.errno cimport EAGAIN, EBADF, EFBIG, EINTR, EINVAL, EIO, errno
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close, fdatasync, ftruncate, write

from .stream cimport (
    APPLY,
    ASKED,
    CHANGED,
    HELD_OUT,
    KNOB_KNOWN,
    LIMITED,
    RecordedDecision,
    Sink,
)
from .varint cimport put_change, put_varint

from .errors import RecordError
from .guard import REASON_NAMES as _REASON_NAMES
from .quickjson import dumps as _dumps

MAGIC = b"MLKR"
VERSION = 1
# magic, version, size of this header, number, CLOCK_MONOTONIC, CLOCK_REALTIME, CRC
HEADER_BYTES = 36
KINDS = ("", "plan", "program", "stream", "decision", "effect", "event")
LEAST_BYTES = 16 << 10
MOST_BYTES = 256 << 20

cdef enum:
    PLAN = 1
    PROGRAM
    STREAM
    DECISION
    EFFECT
    EVENT
    # before a payload in the buffer: kind, and a length of at most 5 bytes
    ROOM = 6
    # a decision of the largest stream is below 3 KiB
    BUFFER = 4096
    # syncing takes at most one part in so many of the caller's time
    SYNC_SHARE = 20

_TEMPORARY = "segment.new"

# four bytes at a time: [k] is what a byte that k more bytes follow adds
cdef uint32_t _CRC_TABLE[4][256]


cdef void _fill_table() noexcept:
    cdef uint32_t c
    cdef uint32_t i
    cdef int k, _turn
    for i in range(256):
        c = i
        for _turn in range(8):
            c = (c >> 1) ^ 0xEDB88320 if c & 1 else c >> 1
        _CRC_TABLE[0][i] = c
    for k in range(1, 4):
        for i in range(256):
            c = _CRC_TABLE[k - 1][i]
            _CRC_TABLE[k][i] = (c >> 8) ^ _CRC_TABLE[0][c & 0xFF]


_fill_table()


cdef uint32_t _crc(uint32_t crc, const uint8_t *p, Py_ssize_t n) noexcept nogil:  # hot
    """CRC-32 as zlib's; 0 to begin with."""
    crc = ~crc
    while n >= 4:
        crc ^= (
            p[0]
            | <uint32_t>p[1] << 8
            | <uint32_t>p[2] << 16
            | <uint32_t>p[3] << 24
        )
        crc = (
            _CRC_TABLE[3][crc & 0xFF]
            ^ _CRC_TABLE[2][(crc >> 8) & 0xFF]
            ^ _CRC_TABLE[1][(crc >> 16) & 0xFF]
            ^ _CRC_TABLE[0][crc >> 24]
        )
        p += 4
        n -= 4
    while n > 0:
        crc = (crc >> 8) ^ _CRC_TABLE[0][(crc ^ p[0]) & 0xFF]
        p += 1
        n -= 1
    return ~crc


cdef inline uint8_t *_fixed(
    uint8_t *p, uint64_t value, int n
) noexcept nogil:  # hot
    """So many bytes, the lowest first."""
    cdef int i
    for i in range(n):
        p[i] = <uint8_t>(value >> (8 * i))
    return p + n


cdef inline uint8_t *_double(uint8_t *p, double value) noexcept nogil:  # hot
    cdef uint64_t bits
    memcpy(&bits, &value, sizeof(bits))
    return _fixed(p, bits, 8)


cdef uint32_t _place_crc(uint64_t number, int64_t at) noexcept nogil:  # hot
    """What a record's CRC begins with: no record is valid anywhere else."""
    cdef uint8_t place[16]
    _fixed(_fixed(place, number, 8), <uint64_t>at, 8)
    return _crc(0, place, 16)


cdef inline uint8_t *_raw(
    uint8_t *p, const void *start, size_t n
) noexcept nogil:  # hot
    memcpy(p, start, n)
    return p + n


cdef inline bint _bit(const uint8_t *bits, Py_ssize_t i) noexcept nogil:  # hot
    return (bits[i >> 3] >> (i & 7)) & 1


cdef int64_t _now() noexcept nogil:  # hot
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef bytes _varint_bytes(uint64_t value):
    cdef uint8_t room[10]
    return (<char *>room)[:put_varint(room, value) - room]


def segment_paths(folder):
    """Numbers and paths of a log's segments, oldest first.

    Parameters
    ----------
    folder : str
        The log.

    Returns
    -------
    list of tuple of (int, str)
        Number and path.

    Raises
    ------
    OSError
        If the folder cannot be read.

    Thread safety
    -------------
    Reads the file system only.
    """
    found = []
    for name in os.listdir(folder):
        digits = name.removeprefix("decisions-").removesuffix(".mlkr")
        if len(name) != len(digits) + len("decisions-.mlkr"):
            continue
        if 8 <= len(digits) <= 18 and digits.isascii() and digits.isdecimal():
            found.append((int(digits), os.path.join(folder, name)))
    return sorted(found)


cdef class Recorder(Sink):
    """Writes decisions to a log; a failing disk switches it off, never the caller.

    Parameters
    ----------
    folder : str
        The log; made if it is missing. One recorder at a time has it.
    plan : dict
        What `pymlk.policy.load` gave; its program becomes version 1.
    mode : str
        What the run is allowed: ``shadow``, ``apply`` or a proxy's mode.
    segment_bytes : int
        Most bytes of one segment, 16 KiB to 256 MiB.
    segments : int
        Most segments, at least 2; the oldest goes when a new one begins.
    sync_s : float
        Most seconds between a record and its way to the disk, if `tick` is called.
    retry_s : float
        Seconds after a failure until recording is tried again.

    Attributes
    ----------
    folder : str
        As given.
    version : int
        Of the program that runs.
    closed : bool
        True after `close`.
    due : bool
        True if the segment is nearly full: call `tick` before the next decision.
    recorded, missed : int
        Decisions and effects that were written, and that were not.

    Raises
    ------
    RecordError
        If another recorder has the folder, a size is out of its range, or the plan and
        its program do not fit into half a segment.

    Notes
    -----
    What the system refuses (no space, read-only, input/output error) raises nothing:
    `error` says it, `missed` counts, `tick` tries again.

    Thread safety
    -------------
    None; the loop's thread only.

    Source
    ------
    ``docs/record.md``.

    Examples
    --------
    >>> import tempfile
    >>> from pymlk.policy import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recorder = Recorder(folder, load("readahead"))
    ...     recorder.close()
    ...     [os.path.basename(path) for _, path in segment_paths(folder)]
    ['decisions-00000001.mlkr']
    """

    def __cinit__(self):
        self._fd = self._folder_fd = -1
        self._buffer = <uint8_t *>calloc(1, BUFFER)
        if self._buffer == NULL:
            raise MemoryError("no memory for records")

    def __init__(
        self,
        str folder,
        dict plan,
        *,
        str mode="shadow",
        int64_t segment_bytes=1 << 20,
        int segments=8,
        double sync_s=5.0,
        double retry_s=30.0,
    ):
        from .engine import Program

        if self._head is not None:
            raise TypeError("a Recorder is made once")
        if not LEAST_BYTES <= segment_bytes <= MOST_BYTES:
            raise RecordError(
                f"{folder}: segments of {segment_bytes} bytes found, "
                f"{LEAST_BYTES} to {MOST_BYTES} expected"
            )
        if not 2 <= segments <= 10000:
            raise RecordError(
                f"{folder}: {segments} segments found, 2 to 10000 expected"
            )
        self.folder = folder
        self._limit, self._segments = segment_bytes, segments
        self._interval_ns = <int64_t>(sync_s * 1e9)
        self._retry_interval_ns = <int64_t>(retry_s * 1e9)
        self._plan = {key: value for key, value in plan.items() if key != "program"}
        self._head = {
            "mode": mode,
            "boot": _boot_id(),
            "run": _run_id(),
            "reasons": _REASON_NAMES,
        }
        self._streams = []
        self._modes = {}
        self._written = set()
        self._errno = EBADF
        self._use(1, Program(plan["program"]))
        if len(self._head_bytes(0)) > segment_bytes // 2:
            raise RecordError(
                f"{folder}: plan and program have {len(self._head_bytes(0))} bytes, at "
                f"most half a segment ({segment_bytes // 2}) expected: use larger ones"
            )
        self._begin()
        if self._errno == EAGAIN:
            raise RecordError(
                f"{folder}: another run records there: use a folder of its own"
            )

    def __dealloc__(self):
        if self._fd >= 0:
            close(self._fd)
        if self._folder_fd >= 0:
            close(self._folder_fd)
        free(self._buffer)
        free(self._rows)

    # ---------------------------------------------------------------- what is recorded

    def add_stream(self, str device, features, guard, dict fields):
        """Tell of a device (or proxy) that is decided on from now on.

        Parameters
        ----------
        device : str
            Its name.
        features : Features
            As the loop uses them; their state is noted at the start of a segment.
        guard : Guard
            The same.
        fields : dict of str to tuple of (int, int)
            For each field its place in the row and its fixed-point scale.

        Returns
        -------
        int
            The stream's number for `RecordedDecision.stream`.

        Raises
        ------
        RecordError
            If it has more values or choices than 64, or more inputs than 1024.

        Thread safety
        -------------
        None. Call it between decisions; it allocates.
        """
        places = sorted({place for place, _ in fields.values()})
        if len(places) > MAX_ROW or self._n_in > MAX_INPUTS or guard.n > MAX_OUTPUTS:
            raise RecordError(
                f"{device}: {len(places)} values, {self._n_in} inputs and {guard.n} "
                f"choices found, at most 64, {MAX_INPUTS} and 64 expected"
            )
        # the number of a stream that ended, or a new one
        number = self._streams.index(None) if None in self._streams else self._n_rows
        if number == self._n_rows:
            self._grow()
        cdef StreamRow *s = &self._rows[number]
        memset(s, 0, sizeof(StreamRow))
        s.n, s.n_in, s.n_out = len(places), self._n_in, guard.n
        for i in range(s.n):
            s.places[i] = places[i]
        own = {
            name: (places.index(place), scale)
            for name, (place, scale) in fields.items()
        }
        self._streams[number] = (device, features, guard, own)
        self._add(STREAM, self._stream_payload(number))
        return number

    cdef _grow(self):
        """Room for one more stream."""
        cdef StreamRow *rows = <StreamRow *>realloc(
            self._rows, (self._n_rows + 1) * sizeof(StreamRow)
        )
        if rows == NULL:
            raise MemoryError("no memory for one more stream")
        self._rows = rows
        self._streams.append(None)
        self._n_rows += 1

    def end_stream(self, int stream):
        """Tell that a stream has no more decisions: later segments leave it out.

        Parameters
        ----------
        stream : int
            What `add_stream` gave.

        Raises
        ------
        IndexError
            If there is no such stream.

        Thread safety
        -------------
        None.
        """
        if not 0 <= stream < self._n_rows:
            raise IndexError(f"stream {stream} found, 0 to {self._n_rows - 1} expected")
        self._streams[stream] = None

    def program(self, int64_t version, program):
        """Tell which program runs from now on.

        Parameters
        ----------
        version : int
            1 is the plan's; the number of a swap, or of what a rollback brought back.
        program : Program
            Has as many inputs and outputs as the plan's.

        Raises
        ------
        RecordError
            If it has others.

        Thread safety
        -------------
        None. Call it between decisions.
        """
        if not 0 < version < 1 << 32:
            raise RecordError(f"version {version} found, 1 or more expected")
        self._use(version, program)
        if version not in self._written:
            self._written.add(version)
            self._add(PROGRAM, self._program_payload())

    def _use(self, version, program):
        sizes = []
        for tensor in (program.inputs[0], program.outputs[0]):
            size = 1
            for dim in tensor["shape"]:
                size *= dim
            sizes.append(size)
        if self._programs is not None and (self._n_in, self._n_out) != tuple(sizes):
            raise RecordError(
                f"{self.folder}: a program of {sizes[0]} inputs and {sizes[1]} outputs "
                f"found, {self._n_in} and {self._n_out} expected"
            )
        self._n_in, self._n_out = sizes
        self._out_scale = program.outputs[0]["scale"]
        self._out_zero = program.outputs[0]["zero_point"]
        self.version, self._programs = version, program

    def event(self, str name, str text="", str device=""):
        """Note what is no decision: a mode change, a device that came or went.

        Parameters
        ----------
        name : str
            A word, such as ``mode``; its text is then the mode's name.
        text : str
            The reason, for people.
        device : str
            Which one it concerns; empty for all.

        Thread safety
        -------------
        None.
        """
        if name == "mode" and device:
            self._modes[device] = text
        elif name == "mode":
            self._head["mode"] = text
        said = {
            "time_ns": _now(),
            "event": name,
            "text": text[:500],
            "device": device[:200],
        }
        self._add(EVENT, _dumps(said).encode())

    cdef int decision(self, const RecordedDecision *d) noexcept nogil:  # hot
        cdef StreamRow *s
        cdef Py_ssize_t length
        cdef Py_ssize_t i
        if not 0 <= d.stream < self._n_rows:
            return -EINVAL
        s = &self._rows[d.stream]
        length = self._encode(d, s) if self._errno == 0 else 0
        # also if it is not recorded: a segment may begin with the next one
        memset(s.valid, 0, sizeof(s.valid))
        for i in range(s.n):
            s.row[i] = d.row[s.places[i]]
            s.valid[i >> 3] |= <uint8_t>(_bit(d.valid, s.places[i]) << (i & 7))
        s.seq, s.time_ns, s.current = d.seq, d.time_ns, d.current
        if d.flags & CHANGED and self._sync_floor_ns < self._sync_ns:
            self._sync_ns = self._sync_floor_ns
        return self._append(DECISION, length)

    cdef Py_ssize_t _encode(
        self, const RecordedDecision *d, const StreamRow *s
    ) noexcept nogil:  # hot
        """The payload into the buffer behind its ROOM; how long it is."""
        cdef uint8_t body[BUFFER - 64]
        cdef uint8_t bits[BITMAP]
        cdef uint8_t *p = body
        cdef uint8_t *start = self._buffer + ROOM
        cdef uint8_t *head
        cdef uint32_t flags = d.flags & (
            ASKED | KNOB_KNOWN | LIMITED | APPLY | CHANGED | HELD_OUT
        )
        cdef Py_ssize_t bitmap = (s.n + 7) >> 3
        cdef Py_ssize_t i
        cdef Py_ssize_t at
        if d.seconds == 0.0:
            flags |= FRESH
        elif d.seconds != <double>(d.time_ns - s.time_ns) * 1e-9:
            flags |= HAS_SECONDS
        memset(bits, 0, sizeof(bits))
        for i in range(s.n):
            at = s.places[i]
            if _bit(d.valid, at):
                bits[i >> 3] |= <uint8_t>(1 << (i & 7))
            else:
                flags |= PARTLY_VALID
            if not flags & FRESH and d.before != NULL and (
                d.before[at] != s.row[i] or _bit(d.valid_before, at) != _bit(s.valid, i)
            ):
                flags |= HAS_BEFORE
        p = put_change(p, d.seq, s.seq)
        p = put_change(p, d.time_ns, s.time_ns)
        if flags & HAS_SECONDS:
            p = _double(p, d.seconds)
        if flags & PARTLY_VALID:
            p = _raw(p, bits, bitmap)
        if flags & HAS_BEFORE:
            memset(bits, 0, sizeof(bits))
            for i in range(s.n):
                at = s.places[i]
                bits[i >> 3] |= <uint8_t>(_bit(d.valid_before, at) << (i & 7))
                p = put_change(p, d.before[at], s.row[i])
            p = _raw(p, bits, bitmap)
        for i in range(s.n):
            p = put_change(p, d.row[s.places[i]], s.row[i])
        p = put_change(p, d.current, s.current)
        p = put_varint(p, <uint32_t>d.reason)
        p = put_change(p, d.target, d.current)
        p = put_varint(p, <uint64_t>d.latency_ns)
        if d.error:
            flags |= HAS_ERRNO
            p = put_varint(p, <uint32_t>d.error)
        if flags & ASKED:
            p = self._encode_answer(d, s, &flags, p)
        if flags & CHANGED:
            p = put_change(p, d.wanted, d.target)
            p = put_change(p, d.changed_ns, d.time_ns)
        elif flags & ASKED and d.wanted != d.target:
            flags |= HAS_WANTED
            p = put_change(p, d.wanted, d.target)
        head = put_varint(put_varint(start, <uint32_t>d.stream), flags)
        memcpy(head, body, p - body)
        return (head - start) + (p - body)

    cdef uint8_t *_encode_answer(
        self,
        const RecordedDecision *d,
        const StreamRow *s,
        uint32_t *flags,
        uint8_t *p,
    ) noexcept nogil:  # hot
        """What the model made of the row, and when the guard was asked."""
        cdef int best = 0
        cdef int i
        for i in range(1, s.n_out):
            if d.outputs[i] > d.outputs[best]:
                best = i
        p = put_varint(p, d.version)
        p = _raw(p, d.inputs, s.n_in)
        p = _raw(p, d.outputs, s.n_out)
        p = put_change(p, d.judged_ns, d.time_ns)
        p = put_change(p, d.judged_latency_ns, d.latency_ns)
        if d.choice != best:
            flags[0] |= HAS_CHOICE
            p = put_varint(p, <uint32_t>d.choice)
        # same formula as the stream's; another model's scale shows as a difference
        if not 0 <= d.choice < s.n_out or d.confidence != (
            (d.outputs[d.choice] - self._out_zero) * self._out_scale
        ):
            flags[0] |= HAS_CONFIDENCE
            p = _double(p, d.confidence)
        return p

    cdef int effect(self, int stream, uint64_t seq, double value) noexcept nogil:  # hot
        """Note what came of a decision; a policy's own objective needs no record."""
        cdef uint8_t *p = self._buffer + ROOM
        if not 0 <= stream < self._n_rows:
            return -EINVAL
        p = put_varint(p, <uint32_t>stream)
        p = put_change(p, seq, self._rows[stream].seq)
        p = _double(p, value)
        return self._append(EFFECT, p - self._buffer - ROOM)

    cdef int _append(self, int kind, Py_ssize_t length) noexcept nogil:  # hot
        """Frame what is in the buffer behind its ROOM and write it."""
        cdef uint8_t head[ROOM]
        cdef uint8_t *start
        cdef Py_ssize_t total
        cdef Py_ssize_t written = 0
        cdef Py_ssize_t more
        cdef uint32_t crc
        if self._errno:
            self.missed += 1
            return -self._errno
        head[0] = <uint8_t>kind
        total = put_varint(head + 1, length) - head
        start = self._buffer + ROOM - total
        memcpy(start, head, total)
        total += length
        crc = _crc(_place_crc(self._number, self._used), start, total)
        _fixed(start + total, crc, sizeof(crc))
        total += sizeof(crc)
        if self._used + total > self._limit:
            return self._fail(EFBIG)
        while written < total:
            more = write(self._fd, start + written, total - written)
            if more > 0:
                written += more
            elif more == 0 or errno != EINTR:
                return self._fail(errno if more else EIO)
        self._used += total
        self._dirty = True
        self.due = self._used > self._limit - (self._limit >> 3)
        self.recorded += 1
        return 0

    cdef int _fail(self, int error) noexcept nogil:  # hot
        """Off, until tick() has a new segment; half a record does not stay."""
        self._errno = error
        self.missed += 1
        self._retry_ns = _now() + (0 if error == EFBIG else self._retry_interval_ns)
        self.due = error == EFBIG
        ftruncate(self._fd, self._used)
        return -error

    def add(
        self,
        int stream,
        *,
        uint64_t seq,
        int64_t time_ns,
        double seconds,
        row,
        invalid=(),
        before=None,
        invalid_before=(),
        current=None,
        int reason=0,
        int64_t target=0,
        int64_t latency_ns=0,
        int error=0,
        inputs=None,
        outputs=None,
        int choice=0,
        double confidence=0.0,
        int64_t version=1,
        int64_t judged_ns=0,
        int64_t judged_latency_ns=0,
        bint limited=False,
        bint apply=False,
        bint held_out=False,
        wanted=None,
        int64_t changed_ns=0,
    ):
        """Record a decision that was made in Python; Cython code calls `decision`.

        Parameters
        ----------
        stream : int
            What `add_stream` gave.
        seq, time_ns : int
            Number and CLOCK_MONOTONIC of the snapshot.
        seconds : float
            Time since the row before; 0 if there is none.
        row, before : sequence of int
            The snapshot, and the one before; None: that of the stream's last decision.
        invalid, invalid_before : sequence of int
            Places in them that could not be read.
        current : int or None
            The knob's value; None if it is not known.
        reason : int
            Place in `pymlk.guard.REASON_NAMES`.
        target : int
            The knob's value when all is done.
        latency_ns : int
            From the start of the snapshot to the verdict.
        error : int
            An errno, or 0.
        inputs, outputs : bytes or None
            The model's int8 rows; None if it was not asked.
        choice : int
            Place of the recommended value.
        confidence : float
            As the guard was given it.
        version : int
            Of the program.
        judged_ns, judged_latency_ns : int
            Time and latency as the guard was given them.
        limited, apply : bool
            Whether the step limit shortened the change; whether the guard might apply.
        held_out : bool
            Whether it was the default's turn.
        wanted : int or None
            What the guard allowed, if that is not the target.
        changed_ns : int
            The time that the guard was told for a change; 0 for none.

        Returns
        -------
        int
            0, or a negative errno: then it was not recorded.

        Raises
        ------
        ValueError
            If a row or the model's bytes are too short or too long.

        Thread safety
        -------------
        None.
        """
        cdef RecordedDecision d
        cdef int64_t rows[2][1024]
        cdef uint8_t valid[2][128]
        cdef Py_ssize_t i
        cdef bytes kept_in
        cdef bytes kept_out
        if not 0 <= stream < self._n_rows:
            raise ValueError(f"stream {stream} found, below {self._n_rows} expected")
        for values in (row, row if before is None else before):
            if not self._rows[stream].places[
                max(0, self._rows[stream].n - 1)
            ] < len(values) <= 1024:
                raise ValueError(
                    f"a row of {len(values)} found, which lacks fields of stream "
                    f"{stream} or is longer than 1024"
                )
        memset(&d, 0, sizeof(d))
        memset(valid, 0, sizeof(valid))
        for k, values, bad in ((0, row, invalid), (1, before or (), invalid_before)):
            for i in range(len(values)):
                rows[k][i] = values[i]
                if i not in bad:
                    valid[k][i >> 3] |= <uint8_t>(1 << (i & 7))
        d.stream, d.seq, d.time_ns, d.seconds = stream, seq, time_ns, seconds
        d.row, d.valid = rows[0], valid[0]
        if before is not None:
            d.before, d.valid_before = rows[1], valid[1]
        d.flags = (
            (LIMITED if limited else 0)
            | (APPLY if apply else 0)
            | (HELD_OUT if held_out else 0)
        )
        if current is not None:
            d.flags |= KNOB_KNOWN
            d.current = current
        d.reason, d.target, d.latency_ns, d.error = reason, target, latency_ns, error
        if inputs is not None:
            kept_in, kept_out = bytes(inputs), bytes(outputs)
            if (len(kept_in), len(kept_out)) != (
                self._rows[stream].n_in,
                self._rows[stream].n_out,
            ):
                raise ValueError(
                    f"{len(kept_in)} inputs, {len(kept_out)} outputs found, "
                    f"{self._rows[stream].n_in} and {self._rows[stream].n_out} expected"
                )
            d.flags |= ASKED
            d.inputs = <const int8_t *><const char *>kept_in
            d.outputs = <const int8_t *><const char *>kept_out
            d.choice, d.confidence, d.version = choice, confidence, version
            d.judged_ns, d.judged_latency_ns = judged_ns, judged_latency_ns
        d.wanted = target if wanted is None else wanted
        if changed_ns:
            d.flags |= CHANGED
            d.changed_ns = changed_ns
        return self.decision(&d)

    def add_effect(self, int stream, uint64_t seq, double value):
        """Note what came of a decision, from Python; Cython code calls `effect`.

        Parameters
        ----------
        stream : int
            What `add_stream` gave.
        seq : int
            The decision's.
        value : float
            The score, in the objective's unit.

        Returns
        -------
        int
            0, or a negative errno: then it was not recorded.

        Thread safety
        -------------
        None.
        """
        return self.effect(stream, seq, value)

    # -------------------------------------------------------------------- the segments

    @property
    def error(self):
        """Why nothing is recorded, or None while all is well."""
        if not self._errno or self.closed:
            return None
        return f"{self.folder}: {os.strerror(self._errno)}: not recording"

    def tick(self):
        """Do what takes time: sync, begin the next segment, try again after a failure.

        Call it when there is time, such as before each sleep, and soon when `due` is
        True. It never raises for what the system refuses.

        Thread safety
        -------------
        None. Allocates only when a segment begins.
        """
        cdef int64_t now
        if self.closed:
            return
        now = _now()
        if self._errno:
            if now >= self._retry_ns:
                self._begin()
        elif self.due:
            self._begin()
        elif self._dirty and now >= self._sync_ns:
            self._sync()

    def close(self):
        """Note the end, sync, and let the folder go; closing twice does nothing.

        Thread safety
        -------------
        None.
        """
        if self.closed:
            return
        self.event("end")
        if not self._errno:
            self._sync()
        self.closed = True
        self._errno = self._errno or EBADF
        for fd in (self._fd, self._folder_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder_fd = -1

    cdef _sync(self):
        cdef int64_t begin = _now()
        cdef int64_t end
        cdef int failed
        with nogil:
            failed = fdatasync(self._fd)
            if failed:
                self._fail(errno)
                self.missed -= 1
        end = _now()
        self._dirty = False
        # a slow disk is synced less often
        self._sync_floor_ns = end + SYNC_SHARE * (end - begin)
        self._sync_ns = max(self._sync_floor_ns, end + self._interval_ns)

    cdef _begin(self):
        try:
            self._open_folder()
            self._start_segment()
        except OSError as error:
            self._errno = error.errno or EIO
            self._retry_ns = _now() + self._retry_interval_ns
            self.due = False

    cdef _open_folder(self):
        if self._folder_fd >= 0:
            return
        os.makedirs(self.folder, mode=0o750, exist_ok=True)
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(fd)
            raise
        self._folder_fd = fd

    cdef _start_segment(self):
        """A new file with its head on the disk, then its name; then it is used."""
        old = segment_paths(self.folder)
        while len(old) >= self._segments:
            os.unlink(old.pop(0)[1])
        number = 1 + max([self._number] + [taken for taken, _ in old])
        head = self._head_bytes(number)
        if len(head) > self._limit // 2:
            raise OSError(EFBIG, "the head of a segment is too large")
        path = os.path.join(self.folder, _TEMPORARY)
        fd = os.open(
            path,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC,
            0o640,
        )
        try:
            _write_all(fd, head)
            os.fsync(fd)
            os.rename(path, os.path.join(self.folder, f"decisions-{number:08}.mlkr"))
            os.fsync(self._folder_fd)
        except BaseException:
            os.close(fd)
            try:
                os.unlink(path)
            except OSError:
                pass
            raise
        if self._fd >= 0:
            # what it could not keep is lost; the new one has the state of now
            try:
                os.fdatasync(self._fd)
            except OSError:
                pass
            os.close(self._fd)
        self._fd, self._number, self._used = fd, number, len(head)
        self._errno, self._dirty, self.due = 0, False, False
        self._written = {self.version}
        self._sync_ns = _now() + self._interval_ns

    cdef bytes _head_bytes(self, uint64_t number):
        head = MAGIC + VERSION.to_bytes(2, "little")
        head += HEADER_BYTES.to_bytes(2, "little") + number.to_bytes(8, "little")
        head += time.monotonic_ns().to_bytes(8, "little")
        head += time.time_ns().to_bytes(8, "little", signed=True)
        head += _crc(0, head, len(head)).to_bytes(4, "little")
        said = self._head | {
            "missed": self.missed,
            "recorded": self.recorded,
            "plan": self._plan,
        }
        parts = [
            (PLAN, _dumps(said).encode()),
            (PROGRAM, self._program_payload()),
        ]
        for i, stream in enumerate(self._streams):
            if stream is not None:
                parts.append((STREAM, self._stream_payload(i)))
        for kind, payload in parts:
            head += self._frame(kind, payload, number, len(head))
        return head

    cdef bytes _program_payload(self):
        return _varint_bytes(self.version) + bytes(self._programs)

    cdef bytes _stream_payload(self, Py_ssize_t i):
        cdef const StreamRow *s = &self._rows[i]
        device, features, guard, fields = self._streams[i]
        state = {
            "stream": i,
            "device": device,
            "mode": self._modes.get(device, self._head["mode"]),
            "fields": fields,
            "inputs": s.n_in,
            "outputs": s.n_out,
            "row": [s.row[k] for k in range(s.n)],
            "valid": [bool(_bit(s.valid, k)) for k in range(s.n)],
            "seq": s.seq,
            "time_ns": s.time_ns,
            "current": s.current,
            "features": features.get_state(),
            "history": features.get_history().hex(),
            "guard": guard.get_state(),
        }
        return _dumps(state).encode()

    cdef bytes _frame(self, int kind, bytes payload, uint64_t number, int64_t at):
        frame = bytes((kind,)) + _varint_bytes(len(payload)) + payload
        crc = _crc(_place_crc(number, at), frame, len(frame))
        return frame + crc.to_bytes(4, "little")

    cdef _add(self, int kind, bytes payload):
        """Append what Python made; into a new segment if this one has no room."""
        if self._errno:
            return
        frame = self._frame(kind, payload, self._number, self._used)
        if self._used + len(frame) > self._limit:
            self._begin()
            if self._errno or kind != EVENT:
                # a new head has streams and program
                return
            frame = self._frame(kind, payload, self._number, self._used)
        try:
            _write_all(self._fd, frame)
        except OSError as error:
            self._fail(error.errno)
            self.missed -= 1
            return
        self._used += len(frame)
        self._dirty = True
        self.due = self._used > self._limit - (self._limit >> 3)


def _write_all(fd, data):
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left):]


def _boot_id():
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _run_id():
    return f"{time.time_ns():x}-{os.getpid()}"
