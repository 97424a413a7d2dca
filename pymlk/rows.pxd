# SPDX-License-Identifier: MIT
"""C interface of pymlk.rows, for samplers."""

from libc.stdint cimport int64_t, uint8_t


cdef enum:
    MOST_FIELDS = 64
    # no row takes more: time, what changed, what is valid, all values
    ROW_BYTES = 10 + 9 + 8 + MOST_FIELDS * 10
    # A block of rows is at most so long, its head included; it is read as a whole.
    BLOCK_BYTES = 64 << 10
    HEAD_BYTES = 20


cdef struct RowState:
    # What the next row of a block is written as a difference to.
    int n
    int64_t time_ns
    int64_t step_ns
    int64_t row[MOST_FIELDS]
    uint8_t valid[8]


# A block begins.
cdef void begin_rows(RowState *s, int n) noexcept nogil
# One row behind p, which has room for ROW_BYTES; where the next one goes. `valid` has a
# bit for each value; a value without it is not read.
cdef uint8_t *put_row(
    uint8_t *p, RowState *s, int64_t time_ns, const int64_t *row, const uint8_t *valid
) noexcept nogil
