# SPDX-License-Identifier: MIT
"""Learning in rounds: what the loop meets when the model itself decides.

Recorded runs have one knob value each. A loop that decides meets other rows: the way
from one value to another, what it remembers of both, workloads that follow each other.
So the model acts on the recordings, the rows that it meets are added to the examples,
each with what every choice would have been worth there, and it learns again: dataset
aggregation (Ross, Gordon and Bagnell, 2011).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..engine import Model
from ..features import Features
from .data import Examples, Plan, places, rows_of, stride
from .model import Trained, train
from .network import B, I

# Walks of a group in each round, workloads of a walk, decisions on a workload.
WALKS, WORKLOADS, SHORTEST, LONGEST = 80, 6, 4, 24
# How often a decision is replaced by a random one, and a workload starts elsewhere.
STRAY, RESTART = 0.05, 0.3

_Step = tuple[list[int | None], list[int | None], float]


class _Group:
    """The recorded runs of one group as tapes that a loop can change between."""

    def __init__(self, data: Examples, plan: Plan, members: Sequence[int]) -> None:
        values = plan["knob"]["values"]
        self.tapes: dict[int, list[list[tuple[int, list[_Step]]]]] = {}
        for i in members:
            recording = data.recordings[i]
            steps = _steps(
                rows_of(recording), recording.t.tolist(), stride(recording, plan)
            )
            if steps:
                cell = data.cells.index(recording.cell)
                tape = self.tapes.setdefault(cell, [[] for _ in values])
                tape[values.index(recording.run.knob)].append((i, steps))
        # where a value was not recorded, a loop could not go on
        self.tapes = {cell: tape for cell, tape in self.tapes.items() if all(tape)}
        self.fields = places(plan, data.recordings[members[0]])


def _steps(rows: list[list[int | None]], t: list[int], apart: int) -> list[_Step]:
    """Each row with the one before, and the seconds between."""
    return [
        (rows[k], rows[k - apart], (t[k] - t[k - apart]) / 1e9)
        for k in range(apart, len(rows))
    ]


class _Walker:
    """A loop that goes through recordings of a group, and notes what it meets."""

    def __init__(self, plan: Plan, trained: Trained, rng: np.random.Generator) -> None:
        self.plan, self.rng = plan, rng
        self.values: list[Sequence[float]] = []
        # recording, cell, place of the knob's value, number of the visit
        self.notes: list[tuple[int, int, int, int]] = []
        self.visits = 0
        self._model = Model(trained.data, backend="engine")
        self._features = [
            feature | {"mean": mean, "std": std}
            for feature, mean, std in zip(
                plan["features"],
                trained.mean.tolist(),
                trained.std.tolist(),
                strict=True,
            )
        ]
        knob = plan["knob"]
        self._default = knob["values"].index(knob["default"])
        self._choices = len(knob["values"])

    def walk(self, group: _Group) -> None:
        """Some workloads one after the other, as on a device that was never seen."""
        quant = self._model.input_quant
        features = Features(self._features, group.fields, quant.scale, quant.zero_point)
        cells = sorted(group.tapes)
        now = self._default
        for cell in self.rng.choice(cells, WORKLOADS).tolist():
            if self.rng.random() < RESTART:
                now = self._default
                if self.rng.random() < 0.5:
                    now = int(self.rng.integers(self._choices))
            now = self._visit(features, group, cell, now)

    def _visit(self, features: Features, group: _Group, cell: int, now: int) -> int:
        tape, fields = group.tapes[cell], group.fields
        view, inputs = memoryview(features), self._model.input.cast("B")
        outputs = self._model.output.cast("B").cast("b")
        self.visits += 1
        start = int(self.rng.integers(1 << 16))
        for n in range(int(self.rng.integers(SHORTEST, LONGEST))):
            takes = tape[now]
            recording, steps = takes[start % len(takes)]
            row, before, seconds = steps[(start + n) % len(steps)]
            state, quantised = features.step(row, before, seconds)
            if state or not self._is_busy(fields, row, before, seconds):
                continue
            self.values.append(view.tolist())
            self.notes.append((recording, cell, now, self.visits))
            inputs[:] = quantised
            self._model.invoke()
            numbers = outputs.tolist()
            now = numbers.index(max(numbers))
            if self.rng.random() < STRAY:
                now = int(self.rng.integers(self._choices))
        return now

    def _is_busy(
        self,
        fields: dict[str, tuple[int, int]],
        row: list[int | None],
        before: list[int | None],
        seconds: float,
    ) -> bool:
        activity = self.plan["guard"]["min_activity"]
        if activity is None:
            return True
        place, scale = fields[activity[0]]
        change = (row[place] or 0) - (before[place] or 0)
        return bool(change >= activity[1] * scale * seconds)


def _met(
    data: Examples, plan: Plan, groups: Sequence[_Group], trained: Trained, seed: int
) -> Examples:
    """The examples that a model meets when it acts."""
    walker = _Walker(plan, trained, np.random.default_rng(seed))
    for group in groups:
        for _ in range(WALKS if group.tapes else 0):
            walker.walk(group)
    recording, cell, current, visit = np.array(walker.notes, np.int64).T
    # all rows of a cell have the same worth
    first = np.array(
        [np.flatnonzero(data.cell == c)[0] for c in range(len(data.cells))]
    )
    like = first[cell]
    # each stay at a value the same: a row that shows when to leave is soon over
    values = len(plan["knob"]["values"])
    _, stay = np.unique(visit * values + current, return_inverse=True)
    weight = 1 / np.bincount(stay)[stay]
    n = len(cell)
    return replace(
        data,
        x=np.array(walker.values)[:, None, :],
        worth=data.worth[like],
        label=data.label[like],
        right=data.right[like],
        share=np.zeros(n),
        # together as much as what was recorded
        weight=weight * data.weight.sum() / weight.sum(),
        current=current,
        now=np.full(n, -1),
        cell=cell,
        run=recording,
        order=np.full(n, -1),
        at=np.zeros(n, np.int64),
    )


_ROWS = "x worth label right share weight current now cell run order at".split()


def _joined(parts: Sequence[Examples]) -> Examples:
    whole: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS
    }
    return replace(parts[0], **whole)


def _groups(data: Examples, plan: Plan, learn: B) -> list[_Group]:
    """What may be walked through: the recordings that are learnt of."""
    members: dict[tuple[str, int], list[int]] = {}
    for i in np.unique(data.run[learn]).tolist():
        recording = data.recordings[i]
        key = recording.run.group, stride(recording, plan)
        members.setdefault(key, []).append(i)
    return [_Group(data, plan, found) for found in members.values()]


def teach(
    data: Examples,
    plan: Plan,
    learn: B,
    hold: B,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Trained:
    """Train as a policy says, in as many rounds as it says.

    Parameters
    ----------
    data : Examples
        All of them.
    plan : dict
        The policy.
    learn, hold : array of bool
        Which examples are learnt, and which of those decide when to stop.
    seed : int
        Decides everything that is left to chance.
    progress : callable, optional
        Called with each epoch's number.

    Returns
    -------
    Trained
        The same on the same machine, from the same arguments.

    Raises
    ------
    TrainError
        If trees need more than ``max_macs``.

    Thread safety
    -------------
    Limits the threads of numerical libraries while it runs.
    """
    trained = train(data, plan, learn, hold, seed, progress)
    if not plan["train"]["rounds"]:
        return trained
    groups = _groups(data, plan, learn)
    part = _part(data, learn)
    held: I = np.unique(data.run[hold])
    parts = [part]
    for number in range(plan["train"]["rounds"]):
        parts.append(_met(data, plan, groups, trained, seed * 1000 + number))
        every = _joined(parts)
        everything = np.ones(len(every), bool)
        trained = train(
            every, plan, everything, np.isin(every.run, held), seed, progress
        )
    return trained


def _part(data: Examples, mask: B) -> Examples:
    return replace(data, **{name: getattr(data, name)[mask] for name in _ROWS})
