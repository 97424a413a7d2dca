#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the shipped model says of requests that it has not seen, and what rules say.

Features, program and engine are those that a loop uses.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymlk import Model
from pymlk.dataset import Dataset, Run
from pymlk.policy import load

HERE = Path(__file__).resolve().parent
SEEN = list(load(str(HERE), model=False)["fields"])
B = NDArray[np.bool_]
Rows = tuple[Run, NDArray[np.int64], B]
EPILOG = """\
examples:
  ./measure.py                    the data beside this file
  ./measure.py --write            also write heldout.json
"""


def read(path: Path) -> list[Rows]:
    """Read each run's features and which requests were slow."""
    found = []
    with Dataset(str(path)) as dataset:
        columns = [dataset.fields.index(name) for name in SEEN]
        slow = dataset.fields.index("slow")
        for run in dataset.runs:
            _, values, _ = dataset.table(run)
            found.append((run, values[:, columns], values[:, slow] == 1))
    return found


def inputs(values: NDArray[np.int64], model: Model) -> NDArray[np.int8]:
    """Standardise and round as `pymlk.features` does for plain values."""
    features = load(str(HERE), model=False)["features"]
    mean = np.array([f["mean"] for f in features])
    std = np.array([f["std"] for f in features])
    q = (values - mean) / std / model.input_quant.scale
    q = np.trunc(q + np.copysign(0.5, q)) + model.input_quant.zero_point
    rows: NDArray[np.int8] = np.clip(q, -128, 127).astype(np.int8, "C")
    return rows


def predict(model: Model, values: NDArray[np.int64]) -> B:
    """Ask the model of each request."""
    rows = inputs(values, model)
    out = np.empty((len(rows), 2), np.int8)
    model.invoke_many(rows.data, out.data)
    slow: B = out[:, 1] > out[:, 0]
    return slow


# Rules without a model: a request is slow if one of these is above its limit.
RULES = {
    "in flight": ["inflight"],
    "last time": ["last_1"],
    "nothing ends": ["still"],
    "in flight or last time": ["inflight", "last_1"],
    "nothing ends or last time": ["still", "last_1"],
}


def rule(names: list[str], limits: tuple[int, ...], values: NDArray[np.int64]) -> B:
    """Ask a rule of each request."""
    columns = [SEEN.index(name) for name in names]
    said: B = (values[:, columns] > np.array(limits)).any(axis=1)
    return said


def best_limits(
    names: list[str], values: NDArray[np.int64], slow: B
) -> tuple[int, ...]:
    """Find the limits that part slow and fast requests best."""
    many = 200 if len(names) == 1 else 30
    steps = [
        np.unique(np.quantile(values[:, SEEN.index(name)], np.linspace(0, 1, many)))
        for name in names
    ]
    choices = list(product(*(each.astype(int).tolist() for each in steps)))
    right = [np.mean(rule(names, limits, values) == slow) for limits in choices]
    return choices[int(np.argmax(right))]


def figures(said: B, slow: B) -> dict[str, float]:
    """Compare; a false submit is a slow request that was said to be fast."""
    hits, fast = float((said & slow).sum()), float((~said & ~slow).sum())
    missed, wrong = float((~said & slow).sum()), float((said & ~slow).sum())
    false_submit = missed / max(float(slow.sum()), 1.0)
    false_revoke = wrong / max(float((~slow).sum()), 1.0)
    return {
        "accuracy": float((said == slow).mean()),
        "f1": 2 * hits / max(2 * hits + missed + wrong, 1.0),
        "f1 of fast": 2 * fast / max(2 * fast + missed + wrong, 1.0),
        "balanced accuracy": 1 - (false_submit + false_revoke) / 2,
        "false submit": false_submit,
        "false revoke": false_revoke,
    }


def measure() -> dict[str, Any]:
    """Judge model and rules on what was held out, by what that is new in."""
    model = Model(str(HERE / "model.tflite"), backend="engine")
    learnt, held = read(HERE / "train.mlkd"), read(HERE / "heldout.mlkd")
    values = np.concatenate([v for _, v, _ in learnt])
    slow = np.concatenate([s for _, _, s in learnt])
    limits = {name: best_limits(names, values, slow) for name, names in RULES.items()}
    workloads = {run.workload for run, _, _ in learnt}
    profiles = {run.group for run, _, _ in learnt}
    parts: dict[str, list[Rows]] = {"all": held}
    for rows in held:
        new = (rows[0].workload not in workloads, rows[0].group not in profiles)
        name = {(1, 0): "new workload", (0, 1): "new disk", (1, 1): "both new"}[new]
        parts.setdefault(name, []).append(rows)
    for name in sorted({run.workload for run, _, _ in held}):
        parts[f"workload {name}"] = [rows for rows in held if rows[0].workload == name]
    # of times: logarithms to base 2 in sixteenths, as in the policy
    result: dict[str, Any] = {"limits": {k: list(v) for k, v in limits.items()}}
    for name, part in parts.items():
        v = np.concatenate([values for _, values, _ in part])
        s = np.concatenate([slow for _, _, slow in part])
        result[name] = {
            "rows": len(s),
            "slow": float(s.mean()),
            "model": figures(predict(model, v), s),
            **{
                name: figures(rule(names, limits[name], v), s)
                for name, names in RULES.items()
            },
            "never slow": figures(np.zeros(len(s), bool), s),
        }
    return result


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="also write heldout.json")
    args = parser.parse_args()
    text = json.dumps(measure(), indent=1) + "\n"
    print(text, end="")
    if args.write:
        (HERE / "heldout.json").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
