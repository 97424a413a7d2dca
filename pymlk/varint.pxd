# SPDX-License-Identifier: MIT
"""Numbers of few bytes, as `pymlk.record` and `pymlk.rows` write them."""

from libc.stdint cimport uint8_t, uint64_t


cdef inline uint8_t *put_varint(uint8_t *p, uint64_t value) noexcept nogil:  # hot
    """LEB128: at most ten bytes."""
    while value >= 0x80:
        p[0] = <uint8_t>(value | 0x80)
        value >>= 7
        p += 1
    p[0] = <uint8_t>value
    return p + 1


cdef inline uint8_t *put_change(
    uint8_t *p, uint64_t value, uint64_t before
) noexcept nogil:  # hot
    """A difference, its sign in the lowest bit: small whatever its sign."""
    value -= before
    return put_varint(p, (value << 1) ^ (0 - (value >> 63)))


cdef inline const uint8_t *get_varint(
    const uint8_t *p, const uint8_t *end, uint64_t *value
) noexcept nogil:  # hot
    """Where the next one begins; NULL if this one does not end, or is too long."""
    cdef int shift = 0
    value[0] = 0
    while p < end and shift < 64:
        value[0] |= <uint64_t>(p[0] & 0x7F) << shift
        p += 1
        if p[-1] < 0x80:
            return p
        shift += 7
    return NULL


cdef inline const uint8_t *get_change(
    const uint8_t *p, const uint8_t *end, uint64_t before, uint64_t *value
) noexcept nogil:  # hot
    """As `get_varint`, for `put_change`."""
    cdef uint64_t found
    p = get_varint(p, end, &found)
    value[0] = before + ((found >> 1) ^ (0 - (found & 1)))
    return p
