# SPDX-License-Identifier: MIT
"""The loop over models in the kernel: records in, recommendations out.

It wakes when a dataset grows, decides on the newest sample of each model, and
sends what the guard lets through, which is the heartbeat, too. The kernel never
waits for it, and takes over by itself when nothing comes.
"""

import errno

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from .evidence cimport DEFAULT, MODEL
from .guard cimport APPLIED, REFUSED, SAME
from .proxy cimport OUTCOME, SAMPLE, Proxy, Slot
from .serve cimport Source
from .stream cimport Snapshot, Stream, now_ns

from .devices import is_wanted
from .errors import PolicyError, ProxyError
from .features import Features
from .guard import Guard as _Guard
from .proxy import Proxy as _Proxy
from .proxy import discover
from .trial import Trial

cdef enum:
    VALUES = 64  # of a row, at most
    VALID_BYTES = 8
    KNOBS = 8
    # enum mlk_outcome and enum mlk_arm of <linux/mlk.h>
    OUTCOME_SEQ = 0
    OUTCOME_ARM = 1
    OUTCOME_SCORE = 3
    OUTCOME_APPLIED = 4
    ARM_DEFAULT = 1
    ARM_MODEL = 2
    # Taken in one turn: a flood of records must not starve the other loops.
    RECORDS = 4096

cdef int64_t SECOND = 1000000000
cdef int64_t NEVER = 0x7FFFFFFFFFFFFFFF
cdef int64_t RESCAN_NS = 5 * SECOND
# Looked at models so often, or a little sooner with a turn that comes anyway: each
# wake-up costs more than what is done in it.
cdef int64_t LOOK_NS = 1250000000
cdef int64_t SOONER_NS = 350000000
# Looking at the clock between stages costs as much as a stage: not more often.
cdef int64_t TIMED_NS = 1000000

MODES = ("shadow", "learning", "collaboration", "recommendation")

# Words of `control` that lead from each state to running.
_TO_RUNNING = {
    "created": ("init", "start", "run"),
    "stopped": ("init", "start", "run"),
    "initialized": ("start", "run"),
    "started": ("run",),
    "running": (),
}

# Reasons of an emergency that are over when the model runs and its owner is heard.
# `new` is what a model says that somebody stopped and started again.
_PASSING = ("heartbeat", "suspend", "stop", "new")


cdef class _Link(Stream):
    """One model in the kernel, its last sample, and what it was told."""

    cdef Proxy proxy
    cdef Slot slot
    cdef int64_t row[VALUES]
    cdef int64_t before[VALUES]
    cdef uint64_t row_seq
    cdef int64_t row_ns
    cdef int64_t before_ns
    cdef bint waiting  # the row was not decided on yet
    cdef int n
    cdef uint64_t malformed
    cdef uint64_t told_malformed
    # the recommendation
    cdef bint owner
    cdef int64_t values[KNOBS]
    cdef int knob
    # scores that wait to become one
    cdef double batch_sum[2]
    cdef uint64_t batch_n[2]
    cdef int64_t batch_ns
    cdef int64_t batch_length_ns
    # times
    cdef int64_t decided_ns
    cdef int64_t beat_ns
    cdef int64_t beat_interval_ns
    cdef bint turned  # the last turn decided
    cdef int failed  # errno of what the kernel refused
    cdef bint paused  # it does not run
    cdef uint8_t all_valid[VALID_BYTES]
    # the mode that it has, as far as is known, and the words that brought it there
    cdef str mode
    cdef bint emergency
    cdef tuple started

    cdef bint drain(self) noexcept nogil:  # hot
        """Take what is in the ring; True if there may be more."""
        cdef int _i
        for _i in range(RECORDS):
            if self.proxy.dataset.take(&self.slot) != 1:
                return False
            if self.slot.kind == SAMPLE:
                self._sample()
            elif self.slot.kind == OUTCOME:
                self._outcome()
        return True

    cdef void _sample(self) noexcept nogil:  # hot
        if self.slot.n != <uint64_t>self.n:
            self.malformed += 1
            return
        memcpy(self.row, self.slot.value, self.n * sizeof(int64_t))
        self.row_seq = self.slot.seq
        self.row_ns = <int64_t>self.slot.time_ns
        self.waiting = True

    cdef void _outcome(self) noexcept nogil:  # hot
        """A score that the kernel's client gave, by whose values it was."""
        cdef uint64_t seq = <uint64_t>self.slot.value[OUTCOME_SEQ]
        cdef int64_t arm = self.slot.value[OUTCOME_ARM]
        cdef double score = <double>self.slot.value[OUTCOME_SCORE]
        if self.slot.n <= <uint64_t>(OUTCOME_APPLIED + self.knob):
            self.malformed += 1
            return
        if self.recorder is not None:
            self.recorder.effect(self.number, seq, score)
        # what had no usable answer counts for neither side
        if self.trial is not None and (arm == ARM_DEFAULT or arm == ARM_MODEL):
            self._score(MODEL if arm == ARM_MODEL else DEFAULT, score)
        if self.tutor is not None:
            self.tutor.outcome(
                self, seq, self.slot.value[OUTCOME_APPLIED + self.knob], score
            )

    cdef void _score(self, int arm, double score) noexcept nogil:  # hot
        """Scores that come close together depend on each other: their mean is one."""
        cdef int64_t now = <int64_t>self.slot.time_ns
        cdef double mean
        cdef int i
        if self.batch_n[0] + self.batch_n[1] == 0:
            self.batch_ns = now
        self.batch_n[arm] += 1
        self.batch_sum[arm] += score
        # a clock that went back ends it, too
        if 0 <= now - self.batch_ns < self.batch_length_ns:
            return
        for i in range(2):
            if self.batch_n[i]:
                mean = self.batch_sum[i] / <double>self.batch_n[i]
                self.trial.scored(i, mean, now)
                if self.tutor is not None:
                    self.tutor.period(i, mean)
            self.batch_n[i], self.batch_sum[i] = 0, 0.0

    cdef void answer(self, int64_t start, bint timed) noexcept nogil:  # hot
        """Decide on the newest sample, and tell the kernel."""
        cdef Snapshot s
        s.row, s.before = self.row, self.before
        s.valid = s.valid_before = self.all_valid
        s.seq, s.time_ns, s.start_ns = self.row_seq, self.row_ns, start
        s.timed = timed
        s.seconds = 0.0
        if self.before_ns:
            s.seconds = <double>(self.row_ns - self.before_ns) * 1e-9
        self.decide(&s, self.values[self.knob], True)
        if self.owner and not self.paused and (
            self.verdict.reason == APPLIED or self.verdict.reason == SAME
        ):
            self._recommend(start)
        self.count()
        self.record(&s)
        memcpy(self.before, self.row, self.n * sizeof(int64_t))
        self.before_ns = self.row_ns
        self.waiting = False
        self.decided_ns = start

    cdef void _recommend(self, int64_t start) noexcept nogil:  # hot
        cdef int error
        self.values[self.knob] = self.verdict.target
        error = self.proxy.send(
            self.values, <int>(self.confidence * 1000.0), self.row_seq
        )
        if error < 0:
            self._refused(error)
            return
        self.beat_ns = start
        if self.verdict.reason == APPLIED:
            self.has_changed(self.verdict.target, start)

    cdef void _refused(self, int error) noexcept nogil:  # hot
        self.verdict.reason = REFUSED
        self.verdict.target = self.values[self.knob] = self.current
        self.error = self.failed = -error

    cdef void beat(self, int64_t now) noexcept nogil:  # hot
        cdef int error = self.proxy.beat()
        self.beat_ns = now
        if error < 0:
            self.failed = -error

    cdef int64_t due(self, int64_t interval) noexcept nogil:  # hot
        """When it wants a turn even if no record comes."""
        cdef int64_t due = NEVER
        if self.owner:
            due = self.beat_ns + self.beat_interval_ns
        if self.waiting:
            due = min(due, self.decided_ns + interval)
        return due


cdef class ProxyLoop(Source):
    """The loop of one policy over the models in the kernel that it names.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` gave for a policy with a ``proxy``.
    root : str
        Prefix of ``/sys`` and ``/dev``: that of an emulator, in tests.
    mode : str
        ``shadow`` only reads; the others own each model and set its mode, so that the
        kernel applies (but in ``learning``) what is recommended.
    highest : str or None
        Instead of a mode: start with ``learning``, and let the measured gain lead up to
        this one.
    learnt : str or None
        Where a policy that learns keeps it; None takes the system's folder.

    Attributes
    ----------
    decisions : int
        How many it made in all.
    latencies : tuple of Latency
        Of the stages, once in a millisecond at most; ``snapshot`` is the reading of
        the dataset.

    Raises
    ------
    PolicyError
        If no model matches, or one lacks a feature or knob, or the knob cannot have
        one of the policy's values.
    ProxyError
        If a model cannot be opened or has another owner.

    Thread safety
    -------------
    None; the server's thread only.
    """

    cdef object _highest
    cdef int64_t _look_ns
    cdef int64_t _rescan_ns
    # why a model could not be had, by its name
    cdef dict _refusals
    cdef int64_t _timed_ns
    cdef readonly uint64_t decisions

    def __init__(
        self,
        dict plan,
        *,
        str root="/",
        str mode="shadow",
        highest=None,
        learnt=None,
    ):
        if mode not in MODES:
            raise ValueError(f"mode {mode!r} found, one of {MODES} expected")
        if highest is not None:
            mode = "learning"
        self.prepare(plan, root, mode)
        self._highest = highest
        self._refusals = {}
        self.adapt(highest, learnt)
        self._rescan_ns = now_ns() + RESCAN_NS
        try:
            self.rescan()
        except BaseException:
            self.close()
            raise
        if not self.streams:
            raise PolicyError(
                f"{plan['file']}: proxy: {plan['proxy']!r} found, but the kernel has "
                f"no such model; it has: {', '.join(discover(root)) or 'none'}"
            )

    def rescan(self):
        """Look for models that came; those that went are dropped when they say so.

        Returns
        -------
        bool
            True if there are new ones.

        Raises
        ------
        PolicyError, ProxyError
            As when the loop is made.

        Thread safety
        -------------
        None. Allocates, so call it between decisions.
        """
        new = self._new()
        for name in new:
            self._connect(name)
        return bool(new)

    cdef list _new(self):
        """Names of models that the policy is for, and that are not there yet."""
        known = set(self.devices)
        return [
            name
            for name in discover(self.root)
            if is_wanted(name, self.plan["proxy"], self.plan["skip"])
            and name not in known
        ]

    cdef _connect(self, str name):
        cdef _Link link
        proxy = _Proxy(name, root=self.root, write=self.mode != "shadow")
        try:
            link = self._link(name, proxy)
            if self.mode != "shadow":
                self._own(link)
        except BaseException:
            proxy.close()
            raise
        self.replace([*self.streams, link])
        self._begin_anew(link)
        if self.server is not None:
            self.server.watch(self.place, proxy.fileno())

    cdef _begin_anew(self, _Link link):
        """Whatever its trial has come to was for the mode that it had."""
        if link.trial is not None:
            link.trial.ladder.demote()
            link.trial.take_news()

    cdef _Link _link(self, str name, Proxy proxy):
        cdef _Link link
        plan = self.plan
        places = {feature.name: (i, 1) for i, feature in enumerate(proxy.features)}
        fields = {
            key: places[self._named(f"fields.{key}", name, feature, places)]
            for key, feature in plan["fields"].items()
        }
        knobs = {knob.name: i for i, knob in enumerate(proxy.knobs)}
        wanted = self._named("knob.path", name, plan["knob"]["path"], knobs)
        knob = proxy.knobs[knobs[wanted]]
        for value in plan["knob"]["values"]:
            if not knob.low <= value <= knob.high or (value - knob.low) % knob.step:
                raise PolicyError(
                    f"{plan['file']}: knob.values: {value} found, but {wanted} of "
                    f"{name} can have {knob.low} to {knob.high} in steps of {knob.step}"
                )
        quant = self.model.input_quant
        features = Features(
            plan["features"],
            fields,
            quant.scale,
            quant.zero_point,
            plan["model"]["history"],
        )
        guard = _Guard.of_policy(plan, self.mode != "shadow")
        link = _Link(name, features, guard, self.model, self.latencies)
        link.watch_fields(plan, fields)
        if self._highest is not None:
            link.trial = Trial(plan, self._highest)
            link.batch_length_ns = <int64_t>(plan["trial"]["period_s"] * 1e7)
        link.proxy = proxy
        link.n = len(proxy.features)
        link.knob = knobs[wanted]
        for i, each in enumerate(proxy.knobs):
            link.values[i] = each.default
        memset(link.all_valid, 255, VALID_BYTES)
        # what was recorded before is nobody's question any more
        proxy.dataset.skip_to_newest(1)
        return link

    def _named(self, key, model, name, known):
        """That name, if the kernel's model knows it."""
        if name not in known:
            raise PolicyError(
                f"{self.plan['file']}: {key}: {name!r} found, but {model} has "
                f"{', '.join(known) or 'none'}"
            )
        return name

    cdef _own(self, _Link link):
        """Become the owner, see that the model runs, and set its mode."""
        proxy = link.proxy
        proxy.own()
        link.owner = True
        words = _TO_RUNNING.get(proxy.state, ())
        for word in words:
            proxy.control(word)
        link.started = words
        self._keep_deadline(link, proxy.info())
        link.beat_ns = now_ns()
        self._set_mode(link, self.mode)

    cdef _keep_deadline(self, _Link link, dict info):
        # half a deadline may be lost to whatever; without one it is to be seen alive
        link.beat_interval_ns = (info["deadline_ms"] or 4000) * 500000

    cdef _set_mode(self, _Link link, str mode):
        link.proxy.set_mode(mode)
        self._has_mode(link, mode)

    cdef _has_mode(self, _Link link, str mode):
        link.mode, link.emergency = mode, mode == "emergency"
        self.note_mode(link)

    cdef list descriptors(self):
        return [(<_Link>link).proxy.fileno() for link in self.streams]

    cdef str mode_of(self, Stream stream):
        return (<_Link>stream).mode or self.mode

    cdef bint turn(self, int64_t now) except -1:
        cdef _Link link
        cdef bint more, told = False
        cdef bint timed = now - self._timed_ns >= TIMED_NS
        if timed:
            self._timed_ns = now
        self.due_ns = self._look_ns
        for link in self.streams:
            link.turned = False
            with nogil:
                more = link.drain()
                if timed:
                    self.snapshot_time.add(now_ns() - now)
                if link.waiting and now - link.decided_ns >= self.interval_ns:
                    link.answer(now, timed)
                    # in an emergency nothing is on trial
                    if link.trial is not None and not link.emergency:
                        link.trial.decided(link.sane and link.failed == 0, now)
                    if link.tutor is not None:
                        link.tutor.remember(link)
                    link.turned = True
                # decisions that recommend nothing leave it to be done
                if link.owner and now - link.beat_ns >= link.beat_interval_ns:
                    link.beat(now)
            self.ready = self.ready or more
            self.decisions += link.turned
            if link.failed or link.is_news() or (link.turned and self.watching):
                told = True
            self.due_ns = min(self.due_ns, link.due(self.interval_ns))
        return told or now >= self._look_ns - SOONER_NS

    def step(self):
        """Take one turn now, as a `Server` gives them: for tests and scripts.

        Returns
        -------
        int
            Number of decisions.

        Thread safety
        -------------
        None.
        """
        cdef uint64_t before = self.decisions
        self.turn(now_ns())
        return self.decisions - before

    def look(self):
        """See what became of the models, and take care of those that need it.

        A model that is gone is dropped. One whose mode the kernel changed because its
        owner was late or the system slept gets its mode back; what somebody asked for,
        or the score, stays as it is.

        Returns
        -------
        list of str
            What people should know.

        Thread safety
        -------------
        None. Allocates; a `Server` says when it is needed, about once in a second.
        """
        cdef _Link link
        said = []
        self._look_ns = now_ns() + LOOK_NS
        if self._look_ns > self._rescan_ns:
            self._rescan_ns = self._look_ns + RESCAN_NS
            self._find(said)
        for link in list(self.streams):
            try:
                self._look_at(link, said)
            except ProxyError as error:
                self._drop(link, said, error)
        # what the kernel decided meanwhile comes first
        self._follow_evidence()
        return said + self.own_news()

    cdef _follow_evidence(self):
        """Set the modes that trials have come to; one that was taken away stays so."""
        cdef _Link link
        for link in self.streams:
            if link.trial is not None and link.trial.news and not link.emergency:
                try:
                    self._set_mode(link, link.trial.ladder.mode)
                except ProxyError as error:
                    # `_look_at` finds out what that means
                    link.failed = error.errno

    cdef _find(self, list said):
        """Take models that came; one that cannot be had is tried again later."""
        for name in self._new():
            try:
                self._connect(name)
            except (PolicyError, ProxyError) as error:
                if self._refusals.get(name) != str(error):
                    self._refusals[name] = str(error)
                    said.append(str(error))
            else:
                self._refusals.pop(name, None)
                said.append(f"{name}: is there")

    cdef _look_at(self, _Link link, list said):
        link.failed = 0
        self._tell_malformed(link, said)
        info = link.proxy.info()
        if not link.owner:
            return
        self._keep_deadline(link, info)
        link.paused = info["state"] != "running"
        if info["mode"] != link.mode:
            said.append(
                f"{link.device}: mode {link.mode} -> {info['mode']} "
                f"(reason: {info['reason']})"
            )
            self._has_mode(link, info["mode"])
            self._begin_anew(link)
        if link.emergency and info["reason"] in _PASSING and not link.paused:
            self._set_mode(link, self.mode)
            said.append(f"{link.device}: mode {self.mode} again")

    cdef _tell_malformed(self, _Link link, list said):
        cdef uint64_t malformed = link.malformed + link.proxy.dataset.malformed
        if malformed != link.told_malformed:
            link.told_malformed = malformed
            said.append(f"{link.device}: {malformed} malformed records, left out")

    cdef _drop(self, _Link link, list said, error):
        said.append(f"{link.device}: {error}")
        self.replace([other for other in self.streams if other is not link])
        link.proxy.close()

    def close(self):
        """Give every model back: its mode is then emergency, its default applies.

        A model that this loop started is stopped again.

        Returns
        -------
        list of str
            What could not be done; one line each.

        Thread safety
        -------------
        None. Closing twice does nothing.
        """
        cdef _Link link
        said = []
        self.closed = True
        for link in self.streams:
            try:
                if link.started:
                    link.proxy.control("stop")
            except ProxyError as error:
                if error.errno != errno.ENODEV:
                    said.append(str(error))
            link.proxy.close()
        # what they came to is still wanted
        self.replace([])
        if self.adaptation is not None:
            said += self.adaptation.close()
        return said
