#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From recorded runs to model.tflite, the means and deviations of policy.toml, metrics.

policy.toml says what the features are; this program reads them there, so that what is
trained is what is served.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from dataset import B, Cells, F, I, Policy, Windows, read_runs, read_windows
from network import Model, run_int8, to_tflite, train

HERE = Path(__file__).resolve().parent
FOLDS = 5
CHANGE_COST = 0.01  # per place in the list of values, in log speed
EPILOG = """\
examples:
  ./recipe.py                    train on the data beside this file, write the model
  ./recipe.py --no-write         only print the metrics
  ./recipe.py --data /var/tmp/ra train on a fresh collection of collect.py

Needs numpy < 2, tflite-runtime == 2.14.0 and pymlk itself.
"""


def fit(w: Windows, cells: Cells, rows: B, seed: int) -> Model:
    """Train on `rows`; a fifth of their runs decides when to stop."""
    runs = np.unique(w.run[rows])
    rng = np.random.default_rng(seed)
    stop = rng.choice(runs, max(1, len(runs) // FOLDS), replace=False)
    gain = np.log(cells.relative[w.cell])
    # A change that pays nothing is not worth making.
    distance = np.abs(np.arange(gain.shape[1]) - w.knob[:, None])
    gain -= CHANGE_COST * distance
    # Every run has the same say.
    share = 1 / np.bincount(w.run)[w.run]
    return train(
        w.x[rows],
        gain[rows],
        gain[rows].argmax(axis=1),
        share[rows],
        np.isin(w.run[rows], stop),
        seed,
    )


def score(w: Windows, cells: Cells, rows: F | I, choice: I) -> dict[str, float]:
    """Rate choices; every cell and value in force weighs the same.

    exact: the label itself; right: as fast as the best; speed: geometric mean of the
    chosen value's speed as a share of the best.
    """
    cell = w.cell[rows]
    twin = cell * cells.speed.shape[1] + w.knob[rows]
    share = 1 / np.bincount(twin)[twin]
    share /= share.sum()
    gain = np.log(cells.relative[cell, choice])
    return {
        "exact": float((share * (choice == cells.label[cell])).sum()),
        "right": float((share * cells.right[cell, choice]).sum()),
        "speed": float(np.exp((share * gain).sum())),
    }


def stump(w: Windows, cells: Cells, fit_on: I, rows: I, values: int) -> I:
    """Predict with the best single comparison of one feature, as a baseline."""
    label = cells.label[w.cell[fit_on]]
    share = 1 / np.bincount(w.run)[w.run[fit_on]]
    best: tuple[float, int, float, int, int] = (-1, 0, 0, 0, 0)
    for j in range(w.x.shape[1]):
        for cut in np.unique(np.quantile(w.x[fit_on, j], np.linspace(0, 1, 21))):
            left = w.x[fit_on, j] <= cut
            a = np.bincount(label[left], share[left], values)
            b = np.bincount(label[~left], share[~left], values)
            now = (
                float(a.max() + b.max()),
                j,
                float(cut),
                int(a.argmax()),
                int(b.argmax()),
            )
            best = max(best, now)
    _, j, cut, low, high = best
    return np.where(w.x[rows, j] <= cut, low, high)


def replay(w: Windows, cells: Cells, p: F, policy: Policy) -> dict[str, Any]:
    """Let the guard act on recorded runs for a minute, from every start value.

    After a change the loop goes on in the recorded run with the new value, which is
    what a program that opens its files again would give. Only the second half counts.
    """
    guard, out = policy.guard, {}
    windows = 60_000 // policy.interval_ms
    pause = int(guard["min_interval_s"] * 1e3 / policy.interval_ms)
    for start, knob in enumerate(policy.knobs):
        gain, right, changes = [], [], 0
        for cell, seed in np.unique(np.stack([w.cell, w.seed], axis=1), axis=0):
            now, same, last, since = start, 0, -1, pause
            for n in range(windows):
                rows = (w.cell == cell) & (w.seed == seed) & (w.knob == now)
                found = np.flatnonzero(rows)
                if not len(found):
                    break
                # Every other row: windows of one run overlap by half.
                row = found[2 * n % len(found)]
                choice = int(p[row].argmax())
                if p[row, choice] < guard["min_confidence"]:
                    choice = -1
                same, last = same + 1 if choice == last else 1, choice
                since += 1
                settled = same >= guard["settle"] and since >= pause
                if settled and choice not in (-1, now):
                    far = np.clip(choice - now, -guard["max_step"], guard["max_step"])
                    now, same, since = now + int(far), 0, 0
                    changes += n >= windows // 2
                if n >= windows // 2:
                    gain.append(np.log(cells.relative[cell, now]))
                    right.append(cells.right[cell, now])
        minutes = len(gain) * policy.interval_ms / 60e3
        out[str(knob)] = {
            "right": float(np.mean(right)),
            "speed": float(np.exp(np.mean(gain))),
            "changes per minute": changes / minutes,
        }
    return out


def evaluate(w: Windows, cells: Cells, policy: Policy) -> dict[str, Any]:
    """Measure everything on runs that the model at hand has not seen."""
    k, n = len(policy.knobs), len(w.run)
    everything = np.arange(n)
    # A workload on a profile is left out whole: all its values and seeds. A twin in
    # training would flatter, and the closed loop needs one model for all values.
    fold = np.random.default_rng(0).permutation(len(cells.names))[w.cell] % FOLDS
    p_float, p_int8, simple = np.zeros((n, k)), np.zeros((n, k)), np.zeros(n, np.int64)
    for i in range(FOLDS):
        out = np.flatnonzero(fold == i)
        model = fit(w, cells, fold != i, i)
        p_float[out] = model.predict(w.x[out])
        flat = to_tflite(model, w.x[fold != i])
        p_int8[out] = run_int8(flat, model, w.x[out])
        simple[out] = stump(w, cells, np.flatnonzero(fold != i), out, k)
    choice = p_int8.argmax(axis=1)
    profiles = np.array([c[1] for c in cells.names])
    gain = np.log(cells.relative)
    # What somebody would set who knew the mix of workloads, and who knew the disk too.
    best_fixed = int(gain.mean(axis=0).argmax())
    per_disk = {p: int(gain[profiles == p].mean(axis=0).argmax()) for p in profiles}
    tuned = np.array([per_disk[p] for p in profiles])
    confusion = np.zeros((k, k), int)
    np.add.at(confusion, (cells.label[w.cell], choice), 1)
    sure = p_int8.max(axis=1) >= policy.guard["min_confidence"]
    result: dict[str, Any] = {
        "windows": n,
        "runs": len(np.unique(w.run)),
        "cells": len(cells.names),
        "float": score(w, cells, everything, p_float.argmax(axis=1)),
        "int8": score(w, cells, everything, choice),
        "int8, sure": score(w, cells, np.flatnonzero(sure), choice[sure]),
        "share of sure windows": float(sure.mean()),
        "stump": score(w, cells, everything, simple),
        "confusion (rows: label, columns: choice)": confusion.tolist(),
    }
    for i, knob in enumerate(policy.knobs):
        result[f"always {knob}"] = score(w, cells, everything, np.full(n, i))
    result["best fixed"] = policy.knobs[best_fixed]
    result["best fixed of each profile"] = {
        **{p: policy.knobs[i] for p, i in per_disk.items()},
        **score(w, cells, everything, tuned[w.cell]),
    }
    mapped = np.flatnonzero([not n[0].endswith("pread") for n in cells.names])
    rows = np.flatnonzero(np.isin(w.cell, mapped))
    result["mmap only"] = score(w, cells, rows, choice[rows])
    result["mmap only, always default"] = score(
        w, cells, rows, np.full(len(rows), policy.default)
    )
    groups = {
        "without profile": profiles.tolist(),
        "without tool": [tool(c[0]) for c in cells.names],
    }
    for title, keys in groups.items():
        for key in sorted(set(keys)):
            out_cells = np.array([c == key for c in keys])
            left_out = out_cells[w.cell]
            model = fit(w, cells, ~left_out, 0)
            flat = to_tflite(model, w.x[~left_out])
            p = run_int8(flat, model, w.x[left_out])
            rows = np.flatnonzero(left_out)
            result[f"{title} {key}"] = {
                "model": score(w, cells, rows, p.argmax(axis=1)),
                "always default": score(
                    w, cells, rows, np.full(len(rows), policy.default)
                ),
            }
    result["closed loop by start value"] = replay(w, cells, p_int8, policy)
    return result


def repeats(runs: list[dict[str, str]]) -> dict[str, float]:
    """Say how far runs that differ in nothing but the seed are apart."""
    table: dict[tuple[str, str, str], list[float]] = {}
    for run in runs:
        key = run["workload"], run["profile"], run["ra_kb"]
        table.setdefault(key, []).append(float(run["ops_s"]))
    apart = [max(v) / min(v) - 1 for v in table.values() if len(v) > 1]
    if not apart:
        return {"pairs": 0}
    return {
        "pairs": len(apart),
        "median": float(np.median(apart)),
        "90th percentile": float(np.quantile(apart, 0.9)),
        "max": float(max(apart)),
    }


def tool(workload: str) -> str:
    """Name the program behind a workload."""
    head = workload.partition("-")[0]
    return head if head in ("fio", "db") else "reader"


def write_policy(path: Path, model: Model) -> None:
    """Put the new means and deviations into the file; all else stays as it is."""
    numbers = {"mean": iter(model.mean), "std": iter(model.std)}
    text = re.sub(
        r"^(mean|std) = .*$",
        lambda m: f"{m[1]} = {next(numbers[m[1]]):.6f}",
        path.read_text(),
        flags=re.MULTILINE,
    )
    path.write_text(text)


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=HERE, help="where runs.csv is")
    parser.add_argument("--policy", type=Path, default=HERE / "policy.toml")
    parser.add_argument("--no-write", action="store_true", help="only print")
    args = parser.parse_args()
    policy = Policy.read(args.policy)
    runs, cells = read_runs(args.data, policy)
    w = read_windows(args.data, policy, runs, cells)
    result = {"repeats": repeats(runs), **evaluate(w, cells, policy)}
    print(json.dumps(result, indent=1))
    if not args.no_write:
        # The shipped model learns from every run; its figures are those of the folds.
        model = fit(w, cells, np.ones(len(w.run), bool), 0)
        # What the policy can hold is what the model gets.
        model.mean, model.std = model.mean.round(6), model.std.round(6)
        (HERE / "model.tflite").write_bytes(to_tflite(model, w.x))
        write_policy(args.policy, model)
        (HERE / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
