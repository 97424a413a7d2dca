# SPDX-License-Identifier: MIT
"""`pymlk eval` from files to figures; the command itself only prints."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import Model
from ..errors import PolicyError
from . import judge as judging
from .data import Examples, Plan, Recording
from .judge import Progress, Verdicts, silent
from .model import Trained, confidences
from .output import METRICS
from .quantise import Scale
from .run import fingerprint, prepare
from .splits import Splits, leaks_of_folds, leaks_of_runs


def shipped(plan: Plan) -> Trained:
    """The policy's own model.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` gave, with its program.

    Returns
    -------
    Trained
        Without floats, which nobody has kept.

    Thread safety
    -------------
    Pure function.
    """
    quant = Model(plan["program"]).input_quant
    return Trained(
        np.array([feature["mean"] for feature in plan["features"]]),
        np.array([feature["std"] for feature in plan["features"]]),
        plan["program"],
        b"",
        lambda rows: rows,
        Scale(quant.scale, quant.zero_point),
    )


def evaluate(
    plan: Plan,
    paths: Sequence[str],
    *,
    folds: bool = False,
    seed: int = 0,
    target_ns: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Judge a policy's model, or the way it is made.

    Parameters
    ----------
    plan : dict
        The policy with its program and a ``[train]`` that names the target.
    paths : sequence of str
        Datasets.
    folds : bool
        Judge models that are trained anew with parts left out, each workload and each
        group too; else the policy's own on all rows.
    seed : int
        For training.
    target_ns : int, optional
        What a run may take.
    progress : callable
        Told of the work.

    Returns
    -------
    dict
        Plain values for JSON.

    Raises
    ------
    PolicyError
        If the policy has no ``[train]``.
    TrainError
        If the data cannot be used.
    DatasetError
        If a file is none.
    OSError
        If it cannot be read.

    Thread safety
    -------------
    Limits the threads of numerical libraries while it trains.
    """
    if plan["train"] is None:
        raise PolicyError(f"{plan['file']}: [train] is missing: it names the target")
    recordings, data, notices = prepare(plan, paths)
    splits = Splits(data, plan)
    if folds:
        verdicts = judging.cross(data, plan, splits, seed, progress=progress)
    else:
        notices += _known(plan, recordings)
        verdicts = _of_shipped(plan, data)
    names = [feature["name"] for feature in plan["features"]]
    leaks = leaks_of_runs(recordings) + leaks_of_folds(data, splits, names)
    found: dict[str, Any] = {
        "policy": plan["name"],
        "description": plan["description"],
        "target": plan["train"]["target"],
        "judged": f"models trained without the {splits.kind} that they judge"
        if folds
        else "the policy's own model",
        "family": plan["train"]["family"],
        "split": splits.kind,
        "folds": len(splits.folds),
        "runs": len(data.recordings),
        "cells": len(data.cells),
        "values": plan["knob"]["values"],
        "unit": plan["knob"]["unit"],
        **judging.judge(data, plan, splits, verdicts),
        "closed_loop": judging.loop_figures(data, plan, verdicts),
        "cost": judging.cost(plan["program"], target_ns),
        "notices": notices + [leak.text for leak in leaks],
    }
    if folds:
        found["left_out"] = judging.left_out(data, plan, seed, progress)
        found["tflite"] = judging.agreements(verdicts.agreement)
    return found


def _of_shipped(plan: Plan, data: Examples) -> Verdicts:
    trained = shipped(plan)
    p = confidences(trained.data, trained.inputs(data.x))
    everything = np.ones(len(data), bool)
    return Verdicts(everything, p, None, [trained], np.zeros(len(data), np.int64), [])


def _known(plan: Plan, recordings: Sequence[Recording]) -> list[str]:
    """Does metrics.json say that the model has learnt of these runs?"""
    path = os.path.join(os.path.dirname(plan["file"]), METRICS)
    try:
        with open(path, encoding="utf-8") as file:
            learnt = json.load(file).get("learnt", [])
    except (OSError, ValueError, AttributeError):
        return []
    known = sum(fingerprint(r) in learnt for r in recordings)
    if not known:
        return []
    return [
        f"the model has learnt of {known} of these {len(recordings)} runs: its figures "
        "flatter it; --folds judges models that have not"
    ]
