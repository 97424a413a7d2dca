# SPDX-License-Identifier: MIT
"""``pymlk train``: from datasets to a policy's model, if that is worth having."""

from __future__ import annotations

import argparse
import json
import os

from ..errors import PolicyError
from ..policy import find_policy, load
from ..train import need_extra
from . import OK, PARTLY, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def show_progress(what: str, total: int) -> Callable[[], None]:
    """A bar for people on standard error; nothing for a machine.

    Parameters
    ----------
    what : str
        What is done.
    total : int
        How many steps it has.

    Returns
    -------
    callable
        To be called after each step.

    Thread safety
    -------------
    As of `tqdm`.
    """
    from tqdm import tqdm

    # None: only where standard error is a terminal
    bar = tqdm(total=total, desc=what, disable=None, leave=False)

    def step() -> None:
        bar.update()
        if bar.n >= total:
            bar.close()

    return step


def finish(policy: str) -> None:
    """Finish what a training that was interrupted had begun to write.

    Parameters
    ----------
    policy : str
        As the user gave it.

    Thread safety
    -------------
    None.
    """
    from ..train import output

    path = find_policy(policy)
    if output.finish(path):
        complain(f"{path}: finished a replacement that was interrupted")


def _changed(options: argparse.Namespace, train: dict[str, Any]) -> dict[str, Any]:
    """Keys of [train] that the command line gives otherwise."""
    given = {
        "family": options.family,
        "hidden": options.hidden,
        "epochs": options.epochs,
    }
    return {
        key: value
        for key, value in given.items()
        if value is not None and value != train[key]
    }


def print_figures(metrics: dict[str, Any]) -> None:
    """Say how good a model is, and what it is compared with.

    Parameters
    ----------
    metrics : dict
        As of `pymlk.train.judge.judge`.

    Thread safety
    -------------
    As of `print`.
    """
    sweep = "score" in metrics["model"]
    head = "score" if sweep else "balanced"
    key = "score" if sweep else "balanced_accuracy"
    print(
        f"  {'':18} {head:>8} {'right':>7} {'f1':>6}   int8 against it, 95 % interval"
    )
    for name in ("model", "float"):
        if name not in metrics:
            continue
        row = metrics[name]
        title = "model, int8" if name == "model" else "model, float"
        print(f"  {title:18} {row[key]:8.3f} {row['right']:7.1%} {row['f1']:6.3f}")
    for name, row in metrics["baselines"].items():
        a = row["advantage"]
        text = f"{a['mean']:+.1%}  ({a['low']:+.1%} to {a['high']:+.1%})"
        if not a["low"] > 0:
            text += "   NOT BEATEN"
        figures = f"{row[key]:8.3f} {row['right']:7.1%} {row['f1']:6.3f}"
        print(f"  {name:18} {figures}   {text}")


def print_loop(metrics: dict[str, Any]) -> None:
    """Say what becomes of each start value under the guard.

    Parameters
    ----------
    metrics : dict
        With ``closed_loop``.

    Thread safety
    -------------
    As of `print`.
    """
    for start, row in metrics["closed_loop"].items():
        print(
            f"  in a loop from {start:>9}: score {row['score']:.3f}, right "
            f"{row['right']:.1%}, {row['changes_per_minute']:.1f} changes a minute"
        )


def _print(metrics: dict[str, Any]) -> None:
    print(
        f"policy {metrics['policy']}, target {metrics['target']}, family "
        f"{metrics['family']}: {metrics['rows']} held-out rows of {metrics['runs']} "
        f"runs in {metrics['cells']} cells, {metrics['folds']} folds by "
        f"{metrics['split']}"
    )
    print_figures(metrics)
    print_loop(metrics)
    cost, tflite = metrics["cost"], metrics["tflite"]
    print(
        f"  model {cost['file_bytes']} bytes, {cost['macs']} MACs, p50 "
        f"{cost['p50_ns']} ns, p99 {cost['p99_ns']} ns; calibration error "
        f"{metrics['calibration']['ece']:.3f}"
    )
    print(
        f"  {tflite['runtime']}: {tflite['rows']} rows compared, at most "
        f"{tflite['most']} steps apart"
    )


def main(options: argparse.Namespace) -> int:
    """Train, judge and, if it is better, write."""
    need_extra()
    from ..train import output
    from ..train.run import Wishes, run

    finish(options.policy)
    plan = load(options.policy, model=False)
    if plan["train"] is None:
        raise PolicyError(f"{plan['file']}: [train] is missing: it names the target")
    storage = os.path.join(os.path.dirname(plan["file"]) or ".", "search.journal")
    wishes = Wishes(
        options.seed,
        _changed(options, plan["train"]),
        options.search or 0,
        storage,
        options.allow_leak or (),
    )
    outcome = run(plan, options.data, wishes, show_progress)
    metrics = outcome.metrics
    writes = not options.no_write and (metrics["beats"] or options.force)
    metrics["promoted"] = "no" if not metrics["beats"] else "yes"
    if writes and not metrics["beats"]:
        metrics["promoted"] = "forced"
    if writes:
        output.write(plan, outcome.trained, metrics, outcome.changed)
    if options.json:
        print(json.dumps(metrics | {"written": writes}))
    else:
        for notice in metrics["notices"]:
            complain(notice)
        _print(metrics)
        _print_end(plan["file"], metrics, writes, options.no_write)
    return OK if metrics["beats"] else PARTLY


def _print_end(path: str, metrics: dict[str, Any], wrote: bool, dry: bool) -> None:
    if not metrics["beats"]:
        rival = metrics["baselines"][metrics["best_baseline"]]["advantage"]
        print(
            f"does not beat {metrics['best_baseline']!r}: {rival['mean']:+.1%}, at "
            f"least {rival['low']:+.1%} with 97.5 % confidence"
        )
    if wrote:
        print(f"written: {path}, the model and metrics.json")
    elif dry:
        print("nothing was written: --no-write")
    else:
        print("nothing was written; --force writes it all the same")
