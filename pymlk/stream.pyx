# SPDX-License-Identifier: MIT
"""One device's decision: features, inference, guard, in this order.

What gives the rows (attributes, a dataset) and what takes the verdict (a knob, a
proxy) is its caller's business: `pymlk.loop`.
"""

from libc.stdint cimport int32_t, int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from .engine cimport Model
from .evidence cimport DEFAULT, MODEL
from .features cimport INVALID, WARMING, Features
from .guard cimport (
    APPLIED,
    HANDS_OFF,
    HOLDOUT,
    IDLE,
    INVALID_INPUT,
    LATE,
    REFUSED,
    SHADOW,
    WARMING_UP,
    Guard,
)
from .guard import REASON_NAMES as _REASON_NAMES
from .guard import REASON_TEXTS as _REASON_TEXTS

STAGES = ("snapshot", "features", "inference", "guard")


cdef int64_t now_ns() noexcept nogil:  # hot
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef class Latency:
    """The last 4096 latencies of one stage, in nanoseconds.

    Attributes
    ----------
    count : int
        How many were added in all.

    Thread safety
    -------------
    None; the loop's thread only.
    """

    cdef void add(self, int64_t nanoseconds) noexcept nogil:  # hot
        if nanoseconds > 0x7FFFFFFF:
            nanoseconds = 0x7FFFFFFF
        self._ring[self.count % SAMPLES] = <int32_t>nanoseconds
        self.count += 1

    def percentile(self, double percent):
        """The latency in nanoseconds that so many percent do not exceed.

        Parameters
        ----------
        percent : float
            0 to 100.

        Returns
        -------
        int
            Nanoseconds; 0 if nothing was measured.

        Thread safety
        -------------
        None.
        """
        cdef Py_ssize_t kept = min(self.count, SAMPLES)
        if not kept:
            return 0
        ordered = sorted([self._ring[i] for i in range(kept)])
        return ordered[min(kept - 1, <Py_ssize_t>(kept * percent / 100.0))]


cdef class Sink:
    """What takes every decision of a stream: base of `pymlk.record.Recorder`.

    Attributes
    ----------
    version : int
        Of the program that runs.

    Thread safety
    -------------
    None; the loop's thread only.
    """

    cdef int decision(self, const RecordedDecision *d) noexcept nogil:  # hot
        return 0

    cdef int effect(self, int stream, uint64_t seq, double value) noexcept nogil:  # hot
        return 0


class Decision:
    """One decision, as plain values.

    Attributes
    ----------
    device : str
        What was decided on.
    seq : int
        Sequence number of the snapshot that it answers.
    time_ns : int
        CLOCK_MONOTONIC of that snapshot.
    mode : str
        ``shadow`` or ``apply``.
    recommended, current, target : int or None
        The knob value the model recommends, the one in force at the snapshot, and the
        one that the guard allows. None where it is not known.
    confidence : float or None
        0 to 1; None where the model was not asked.
    reason, reason_text : str
        Why it ended so, as a word and as a sentence.
    errno : int
        The kernel's answer where it refused the value, else 0.
    latency_ns : int
        From the start of the snapshot to the verdict.
    objective : float or None
        The objective field's rate per second since the last snapshot.
    features : dict of str to float
        The features before standardisation.
    """

    __slots__ = (
        "confidence",
        "current",
        "device",
        "errno",
        "features",
        "latency_ns",
        "mode",
        "objective",
        "reason",
        "reason_text",
        "recommended",
        "seq",
        "target",
        "time_ns",
    )

    def to_dict(self):
        """All attributes by name, for JSON.

        Returns
        -------
        dict
            Owned by the caller.

        Thread safety
        -------------
        Reads only.
        """
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


cdef class Tutor:
    """What a stream that learns does more; `pymlk.adapt` has it.

    Thread safety
    -------------
    None; the loop's thread only.
    """

    cdef void infer(self, Stream stream) noexcept nogil:  # hot
        stream._model.run()

    cdef int choose(self, Stream stream, int choice) noexcept nogil:  # hot
        return choice

    cdef void remember(self, Stream stream) noexcept nogil:  # hot
        pass

    cdef void done(self, Stream stream, const Snapshot *s) noexcept nogil:  # hot
        pass

    cdef void period(self, int arm, double score) noexcept nogil:  # hot
        pass

    cdef void outcome(
        self, Stream stream, uint64_t seq, int64_t value, double score
    ) noexcept nogil:  # hot
        pass


cdef class Stream:
    """One device: its places in a row, its features, its guard, its last decision.

    Parameters
    ----------
    device : str
        Name of what is decided on.
    features : Features
        Bound to the places of its fields in the rows that it will get.
    guard : Guard
        Of its knob.
    model : Model
        Shared by the streams of a policy: one at a time runs it.
    latencies : tuple of Latency
        Of the `STAGES`, shared as well.

    Attributes
    ----------
    device, features, guard
        As given.
    fresh : bool
        Nobody has taken the last decision by `decision` yet.
    changed : bool
        The last decision changed the knob, was refused by the kernel, or would have
        changed the knob to something else than the one before.

    Thread safety
    -------------
    None; the loop's thread only.
    """

    def __init__(
        self, str device, Features features, Guard guard, Model model, tuple latencies
    ):
        self.device = device
        self.features = features
        self.guard = guard
        self.activity = self.objective = -1
        self.arm = MODEL
        self._model = model
        self._in = model.input_start(0)
        self._out = model.output_start(0)
        self._out_scale = model.output_quant.scale
        self._out_zero = model.output_quant.zero_point
        _, self._features_time, self._inference_time, self._guard_time = latencies

    cdef watch_fields(self, dict plan, dict fields):
        """Know the fields of idleness and objective; places as for `Features`."""
        self.fields = fields
        if plan["guard"]["min_activity"] is not None:
            field, rate = plan["guard"]["min_activity"]
            self.activity, scale = fields[field]
            self.least_rate = rate * scale
        if plan["objective"] is not None:
            self.objective, self.objective_scale = fields[plan["objective"]]

    cdef inherit(self, Stream old):
        """Go on with the totals of the same device under an earlier stream."""
        self.trial, self.tutor = old.trial, old.tutor
        self.counts = old.counts
        self.objective_sum, self.measured = old.objective_sum, old.measured
        self.changed_to = old.changed_to

    cdef void decide(
        self, const Snapshot *s, int64_t current, bint knob_known
    ) noexcept nogil:  # hot
        """Fill what is known of the last decision from one snapshot."""
        cdef int64_t begin = now_ns() if s.timed else s.start_ns
        cdef int64_t end
        cdef int state
        if self.takes_turns:
            self.arm = self.trial.arm_at(s.start_ns)
        self.seq = s.seq
        self.time_ns = s.time_ns
        self.asked = self.sane = False
        self.error = 0
        self.changed_ns = 0
        self.knob_known = knob_known
        self.current = current
        self.verdict.target = current
        state = self.features.compute(
            s.row, s.before, s.valid, s.valid_before, s.seconds, self._in
        )
        self._measure_objective(s)
        end = self._passed(s, self._features_time, begin)
        if not knob_known or state == INVALID:
            self.verdict.reason = INVALID_INPUT
        elif self.guard.watch(current):
            self.verdict.reason = HANDS_OFF
        elif state == WARMING:
            self.verdict.reason = WARMING_UP
        elif self._is_idle(s):
            self.verdict.reason = IDLE
        else:
            self._infer()
            begin = end
            end = now_ns()
            if s.timed:
                self._inference_time.add(end - begin)
            self.judged_ns, self.judged_latency_ns = end, end - s.start_ns
            self.guard.judge(
                self.choice,
                self.confidence,
                current,
                self.judged_ns,
                self.judged_latency_ns,
                &self.verdict,
            )
            self.sane = self.verdict.reason != LATE
            if self.arm == DEFAULT:
                self.guard.hold_out(&self.verdict)
            end = self._passed(s, self._guard_time, end)
        if not self.asked and not s.timed:
            end = now_ns()
        self.wanted = self.verdict.target
        self.latency_ns = end - s.start_ns

    cdef int64_t _passed(
        self, const Snapshot *s, Latency stage, int64_t begin
    ) noexcept nogil:  # hot
        """The time after a stage; without a look at the clock the one before it."""
        cdef int64_t end
        if not s.timed:
            return begin
        end = now_ns()
        stage.add(end - begin)
        return end

    cdef bint wants_change(self) noexcept nogil:  # hot
        """Is the verdict another value than the knob's?"""
        return self.verdict.reason == APPLIED or (
            self.verdict.reason == HOLDOUT and self.verdict.target != self.current
        )

    cdef void measure(self, const Snapshot *s) noexcept nogil:  # hot
        """Let the trial know of a decision that is done, and of what came before."""
        cdef int64_t before
        if self.trial is None:
            return
        if self.verdict.reason != WARMING_UP and self.verdict.reason != IDLE:
            self.trial.decided(
                self.sane and self.verdict.reason != REFUSED, s.start_ns
            )
        if self.objective_known and self.verdict.reason != IDLE:
            before = s.time_ns - <int64_t>(s.seconds * 1e9)
            if (
                self.trial.effect(before, s.time_ns, self.objective_rate * s.seconds)
                and self.tutor is not None
            ):
                self.tutor.period(self.trial.arm(), self.trial.score())
        if self.tutor is not None:
            self.tutor.done(self, s)

    cdef bint is_news(self) noexcept nogil:  # hot
        """Should somebody be told?"""
        return (self.fresh and self.changed) or (
            self.trial is not None and self.trial.news
        )

    cdef void count(self) noexcept nogil:  # hot
        """Add the last decision to the totals, when its verdict is final."""
        cdef int reason = self.verdict.reason
        self.counts[reason] += 1
        if self.objective_known:
            self.objective_sum += self.objective_rate
            self.measured += 1
        self.fresh = True
        self.changed = reason == APPLIED or reason == REFUSED
        if reason == HOLDOUT:
            self.changed = self.verdict.target != self.current
        if reason == SHADOW:
            self.changed = self.verdict.target != self.changed_to
        if self.changed:
            self.changed_to = self.verdict.target

    cdef void has_changed(self, int64_t value, int64_t now) noexcept nogil:  # hot
        self.guard.changed(value, now)
        self.changed_ns = now

    cdef void record(self, const Snapshot *s) noexcept nogil:  # hot
        cdef RecordedDecision d
        if self.recorder is None:
            return
        d.stream, d.version = self.number, self.recorder.version
        d.flags = (
            (ASKED if self.asked else 0)
            | (KNOB_KNOWN if self.knob_known else 0)
            | (LIMITED if self.asked and self.verdict.limited else 0)
            | (APPLY if self.guard._apply else 0)
            | (CHANGED if self.changed_ns else 0)
            | (HELD_OUT if self.asked and self.arm == DEFAULT else 0)
        )
        d.choice, d.confidence = self.choice, self.confidence
        d.reason, d.error = self.verdict.reason, self.error
        d.seq, d.time_ns, d.seconds = s.seq, s.time_ns, s.seconds
        d.row, d.valid = s.row, s.valid
        d.before, d.valid_before = s.before, s.valid_before
        d.current, d.target, d.wanted = self.current, self.verdict.target, self.wanted
        d.judged_ns, d.judged_latency_ns = self.judged_ns, self.judged_latency_ns
        d.latency_ns, d.changed_ns = self.latency_ns, self.changed_ns
        d.inputs, d.outputs = self._in, self._out
        self.recorder.decision(&d)

    cdef void _infer(self) noexcept nogil:  # hot
        cdef int i
        cdef int best = 0
        if self.tutor is None:
            self._model.run()
        else:
            self.tutor.infer(self)
        for i in range(1, self.guard.n):
            if self._out[i] > self._out[best]:
                best = i
        self.choice = best
        # what is explored is as good as the model's own choice to the guard
        self.confidence = (self._out[best] - self._out_zero) * self._out_scale
        if self.tutor is not None:
            self.choice = self.tutor.choose(self, best)
        self.asked = True

    cdef bint _is_idle(self, const Snapshot *s) noexcept nogil:  # hot
        cdef Py_ssize_t i = self.activity
        if i < 0:
            return False
        return s.row[i] - s.before[i] < self.least_rate * s.seconds

    cdef void _measure_objective(self, const Snapshot *s) noexcept nogil:  # hot
        cdef Py_ssize_t i = self.objective
        self.objective_known = (
            i >= 0
            and s.seconds > 0
            and (s.valid[i >> 3] & s.valid_before[i >> 3]) >> (i & 7) & 1
        )
        if self.objective_known:
            self.objective_rate = (
                <double>(s.row[i] - s.before[i]) / (self.objective_scale * s.seconds)
            )

    def decision(self, str mode):
        """The last decision.

        Parameters
        ----------
        mode : str
            The loop's.

        Returns
        -------
        Decision
            A copy, owned by the caller.

        Thread safety
        -------------
        None. Allocates; the loop itself does not need it.
        """
        self.fresh = False
        d = Decision()
        d.device, d.mode = self.device, mode
        d.seq, d.time_ns = self.seq, self.time_ns
        d.recommended = self.guard._values[self.choice] if self.asked else None
        d.confidence = self.confidence if self.asked else None
        d.current = self.current if self.knob_known else None
        d.target = self.verdict.target if self.knob_known else None
        d.reason = _REASON_NAMES[self.verdict.reason]
        d.reason_text = _REASON_TEXTS[self.verdict.reason]
        d.errno = self.error
        d.latency_ns = self.latency_ns
        d.objective = self.objective_rate if self.objective_known else None
        ready = self.verdict.reason not in (WARMING_UP, INVALID_INPUT)
        values = memoryview(self.features) if ready else ()
        d.features = dict(zip(self.features.names, values))
        return d

    def totals(self):
        """What all decisions came to.

        Returns
        -------
        dict
            ``decisions``, ``reasons`` (how many ended so, by name),
            ``objective_per_s`` (its mean, None if it was never measured) and ``trial``
            (as of `Trial.report`, or None); owned by the caller.

        Thread safety
        -------------
        None.
        """
        reasons = {
            name: self.counts[i]
            for i, name in enumerate(_REASON_NAMES)
            if self.counts[i]
        }
        mean = self.objective_sum / self.measured if self.measured else None
        return {
            "decisions": sum(reasons.values()),
            "reasons": reasons,
            "objective_per_s": mean,
            "trial": self.trial and self.trial.report(),
        }
