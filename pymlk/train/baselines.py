# SPDX-License-Identifier: MIT
"""What needs no machine learning: a model has to beat all of it."""

from collections.abc import Callable

import numpy as np
from sklearn.tree import DecisionTreeRegressor

from .data import Examples, Plan
from .metrics import importance
from .network import F, I
from .splits import Fold

# slopes of the rule, as multiples of the line through the labels
_GAINS = (0.5, 1.0, 2.0, 4.0)


def baselines(data: Examples, plan: Plan, folds: list[Fold]) -> dict[str, I]:
    """Choices of all baselines; each learns of what the model learns of.

    ``default`` leaves the knob alone. ``fixed`` is the value that is best on average,
    ``fixed per group`` that of each group. ``stump`` is one comparison of one feature.
    ``proportional`` moves the knob's place in proportion to one feature, as the P of a
    PID controller does, with the feature, the set point and the gain that are best.
    ``as now`` (for forecasts) says that nothing changes.

    Parameters
    ----------
    data : Examples
        All of them.
    plan : dict
        The policy.
    folds : list of Fold
        Rows of no fold keep the default.

    Returns
    -------
    dict of str to array of int64
        For each example what is chosen.

    Thread safety
    -------------
    Pure function.
    """
    default = plan["knob"]["values"].index(plan["knob"]["default"])
    ways: dict[str, Callable[[Examples, Fold], I]] = {
        "fixed": _fixed,
        "fixed per group": _per_group,
        "stump": _stump,
        "proportional": _proportional,
    }
    if len({group for _, group in data.cells}) < 2:
        del ways["fixed per group"]
    if (data.now >= 0).any():
        ways["as now"] = _as_now
    found = {"default": np.full(len(data), default)}
    for name, way in ways.items():
        choice = np.full(len(data), default)
        for fold in folds:
            choice[fold.judge] = way(data, fold)
        found[name] = choice
    return found


def _mean_worth(data: Examples, rows: I) -> F:
    weight = importance(data)[rows]
    return np.asarray((data.worth[rows] * weight[:, None]).sum(axis=0))


def _fixed(data: Examples, fold: Fold) -> I:
    best = int(_mean_worth(data, np.flatnonzero(fold.learn)).argmax())
    return np.full(int(fold.judge.sum()), best)


def _per_group(data: Examples, fold: Fold) -> I:
    choice = _fixed(data, fold)
    group = data.group
    for g in np.unique(group[fold.judge]):
        known = np.flatnonzero(fold.learn & (group == g))
        # a group that was never seen gets what is best for all
        if len(known):
            choice[group[fold.judge] == g] = int(_mean_worth(data, known).argmax())
    return choice


def _stump(data: Examples, fold: Fold) -> I:
    """A regression of all worths: of labels that is a Gini stump."""
    stump = DecisionTreeRegressor(max_depth=1, random_state=0)
    x = data.x[:, -1]
    stump.fit(x[fold.learn], data.worth[fold.learn], importance(data)[fold.learn])
    return np.asarray(stump.predict(x[fold.judge]).argmax(axis=1))


def _proportional(data: Examples, fold: Fold) -> I:
    rows, weight = np.flatnonzero(fold.learn), importance(data)[fold.learn]
    last = data.worth.shape[1] - 1
    label = data.label[rows].astype(np.float64)
    middle = np.average(label, weights=weight)
    best, rule = -np.inf, (0, 0.0, 0.0, 0.0)
    for j in range(data.x.shape[2]):
        x = data.x[rows, -1, j]
        point = np.average(x, weights=weight)
        spread = np.average((x - point) ** 2, weights=weight)
        slope = np.average((x - point) * (label - middle), weights=weight)
        for gain in _GAINS:
            k = gain * slope / spread if spread > 0 else 0.0
            choice = _rule(x, point, k, middle, last)
            worth = np.take_along_axis(data.worth[rows], choice[:, None], 1)[:, 0]
            now = float((worth * weight).sum())
            if now > best:
                best, rule = now, (j, point, k, middle)
    j, point, k, middle = rule
    return _rule(data.x[fold.judge, -1, j], point, k, middle, last)


def _rule(x: F, point: float, gain: float, middle: float, last: int) -> I:
    wanted = np.rint(middle + gain * (x - point))
    return np.asarray(np.clip(wanted, 0, last), np.int64)


def _as_now(data: Examples, fold: Fold) -> I:
    now = data.now[fold.judge]
    return np.asarray(np.where(now >= 0, now, _fixed(data, fold)))
