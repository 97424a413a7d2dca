# SPDX-License-Identifier: MIT
"""Evidence: is the model better than the default, and may it decide?

`Gain` compares the scores of two arms, with an interval that holds however often one
looks at it. `Ladder` turns that into a mode, `Holdout` says when the default has its
turn. ``docs/learning.md`` has the formulas, their sources and limits.
"""

from libc.math cimport fabs, isfinite, log, sqrt
from libc.stdint cimport int64_t, uint64_t

ARMS = ("default", "model")
MODES = ("emergency", "learning", "collaboration", "recommendation")

cdef enum:
    # why a mode was changed last
    BEGUN
    SANE
    BETTER
    WORSE
    SUDDEN
    BY_HAND

# The interval is narrowest, for its confidence, after 200 scores (at 95 %).
cdef double RHO2 = 0.04
# Page's test on scores in standard deviations of the default's: what is tolerated,
# and how much more than that, summed, is an alarm. One score counts up to MOST_OFF.
cdef double TOLERATED = 0.5
cdef double ALARM = 12.0
cdef double MOST_OFF = 4.0
# The default's recent scores: a moving mean, after so many.
cdef int64_t RECENT = 100
# A test costs confidence, and decisions in a row are doubled, up to here.
cdef int MOST_DEMOTIONS = 6

cdef int _arm(str arm) except -1:
    if arm == "default":
        return DEFAULT
    if arm == "model":
        return MODEL
    raise ValueError(f"arm {arm!r} found, one of {ARMS} expected")


cdef class Gain:
    """How much better the model's scores are than the default's.

    Each arm's mean and variance are kept by Welford's method; memory is constant.

    Parameters
    ----------
    least : int
        Scores that each arm must have before an interval is given, 2 or more.

    Attributes
    ----------
    least : int
        As given.
    bad : int
        Scores that were not finite, and not counted.

    Raises
    ------
    ValueError
        If `least` is below 2.

    Thread safety
    -------------
    None; one thread adds.

    Source
    ------
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform central limit theory and
    asymptotic confidence sequences, Annals of Statistics 52 (2024); Fieller 1954.

    Examples
    --------
    >>> gain = Gain()
    >>> for i in range(60):
    ...     gain.record("default", 100 + i % 7)
    ...     gain.record("model", 120 + i % 5)
    >>> "{:.3f} {:.3f} {:.3f}".format(*gain.interval())
    '0.186 0.175 0.196'
    """

    def __init__(self, int least=30):
        if least < 2:
            raise ValueError(f"least: {least} found, 2 or more expected")
        self.least = least
        self.clear()

    cdef void clear(self) noexcept nogil:  # hot
        cdef int arm
        for arm in range(2):
            self._n[arm] = 0
            self._mean[arm] = self._squares[arm] = 0.0

    cdef void add(self, int arm, double score) noexcept nogil:  # hot
        cdef double off
        # a square of more would be infinite
        if not fabs(score) < 1e100:
            self.bad += 1
            return
        off = score - self._mean[arm]
        self._n[arm] += 1
        self._mean[arm] += off / <double>self._n[arm]
        self._squares[arm] += off * (score - self._mean[arm])

    cdef bint bounds(self, double alpha, Bounds *found) noexcept nogil:  # hot
        """The gain and its interval at level `alpha`; False if nothing can be said."""
        cdef double spread[2]
        cdef double n, u, factor, a, root, middle, ratio, sign
        cdef int arm
        for arm in range(2):
            n = <double>self._n[arm]
            if self._n[arm] < self.least:
                return False
            spread[arm] = self._squares[arm] / (n - 1.0) / n
        u = <double>(self._n[0] + self._n[1]) * RHO2
        # squared, in standard errors: the boundary of Robbins' normal mixture
        factor = 2.0 * (u + 1.0) / u * log(sqrt(u + 1.0) / alpha)
        # where |model - ratio * default| is within the boundary, solved for ratio
        a = self._mean[0] * self._mean[0] - factor * spread[0]
        if not a > 0.0:
            return False
        ratio = self._mean[1] / self._mean[0]
        middle = self._mean[0] * self._mean[1] / a
        root = self._mean[1] * self._mean[1] - factor * spread[1]
        root = middle * middle - root / a
        root = sqrt(root) if root > 0.0 else 0.0
        # of scores below zero the one nearer to it is better
        sign = 1.0 if self._mean[0] > 0.0 else -1.0
        found.gain = sign * (ratio - 1.0)
        found.low = sign * (middle - 1.0) - root
        found.high = sign * (middle - 1.0) + root
        return True

    def record(self, str arm, double score):
        """Add a score as the loop does.

        Parameters
        ----------
        arm : str
            ``default`` or ``model``: who decided.
        score : float
            More is better; in any unit. One that is not finite is only counted.

        Raises
        ------
        ValueError
            If there is no such arm.

        Thread safety
        -------------
        None. Allocates nothing that stays.
        """
        self.add(_arm(arm), score)

    def count(self, str arm):
        """How many scores an arm has.

        Parameters
        ----------
        arm : str
            ``default`` or ``model``.

        Returns
        -------
        int
            Those that were finite.

        Raises
        ------
        ValueError
            If there is no such arm.

        Thread safety
        -------------
        Reads only.
        """
        return self._n[_arm(arm)]

    def mean(self, str arm):
        """The mean score of an arm.

        Parameters
        ----------
        arm : str
            ``default`` or ``model``.

        Returns
        -------
        float or None
            None without a score.

        Raises
        ------
        ValueError
            If there is no such arm.

        Thread safety
        -------------
        Reads only.
        """
        place = _arm(arm)
        return self._mean[place] if self._n[place] else None

    def interval(self, double confidence=0.95):
        """The relative gain of the model over the default.

        Parameters
        ----------
        confidence : float
            Probability that the true gain is inside at all times at which one looks,
            0.5 to 0.9999.

        Returns
        -------
        tuple of (float, float, float) or None
            The gain (0.1: 10 % more than the default), the lower and the upper bound;
            None with less than `least` scores of an arm, or as long as the default's
            mean cannot be told from 0.

        Raises
        ------
        ValueError
            If the confidence is out of range.

        Thread safety
        -------------
        Reads only.
        """
        cdef Bounds found
        _check_confidence(confidence)
        if not self.bounds(1.0 - confidence, &found):
            return None
        return found.gain, found.low, found.high

    def reset(self):
        """Forget all scores.

        Thread safety
        -------------
        None.
        """
        self.clear()


cdef _check_confidence(double confidence):
    if not 0.5 <= confidence <= 0.9999:
        raise ValueError(f"confidence: {confidence} found, 0.5 to 0.9999 expected")


cdef class Ladder:
    """Which mode the evidence allows: learning, collaboration or recommendation.

    Up one step at a time, down to learning at once. Each promotion to recommendation
    after a demotion needs half the error probability of the one before, so that the
    probability of ever promoting a model that is no better stays below
    1 - `confidence`; and twice the sane decisions.

    Parameters
    ----------
    apply : bool
        The user allows that the model decides; without it learning is the end.
    confidence : float
        Of every statement about the gain, 0.5 to 0.9999.
    least_scores : int
        Scores of each arm before a promotion to recommendation.
    least_decisions : int
        Sane decisions in a row before a promotion to collaboration.
    highest : str
        The last mode that the user wants.

    Attributes
    ----------
    gain : Gain
        Evidence since the model was last let in.
    changes : int
        How often the mode was changed.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Thread safety
    -------------
    None; the loop's thread only.

    Source
    ------
    Page: Continuous inspection schemes, Biometrika 41 (1954), for the sudden losses.

    Examples
    --------
    >>> ladder = Ladder(apply=True, least_decisions=2)
    >>> ladder.note_decision(True), ladder.note_decision(True), ladder.mode
    (False, True, 'collaboration')
    >>> ladder.reason
    'learning to collaboration: 2 sane decisions in a row, 2 needed'
    """

    def __init__(
        self,
        bint apply=False,
        *,
        double confidence=0.95,
        int least_scores=30,
        int least_decisions=100,
        str highest="recommendation",
    ):
        _check_confidence(confidence)
        if least_decisions < 1:
            raise ValueError(
                f"least_decisions: {least_decisions} found, 1 or more expected"
            )
        if highest not in MODES[LEARNING:]:
            raise ValueError(
                f"highest: {highest!r} found, one of {MODES[LEARNING:]} expected"
            )
        self.gain = Gain(least_scores)
        self._apply, self._alpha = apply, 1.0 - confidence
        self._least_decisions = least_decisions
        self._highest = MODES.index(highest)
        self._mode = LEARNING
        self._told_alpha = self._alpha

    cdef double _level(self) noexcept nogil:  # hot
        """The error probability that the present attempt may spend."""
        return self._alpha / <double>(1 << self._demotions)

    cdef void _move(self, int mode, int cause) noexcept nogil:  # hot
        """Change the mode, and keep the numbers that say why."""
        self._told_alpha = self._level()
        self._seen[0], self._seen[1] = self.gain._n[0], self.gain._n[1]
        self._count, self._told_alarm = self._decisions, self._alarm
        self._cause = cause
        if mode < self._mode and self._demotions < MOST_DEMOTIONS:
            self._demotions += 1
        # what is above continues the evidence of collaboration
        if mode != RECOMMENDATION:
            self.gain.clear()
        self._decisions = 0
        self._alarm = 0.0
        self._mode = mode
        self.changes += 1

    cdef bint decided(self, bint sane) noexcept nogil:  # hot
        """Note a decision; True if the mode was changed.

        Sane is one with valid features that nothing refused.
        """
        cdef int64_t least = self._least_decisions << self._demotions
        self._decisions = self._decisions + 1 if sane else 0
        if (
            self._mode == LEARNING
            and self._apply
            and self._highest > LEARNING
            and self._decisions >= least
        ):
            self._move(COLLABORATION, SANE)
            return True
        return False

    cdef void _watch(self, int arm, double score) noexcept nogil:  # hot
        """Page's test of the model's scores against the default's recent ones."""
        cdef double share, off, deviation
        if not fabs(score) < 1e100:
            return
        if arm == DEFAULT:
            self._n += 1
            share = 1.0 / <double>(self._n if self._n < RECENT else RECENT)
            off = score - self._mean
            self._mean += share * off
            self._square += share * (off * (score - self._mean) - self._square)
            return
        deviation = sqrt(self._square)
        if self._n < self.gain.least or not deviation > 0.0:
            return
        off = (self._mean - score) / deviation
        off = MOST_OFF if off > MOST_OFF else -MOST_OFF if off < -MOST_OFF else off
        self._alarm += off - TOLERATED
        if self._alarm < 0.0:
            self._alarm = 0.0

    cdef bint scored(self, int arm, double score) noexcept nogil:  # hot
        """Add a score of an arm; True if the mode was changed."""
        self.gain.add(arm, score)
        self._watch(arm, score)
        if self._mode <= LEARNING:
            return False
        if self._alarm > ALARM:
            self._move(LEARNING, SUDDEN)
            return True
        if not self.gain.bounds(self._level(), &self._bounds):
            return False
        if self._bounds.high < 0.0:
            self._move(LEARNING, WORSE)
            return True
        if (
            self._mode == COLLABORATION
            and self._highest == RECOMMENDATION
            and self._bounds.low > 0.0
        ):
            self._move(RECOMMENDATION, BETTER)
            return True
        return False

    def note_decision(self, bint sane):
        """Note a decision as the loop does.

        Parameters
        ----------
        sane : bool
            It had valid features, and nothing refused it.

        Returns
        -------
        bool
            True if the mode was changed.

        Thread safety
        -------------
        None.
        """
        return self.decided(sane)

    def note_score(self, str arm, double score):
        """Add a score as the loop does.

        Parameters
        ----------
        arm : str
            ``default`` or ``model``: who decided.
        score : float
            More is better.

        Returns
        -------
        bool
            True if the mode was changed.

        Raises
        ------
        ValueError
            If there is no such arm.

        Thread safety
        -------------
        None.
        """
        return self.scored(_arm(arm), score)

    def demote(self):
        """Back to learning by hand; the evidence starts anew.

        Thread safety
        -------------
        None.
        """
        if self._mode > LEARNING:
            self._move(LEARNING, BY_HAND)

    @property
    def mode(self):
        """The mode now, one of `MODES`."""
        return MODES[self._mode]

    @property
    def reason(self):
        """Why the mode is what it is, with the numbers of its last change."""
        if self._cause == BEGUN:
            if not self._apply:
                return "learning: nobody has allowed to apply"
            return (
                f"learning: {self._decisions} sane decisions in a row, "
                f"{self._least_decisions} needed"
            )
        if self._cause == SANE:
            return (
                f"learning to collaboration: {self._count} sane decisions in a row, "
                f"{self._least_decisions << self._demotions} needed"
            )
        interval = (
            f"gain {self._bounds.gain:+.1%}, between {self._bounds.low:+.1%} and "
            f"{self._bounds.high:+.1%} at {1.0 - self._told_alpha:.2%}, from "
            f"{self._seen[MODEL]} scores of the model and {self._seen[DEFAULT]} of "
            "the default"
        )
        if self._cause == BETTER:
            return f"collaboration to recommendation: {interval}"
        if self._cause == WORSE:
            return f"back to learning: the model is worse: {interval}"
        if self._cause == SUDDEN:
            return (
                f"back to learning: scores fell below the default's recent ones by "
                f"{self._told_alarm:.1f} deviations in all, {ALARM:g} allowed"
            )
        return "back to learning: by hand"


cdef inline uint64_t _mix(uint64_t x) noexcept nogil:  # hot
    # splitmix64 (Steele, Lea, Flood 2014)
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef class Holdout:
    """Who decides when: periods by lot, so that the default keeps being measured.

    Learning: always the default. Collaboration: of each pair of periods the model has
    one and the default the other. Recommendation: of each ten the default has one.

    Parameters
    ----------
    period_s : float
        Length of a period in seconds, above 0.
    washout : float
        Share at the start of each period that is not scored, since the period before
        still has its effect; 0 to 0.9.
    seed : int
        Of the lots.

    Attributes
    ----------
    arm : int
        Of the period that ended last: 0 the default, 1 the model.
    score : float
        Its mean rate per second.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Thread safety
    -------------
    None; the loop's thread only.

    Examples
    --------
    >>> holdout = Holdout(10.0)
    >>> holdout.start("recommendation", 0.0)
    >>> arms = [holdout.arm_then(10.0 * i + 1) for i in range(10)]
    >>> arms.count("default")
    1
    """

    def __init__(
        self, double period_s, *, double washout=0.2, uint64_t seed=1
    ):
        if not 1e-6 <= period_s <= 1e9:
            raise ValueError(f"period_s: {period_s} found, a positive number expected")
        if not 0.0 <= washout <= 0.9:
            raise ValueError(f"washout: {washout} found, 0 to 0.9 expected")
        self._period = <int64_t>(period_s * 1e9)
        self._washout = <int64_t>(period_s * 1e9 * washout)
        self._seed = seed
        self._mode = LEARNING

    cdef void switch_to(self, int mode, int64_t now_ns) noexcept nogil:  # hot
        """Begin a first period of a mode now; what runs is not scored."""
        self._mode, self._start = mode, now_ns
        self._seed = _mix(self._seed)
        self._running = False

    cdef int64_t _number_at(self, int64_t now_ns) noexcept nogil:  # hot
        # before the start (a clock that was set back) it is the first one
        return (now_ns - self._start) // self._period if now_ns > self._start else 0

    cdef int arm_at(self, int64_t now_ns) noexcept nogil:  # hot
        """DEFAULT or MODEL."""
        cdef uint64_t number = <uint64_t>self._number_at(now_ns)
        cdef uint64_t lot
        if self._mode == COLLABORATION:
            lot = _mix(self._seed + number // 2)
            return MODEL if (lot ^ number) & 1 else DEFAULT
        if self._mode == RECOMMENDATION:
            lot = _mix(self._seed + number // 10)
            return DEFAULT if lot % 10 == number % 10 else MODEL
        return DEFAULT

    cdef bint is_scored(self, int64_t now_ns) noexcept nogil:  # hot
        """Is the washout over?"""
        if now_ns < self._start:
            return False
        return (now_ns - self._start) % self._period >= self._washout

    cdef bint add(
        self, int64_t from_ns, int64_t to_ns, double amount
    ) noexcept nogil:  # hot
        """Add what was done between two snapshots; True if a period has ended.

        Then `arm` and `score` are its. What lies in two periods, or in a washout, and
        periods of which less than half was seen, are not scored.
        """
        cdef int64_t number = self._number_at(from_ns)
        cdef bint ended = False
        if self._running and number != self._number:
            self._running = False
            if 2 * self._covered >= self._period - self._washout:
                self.arm = self.arm_at(self._start + self._number * self._period)
                self.score = self._amount / (<double>self._covered * 1e-9)
                ended = True
        if not self._running:
            self._number, self._amount, self._covered = number, 0.0, 0
            self._running = True
        if (
            to_ns > from_ns
            and isfinite(amount)
            and self.is_scored(from_ns)
            and self._number_at(to_ns - 1) == number
        ):
            self._amount += amount
            self._covered += to_ns - from_ns
        return ended

    def start(self, str mode, double now_s):
        """Begin a mode as the loop does when its mode changes.

        Parameters
        ----------
        mode : str
            One of `MODES`.
        now_s : float
            Monotonic time in seconds.

        Raises
        ------
        ValueError
            If there is no such mode.

        Thread safety
        -------------
        None.
        """
        self.switch_to(MODES.index(mode), <int64_t>(now_s * 1e9))

    def arm_then(self, double now_s):
        """Who decides at a time.

        Parameters
        ----------
        now_s : float
            Monotonic time in seconds.

        Returns
        -------
        str
            ``default`` or ``model``.

        Thread safety
        -------------
        Reads only.
        """
        return ARMS[self.arm_at(<int64_t>(now_s * 1e9))]

    def note(self, double from_s, double to_s, double amount):
        """Add what was done between two snapshots, as the loop does.

        Parameters
        ----------
        from_s, to_s : float
            Monotonic times of the snapshots in seconds.
        amount : float
            How much the objective's field has grown.

        Returns
        -------
        tuple of (str, float) or None
            Arm and mean rate per second of a period that has just ended.

        Thread safety
        -------------
        None.
        """
        if self.add(<int64_t>(from_s * 1e9), <int64_t>(to_s * 1e9), amount):
            return ARMS[self.arm], self.score
        return None
