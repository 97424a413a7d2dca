# SPDX-License-Identifier: MIT
"""A policy that learns while it runs: scores correct its model's last layer.

Joins the parts of `pymlk.learn`, `pymlk.versions` and `pymlk.learnt` for the streams of
one loop. Nothing of it is loaded by a loop that does not learn.
"""

from libc.stdint cimport int64_t, uint64_t

from .drift cimport Drift
from .engine cimport Model
from .evidence cimport MODEL, Gain
from .guard cimport IDLE, REFUSED
from .learn cimport Explorer, Learner
from .stream cimport Snapshot, Stream, Tutor, now_ns

import os

from .drift import Drift as _Drift
from .engine import Program
from .errors import StateError
from .head import read_head
from .learn import Explorer as _Explorer
from .learn import Learner as _Learner
from .learnt import Store
from .versions import Versions

# What was learnt goes to the disk at least so often, if there is anything new.
cdef int64_t SAVE_NS = 300 * <int64_t>1000000000


cdef class _StreamTutor(Tutor):
    """The learning of one device: what it explores, and which decision is waiting."""

    cdef Learner learner
    cdef Explorer explorer
    cdef Gain version_gain
    cdef Drift drift
    cdef bint drift_changed
    cdef uint64_t number
    # how likely the last choice was
    cdef double propensity
    # the decision that the next objective is the score of
    cdef uint64_t waiting
    cdef bint waits

    cdef uint64_t key(self, uint64_t seq) noexcept nogil:  # hot
        return seq << 6 | self.number

    cdef void infer(self, Stream stream) noexcept nogil:  # hot
        # of a history the newest row
        if self.drift.add(stream.features.newest(stream._in), stream.time_ns):
            self.drift_changed = True
        self.learner.run(stream._model)

    cdef int choose(self, Stream stream, int choice) noexcept nogil:  # hot
        self.propensity = 1.0
        if stream.arm != MODEL or not stream.guard._apply:
            return choice
        return self.explorer.choose(
            choice,
            stream.guard._place(stream.current),
            stream.guard._max_step,
            &self.propensity,
        )

    cdef void remember(self, Stream stream) noexcept nogil:  # hot
        """Keep a decision that is done until its score comes."""
        cdef int place = stream.guard._place(stream.verdict.target)
        if (
            stream.asked
            and stream.verdict.reason != REFUSED
            and stream.guard._values[place] == stream.verdict.target
        ):
            self.learner.remember(self.key(stream.seq), place, self.propensity)

    cdef void done(self, Stream stream, const Snapshot *s) noexcept nogil:  # hot
        """The objective is what the decision before has brought; now this one waits."""
        if self.waits and stream.objective_known and stream.verdict.reason != IDLE:
            self.learner.update(self.waiting, stream.objective_rate)
        self.remember(stream)
        self.waits = stream.asked
        self.waiting = self.key(stream.seq)

    cdef void period(self, int arm, double score) noexcept nogil:  # hot
        self.version_gain.add(arm, score)

    cdef void outcome(
        self, Stream stream, uint64_t seq, int64_t value, double score
    ) noexcept nogil:  # hot
        """A kernel's client says how good its decision on a sample was."""
        cdef int place = stream.guard._place(value)
        if stream.guard._values[place] == value:
            self.learner.correct(self.key(seq), place)
            self.learner.update(self.key(seq), score)


cdef class Adaptation:
    """The learning of one policy.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` gave; its ``learn`` part is used.
    model : Model
        The loop's; new versions are swapped in.
    folder : str or None
        Where what was learnt is kept; None takes `pymlk.learnt.default_folder`.

    Attributes
    ----------
    learner : Learner
        Shared by all streams.
    versions : Versions
        The version that runs, and the one before it.

    Raises
    ------
    ModelError
        If the model has no last layer that could learn.

    Thread safety
    -------------
    None; the loop's thread only.
    """

    cdef readonly Learner learner
    cdef readonly object versions
    cdef Model _model
    cdef bytes _shipped
    cdef object _store
    cdef dict _plan
    cdef list _said
    cdef list _tutors
    cdef uint64_t _saved_updates
    cdef int64_t _save_ns

    def __init__(self, dict plan, Model model not None, folder=None):
        self._plan = plan
        self._model = model
        self._shipped = plan["program"]
        self.learner = _Learner(
            read_head(self._shipped), memory=plan["learn"]["memory"]
        )
        self.versions = Versions(
            self._shipped,
            self.learner,
            every=plan["learn"]["every"],
            confidence=plan["trial"]["confidence"],
            least_scores=plan["trial"]["min_scores"],
        )
        self._store = Store(plan["name"], folder)
        self._said, self._tutors = [], []
        self._restore()
        self._save_ns = now_ns() + SAVE_NS

    cdef _restore(self):
        saved, refused = self._store.load(self._shipped)
        if saved is not None:
            refused = self.versions.restore(saved)
        if refused is not None:
            self._said.append(f"{refused}: the shipped model runs")
        elif self.versions.current.number:
            self._swap(self.versions.current.program)
        self._saved_updates = self.learner.updates

    cdef _swap(self, bytes program):
        self._model.swap(Program(program))
        self._said.append(self.versions.reason)

    def join(self, Stream stream not None):
        """Let a stream learn, too.

        Parameters
        ----------
        stream : Stream
            It has the loop's model.

        Thread safety
        -------------
        None.
        """
        cdef _StreamTutor tutor = _StreamTutor()
        tutor.learner = self.learner
        # a choice lasts as long as the guard waits before it follows one
        tutor.explorer = _Explorer(
            stream.guard.n,
            epsilon=self._plan["learn"]["epsilon"],
            hold=self._plan["guard"]["settle"],
            seed=int.from_bytes(os.urandom(8), "little") | 1,
        )
        tutor.version_gain = self.versions.gain
        quant = self._model.input_quant
        tutor.drift = _Drift(
            stream.features.names, in_scale=quant.scale, in_zero=quant.zero_point
        )
        self._tutors.append((stream.device, tutor))
        tutor.number = len(self._tutors) & 63
        stream.tutor = tutor

    def look(self):
        """Try a new version, or take one back, if the scores say so; save at times.

        Returns
        -------
        list of str
            What people should know.

        Thread safety
        -------------
        None. Allocates, and may write to a disk: call it between decisions.
        """
        program = self.versions.judge() or self.versions.propose()
        if program is not None:
            self._swap(program)
        if program is not None or now_ns() >= self._save_ns:
            self._save()
        self._tell_drift()
        said, self._said = self._said, []
        return said

    cdef _tell_drift(self):
        cdef _StreamTutor tutor
        for device, tutor in self._tutors:
            if tutor.drift_changed:
                tutor.drift_changed = False
                found = "; ".join([drift["text"] for drift in tutor.drift.report()])
                self._said.append(f"{device}: drift: {found or 'over'}")

    cdef _save(self):
        self._save_ns = now_ns() + SAVE_NS
        if self.learner.updates == self._saved_updates:
            return
        try:
            self._store.save(self._shipped, self.versions.to_dict())
            self._saved_updates = self.learner.updates
        except StateError as error:
            # learning goes on; the next attempt is SAVE_NS away
            self._said.append(str(error))

    def close(self):
        """Save what was learnt.

        Returns
        -------
        list of str
            Why it could not be saved.

        Thread safety
        -------------
        None.
        """
        self._save()
        said, self._said = self._said, []
        return said
