# SPDX-License-Identifier: MIT
"""Which examples are learnt and which are judged, and what must not be in both."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.metrics import recall_score
from sklearn.tree import DecisionTreeClassifier

from ..errors import TrainError
from .data import Examples, Plan, Recording, stride
from .network import B, F, I

# fewer of a kind than that and time is what parts them
FEW = 4
# a single feature that tells the class so often in held-out data is no feature
DISGUISE = 0.98
# of the held-out rows that are in training, too, a share that is worth a word
TWINS = 0.05
# rows that are looked at for leaks: more would not tell more
_LOOK = 40_000


@dataclass(frozen=True)
class Fold:
    """One way to part the examples.

    Parameters
    ----------
    learn, judge : array of bool
        Masks over the examples.

    Thread safety
    -------------
    Immutable, as long as nobody writes into the arrays.
    """

    learn: B
    judge: B


class Splits:
    """Parts examples into folds, and a fold's learnt part into taught and held out.

    By ``cell`` (workload and group), ``workload`` or ``group``, which are left out as a
    whole; or by ``time``: each run is cut into pieces in its order, a piece is judged
    by what was learnt of those before it, and a gap as long as history and horizon
    parts them.

    Parameters
    ----------
    data : Examples
        What is parted.
    plan : dict
        The policy.
    kind : str or None
        One of these words; None takes what ``train.split`` says, else ``cell`` where
        there are four or more, else ``time``.

    Attributes
    ----------
    kind : str
        How it is parted.
    unit : array of int64
        For each example what is left out as a whole.
    folds : list of Fold
        Each with something to learn and to judge.

    Raises
    ------
    TrainError
        If there are not two units, or runs are too short.

    Thread safety
    -------------
    Immutable.
    """

    def __init__(self, data: Examples, plan: Plan, kind: str | None = None) -> None:
        self._data, self._count = data, plan["train"]["folds"]
        self._gap = plan["model"]["history"] + data.ahead
        self._plan = plan
        kind = kind or plan["train"]["split"]
        self.kind = kind or ("cell" if len(data.cells) >= FEW else "time")
        if self.kind == "time":
            self.unit = self._pieces()
            self.folds = self._in_order()
            return
        self.unit = getattr(data, self.kind)
        count = len(np.unique(self.unit))
        if count < 2:
            raise TrainError(
                f"split = {self.kind!r}: one {self.kind} found, 2 or more expected: "
                'collect more, or set train.split = "time"'
            )
        self.folds = self._left_out(min(self._count, count))

    def _left_out(self, count: int) -> list[Fold]:
        units = np.unique(self.unit)
        shuffled = np.random.default_rng(0).permutation(len(units))
        number = shuffled[np.searchsorted(units, self.unit)] % count
        return [Fold(number != i, number == i) for i in range(count)]

    def _pieces(self) -> I:
        """Which part of its run an example is from."""
        data = self._data
        last = np.zeros(len(data.recordings), np.int64)
        np.maximum.at(last, data.run, data.at)
        piece: I = data.at * (self._count + 1) // (last[data.run] + 1)
        return np.minimum(piece, self._count)

    def _in_order(self) -> list[Fold]:
        data, folds = self._data, []
        apart = np.array([stride(r, self._plan) for r in data.recordings])
        gap = (self._gap * apart)[data.run]
        for piece in range(1, self._count + 1):
            judge = self.unit == piece
            first = np.full(len(data.recordings), np.iinfo(np.int64).max)
            np.minimum.at(first, data.run[judge], data.at[judge])
            # where nothing of a run is judged its own pieces still say when
            learn = (self.unit < piece) & (data.at < first[data.run] - gap)
            if judge.any() and len(np.unique(data.label[learn])) > 1:
                folds.append(Fold(learn, judge))
        if not folds:
            raise TrainError(
                "no run is long enough to learn of its first part and be judged by the "
                "rest: collect longer runs, or four or more workloads"
            )
        return folds

    def hold(self, learn: B, seed: int) -> B:
        """Choose a fifth of what is learnt to decide when to stop; a mask over all."""
        data = self._data
        if self.kind == "time":
            held = np.zeros(len(learn), bool)
            for run in np.unique(data.run[learn]):
                mine = learn & (data.run == run)
                held |= mine & (data.at >= np.quantile(data.at[mine], 0.8))
            return held
        # runs and not whole cells: without a fifth of the cells much is not learnt
        runs = np.unique(data.run[learn])
        rng = np.random.default_rng(seed)
        chosen = rng.choice(runs, max(1, len(runs) // 5), replace=False)
        return np.asarray(learn & np.isin(data.run, chosen))

    def blocks(self) -> I:
        """What is drawn as a whole where chance is weighed: cells, runs or pieces."""
        data = self._data
        if len(data.cells) >= FEW:
            return data.cell
        if len(data.recordings) >= 2 * FEW:
            return data.run
        return np.asarray(data.run * (self._count + 1) + self._pieces())


# ------------------------------------------------------------------------------ leaks


@dataclass(frozen=True)
class Leak:
    """Something that would make a model look better than it is.

    Parameters
    ----------
    kind : str
        ``twice``, ``overlap``, ``disguise``, ``knob`` or ``twins``.
    text : str
        What was found, and what to do about it.
    fatal : bool
        Training on it makes no sense.
    feature : str
        The one that gives it away, if one does.

    Thread safety
    -------------
    Immutable.
    """

    kind: str
    text: str
    fatal: bool
    feature: str = ""


def leaks_of_runs(recordings: Sequence[Recording]) -> list[Leak]:
    """Find runs that are there twice, and runs of one device at the same time.

    Parameters
    ----------
    recordings : sequence of Recording
        As of `pymlk.train.data.read`.

    Returns
    -------
    list of Leak
        One of each kind at most, with the first case by name.

    Thread safety
    -------------
    Pure function.
    """
    found = []
    seen: dict[tuple[bytes, bytes], Recording] = {}
    for recording in recordings:
        relative = recording.t - recording.t[0]
        content = relative.tobytes(), recording.values.tobytes()
        other = seen.setdefault(content, recording)
        # idle runs of two rows may well be equal
        if other is not recording and len(relative) > 2:
            text = (
                f"{recording.key} has the rows of {other.key}: give each file and run "
                "once"
            )
            found.append(Leak("twice", text, True))
            break
    by_device: dict[str, list[Recording]] = {}
    for recording in recordings:
        if recording.run.started_ns:
            by_device.setdefault(recording.run.device, []).append(recording)
    for runs in by_device.values():
        runs.sort(key=lambda r: r.run.started_ns)
        for a, b in combinations(runs, 2):
            end = a.run.started_ns + int(a.t[-1] - a.t[0])
            if b.run.started_ns >= end:
                continue
            if a.cell != b.cell:
                text = (
                    f"{a.key} and {b.key} of device {a.run.device} were recorded at "
                    "the same time but count as different: one is learnt where the "
                    "other is judged"
                )
                return [*found, Leak("overlap", text, True)]
    return found


def leaks_of_folds(data: Examples, splits: Splits, names: Sequence[str]) -> list[Leak]:
    """Find what tells the class without being a feature of it.

    Parameters
    ----------
    data : Examples
        All of them.
    splits : Splits
        How they are parted.
    names : sequence of str
        Of the features.

    Returns
    -------
    list of Leak
        What was found.

    Thread safety
    -------------
    Pure function.
    """
    found = _disguised(data, splits, names)
    found += _by_knob(data)
    for fold in splits.folds:
        shared = _both(data, fold)
        if shared:
            text = f"{shared} examples are learnt and judged: parts overlap in time"
            found.append(Leak("overlap", text, True))
            break
    share = _twins(data, splits)
    if share > TWINS:
        text = (
            f"{share:.0%} of the held-out rows equal a row that is learnt: is a "
            "workload there under two names? Or features are too coarse to differ"
        )
        found.append(Leak("twins", text, False))
    return found


def _both(data: Examples, fold: Fold) -> int:
    """Examples whose row of the recording is learnt and judged."""
    key = data.run * (data.at.max() + 1) + data.at
    return int(np.isin(key[fold.judge], key[fold.learn]).sum())


def _twins(data: Examples, splits: Splits) -> float:
    """The share of held-out rows whose features equal those of a learnt one."""
    rows = np.ascontiguousarray(data.x[:, -1].astype(np.float32))
    whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))
    _, number = np.unique(whole, return_inverse=True)
    number = number.ravel()
    shares = [
        np.isin(number[fold.judge], number[fold.learn]).mean() for fold in splits.folds
    ]
    return float(np.mean(shares))


def _told(x: F, label: I, weight: F, folds: Sequence[Fold]) -> float:
    """How often one number tells the class of what was held out."""
    right, total = [], []
    for fold in folds:
        tree = DecisionTreeClassifier(max_leaf_nodes=16, random_state=0)
        tree.fit(x[fold.learn, None], label[fold.learn], weight[fold.learn])
        right.append(tree.predict(x[fold.judge, None]))
        total.append(label[fold.judge])
    return _recall(np.concatenate(total), np.concatenate(right))


def _recall(label: I, chosen: I) -> float:
    """Balanced accuracy, whatever labels the choices have."""
    known = np.unique(label)
    return float(recall_score(label, chosen, labels=known, average="macro"))


def _disguised(data: Examples, splits: Splits, names: Sequence[str]) -> list[Leak]:
    found = []
    rows = np.arange(len(data))
    if len(rows) > _LOOK:
        rows = np.random.default_rng(0).choice(rows, _LOOK, replace=False)
    folds = [Fold(fold.learn[rows], fold.judge[rows]) for fold in splits.folds]
    label, weight = data.label[rows], data.weight[rows]
    for i, name in enumerate(names):
        share = _told(data.x[rows, -1, i], label, weight, folds)
        if share >= DISGUISE:
            text = (
                f"feature {name!r} alone tells the class of held-out rows ({share:.1%}"
                " balanced accuracy): is it the label in disguise? If it is known "
                f"before the decision, say --allow-leak {name}"
            )
            found.append(Leak("disguise", text, True, name))
    return found


def _by_knob(data: Examples) -> list[Leak]:
    """Does the value in force tell the class? Then the data was not swept."""
    known = data.current >= 0
    if not known.any() or len(np.unique(data.current[known])) < 2:
        return []
    current, label = data.current[known], data.label[known]
    table: Any = np.zeros((current.max() + 1, label.max() + 1))
    np.add.at(table, (current, label), data.share[known])
    right = table.argmax(axis=1)[current]
    share = _recall(label, right)
    if share < DISGUISE:
        return []
    text = (
        f"the knob's value in force tells the class ({share:.1%} balanced accuracy): "
        "workloads were not recorded with each value: `pymlk collect --sweep` does "
        "that; or say --allow-leak knob"
    )
    return [Leak("knob", text, True, "knob")]
