# SPDX-License-Identifier: MIT
"""C interface of pymlk.evidence, for the loop."""

from libc.stdint cimport int64_t, uint64_t


cdef enum:
    # Who decided.
    DEFAULT = 0
    MODEL = 1


cdef enum:
    # As in kernel/include/uapi/linux/mlk.h.
    EMERGENCY = 0
    LEARNING = 1
    COLLABORATION = 2
    RECOMMENDATION = 3


cdef struct Bounds:
    # Relative gain of the model over the default, and its confidence interval.
    double gain
    double low
    double high


cdef class Gain:
    cdef int64_t _n[2]
    cdef double _mean[2]
    cdef double _squares[2]
    cdef readonly int least
    cdef readonly uint64_t bad

    cdef void add(self, int arm, double score) noexcept nogil
    cdef bint bounds(self, double alpha, Bounds *found) noexcept nogil
    cdef void clear(self) noexcept nogil


cdef class Ladder:
    cdef readonly Gain gain
    cdef int _mode
    cdef int _highest
    cdef bint _apply
    cdef double _alpha
    cdef int64_t _least_decisions
    # state: sane decisions in a row, demotions, why the mode was changed last
    cdef int64_t _decisions
    cdef int _demotions
    cdef int _cause
    cdef Bounds _bounds
    cdef int64_t _seen[2]
    cdef int64_t _count
    cdef double _told_alarm
    cdef double _told_alpha
    cdef readonly uint64_t changes
    # the default's recent scores, and how far the model's are below them
    cdef int64_t _n
    cdef double _mean
    cdef double _square
    cdef double _alarm

    cdef bint decided(self, bint sane) noexcept nogil
    cdef bint scored(self, int arm, double score) noexcept nogil
    cdef double _level(self) noexcept nogil
    cdef void _move(self, int mode, int cause) noexcept nogil
    cdef void _watch(self, int arm, double score) noexcept nogil


cdef class Holdout:
    cdef int64_t _period
    cdef int64_t _washout
    cdef uint64_t _seed
    cdef int _mode
    # the period that runs
    cdef int64_t _start
    cdef int64_t _number
    cdef bint _running
    cdef double _amount
    cdef int64_t _covered
    # the last one that ended
    cdef readonly int arm
    cdef readonly double score

    cdef int arm_at(self, int64_t now_ns) noexcept nogil
    cdef bint is_scored(self, int64_t now_ns) noexcept nogil
    cdef bint add(self, int64_t from_ns, int64_t to_ns, double amount) noexcept nogil
    cdef void switch_to(self, int mode, int64_t now_ns) noexcept nogil
    cdef int64_t _number_at(self, int64_t now_ns) noexcept nogil
