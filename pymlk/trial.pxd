# SPDX-License-Identifier: MIT
"""C interface of pymlk.trial, for the loops."""

from libc.stdint cimport int64_t

from .evidence cimport Gain, Holdout, Ladder


cdef class Trial:
    # all scores of the run: the ladder forgets its own at a demotion
    cdef readonly Gain gain
    cdef readonly Ladder ladder
    cdef Holdout _holdout
    cdef double _confidence
    # the mode changed, and nobody was told yet
    cdef readonly bint news

    cdef int arm_at(self, int64_t now_ns) noexcept nogil
    cdef void decided(self, bint sane, int64_t now_ns) noexcept nogil
    cdef void scored(self, int arm, double score, int64_t now_ns) noexcept nogil
    # True if that ended a period, whose arm and score are in `arm` and `score`
    cdef bint effect(
        self, int64_t from_ns, int64_t to_ns, double amount
    ) noexcept nogil
    cdef int arm(self) noexcept nogil
    cdef double score(self) noexcept nogil
    cdef void _changed(self, int64_t now_ns) noexcept nogil
