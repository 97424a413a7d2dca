# SPDX-License-Identifier: MIT
"""C interface of pymlk.guard, for the loop."""

from libc.stdint cimport int64_t


cdef enum:
    # Why a decision ended as it did; texts in guard.pyx, in this order.
    APPLIED
    SHADOW
    SAME
    WARMING_UP
    IDLE
    INVALID_INPUT
    LATE
    UNSURE
    SETTLING
    RATE_LIMIT
    HANDS_OFF
    REFUSED
    HOLDOUT
    REASONS


cdef struct Verdict:
    int reason
    bint limited
    int64_t target


cdef class Guard:
    cdef int64_t _values[64]
    cdef readonly int n
    cdef double _min_confidence
    cdef int _max_step
    cdef int64_t _min_interval_ns
    cdef int _settle
    cdef int64_t _deadline_ns
    cdef bint _apply
    # state
    cdef int _last
    cdef int _repeated
    cdef int64_t _changed_ns
    cdef int64_t _expected
    cdef int64_t _original
    cdef bint _started
    cdef readonly bint hands_off

    cdef int _place(self, int64_t value) noexcept nogil
    cdef bint watch(self, int64_t current) noexcept nogil
    cdef void judge(
        self,
        int choice,
        double confidence,
        int64_t current,
        int64_t now_ns,
        int64_t latency_ns,
        Verdict *verdict,
    ) noexcept nogil
    cdef void hold_out(self, Verdict *verdict) noexcept nogil
    cdef void changed(self, int64_t value, int64_t now_ns) noexcept nogil
