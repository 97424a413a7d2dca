# SPDX-License-Identifier: MIT
"""Recorded runs as examples: features as the loop computes them, and what was right."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..dataset import Dataset, Run
from ..errors import TrainError
from ..features import Features
from .network import B, F, I

EQUAL = 0.97  # a score within 3 % of the best is as good as the best
LEAST = 1e-3  # a score below this share of the best counts as this share
Plan = dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """A run, with the columns that the policy names.

    Parameters
    ----------
    run : Run
        What was noted of it.
    path : str
        The file that it is from.
    t : array of int64, shape (rows,)
        CLOCK_MONOTONIC in nanoseconds.
    values : array of int64, shape (rows, fields)
        Fixed-point values, in the order of the policy's ``[fields]``; behind them the
        label, if it is no field.
    valid : array of bool, shape (rows, fields)
        Which could be read.
    scales : tuple of int
        What stands for 1.

    Thread safety
    -------------
    Immutable, as long as nobody writes into the arrays.
    """

    run: Run
    path: str
    t: I
    values: I
    valid: B
    scales: tuple[int, ...]

    @property
    def cell(self) -> tuple[str, str]:
        """Workload and group."""
        return self.run.workload, self.run.group

    @property
    def key(self) -> str:
        """Name the run for people."""
        return f"{self.path}: run {self.run.number} ({self.run.workload})"


def read(paths: Sequence[str], plan: Plan) -> list[Recording]:
    """Read the good runs of datasets.

    Parameters
    ----------
    paths : sequence of str
        Dataset files.
    plan : dict
        What `pymlk.policy.load` gave.

    Returns
    -------
    list of Recording
        Those that the loop can go through, at least two steps long, in the order of
        the files.

    Raises
    ------
    TrainError
        If a file lacks a field of the policy, or read it elsewhere; if no run is left.
    DatasetError
        If a file is none.
    OSError
        If it cannot be read.

    Thread safety
    -------------
    Reads the file system only.
    """
    found = []
    for path in paths:
        with Dataset(path) as dataset:
            columns = _columns(dataset, plan)
            scales = tuple(dataset.scales[c] for c in columns)
            for run in dataset.runs:
                t, values, valid = dataset.table(run)
                rows = values[:, columns], valid[:, columns]
                recording = Recording(run, path, t, *rows, scales)
                if len(t) >= 2 * stride(recording, plan):
                    found.append(recording)
    if not found:
        raise TrainError(
            f"{', '.join(paths)}: no run with rows for two steps of the loop found: "
            "collect some"
        )
    return found


def columns_of(plan: Plan) -> list[str]:
    """The fields, and behind them the label where it is a column of its own.

    Such a label is known in hindsight only: the loop never reads it.
    """
    names = list(plan["fields"])
    of = plan["train"]["of"]
    features = [f["name"] for f in plan["features"]]
    return names if of is None or of in {*names, *features} else [*names, of]


def _columns(dataset: Dataset, plan: Plan) -> list[int]:
    had = dataset.plan.get("fields", {})
    columns = []
    for name in columns_of(plan):
        spec = plan["fields"].get(name)
        if name not in dataset.fields:
            raise TrainError(
                f"{dataset.path}: field {name!r} of {plan['file']} is not in it; "
                f"found: {', '.join(dataset.fields)}: collect anew with this policy"
            )
        if spec and name in had and had[name] != spec:
            raise TrainError(
                f"{dataset.path}: field {name!r} was read from {had[name]!r}, "
                f"{plan['file']} has {spec!r}: collect anew with this policy"
            )
        columns.append(dataset.fields.index(name))
    return columns


@dataclass
class Steps:
    """What the loop would have computed in a run, one after the other.

    Parameters
    ----------
    recording : int
        Place of the run among the recordings.
    order : int
        The order in which runs were replayed.
    at : array of int64
        Rows of the recording.
    values : array of float64, shape (steps, features)
        Before standardisation; NaN where they could not be computed.
    asked : array of bool
        Whether the loop would have asked the model, but for the history.

    Thread safety
    -------------
    None.
    """

    recording: int
    order: int
    at: I
    values: F
    asked: B


def stride(recording: Recording, plan: Plan) -> int:
    """How many recorded rows a loop's step has."""
    if not plan["interval_ms"] or len(recording.t) < 2:
        return 1
    apart = float(np.median(np.diff(recording.t)))
    interval = float(plan["interval_ms"])
    return max(1, round(interval * 1e6 / max(apart, 1.0)))


def places(plan: Plan, recording: Recording) -> dict[str, tuple[int, int]]:
    """For each field its place in a row and its scale, as `Features` takes them."""
    pairs = enumerate(recording.scales)
    return dict(zip(columns_of(plan), pairs, strict=True))


def rows_of(recording: Recording) -> list[list[int | None]]:
    """The rows as `Features.step` takes them."""
    if recording.valid.all():
        rows: list[list[int | None]] = recording.values.tolist()
        return rows
    return [
        [v if ok else None for v, ok in zip(*pair, strict=True)]
        for pair in zip(
            recording.values.tolist(), recording.valid.tolist(), strict=True
        )
    ]


class Stepper:
    """Goes through recorded rows as a device's loop does.

    Parameters
    ----------
    plan : dict
        The policy.
    fields : dict
        As of `places`.
    in_scale, in_zero : float, int
        Of the model's input.

    Attributes
    ----------
    features : Features
        Whose state lasts from run to run.

    Thread safety
    -------------
    None.
    """

    def __init__(
        self,
        plan: Plan,
        fields: dict[str, tuple[int, int]],
        in_scale: float = 1.0,
        in_zero: int = 0,
    ) -> None:
        self.features = Features(plan["features"], fields, in_scale, in_zero)
        self._view = memoryview(self.features)
        self._before: list[int | None] = []
        self._time = 0
        activity = plan["guard"]["min_activity"]
        self._activity = -1
        if activity is not None:
            self._activity, scale = fields[activity[0]]
            self._least = activity[1] * scale

    def begin(self) -> None:
        """The next row is the first of its run."""
        self._before = []

    def step(self, row: list[int | None], t: int) -> tuple[int, bytes, bool]:
        """State, int8 row and whether the device was busy enough to be decided on."""
        seconds = (t - self._time) / 1e9 if self._before else 0.0
        before = self._before or row
        state, inputs = self.features.step(row, before, seconds)
        busy = True
        if self._activity >= 0:
            now, then = row[self._activity], before[self._activity]
            change = (now or 0) - (then or 0)
            busy = change >= self._least * seconds
        self._before, self._time = row, t
        return state, inputs, busy

    def values(self) -> list[float]:
        """The features before standardisation."""
        return list(self._view)


def has_memory(plan: Plan, recording: Recording) -> bool:
    """Whether a feature depends on more than two rows."""
    stepper = Stepper(plan, places(plan, recording))
    rows = rows_of(recording)
    for row, t in zip(rows[:3], recording.t.tolist(), strict=False):
        stepper.step(row, t)
    return any(state is not None for state in stepper.features.get_state())


def replay(
    recordings: Sequence[Recording], plan: Plan, orders: int, seed: int = 0
) -> Iterator[Steps]:
    """Compute all features, the runs of each group in some random orders.

    A feature with memory carries its state from run to run, as on a device. Rows that
    were recorded more often than the loop steps are several interleaved replays.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for i, recording in enumerate(recordings):
        key = recording.run.group, stride(recording, plan)
        groups.setdefault(key, []).append(i)
    prepared = [rows_of(recording) for recording in recordings]
    if not any(has_memory(plan, recording) for recording in recordings):
        orders = 1
    rng = np.random.default_rng(seed)
    for (_, apart), members in groups.items():
        for order in range(orders):
            shuffled = rng.permutation(members).tolist() if orders > 1 else members
            for phase in range(apart):
                stepper = Stepper(plan, places(plan, recordings[members[0]]))
                for i in shuffled:
                    t = recordings[i].t
                    at = np.arange(phase, len(t), apart)
                    yield _walk(stepper, i, order, at, prepared[i], t)


def _walk(
    stepper: Stepper, i: int, order: int, at: I, rows: list[list[int | None]], t: I
) -> Steps:
    values = np.full((len(at), stepper.features.n), np.nan)
    asked = np.zeros(len(at), bool)
    stepper.begin()
    for k, (place, now) in enumerate(zip(at.tolist(), t[at].tolist(), strict=True)):
        state, _, busy = stepper.step(rows[place], now)
        if state == 0:
            values[k] = stepper.values()
            asked[k] = busy
    return Steps(i, order, at, values, asked)


@dataclass
class Sweep:
    """What each knob value was worth in each cell.

    Parameters
    ----------
    cells : list of (str, str)
        Workload and group.
    score : array of float64, shape (cells, values)
        Medians over runs.

    Thread safety
    -------------
    None.
    """

    cells: list[tuple[str, str]]
    score: F

    @property
    def relative(self) -> F:
        """Scores as shares of the cell's best."""
        best = self.score.max(axis=1, keepdims=True)
        return np.asarray(np.maximum(self.score / best, LEAST))

    @property
    def right(self) -> B:
        """Values that are as good as the best."""
        return np.asarray(self.relative >= EQUAL)

    def labels(self, default: int) -> I:
        """Of equally good values the one nearest to the default, then the better."""
        distance = np.abs(np.arange(self.score.shape[1]) - default)
        cost = np.where(self.right, distance - self.relative, np.inf)
        return np.asarray(cost.argmin(axis=1))


def sweep_of(recordings: Iterable[Recording], plan: Plan) -> tuple[Sweep, list[str]]:
    """Find out what each knob value is worth; cells that lack one are left out.

    Returns
    -------
    tuple of (Sweep, list of str)
        And what the user should know.

    Raises
    ------
    TrainError
        If no cell is whole, or a cell's best score is not above 0.
    """
    values = plan["knob"]["values"]
    table: dict[tuple[str, str], list[list[float]]] = {}
    for recording in recordings:
        run = recording.run
        if run.knob in values and run.score is not None:
            row = table.setdefault(recording.cell, [[] for _ in values])
            row[values.index(run.knob)].append(run.score)
    whole = sorted(cell for cell, row in table.items() if all(row))
    notices = [
        f"{workload} on {group or 'any'}: not measured with each of {values} for two "
        "steps of the loop: left out"
        for workload, group in sorted(set(table) - set(whole))
    ]
    if not whole:
        raise TrainError(
            f'target = "sweep": no workload was measured with each of {values}: '
            f"`pymlk collect --sweep` does that; runs with a score found: {len(table)}"
        )
    score = np.array([[np.median(v) for v in table[cell]] for cell in whole])
    for cell, best in zip(whole, score.max(axis=1), strict=True):
        if not best > 0:
            raise TrainError(
                f"{cell[0]} on {cell[1] or 'any'}: best score {best:g} found, above 0 "
                "expected: relative scores need that"
            )
    return Sweep(whole, score), notices


@dataclass
class Examples:
    """One row for each time that the loop would ask the model; arrays of one length.

    Parameters
    ----------
    x : array of float64, shape (rows, history, features)
        Before standardisation, oldest first.
    worth : array of float64, shape (rows, choices)
        What each choice is worth: the log of its relative score, or 1 for the right
        class and 0 for others.
    label : array of int64
        The best choice.
    right : array of bool, shape (rows, choices)
        Choices as good as the best.
    share : array of float64
        How much a row counts in a figure: each run of a cell the same, each cell the
        same.
    weight : array of float64
        How much it counts in training: each run the same, and classes too if they are
        balanced.
    current : array of int64
        Place of the knob's value in force, -1 where it is not known.
    now : array of int64
        With ``target = "future"`` the class at the moment, -1 where it is not known;
        else -1.
    cell, run, order : array of int64
        Place in `cells`, of the recording, of the replay's order.
    at : array of int64
        Row of the recording.
    cells : list of (str, str)
        Workload and group.
    recordings : list of Recording
        The runs that were used.
    by_worth : bool
        The target is a sweep.
    ahead : int
        Rows that a target lies ahead.
    notices : list of str
        What the user should know.

    Thread safety
    -------------
    None.
    """

    x: F
    worth: F
    label: I
    right: B
    share: F
    weight: F
    current: I
    now: I
    cell: I
    run: I
    order: I
    at: I
    cells: list[tuple[str, str]]
    recordings: list[Recording]
    by_worth: bool
    ahead: int = 0
    notices: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.x)

    @property
    def workload(self) -> I:
        """Place of each row's workload among the sorted names."""
        names = sorted({w for w, _ in self.cells})
        return np.array([names.index(w) for w, _ in self.cells])[self.cell]

    @property
    def group(self) -> I:
        """Place of each row's group among the sorted names."""
        names = sorted({g for _, g in self.cells})
        return np.array([names.index(g) for _, g in self.cells])[self.cell]


def examples(recordings: Sequence[Recording], plan: Plan, seed: int = 0) -> Examples:
    """Make examples of recorded runs.

    Parameters
    ----------
    recordings : sequence of Recording
        As of `read`.
    plan : dict
        The policy; its ``train``, which must be there, says what the target is.
    seed : int
        Decides in which orders runs are replayed.

    Returns
    -------
    pymlk.train.data.Examples
        At least one for at least two choices.

    Raises
    ------
    TrainError
        If the data has no target, no row that the loop would decide on, or one class.

    Thread safety
    -------------
    Pure function.
    """
    train = plan["train"]
    target = _TARGETS[train["target"]](recordings, plan)
    history = plan["model"]["history"]
    parts: list[tuple[Any, ...]] = []
    for steps in replay(target.recordings, plan, train["orders"], seed):
        ready = np.isfinite(steps.values).all(axis=1)
        seen = np.ones(len(ready), bool)
        for back in range(history):
            seen[:back] = False
            seen[back:] &= ready[: len(ready) - back]
        worth, known, now = target.of(steps)
        asked = np.flatnonzero(seen & steps.asked & known)
        if len(asked):
            windows = asked[:, None] + np.arange(1 - history, 1)
            n = np.ones(len(asked), np.int64)
            parts.append(
                (
                    steps.values[windows],
                    worth[asked],
                    now[asked],
                    n * steps.recording,
                    n * steps.order,
                    steps.at[asked],
                )
            )
    target.notices += _too_slow(target.recordings, plan)
    if not parts:
        raise TrainError(
            "no row is left on which the loop would decide: fields could not be read, "
            "runs are shorter than the history, or guard.min_activity is too high"
        )
    return _complete(
        target, plan, *(np.concatenate(p) for p in zip(*parts, strict=True))
    )


def _too_slow(recordings: Sequence[Recording], plan: Plan) -> list[str]:
    interval = plan["interval_ms"] * 1e6
    for recording in recordings:
        apart = float(np.median(np.diff(recording.t))) if len(recording.t) > 1 else 0.0
        if interval and apart > 1.5 * interval:
            return [
                f"{recording.key}: a row every {apart / 1e6:.0f} ms found, but the "
                f"policy decides every {plan['interval_ms']} ms: what changes between "
                "two rows is not what it will be; collect faster"
            ]
    return []


class _Target:
    """What a policy's choices are worth at each step: base of the three."""

    by_worth = False
    ahead = 0

    def __init__(self, recordings: Sequence[Recording], plan: Plan) -> None:
        self.plan, self.train = plan, plan["train"]
        self.choices = len(plan["knob"]["values"])
        self.notices: list[str] = []
        self.recordings = self.usable(recordings)

    def usable(self, recordings: Sequence[Recording]) -> list[Recording]:
        return list(recordings)

    def of(self, steps: Steps) -> tuple[F, B, I]:
        """Worth of each choice at each step, where it is known, and the class now."""
        raise NotImplementedError

    def best(self, worth: F) -> I:
        return np.asarray(worth.argmax(axis=1))

    def right(self, worth: F) -> B:
        return np.asarray(worth == worth.max(axis=1, keepdims=True))


class _Swept(_Target):
    by_worth = True

    def usable(self, recordings: Sequence[Recording]) -> list[Recording]:
        self.sweep, self.notices = sweep_of(recordings, self.plan)
        values = self.plan["knob"]["values"]
        self._cells = {cell: i for i, cell in enumerate(self.sweep.cells)}
        return [r for r in recordings if r.cell in self._cells and r.run.knob in values]

    def of(self, steps: Steps) -> tuple[F, B, I]:
        recording = self.recordings[steps.recording]
        worth = np.log(self.sweep.relative[self._cells[recording.cell]])
        n = len(steps.at)
        return np.tile(worth, (n, 1)), np.ones(n, bool), np.full(n, -1)

    def best(self, worth: F) -> I:
        values = self.plan["knob"]["values"]
        default = values.index(self.plan["knob"]["default"])
        return Sweep([], np.exp(worth)).labels(default)

    def right(self, worth: F) -> B:
        return np.asarray(worth >= np.log(EQUAL))


class _Labelled(_Target):
    def usable(self, recordings: Sequence[Recording]) -> list[Recording]:
        values = self.plan["knob"]["values"]
        names = self.train["classes"] or list(map(str, values))
        self._class = {name: i for i, name in enumerate(names)}
        labels = {r.run.label for r in recordings if r.run.label is not None}
        unknown = sorted(labels - set(self._class))
        if unknown:
            raise TrainError(
                f'target = "label": labels {unknown} found, expected some of {names}: '
                "train.classes says which label stands for which knob value"
            )
        left = [r for r in recordings if r.run.label is not None]
        if not left:
            raise TrainError(
                'target = "label": no run has a label: `pymlk collect --label` gives '
                "one"
            )
        if len(left) < len(recordings):
            self.notices.append(
                f"{len(recordings) - len(left)} runs without a label: left out"
            )
        return left

    def of(self, steps: Steps) -> tuple[F, B, I]:
        label = self.recordings[steps.recording].run.label or ""
        n = len(steps.at)
        worth = np.tile(np.eye(self.choices)[self._class[label]], (n, 1))
        return worth, np.ones(n, bool), np.full(n, -1)


class _Future(_Target):
    def usable(self, recordings: Sequence[Recording]) -> list[Recording]:
        train = self.train
        self.ahead = train["rows"]
        if self.ahead is None:
            interval = self.plan["interval_ms"] / 1e3
            if not interval:
                raise TrainError("train.horizon_s needs interval_ms: use train.rows")
            self.ahead = max(1, round(train["horizon_s"] / interval))
        names = [f["name"] for f in self.plan["features"]]
        self._feature = names.index(train["of"]) if train["of"] in names else -1
        return list(recordings)

    def of(self, steps: Steps) -> tuple[F, B, I]:
        recording = self.recordings[steps.recording]
        if self._feature >= 0:
            series = steps.values[:, self._feature]
        else:
            place, scale = places(self.plan, recording)[self.train["of"]]
            series = recording.values[steps.at, place] / scale
            series = np.where(recording.valid[steps.at, place], series, np.nan)
        later = np.full(len(series), np.nan)
        later[: max(0, len(series) - self.ahead)] = series[self.ahead :]
        known = np.isfinite(later)
        now = np.where(np.isfinite(series), self._classes(series), -1)
        if not self.ahead:
            now[:] = -1
        return np.eye(self.choices)[self._classes(later)], known, now

    def _classes(self, series: F) -> I:
        found = np.searchsorted(self.train["thresholds"], series, side="right")
        return np.minimum(found, self.choices - 1)


_TARGETS: dict[str, type[_Target]] = {
    "sweep": _Swept,
    "label": _Labelled,
    "future": _Future,
}


def _complete(
    target: _Target, plan: Plan, x: F, worth: F, now: I, run: I, order: I, at: I
) -> Examples:
    values = plan["knob"]["values"]
    used = target.recordings
    cells = sorted({used[i].cell for i in np.unique(run)})
    cell_of = np.array([cells.index(r.cell) if r.cell in cells else -1 for r in used])
    knob_of = np.array(
        [values.index(r.run.knob) if r.run.knob in values else -1 for r in used]
    )
    label = target.best(worth)
    if len(np.unique(label)) < 2:
        raise TrainError(
            f"every example is of one class, {values[label[0]]}: there is nothing to "
            "tell apart; collect workloads that differ"
        )
    each = 1 / np.bincount(run)[run]
    runs_in_cell = np.bincount(cell_of[np.unique(run)], minlength=len(cells))
    cell = cell_of[run]
    weight = each.copy()
    if plan["train"]["balance"] and not target.by_worth:
        total = np.bincount(label, each, len(values))
        weight /= total[label]
    return Examples(
        x=x,
        worth=worth,
        label=label,
        right=target.right(worth),
        share=each / runs_in_cell[cell] / len(cells),
        weight=weight / weight.mean(),
        current=knob_of[run],
        now=now,
        cell=cell,
        run=run,
        order=order,
        at=at,
        cells=cells,
        recordings=used,
        by_worth=target.by_worth,
        ahead=target.ahead,
        notices=target.notices,
    )
