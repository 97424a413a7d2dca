# SPDX-License-Identifier: MIT
"""`pymlk train` from files to a result; the command itself only prints."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from .. import __version__
from ..errors import TrainError
from . import judge as judging
from .data import Examples, Plan, Recording, Stepper, examples, places, read, rows_of
from .model import INPUT, Trained, agreement
from .rounds import teach
from .search import search
from .splits import Leak, Splits, leaks_of_folds, leaks_of_runs

_LIBRARIES = ("numpy", "scikit-learn")


@dataclass(frozen=True)
class Wishes:
    """What the command line says beside the policy.

    Parameters
    ----------
    seed : int
        Decides all that is left to chance.
    changed : dict
        Keys of ``[train]``, instead of the policy's.
    trials : int
        Of a search; 0 for none.
    storage : str
        Where a search keeps what it tried.
    allowed : sequence of str
        Features (or ``knob``) that may tell the class.

    Thread safety
    -------------
    Immutable.
    """

    seed: int
    changed: dict[str, Any]
    trials: int = 0
    storage: str = ""
    allowed: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What training came to.

    Parameters
    ----------
    trained : Trained
        The model, which has learnt of all the data.
    metrics : dict
        For ``metrics.json``: figures of held-out rows, of models that did not see them.
    changed : dict
        Keys of ``[train]`` that made it, where the policy has others.

    Thread safety
    -------------
    Immutable.
    """

    trained: Trained
    metrics: dict[str, Any]
    changed: dict[str, Any]


def fingerprint(recording: Recording) -> str:
    """Say which run it is, by its rows."""
    times = (recording.t - recording.t[0]).tobytes()
    return f"{zlib.crc32(recording.values.tobytes(), zlib.crc32(times)):08x}"


def refuse_leaks(leaks: Sequence[Leak], allowed: Sequence[str]) -> list[str]:
    """Refuse what makes training pointless; what else should be known.

    Parameters
    ----------
    leaks : sequence of Leak
        What was found.
    allowed : sequence of str
        Features (or ``knob``) that may tell the class.

    Returns
    -------
    list of str
        The others' texts.

    Raises
    ------
    TrainError
        With the texts of all that is fatal.

    Thread safety
    -------------
    Pure function.
    """
    fatal = [x.text for x in leaks if x.fatal and x.feature not in allowed]
    if fatal:
        raise TrainError("; ".join(fatal))
    return [x.text for x in leaks]


def run(
    plan: Plan,
    paths: Sequence[str],
    wishes: Wishes,
    progress: judging.Progress = judging.silent,
) -> Outcome:
    """Train a policy's model and judge it.

    Parameters
    ----------
    plan : dict
        What `pymlk.policy.load` gave; it needs no program.
    paths : sequence of str
        Datasets.
    wishes : Wishes
        What was asked for.
    progress : callable
        Told of the work.

    Returns
    -------
    Outcome
        The same again on the same machine.

    Raises
    ------
    TrainError
        If the data cannot be used, leaks, or gives a model that tflite contradicts.
    PolicyError
        If the policy does not say what is wanted.
    DatasetError
        If a file is none.
    OSError
        If it cannot be read.

    Thread safety
    -------------
    Limits the threads of numerical libraries while it runs.
    """
    recordings, data, notices = prepare(plan, paths)
    plan = plan | {"train": plan["train"] | wishes.changed}
    splits = Splits(data, plan)
    names = [feature["name"] for feature in plan["features"]]
    leaks = leaks_of_runs(recordings) + leaks_of_folds(data, splits, names)
    notices += refuse_leaks(leaks, wishes.allowed)
    changed, only = dict(wishes.changed), None
    if wishes.trials:
        best, only = search(
            data,
            plan,
            splits,
            trials=wishes.trials,
            seed=wishes.seed,
            storage=wishes.storage,
            progress=progress,
        )
        changed |= best
        plan = plan | {"train": plan["train"] | best}
    verdicts = judging.cross(
        data, plan, splits, wishes.seed, only=only, progress=progress
    )
    trained = _final(data, plan, splits, wishes.seed, progress)
    inputs = trained.inputs(data.x)
    verdicts.agreement.append(agreement(trained, inputs))
    check_served(recordings, plan, trained)
    metrics = {
        "policy": plan["name"],
        "target": plan["train"]["target"],
        "family": plan["train"]["family"],
        "seed": wishes.seed,
        "trials": wishes.trials,
        "split": splits.kind,
        "folds": len(verdicts.models),
        "runs": len(data.recordings),
        "cells": len(data.cells),
        **judging.judge(data, plan, splits, verdicts),
        "closed_loop": judging.loop_figures(data, plan, verdicts),
        "cost": judging.cost(trained.data),
        "tflite": judging.agreements(verdicts.agreement),
        "notices": notices,
        "train": plan["train"],
        "made_with": {"pymlk": __version__}
        | {name: version(name) for name in _LIBRARIES},
        "learnt": sorted(fingerprint(r) for r in data.recordings),
    }
    return Outcome(trained, metrics, changed)


def prepare(
    plan: Plan, paths: Sequence[str]
) -> tuple[list[Recording], Examples, list[str]]:
    """Read datasets and make examples; what the user should know."""
    recordings = read(paths, plan)
    data = examples(recordings, plan)
    return recordings, data, list(data.notices)


def _final(
    data: Examples, plan: Plan, splits: Splits, seed: int, progress: judging.Progress
) -> Trained:
    """A model of all the data; its figures are those of the folds."""
    everything = np.ones(len(data), bool)
    step = progress("all data", 1)
    trained = teach(data, plan, everything, splits.hold(everything, seed), seed)
    step()
    return trained


def check_served(recordings: Sequence[Recording], plan: Plan, trained: Trained) -> None:
    """Are the loop's int8 rows what was learnt from? Looks at the first hundred runs.

    Parameters
    ----------
    recordings : sequence of Recording
        Recorded runs.
    plan : dict
        The policy.
    trained : Trained
        With the means and deviations that the policy will have.

    Raises
    ------
    TrainError
        If they are not.

    Thread safety
    -------------
    Pure function.
    """
    numbers = zip(
        plan["features"], trained.mean.tolist(), trained.std.tolist(), strict=True
    )
    features = [f | {"mean": mean, "std": std} for f, mean, std in numbers]
    served = plan | {"features": features}
    for recording in recordings[:100]:
        fields = places(plan, recording)
        stepper = Stepper(served, fields, INPUT.scale, INPUT.zero)
        pairs = zip(rows_of(recording), recording.t.tolist(), strict=True)
        for row, t in pairs:
            state, inputs, _ = stepper.step(row, t)
            values = np.array(stepper.values())[None, None]
            if state == 0 and trained.inputs(values).tolist()[0] != [
                *memoryview(inputs).cast("b")
            ]:
                raise TrainError(
                    f"{recording.key}: the loop's features differ from those that were "
                    "learnt: please report it with the policy"
                )
