# SPDX-License-Identifier: MIT
"""C interface of pymlk.drift, for the loop."""

from libc.stdint cimport int8_t, int64_t, uint64_t


cdef struct Sum:
    # One of Page's tests: the sum, since when it is above 0, how many steps ago, and
    # the sum of these without its limit.
    double sum
    double total
    int64_t since_ns
    uint64_t steps
    bint alarm


cdef struct Feature:
    double before
    # above, below, wider
    Sum tests[3]


cdef class Drift:
    cdef readonly int features
    cdef tuple _names
    cdef double _scale
    cdef int _zero
    cdef double _tolerated
    cdef double _alarm
    cdef Feature *_items
    cdef readonly uint64_t rows
    cdef readonly int drifting

    cdef bint add(self, const int8_t *row, int64_t now_ns) noexcept nogil
    cdef int _step(self, Sum *test, double off, int64_t now_ns) noexcept nogil
