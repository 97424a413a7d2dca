# SPDX-License-Identifier: MIT
"""C interface of pymlk.stream, for loops and the recorder."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

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
    bint timed  # its stages are, too


cdef enum Told:
    # What is said of a decision beside its values.
    ASKED = 1  # the model ran: inputs, outputs, choice, confidence, judged_* count
    KNOB_KNOWN = 2
    LIMITED = 4  # the step limit shortened the change
    APPLY = 8  # the guard might apply
    CHANGED = 16  # the guard was told of a change: changed_ns counts
    HELD_OUT = 8192  # the default's turn


cdef struct RecordedDecision:
    # Everything behind a pointer is the caller's and only read during the call.
    int32_t stream  # what add_stream() gave
    uint32_t flags
    uint32_t version  # of the program that ran
    int32_t choice
    int32_t reason
    int32_t error  # an errno, or 0
    uint64_t seq
    int64_t time_ns  # CLOCK_MONOTONIC of the row
    double seconds  # between the rows, 0 if there is no earlier one
    const int64_t *row
    const uint8_t *valid
    const int64_t *before  # NULL: the row of the stream's last decision
    const uint8_t *valid_before
    int64_t current
    int64_t target  # what the knob has when all is done
    int64_t wanted  # what the guard allowed; counts if ASKED
    int64_t judged_ns  # the time and the latency that the guard was given
    int64_t judged_latency_ns
    int64_t latency_ns
    int64_t changed_ns  # the time that the guard was told for the change
    double confidence
    const int8_t *inputs
    const int8_t *outputs


cdef int64_t now_ns() noexcept nogil


cdef class Sink:
    # Takes decisions, such as a recorder; the program's version belongs to each.
    cdef readonly uint32_t version

    # 0, or a negative errno; in the thread that decided.
    cdef int decision(self, const RecordedDecision *d) noexcept nogil
    # The same of what came of a decision.
    cdef int effect(self, int stream, uint64_t seq, double value) noexcept nogil


cdef class Latency:
    cdef int32_t _ring[SAMPLES]
    cdef readonly uint64_t count

    cdef void add(self, int64_t nanoseconds) noexcept nogil


cdef class Stream


cdef class Tutor:
    # What a stream that learns does more; see pymlk.adapt.

    # Runs the model, whose inputs are filled.
    cdef void infer(self, Stream stream) noexcept nogil
    # The place to recommend, where the model would choose that one.
    cdef int choose(self, Stream stream, int choice) noexcept nogil
    # A decision is done; it is told once more when its score is known.
    cdef void remember(self, Stream stream) noexcept nogil
    cdef void done(self, Stream stream, const Snapshot *s) noexcept nogil
    cdef void period(self, int arm, double score) noexcept nogil
    cdef void outcome(
        self, Stream stream, uint64_t seq, int64_t value, double score
    ) noexcept nogil


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
    cdef Tutor tutor  # None: nothing is learnt
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
    # when the guard judged, and of what latency it was told
    cdef int64_t judged_ns
    cdef int64_t judged_latency_ns
    # what the guard allowed; when it was told of a change, 0 if it was not
    cdef int64_t wanted
    cdef int64_t changed_ns
    cdef bint objective_known
    cdef double objective_rate
    # nobody was told of the last decision yet; it is a change, or would be a new one
    cdef readonly bint fresh
    cdef readonly bint changed
    cdef int64_t changed_to
    # who records, its number there, and the places in the row
    cdef Sink recorder
    cdef int number
    cdef dict fields
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
    # Note a change of our own, with the guard.
    cdef void has_changed(self, int64_t value, int64_t now) noexcept nogil
    # Give the last decision, whose verdict is final, to the recorder if there is one.
    cdef void record(self, const Snapshot *s) noexcept nogil
    cdef inherit(self, Stream old)
    cdef void decide(
        self, const Snapshot *s, int64_t current, bint knob_known
    ) noexcept nogil
    cdef bint wants_change(self) noexcept nogil
    cdef void measure(self, const Snapshot *s) noexcept nogil
    cdef void count(self) noexcept nogil
    cdef bint is_news(self) noexcept nogil
    cdef void _infer(self) noexcept nogil
    cdef int64_t _passed(
        self, const Snapshot *s, Latency stage, int64_t begin
    ) noexcept nogil
    cdef bint _is_idle(self, const Snapshot *s) noexcept nogil
    cdef void _measure_objective(self, const Snapshot *s) noexcept nogil
