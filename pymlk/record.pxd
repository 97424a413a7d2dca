# SPDX-License-Identifier: MIT
"""C interface of pymlk.record, for loops."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from .stream cimport RecordedDecision, Sink


cdef enum:
    # The largest stream: places of a row, a model's inputs, its outputs.
    MAX_ROW = 64
    MAX_INPUTS = 1024
    MAX_OUTPUTS = 64
    BITMAP = 8  # bytes for MAX_ROW bits


cdef enum Found:
    # What the recorder finds besides the flags of a decision, so that most records
    # are short.
    FRESH = 32  # no row before: seconds is 0
    PARTLY_VALID = 64
    HAS_ERRNO = 128
    HAS_SECONDS = 256  # not the time since the stream's last decision
    HAS_BEFORE = 512  # not the row of the stream's last decision
    HAS_CHOICE = 1024  # not the largest output
    HAS_CONFIDENCE = 2048  # not that of the choice's output
    HAS_WANTED = 4096  # the guard allowed what did not come about, nor was it told


cdef struct StreamRow:
    # What the next record of a stream is written as a difference to.
    int32_t n
    int32_t n_in
    int32_t n_out
    int32_t places[MAX_ROW]
    int64_t row[MAX_ROW]
    uint8_t valid[BITMAP]
    uint64_t seq
    int64_t time_ns
    int64_t current


cdef class Recorder(Sink):
    cdef readonly str folder
    # True: call tick() before the next decision if that is possible
    cdef readonly bint due
    cdef readonly uint64_t recorded
    cdef readonly uint64_t missed
    cdef dict _plan
    cdef dict _head
    cdef object _programs
    cdef set _written
    cdef list _streams
    cdef dict _modes
    cdef double _out_scale
    cdef int _out_zero
    cdef int _n_in
    cdef int _n_out
    cdef StreamRow *_rows
    cdef Py_ssize_t _n_rows
    # the open segment
    cdef int _folder_fd
    cdef int _fd
    cdef uint64_t _number
    cdef int64_t _used
    cdef int64_t _limit
    cdef int _segments
    cdef bint _dirty
    cdef readonly bint closed
    cdef int _errno
    cdef uint8_t *_buffer
    # when to act next, in CLOCK_MONOTONIC nanoseconds
    cdef int64_t _interval_ns
    cdef int64_t _retry_interval_ns
    cdef int64_t _retry_ns
    cdef int64_t _sync_ns
    cdef int64_t _sync_floor_ns

    # As decision() of a Sink, with a negative errno: not recorded, counted in `missed`.

    cdef Py_ssize_t _encode(
        self, const RecordedDecision *d, const StreamRow *s
    ) noexcept nogil
    cdef uint8_t *_encode_answer(
        self,
        const RecordedDecision *d,
        const StreamRow *s,
        uint32_t *flags,
        uint8_t *p,
    ) noexcept nogil
    cdef int _append(self, int kind, Py_ssize_t length) noexcept nogil
    cdef int _fail(self, int error) noexcept nogil
    cdef _grow(self)
    cdef _add(self, int kind, bytes payload)
    cdef bytes _frame(self, int kind, bytes payload, uint64_t number, int64_t at)
    cdef bytes _stream_payload(self, Py_ssize_t i)
    cdef bytes _program_payload(self)
    cdef bytes _head_bytes(self, uint64_t number)
    cdef _open_folder(self)
    cdef _start_segment(self)
    cdef _begin(self)
    cdef _sync(self)
