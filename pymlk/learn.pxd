# SPDX-License-Identifier: MIT
"""C interface of pymlk.learn, for the loop."""

from libc.stdint cimport int8_t, uint8_t, uint64_t

from .engine cimport Model


cdef class Explorer:
    cdef int _places
    cdef int _hold
    cdef double _epsilon
    cdef uint64_t _random
    # state: decisions left of this choice, where it explores (or -1), how likely
    cdef int _left
    cdef int _place
    cdef double _propensity
    cdef readonly uint64_t explored

    cdef int choose(
        self, int choice, int place, int max_step, double *propensity
    ) noexcept nogil
    cdef void _draw(self, int choice, int place, int max_step) noexcept nogil


cdef class Learner:
    cdef readonly int features
    cdef readonly int actions
    # the head's inputs at the last run
    cdef int8_t *row
    cdef int _op
    cdef int _zero
    cdef float _unit
    cdef float _in_scale
    cdef double _top
    cdef object _shipped
    # parameters
    cdef double _temperature
    cdef double _rate
    cdef double _first_rate
    cdef double _keep
    cdef double _doubt
    cdef double _max_weight
    # decisions that wait for their score
    cdef uint64_t _mask
    cdef uint64_t *_keys
    cdef int8_t *_rows
    cdef uint8_t *_taken
    cdef float *_propensities
    # the model of the score: what all actions share, then each action's own
    cdef float *_x
    cdef float *_shared
    cdef float *_own
    cdef uint64_t *_times
    cdef double _size
    cdef readonly uint64_t updates
    cdef readonly uint64_t lost
    cdef readonly uint64_t bad

    cdef bint run(self, Model model) noexcept nogil
    cdef void remember(
        self, uint64_t key, int action, double propensity
    ) noexcept nogil
    cdef bint update(self, uint64_t key, double score) noexcept nogil
    cdef double _reward(self, double score) noexcept nogil
    cdef double _spread(self, const int8_t *row) noexcept nogil
    cdef _fill(self, weights, bias)
