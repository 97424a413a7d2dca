# SPDX-License-Identifier: MIT
"""Learning on the device: measured scores correct a model's last layer.

Each action's effect on the score is estimated by a linear model of the head's own
inputs, online and in bounded memory; the head that follows from it is the shipped
one, corrected by that estimate. ``docs/learning.md`` has the formulas, their sources
and limits.
"""

from cpython.array cimport array as Array
from libc.math cimport asinh, fabs, isfinite
from libc.stdint cimport int8_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from .engine cimport Model

from array import array

cdef enum:
    NOTHING = 255  # no decision is remembered here

# An action's own effect per input, in units of the logarithm of the score.
cdef double MOST = 1.0
# What all actions share, in the same units.
cdef double MOST_SHARED = 100.0
# Scores below this share of the usual size count linearly, larger ones by logarithm.
cdef double LINEAR = 0.01
# The usual size of a score is a mean of so many.
cdef double SIZES = 1000.0
# An action's first scores count more, until it has so many.
cdef double FIRST = 20.0


cdef inline double _next(uint64_t *state) noexcept nogil:  # hot
    # xorshift64* (Vigna 2016): the upper 53 bits as [0, 1)
    cdef uint64_t x = state[0]
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    state[0] = x
    return <double>((x * <uint64_t>0x2545F4914F6CDD1D) >> 11) * 2.0 ** -53


cdef inline double _limited(double value, double most) noexcept nogil:  # hot
    return most if value > most else -most if value < -most else value


cdef class Explorer:
    """Now and then another place of the knob than the model's, one step away.

    Each device has one of its own. The guard still judges what comes out of it.

    Parameters
    ----------
    places : int
        Number of the knob's allowed values, 2 to 64.
    epsilon : float
        Share of choices that explore, 0 to 0.5.
    hold : int
        Decisions that a choice lasts, so that a guard that wants equal
        recommendations in a row gets them.
    seed : int
        Of the random numbers; not 0.

    Attributes
    ----------
    explored : int
        How many choices explored.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Thread safety
    -------------
    None; the loop's thread only.

    Examples
    --------
    >>> explorer = Explorer(5, epsilon=0.0)
    >>> explorer.pick(4, 1, max_step=2)
    (4, 1.0)
    """

    def __init__(self, int places, *, double epsilon=0.05, int hold=1, seed=1):
        if not 2 <= places <= 64:
            raise ValueError(f"places: {places} found, 2 to 64 expected")
        if not 0.0 <= epsilon <= 0.5:
            raise ValueError(f"epsilon: {epsilon} found, 0 to 0.5 expected")
        if hold < 1:
            raise ValueError(f"hold: {hold} found, 1 or more expected")
        self._random = seed & 0xFFFFFFFFFFFFFFFF
        if not self._random:
            raise ValueError(f"seed: {seed} found, one that is not 0 expected")
        self._places, self._epsilon, self._hold = places, epsilon, hold
        self._place = -1

    cdef int choose(
        self, int choice, int place, int max_step, double *propensity
    ) noexcept nogil:  # hot
        """The place to recommend, and how likely it was.

        `choice` is the model's place, `place` the knob's own.
        """
        if self._left == 0:
            self._left = self._hold
            self._draw(choice, place, max_step)
        self._left -= 1
        propensity[0] = self._propensity
        return choice if self._place < 0 else self._place

    cdef void _draw(self, int choice, int place, int max_step) noexcept nogil:  # hot
        cdef int candidates[3]
        cdef int n = 0
        cdef int at
        # where the guard would let the model's choice arrive
        cdef int target = place + <int>_limited(choice - place, max_step)
        for at in range(place - 1, place + 2):
            if 0 <= at < self._places and at != target:
                candidates[n] = at
                n += 1
        self._place = -1
        self._propensity = 1.0 - self._epsilon
        if _next(&self._random) < self._epsilon:
            self._place = candidates[<int>(_next(&self._random) * n)]
            self._propensity = self._epsilon / n
            self.explored += 1

    def pick(self, int choice, int place, int max_step):
        """Choose as the loop does: for tests and replay.

        Parameters
        ----------
        choice : int
            The model's place among the allowed values.
        place : int
            The place of the value now in force.
        max_step : int
            How far the guard lets the knob go at a time, 1 or more.

        Returns
        -------
        tuple of (int, float)
            The place to recommend, and the probability with which it was chosen.

        Raises
        ------
        ValueError
            If `choice` or `place` is no place.

        Thread safety
        -------------
        None.
        """
        cdef double propensity
        for value in (choice, place):
            if not 0 <= value < self._places:
                raise ValueError(
                    f"place {value} found, 0 to {self._places - 1} expected"
                )
        if max_step < 1:
            raise ValueError(f"max_step: {max_step} found, 1 or more expected")
        found = self.choose(choice, place, max_step, &propensity)
        return found, propensity


cdef class Learner:
    """Learns from scores what each action is worth, and corrects the head by it.

    All memory is taken when it is made; nothing is allocated by `update`.

    Parameters
    ----------
    head : Head
        Of the shipped program, as `pymlk.head.read_head` gives it.
    temperature : float
        A measured gain of so much (0.05: 5 %) changes an action's odds by a factor
        of e. Less lets measurements overrule the shipped model sooner.
    rate : float
        Share of the error that an update removes in the long run, 0 to 0.5.
    first_rate : float
        The same for an action's first scores.
    doubt : float
        After so many scores an action's estimate counts half, in the end wholly.
    forget : float
        Share of an action's estimate that an update drops.
    max_weight : float
        Most that an update of a rare action counts.
    memory : int
        How many decisions wait for their score, a power of two.

    Attributes
    ----------
    features, actions : int
        The head's inputs and outputs.
    updates : int
        Scores that were learnt from.
    lost : int
        Scores whose decision was not remembered (any more).
    bad : int
        Scores that were not finite.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Thread safety
    -------------
    None; the loop's thread only.

    Examples
    --------
    >>> from pymlk import Model
    >>> from pymlk.head import read_head
    >>> head = read_head(bytes(Model("models/readahead/model.tflite").program))
    >>> learner = Learner(head)
    >>> learner.note(1, bytes(12), action=2, propensity=0.95)
    >>> learner.learn(1, 120.0), learner.learn(1, 120.0), learner.lost
    (True, False, 1)
    """

    def __cinit__(
        self,
        head,
        *,
        double temperature=0.05,
        double rate=0.03,
        double first_rate=0.3,
        double doubt=200.0,
        double forget=0.0002,
        double max_weight=5.0,
        int memory=256,
    ):
        for name, value, low, high in (
            ("temperature", temperature, 1e-3, 10.0),
            ("rate", rate, 1e-6, 0.5),
            ("first_rate", first_rate, rate, 0.5),
            ("doubt", doubt, 1.0, 1e9),
            ("forget", forget, 0.0, 0.1),
            ("max_weight", max_weight, 1.0, 100.0),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name}: {value} found, {low} to {high} expected")
        if not 1 <= memory <= 1 << 20 or memory & (memory - 1):
            raise ValueError(f"memory: {memory} found, a power of two expected")
        self.features, self.actions = head.features, head.actions
        self._op, self._zero, self._in_scale = head.op, head.in_zero, head.in_scale
        # the largest input becomes 1
        self._unit = 1.0 / max(head.in_zero + 128, 127 - head.in_zero)
        self._top = head.out_scale * (127 - head.out_zero)
        self._shipped = (head.weights[:], head.bias[:])
        self._temperature, self._max_weight = temperature, max_weight
        self._doubt = doubt
        self._rate, self._first_rate, self._keep = rate, first_rate, 1.0 - forget
        self._mask = memory - 1
        cdef size_t width = self.features + 1
        self._keys = <uint64_t *>calloc(memory, sizeof(uint64_t))
        self._rows = <int8_t *>calloc(memory, self.features)
        self._taken = <uint8_t *>calloc(memory, 1)
        self._propensities = <float *>calloc(memory, sizeof(float))
        self.row = <int8_t *>calloc(self.features, 1)
        self._x = <float *>calloc(width, sizeof(float))
        self._shared = <float *>calloc(width, sizeof(float))
        self._own = <float *>calloc(self.actions * width, sizeof(float))
        self._times = <uint64_t *>calloc(self.actions, sizeof(uint64_t))
        if (
            self._keys == NULL or self._rows == NULL or self._taken == NULL
            or self._propensities == NULL or self.row == NULL or self._x == NULL
            or self._shared == NULL or self._own == NULL or self._times == NULL
        ):
            raise MemoryError("no memory for a learner")
        for i in range(memory):
            self._taken[i] = NOTHING

    def __dealloc__(self):
        free(self._keys)
        free(self._rows)
        free(self._taken)
        free(self._propensities)
        free(self.row)
        free(self._x)
        free(self._shared)
        free(self._own)
        free(self._times)

    cdef bint run(self, Model model) noexcept nogil:  # hot
        """Run the model, and keep the inputs of its head in `row`."""
        return model.run_tapped(self._op, self.row, self.features)

    cdef void remember(
        self, uint64_t key, int action, double propensity
    ) noexcept nogil:  # hot
        """Keep `row` and what was done, until a score of that key comes."""
        cdef uint64_t slot = key & self._mask
        self._keys[slot] = key
        self._taken[slot] = <uint8_t>action
        self._propensities[slot] = <float>propensity
        memcpy(self._rows + slot * self.features, self.row, self.features)

    cdef void correct(self, uint64_t key, int action) noexcept nogil:  # hot
        """Another action was in force than what was remembered of that key."""
        cdef uint64_t slot = key & self._mask
        if self._keys[slot] == key and self._taken[slot] not in (action, NOTHING):
            self._taken[slot] = <uint8_t>action
            self._propensities[slot] = 1.0

    cdef double _reward(self, double score) noexcept nogil:  # hot
        """A score in units in which equal ratios are equal differences."""
        cdef double times = <double>self.updates + 1.0
        self._size += (fabs(score) - self._size) / (
            times if times < SIZES else SIZES
        )
        # only zeros until now
        if self._size <= 0.0:
            return 0.0
        return asinh(score / (LINEAR * self._size))

    cdef double _spread(self, const int8_t *row) noexcept nogil:  # hot
        """Inputs as numbers up to 1, and a 1 for the bias; the sum of squares."""
        cdef double norm = 1.0
        cdef float x
        cdef int i
        for i in range(self.features):
            x = <float>(row[i] - self._zero) * self._unit
            self._x[i] = x
            norm += x * x
        self._x[self.features] = 1.0
        return norm

    cdef bint update(self, uint64_t key, double score) noexcept nogil:  # hot
        """Learn from the score of a remembered decision; False if there is none."""
        cdef uint64_t slot = key & self._mask
        cdef int action = self._taken[slot]
        cdef int width = self.features + 1
        cdef float *x = self._x
        cdef float *own
        cdef double reward, norm, guess, rate, weight, step, value
        cdef int i
        if action == NOTHING or self._keys[slot] != key:
            self.lost += 1
            return False
        self._taken[slot] = NOTHING
        if not isfinite(score):
            self.bad += 1
            return False
        own = self._own + <size_t>action * width
        # huge scores must not make infinities
        reward = self._reward(_limited(score, 1e100))
        norm = self._spread(self._rows + slot * self.features)
        if self.updates == 0:
            self._shared[self.features] = <float>reward
        guess = 0.0
        for i in range(width):
            guess += x[i] * (self._shared[i] + own[i])
        rate = self._first_rate * FIRST / (FIRST + <double>self._times[action])
        if rate < self._rate:
            rate = self._rate
        weight = 1.0 / self._propensities[slot]
        if not weight < self._max_weight:
            weight = self._max_weight
        # both parts move, so half of it is all of the error
        step = rate * weight
        if step > 0.5:
            step = 0.5
        step *= _limited(reward - guess, 1.0) / norm
        for i in range(width):
            value = step * x[i]
            self._shared[i] = <float>_limited(self._shared[i] + value, MOST_SHARED)
            own[i] = <float>_limited(self._keep * own[i] + value, MOST)
        self._times[action] += 1
        self.updates += 1
        return True

    def infer(self, Model model not None):
        """Run a model and keep the inputs of its head.

        Parameters
        ----------
        model : Model
            It runs the shipped program, or one with another head.

        Returns
        -------
        bytes
            The head's inputs, int8, shape (features,).

        Raises
        ------
        ValueError
            If it runs a program with another form.

        Thread safety
        -------------
        None.
        """
        if model.backend != "engine" or not self.run(model):
            raise ValueError("the model has no such head")
        return (<char *>self.row)[:self.features]

    def note(self, uint64_t key, row, int action, double propensity=1.0):
        """Remember a decision as the loop does.

        Parameters
        ----------
        key : int
            Which one it is, 0 to 2**64 - 1; an older one in its place is forgotten.
        row : bytes-like, int8, shape (features,)
            The head's inputs; copied.
        action : int
            The place that was really in force.
        propensity : float
            The probability with which it was chosen, above 0 and up to 1.

        Raises
        ------
        ValueError
            If the row has another length, or a number is out of range.

        Thread safety
        -------------
        None.
        """
        cdef bytes content = bytes(memoryview(row))
        if len(content) != self.features:
            raise ValueError(
                f"row: {len(content)} bytes found, {self.features} expected"
            )
        if not 0 <= action < self.actions:
            raise ValueError(
                f"action {action} found, 0 to {self.actions - 1} expected"
            )
        if not 0.0 < propensity <= 1.0:
            raise ValueError(f"propensity: {propensity} found, 0 to 1 expected")
        memcpy(self.row, <const char *>content, self.features)
        self.remember(key, action, propensity)

    def learn(self, uint64_t key, double score):
        """Learn from a score as the loop does.

        Parameters
        ----------
        key : int
            As given to `note`.
        score : float
            What came of it, more is better; in any unit, always the same one.

        Returns
        -------
        bool
            False if nothing was learnt: `lost` or `bad` has counted it.

        Thread safety
        -------------
        None. Allocates nothing.
        """
        return self.update(key, score)

    def gains(self, row):
        """What each action is worth, as far as it is known.

        Parameters
        ----------
        row : bytes-like, int8, shape (features,)
            The head's inputs.

        Returns
        -------
        list of float
            By action: the logarithm of its score over what the actions share; 0.05 is
            about 5 % better.

        Raises
        ------
        ValueError
            If the row has another length.

        Thread safety
        -------------
        None.
        """
        cdef bytes content = bytes(memoryview(row))
        cdef int width = self.features + 1
        cdef int a, i
        if len(content) != self.features:
            raise ValueError(
                f"row: {len(content)} bytes found, {self.features} expected"
            )
        self._spread(<const int8_t *><const char *>content)
        return [
            sum([self._own[a * width + i] * self._x[i] for i in range(width)])
            for a in range(self.actions)
        ]

    cdef _fill(self, weights, bias):
        """Add what was learnt to the shipped weights."""
        cdef int width = self.features + 1
        cdef double factor = self._unit / (self._in_scale * self._temperature)
        cdef const float *own
        cdef int a, i
        cdef double trust
        for a in range(self.actions):
            own = self._own + a * width
            trust = self._times[a] / (self._times[a] + self._doubt)
            for i in range(self.features):
                if own[i] != 0.0:
                    weights[a * self.features + i] += trust * own[i] * factor
            if own[self.features] != 0.0:
                bias[a] += trust * own[self.features] / self._temperature

    @property
    def nbytes(self):
        """Memory of estimates and remembered decisions."""
        cdef int width = self.features + 1
        return (
            (self._mask + 1) * (8 + self.features + 1 + 4)
            + 4 * width * (self.actions + 2)
            + 8 * self.actions
            + self.features
        )

    def weights(self):
        """The head that follows from what was learnt.

        Where logits of remembered decisions would leave the range of the head's
        output, all biases are lowered alike: no choice changes by that.

        Returns
        -------
        tuple of (array, array)
            Weights and biases, float32, as `pymlk.head.replace_head` takes them;
            owned by the caller.

        Thread safety
        -------------
        None. Allocates, so call it between decisions.
        """
        weights, bias = self._shipped[0][:], self._shipped[1][:]
        self._fill(weights, bias)
        if weights == self._shipped[0] and bias == self._shipped[1]:
            return weights, bias
        cdef float *w = (<Array>weights).data.as_floats
        cdef float *b = (<Array>bias).data.as_floats
        cdef double most = self._top
        cdef double logit
        cdef const int8_t *row
        cdef uint64_t slot
        cdef int a, i
        for slot in range(self._mask + 1):
            row = self._rows + slot * self.features
            for a in range(self.actions):
                logit = b[a]
                for i in range(self.features):
                    logit += (
                        w[a * self.features + i] * (row[i] - self._zero)
                    ) * self._in_scale
                if logit > most:
                    most = logit
        for a in range(self.actions):
            b[a] -= <float>(most - self._top)
        return weights, bias

    def state(self):
        """All that was learnt, for the next start.

        Returns
        -------
        bytes
            For `restore` of a learner of the same head; owned by the caller.

        Thread safety
        -------------
        None.
        """
        cdef Py_ssize_t width = (self.features + 1) * <Py_ssize_t>sizeof(float)
        head = array("d", [self._size, <double>self.updates])
        times = array("Q", [self._times[a] for a in range(self.actions)])
        return b"".join(
            (
                head.tobytes(),
                times.tobytes(),
                (<char *>self._shared)[:width],
                (<char *>self._own)[:self.actions * width],
            )
        )

    def restore(self, state):
        """Take over what `state` gave; remembered decisions stay.

        Parameters
        ----------
        state : bytes
            It is checked, and nothing changes if it is refused.

        Raises
        ------
        ValueError
            If it is not of a learner of such a head, or has impossible numbers.

        Thread safety
        -------------
        None.
        """
        cdef bytes content = bytes(state)
        cdef Py_ssize_t width = self.features + 1
        cdef Py_ssize_t size = 16 + 8 * self.actions + 4 * width * (self.actions + 1)
        if len(content) != size:
            raise ValueError(
                f"state of a learner: {len(content)} bytes found, {size} expected"
            )
        head = array("d", content[:16])
        times = array("Q", content[16:16 + 8 * self.actions])
        floats = array("f", content[16 + 8 * self.actions:])
        # the limits that `update` keeps; a NaN passes neither
        if not (
            0.0 <= head[0] <= 1e100
            and 0.0 <= head[1] < 2.0 ** 53
            and head[1] == int(head[1])
            and all([-MOST_SHARED <= value <= MOST_SHARED for value in floats[:width]])
            and all([-MOST <= value <= MOST for value in floats[width:]])
        ):
            raise ValueError("state of a learner: impossible numbers found")
        cdef const float *numbers = (<Array>floats).data.as_floats
        self._size, self.updates = head[0], int(head[1])
        for a in range(self.actions):
            self._times[a] = times[a]
        memcpy(self._shared, numbers, width * sizeof(float))
        memcpy(self._own, numbers + width, self.actions * width * sizeof(float))

    def reset(self):
        """Forget all that was learnt; remembered decisions and counters stay.

        Thread safety
        -------------
        None.
        """
        cdef Py_ssize_t size = 16 + 8 * self.actions
        size += 4 * (self.actions + 1) * (self.features + 1)
        self.restore(bytes(size))
