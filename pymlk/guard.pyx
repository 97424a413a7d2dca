# SPDX-License-Identifier: MIT
"""The guard: decides whether a recommendation may become a change, and why not.

It never widens what a policy allows: only listed values, at most so many places
per change, not too often, not too late, not unsure, not on a whim, and never
against an administrator.
"""

from libc.stdint cimport int64_t

REASON_NAMES = (
    "applied",
    "would-apply",
    "same",
    "warming-up",
    "idle",
    "invalid-input",
    "late",
    "unsure",
    "settling",
    "rate-limit",
    "hands-off",
    "refused",
    "holdout",
)
REASON_TEXTS = (
    "the knob was changed",
    "shadow mode: the knob would have been changed",
    "the knob has the recommended value",
    "a second snapshot is needed first",
    "too little activity to decide on",
    "a field could not be read",
    "the decision took longer than its deadline",
    "confidence below the policy's minimum",
    "not recommended often enough in a row",
    "changed too short a time ago",
    "somebody else changed the knob: left alone",
    "the kernel refused the value",
    "the default's turn: the knob has the value that it had",
)


cdef class Guard:
    """The guard of one knob.

    Parameters
    ----------
    values : sequence of int
        Allowed values in ascending order, at most 64.
    min_confidence : float
        Least confidence (0 to 1) of a recommendation.
    max_step : int
        Most places in `values` per change.
    min_interval_s : float
        Least seconds between two changes.
    settle : int
        Equal recommendations in a row before a change; a return to the value that the
        knob had at first is not put off.
    deadline_us : int
        Longest time from snapshot to verdict, in microseconds.
    apply : bool
        False is shadow mode: nothing is ever changed.

    Attributes
    ----------
    n : int
        Number of allowed values.
    hands_off : bool
        True once somebody else was seen to change the knob.

    Raises
    ------
    ValueError
        If `values` is empty, too long or not ascending.

    Thread safety
    -------------
    None; the loop's thread only.

    Examples
    --------
    >>> guard = Guard([8, 32, 128], min_confidence=0.5, apply=True)
    >>> guard.check(0, 0.9, 128, 0.0)
    ('applied', 8)
    >>> guard.check(2, 0.1, 8, 0.0)
    ('unsure', 8)
    """

    def __init__(
        self,
        values,
        double min_confidence=0.0,
        int max_step=64,
        double min_interval_s=0.0,
        int settle=1,
        int deadline_us=1000000,
        bint apply=False,
    ):
        values = list(values)
        if not 0 < len(values) <= 64 or values != sorted(set(values)):
            raise ValueError(f"1 to 64 ascending knob values expected, {values} found")
        self.n = len(values)
        for i in range(self.n):
            self._values[i] = values[i]
        self._min_confidence = min_confidence
        self._max_step = max_step
        self._min_interval_ns = <int64_t>(min_interval_s * 1e9)
        self._settle = settle
        self._deadline_ns = <int64_t>deadline_us * 1000
        self._apply = apply
        self._last = -1

    @classmethod
    def of_policy(cls, dict plan, bint apply):
        """The guard that a policy asks for.

        Parameters
        ----------
        plan : dict
            What `pymlk.policy.load` gave.
        apply : bool
            False is shadow mode.

        Returns
        -------
        Guard
            A new one, owned by the caller.

        Thread safety
        -------------
        Pure function.
        """
        limits = plan["guard"]
        return cls(
            plan["knob"]["values"],
            limits["min_confidence"],
            limits["max_step"],
            limits["min_interval_s"],
            limits["settle"],
            limits["deadline_us"],
            apply,
        )

    cdef int _place(self, int64_t value) noexcept nogil:  # hot
        """Place of a value among the allowed ones; of the nearest below if absent."""
        cdef int i = 0
        while i + 1 < self.n and self._values[i + 1] <= value:
            i += 1
        return i

    cdef bint watch(self, int64_t current) noexcept nogil:  # hot
        """Compare the knob with what is known of it; True once hands are off.

        Only a run that writes has a claim that somebody could contradict.
        """
        if self._started and self._apply and current != self._expected:
            self.hands_off = True
        if not self._started:
            self._original = current
        self._started = True
        self._expected = current
        return self.hands_off

    cdef void judge(
        self,
        int choice,
        double confidence,
        int64_t current,
        int64_t now_ns,
        int64_t latency_ns,
        Verdict *verdict,
    ) noexcept nogil:  # hot
        cdef int place = self._place(current)
        cdef int step = choice - place
        self._repeated = self._repeated + 1 if choice == self._last else 1
        self._last = choice
        verdict.limited = step > self._max_step or -step > self._max_step
        if verdict.limited:
            step = self._max_step if step > 0 else -self._max_step
        verdict.target = current
        if self.hands_off:
            verdict.reason = HANDS_OFF
        elif latency_ns > self._deadline_ns:
            verdict.reason = LATE
        elif confidence < self._min_confidence:
            verdict.reason = UNSURE
        elif self._values[choice] == current:
            verdict.reason = SAME
        elif self._values[choice] != self._original and self._repeated < self._settle:
            verdict.reason = SETTLING
        elif self._changed_ns and now_ns - self._changed_ns < self._min_interval_ns:
            verdict.reason = RATE_LIMIT
        else:
            verdict.reason = APPLIED if self._apply else SHADOW
            verdict.target = self._values[place + step]

    cdef void hold_out(self, Verdict *verdict) noexcept nogil:  # hot
        """It is the default's turn: the verdict is the value that the knob had."""
        verdict.reason = HOLDOUT
        verdict.target = self._original

    cdef void changed(self, int64_t value, int64_t now_ns) noexcept nogil:  # hot
        """Note a change of our own."""
        self._expected = value
        self._changed_ns = now_ns

    def check(
        self,
        int choice,
        double confidence,
        int64_t current,
        double now_s=0.0,
        *,
        now_ns=None,
        int64_t latency_ns=0,
    ):
        """Judge one recommendation as the loop does: for tests and replay.

        Parameters
        ----------
        choice : int
            Place of the recommended value among the allowed ones.
        confidence : float
            0 to 1.
        current : int
            The knob's value now.
        now_s : float
            Monotonic time in seconds.
        now_ns : int or None
            The same to the nanosecond, instead.
        latency_ns : int
            Time since the snapshot began, for the deadline.

        Returns
        -------
        tuple of (str, int)
            The reason's name and the value that the knob shall have. A change that
            is applied counts as made, so the rate limit starts.

        Raises
        ------
        ValueError
            If `choice` is no place.

        Thread safety
        -------------
        None.
        """
        cdef Verdict verdict
        cdef int64_t now = <int64_t>(now_s * 1e9) + 1 if now_ns is None else now_ns
        if not 0 <= choice < self.n:
            raise ValueError(f"choice {choice} found, 0 to {self.n - 1} expected")
        self.watch(current)
        self.judge(choice, confidence, current, now, latency_ns, &verdict)
        if verdict.reason == APPLIED:
            self.changed(verdict.target, now)
        return REASON_NAMES[verdict.reason], verdict.target

    def look(self, int64_t current):
        """Compare the knob with what is known, as the loop does before all else.

        Parameters
        ----------
        current : int
            The knob's value now.

        Returns
        -------
        bool
            True if hands are off: somebody else has changed it.

        Thread safety
        -------------
        None.
        """
        return self.watch(current)

    def note_change(self, int64_t value, int64_t now_ns):
        """Note a change of our own, as the loop does: for replay.

        Parameters
        ----------
        value : int
            What the knob has now.
        now_ns : int
            CLOCK_MONOTONIC of the change.

        Thread safety
        -------------
        None.
        """
        self.changed(value, now_ns)

    def get_state(self):
        """What this guard remembers, for a log.

        Returns
        -------
        dict
            Plain values, owned by the caller.

        Thread safety
        -------------
        None.
        """
        return {
            "apply": self._apply,
            "last": self._last,
            "repeated": self._repeated,
            "changed_ns": self._changed_ns,
            "expected": self._expected,
            "original": self._original,
            "started": self._started,
            "hands_off": self.hands_off,
        }

    def set_state(self, dict state):
        """Remember that instead.

        Parameters
        ----------
        state : dict
            What `get_state` gave.

        Raises
        ------
        KeyError
            If a value is missing; then nothing is changed.

        Thread safety
        -------------
        None.
        """
        (
            self._apply,
            self._last,
            self._repeated,
            self._changed_ns,
            self._expected,
            self._original,
            self._started,
            self.hands_off,
        ) = [state[key] for key in self.get_state()]
