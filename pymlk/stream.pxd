# SPDX-License-Identifier: MIT
"""C interface of pymlk.stream, for loops and the recorder."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t

from .engine cimport Model
from .features cimport Features
from .guard cimport REASONS, Guard, Verdict
from .trial cimport Trial


cdef enum:
    # Latencies kept for the percentiles, of each stage.
    SAMPLES = 4096


cdef struct Snapshot:
    # What a decision is made on; everything behind a pointer is the caller's.
    const int64_t *row
    const int64_t *before  # the row before that
    const uint8_t *valid  # bitmaps of the rows
    const uint8_t *valid_before
    double seconds  # between the rows; 0 if there is no earlier one
    uint64_t seq
    int64_t time_ns  # CLOCK_MONOTONIC of the row
    int64_t start_ns  # when its decision began


cdef int64_t now_ns() noexcept nogil


cdef class Latency:
    cdef int32_t _ring[SAMPLES]
    cdef readonly uint64_t count

    cdef void add(self, int64_t nanoseconds) noexcept nogil


cdef class Stream:
    cdef readonly str device
    cdef readonly Features features
    cdef readonly Guard guard
    # places in the row, -1 if there is none
    cdef Py_ssize_t activity
    cdef double least_rate
    cdef Py_ssize_t objective
    cdef double objective_scale
    # whose turn it is: DEFAULT or MODEL of pymlk.evidence
    cdef int arm
    cdef readonly Trial trial  # None: nothing is measured
    cdef bint takes_turns  # the trial says whose turn it is
    # the last decision
    cdef Verdict verdict
    cdef uint64_t seq
    cdef int64_t time_ns
    cdef bint asked
    cdef bint sane  # the model was asked, and in time
    cdef int choice
    cdef double confidence
    cdef bint knob_known
    cdef int64_t current
    cdef int64_t latency_ns
    cdef int error
    cdef bint objective_known
    cdef double objective_rate
    # nobody was told of the last decision yet; it is a change, or would be a new one
    cdef readonly bint fresh
    cdef readonly bint changed
    cdef int64_t changed_to
    # all decisions
    cdef uint64_t counts[REASONS]
    cdef double objective_sum
    cdef uint64_t measured
    # the model and its ends
    cdef Model _model
    cdef int8_t *_in
    cdef const int8_t *_out
    cdef double _out_scale
    cdef int _out_zero
    cdef Latency _features_time
    cdef Latency _inference_time
    cdef Latency _guard_time

    cdef watch_fields(self, dict plan, dict fields)
    cdef inherit(self, Stream old)
    cdef void decide(
        self, const Snapshot *s, int64_t current, bint knob_known
    ) noexcept nogil
    cdef bint wants_change(self) noexcept nogil
    cdef void measure(self, const Snapshot *s) noexcept nogil
    cdef void count(self) noexcept nogil
    cdef bint is_news(self) noexcept nogil
    cdef void _infer(self) noexcept nogil
    cdef bint _is_idle(self, const Snapshot *s) noexcept nogil
    cdef void _measure_objective(self, const Snapshot *s) noexcept nogil
