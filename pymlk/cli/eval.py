# SPDX-License-Identifier: MIT
"""``pymlk eval``: how good a policy's model is, and compared with what."""

from __future__ import annotations

import argparse
import json
import os

from ..policy import load
from ..train import need_extra
from . import OK, PARTLY, complain
from .train import finish, print_figures, print_loop, show_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _print(found: dict[str, Any]) -> None:
    print(
        f"policy {found['policy']}, target {found['target']}: {found['judged']}, "
        f"{found['rows']} rows of {found['runs']} runs in {found['cells']} cells"
    )
    print_figures(found)
    model = found["model"]
    print(
        f"  accuracy {model['accuracy']:.1%}, balanced "
        f"{model['balanced_accuracy']:.1%}"
        + (f", regret {model['regret']:.1%}" if "regret" in model else "")
        + f"; calibration error {found['calibration']['ece']:.3f}"
    )
    if "int8_differs" in found:
        print(f"  int8 chooses otherwise than float in {found['int8_differs']:.1%}")
    values = found["values"]
    print("  confusion, shares of rows (lines: label, columns: choice)")
    print("    " + " ".join(f"{value:>8}" for value in ("", *values)))
    for value, row in zip(values, found["confusion"], strict=True):
        print(f"    {value:>8} " + " ".join(f"{share:8.1%}" for share in row))
    for kind, part in found.get("left_out", {}).items():
        key = "score" if "score" in model else "balanced_accuracy"
        for name, row in part["by"].items():
            still = part["default_by"][name][key]
            print(
                f"  without {kind} {name or '(none)'}: {row[key]:.3f}, default "
                f"{still:.3f}"
            )
    print_loop(found)
    cost = found["cost"]
    print(
        f"  a run takes {cost['p50_ns']} ns (p50), {cost['p99_ns']} ns (p99), at most "
        f"{cost['bound_ns']:,} ns in plain C at 1 GHz; program "
        f"{cost['program_bytes']} bytes, arena {cost['arena_bytes']} bytes"
    )
    if not found["beats"]:
        print(f"does not beat {found['best_baseline']!r}")
    if not cost.get("in_target", True):
        print(f"slower than the target of {cost['target_ns']} ns")


def main(options: argparse.Namespace) -> int:
    """Judge a policy's model."""
    need_extra()
    from ..train.evaluate import evaluate
    from ..train.report import render

    finish(options.policy)
    found = evaluate(
        load(options.policy),
        options.data,
        folds=options.folds,
        seed=options.seed,
        target_ns=options.target_ns,
        progress=show_progress,
    )
    if options.report:
        # a page that is cut short says nothing
        draft = options.report + ".part"
        with open(draft, "w", encoding="utf-8") as file:
            file.write(render(found))
        os.replace(draft, options.report)
    if options.json:
        print(json.dumps(found))
    else:
        for notice in found["notices"]:
            complain(notice)
        _print(found)
    good = found["beats"] and found["cost"].get("in_target", True)
    return OK if good else PARTLY
