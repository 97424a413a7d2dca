# SPDX-License-Identifier: MIT
"""C interface of pymlk.features, for the loop."""

from libc.stdint cimport int8_t, int64_t, uint8_t


cdef enum:
    MAX_HISTORY = 64


cdef enum Outcome:
    # What computing the features of one snapshot can end in.
    READY = 0
    WARMING = 1  # a change over time needs a second snapshot
    INVALID = 2  # a field could not be read


cdef struct Feature:
    int kind
    Py_ssize_t field
    Py_ssize_t over
    double field_scale
    double over_scale
    bint log2
    double alpha
    double low
    double high
    double mean
    double std
    double average
    bint started
    # the peak of the values, or of their negatives; falls by 1 in extreme_s
    bint is_trough
    double extreme_s
    double extreme
    bint met


cdef class Features:
    cdef Feature *_items
    cdef double *_values
    cdef double _in_scale
    cdef int _in_zero
    cdef readonly Py_ssize_t n
    cdef readonly tuple names
    cdef readonly int history
    # the last rows, newest last; none is kept where the model sees but one
    cdef int8_t *_past
    cdef int _filled
    cdef Py_ssize_t _shape[1]
    cdef Py_ssize_t _strides[1]

    cdef int compute(
        self,
        const int64_t *row,
        const int64_t *before,
        const uint8_t *valid,
        const uint8_t *valid_before,
        double seconds,
        int8_t *out,
    ) noexcept nogil
    cdef int _row(
        self,
        const int64_t *row,
        const int64_t *before,
        const uint8_t *valid,
        const uint8_t *valid_before,
        double seconds,
        int8_t *out,
    ) noexcept nogil
    cdef const int8_t *newest(self, const int8_t *rows) noexcept nogil
    cdef _set(self, Py_ssize_t i, dict feature, dict fields)
    cdef list _with_extreme(self)
