# SPDX-License-Identifier: MIT
"""Search of hyper-parameters with Optuna; what was tried is kept in a file."""

import zlib
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ..errors import TrainError
from .data import Examples, Plan
from .judge import Progress, cross, silent
from .metrics import importance, value
from .splits import Splits


def suggest(trial: optuna.Trial, plan: Plan) -> dict[str, Any]:
    """Choose keys of ``[train]`` for one trial.

    Parameters
    ----------
    trial : optuna.Trial
        Asked for values.
    plan : dict
        The policy: its family and history say what there is to choose.

    Returns
    -------
    dict
        Keys and values.

    Thread safety
    -------------
    As of `optuna`.
    """
    family = plan["train"]["family"]
    if family == "trees":
        return {
            "trees": trial.suggest_int("trees", 4, 48, log=True),
            "leaves": trial.suggest_int("leaves", 3, 16),
        }
    chosen: dict[str, Any] = {"rate": trial.suggest_float("rate", 5e-4, 2e-2, log=True)}
    if family == "linear":
        return chosen
    most = 2 if family == "conv" else 3
    layers = trial.suggest_int("layers", 1, most)
    chosen["hidden"] = [
        trial.suggest_int(f"hidden{i}", 4, 48, log=True) for i in range(layers)
    ]
    chosen["activation"] = trial.suggest_categorical("activation", ["relu", "tanh"])
    if family == "conv":
        history = plan["model"]["history"]
        chosen["filters"] = trial.suggest_int("filters", 4, 24, log=True)
        chosen["width"] = trial.suggest_int("width", 2, history)
    return chosen


def search(
    data: Examples,
    plan: Plan,
    splits: Splits,
    *,
    trials: int,
    seed: int,
    storage: str,
    progress: Progress = silent,
) -> tuple[dict[str, Any], list[int]]:
    """Find the keys of ``[train]`` that do best on some of the folds.

    What the storage file already has of the same data, family and seed counts, so a
    search that was interrupted goes on, and gives what it would have given.

    Parameters
    ----------
    data : Examples
        All of them.
    plan : dict
        The policy.
    splits : Splits
        Its first folds judge the trials.
    trials : int
        How many in all.
    seed : int
        Decides what is tried.
    storage : str
        A file, made if it is not there.
    progress : callable
        Told of the work.

    Returns
    -------
    tuple of (dict, list of int)
        The best keys, and the folds that judged no trial: what is said of the model
        must come from them.

    Raises
    ------
    TrainError
        If there are fewer than three folds, or no trial gave a model.

    Thread safety
    -------------
    None.
    """
    folds = splits.folds
    used = list(range(max(1, len(folds) // 2)))
    left = list(range(len(used), len(folds)))
    if len(folds) < 3:
        raise TrainError(
            f"a search needs three folds or more, {len(folds)} found: collect more "
            "workloads, or set train.folds"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(storage)),
        study_name=_name(data, plan, seed),
        direction="maximize",
        load_if_exists=True,
    )

    def finished() -> list[optuna.trial.FrozenTrial]:
        ended = (TrialState.COMPLETE, TrialState.FAIL)
        # a trial that was running when all was interrupted does not count
        return [t for t in study.get_trials(deepcopy=False, states=ended) if t.values]

    done = len(finished())
    step = progress("search", max(0, trials - done))
    while done < trials:
        # its own, so that an interruption changes nothing
        study.sampler = optuna.samplers.TPESampler(seed=seed + done)
        trial = study.ask()
        keys = suggest(trial, plan)
        trial.set_user_attr("keys", keys)
        study.tell(trial, _score(data, plan, splits, used, keys, seed))
        done += 1
        step()
    best = max(finished(), key=lambda t: (float(t.values[0]), -t.number))
    if not np.isfinite(best.values[0]) or best.values[0] <= _NONE:
        raise TrainError(
            "no trial gave a model: raise train.max_macs, or take another family"
        )
    return dict(best.user_attrs["keys"]), left


_NONE = -1e9  # of a trial whose model cannot be written


def _score(
    data: Examples,
    plan: Plan,
    splits: Splits,
    used: list[int],
    keys: dict[str, Any],
    seed: int,
) -> float:
    tried = plan | {"train": plan["train"] | keys}
    try:
        verdicts = cross(data, tried, splits, seed, only=used)
    except TrainError:
        return _NONE
    worth = value(data, verdicts.p_int8.argmax(axis=1))[verdicts.rows]
    return float(np.average(worth, weights=importance(data)[verdicts.rows]))


def _name(data: Examples, plan: Plan, seed: int) -> str:
    """The same for the same task only."""
    kept = {k: v for k, v in plan["train"].items() if k not in _CHOSEN}
    names = [feature["name"] for feature in plan["features"]]
    said = repr((kept, names, plan["model"]["history"], plan["knob"]))
    content = zlib.crc32(data.x.tobytes(), zlib.crc32(said.encode()))
    content = zlib.crc32(data.worth.tobytes(), content)
    return f"{plan['name']} {plan['train']['family']} seed {seed} {content:08x}"


_CHOSEN = {
    "trees", "leaves", "rate", "hidden", "activation", "filters", "width",
}  # fmt: skip
