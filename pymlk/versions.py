# SPDX-License-Identifier: MIT
"""Versions of a program: what was learnt is tried, and taken back if it is worse.

Version 0 is the shipped program. A new one is the shipped program with the head that
the learner has by then; its predecessor is kept.
"""

from __future__ import annotations

from array import array

from .errors import MlkError
from .evidence import Gain
from .head import read_head, replace_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .learn import Learner

    _Interval = tuple[float, float, float]


class Version:
    """One version: a program, and what the learner knew when it was made.

    Attributes
    ----------
    number : int
        0 is the shipped one; no number is given twice.
    program : bytes
        Verified.
    weights, bias : array of float32
        Of its head.
    state : bytes
        The learner's.

    Thread safety
    -------------
    Immutable.
    """

    __slots__ = ("bias", "number", "program", "state", "weights")

    def __init__(
        self,
        number: int,
        shipped: bytes,
        head: tuple[array[float], array[float]],
        state: bytes,
    ) -> None:
        self.number, self.state = number, state
        self.weights, self.bias = head
        self.program = replace_head(shipped, *head)

    def to_dict(self) -> dict[str, Any]:
        """What `Versions.restore` needs of it."""
        return {
            "number": self.number,
            "weights": self.weights.tobytes().hex(),
            "bias": self.bias.tobytes().hex(),
            "state": self.state.hex(),
        }


def _floats(text: str) -> array[float]:
    return array("f", bytes.fromhex(text))


def _shows(interval: _Interval | None) -> str:
    if interval is None:
        return "not measured"
    return f"{interval[0]:+.1%} ({interval[1]:+.1%} to {interval[2]:+.1%})"


class Versions:
    """The version that runs, the one before it, and the evidence on both.

    Parameters
    ----------
    shipped : bytes
        The shipped program.
    learner : Learner
        Made of its head.
    every : int
        Updates from one version to the next, at least.
    confidence : float
        Of the gains that are compared.
    least_scores : int
        Scores of each arm before a version's gain is known.

    Attributes
    ----------
    current : Version
        The one that runs.
    previous : Version or None
        The one to go back to.
    gain : Gain
        Scores since the current version runs; the caller adds them.
    reason : str
        Why the current version runs.

    Raises
    ------
    ModelError
        If the program has no head that can learn.

    Thread safety
    -------------
    None; the loop's thread only. Allocates, so call it between decisions.

    Examples
    --------
    >>> from pymlk import Model
    >>> from pymlk.learn import Learner
    >>> shipped = bytes(Model("models/readahead/model.tflite").program)
    >>> versions = Versions(shipped, Learner(read_head(shipped)))
    >>> versions.propose() is None, versions.current.number, versions.reason
    (True, 0, 'version 0: as shipped')
    """

    def __init__(
        self,
        shipped: bytes,
        learner: Learner,
        *,
        every: int = 256,
        confidence: float = 0.95,
        least_scores: int = 30,
    ) -> None:
        self._shipped, self._learner = shipped, learner
        self._every, self._confidence = every, confidence
        self.gain = Gain(least_scores)
        self._begin()

    def _begin(self) -> None:
        head = read_head(self._shipped)
        shipped = (head.weights, head.bias)
        self.current = Version(0, self._shipped, shipped, self._learner.state())
        self.previous: Version | None = None
        self._last_number = 0
        self._updates = self._learner.updates
        self._before: _Interval | None = None
        self.reason = "version 0: as shipped"
        self.gain.reset()

    def _is_judged(self) -> bool:
        """Has the current version been measured? The shipped one need not be."""
        return self.previous is None or self.gain.interval(self._confidence) is not None

    def propose(self) -> bytes | None:
        """Make a new version if enough was learnt since the last one, now measured.

        Returns
        -------
        bytes or None
            The program to run from now on, or None: nothing changes.

        Raises
        ------
        ModelError
            If the learnt weights are beyond the engine's arithmetic; the current
            version stays.

        Thread safety
        -------------
        None.
        """
        learner = self._learner
        if learner.updates - self._updates < self._every or not self._is_judged():
            return None
        number = self._last_number + 1
        found = Version(number, self._shipped, learner.weights(), learner.state())
        self._before = self.gain.interval(self._confidence)
        self.previous, self.current = self.current, found
        self._last_number, self._updates = number, learner.updates
        self.reason = (
            f"version {number}: learnt from {learner.updates} scores; version "
            f"{self.previous.number} gained {_shows(self._before)}"
        )
        self.gain.reset()
        return found.program

    def judge(self) -> bytes | None:
        """Take the previous version back if the current one is measurably worse.

        Worse than the default, or than the previous one: even the upper bound of its
        gain is below 0, or below the previous one's lower bound. The learner forgets
        what it has learnt since.

        Returns
        -------
        bytes or None
            The program to run from now on, or None: nothing changes.

        Thread safety
        -------------
        None.
        """
        found = self.gain.interval(self._confidence)
        if self.previous is None or found is None:
            return None
        if found[2] < 0.0:
            why = "worse than the default"
        elif self._before is not None and found[2] < self._before[1]:
            why = f"worse than version {self.previous.number}, {_shows(self._before)}"
        else:
            return None
        return self.roll_back(f"{why}: gain {_shows(found)}")

    def roll_back(self, why: str) -> bytes | None:
        """Take the previous version back, for a reason of the caller's.

        Parameters
        ----------
        why : str
            For `reason`.

        Returns
        -------
        bytes or None
            The program to run from now on; None if there is no previous version.

        Thread safety
        -------------
        None.
        """
        if self.previous is None:
            return None
        self.reason = (
            f"version {self.previous.number}: back from version "
            f"{self.current.number}, {why}"
        )
        self.current, self.previous = self.previous, None
        self._learner.restore(self.current.state)
        self._updates, self._before = self._learner.updates, None
        self.gain.reset()
        return self.current.program

    def to_dict(self) -> dict[str, Any]:
        """What `restore` needs, for `pymlk.learnt`.

        Returns
        -------
        dict
            Plain values; owned by the caller.

        Thread safety
        -------------
        Reads only.
        """
        kept = [v.to_dict() for v in (self.current, self.previous) if v is not None]
        return {
            "last": self._last_number,
            "updates": self._learner.updates,
            "reason": self.reason,
            "learner": self._learner.state().hex(),
            "versions": kept,
        }

    def restore(self, saved: dict[str, Any]) -> str | None:
        """Go on with what `to_dict` gave before.

        Parameters
        ----------
        saved : dict
            It is checked: if it is refused, the shipped version runs.

        Returns
        -------
        str or None
            Why it was refused; None if all is well.

        Thread safety
        -------------
        None.
        """
        try:
            found = [
                Version(
                    int(entry["number"]),
                    self._shipped,
                    (_floats(entry["weights"]), _floats(entry["bias"])),
                    bytes.fromhex(entry["state"]),
                )
                for entry in saved["versions"][:2]
            ]
            for version in found:
                self._learner.restore(version.state)
            self._learner.restore(bytes.fromhex(saved["learner"]))
            last, reason = int(saved["last"]), str(saved["reason"])
            self.current, self.previous = found[0], (*found[1:], None)[0]
        except (MlkError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            self._learner.reset()
            self._begin()
            return f"what was learnt is refused: {error}"
        self._last_number = max(last, *(version.number for version in found), 0)
        self._updates, self._before = self._learner.updates, None
        self.reason = reason
        self.gain.reset()
        return None
