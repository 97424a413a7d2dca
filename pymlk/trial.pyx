# SPDX-License-Identifier: MIT
"""A device's trial: the model gets as much say as its measured gain allows.

Joins the parts of `pymlk.evidence` for one device of a loop.
"""

from libc.stdint cimport int64_t

import os

from .evidence import Gain as _Gain
from .evidence import Holdout as _Holdout
from .evidence import Ladder as _Ladder


cdef class Trial:
    """Mode, turns and evidence of one device.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` gave; its ``trial`` part is used.
    highest : str
        The last mode that the user wants: ``learning``, ``collaboration`` or
        ``recommendation``.

    Attributes
    ----------
    ladder : Ladder
        The mode, and why.
    gain : Gain
        Of all scores of the run.
    news : bool
        The mode was changed since `take_news`.

    Thread safety
    -------------
    None; the loop's thread only.

    Examples
    --------
    >>> from pymlk.policy import load
    >>> Trial(load("readahead"), "collaboration").report()["mode"]
    'learning'
    """

    def __init__(self, dict plan, str highest):
        trial = plan["trial"]
        self._confidence = trial["confidence"]
        self.gain = _Gain(trial["min_scores"])
        self.ladder = _Ladder(
            apply=True,
            confidence=self._confidence,
            least_scores=trial["min_scores"],
            least_decisions=trial["min_decisions"],
            highest=highest,
        )
        # no two runs, and no two devices, have the same lots
        seed = int.from_bytes(os.urandom(8), "little")
        self._holdout = _Holdout(
            trial["period_s"], washout=trial["washout"], seed=seed
        )

    cdef int arm_at(self, int64_t now_ns) noexcept nogil:  # hot
        """Whose turn it is."""
        return self._holdout.arm_at(now_ns)

    cdef void decided(self, bint sane, int64_t now_ns) noexcept nogil:  # hot
        """A decision was made; sane is one that the model could have had its way in."""
        if self.ladder.decided(sane):
            self._changed(now_ns)

    cdef void scored(self, int arm, double score, int64_t now_ns) noexcept nogil:  # hot
        """A score of an arm came."""
        self.gain.add(arm, score)
        if self.ladder.scored(arm, score):
            self._changed(now_ns)

    cdef bint effect(
        self, int64_t from_ns, int64_t to_ns, double amount
    ) noexcept nogil:  # hot
        """So much of the objective was done between two snapshots."""
        if not self._holdout.add(from_ns, to_ns, amount):
            return False
        self.scored(self._holdout.arm, self._holdout.score, to_ns)
        return True

    cdef int arm(self) noexcept nogil:  # hot
        return self._holdout.arm

    cdef double score(self) noexcept nogil:  # hot
        return self._holdout.score

    cdef void _changed(self, int64_t now_ns) noexcept nogil:  # hot
        self._holdout.switch_to(self.ladder._mode, now_ns)
        self.news = True

    def take_news(self):
        """The mode and its reason, if they are new.

        Returns
        -------
        tuple of (str, str) or None
            Mode, and reason with the numbers that it rests on.

        Thread safety
        -------------
        None.
        """
        if not self.news:
            return None
        self.news = False
        return self.ladder.mode, self.ladder.reason

    def report(self):
        """What is known of the model's gain.

        Returns
        -------
        dict
            ``mode``, ``reason``, ``confidence``, the number of scores by arm, and
            ``gain`` with ``low`` and ``high`` (relative, None while nothing can be
            said); owned by the caller.

        Thread safety
        -------------
        None.
        """
        found = self.gain.interval(self._confidence) or (None, None, None)
        return {
            "mode": self.ladder.mode,
            "reason": self.ladder.reason,
            "confidence": self._confidence,
            "scores": {arm: self.gain.count(arm) for arm in ("model", "default")},
            **dict(zip(("gain", "low", "high"), found)),
        }
