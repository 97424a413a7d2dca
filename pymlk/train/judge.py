# SPDX-License-Identifier: MIT
"""Is a model better than what needs none? Folds, figures, comparisons."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..compile import compile_model
from ..engine import Model, Program
from .baselines import baselines
from .closed import closed_loop
from .data import Examples, Plan
from .metrics import calibration, confusion, difference, figures
from .model import Agreement, Trained, agreement, confidences
from .network import B, F, I
from .rounds import teach
from .splits import Splits

# (what is done, how much of it there is) and, at each step, one more
Progress = Callable[[str, int], Callable[[], None]]


def silent(_what: str, _total: int) -> Callable[[], None]:
    """Show no progress."""
    return lambda: None


@dataclass
class Verdicts:
    """What models said of rows that they had not learnt.

    Parameters
    ----------
    rows : array of bool
        Which examples were judged.
    p_int8 : array of float64, shape (examples, choices)
        Confidences, 0 elsewhere.
    p_float : array of float64 or None
        The same of the networks before they were quantised, if they are there.
    models : list of Trained
        One for each fold.
    fold : array of int64
        For each example the fold that judged it, -1 if none.
    agreement : list of Agreement
        With tflite, of each fold.

    Thread safety
    -------------
    None.
    """

    rows: B
    p_int8: F
    p_float: F | None
    models: list[Trained]
    fold: I
    agreement: list[Agreement]


def cross(
    data: Examples,
    plan: Plan,
    splits: Splits,
    seed: int,
    *,
    only: Sequence[int] | None = None,
    progress: Progress = silent,
) -> Verdicts:
    """Train once for each fold, and let each model judge what it has not learnt.

    Parameters
    ----------
    data : Examples
        All of them.
    plan : dict
        The policy.
    splits : Splits
        The folds.
    seed : int
        For training.
    only : sequence of int, optional
        Numbers of the folds; all without it.
    progress : callable
        Told of the work.

    Returns
    -------
    Verdicts
        Checked against tflite, row by row.

    Raises
    ------
    TrainError
        If the engine and tflite differ, or trees are too large.

    Thread safety
    -------------
    Limits the threads of numerical libraries while it runs.
    """
    shape = data.worth.shape
    none = np.full(len(data), -1)
    p_float = np.zeros(shape)
    found = Verdicts(none >= 0, np.zeros(shape), p_float, [], none, [])
    numbers = range(len(splits.folds)) if only is None else only
    step = progress(f"{plan['train']['family']}, {splits.kind}s left out", len(numbers))
    for number, i in enumerate(numbers):
        fold = splits.folds[i]
        hold = splits.hold(fold.learn, seed + i)
        trained = teach(data, plan, fold.learn, hold, seed + i)
        inputs = trained.inputs(data.x[fold.judge])
        found.agreement.append(agreement(trained, inputs))
        found.p_int8[fold.judge] = confidences(trained.data, inputs)
        p_float[fold.judge] = trained.probabilities(data.x[fold.judge])
        found.fold[fold.judge] = number
        found.models.append(trained)
        found.rows |= fold.judge
        step()
    return found


def judge(
    data: Examples, plan: Plan, splits: Splits, verdicts: Verdicts
) -> dict[str, Any]:
    """Rate verdicts and compare them with every baseline on the same rows.

    Parameters
    ----------
    data : Examples
        All of them.
    plan : dict
        The policy.
    splits : Splits
        What baselines learn of, too.
    verdicts : Verdicts
        Of one or several models.

    Returns
    -------
    dict
        Plain values for JSON; ``beats`` is true if the model's advantage over each
        baseline has an interval above 0.

    Thread safety
    -------------
    Pure function.
    """
    rows, p = verdicts.rows, verdicts.p_int8
    choice = p.argmax(axis=1)
    block = splits.blocks()
    rivals: dict[str, Any] = {}
    for name, other in baselines(data, plan, splits.folds).items():
        rivals[name] = figures(data, rows, other) | {
            "advantage": difference(data, rows, choice, other, block)
        }
    worst = min(rivals, key=lambda name: rivals[name]["advantage"]["mean"])
    sure = rows & (p.max(axis=1) >= plan["guard"]["min_confidence"])
    found: dict[str, Any] = {
        "rows": int(rows.sum()),
        "model": figures(data, rows, choice),
        **_against_float(data, verdicts, choice),
        "sure": float(np.average(sure[rows], weights=data.share[rows])),
        "model_where_sure": figures(data, sure, choice) if sure.any() else None,
        "baselines": rivals,
        "best_baseline": worst,
        "beats": all(r["advantage"]["low"] > 0 for r in rivals.values()),
        "calibration": calibration(data, rows, p),
        "confusion": confusion(data, rows, choice),
        "by_workload": _by(data, rows, choice, data.workload, 0),
        "by_group": _by(data, rows, choice, data.group, 1),
    }
    return found


def _against_float(data: Examples, verdicts: Verdicts, choice: I) -> dict[str, Any]:
    """What quantising has changed; nothing where the floats are not there."""
    if verdicts.p_float is None:
        return {}
    rows, floats = verdicts.rows, verdicts.p_float.argmax(axis=1)
    differs = np.average((choice != floats)[rows], weights=data.share[rows])
    return {
        "float": figures(data, rows, floats),
        "int8_differs": float(differs),
    }


def _by(data: Examples, rows: B, choice: I, unit: I, part: int) -> dict[str, Any]:
    """Figures of each workload, or of each group."""
    names = sorted({cell[part] for cell in data.cells})
    return {
        names[i]: figures(data, rows & (unit == i), choice)
        for i in np.unique(unit[rows]).tolist()
    }


def left_out(
    data: Examples,
    plan: Plan,
    seed: int,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Judge models that have never seen a workload, or a group, anywhere.

    Parameters
    ----------
    data : Examples
        All of them.
    plan : dict
        The policy.
    seed : int
        For training.
    progress : callable
        Told of the work.

    Returns
    -------
    dict
        ``workload`` and ``group`` where there are two or more: ``model`` and
        ``default``, all together and ``by`` name.

    Raises
    ------
    TrainError
        As `cross`.

    Thread safety
    -------------
    As `cross`.
    """
    found: dict[str, Any] = {}
    default = plan["knob"]["values"].index(plan["knob"]["default"])
    still = np.full(len(data), default)
    for kind, part in (("workload", 0), ("group", 1)):
        names = sorted({cell[part] for cell in data.cells})
        if len(names) < 2:
            continue
        whole = plan | {"train": plan["train"] | {"folds": max(2, len(names))}}
        splits = Splits(data, whole, kind)
        verdicts = cross(data, whole, splits, seed, progress=progress)
        choice = verdicts.p_int8.argmax(axis=1)
        unit = getattr(data, kind)
        found[kind] = {
            "model": figures(data, verdicts.rows, choice),
            "default": figures(data, verdicts.rows, still),
            "by": _by(data, verdicts.rows, choice, unit, part),
            "default_by": _by(data, verdicts.rows, still, unit, part),
        }
    return found


def loop_figures(data: Examples, plan: Plan, verdicts: Verdicts) -> dict[str, Any]:
    """Run the closed loop with the models that have not seen a cell.

    Parameters
    ----------
    data : Examples
        Of a sweep; others have no closed loop.
    plan : dict
        The policy.
    verdicts : Verdicts
        As of `cross` over cells, workloads or groups.

    Returns
    -------
    dict
        As `closed_loop`; empty if there is none.

    Thread safety
    -------------
    None.
    """
    if not data.by_worth:
        return {}
    fold_of = {}
    for i, cell in enumerate(data.cells):
        folds = np.unique(verdicts.fold[data.cell == i])
        # a cell that several models judged in part belongs to none
        if len(folds) == 1 and folds[0] >= 0:
            fold_of[cell] = verdicts.models[int(folds[0])]
    return closed_loop(data.recordings, plan, fold_of.get)


def cost(model: bytes, target_ns: int | None = None) -> dict[str, Any]:
    """Size and time of a model on this machine.

    Parameters
    ----------
    model : bytes
        A ``.tflite`` file or a program.
    target_ns : int, optional
        What a run may take.

    Returns
    -------
    dict
        ``file_bytes``, ``program_bytes``, ``arena_bytes``, ``macs``, ``bound_ns`` (of
        plain C at 1 GHz), ``p50_ns`` and ``p99_ns`` (a call from Python, measured), and
        with a target ``target_ns`` and ``in_target`` (by the median).

    Raises
    ------
    ModelError
        If the model cannot be used.

    Thread safety
    -------------
    Pure function, but for the time that it takes.
    """
    data = model if model[:4] == b"MLKP" else compile_model(model)
    program = Program(data)
    p50, p99 = _latency(Model(program))
    found: dict[str, Any] = {
        "file_bytes": len(model),
        "program_bytes": len(program),
        "arena_bytes": program.arena_bytes,
        "macs": program.macs,
        "bound_ns": program.cost(),
        "p50_ns": p50,
        "p99_ns": p99,
    }
    if target_ns is not None:
        found |= {"target_ns": target_ns, "in_target": p50 <= target_ns}
    return found


def _latency(model: Model, times: int = 5000) -> tuple[int, int]:
    """Median and 99th percentile of a call, less what looking at the clock takes."""
    clock = time.perf_counter_ns
    empty, full = [], []
    for _ in range(times):
        begin = clock()
        empty.append(clock() - begin)
        begin = clock()
        model.invoke()
        full.append(clock() - begin)
    full.sort()
    look = sorted(empty)[times // 2]
    return max(0, full[times // 2] - look), max(0, full[times * 99 // 100] - look)


def agreements(found: Sequence[Agreement]) -> dict[str, Any]:
    """Sum up how near the engine and tflite were."""
    return {
        "runtime": found[0].runtime,
        "rows": sum(a.rows for a in found),
        "differ": max(a.differ for a in found),
        "most": max(a.most for a in found),
        "choices": max(a.choices for a in found),
    }
