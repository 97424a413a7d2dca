# SPDX-License-Identifier: MIT
"""Rows of snapshots in few bytes: what changed since the row before, and how much.

A block of rows can be read alone: its first row is a difference to zeros. A row is
the change of the time step, a bitmap of the values that changed (with one more bit:
other values are valid now), that bitmap of valid values, and the changes.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset

from .varint cimport get_change, get_varint, put_change, put_varint

from .errors import DatasetError

MAX_FIELDS = MOST_FIELDS
MAX_BLOCK = BLOCK_BYTES


cdef void begin_rows(RowState *s, int n) noexcept nogil:  # hot
    memset(s, 0, sizeof(RowState))
    s.n = n
    memset(s.valid, 0xFF, sizeof(s.valid))


cdef inline bint _bit(const uint8_t *bits, int i) noexcept nogil:  # hot
    return (bits[i >> 3] >> (i & 7)) & 1


cdef uint8_t *put_row(
    uint8_t *p, RowState *s, int64_t time_ns, const int64_t *row, const uint8_t *valid
) noexcept nogil:  # hot
    cdef int i
    cdef bint other = False
    cdef uint8_t *bits
    p = put_change(p, <uint64_t>time_ns, <uint64_t>s.time_ns + <uint64_t>s.step_ns)
    s.step_ns = <int64_t>(<uint64_t>time_ns - <uint64_t>s.time_ns)
    s.time_ns = time_ns
    bits = p
    memset(bits, 0, s.n // 8 + 1)
    p += s.n // 8 + 1
    for i in range(s.n):
        other = other or _bit(valid, i) != _bit(s.valid, i)
    if other:
        bits[s.n >> 3] |= <uint8_t>(1 << (s.n & 7))
        memset(s.valid, 0, sizeof(s.valid))
        for i in range(s.n):
            s.valid[i >> 3] |= <uint8_t>(_bit(valid, i) << (i & 7))
        for i in range((s.n + 7) // 8):
            p[i] = s.valid[i]
        p += (s.n + 7) // 8
    for i in range(s.n):
        if row[i] != s.row[i] and _bit(valid, i):
            bits[i >> 3] |= <uint8_t>(1 << (i & 7))
            p = put_change(p, <uint64_t>row[i], <uint64_t>s.row[i])
            s.row[i] = row[i]
    return p


cdef const uint8_t *_get_row(
    const uint8_t *p, const uint8_t *end, RowState *s
) noexcept nogil:  # hot
    """The next row into the state; NULL if the bytes end before it does."""
    cdef int i
    cdef const uint8_t *bits
    cdef uint64_t value
    p = get_change(p, end, <uint64_t>s.time_ns + <uint64_t>s.step_ns, &value)
    if p == NULL or end - p < s.n // 8 + 1:
        return NULL
    s.step_ns = <int64_t>(value - <uint64_t>s.time_ns)
    s.time_ns = <int64_t>value
    bits = p
    p += s.n // 8 + 1
    if _bit(bits, s.n):
        if end - p < (s.n + 7) // 8:
            return NULL
        for i in range((s.n + 7) // 8):
            s.valid[i] = p[i]
        p += (s.n + 7) // 8
    for i in range(s.n):
        if _bit(bits, i):
            p = get_change(p, end, <uint64_t>s.row[i], &value)
            if p == NULL:
                return NULL
            s.row[i] = <int64_t>value
    return p


cdef int _decode(
    const uint8_t *p,
    const uint8_t *end,
    int n,
    int64_t count,
    int64_t *t,
    int64_t *values,
    uint8_t *valid,
) noexcept nogil:  # hot
    """Whether there are exactly so many rows."""
    cdef RowState s
    cdef int i
    cdef int64_t k
    begin_rows(&s, n)
    for k in range(count):
        p = _get_row(p, end, &s)
        if p == NULL:
            return False
        t[k] = s.time_ns
        for i in range(n):
            valid[k * n + i] = _bit(s.valid, i)
            values[k * n + i] = s.row[i] if _bit(s.valid, i) else 0
    return p == end


cdef _check_fields(int n):
    if not 1 <= n <= MOST_FIELDS:
        raise ValueError(f"{n} fields found, 1 to {MOST_FIELDS} expected")


def block(uint64_t run, uint64_t count, bytes rows):
    """Rows that were encoded elsewhere, with the head of their block.

    Parameters
    ----------
    run : int
        Number of the run that they belong to.
    count : int
        How many rows.
    rows : bytes
        As `put_row` wrote them.

    Returns
    -------
    bytes
        The block.

    Thread safety
    -------------
    Pure function.
    """
    cdef uint8_t room[HEAD_BYTES]
    cdef uint8_t *p = put_varint(put_varint(room, run), count)
    return (<char *>room)[:p - room] + rows


def head(bytes data):
    """Which run a block belongs to, and how many rows it says that it has.

    Parameters
    ----------
    data : bytes
        A block.

    Returns
    -------
    tuple of (int, int)
        Run and rows.

    Raises
    ------
    DatasetError
        If it has no head, or fewer bytes than rows.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> head(encode(7, 1, b"\\1" * 16, b"\\2" * 16, b"\\1" * 2)[0])
    (7, 2)
    """
    cdef uint64_t run
    cdef uint64_t count
    _head(data, &run, &count)
    return run, count


cdef const uint8_t *_head(bytes data, uint64_t *run, uint64_t *count) except NULL:
    cdef const uint8_t *p = <const uint8_t *><const char *>data
    cdef const uint8_t *end = p + len(data)
    p = get_varint(p, end, run)
    if p != NULL:
        p = get_varint(p, end, count)
    # a row has two bytes at least: nothing is allocated for rows that cannot be there
    if p == NULL or count[0] > <uint64_t>(end - p) // 2:
        raise DatasetError("a block of rows without its head, or without its rows")
    return p


def encode(uint64_t run, int n, t_ns, values, valid):
    """Rows as blocks.

    Parameters
    ----------
    run : int
        Number of the run that they belong to.
    n : int
        Fields of a row.
    t_ns, values : bytes-like of int64
        Times, and row behind row.
    valid : bytes-like of uint8
        For each value whether it could be read; the value counts for nothing if not.

    Returns
    -------
    list of bytes
        Blocks of at most `MAX_BLOCK` bytes.

    Raises
    ------
    ValueError
        If the sizes do not go together.

    Thread safety
    -------------
    None of what is given may change meanwhile.
    """
    cdef bytes times = bytes(t_ns)
    cdef bytes all_values = bytes(values)
    cdef bytes flags = bytes(valid)
    cdef int64_t rows = len(times) // 8
    cdef int64_t k
    cdef int64_t count = 0
    cdef int i
    cdef RowState s
    cdef uint8_t bits[8]
    _check_fields(n)
    if len(times) % 8 or len(flags) != rows * n or len(all_values) != 8 * rows * n:
        raise ValueError(
            f"{len(times)} bytes of times, {len(all_values)} of values and "
            f"{len(flags)} flags found: not of the same rows of {n} fields"
        )
    cdef const int64_t *t = <const int64_t *><const char *>times
    cdef const int64_t *row = <const int64_t *><const char *>all_values
    cdef const uint8_t *good = <const uint8_t *><const char *>flags
    cdef bytearray room = bytearray(BLOCK_BYTES)
    cdef uint8_t *start = <uint8_t *><char *>room
    cdef uint8_t *p = start
    found = []
    for k in range(rows):
        if not count:
            begin_rows(&s, n)
        memset(bits, 0, sizeof(bits))
        for i in range(n):
            bits[i >> 3] |= <uint8_t>((good[k * n + i] != 0) << (i & 7))
        p = put_row(p, &s, t[k], row + k * n, bits)
        count += 1
        if k == rows - 1 or p - start > BLOCK_BYTES - HEAD_BYTES - ROW_BYTES:
            found.append(block(run, count, (<char *>start)[:p - start]))
            count, p = 0, start
    return found


def decode(bytes data, int n):
    """The rows of a block.

    Parameters
    ----------
    data : bytes
        A block, of any bytes.
    n : int
        Fields of a row.

    Returns
    -------
    tuple of (bytearray, bytearray, bytearray)
        Times as int64, values as int64 row behind row, and for each value 1 if it
        could be read; the value is 0 if not. Owned by the caller.

    Raises
    ------
    DatasetError
        If it is no block of such rows.

    Thread safety
    -------------
    Pure function.

    Examples
    --------
    >>> t, values, valid = decode(encode(7, 1, b"\\1" * 8, b"\\2" * 8, b"\\1")[0], 1)
    >>> memoryview(values).cast("q")[0] == 0x0202020202020202
    True
    """
    cdef uint64_t run
    cdef uint64_t count
    cdef const uint8_t *p = _head(data, &run, &count)
    cdef const uint8_t *end = <const uint8_t *><const char *>data + len(data)
    _check_fields(n)
    # what cannot be there is not allocated for
    if count > <uint64_t>(end - p) // (n // 8 + 2):
        raise DatasetError(f"{count} rows said, {end - p} bytes found")
    cdef bytearray t = bytearray(8 * count)
    cdef bytearray values = bytearray(8 * n * count)
    cdef bytearray valid = bytearray(n * count)
    if not _decode(
        p,
        end,
        n,
        count,
        <int64_t *><char *>t,
        <int64_t *><char *>values,
        <uint8_t *><char *>valid,
    ):
        raise DatasetError("rows that do not fill their block")
    return t, values, valid
