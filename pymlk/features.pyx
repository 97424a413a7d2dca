# SPDX-License-Identifier: MIT
"""Features: from two snapshots to a model's int8 input row.

Each feature is one value (``value``, ``delta``, ``rate``, ``ratio`` or
``delta_ratio`` of fields), then optionally ``log2``, ``ema``, ``peak_s`` or
``trough_s``, and ``clip`` in that order, then standardised with the training's mean and
deviation and quantised with the scale and zero point of the model's input.

``peak_s`` gives how far the value is below the highest one so far, in octaves: 0 at
the peak, -1 at half of it. The peak halves every so many seconds, so that a device
that became slower is known again after a while. ``trough_s`` gives how far it is above
the lowest one so far, which doubles as fast.

A model with a history gets the last so many rows, oldest first; a row that could not be
computed ends them, and there are none until there are enough again.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_WRITABLE
from libc.math cimport fabs, log1p, round
from libc.stdint cimport int8_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memset

KINDS = ("value", "delta", "rate", "ratio", "delta_ratio")

cdef enum:
    VALUE
    DELTA
    RATE
    RATIO
    DELTA_RATIO

cdef double LOG2_E = 1.4426950408889634
cdef const char *_DOUBLE = b"d"


cdef inline bint _is_valid(const uint8_t *valid, Py_ssize_t i) noexcept nogil:  # hot
    return (valid[i >> 3] >> (i & 7)) & 1


cdef inline bint _needs_before(int kind) noexcept nogil:  # hot
    return kind == DELTA or kind == RATE or kind == DELTA_RATIO


cdef inline double _ratio(double a, double b) noexcept nogil:  # hot
    # Nothing happened: by definition 0, never a division by zero.
    return a / b if b != 0.0 else 0.0


cdef double _raw(
    const Feature *f, const int64_t *row, const int64_t *before, double seconds
) noexcept nogil:  # hot
    cdef double now = <double>row[f.field] * f.field_scale
    cdef double over = <double>row[f.over] * f.over_scale
    if f.kind == VALUE:
        return now
    if f.kind == RATIO:
        return _ratio(now, over)
    cdef double change = <double>(row[f.field] - before[f.field]) * f.field_scale
    if f.kind == DELTA:
        return change
    if f.kind == RATE:
        return _ratio(change, seconds)
    return _ratio(change, <double>(row[f.over] - before[f.over]) * f.over_scale)


cdef double _from_extreme(Feature *f, double x, double seconds) noexcept nogil:  # hot
    # a trough is the peak of -x
    cdef double y = -x if f.is_trough else x
    f.extreme -= seconds / f.extreme_s
    if not f.met or y > f.extreme:
        f.extreme = y
    f.met = True
    return f.extreme - y if f.is_trough else y - f.extreme


cdef double _shape_value(Feature *f, double x, double seconds) noexcept nogil:  # hot
    if f.log2:
        # of 1 + |x|, with the sign kept: defined for every x
        x = (log1p(fabs(x)) if x >= 0 else -log1p(fabs(x))) * LOG2_E
    if f.alpha < 1.0:
        f.average = x if not f.started else f.average + f.alpha * (x - f.average)
        f.started = True
        x = f.average
    if f.extreme_s > 0:
        x = _from_extreme(f, x, seconds)
    return f.low if x < f.low else f.high if x > f.high else x


cdef class Features:
    """The features of one device, bound to the places of its fields in a row.

    Parameters
    ----------
    features : list of dict
        As in a policy: ``name``, ``kind``, ``field``, ``over``, ``log2``, ``ema``,
        ``peak_s``, ``trough_s``, ``clip``, ``mean``, ``std``.
    fields : dict of str to tuple of (int, int)
        For each field name its place in the row and its fixed-point scale.
    in_scale : float
        Scale of the model's input.
    in_zero : int
        Zero point of the model's input.
    history : int
        Rows that the model sees.

    Attributes
    ----------
    n : int
        Number of features.
    history : int
        As given.
    names : tuple of str
        Their names.

    Raises
    ------
    KeyError
        If a feature names a field that is not in `fields`.
    ValueError
        If a kind is unknown.

    Notes
    -----
    The buffer protocol gives the last computed values before standardisation, as
    float64 of shape (n,), owned by this object.

    Thread safety
    -------------
    None; one thread computes.

    Examples
    --------
    >>> f = Features([{"name": "kb", "kind": "delta", "field": "s"}], {"s": (0, 1)})
    >>> f.step([100], [60], 1.0)
    (0, b'(')
    >>> memoryview(f).tolist()
    [40.0]
    """

    def __cinit__(
        self,
        list features,
        dict fields,
        double in_scale=1.0,
        int in_zero=0,
        int history=1,
    ):
        if not 1 <= history <= MAX_HISTORY:
            raise ValueError(f"history {history} found, 1 to {MAX_HISTORY} expected")
        self.n = len(features)
        self.history = history
        self._past = <int8_t *>calloc(self.n * history + 1, 1)
        self._in_scale = in_scale
        self._in_zero = in_zero
        self._items = <Feature *>calloc(self.n + 1, sizeof(Feature))
        self._values = <double *>calloc(self.n + 1, sizeof(double))
        if self._items == NULL or self._values == NULL or self._past == NULL:
            raise MemoryError("no memory for features")
        self._shape[0] = self.n
        self._strides[0] = sizeof(double)
        self.names = tuple([feature["name"] for feature in features])
        for i, feature in enumerate(features):
            self._set(i, feature, fields)

    cdef _set(self, Py_ssize_t i, dict feature, dict fields):
        cdef Feature *f = &self._items[i]
        kind = feature["kind"]
        if kind not in KINDS:
            raise ValueError(f"feature kind {kind!r} found, one of {KINDS} expected")
        f.kind = KINDS.index(kind)
        place, scale = fields[feature["field"]]
        f.field, f.field_scale = place, 1.0 / scale
        place, scale = fields[feature.get("over") or feature["field"]]
        f.over, f.over_scale = place, 1.0 / scale
        f.log2 = bool(feature.get("log2", False))
        f.alpha = feature.get("ema") or 1.0
        f.is_trough = bool(feature.get("trough_s"))
        f.extreme_s = feature.get("trough_s") or feature.get("peak_s") or 0.0
        f.low, f.high = feature.get("clip") or (-1e300, 1e300)
        f.mean = feature.get("mean", 0.0)
        f.std = feature.get("std", 1.0)

    def __dealloc__(self):
        free(self._items)
        free(self._values)
        free(self._past)

    cdef int compute(
        self,
        const int64_t *row,
        const int64_t *before,
        const uint8_t *valid,
        const uint8_t *valid_before,
        double seconds,
        int8_t *out,
    ) noexcept nogil:  # hot
        """Fill the values and the int8 rows; READY, WARMING or INVALID."""
        cdef int state
        if self.history == 1:
            return self._row(row, before, valid, valid_before, seconds, out)
        # the oldest row makes room
        memmove(self._past, self._past + self.n, self.n * (self.history - 1))
        state = self._row(
            row,
            before,
            valid,
            valid_before,
            seconds,
            self._past + self.n * (self.history - 1),
        )
        if state != READY:
            self._filled = 0
            return state
        if self._filled < self.history:
            self._filled += 1
        if self._filled < self.history:
            return WARMING
        memcpy(out, self._past, self.n * self.history)
        return READY

    cdef int _row(
        self,
        const int64_t *row,
        const int64_t *before,
        const uint8_t *valid,
        const uint8_t *valid_before,
        double seconds,
        int8_t *out,
    ) noexcept nogil:  # hot
        """Fill the values and one int8 row."""
        cdef Py_ssize_t i
        cdef Feature *f
        cdef double q
        for i in range(self.n):
            f = &self._items[i]
            if not (_is_valid(valid, f.field) and _is_valid(valid, f.over)):
                return INVALID
            if _needs_before(f.kind) and not (
                seconds > 0
                and _is_valid(valid_before, f.field)
                and _is_valid(valid_before, f.over)
            ):
                return WARMING
        for i in range(self.n):
            f = &self._items[i]
            self._values[i] = _shape_value(f, _raw(f, row, before, seconds), seconds)
            q = round((self._values[i] - f.mean) / f.std / self._in_scale)
            q += self._in_zero
            out[i] = <int8_t>(-128 if q < -128 else 127 if q > 127 else <int>q)
        return READY

    cdef const int8_t *newest(self, const int8_t *rows) noexcept nogil:  # hot
        """The last one of the rows that `compute` filled."""
        return rows + self.n * (self.history - 1)

    def step(self, row, before, double seconds):
        """Compute from two whole rows: for recipes, tests and replay.

        Parameters
        ----------
        row, before : sequence of int or None
            The later and the earlier snapshot; None is a field that could not be read.
        seconds : float
            Time between them; 0 if there is no earlier one.

        Returns
        -------
        tuple of (int, bytes)
            0 if ready, 1 while warming up, 2 if a field that is needed could not be
            read; and the int8 rows, oldest first.

        Raises
        ------
        ValueError
            If the rows differ in length, are longer than 64, or lack a field.

        Thread safety
        -------------
        None; averages (``ema``), peaks and troughs move on with each call.
        """
        cdef int64_t now[64]
        cdef int64_t then[64]
        cdef uint8_t valid[8]
        cdef uint8_t valid_before[8]
        cdef int8_t out[64 * MAX_HISTORY]
        cdef Py_ssize_t i
        if len(row) != len(before) or len(row) > 64 or self.n > 64:
            raise ValueError(
                f"rows of {len(row)} and {len(before)} fields found, two equal ones of "
                "at most 64 expected"
            )
        memset(valid, 0, sizeof(valid))
        memset(valid_before, 0, sizeof(valid_before))
        memset(out, 0, sizeof(out))
        for i in range(len(row)):
            now[i], then[i] = row[i] or 0, before[i] or 0
            valid[i >> 3] |= <uint8_t>((row[i] is not None) << (i & 7))
            valid_before[i >> 3] |= <uint8_t>((before[i] is not None) << (i & 7))
        for i in range(self.n):
            if self._items[i].field >= len(row) or self._items[i].over >= len(row):
                raise ValueError(f"feature {self.names[i]} needs a longer row")
        state = self.compute(now, then, valid, valid_before, seconds, out)
        return state, (<char *>out)[:self.n * self.history]

    def reset(self):
        """Forget averages, peaks and troughs.

        Thread safety
        -------------
        None.
        """
        for i in range(self.n):
            self._items[i].started = self._items[i].met = False
        self._filled = 0

    cdef list _with_extreme(self):
        return [i for i in range(self.n) if self._items[i].extreme_s > 0]

    def get_history(self):
        """The last int8 rows, for a log.

        Returns
        -------
        bytes
            At most `history` of them, oldest first; empty where that is 1.

        Thread safety
        -------------
        None.
        """
        cdef Py_ssize_t size = self.n * self._filled
        cdef Py_ssize_t end = self.n * self.history
        return (<char *>self._past)[end - size:end]

    def set_history(self, rows):
        """Go on from these rows.

        Parameters
        ----------
        rows : bytes
            What `get_history` gave.

        Raises
        ------
        ValueError
            If they are no whole rows, or too many; then nothing is changed.

        Thread safety
        -------------
        None.
        """
        cdef bytes content = bytes(rows)
        cdef Py_ssize_t most = self.n * self.history if self.history > 1 else 0
        cdef Py_ssize_t end = self.n * self.history
        if len(content) > most or len(content) % max(self.n, 1):
            raise ValueError(
                f"{len(content)} bytes found, whole rows of {self.n} and at most "
                f"{most} expected"
            )
        self._filled = len(content) // max(self.n, 1)
        memcpy(self._past + end - len(content), <char *>content, len(content))

    def get_state(self):
        """Averages (``ema``), peaks and troughs, for a log.

        Returns
        -------
        list of float or None
            The average of each feature, then the peak or (its sign changed) the trough
            of each that has one; None before the first value.

        Thread safety
        -------------
        None.
        """
        averages = [
            self._items[i].average if self._items[i].started else None
            for i in range(self.n)
        ]
        return averages + [
            self._items[i].extreme if self._items[i].met else None
            for i in self._with_extreme()
        ]

    def set_state(self, state):
        """Go on from these averages, peaks and troughs.

        Parameters
        ----------
        state : sequence of float or None
            What `get_state` gave.

        Raises
        ------
        ValueError
            If their number is another; then nothing is changed.

        Thread safety
        -------------
        None.
        """
        places = self._with_extreme()
        if len(state) != self.n + len(places):
            raise ValueError(
                f"{len(state)} averages, peaks and troughs found, "
                f"{self.n + len(places)} expected"
            )
        values = [x if x is None else float(x) for x in state]
        for i in range(self.n):
            self._items[i].started = values[i] is not None
            self._items[i].average = values[i] or 0.0
        for i, extreme in zip(places, values[self.n :]):
            self._items[i].met = extreme is not None
            self._items[i].extreme = extreme or 0.0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("feature values are read-only")
        buffer.buf = self._values
        buffer.obj = self
        buffer.len = self.n * sizeof(double)
        buffer.itemsize = sizeof(double)
        buffer.readonly = 1
        buffer.ndim = 1
        buffer.format = <char *>_DOUBLE if flags & PyBUF_FORMAT else NULL
        buffer.shape = self._shape
        buffer.strides = self._strides
        buffer.suboffsets = NULL
        buffer.internal = NULL

    def __releasebuffer__(self, Py_buffer *buffer):
        pass
