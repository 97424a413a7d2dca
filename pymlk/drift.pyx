# SPDX-License-Identifier: MIT
"""Drift: are a model's inputs still like those that it was trained on?

A policy standardises each feature with the training's mean and deviation, so on data
like the training's each int8 input is, in real numbers, 0 on average with deviation 1.
Page's test sums what lies beyond a tolerance of that; ``docs/learning.md`` has the
formulas, thresholds and sources.
"""

from libc.math cimport sqrt
from libc.stdint cimport int8_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    ABOVE
    BELOW
    WIDER
    TESTS

_WAYS = ("above", "below", "wider")
# One row counts no more than this many deviations.
cdef double MOST = 4.0


cdef class Drift:
    """Watches the inputs of a model for a lasting change.

    Parameters
    ----------
    names : sequence of str
        The features, in the order of the input row.
    in_scale, in_zero : float, int
        Quantisation of the model's input.
    tolerated : float
        A mean so many deviations off the training's is no drift, and neither are
        values that are on average so many times further from it, above 0.
    alarm : float
        How much beyond that, summed over rows, is drift.

    Attributes
    ----------
    features : int
        Their number.
    rows : int
        How many rows were added.
    drifting : int
        How many tests are above their threshold now; 0 is no drift.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Thread safety
    -------------
    None; one thread adds.

    Source
    ------
    Page: Continuous inspection schemes, Biometrika 41 (1954).

    Examples
    --------
    >>> drift = Drift(["load"], in_scale=0.03)
    >>> for second in range(100):
    ...     _ = drift.note(bytes([100]), float(second))
    >>> drift.report()[0]["text"]
    'load: 3.0 deviations above the training since 0 s (100 rows)'
    """

    def __cinit__(
        self,
        names,
        *,
        double in_scale,
        int in_zero=0,
        double tolerated=1.0,
        double alarm=150.0,
    ):
        self._names = tuple(names)
        self.features = len(self._names)
        for name, value in (
            ("in_scale", in_scale), ("tolerated", tolerated), ("alarm", alarm)
        ):
            if not 0.0 < value < 1e9:
                raise ValueError(f"{name}: {value} found, a positive number expected")
        if not -128 <= in_zero <= 127:
            raise ValueError(f"in_zero: {in_zero} found, -128 to 127 expected")
        self._scale, self._zero = in_scale, in_zero
        self._tolerated, self._alarm = tolerated, alarm
        self._items = <Feature *>calloc(self.features + 1, sizeof(Feature))
        if self._items == NULL:
            raise MemoryError("no memory for drift")

    def __dealloc__(self):
        free(self._items)

    cdef int _step(self, Sum *test, double off, int64_t now_ns) noexcept nogil:  # hot
        """One more row; 1 if the alarm begins, -1 if it ends."""
        if test.sum == 0.0:
            test.since_ns, test.steps, test.total = now_ns, 0, 0.0
        test.sum += off
        test.total += off
        test.steps += 1
        if test.sum <= 0.0:
            test.sum = 0.0
        elif test.sum > 2.0 * self._alarm:
            # so that the end of a long drift is seen as soon as its beginning
            test.sum = 2.0 * self._alarm
        if not test.alarm and test.sum > self._alarm:
            test.alarm = True
            return 1
        if test.alarm and test.sum == 0.0:
            test.alarm = False
            return -1
        return 0

    cdef bint add(self, const int8_t *row, int64_t now_ns) noexcept nogil:  # hot
        """Look at a row; True if drift of a feature has begun or ended."""
        cdef int before = self.drifting
        cdef bint changed = False
        cdef double z, step
        cdef double wide = (1.0 + self._tolerated) * (1.0 + self._tolerated)
        cdef double offs[TESTS]
        cdef int i, test, change
        self.rows += 1
        for i in range(self.features):
            z = (row[i] - self._zero) * self._scale
            z = MOST if z > MOST else -MOST if z < -MOST else z
            offs[ABOVE] = z - self._tolerated
            offs[BELOW] = -z - self._tolerated
            # half the square of a step is the variance, wherever the mean is
            step = z - self._items[i].before
            self._items[i].before = z
            offs[WIDER] = (0.5 * step * step - wide) / (1.0 + self._tolerated)
            for test in range(TESTS):
                change = self._step(&self._items[i].tests[test], offs[test], now_ns)
                self.drifting += change
                changed |= change != 0
        return changed or before != self.drifting

    def note(self, row, double now_s):
        """Look at a row as the loop does.

        Parameters
        ----------
        row : bytes-like, int8, shape (features,)
            The model's input.
        now_s : float
            Monotonic time in seconds.

        Returns
        -------
        bool
            True if drift of a feature has begun or ended.

        Raises
        ------
        ValueError
            If the row has another length.

        Thread safety
        -------------
        None.
        """
        cdef bytes content = bytes(memoryview(row))
        if len(content) != self.features:
            raise ValueError(
                f"row: {len(content)} bytes found, {self.features} expected"
            )
        return self.add(<const int8_t *><const char *>content, <int64_t>(now_s * 1e9))

    def report(self):
        """The features that have drifted.

        Returns
        -------
        list of dict
            For each: ``feature``; ``way`` (``above``, ``below`` or ``wider``); ``off``,
            by how many deviations the mean is off, or how many deviations wide the
            values are; ``since_s``, when it began; ``rows`` since then; ``text``.

        Thread safety
        -------------
        Reads only.
        """
        cdef const Sum *test
        found = []
        for i in range(self.features):
            for way in range(TESTS):
                test = &self._items[i].tests[way]
                if not test.alarm:
                    continue
                # the mean since the sum was last 0: Page's estimate of the change
                off = test.total / test.steps
                if way == WIDER:
                    off = sqrt(
                        off * (1.0 + self._tolerated) + (1.0 + self._tolerated) ** 2
                    )
                    text = f"{off:.1f} deviations wide"
                else:
                    off += self._tolerated
                    text = f"{off:.1f} deviations {_WAYS[way]} the training"
                since = test.since_ns * 1e-9
                found.append(
                    {
                        "feature": self._names[i],
                        "way": _WAYS[way],
                        "off": off,
                        "since_s": since,
                        "rows": test.steps,
                        "text": f"{self._names[i]}: {text} since {since:.0f} s "
                        f"({test.steps} rows)",
                    }
                )
        return found

    def reset(self):
        """Forget all rows.

        Thread safety
        -------------
        None.
        """
        memset(self._items, 0, self.features * sizeof(Feature))
        self.rows = self.drifting = 0
